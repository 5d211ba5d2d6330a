"""Schedules of matrix products: blocks for the caches around a register tile, by the shape of the result.

Level: nest. In: a kernel whose root is a matrix product. Out: guarded schedules for narrow results, few rows and the
general case. The right-hand side is packed where enough rows reuse it.
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
    register_tiles,
    round_up,
)
from crosstile.passes.schedules.tile_units import tile_unit_schedules
from crosstile.targets.model import Machine, MmaIntrinsic

IN_PLACE_BLOCK = 32
"""Rows of a right-hand side that is read in place: each may lie on a page of its own, and so many have their
translations at hand. Measured on 1x4096x4096 and 16x4096x11008: twice the rate of blocks of 512."""
COLUMN_BLOCK = 4096
"""Columns packed together; a block of them stays in the last-level cache while all rows pass by."""
FEW_ROWS = 16
"""Up to so many rows, packing the right-hand side costs more than reading it in place."""


def contraction_schedules(axes: KernelAxes, roles: ContractionRoles, machine: Machine) -> list[GuardedScheduleAttr]:
    """Guarded schedules for a matrix product: narrow results, few rows, and the general case."""
    intrinsic = machine.choose(*roles.factors, str(roles.element))
    if intrinsic.in_tiles:
        return tile_unit_schedules(axes, roles, machine, intrinsic)
    rhs_axes = axes.of_operand(roles.nest, roles.rhs)
    in_place = rhs_axes[-1] == roles.n
    tiles = register_tiles(machine)
    m_size = 1 if roles.m is None else roles.m.size
    result: list[GuardedScheduleAttr] = []

    def add(tile: RegisterTile, staged: bool, *guard: Comparison) -> None:
        schedule = contraction_schedule(axes, roles, machine, intrinsic, tile, staged)
        result.append(GuardedScheduleAttr(GuardAttr(guard), ScheduleAttr(schedule)))

    if (columns := roles.n.size) is not None:
        tiles = [min(tiles, key=lambda tile: round_up(columns, tile.vectors * intrinsic.n) / EFFICIENCY[tile.vectors])]
    else:
        add(tiles[-1], True, Comparison(roles.n.name, "<=", intrinsic.n))
    few = Comparison(roles.m.name if roles.m is not None else "", "<=", FEW_ROWS)
    if in_place and (m_size is None or m_size <= FEW_ROWS):
        add(tiles[0], False, *(() if m_size is not None else (few,)))
    if not in_place or m_size is None or m_size > FEW_ROWS:
        add(tiles[0], True)
    return result


def contraction_schedule(
    axes: KernelAxes,
    roles: ContractionRoles,
    machine: Machine,
    intrinsic: MmaIntrinsic,
    tile: RegisterTile,
    staged: bool,
) -> Schedule:
    """One schedule: blocks for the caches if the rhs is packed, else straight loops over register tiles."""
    width = bits(element_type(roles.nest.inputs[roles.rhs]))
    columns = tile.vectors * intrinsic.n
    rows = 1 if roles.m is None or roles.m.size == 1 else tile.rows
    k_step = REDUCTION_BLOCK_BYTES * 8 // width if staged else IN_PLACE_BLOCK
    if roles.k.size is not None:
        k_step = min(k_step, round_up(max(roles.k.size, 1), 8))
    result = axes.of_result(roles.nest.results[0])
    others = [axis for axis in axes_among(result) if axis not in (roles.m, roles.n)]
    outer_sums = [axis for axis in axes.reduced(roles.nest) if axis != roles.k]
    loops = [Loop(axis.name, 1) for axis in (*others, *outer_sums)]
    k_loop = Loop(roles.k.name, k_step, 8)
    m_tile = [] if roles.m is None else [Loop(roles.m.name, rows)]
    if staged:
        n_step = COLUMN_BLOCK if roles.n.size is None else min(COLUMN_BLOCK, max(roles.n.size, 1))
        loops += [Loop(roles.n.name, round_up(n_step, columns)), k_loop]
        if roles.m is not None:
            resident_rows = machine.memory("L2").capacity // 2 // (k_step * width // 8)
            loops.append(Loop(roles.m.name, max(rows, resident_rows // rows * rows)))
        loops += [Loop(roles.n.name, columns), *m_tile]
    else:
        loops += [k_loop, Loop(roles.n.name, columns), *m_tile]
    parallel, grain = _split(roles, others, rows if staged else None, columns)
    return Schedule(
        loops=tuple(loops),
        parallel=parallel.name,
        grain=grain,
        lane=roles.n.name,
        stage=_staged(axes, roles) if staged else (),
        intrinsic=intrinsic.name,
    )


def _staged(axes: KernelAxes, roles: ContractionRoles) -> tuple[int, ...]:
    """The inputs to pack: the rhs, and the lhs unless its rows lie along k, as the unit reads them.

    Measured on 1024^3: packing a transposed lhs gives 149 GFLOP/s instead of 93, packing one that is not loses 6 %.
    """
    lhs_along_k = axes.of_operand(roles.nest, roles.lhs)[-1] == roles.k
    return (roles.rhs,) if lhs_along_k else tuple(sorted((roles.lhs, roles.rhs)))


def _split(roles: ContractionRoles, others: Sequence[Axis], rows: int | None, columns: int) -> tuple[Axis, int]:
    """The axis to split over workers and its grain: batches, else rows if there are many, else columns."""
    if others:
        return others[0], 1
    if roles.m is not None and rows is not None:
        return roles.m, rows
    return roles.n, columns
