"""Schedules of products whose factors are packed in memory, and the layouts to pack them in.

Level: nest. A schedule that stages a factor packs it on the way; a factor that is packed once and kept is read where it
lies, in the same panels. So the layout follows from the register tile of the schedule that would stage it, and that
schedule without the stage is the one for the packed factor::

    loops = [n : 4096, k : 512 balanced 8, m : 256, n : 64, m : 6], stage = [1]
    (d0, d1) -> (d1 floordiv 64, d0, d1 mod 64)                        panels of 64 columns, row by row

A panel is one stream of memory. (Four, of 16 columns each, lie at multiples of a page when k is a power of two, and
their lines evict each other from L1: products of 256 to 2048 cubed were 3 to 4 % slower.)

Few rows have schedules of their own: they walk through the panels one after the other. Those of one register tile read
each panel from top to bottom. More of them share a block of it while it is in L1, and fetch the next block meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from crosstile.dialects.mma.intrinsics import find_intrinsic
from crosstile.dialects.nest.analysis import element_type
from crosstile.dialects.nest.axes import Axis, AxisSum, KernelAxes, axes_among
from crosstile.dialects.nest.contraction_roles import ContractionRoles
from crosstile.dialects.nest.convolution_roles import channels_last_roles, convolution_roles
from crosstile.dialects.nest.schedule import (
    Comparison,
    GuardAttr,
    GuardedScheduleAttr,
    Loop,
    Schedule,
    ScheduleAttr,
)
from crosstile.dialects.packing import packed_layout
from crosstile.passes.schedules.register_tiles import bits, round_up
from crosstile.targets.model import Machine, MmaIntrinsic
from crosstile.targets.packing import PackedLayout, Part

WORD_BITS = 32
"""Instructions that add up several products at once take them from words of so many bits."""
FEW_ROWS = 16
"""Up to so many rows a product is as fast as its right factor streams from memory."""
ONE_TILE_ROWS = 4
"""Rows of the register tile for few rows: its arithmetic takes no longer than its panel takes from memory."""
STREAM_BYTES = 1 << 14
"""Bytes of a panel that several tiles of rows read one after the other: they and the next block's stay in L1."""
LONG_BLOCK = 4096
"""Elements of k between which the accumulators of a single tile of rows go through memory."""


def staged_layout(
    axes: KernelAxes, roles: ContractionRoles, position: int, schedules: Sequence[Schedule], machine: Machine
) -> PackedLayout | None:
    """The layout in which every one of ``schedules`` can read the factor at ``position``; None if there is none.

    The right factor is worth packing however it is read, the left one where a schedule stages it, and the filter of a
    convolution, whose rows are far apart, but for one with channels last.
    """
    staging = [schedule for schedule in schedules if position in schedule.stage]
    along = axes.of_operand(roles.nest, position)
    cut = roles.n if position == roles.rhs else roles.m
    plain = [entry for entry in along if entry is None or isinstance(entry, Axis)]
    if cut is None or len(plain) < len(along):
        return None
    if position == roles.rhs and staging and channels_last_roles(axes, roles) is not None:
        return None  # packed for each block of the image, which costs nothing that can be measured
    if position == roles.lhs and not staging and convolution_roles(axes, roles) is None:
        return None
    source = (staging or list(schedules))[-1]
    width = source.steps(cut.name)[-1] if source.steps(cut.name) else 1
    if width == 1 or source.intrinsic is None:
        return None
    tile_row = next((row for row in machine.intrinsics if row.name == source.intrinsic and row.in_tiles), None)
    if tile_row is not None:
        return _tile_unit_layout(roles, plain, position, source, tile_row)
    words = any(row.name == source.intrinsic and row.k > 1 for row in machine.intrinsics)
    group = WORD_BITS // bits(element_type(roles.nest.inputs[position])) if words else 1
    sums = [axis for axis in axes.reduced(roles.nest) if axis != roles.k]
    outer = [Part(dim) for dim, axis in enumerate(plain) if axis not in (cut, roles.k, *sums)]
    inner = [Part(plain.index(axis)) for axis in sums if axis in plain]
    n, k = plain.index(cut), plain.index(roles.k)
    rest = [] if group == 1 else [Part(k, 1, group)]
    return PackedLayout((*outer, Part(n, width), *inner, Part(k, group), Part(n, 1, width), *rest))


def _tile_unit_layout(
    roles: ContractionRoles, plain: Sequence[Axis | None], position: int, schedule: Schedule, row: MmaIntrinsic
) -> PackedLayout | None:
    """Tile registers one after the other: all of a block of k that is multiplied together, before the next block.

    Such a block lies together, so that its panels do not meet in the same sets of the second-level cache.
    """
    if position != roles.rhs or set(plain) != {roles.k, roles.n}:
        return None
    k, n = plain.index(roles.k), plain.index(roles.n)
    k_step, width = schedule.steps(roles.k.name)[0], schedule.steps(roles.n.name)[-1]
    group = WORD_BITS // bits(element_type(roles.nest.inputs[position]))
    blocks = [Part(k, k_step), Part(k, row.k, k_step)] if k_step > row.k else [Part(k, row.k)]
    columns = [Part(n, width), Part(n, row.n, width)] if width > row.n else [Part(n, width)]
    registers = Part(k, group, row.k), Part(n, 1, row.n), Part(k, 1, group)
    return PackedLayout((blocks[0], *columns, *blocks[1:], *registers))


