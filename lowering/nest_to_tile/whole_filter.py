"""Kernels around a convolution with channels last whose filter is packed as well, all of it for a few columns.

    tile.for %h ... step 16 {
      %s = tile.stage (18 rows x 58 columns x 64 channels of the image, clipped)
      tile.for %o ... step 32 {
        %f = tile.stage (576 steps of k x 32 columns of the filter)              words of neighbours in k stand together
        tile.for %h2 ... step 1 { tile.for %w ... step 32 {
          %c = tile.for %r ... iter_args(0) { tile.for %t ... {
            tile.contract %s[%h2 + %r, %w + %t, 0], %f[192 * %r + 64 * %t, 0], ... extent 64 } }
          epilogue; tile.store

Instructions that multiply words of several k (AMX, ``vdpbf16ps``) want them packed, factors of f16 are widened once
instead of in every step, and the rows of others are far apart in memory. No loop carries tile registers: the places of
the filter are written out for them. What the channels lack to whole instructions is zero in both factors. The image's
buffer has all places that a register tile reads, so only the store looks at edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

from xdsl.ir import SSAValue
from xdsl.ir.affine import AffineExpr, AffineMap

from crosstile.dialects import tile
from crosstile.dialects.mma.intrinsics import find_intrinsic
from crosstile.dialects.nest.axes import Axis, AxisOrUnit, AxisSum
from crosstile.dialects.nest.schedule import Loop
from crosstile.lowering.nest_to_tile.channels_last import ChannelsLastKernel, terms_of
from crosstile.lowering.nest_to_tile.contraction import Staged
from crosstile.lowering.nest_to_tile.convolution import Coordinates
from crosstile.lowering.nest_to_tile.places import Place, Span
from crosstile.passes.schedules.register_tiles import round_up


class WholeFilterKernel(ChannelsLastKernel):
    """The state of lowering one such convolution."""

    covers_tiles = True

    @property
    def depth(self) -> int:
        """The channels of one place of the filter, in whole instructions."""
        name = self.schedule.intrinsic
        return round_up(super().depth, 1 if name is None else find_intrinsic(name).k)

    def _stage(self, place: Place, entered: Axis, loop: Loop) -> None:
        super()._stage(place, entered, loop)
        if self.roles.rhs not in self.staged and self._blocked(place, self.roles.n):
            self.staged[self.roles.rhs] = self._stage_filter(place)

    def _stage_filter(self, place: Place) -> Staged:
        """All places of the filter and all channels, one after the other, of a register tile's columns."""
        roles, depth = self.roles, self.depth
        k, column = AffineExpr.dimension(0), AffineExpr.dimension(1)
        span = place.spans[roles.n]
        coordinates = Coordinates()

        def coordinate(entry: AxisOrUnit) -> AffineExpr:
            if not isinstance(entry, Axis):
                return AffineExpr.constant(0)
            if entry == roles.k:
                return k % depth if self.parts.place_count > 1 else k
            if entry == roles.n:
                return coordinates.sum(span.starts, column)
            if entry not in self.parts.places:
                return coordinates.sum(self.builder.span(place, entry).starts)
            position = self.parts.places.index(entry)
            inner = depth * prod(other.size or 1 for other in self.parts.places[position + 1 :])
            step = k // inner
            return step % (entry.size or 1) if position else step

        results = tuple(coordinate(entry) for entry in self._operand_axes(roles.rhs))
        columns = self._capacity(place, roles.n)
        shape = (depth * self.parts.place_count, columns)
        cut = None if span.extent == columns else self.builder.index.value(span.extent)
        source = self.builder.memory[roles.nest.inputs[roles.rhs]]
        by = AffineMap(2, len(coordinates.indices), results)
        window = tile.WindowOp(source, coordinates.indices, shape, [None, cut], by, depth != roles.k.size)
        stage = tile.StageOp(self.builder.lowering.insert(window).result, element=self._staged_type(roles.rhs))
        buffer = self.builder.lowering.insert(stage).result
        return Staged(buffer, {axis: len(span.starts) for axis, span in place.spans.items()})

    def _sum(self, place: Place, loops: Sequence[Loop], accumulator: SSAValue, unroll: int | None) -> SSAValue:
        """One contraction for each place of the filter: in loops, or written out where sums are in tile registers."""
        places, builder = self.parts.places, self.builder
        if self.in_tiles:
            for at in product(*(range(axis.size or 1) for axis in places)):
                here = {axis: Span((step,), 1) for axis, step in zip(places, at, strict=True)}
                accumulator = self._contract(Place({**place.spans, **here}, dict(place.tiles)), accumulator, unroll)
            return accumulator

        def enter(place: Place, axes: Sequence[Axis], accumulator: SSAValue) -> SSAValue:
            if not axes:
                return self._contract(place, accumulator, unroll)

            def inside(inner: Place, carried: list[SSAValue]) -> Sequence[SSAValue]:
                return (enter(inner, axes[1:], carried[0]),)

            return builder.loop(place, axes[0], builder.bounds(place, axes[0]), 1, [accumulator], inside)[0]

        return enter(place, places, accumulator)

    def _contract(self, place: Place, accumulator: SSAValue, unroll: int | None) -> SSAValue:
        """The sum over the channels at one place of the filter."""
        length = self.builder.index.value(self.depth)
        lhs, rhs = self._image(place), self._filter(place)
        contract = tile.ContractOp(lhs, rhs, accumulator, length, self.schedule.intrinsic, unroll)
        return self.builder.lowering.insert(contract).result

    def _image(self, place: Place) -> SSAValue:
        """The channels of the image for the register tile's rows at a place of the filter."""
        staged, roles = self.staged[self.roles.lhs], self.roles
        rows, m = self._capacity(place, roles.m), roles.m
        assert m is not None
        spans = {**place.spans, m: Span(place.spans[m].starts, rows), roles.k: Span((0,), self.depth)}
        entries: list[AxisOrUnit] = [AxisSum(tuple(terms_of(side)), 0) for side in self.parts.sides]
        dimension, shape = {m: 0, roles.k: 1}, (rows, self.depth)
        skip = {**staged.skip, roles.k: 0}
        return self.builder.window(
            Place(spans, dict(place.tiles)), staged.buffer, (*entries, roles.k), shape, dimension.get, skip
        )

    def _filter(self, place: Place) -> SSAValue:
        """The channels of a place of the filter, in the register tile's columns."""
        buffer, parts, coordinates = self.staged[self.roles.rhs].buffer, self.parts, Coordinates()
        columns = self._capacity(place, self.roles.n)
        extent = place.spans[self.roles.n].extent
        cut = None if extent == columns else self.builder.index.value(extent)
        row = AffineExpr.dimension(0)
        for position, axis in enumerate(parts.places):
            steps = self.depth * prod(other.size or 1 for other in parts.places[position + 1 :])
            row = row + coordinates.sum(place.spans[axis].starts) * steps
        by = AffineMap(2, len(coordinates.indices), (row, AffineExpr.dimension(1)))
        window = tile.WindowOp(buffer, coordinates.indices, (self.depth, columns), [None, cut], by)
        return self.builder.lowering.insert(window).result
