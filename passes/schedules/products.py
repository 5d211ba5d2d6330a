"""Schedules of matrix products: blocks for the caches around a register tile, by the shape of the result.

Level: nest. In: a kernel whose root is a matrix product. Out: guarded schedules for narrow results, one row, few rows,
small products and the general case. The right-hand side is packed where enough rows reuse it, two or three panels at a
time, right before they are used::

    loops = [k : 1024 balanced 8, n : 128, m : 24, n : 64, m : 6], stage = [1]    pack 1024 x 128 of B; then 24 rows
                                                                                  of A at a time meet its two panels

The panels take up to half of L2, where they stay while all rows pass by. A few rows at a time meet all of them: these
come from L3 once for 128 columns, not for 64, and lie in L2 by then. Long blocks of k are worth more than short ones: a
register tile is loaded and stored once for each, and lies far away in memory by then. With few rows the right-hand
side is read where it lies, some of its rows at a time, each from end to end, as memory and its prefetchers like it; the
few rows of results stay in the caches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from crosstile.dialects.nest.analysis import element_type
from crosstile.dialects.nest.axes import Axis, KernelAxes, axes_among
from crosstile.dialects.nest.contraction_roles import ContractionRoles
from crosstile.dialects.nest.schedule import (
    Comparison,
    GuardAttr,
    GuardedScheduleAttr,
    Loop,
    Schedule,
    ScheduleAttr,
)
from crosstile.passes.schedules.packed import packed_positions
from crosstile.passes.schedules.register_tiles import (
    EFFICIENCY,
    REDUCTION_BLOCK_BYTES,
    RegisterTile,
    bits,
    register_tile,
    register_tiles,
    round_up,
)
from crosstile.passes.schedules.tile_units import tile_unit_schedules
from crosstile.targets.model import Machine, MmaIntrinsic

PANEL_SHARE = 4
"""A packed panel takes one part of so many of L2: beside it pass rows of the other factor and of the result."""
PANEL_BYTES = 1 << 18
"""What each of several panels that are packed together takes at most. Half as much costs 4 to 8 % on a Zen 5 (1 MiB of
L2; 1024 and 2048 cubed, and with one size of 4096), and about a tenth on a Xeon of 2 MiB; twice as much gains nothing.
"""
PANELS = 3
"""Panels that are packed together at most, before any row meets them. Rows of B are pages apart, so that nothing
prefetches them: a longer piece of each, while it is there, costs little more. And the fewer such blocks, the less often
rows of A come from L3. Measured on 512, 1000, 1024 and 2048 cubed (2 MiB of L2): three are up to 1.5 % faster than two,
four seldom are."""
PANELS_SHARE = 2
"""All of them take one part of so many of L2. On a Zen 5 (1 MiB), two are 5 % faster than one for 4096x1024x1024 and up
to 1 % slower for 1024, 2048 and 3000 cubed; three are 2 to 3 % slower than one for 2048 cubed and with a long k."""
TILES_BETWEEN = 4
"""Register tiles' rows that meet all panels before the next: they lie in L2 then. Measured on 512 to 1024 cubed, and
with one size of 4096: 1 to 5 % faster than all rows for each panel, which brings them from L3 once for 64 columns; the
same for 2048 cubed. Two tiles are the same but for 256 and 512, where they cost 1 %."""
RESIDENT_SHARE = 2
"""The left-hand side, which passes by once for every panel, takes one part of so many of the last-level cache."""


@dataclass(frozen=True)
class InPlace:
    """How up to ``most`` rows of results meet a right-hand side that is read where it lies.

    ``block`` of its rows are read at a time, each a stream of its own, and ``vectors`` of each in a register tile.
    ``written_out``: the steps of k are, without a loop. ``ahead``: bytes of each row that are fetched ahead; None
    leaves that to the core's own prefetchers.
    """

    most: int
    vectors: int
    block: int
    written_out: bool = False
    ahead: int | None = None

    def tile(self, machine: Machine, lanes: int, rows: int | None, columns: int | None) -> RegisterTile:
        """The register tile on ``machine``, no larger than a result of so many rows and columns, where that is known.

        A core with 16 registers takes half of the vectors, but two.
        """
        vectors = self.vectors if machine.vector_registers >= 32 else max(2, self.vectors // 2)
        if columns is not None:
            vectors = max(1, min(vectors, round_up(columns, lanes) // lanes))
        most = min(self.most, register_tile(machine, vectors).rows)
        tiles = max(1, -(-(rows or most) // most))
        return RegisterTile(-(-(rows or most) // tiles), vectors)

    def unroll(self, intrinsic: MmaIntrinsic) -> int | None:
        """The steps of k that are written out; None for a loop over them."""
        return max(1, self.block // intrinsic.k) if self.written_out else None


IN_PLACE = (
    InPlace(1, vectors=8, block=8, written_out=True),
    InPlace(4, vectors=4, block=8, ahead=768),
    InPlace(32, vectors=3, block=32, ahead=768),
)
"""Packing the right-hand side costs more than reading it in place up to so many rows. Measured on a Zen 5, GB/s:

