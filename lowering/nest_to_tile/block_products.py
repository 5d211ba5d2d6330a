"""Matrix products of a block of warps: a block of the result per instance, both factors staged a block of k at a time.

    tile.parallel (%b, %m, %n), (...) = ... to (%B, %M, %N) step (1, 128, 256) {       grid = [b, m, n]
      %sum = tile.for %k, %k_extent = 0 to %K step 64 iter_args(0) pipeline(4) {
        %a = tile.stage (window of A at %b, %m, %k)   %b = tile.stage (window of B at %b, %k, %n)
        tile.contract %a, %b, %acc extent %k_extent }
      what follows; tile.store }

The block of the result stays in registers from beginning to end, so results need no memory between blocks of k, and
what follows the product is computed where it is. Where other axes are reduced besides k, as the places of a filter are,
one loop goes through the blocks of all of them, k fastest, so that copies run ahead from one place to the next.

The rows of a block may count through several axes of the result that the left factor alone has: of a convolution with
channels last they are a rectangle of pixels, of one image or of several, for ``loops = [n : 1, h : 8, w : 16, ...]``
row 35 that of line 2 and column 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import IndexType
from xdsl.ir import Block, SSAValue

from crosstile.dialects import tile
from crosstile.dialects.nest.axes import Axis
from crosstile.dialects.nest.contraction_roles import ContractionRoles, row_axes
from crosstile.dialects.nest.schedule import Schedule
from crosstile.ir.index_math import Index
from crosstile.lowering.nest_to_tile.grid import build_grid
from crosstile.lowering.nest_to_tile.kernel_builder import KernelBuilder
from crosstile.lowering.nest_to_tile.places import Place


@dataclass(frozen=True)
class BlockProduct:
    """One matrix product, its schedule, and the results that the kernel stores."""

    builder: KernelBuilder
    roles: ContractionRoles
    schedule: Schedule
    outputs: Sequence[SSAValue]

    def build(self) -> None:
        """The grid over blocks of the result."""
        axes, result = self.builder.axes, self.roles.nest.results[0]
        wanted = [axis for axis in axes.of_result(result) if isinstance(axis, Axis)]
        grid = [axis for name in self.schedule.grid if (axis := axes.by_name(name)) is not None]
        if set(grid) != set(wanted):
            raise self.builder.lowering.error(
                f"the blocks of a product are a grid of [{', '.join(axis.name for axis in wanted)}], the axes of its "
                f"result, got grid [{', '.join(self.schedule.grid)}]"
            )
        sides = (*row_axes(axes, self.roles), self.roles.n)
        others = [axis for axis in grid if axis not in sides]
        if cut := [axis.name for axis in others if self._step(axis) != 1]:
            raise self.builder.lowering.error(f"a block has one step of '{cut[0]}', which is no side of the product")
        build_grid(self.builder, [(axis, self._step(axis)) for axis in grid], self._block, self.schedule.order)

    def _step(self, axis: Axis) -> int:
        steps = self.schedule.steps(axis.name)
        if not steps:
            raise self.builder.lowering.error(f"the schedule has no loop over '{axis}', an axis of the product")
        return steps[0]

    def _extent(self, side: Axis | None) -> int:
        """How far a block goes along a side of the product; rows may count through other axes than m as well."""
        return 1 if side is None else self.builder.shape.row_count if side == self.roles.m else self._step(side)

    def _block(self, place: Place) -> None:
        """The sum over k, and what follows it, of the block at ``place``."""
        builder, roles = self.builder, self.roles
        result = roles.nest.results[0]
        start = builder.splat(builder.constant(roles.element, 0), (self._extent(roles.m), self._extent(roles.n)))
        place.tiles[result, builder.axes.of_result(result), False] = self._sum(place, start)
        for output in self.outputs:
            along = builder.axes.of_result(output)
            builder.store(place, builder.tile(place, output, along), output, along)

    def _sum(self, place: Place, start: SSAValue) -> SSAValue:
        """One loop over all blocks of what is summed, k fastest: a trip stages ahead for the next place of a filter."""
        builder, index, k = self.builder, self.builder.index, self.roles.k
        pipeline = self.schedule.pipeline
        role = self.schedule.role and pipeline is not None
        axes = [*(axis for axis in builder.axes.reduced(self.roles.nest) if axis != k), k]
        if len(axes) == 1:

            def inside(inner: Place, carried: list[SSAValue]) -> Sequence[SSAValue]:
                return [self._product(inner, carried[0])]

            bounds = (0, builder.size(k))
            return builder.loop(place, k, bounds, self._step(k), [start], inside, pipeline=pipeline, role=role)[0]
        counts = [self._block_count(axis) for axis in axes]
        block = Block(arg_types=[IndexType(), IndexType(), start.type])
        block.args[0].name_hint = "trip"
        with builder.lowering.at(block):
            inner = self._trip(place, block.args[0], list(zip(axes, counts, strict=True)))
            builder.lowering.insert(tile.YieldOp(self._product(inner, block.args[2])))
        bounds = index.value(0), index.value(index.product(counts))
        return builder.lowering.insert(tile.ForOp(*bounds, 1, [start], block, pipeline=pipeline, role=role)).results[0]

    def _block_count(self, axis: Axis) -> Index:
        """How many blocks there are along ``axis``."""
        index, step = self.builder.index, self._step(axis)
        return index.floor_div(index.add(self.builder.size(axis), step - 1), step)

    def _trip(self, place: Place, trip: Index, axes: Sequence[tuple[Axis, Index]]) -> Place:
        """The place of a trip through the blocks of several axes, of which there are so many, the last one fastest."""
        index = self.builder.index
        for position, (axis, count) in reversed([*enumerate(axes)]):
            number = index.remainder(trip, count) if position else trip
            trip = index.floor_div(trip, count)
            size, step = self.builder.size(axis), self._step(axis)
            start = index.mul(number, step)
            whole = step == 1 or (isinstance(size, int) and size % step == 0)
            place = place.inside(axis, start, step if whole else index.minimum(index.sub(size, start), step))
        return place

    def _product(self, place: Place, accumulator: SSAValue) -> SSAValue:
        roles, builder = self.roles, self.builder
        lhs = self._factor(place, roles.lhs, (roles.m, roles.k))
        rhs = self._factor(place, roles.rhs, (roles.k, roles.n))
        extent = place.spans[roles.k].extent
        length = None if extent == self._step(roles.k) else builder.index.value(extent)
        return builder.lowering.insert(tile.ContractOp(lhs, rhs, accumulator, length, self.schedule.intrinsic)).result

    def _factor(self, place: Place, position: int, sides: tuple[Axis | None, Axis]) -> SSAValue:
        """The block of a factor: its window, or scratch if the schedule stages it."""
        nest, builder = self.roles.nest, self.builder
        shape = tuple(self._extent(axis) for axis in sides)

        def dimension(axis: Axis) -> int | None:
            return sides.index(axis) if axis in sides else None

        along = builder.axes.of_operand(nest, position)
        source = builder.memory[nest.inputs[position]]
        clip = position in nest.clipped_inputs
        window = builder.window(place, source, along, shape, dimension, clip=clip)
        return builder.lowering.insert(tile.StageOp(window)).result if position in self.schedule.stage else window