def packed_positions(roles: ContractionRoles) -> list[int]:
    """The factors that are packed in memory."""
    return [at for at in (roles.lhs, roles.rhs) if packed_layout(roles.nest.inputs[at].type) is not None]


def without_stages(schedule: Schedule, positions: Sequence[int]) -> Schedule:
    """``schedule`` with the factors at ``positions`` read where they are."""
    return replace(schedule, stage=tuple(at for at in schedule.stage if at not in positions))


def packed_schedules(
    axes: KernelAxes, roles: ContractionRoles, base: Sequence[GuardedScheduleAttr]
) -> list[GuardedScheduleAttr]:
    """What is left to choose once factors are packed; ``base`` are the schedules for factors that are not."""
    positions = packed_positions(roles)
    name = base[-1].schedule.data.intrinsic
    if name is not None and find_intrinsic(name).in_tiles:
        return [_of_whole_blocks(guarded, roles, positions) for guarded in base]
    result: list[GuardedScheduleAttr] = []
    rows = 1 if roles.m is None else roles.m.size
    if roles.rhs in positions:
        widest = base[-1].schedule.data
        one_tile = min(ONE_TILE_ROWS, _row_step(widest, roles))
        # Where no schedule packs the factor, as there are so few rows, no other reads it packed.
        few = FEW_ROWS if rows is None or roles.rhs in widest.stage else max(FEW_ROWS, rows)
        for most, tile in sorted({(1, 1), (one_tile, one_tile), (few, one_tile)}):
            if rows is None or (rows <= most and not result):
                guard = () if rows is not None or roles.m is None else (Comparison(roles.m.name, "<=", most),)
                streaming = _streaming(axes, roles, widest, tile, one_tile=most == tile)
                result.append(GuardedScheduleAttr(GuardAttr(guard), ScheduleAttr(streaming)))
    windowed = any(
        isinstance(entry, AxisSum) for at in (roles.lhs, roles.rhs) for entry in axes.of_operand(roles.nest, at)
    )
    if not result or result[-1].guard.data:
        for guarded in base:
            schedule = guarded.schedule.data
            if (windowed or set(positions) <= set(schedule.stage)) and _fits(axes, roles, schedule, positions):
                stripped = ScheduleAttr(without_stages(schedule, positions))
                result.append(GuardedScheduleAttr(guarded.guard, stripped))
    return result


def _of_whole_blocks(
    guarded: GuardedScheduleAttr, roles: ContractionRoles, positions: Sequence[int]
) -> GuardedScheduleAttr:
    """The same with blocks of k as the packed factor has them, all of one size but for the last."""
    schedule = without_stages(guarded.schedule.data, positions)
    k = roles.k.name.lower()
    loops = tuple(replace(loop, balanced=None) if loop.iterator.lower() == k else loop for loop in schedule.loops)
    return GuardedScheduleAttr(guarded.guard, ScheduleAttr(replace(schedule, loops=loops)))


def _row_step(schedule: Schedule, roles: ContractionRoles) -> int:
    return schedule.steps(roles.m.name)[-1] if roles.m is not None and schedule.steps(roles.m.name) else 1


def _fits(axes: KernelAxes, roles: ContractionRoles, schedule: Schedule, positions: Sequence[int]) -> bool:
    """Whether the register tiles of ``schedule`` lie in the blocks of all packed factors."""
    for position in positions:
        layout = packed_layout(roles.nest.inputs[position].type)
        cut = roles.n if position == roles.rhs else roles.m
        assert layout is not None and cut is not None
        block = layout.block(axes.of_operand(roles.nest, position).index(cut))
        steps = schedule.steps(cut.name)
        if not steps or block % steps[-1]:
            return False
    return True


def _streaming(axes: KernelAxes, roles: ContractionRoles, like: Schedule, rows: int, one_tile: bool) -> Schedule:
    """Panel by panel, each from top to bottom; several tiles of rows share a block of it while it is in L1."""
    columns = like.steps(roles.n.name)[-1]
    others = [axis for axis in axes_among(axes.of_result(roles.nest.results[0])) if axis not in (roles.m, roles.n)]
    sums = [axis for axis in axes.reduced(roles.nest) if axis != roles.k]
    width = bits(element_type(roles.nest.inputs[roles.rhs]))
    k_step = LONG_BLOCK if one_tile else round_up(STREAM_BYTES * 8 // (columns * width), 8)
    if roles.k.size is not None:
        k_step = max(1, min(k_step, round_up(roles.k.size, 8)))
    words = like.intrinsic is not None and find_intrinsic(like.intrinsic).k > 1
    return replace(
        like,
        loops=(
            *(Loop(axis.name, 1) for axis in (*others, *sums)),
            Loop(roles.n.name, columns),
            Loop(roles.k.name, k_step, 8),
            *([] if roles.m is None else [Loop(roles.m.name, rows)]),
        ),
        parallel=others[0].name if others else roles.n.name,
        grain=1 if others else columns,
        stage=tuple(at for at in like.stage if at == roles.lhs and at not in packed_positions(roles)),
        prefetch=None if one_tile or words or sums or others else STREAM_BYTES,
    )
