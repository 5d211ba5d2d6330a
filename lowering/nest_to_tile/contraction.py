"""Kernels around a matrix product: the loops of the schedule, staged operands, one contract, an epilogue.

    tile.parallel %m0 to %m1 = 0 to %M grain 4 {
      tile.for %n ... step 4096 { tile.for %k ... step 512 balanced(8) {
        %b = tile.stage (window of B at %k, %n)                       as soon as every axis of B has been entered
        tile.for %m2 ... step 256 { tile.for %n2 ... step 64 { tile.for %m3 ... step 4 {
          %c = tile.load (window of C) if %k > 0 else 0.0             the chain goes on where the last block ended
          %d = tile.contract (window of A), (window of %b), %c extent %kc
          scf.if %last { epilogue; tile.store } else { tile.store %d }

Loops nest as the schedule lists them. Those over reduced axes inside of the register tile's carry its sums in
registers. Where edges may cut a register tile, this stands twice under a condition, for
tiles that are whole, whose windows have no extents and whose loop over k is unrolled as the schedule says, and for the
others, which may be narrower at the last columns (``rest``). Between blocks of the reduction the accumulators live in
the result, or in one of their own type that nobody reads, so each element is one sequential chain over k whatever the
block sizes; the epilogue runs after the last block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import lcm

from xdsl.dialects import arith, scf
from xdsl.ir import Attribute, Block, BlockArgument, Region, SSAValue

from crosstile.dialects import tile
from crosstile.dialects.assembly import literal_attribute
from crosstile.dialects.mma.intrinsics import find_intrinsic
from crosstile.dialects.nest.axes import Axis, AxisOrUnit, axes_among
from crosstile.dialects.nest.contraction_roles import ContractionRoles, carrier
from crosstile.dialects.nest.schedule import Loop, Schedule
from crosstile.ir.index_math import Index
from crosstile.lowering.nest_to_tile.computed_factors import ComputedFactor
from crosstile.lowering.nest_to_tile.factors_ahead import FactorAhead
from crosstile.lowering.nest_to_tile.kernel_builder import KernelBuilder
from crosstile.lowering.nest_to_tile.places import Place, Span

EPILOGUE_ROWS = 4
"""Rows of a tile register's product that are computed with together: what vector registers hold, and more than one."""


@dataclass(frozen=True)
class Staged:
    """An operand in scratch: the buffer, and per axis the number of enclosing loops that it is already relative to."""

    buffer: SSAValue
    skip: dict[Axis, int]


