"""Sweeps by blocks of warps: each instance of a grid folds and maps its own block of rows.

    tile.parallel (%i), (%rows) = (%c0) to (%M) step (1) {        softmax of a row of up to 4096 elements, held
      %x = tile.load (window of X at %i, extent N) : !tile.tile<1x4096xf32>
      %max = tile.reduce max %x dims [1]
      %e = tile.map (%x, %max) { exp(x - max) }
      %sum = tile.reduce add %e dims [1]
      tile.store (%e / %sum) }

What is held is loaded and computed once: the place that all folds share covers whole rows, and a place remembers its
tiles. Rows that are too long are swept instead, once per fold and once for the results, as on a core (``sweeps``).
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import SSAValue

from crosstile.dialects.nest.schedule import Schedule
from crosstile.lowering.nest_to_tile.grid import build_grid
from crosstile.lowering.nest_to_tile.kernel_builder import KernelBuilder
from crosstile.lowering.nest_to_tile.places import Place
from crosstile.lowering.nest_to_tile.sweeps import homes_of, steps_of, sweep_rows


def sweep_blocks(builder: KernelBuilder, schedule: Schedule, outputs: Sequence[SSAValue]) -> None:
    """The grid of ``schedule`` around the sweeps of a block; raises if its axes are not those that all nests share."""
    axes, shared = builder.axes, builder.axes.parallel()
    grid = [axis for name in schedule.grid if (axis := axes.by_name(name)) is not None]
    if set(grid) != set(shared):
        raise builder.lowering.error(
            f"the schedule's grid is [{', '.join(schedule.grid)}]; the axes that are parallel in all nests are "
            f"[{', '.join(axis.name for axis in shared)}]"
        )
    steps = steps_of(builder, schedule)

    def block(place: Place) -> None:
        lanes = builder.shape.lanes
        if schedule.hold is None or lanes is None:
            builder.keep(homes_of(builder, schedule, outputs))
            sweep_rows(builder, place, outputs, steps, shared)
            return
        others = {axis: step for axis, step in steps.items() if axis != lanes}
        sweep_rows(builder, place.inside(lanes, 0, builder.size(lanes)), outputs, others, shared)

    build_grid(builder, [(axis, steps[axis]) for axis in grid], block, schedule.order)
