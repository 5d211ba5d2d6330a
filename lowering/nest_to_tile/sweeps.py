"""Kernels without a matrix product: sweep the rows once per reduction and once for the results.

    tile.parallel %m0 to %m1 = 0 to %M grain 1 {              softmax of each row
      tile.for %m ... step 1 {
        %p = tile.for %n ... step 64 iter_args(...)            partial maxima, 64 chains
        %max = tile.reduce max %p dims [1]
        %q = tile.for %n ... step 64 iter_args(...)            partial sums of exp(x - max)
        %sum = tile.reduce add %q dims [1]
        tile.for %n ... step 64 { ... tile.store } } }         exp(x - max) / sum

A sweep of a row whose length is not known to be a multiple of the step is two loops: one over full blocks, without
masks, and one over what is left. The loops around everything are over the axes that are parallel in all nests. What is
elementwise is computed again in every sweep that uses it, while the row is in the nearest cache; ``kept_values`` says
what is kept instead, as the exponentials are here, in the memory of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from xdsl.dialects import arith
from xdsl.dialects.builtin import AnyFloat
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Attribute, SSAValue

from crosstile.dialects import tile
from crosstile.dialects.assembly import literal_attribute
from crosstile.dialects.nest.analysis import element_type
from crosstile.dialects.nest.axes import Axis
from crosstile.dialects.nest.generic import GenericOp
from crosstile.dialects.nest.kept_values import is_row, kept_values
from crosstile.dialects.nest.schedule import Schedule
from crosstile.lowering.nest_to_tile.kernel_builder import CombineOp, Home, KernelBuilder, LoopBody
from crosstile.lowering.nest_to_tile.places import Place
from crosstile.lowering.nest_to_tile.row_values import compute_before
from crosstile.passes.schedules.register_tiles import bits

COMBINE_OPS: dict[str, CombineOp] = {
    "add": arith.AddfOp,
    "mul": arith.MulfOp,
    "max": arith.MaximumfOp,
    "min": arith.MinimumfOp,
}
"""The operation that folds two elements, for the combiners built so far."""
COMBINE_INTEGERS: dict[str, CombineOp] = {
    "add": lambda lhs, rhs, _flags: arith.AddiOp(lhs, rhs),
    "mul": lambda lhs, rhs, _flags: arith.MuliOp(lhs, rhs),
    "max": lambda lhs, rhs, _flags: arith.MaxSIOp(lhs, rhs),
    "min": lambda lhs, rhs, _flags: arith.MinSIOp(lhs, rhs),
}
"""The same for integers, which wrap and have a sign."""


def sweep_body(builder: KernelBuilder, schedule: Schedule, place: Place, outputs: Sequence[SSAValue]) -> None:
    """The body of the outermost parallel loop: the loops over shared axes, then one sweep per reduction and result."""
    shared = builder.axes.parallel()
    steps = steps_of(builder, schedule)
    kept = homes_of(builder, schedule, outputs)

    def rows(inside: Place, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
        builder.keep(kept)
        sweep_rows(builder, inside, outputs, steps, shared)
        return ()

    _shared_loops(builder, place, _shared_levels(builder, schedule, steps, shared), rows)


def sweep_rows(
    builder: KernelBuilder, place: Place, outputs: Sequence[SSAValue], steps: dict[Axis, int], shared: Sequence[Axis]
) -> None:
    """One sweep per reduction, then the results, at a place that has all ``shared`` axes; ``steps`` are of the others.

    An axis of neither is one that the place covers as a whole.
    """
    for nest in builder.axes.nests:
        if nest.combiner is not None:
            compute_before(builder, place, [nest], builder.axes.reduced(nest))
            sweep_reduction(builder, place, nest, steps, shared)
            builder.end_sweep()
    sweep_results(builder, place, outputs, steps, shared)


def _shared_levels(
    builder: KernelBuilder, schedule: Schedule, steps: dict[Axis, int], shared: Sequence[Axis]
) -> list[tuple[Axis, int]]:
    """The loops over shared axes, outermost first: those of the schedule, then the axes that it leaves out."""
    named = [(builder.axes.by_name(loop.iterator), loop.step) for loop in schedule.loops]
    levels = [(axis, step) for axis, step in named if axis is not None and axis in shared]
    scheduled = {axis for axis, _ in levels}
    return [*levels, *((axis, step) for axis, step in steps.items() if axis in shared and axis not in scheduled)]


def _shared_loops(builder: KernelBuilder, place: Place, levels: Sequence[tuple[Axis, int]], body: LoopBody) -> None:
    """Loops over blocks of axes, one inside of another; the innermost over each axis tells full steps from the rest."""
    if not levels:
        body(place, [])
        return
    (axis, step), *rest = levels
    if any(later == axis for later, _ in rest):

        def inside(inner: Place, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            _shared_loops(builder, inner, rest, body)
            return ()

        builder.loop(place, axis, builder.bounds(place, axis), step, (), inside)
    else:
        builder.loops(place, [(axis, step)], (), lambda inner, _: _shared_loops(builder, inner, rest, body) or ())


def homes_of(builder: KernelBuilder, schedule: Schedule, outputs: Sequence[SSAValue]) -> dict[SSAValue, Home]:
    """Where values wait between sweeps: in scratch, if the schedule has room for a row of each, else in a result."""
    homes: dict[SSAValue, Home] = {}
    shape = builder.shape
    for value, output in kept_values(builder.axes, outputs).items():
        along = builder.axes.of_result(output)
        one_row = is_row(builder.axes, along, shape.lanes) and (shape.row_count == 1 or shape.rows not in along)
        if schedule.keep is not None and one_row:
            type_ = tile.BufferType([1, max(schedule.keep, shape.lane_count)], element_type(value))
            buffer = builder.lowering.insert(tile.AllocOp(type_)).result
            homes[value] = Home(buffer, (None, shape.lanes))
        else:
            homes[value] = Home(builder.memory[output], along, output)
    return homes


def steps_of(builder: KernelBuilder, schedule: Schedule) -> dict[Axis, int]:
    """The step of the innermost loop over every axis, in loop order: as scheduled, else one, lanes innermost."""
    shape, axes = builder.shape, builder.axes.all()
    named = [axis for loop in schedule.loops if (axis := builder.axes.by_name(loop.iterator)) is not None]
    ordered = [axis for axis in dict.fromkeys([*named, *axes]) if axis != shape.lanes]
    ordered += [] if shape.lanes is None else [shape.lanes]
    counts = {shape.rows: shape.row_count, shape.lanes: shape.lane_count}
    return {axis: counts.get(axis, 1) for axis in ordered}


def sweep_reduction(
    builder: KernelBuilder, place: Place, nest: GenericOp, steps: dict[Axis, int], shared: Sequence[Axis]
) -> None:
    """Sweep the reduced axes of ``nest`` that have ``steps``; its result becomes a tile of ``place``."""
    combiner, accumulator = nest.combiner, nest.accumulator_type
    assert combiner is not None and accumulator is not None
    floating = isinstance(accumulator, AnyFloat)
    legal = COMBINE_OPS if floating else COMBINE_INTEGERS
    if combiner.data not in legal or len(nest.results) != 1:
        raise builder.lowering.error(
            f"combiner<{combiner.data}> accumulated in {accumulator} is not built yet on the tile level: "
            f"expects one of {', '.join(COMBINE_OPS)}"
        )
    reduced = builder.axes.reduced(nest)
    if any(axis not in shared and axis not in reduced for axis in builder.axes.of_nest(nest)):
        raise builder.lowering.error(
            "a reduction keeps an iterator that other nests reduce: the nests cannot share loops"
        )
    op_type, component = legal[combiner.data], combiner.row.components[0]
    identity = component.identity if floating else component.integer_identity(bits(accumulator))
    axes = tuple(builder.axes.of_nest(nest))
    lanes, rows = builder.shape.lanes, builder.shape.rows
    partial_shape = builder.shape.of(axes)
    folds_rows = rows is not None and rows in reduced

    flags = None if nest.fastmath is None else arith.FastMathFlagsAttr(nest.fastmath.data - {FastMathFlag.REASSOC})

    def block(inside: Place) -> SSAValue:
        value = builder.map(inside, nest, accumulator, partial_shape)
        return _mask(builder, inside, value, lanes, identity) if lanes in reduced else value

    def accumulate(inside: Place, carried: list[SSAValue]) -> Sequence[SSAValue]:
        if rows is None or not folds_rows:
            return (builder.combine(op_type, carried[0], block(inside), flags),)
        extent = inside.spans[rows].extent
        extents = [None if extent == builder.shape.row_count else builder.index.value(extent)]
        fold = tile.ReduceOp(combiner.data, block(inside), [0], extents, carried[0])
        return (builder.lowering.insert(fold).result,)

    order = [(axis, step) for axis, step in steps.items() if axis in reduced]
    if order:
        shape = (1, *partial_shape[1:]) if folds_rows else partial_shape
        initial = builder.splat(builder.constant(accumulator, identity), shape)
        (result,) = builder.loops(place, order, (initial,), accumulate)
    else:
        result = block(place)  # the place covers all of what is reduced
    if lanes in reduced:
        result = builder.lowering.insert(tile.ReduceOp(combiner.data, result, [1])).result
    result_axes = builder.axes.of_result(nest.results[0])
    place.tiles[nest.results[0], result_axes, False] = _converted(builder, result, element_type(nest.results[0]))


def _mask(builder: KernelBuilder, place: Place, value: SSAValue, lanes: Axis | None, identity: float) -> SSAValue:
    """``value`` with the combiner's identity in the lanes beyond the row's end."""
    assert lanes is not None
    extent = place.spans[lanes].extent
    if extent == builder.shape.lane_count:
        return value
    element = cast(tile.TileType, value.type).element_type
    otherwise = literal_attribute(identity if isinstance(element, AnyFloat) else int(identity), element)
    return builder.lowering.insert(tile.MaskOp(value, [None, builder.index.value(extent)], otherwise)).result


def _converted(builder: KernelBuilder, value: SSAValue, element: Attribute) -> SSAValue:
    """The tile ``value`` rounded or extended to ``element``."""
    type_ = value.type
    assert isinstance(type_, tile.TileType)
    if type_.element_type == element:
        return value
    return builder.cast(value, element)


def sweep_results(
    builder: KernelBuilder,
    place: Place,
    outputs: Sequence[SSAValue],
    steps: dict[Axis, int],
    shared: Sequence[Axis],
) -> None:
    """Compute and store the results; those that lie along the same axes share one sweep."""
    sweeps: dict[tuple[Axis, ...], list[SSAValue]] = {}
    for output in outputs:
        along = builder.axes.of_result(output)
        sweeps.setdefault(tuple(axis for axis in steps if axis in along and axis not in shared), []).append(output)
    varying = [axis for axis in builder.axes.all() if axis not in shared]
    for axes, group in sweeps.items():
        nests = [output.owner for output in group if isinstance(output.owner, GenericOp)]
        compute_before(builder, place, [nest for nest in nests if nest.combiner is None], varying)

        def store(inside: Place, _: Sequence[SSAValue], group: Sequence[SSAValue] = group) -> Sequence[SSAValue]:
            for output in group:
                along = builder.axes.of_result(output)
                builder.store(inside, builder.tile(inside, output, along), output, along)
            return ()

        builder.loops(place, [(axis, steps[axis]) for axis in axes], (), store)
