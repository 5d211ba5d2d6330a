"""Schedules of matrix products: blocks for the caches around a register tile, by the shape of the result.

Level: nest. In: a kernel whose root is a matrix product. Out: guarded schedules for narrow results, one row, few rows
and the general case. The right-hand side is packed where enough rows reuse it, three panels at a time, right before
they are used::

    loops = [k : 1024 balanced 8, n : 192, m : 24, n : 64, m : 6], stage = [1]    pack 1024 x 192 of B; then 24 rows
                                                                                  of A at a time meet its three panels

The panels take three eighths of L2, where they stay while all rows pass by. A few rows at a time meet all of them:
these come from L3 once for 192 columns, not for 64, and lie in L2 by then. Long blocks of k are worth more than short
ones: a register tile is loaded and stored once for each, and lies far away in memory by then. With few rows the
right-hand side is read where it lies, some of its rows at a time, each from end to end, as memory and its prefetchers
like it; the few rows of results stay in the caches.
"""

from __future__ import annotations

from collections.abc import Sequence

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
PANELS_SHARE = 8
"""The same for each of several panels that are packed together."""
PANELS = 3
"""Panels that are packed together, before any row meets them. Rows of B are pages apart, so that nothing prefetches
them: a longer piece of each, while it is there, costs little more. And the fewer such blocks, the less often rows of A
come from L3. Measured on 512, 1000, 1024 and 2048 cubed: three are up to 1.5 % faster than two, four seldom are."""
TILES_BETWEEN = 4
"""Register tiles' rows that meet all panels before the next: they lie in L2 then. Measured on 512 to 1024 cubed, and
with one size of 4096: 1 to 5 % faster than all rows for each panel, which brings them from L3 once for 64 columns; the
same for 2048 cubed. Two tiles are the same but for 256 and 512, where they cost 1 %."""
RESIDENT_SHARE = 2
"""The left-hand side, which passes by once for every panel, takes one part of so many of the last-level cache."""
ROW_BLOCK = 8
"""Rows of the right-hand side that a single row of results reads at a time, each a stream of its own. Measured on
1x4096x4096: 4 to 16 stream as fast as memory can, 32 do not."""
FEW_ROWS_BLOCK = 16
"""The same for a few rows: more would be more streams than are prefetched, fewer load and store the results too often.
Measured on 16x4096x11008: 16 are twice as fast as 64."""
FEW_ROWS_VECTORS = 3
"""Vectors in a row of the register tile for few rows: eight rows read the right-hand side from memory half as often as
four."""
FEW_ROWS = 32
"""Up to so many rows, packing the right-hand side costs more than reading it in place. Measured on 4096x4096: 32 rows
are a quarter faster in place, 64 are faster packed."""
UNROLL = 2
"""Steps of k in a trip of the loop of whole register tiles. Measured on 256 to 1024 cubed: two are 5 to 8 % faster than
one, whose counting takes issue slots from multiply-adds; four are no faster and twice the code. Tiles of one vector
have a broadcast for each multiply-add: they gain nothing, and with 16 registers two steps' broadcasts do not fit."""
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

    def add(tile: RegisterTile, in_place_block: int | None, *guard: Comparison) -> None:
        schedule = contraction_schedule(axes, roles, machine, intrinsic, tile, in_place_block)
        result.append(GuardedScheduleAttr(GuardAttr(guard), ScheduleAttr(schedule)))

    few = register_tile(machine, FEW_ROWS_VECTORS) if machine.vector_registers >= 32 else tiles[0]
    if (columns := roles.n.size) is None:
        add(tiles[-1], None, Comparison(roles.n.name, "<=", intrinsic.n))
    else:
        tiles = [min(tiles, key=lambda tile: round_up(columns, tile.vectors * intrinsic.n) / EFFICIENCY[tile.vectors])]
        few = few if columns >= few.vectors * intrinsic.n else tiles[0]
    if axes.of_operand(roles.nest, roles.rhs)[-1] == roles.n:
        for most, tile, block in ((1, RegisterTile(1, tiles[0].vectors), ROW_BLOCK), (FEW_ROWS, few, FEW_ROWS_BLOCK)):
            if rows is None and roles.m is not None:
                add(tile, block, Comparison(roles.m.name, "<=", most))
            elif rows is not None and rows <= most:
                add(tile, block)
                return result
    add(tiles[0], None)
    return result


def contraction_schedule(
    axes: KernelAxes,
    roles: ContractionRoles,
    machine: Machine,
    intrinsic: MmaIntrinsic,
    tile: RegisterTile,
    in_place_block: int | None,
) -> Schedule:
    """One schedule: the rhs packed in blocks for the caches, or read in place, so many of its rows at a time."""
    columns = tile.vectors * intrinsic.n
    rows = 1 if roles.m is None or roles.m.size == 1 else tile.rows
    others = [axis for axis in axes_among(axes.of_result(roles.nest.results[0])) if axis not in (roles.m, roles.n)]
    outer_sums = [axis for axis in axes.reduced(roles.nest) if axis != roles.k]
    loops = [Loop(axis.name, 1) for axis in (*others, *outer_sums)]
    stage = () if in_place_block is not None else _staged(axes, roles, intrinsic)
    if in_place_block is not None:
        loops.append(Loop(roles.k.name, in_place_block))
    elif len(stage) == 1:
        loops += _panel_blocks(roles, machine, columns, tile)
    else:
        loops += _resident_blocks(roles, machine, columns, rows, _staged_bytes(roles, intrinsic))
    loops += [Loop(roles.n.name, columns), *([] if roles.m is None else [Loop(roles.m.name, rows)])]
    parallel, grain = _split(roles, others, None if in_place_block is not None else rows, columns)
    return Schedule(
        loops=tuple(loops),
        parallel=parallel.name,
        grain=grain,
        lane=roles.n.name,
        stage=stage,
        intrinsic=intrinsic.name,
        unroll=UNROLL if in_place_block is None and tile.vectors > 1 else None,
        rest=_rest(axes, roles, tile, intrinsic.n) if in_place_block is None and len(stage) == 1 else None,
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
    together = packed_together(roles, tile, columns)
    k_step = _reduction_step(roles, panel_depth(machine, columns * width, bool(together)))
    loops = [Loop(roles.k.name, k_step, 8)]
    if roles.m is not None:
        loops.append(
            Loop(roles.m.name, _rows_in(machine.memory("L3").capacity // RESIDENT_SHARE, k_step * width, tile.rows))
        )
    return [*loops, *together]


def panel_depth(machine: Machine, row_bytes: int, together: bool) -> int:
    """How much of k a panel with rows of ``row_bytes`` holds, if it is packed ``together`` with others or alone."""
    return machine.memory("L2").capacity // (PANELS_SHARE if together else PANEL_SHARE) // row_bytes


def packed_together(roles: ContractionRoles, tile: RegisterTile, columns: int) -> list[Loop]:
    """The loops over panels that are packed together and over the rows that meet them; none if a panel is all."""
    if tile.vectors == 1 or (roles.n.size is not None and roles.n.size <= columns):
        return []
    panels = [Loop(roles.n.name, PANELS * columns)]
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
