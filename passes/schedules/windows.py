"""Schedules of convolutions: products in which one factor is read through a window.

Level: nest. In: a kernel whose root contracts a window with a filter. Out: guarded schedules, one matrix product for
every place of the filter.
"""

from __future__ import annotations

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
from crosstile.passes.schedules.channels_last import channels_last_schedule
from crosstile.passes.schedules.convolutions import convolution_schedule
from crosstile.passes.schedules.register_tiles import (
    EFFICIENCY,
    REDUCTION_BLOCK_BYTES,
    RegisterTile,
    bits,
    register_tiles,
    round_up,
)
from crosstile.targets.model import Machine, MmaIntrinsic

WINDOW_BLOCK = 256
"""Rows or columns of a convolution's factor that are packed together."""
IMAGE_ROWS = 8
"""Rows of an image for which a filter is packed once; as many rows of results, which carry the accumulators from one
place of the filter to the next, stay in L2."""


def is_window(axes: KernelAxes, roles: ContractionRoles, position: int) -> bool:
    """Whether a factor is read through a window that several axes move."""
    return any(isinstance(entry, AxisSum) for entry in axes.of_operand(roles.nest, position))


def window_schedules(axes: KernelAxes, roles: ContractionRoles, machine: Machine) -> list[GuardedScheduleAttr]:
    """Guarded schedules for a product of a window: a register tile by the width of the result's last dimension.

    None for factors narrower than the sums where the channels are not last or not known.
    """
    is_narrow = roles.factors != (str(roles.element),) * 2
    if (parts := convolution_roles(axes, roles)) is not None and not is_narrow:
        return [GuardedScheduleAttr(GuardAttr(()), ScheduleAttr(convolution_schedule(axes, parts, machine)))]
    if (parts := channels_last_roles(axes, roles)) is not None:
        schedule = channels_last_schedule(axes, parts, machine)
        if schedule is not None:
            return [GuardedScheduleAttr(GuardAttr(()), ScheduleAttr(schedule))]
    element = str(roles.element)
    if is_narrow:
        return []
    intrinsic = machine.choose(element, element, element)
    tiles = register_tiles(machine)
    result: list[GuardedScheduleAttr] = []

    def add(tile: RegisterTile, *guard: Comparison) -> None:
        schedule = window_schedule(axes, roles, intrinsic, tile)
        result.append(GuardedScheduleAttr(GuardAttr(guard), ScheduleAttr(schedule)))

    if (columns := roles.n.size) is not None:
        tiles = [min(tiles, key=lambda tile: round_up(columns, tile.vectors * intrinsic.n) / EFFICIENCY[tile.vectors])]
    else:
        add(tiles[-1], Comparison(roles.n.name, "<=", intrinsic.n))
    add(tiles[0])
    return result


def window_schedule(axes: KernelAxes, roles: ContractionRoles, intrinsic: MmaIntrinsic, tile: RegisterTile) -> Schedule:
    """One schedule: a sum over the filter's places around a matrix product for each.

    The factor whose elements are replicated is packed, as its rows are far apart in memory: a filter for several rows
    of the image, a window of the image for each. A window whose lanes are not neighbours (a stride) is packed instead.
    """
    columns, rows = tile.vectors * intrinsic.n, tile.rows
    k_step = REDUCTION_BLOCK_BYTES * 8 // bits(roles.element)
    if roles.k.size is not None:
        k_step = min(k_step, round_up(max(roles.k.size, 1), 8))
    others = [axis for axis in axes_among(axes.of_result(roles.nest.results[0])) if axis not in (roles.m, roles.n)]
    sums = [Loop(axis.name, 1) for axis in axes.reduced(roles.nest) if axis != roles.k]
    sums.append(Loop(roles.k.name, k_step, 8))
    tile_loops = [Loop(roles.n.name, columns), *([] if roles.m is None else [Loop(roles.m.name, rows)])]
    stage, outer, inner = roles.lhs, [Loop(axis.name, 1) for axis in others], list[Loop]()
    if _lane_step(axes, roles) != 1:
        stage = roles.rhs
        inner.append(Loop(roles.n.name, _block(roles.n, columns)))
    else:
        if roles.m is not None:
            inner.append(Loop(roles.m.name, _block(roles.m, rows)))
        if others and not is_window(axes, roles, roles.lhs):
            inner.append(outer[-1])
            outer[-1] = Loop(others[-1].name, IMAGE_ROWS)
    split = next((axis for axis in others if axis.size != 1), None)
    parallel, grain = (
        (roles.n, columns) if split is None else (split, dict(zip(others, outer, strict=True))[split].step)
    )
    return Schedule(
        loops=(*outer, *sums, *inner, *tile_loops),
        parallel=parallel.name,
        grain=grain,
        lane=roles.n.name,
        stage=(stage,),
        intrinsic=intrinsic.name,
    )


def _block(axis: Axis, multiple: int) -> int:
    """How much of ``axis`` is packed together."""
    size = WINDOW_BLOCK if axis.size is None else min(WINDOW_BLOCK, max(axis.size, 1))
    return round_up(size, multiple)


def _lane_step(axes: KernelAxes, roles: ContractionRoles) -> int:
    """How far apart in the right factor's last dimension two lanes are; 0 if they are in another one."""
    last = axes.of_operand(roles.nest, roles.rhs)[-1]
    terms = last.terms if isinstance(last, AxisSum) else ((last, 1),)
    return next((factor for axis, factor in terms if axis == roles.n), 0)