- 1x4096x4096, of 48: 6 to 12 rows 38 to 42, four vectors 38, with a loop over rows 30, fetched ahead 36.
- 2x4096x4096: 32, in the last way 21, with nothing fetched 12.
- 16x4096x11008: 24, blocks of 16 rows 21, 384 bytes ahead 22, with nothing fetched 11."""
UNROLL = 2
"""Steps of k in a trip of the loop of whole register tiles. Measured on 256 to 1024 cubed: two are 5 to 8 % faster than
one, whose counting takes issue slots from multiply-adds; four are no faster and twice the code. Tiles of one vector
have a broadcast for each multiply-add: they gain nothing, and with 16 registers two steps' broadcasts do not fit."""
SMALL_ROWS, SMALL_DEPTH, SMALL_BYTES = 512, 256, 1024
"""Results of up to so many rows meet a right-hand side of up to so many rows, of so many bytes each, where it lies: 64
pages, whose addresses a core has at hand. Measured on a Zen 5, f32: 256 cubed 2 % faster than packed, 128 cubed 4 %,
64x256x256 12 %; 1000x200x250 is 1 % slower, 4096x256x256 2 %."""
COLUMN_BLOCK = 4096
"""Columns packed together where the left-hand side is packed as well; they stay in the last-level cache."""


def contraction_schedules(axes: KernelAxes, roles: ContractionRoles, machine: Machine) -> list[GuardedScheduleAttr]:
    """Guarded schedules for a matrix product: narrow results, a single row, few rows, and the general case.

    Raises UnknownNameError if no instruction of the machine multiplies these types.
    """
    if roles.m is None:
        machine = machine.without_tile_registers()
    intrinsic = machine.choose_widening(*roles.factors, str(roles.element))
    if intrinsic.in_tiles:
        return tile_unit_schedules(axes, roles, machine, intrinsic)
    tiles = register_tiles(machine)
    rows = 1 if roles.m is None else roles.m.size
    result: list[GuardedScheduleAttr] = []

    def add(tile: RegisterTile, way: InPlace | None, *guard: Comparison) -> None:
        schedule = contraction_schedule(axes, roles, machine, intrinsic, tile, way)
        result.append(GuardedScheduleAttr(GuardAttr(guard), ScheduleAttr(schedule)))

    if (columns := roles.n.size) is None:
        add(tiles[-1], None, Comparison(roles.n.name, "<=", intrinsic.n))
    else:
        tiles = [min(tiles, key=lambda tile: round_up(columns, tile.vectors * intrinsic.n) / EFFICIENCY[tile.vectors])]
    if axes.of_operand(roles.nest, roles.rhs)[-1] == roles.n:
        for way in IN_PLACE:
            if rows is None and roles.m is not None:
                add(way.tile(machine, intrinsic.n, None, columns), way, Comparison(roles.m.name, "<=", way.most))
            elif rows is not None and rows <= way.most:
                add(way.tile(machine, intrinsic.n, rows, columns), way)
                return result
        small = _small(axes, roles, intrinsic)
        if small is not None:
            schedule = _without_packing(contraction_schedule(axes, roles, machine, intrinsic, tiles[0], None), roles)
            result.append(GuardedScheduleAttr(GuardAttr(small), ScheduleAttr(schedule)))
            if not small:
                return result
    add(tiles[0], None)
    return result


