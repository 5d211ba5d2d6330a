"""The grid of a kernel: one instance per block of its outermost axes, in any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects.builtin import IndexType
from xdsl.ir import Block

from crosstile.dialects import tile
from crosstile.dialects.grid_order import ANY_ORDER, GridOrder
from crosstile.dialects.nest.axes import Axis
from crosstile.lowering.nest_to_tile.kernel_builder import KernelBuilder
from crosstile.lowering.nest_to_tile.places import Place


def build_grid(
    builder: KernelBuilder,
    blocks: Sequence[tuple[Axis, int]],
    body: Callable[[Place], None],
    order: GridOrder = ANY_ORDER,
) -> None:
    """A ``tile.parallel`` over blocks of so many steps of each axis; ``body`` builds one instance at its place."""
    index, count = builder.index, len(blocks)
    lowers = [index.value(0)] * count
    uppers = [index.value(builder.size(axis)) for axis, _ in blocks]
    block = Block(arg_types=[IndexType()] * (2 * count))
    place = Place()
    for position, (axis, step) in enumerate(blocks):
        start, extent = block.args[position], block.args[count + position]
        start.name_hint, extent.name_hint = axis.name, f"{axis.name}_extent"
        whole = step == 1 or (axis.size is not None and axis.size % step == 0)
        place = place.inside(axis, start, step if whole else extent)
    with builder.lowering.at(block):
        body(place)
        builder.lowering.insert(tile.YieldOp())
    steps = [step for _, step in blocks]
    builder.lowering.insert(tile.ParallelOp(lowers, uppers, block, steps, order=order))
