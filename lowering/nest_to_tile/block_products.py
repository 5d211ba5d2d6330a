"""Matrix products of a block of warps: a block of the result per instance, both factors staged a block of k at a time.

    tile.parallel (%b, %m, %n), (...) = ... to (%B, %M, %N) step (1, 128, 256) {       grid = [b, m, n]
      %sum = tile.for %k, %k_extent = 0 to %K step 64 iter_args(0) pipeline(4) {
        %a = tile.stage (window of A at %b, %m, %k)   %b = tile.stage (window of B at %b, %k, %n)
        tile.contract %a, %b, %acc extent %k_extent }
      what follows; tile.store }

The block of the result stays in registers from beginning to end, so results need no memory between blocks of k, and
what follows the product is computed where it is. An axis that is reduced besides k has a loop of its own, outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.ir import SSAValue

from crosstile.dialects import tile
from crosstile.dialects.nest.axes import Axis
from crosstile.dialects.nest.contraction_roles import ContractionRoles
from crosstile.dialects.nest.schedule import Schedule
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
        others = [axis for axis in grid if axis not in (self.roles.m, self.roles.n)]
        if cut := [axis.name for axis in others if self._step(axis) != 1]:
            raise self.builder.lowering.error(f"a block has one step of '{cut[0]}', which is no side of the product")
        build_grid(self.builder, [(axis, self._step(axis)) for axis in grid], self._block, self.schedule.order)

    def _step(self, axis: Axis) -> int:
        steps = self.schedule.steps(axis.name)
        if not steps:
            raise self.builder.lowering.error(f"the schedule has no loop over '{axis}', an axis of the product")
        return steps[0]

    def _block(self, place: Place) -> None:
        """The sum over k, and what follows it, of the block at ``place``."""
        builder, roles = self.builder, self.roles
        result = roles.nest.results[0]
        start = builder.splat(builder.constant(roles.element, 0), builder.shape.of((roles.m, roles.n)))
        outer = [axis for axis in builder.axes.reduced(roles.nest) if axis != roles.k]
        place.tiles[result, builder.axes.of_result(result), False] = self._sum(place, [*outer, roles.k], start)
        for output in self.outputs:
            along = builder.axes.of_result(output)
            builder.store(place, builder.tile(place, output, along), output, along)

    def _sum(self, place: Place, axes: Sequence[Axis], start: SSAValue) -> SSAValue:
        """The loops over the reduced ``axes``, the last of which is k."""
        axis, rest = axes[0], axes[1:]

        def inside(inner: Place, carried: list[SSAValue]) -> Sequence[SSAValue]:
            return [self._sum(inner, rest, carried[0]) if rest else self._product(inner, carried[0])]

        builder, bounds = self.builder, (0, self.builder.size(axis))
        pipeline = None if rest else self.schedule.pipeline
        role = self.schedule.role and pipeline is not None
        return builder.loop(place, axis, bounds, self._step(axis), [start], inside, pipeline=pipeline, role=role)[0]

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
        shape = tuple(1 if axis is None else self._step(axis) for axis in sides)

        def dimension(axis: Axis) -> int | None:
            return sides.index(axis) if axis in sides else None

        along = builder.axes.of_operand(nest, position)
        source = builder.memory[nest.inputs[position]]
        clip = position in nest.clipped_inputs
        window = builder.window(place, source, along, shape, dimension, clip=clip)
        return builder.lowering.insert(tile.StageOp(window)).result if position in self.schedule.stage else window
