"""Building the body of one tile kernel: loops, windows, and the tile of any value at any place.

``KernelBuilder.tile(place, value, axes)`` is the heart: the tile of a value of the kernel, standing along ``axes``, at
``place``. An input is loaded through a window; the result of an elementwise nest is a ``tile.map`` over the tiles of
its inputs, computed where it is needed and at most once per place; a reduction must have been swept before.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from xdsl.dialects import arith
from xdsl.dialects.builtin import AnyFloat, FloatAttr, IndexType, IntegerAttr, MemRefType
from xdsl.ir import Attribute, Block, BlockArgument, Operation, SSAValue
from xdsl.ir.affine import AffineBinaryOpKind

from crosstile.dialects import tile
from crosstile.dialects.nest.analysis import element_type
from crosstile.dialects.nest.axes import Axis, AxisOrUnit, AxisSum, KernelAxes, axes_among
from crosstile.dialects.nest.generic import GenericOp, IndexOp
from crosstile.dialects.nest.schedule import Schedule
from crosstile.dialects.packing import packed_layout
from crosstile.ir.index_math import Index
from crosstile.lowering.driver import Lowering
from crosstile.lowering.hoisting import Hoister
from crosstile.lowering.nest_to_tile.caches import Caches
from crosstile.lowering.nest_to_tile.divisors import divides_by, is_divisor
from crosstile.lowering.nest_to_tile.places import Coordinate, Digit, Place, Span, TileShape, Walk, window_map

CombineOp = Callable[[SSAValue, SSAValue, "arith.FastMathFlagsAttr | None"], Operation]
"""What makes the operation that folds two elements."""
LoopBody = Callable[[Place, list[SSAValue]], Sequence[SSAValue]]


@dataclass(frozen=True)
class Home:
    """Where a value is kept from one sweep to the next: memory, how it lies along the axes, the result it is of."""

    memory: SSAValue
    axes: tuple[AxisOrUnit, ...]
    result: SSAValue | None = None
    block: Mapping[Axis, int] = field(default_factory=dict[Axis, int])
    """The axes of which the memory holds the block at hand alone, and how much of it."""


class KernelBuilder:
    """The state of lowering one kernel with one schedule.

    ``memory`` maps the kernel's inputs and results to the memrefs of the tile kernel.
    """

    def __init__(
        self,
        lowering: Lowering,
        axes: KernelAxes,
        shape: TileShape,
        memory: dict[SSAValue, SSAValue],
        schedule: Schedule,
        index: Hoister | None = None,
    ):
        self.lowering = lowering
        self.axes = axes
        self.shape = shape
        self.memory = memory
        self.index = index or Hoister(lowering)
        self._schedule = schedule
        self._caches = Caches(lowering, self.index, schedule)
        self._homes: Mapping[SSAValue, Home] = {}
        self._stored: dict[SSAValue, bool] = {}
        self._computed: Mapping[SSAValue, Callable[[Place], SSAValue]] = {}

    def of_shape(self, shape: TileShape) -> KernelBuilder:
        """A builder in the same kernel whose tiles have another ``shape``."""
        return KernelBuilder(self.lowering, self.axes, shape, self.memory, self._schedule, self.index)

    # Sizes and scalars

    def size(self, axis: Axis) -> Index:
        """The size of ``axis``: a number, or read from the input that has it."""
        if axis.size is not None:
            return axis.size
        if axis.source is None:
            raise self.lowering.error(f"no input of the kernel gives the size of iterator '{axis}'")
        packed = (place for place in self.axes.places(axis) if packed_layout(place[0].type) is not None)
        # Of a packed matrix it matters where it ends: there its words are filled up.
        argument, dim = next(packed, axis.source)
        memory = self.memory[argument]
        if self._schedule.aligned is not None and (row := self._with_rows_along(axis)) is not None:
            memory, dim = row
        return self.index.build(tile.DimOp(memory, dim)).result

    def _with_rows_along(self, axis: Axis) -> tuple[SSAValue, int] | None:
        """A matrix with rows along ``axis``, whose lengths are known to be aligned, and its last dimension."""
        results = ((value, self.axes.of_result(value)) for value in self.axes.kernel.yield_op.arguments)
        lying = [(value, len(along) - 1) for value, along in results if along[-1:] == (axis,)]
        places = [*self.axes.places(axis), *lying]
        rows = (
            (value, dim) for value, dim in places if 0 < dim == len(cast(MemRefType, self.memory[value].type).shape) - 1
        )
        return next(((self.memory[value], dim) for value, dim in rows), None)

    def constant(self, type_: Attribute, value: float) -> SSAValue:
        """A scalar constant."""
        if isinstance(type_, AnyFloat):
            return self.index.build(arith.ConstantOp(FloatAttr(value, type_))).result
        return self.index.build(arith.ConstantOp(IntegerAttr(int(value), cast(IndexType, type_)))).result

    def splat(self, scalar: SSAValue, shape: Sequence[int]) -> SSAValue:
        """A tile that holds ``scalar`` everywhere."""
        return self.lowering.insert(tile.SplatOp(scalar, shape)).result

    # Loops

    def loop(
        self,
        place: Place,
        axis: Axis,
        bounds: tuple[Index, Index],
        step: int,
        carried: Sequence[SSAValue],
        body: LoopBody,
        balanced: int | None = None,
        full: bool = False,
        pipeline: int | None = None,
        role: bool = False,
    ) -> list[SSAValue]:
        """A ``tile.for`` over ``axis`` in ``bounds``; ``body`` gets the place inside and the carried values.

        The extent inside is a number if every block is known to be full, as ``full`` asserts, or the only one.
        """
        lower, upper = self.index.value(bounds[0]), self.index.value(bounds[1])
        block = Block(arg_types=[IndexType(), IndexType(), *(value.type for value in carried)])
        start, extent, *inner = block.args
        start.name_hint, extent.name_hint = axis.name, f"{axis.name}_extent"
        inside: Index = extent
        if step == 1 or full:
            inside = step
        elif isinstance(bounds[0], int) and isinstance(bounds[1], int) and balanced is None:
            length = bounds[1] - bounds[0]
            inside = step if length % step == 0 else length if length < step else extent
        with self.lowering.at(block):
            results = body(place.inside(axis, start, inside), list(inner))
            self.lowering.insert(tile.YieldOp(*results))
        op = tile.ForOp(lower, upper, step, carried, block, balanced=balanced, pipeline=pipeline, role=role)
        return list(self.lowering.insert(op).results)

    def loops(
        self, place: Place, steps: Sequence[tuple[Axis, int]], carried: Sequence[SSAValue], body: LoopBody
    ) -> list[SSAValue]:
        """Nested loops over whole axes, the first outermost.

        Where the last block may be cut short there are two loops, one over full blocks, which needs no masks, and one
        over what is left.
        """
        if not steps:
            return list(body(place, list(carried)))
        (axis, step), *rest = steps
        lower, upper = self.bounds(place, axis)

        def inside(inner: Place, values: list[SSAValue]) -> Sequence[SSAValue]:
            return self.loops(inner, rest, values, body)

        end = self.index.add(lower, self.index.round_down(self.index.sub(upper, lower), step))
        if end == upper:
            return self.loop(place, axis, (lower, upper), step, carried, inside)
        if not isinstance(end, int) or end != lower:
            carried = self.loop(place, axis, (lower, end), step, carried, inside, full=True)
        return self.loop(place, axis, (end, upper), step, carried, inside)

    def bounds(self, place: Place, axis: Axis) -> tuple[Index, Index]:
        """What is left of ``axis`` to loop over at ``place``: all of it, or the span of the enclosing block."""
        span = place.spans.get(axis)
        return (0, self.size(axis)) if span is None else (0, span.extent)

    # Windows

    def window(
        self,
        place: Place,
        source: SSAValue,
        axes: Sequence[AxisOrUnit],
        shape: Sequence[int],
        dimension: Callable[[Axis], int | None],
        skip: dict[Axis, int] | None = None,
        clip: bool = False,
    ) -> SSAValue:
        """A window of ``shape`` on ``source``, which lies along ``axes``.

        ``dimension`` says which tile dimension walks along an axis; ``skip`` gives, per axis, how many enclosing loops
        ``source`` is already relative to. With ``clip`` what is outside of ``source`` is padding.
        """
        skip = skip or {}
        extents: list[SSAValue | None] = [None] * len(shape)

        def walk(axis: Axis, factor: int = 1) -> Walk:
            span, at = self.span(place, axis), dimension(axis)
            if at is not None and span.extent != shape[at]:
                extents[at] = self.index.value(span.extent)
            return Walk(span.starts[skip.get(axis, 0) :], at, factor)

        def walks(axis: Axis, factor: int = 1) -> list[Walk]:
            fold, lanes, rows = self.shape.fold, self.shape.lanes, self.shape.rows
            if (digit := self.shape.digit(axis)) is not None and rows is not None and dimension(rows) is not None:
                starts = self.span(place, axis).starts[skip.get(axis, 0) :]
                return [Walk(starts, dimension(rows), factor, digit=digit)]
            if fold is None or lanes is None or axis not in (fold[0], lanes) or dimension(lanes) is None:
                return [walk(axis, factor)]
            if axis == lanes:
                return [replace(walk(lanes, factor), part=AffineBinaryOpKind.Mod, pitch=fold[1])]
            quotient = replace(walk(lanes, factor), part=AffineBinaryOpKind.FloorDiv, pitch=fold[1])
            return [walk(axis, factor), quotient]

        def coordinate(entry: AxisOrUnit) -> Coordinate:
            if isinstance(entry, AxisSum):
                return Coordinate([w for axis, factor in entry.terms for w in walks(axis, factor)], entry.constant)
            return Coordinate([] if entry is None else walks(entry))

        map_, indices = window_map([coordinate(entry) for entry in axes], len(shape))
        # Places between two rows are no elements, nor those of a rectangle beyond the edge.
        among = axes_among(axes)
        clip = clip or (self.shape.fold is not None and self.shape.lanes in among)
        clip = clip or any(axis in among for axis, _ in self.shape.rectangle)
        return self.lowering.insert(tile.WindowOp(source, indices, shape, extents, map_, clip)).result

    def span(self, place: Place, axis: Axis) -> Span:
        """The span of ``axis`` at ``place``; an error if no loop of the schedule is over it."""
        if axis not in place.spans:
            raise self.lowering.error(
                f"no loop over iterator '{axis}' encloses a use of it: the schedule must have one"
            )
        return place.spans[axis]

    def value_window(self, place: Place, value: SSAValue, axes: tuple[AxisOrUnit, ...], clip: bool = False) -> SSAValue:
        """The window of the kernel's register tile on an input or result that lies along ``axes``."""
        key = (value, axes, clip)
        if key not in place.windows:
            shape = self.shape.of(axes)
            window = self.window(place, self.memory[value], axes, shape, self.shape.dimension, clip=clip)
            place.windows[key] = window
        return place.windows[key]

    # Tiles

    def tile(self, place: Place, value: SSAValue, axes: tuple[AxisOrUnit, ...], clip: bool = False) -> SSAValue:
        """The tile of ``value``, which lies along ``axes``, at ``place``; with ``clip`` zero outside of the value."""
        key = (value, axes, clip)
        if key not in place.tiles:
            place.tiles[key] = self._compute(place, value, axes, clip)
        return place.tiles[key]

    def keep(self, homes: Mapping[SSAValue, Home]) -> None:
        """Keep these values from sweep to sweep, each in its home; none has been stored yet."""
        self._homes, self._stored = homes, {}

    def compute_with(self, computed: Mapping[SSAValue, Callable[[Place], SSAValue]]) -> None:
        """Compute the tiles of these values by functions of the place: products, which no map computes."""
        self._computed = computed

    def end_sweep(self) -> None:
        """What has been stored so far can be loaded from now on."""
        self._stored = dict.fromkeys(self._stored, True)

    def _compute(self, place: Place, value: SSAValue, axes: tuple[AxisOrUnit, ...], clip: bool) -> SSAValue:
        if isinstance(value, BlockArgument):
            self._prefetch(place, value, axes)
            return self.lowering.insert(tile.LoadOp(self.value_window(place, value, axes, clip))).result
        nest = value.owner
        if not isinstance(nest, GenericOp):
            raise self.lowering.error(f"a kernel's values come from inputs and nests, got one from {nest}")
        if nest.combiner is not None and value not in self._computed:
            raise self.lowering.error(
                "a reduction is used where it has not been completed: the nests cannot share loops"
            )
        if len(nest.results) != 1:
            raise self.lowering.error("a nest with several results is not built yet on the tile level")
        home = self._homes.get(value)
        if home is not None and self.is_kept(value):
            return self.lowering.insert(tile.LoadOp(self._home_window(place, home))).result
        if value in self._computed:
            result = self._computed[value](place)
        else:
            result = self.map(place, nest, element_type(value), self.shape.of(axes))
        if home is not None:
            self.lowering.insert(tile.StoreOp(result, self._home_window(place, home)))
            self._stored[value] = False
        return result

    def _home_window(self, place: Place, home: Home) -> SSAValue:
        """The window of the kernel's register tile on the home of a kept value."""
        if home.result is not None:
            return self.value_window(place, home.result, home.axes)
        key = (home.memory, home.axes, False)
        if key not in place.windows:
            shape = self.shape.of(home.axes)
            spans = {**place.spans, **{axis: Span((), size) for axis, size in home.block.items()}}
            place.windows[key] = self.window(Place(spans), home.memory, home.axes, shape, self.shape.dimension)
        return place.windows[key]

    def map(
        self,
        place: Place,
        nest: GenericOp,
        element: Attribute,
        shape: tuple[int, int],
        result: SSAValue | None = None,
        known: dict[SSAValue, SSAValue] | None = None,
    ) -> SSAValue:
        """The values that the body of ``nest`` yields at ``place``, as a tile of ``shape``.

        Another ``result`` of the body may be asked for instead; ``known`` are tiles of values of the body.
        """
        result, known = result or nest.yield_op.arguments[0], known or {}
        needed = _needed(nest.body.block, result, known)
        arguments = [argument for argument in nest.body.block.args if argument in needed]
        inputs = [
            self.tile(
                place,
                nest.inputs[argument.index],
                self.axes.of_operand(nest, argument.index),
                argument.index in nest.clipped_inputs,
            )
            for argument in arguments
        ]
        if inputs and arguments[0] is result and inputs[0].type == tile.TileType(shape, element):
            return inputs[0]
        multiplied = [
            argument
            for argument, value in zip(arguments, inputs, strict=True)
            if value in place.reciprocals and is_divisor(nest.body.block, argument.index)
        ]
        inputs = [
            place.reciprocals[value] if argument in multiplied else value
            for argument, value in zip(arguments, inputs, strict=True)
        ]
        indices = [op for op in nest.body.block.ops if isinstance(op, IndexOp) and op.result in needed]
        inputs += [self._index_tile(place, self.axes.of_nest(nest)[op.position]) for op in indices]
        values = [*arguments, *(op.result for op in indices), *known]
        inputs += known.values()
        block = Block(arg_types=[_element(value) for value in inputs])
        mapped: dict[SSAValue, SSAValue] = dict(zip(values, block.args, strict=True))
        with self.lowering.at(block):
            for op in nest.body.block.ops:
                if not op.results or op.results[0] not in needed or op.results[0] in mapped:
                    continue
                if any(divides_by(op, nest.body.block, argument.index) for argument in multiplied):
                    factors = mapped.get(op.operands[0], op.operands[0]), mapped[op.operands[1]]
                    mapped[op.results[0]] = self.lowering.insert(arith.MulfOp(*factors)).result
                else:
                    self.lowering.insert(op.clone(mapped))
            self.lowering.insert(tile.YieldOp(mapped[result]))
        return self.lowering.insert(tile.MapOp(inputs, tile.TileType(shape, element), block)).result

    def reciprocal(self, place: Place, value: SSAValue) -> None:
        """Compute at ``place`` one over the tile ``value``, which is to be multiplied by where it was divided by."""
        if value not in place.reciprocals:
            block = Block(arg_types=[_element(value)])
            with self.lowering.at(block):
                one = self.constant(_element(value), 1.0)
                quotient = self.lowering.insert(arith.DivfOp(one, block.args[0]))
                self.lowering.insert(tile.YieldOp(quotient.result))
            type_ = cast(tile.TileType, value.type)
            place.reciprocals[value] = self.lowering.insert(tile.MapOp([value], type_, block)).result

    def is_kept(self, value: SSAValue) -> bool:
        """Whether ``value`` was kept by a sweep before this one, so that it is loaded."""
        return value in self._homes and self._stored.get(value, False)

    def _index_tile(self, place: Place, axis: Axis) -> SSAValue:
        """The position along ``axis`` of each element of the tile at ``place``."""
        start = self.index.value(self.index.sum(self.span(place, axis).starts))
        dimension, shape, digit = self.shape.dimension(axis), self.shape.of((axis,)), self.shape.digit(axis)
        if digit is not None and digit.size != 1:
            rows = self.lowering.insert(tile.IotaOp(tile.TileType(shape, IndexType()), 0, self.index.value(0))).result
            return self.compute([rows], shape, lambda numbers: self._along(numbers[0], digit, start))
        if dimension is None:
            return self.splat(start, (1, 1))
        return self.lowering.insert(tile.IotaOp(tile.TileType(shape, IndexType()), dimension, start)).result

    def _along(self, row: SSAValue, digit: Digit, start: SSAValue) -> SSAValue:
        """The position, from ``start`` on, along the axis of which ``digit`` counts the steps."""

        def number(value: int) -> SSAValue:
            return self.constant(IndexType(), value)

        moved = self.lowering.insert(arith.DivUIOp(row, number(digit.weight))).result
        if digit.size is not None:
            moved = self.lowering.insert(arith.RemUIOp(moved, number(digit.size))).result
        return self.lowering.insert(arith.AddiOp(start, moved)).result

    def cast(self, value: SSAValue, element: Attribute) -> SSAValue:
        """The floating-point tile ``value`` rounded or extended to ``element``."""
        source = cast(AnyFloat, _element(value))
        wider = cast(AnyFloat, element).bitwidth > source.bitwidth
        block = Block(arg_types=[source])
        with self.lowering.at(block):
            op = arith.ExtFOp(block.args[0], element) if wider else arith.TruncFOp(block.args[0], element)
            self.lowering.insert(tile.YieldOp(self.lowering.insert(op).results[0]))
        return self.lowering.insert(tile.MapOp([value], tile.TileType(_shape(value), element), block)).result

    def combine(
        self,
        op_type: CombineOp,
        lhs: SSAValue,
        rhs: SSAValue,
        flags: arith.FastMathFlagsAttr | None = None,
    ) -> SSAValue:
        """A ``tile.map`` of one binary operation over two tiles of one shape."""
        block = Block(arg_types=[_element(lhs), _element(rhs)])
        with self.lowering.at(block):
            folded = self.lowering.insert(op_type(block.args[0], block.args[1], flags))
            self.lowering.insert(tile.YieldOp(folded.results[0]))
        return self.lowering.insert(tile.MapOp([lhs, rhs], cast(tile.TileType, lhs.type), block)).result

    def compute(
        self, inputs: Sequence[SSAValue], shape: tuple[int, int], body: Callable[[Sequence[SSAValue]], SSAValue]
    ) -> SSAValue:
        """A ``tile.map`` of ``shape`` whose scalar ``body`` gets one element of each of ``inputs``."""
        block = Block(arg_types=[_element(value) for value in inputs])
        with self.lowering.at(block):
            result = body(block.args)
            self.lowering.insert(tile.YieldOp(result))
        return self.lowering.insert(tile.MapOp(inputs, tile.TileType(shape, result.type), block)).result

    def store(self, place: Place, value: SSAValue, result: SSAValue, axes: tuple[AxisOrUnit, ...]) -> None:
        """Store the tile ``value`` to the kernel's result ``result``.

        A result whose memory keeps another value meanwhile is read again soon, so it does not go past the caches.
        """
        past_caches = None
        if all(home.result is not result for home in self._homes.values()) and self._is_full_block(place, axes):
            sizes = [self.size(axis) for axis in axes if isinstance(axis, Axis)]
            past_caches = self._caches.is_large(sizes, element_type(result))
        self.lowering.insert(tile.StoreOp(value, self.value_window(place, result, axes), past_caches))

    def _prefetch(self, place: Place, value: SSAValue, axes: tuple[AxisOrUnit, ...]) -> None:
        """Fetch what the input ``value`` holds after this block, unless every row reads the same of it."""
        shared = {axis for axis in self.axes.parallel() if axis.size != 1}
        if self._is_full_block(place, axes) and self.shape.of(axes)[0] == 1 and shared.issubset(axes_among(axes)):
            starts = [self.index.sum(self.span(place, axis).starts) for axis in axes if isinstance(axis, Axis)]
            row = self.size(cast(Axis, self.shape.lanes))
            self._caches.prefetch(value, self.memory[value], starts, row, self.shape.lane_count)

    def _is_full_block(self, place: Place, axes: tuple[AxisOrUnit, ...]) -> bool:
        """Whether a tile along ``axes`` is a full block of rows, each of consecutive elements."""
        lanes, rows = self.shape.lanes, self.shape.rows
        if lanes is None or axes[-1:] != (lanes,) or not all(isinstance(axis, Axis) for axis in axes):
            return False
        if rows is not None and rows in axes and place.spans[rows].extent != self.shape.row_count:
            return False
        return place.spans[lanes].extent == self.shape.lane_count


def _needed(body: Block, result: SSAValue, known: Container[SSAValue]) -> set[SSAValue]:
    """The values of ``body`` that computing ``result`` takes, if some are ``known``."""
    found: set[SSAValue] = set()
    pending = [result]
    while pending:
        value = pending.pop()
        if value in found or value in known:
            continue
        found.add(value)
        if not isinstance(value.owner, Block):
            pending += value.owner.operands
    return found


def _shape(value: SSAValue) -> tuple[int, ...]:
    return cast(tile.TileType, value.type).get_shape()


def _element(value: SSAValue) -> Attribute:
    return cast(tile.TileType, value.type).element_type