def _small(axes: KernelAxes, roles: ContractionRoles, intrinsic: MmaIntrinsic) -> tuple[Comparison, ...] | None:
    """When packing the rhs, read along n, takes longer than it saves; None if never, or if it is packed already."""
    if packed_positions(roles) or intrinsic.k > 1 or roles.m is None or _staged(axes, roles, intrinsic) != (roles.rhs,):
        return None
    most = {roles.m: SMALL_ROWS, roles.k: SMALL_DEPTH, roles.n: SMALL_BYTES // _staged_bytes(roles, intrinsic)}
    if any(axis.size is not None and axis.size > size for axis, size in most.items()):
        return None
    return tuple(Comparison(axis.name, "<=", size) for axis, size in most.items() if axis.size is None)


def _without_packing(schedule: Schedule, roles: ContractionRoles) -> Schedule:
    """``schedule`` with its rhs in place: all of k, and all rows for each register tile's columns."""
    assert roles.m is not None
    blocks = (roles.m.name, roles.n.name)
    inner = {name: schedule.steps(name)[-1] for name in blocks}
    loops = [loop for loop in schedule.loops if loop.iterator not in blocks]
    return replace(schedule, loops=(*loops, *(Loop(name, inner[name]) for name in reversed(blocks))), stage=())


def contraction_schedule(
    axes: KernelAxes,
    roles: ContractionRoles,
    machine: Machine,
    intrinsic: MmaIntrinsic,
    tile: RegisterTile,
    way: InPlace | None,
) -> Schedule:
    """One schedule: the rhs packed in blocks for the caches, or read in place in some ``way``."""
    columns = tile.vectors * intrinsic.n
    rows = 1 if roles.m is None or roles.m.size == 1 else tile.rows
    others = [axis for axis in axes_among(axes.of_result(roles.nest.results[0])) if axis not in (roles.m, roles.n)]
    outer_sums = [axis for axis in axes.reduced(roles.nest) if axis != roles.k]
    loops = [Loop(axis.name, 1) for axis in (*others, *outer_sums)]
    stage = () if way is not None else _staged(axes, roles, intrinsic)
    m_loop = [] if roles.m is None else [Loop(roles.m.name, rows)]
    if way is not None:
        loops += [*(m_loop if rows == 1 else ()), Loop(roles.k.name, way.block)]
    elif len(stage) == 1:
        loops += _panel_blocks(roles, machine, columns, tile)
    else:
        loops += _resident_blocks(roles, machine, columns, rows, _staged_bytes(roles, intrinsic))
    loops += [Loop(roles.n.name, columns), *(m_loop if way is None or rows > 1 else ())]
    parallel, grain = _split(roles, others, None if way is not None else rows, columns)
    unroll = way.unroll(intrinsic) if way is not None else UNROLL if tile.vectors > 1 else None
    return Schedule(
        loops=tuple(loops),
        parallel=parallel.name,
        grain=grain,
        lane=roles.n.name,
        stage=stage,
        intrinsic=intrinsic.name,
        unroll=unroll,
        rest=_rest(axes, roles, tile, intrinsic.n) if way is None and len(stage) == 1 else None,
        prefetch=None if way is None else way.ahead,
    )


def _rest(axes: KernelAxes, roles: ContractionRoles, tile: RegisterTile, lanes: int) -> int | None:
    """The columns of a narrower register tile for the last panel: those that are left, or a vector less than all.

    None where more than the product is computed: it would be written out once more, which takes longer to compile than
    the lanes of one panel are worth.
    """
    if len(axes.nests) > 1:
        return None
    if roles.n.size is None:
        return (tile.vectors - 1) * lanes or None
    left = round_up(roles.n.size % (tile.vectors * lanes), lanes)
    return left if 0 < left < tile.vectors * lanes else None


def _panel_blocks(roles: ContractionRoles, machine: Machine, columns: int, tile: RegisterTile) -> list[Loop]:
    """The loops around a panel of the rhs: it is packed right before all rows of a block of m meet it."""
    width = bits(element_type(roles.nest.inputs[roles.rhs])) // 8
    together = packed_together(roles, machine, tile, columns, columns * width)
    k_step = _reduction_step(roles, panel_depth(machine, columns * width, bool(together)))
    loops = [Loop(roles.k.name, k_step, 8)]
    if roles.m is not None:
        loops.append(
            Loop(roles.m.name, _rows_in(machine.memory("L3").capacity // RESIDENT_SHARE, k_step * width, tile.rows))
        )
    return [*loops, *together]


def panel_depth(machine: Machine, row_bytes: int, together: bool) -> int:
    """How much of k a panel with rows of ``row_bytes`` holds, if it is packed ``together`` with others or alone."""
    share = machine.memory("L2").capacity // PANEL_SHARE
    return (min(share, PANEL_BYTES) if together else share) // row_bytes


def packed_together(
    roles: ContractionRoles, machine: Machine, tile: RegisterTile, columns: int, row_bytes: int
) -> list[Loop]:
    """The loops over panels that are packed together and over the rows that meet them; none if a panel is all."""
    if tile.vectors == 1 or (roles.n.size is not None and roles.n.size <= columns):
        return []
    panel = panel_depth(machine, row_bytes, together=True) * row_bytes
    count = min(PANELS, max(1, machine.memory("L2").capacity // PANELS_SHARE // panel))
    panels = [Loop(roles.n.name, count * columns)]
    if roles.m is None or (roles.m.size is not None and roles.m.size <= tile.rows):
        return panels
    return [*panels, Loop(roles.m.name, TILES_BETWEEN * tile.rows)]


def _resident_blocks(roles: ContractionRoles, machine: Machine, columns: int, rows: int, width: int) -> list[Loop]:
    """The loops where both factors are packed: many panels of the rhs first, then blocks of the lhs that stay in L2.

    ``width`` are the bytes of a packed element.
    """
    k_step = _reduction_step(roles, REDUCTION_BLOCK_BYTES // width)
    n_step = COLUMN_BLOCK if roles.n.size is None else min(COLUMN_BLOCK, max(roles.n.size, 1))
    loops = [Loop(roles.n.name, round_up(n_step, columns)), Loop(roles.k.name, k_step, 8)]
    if roles.m is not None:
        loops.append(
            Loop(roles.m.name, _rows_in(machine.memory("L2").capacity // RESIDENT_SHARE, k_step * width, rows))
        )
    return loops


def _reduction_step(roles: ContractionRoles, most: int) -> int:
    """``most`` of k, or all of it if that is known to be less; whole words of any instruction."""
    step = max(8, most // 8 * 8)
    return step if roles.k.size is None else min(step, round_up(max(roles.k.size, 1), 8))


def _rows_in(capacity: int, row_bytes: int, multiple: int) -> int:
    """How many rows of ``row_bytes`` a memory holds, a multiple of the register tile's."""
    return max(1, capacity // row_bytes // multiple) * multiple


def _is_widened(roles: ContractionRoles, intrinsic: MmaIntrinsic) -> bool:
    """Whether the factors are narrower than what the instruction multiplies."""
    return (intrinsic.lhs.element, intrinsic.rhs.element) != roles.factors


def _staged_bytes(roles: ContractionRoles, intrinsic: MmaIntrinsic) -> int:
    """The bytes of an element of a packed factor."""
    widened = _is_widened(roles, intrinsic)
    return bits(roles.element if widened else element_type(roles.nest.inputs[roles.rhs])) // 8


def _staged(axes: KernelAxes, roles: ContractionRoles, intrinsic: MmaIntrinsic) -> tuple[int, ...]:
    """The inputs to pack: the rhs, and the lhs unless its rows lie along k, as the unit reads them, in its own type.

    Measured on 1024^3: packing a transposed lhs gives 149 GFLOP/s instead of 93, packing one that is not loses 6 %.
    """
    as_it_is = axes.of_operand(roles.nest, roles.lhs)[-1] == roles.k and not _is_widened(roles, intrinsic)
    return (roles.rhs,) if as_it_is else tuple(sorted((roles.lhs, roles.rhs)))


def _split(roles: ContractionRoles, others: Sequence[Axis], rows: int | None, columns: int) -> tuple[Axis, int]:
    """The axis to split over workers and its grain: batches, else rows if there are many, else columns."""
    if others:
        return others[0], 1
    if roles.m is not None and rows is not None:
        return roles.m, rows
    return roles.n, columns