@dataclass
class ContractionKernel:
    """The state of lowering one matrix product."""

    builder: KernelBuilder
    roles: ContractionRoles
    schedule: Schedule
    outputs: Sequence[SSAValue]
    unread: frozenset[SSAValue] = frozenset()
    """Outputs that hold sums between blocks of the reduction and nothing in the end."""
    staged: dict[int, Staged] = field(default_factory=dict[int, Staged])
    sums: Sequence[Loop] = ()
    """The loops over reduced axes inside of the register tile's."""

    def body(self, place: Place) -> None:
        """The body of the outermost parallel loop."""
        self._check()
        self._enter(place, self.schedule.loops)

    def _check(self) -> None:
        named = {loop.iterator.lower() for loop in self.schedule.loops}
        wanted = [*(axis for axis in (self.roles.m, self.roles.n) if axis is not None), *self.reduced]
        missing = [axis.name for axis in wanted if axis.name.lower() not in named]
        if missing:
            raise self.builder.lowering.error(
                f"the schedule has no loop over {', '.join(missing)}: with an intrinsic it needs m, n and all of k"
            )

    @property
    def reduced(self) -> list[Axis]:
        """The axes that the product sums over."""
        return self.builder.axes.reduced(self.roles.nest)

    # Loops

    def _enter(self, place: Place, loops: Sequence[Loop]) -> None:
        """Open the loops that remain, staging operands as soon as all their axes have been entered."""
        if all(self.builder.axes.by_name(loop.iterator) in self.reduced for loop in loops):
            self.sums = loops
            self._micro_tile(place)
            return
        loop, rest = loops[0], loops[1:]
        axis = self.builder.axes.by_name(loop.iterator)
        assert axis is not None
        reduced = axis in self.reduced
        bounds = self._bounds(place, axis)
        if reduced:
            # An empty sum is still to be stored, so the loop runs at least once.
            bounds = (bounds[0], self.builder.index.maximum(bounds[1], 1))

        def inside(inner: Place, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            if reduced:
                inner = self._clip(inner, axis)
            already = dict(self.staged)
            self._stage(inner, axis, loop)
            self._enter(inner, rest)
            self.staged = already
            return ()

        self.builder.loop(place, axis, bounds, loop.step, (), inside, self._balanced(axis, loop))

    def _balanced(self, axis: Axis, loop: Loop) -> int | None:
        """What blocks are multiples of: whole instructions, as one that is cut adds up its products in another way."""
        balanced = loop.balanced
        if balanced is not None and axis == self.roles.k and self.schedule.intrinsic is not None:
            balanced = lcm(balanced, find_intrinsic(self.schedule.intrinsic).k)
            if loop.step % balanced:
                raise self.builder.lowering.error(
                    f"loop '{loop}' cuts {self.schedule.intrinsic}: expects a step that is a multiple of {balanced}"
                )
        return balanced

    def _bounds(self, place: Place, axis: Axis) -> tuple[Index, Index]:
        """What a loop over ``axis`` covers at ``place``."""
        return self.builder.bounds(place, axis)

    def _clip(self, place: Place, axis: Axis) -> Place:
        """``place`` with the extent of ``axis`` cut at its size, which only an empty reduction exceeds."""
        size = self.builder.size(axis)
        if isinstance(size, int) and size > 0:
            return place
        span = place.spans[axis]
        extent = self.builder.index.minimum(span.extent, size)
        return Place({**place.spans, axis: Span(span.starts, extent)}, dict(place.tiles))

    # Operands

    def _operand_axes(self, position: int) -> tuple[AxisOrUnit, ...]:
        return self.builder.axes.of_operand(self.roles.nest, position)

    def _stage(self, place: Place, entered: Axis, loop: Loop) -> None:
        """Stage the operands that the schedule names and whose last axis has just been entered."""
        for position in self.schedule.stage:
            along = self._operand_axes(position)
            among = axes_among(along)
            if position in self.staged or entered not in among:
                continue
            if all(self._blocked(place, axis) for axis in among):
                self.staged[position] = self._stage_operand(place, position)

    def _blocked(self, place: Place, axis: Axis) -> bool:
        """Whether a loop of the schedule over ``axis`` is open; the range of a worker alone does not bound a buffer."""
        span = place.spans.get(axis)
        split = self.schedule.parallel is not None and axis.name.lower() == self.schedule.parallel.lower()
        return span is not None and len(span.starts) > (1 if split else 0)

    def _stage_operand(self, place: Place, position: int) -> Staged:
        lhs = position == self.roles.lhs
        rows, columns = (self.roles.m, self.roles.k) if lhs else (self.roles.k, self.roles.n)
        shape = (self._capacity(place, rows), self._capacity(place, columns))
        if isinstance(self.roles.nest.inputs[position], BlockArgument):
            window = self._operand_window(place, position, shape, rows, columns)
            stage = tile.StageOp(window, element=self._staged_type(position))
            buffer = self.builder.lowering.insert(stage).result
        else:
            assert self.schedule.intrinsic is not None
            panel = self.schedule.steps(self.roles.n.name)[-1]
            factor = ComputedFactor(self.builder, self.roles, position, self.schedule.intrinsic, panel)
            buffer = factor.stage(place, shape)
        return Staged(buffer, {axis: len(span.starts) for axis, span in place.spans.items()})

    def _staged_type(self, position: int) -> Attribute | None:
        """The sums' type if the instruction multiplies numbers of that and the input's are to be widened to it."""
        if self.schedule.intrinsic is None:
            return None
        row = find_intrinsic(self.schedule.intrinsic)
        taken = row.lhs.element if position == self.roles.lhs else row.rhs.element
        return self.roles.element if taken == str(self.roles.element) else None

    def _capacity(self, place: Place, axis: Axis | None) -> int:
        """The step of the innermost open loop over ``axis``: how much of it a buffer must hold."""
        if axis is None:
            return 1
        steps = self.schedule.steps(axis.name)
        depth = len(place.spans[axis].starts)
        if self.schedule.parallel is not None and axis.name.lower() == self.schedule.parallel.lower():
            depth -= 1
        return steps[depth - 1]

    def _operand_window(
        self, place: Place, position: int, shape: tuple[int, int], rows: Axis | None, columns: Axis | None
    ) -> SSAValue:
        """A window of ``shape`` on input ``position``, rows and columns along the axes given."""
        nest = self.roles.nest
        source = self.builder.memory[nest.inputs[position]]

        def dimension(axis: Axis) -> int | None:
            return 0 if axis == rows else 1 if axis == columns else None

        clip = position in nest.clipped_inputs
        return self.builder.window(place, source, self._operand_axes(position), shape, dimension, clip=clip)

    def _operand(self, place: Place, position: int) -> SSAValue:
        """The window of one register tile on an operand: on its buffer if it is staged, else on memory."""
        lhs = position == self.roles.lhs
        rows, columns = (self.roles.m, self.roles.k) if lhs else (self.roles.k, self.roles.n)
        shape = (self._capacity(place, rows), self._capacity(place, columns))
        if position not in self.staged:
            return self._operand_window(place, position, shape, rows, columns)
        staged = self.staged[position]
        if not lhs and not isinstance(self.roles.nest.inputs[position], BlockArgument):
            place = ComputedFactor.filled(place, self.roles.n, shape[1])
        place_in_buffer = {axis: at for at, axis in enumerate((rows, columns)) if axis is not None}
        return self.builder.window(place, staged.buffer, (rows, columns), shape, place_in_buffer.get, staged.skip)

    # The micro-tile

    def _micro_tile(self, place: Place) -> None:
        """One register tile: a way without masks for whole ones, and one for those that an edge of the result cuts."""
        whole = self._is_whole(place)
        if whole is None:
            self._product(place, self.schedule.unroll)
            return
        steps = {axis: self._capacity(place, axis) for axis in (self.roles.m, self.roles.n) if axis is not None}
        spans = {axis: Span(place.spans[axis].starts, step) for axis, step in steps.items()}
        with self.builder.lowering.at(uncut := Block()):
            self._product(Place({**place.spans, **spans}, dict(place.tiles)), self.schedule.unroll)
            self.builder.lowering.insert(scf.YieldOp())
        with self.builder.lowering.at(cut := Block()):
            self._cut(place)
            self.builder.lowering.insert(scf.YieldOp())
        self.builder.lowering.insert(scf.IfOp(whole, [], Region(uncut), Region(cut)))

    def _cut(self, place: Place) -> None:
        """A register tile that an edge cuts: as narrow as the schedule says where the last columns are no more."""
        rest, n = self.schedule.rest, self.roles.n
        extent = place.spans[n].extent
        if rest is None or not isinstance(extent, SSAValue):
            self._product(place.branch(), None)
            return
        with self.builder.lowering.at(narrow := Block()):
            self._narrow_product(place.branch(), rest)
            self.builder.lowering.insert(scf.YieldOp())
        with self.builder.lowering.at(wide := Block()):
            self._product(place.branch(), None)
            self.builder.lowering.insert(scf.YieldOp())
        fits = self.builder.index.build(arith.CmpiOp(extent, self.builder.index.value(rest), "sle")).result
        self.builder.lowering.insert(scf.IfOp(fits, [], Region(narrow), Region(wide)))

    def _narrow_product(self, place: Place, columns: int) -> None:
        """The product in a register tile of so many ``columns``."""
        shape, schedule = self.builder.shape, self.schedule
        loops = list(schedule.loops)
        last = max(at for at, loop in enumerate(loops) if self.builder.axes.by_name(loop.iterator) == self.roles.n)
        loops[last] = replace(loops[last], step=columns)
        self.schedule = replace(schedule, loops=tuple(loops))
        self.builder.shape = replace(shape, lane_count=columns)
        try:
            self._product(place, schedule.unroll)
        finally:
            self.schedule, self.builder.shape = schedule, shape

    def _is_whole(self, place: Place) -> SSAValue | None:
        """Whether no edge cuts the register tile at ``place``; None if none ever does."""
        index = self.builder.index
        whole: SSAValue | None = None
        for axis in (self.roles.m, self.roles.n):
            if axis is None or (step := self._capacity(place, axis)) == place.spans[axis].extent:
                continue
            fits = index.build(arith.CmpiOp(index.value(place.spans[axis].extent), index.value(step), "sge")).result
            whole = fits if whole is None else index.build(arith.AndIOp(whole, fits)).result
        return whole

    def _product(self, place: Place, unroll: int | None) -> None:
        """Contract one register tile over the current block of k, then run the epilogue if the block is the last.

        ``unroll``: so many steps of k are written out.
        """
        builder, roles = self.builder, self.roles
        continued, last = self._position(place)
        home = carrier(builder.axes, self.outputs, roles)
        if continued is None:
            shape = builder.shape.of((roles.m, roles.n))
            accumulator = builder.splat(builder.constant(roles.element, 0), shape)
        else:
            if home is None:
                raise builder.lowering.error(
                    "the reduction is blocked, but no result can hold its accumulators: expects a loop over "
                    f"'{roles.k.name}' whose step covers all of it"
                )
            window = self._result_window(place, home)
            zero = literal_attribute(0, roles.element)
            accumulator = builder.lowering.insert(tile.LoadOp(window, continued, zero)).result
        product = self._sum(place, self.sums, accumulator, unroll)
        if last is None or list(self.outputs) == [roles.nest.results[0]]:
            self._epilogue(place, product)
            return
        assert home is not None
        window = self._result_window(place, home)
        with builder.lowering.at(final := Block()):
            self._epilogue(place.branch(), product)
            builder.lowering.insert(scf.YieldOp())
        with builder.lowering.at(partial := Block()):
            builder.lowering.insert(tile.StoreOp(product, window))
            builder.lowering.insert(scf.YieldOp())
        builder.lowering.insert(scf.IfOp(last, [], Region(final), Region(partial)))

    def _sum(self, place: Place, loops: Sequence[Loop], accumulator: SSAValue, unroll: int | None) -> SSAValue:
        """The loops that remain, all over reduced axes, with the sums in registers, around one contraction."""
        builder, roles = self.builder, self.roles
        if not loops:
            lhs, rhs = self._operand(place, roles.lhs), self._operand(place, roles.rhs)
            length, intrinsic = self._chain_length(place), self.schedule.intrinsic
            ahead = FactorAhead(builder, roles, self.schedule, place, partial(self._capacity, place))
            fetched = ahead.window()
            return builder.lowering.insert(
                tile.ContractOp(lhs, rhs, accumulator, length, intrinsic, unroll, fetched)
            ).result
        loop, rest = loops[0], loops[1:]
        axis = builder.axes.by_name(loop.iterator)
        assert axis is not None

        def inside(inner: Place, carried: list[SSAValue]) -> Sequence[SSAValue]:
            already = dict(self.staged)
            self._stage(inner, axis, loop)
            result = self._sum(inner, rest, carried[0], unroll)
            self.staged = already
            return (result,)

        balanced = self._balanced(axis, loop)
        return builder.loop(place, axis, self._bounds(place, axis), loop.step, [accumulator], inside, balanced)[0]

    def _chain_length(self, place: Place) -> SSAValue:
        """The extent of k, or 0 if another reduced axis is empty."""
        index = self.builder.index
        others = [place.spans[axis].extent for axis in self.reduced if axis != self.roles.k and not axis.size]
        return index.value(index.product([place.spans[self.roles.k].extent, *others]))

    def _position(self, place: Place) -> tuple[SSAValue | None, SSAValue | None]:
        """Whether a block of the reduction came before and whether this is the last; None if there is a single one."""
        index = self.builder.index
        starts: Index = 0
        last: SSAValue | None = None
        for axis in self.reduced:
            size = self.builder.size(axis)
            if axis not in place.spans or (isinstance(size, int) and size <= self._capacity(place, axis)):
                continue
            start = index.sum(place.spans[axis].starts)
            starts = index.add(starts, start)
            end = index.value(index.add(start, place.spans[axis].extent))
            done = index.build(arith.CmpiOp(end, index.value(size), "sge")).result
            last = done if last is None else index.build(arith.AndIOp(last, done)).result
        if last is None:
            return None, None
        return index.build(arith.CmpiOp(index.value(starts), index.value(0), "sgt")).result, last

    def _result_window(self, place: Place, output: int) -> SSAValue:
        value = self.outputs[output]
        return self.builder.value_window(place, value, self.builder.axes.of_result(value))

    def _epilogue(self, place: Place, product: SSAValue) -> None:
        """Everything elementwise after the product, and the stores of the results."""
        plain = list(self.outputs) == [self.roles.nest.results[0]]
        if self.in_tiles and not plain:
            self._epilogue_by_rows(place, product)
        else:
            self._epilogue_of(place, product)

    @property
    def in_tiles(self) -> bool:
        """Whether the products are left in tile registers, which no arithmetic but a product reads."""
        name = self.schedule.intrinsic
        return name is not None and find_intrinsic(name).in_tiles

    def _epilogue_by_rows(self, place: Place, product: SSAValue) -> None:
        """The epilogue of a few rows at a time, so many as vector registers hold, from scratch."""
        builder, m = self.builder, self.roles.m
        buffer = builder.lowering.insert(tile.StageOp(product)).result
        whole = builder.shape
        rows = min(whole.row_count, EPILOGUE_ROWS)

        def inside(inner: Place, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            skip = {axis: len(span.starts) for axis, span in place.spans.items()}
            dimension = {axis: at for at, axis in enumerate((m, self.roles.n)) if axis is not None}
            shape = builder.shape.of((m, self.roles.n))
            window = builder.window(inner, buffer, (m, self.roles.n), shape, dimension.get, skip)
            self._epilogue_of(inner, builder.lowering.insert(tile.LoadOp(window)).result)
            return ()

        builder.shape = replace(whole, row_count=rows)
        try:
            if m is None:
                inside(place, ())
            else:
                builder.loop(place, m, builder.bounds(place, m), rows, (), inside)
        finally:
            builder.shape = whole

    def _epilogue_of(self, place: Place, product: SSAValue) -> None:
        axes = self.builder.axes
        result = self.roles.nest.results[0]
        place.tiles[result, axes.of_result(result), False] = product
        for output in self.outputs:
            if output in self.unread:
                continue
            along = axes.of_result(output)
            self.builder.store(place, self.builder.tile(place, output, along), output, along)
