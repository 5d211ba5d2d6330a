"""Kernels around a convolution: an image staged with its padding, and a matrix product over windows of it.

    tile.for %h ... step 16 {
      %s = tile.stage (64 channels x 19 rows x 57 columns of the image, clipped)     the padding is zeros of the buffer
      tile.for %p ... step 48 { tile.for %o ... step 8 {
        %a = tile.window %w by (d0, d1)[o] -> (o + d0, d1 floordiv 9, (d1 floordiv 3) mod 3, d1 mod 3)
        %b = tile.window %s by (d0, d1)[p] -> (d0 floordiv 9, (q + d1) floordiv 57, (q + d1) mod 57)
                                                 with q = p + 57 * ((d0 floordiv 3) mod 3) + d0 mod 3
        %c = tile.contract %a, %b, 0 extent 576
        epilogue; tile.store to (o + d0, h + (p + d1) floordiv 57, (p + d1) mod 57), clipped

The sum is one dimension k of the product, channels and places of the filter in one, so an accumulator stays in
registers over all of it. It does so in loops over channels and rows of the filter where that has many places.

With ``fold``, rows of the image are one dimension as well: what follows the last column of a row is its padding, and
then the next row. Where the image is walked with a stride, the buffer has its neighbours that belong to different
places apart, in a dimension of their own, so that lanes are next to each other again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from math import prod
from operator import add

from xdsl.ir import SSAValue
from xdsl.ir.affine import AffineExpr, AffineMap

from crosstile.dialects import tile
from crosstile.dialects.nest.axes import Axis, AxisOrUnit, KernelAxes
from crosstile.dialects.nest.contraction_roles import ContractionRoles
from crosstile.dialects.nest.convolution_roles import ConvolutionRoles, Side, convolution_roles
from crosstile.dialects.nest.schedule import Loop, Schedule
from crosstile.ir.index_math import Index
from crosstile.lowering.nest_to_tile.contraction import ContractionKernel, Staged
from crosstile.lowering.nest_to_tile.places import Place


def convolution_of(axes: KernelAxes, roles: ContractionRoles, schedule: Schedule) -> ConvolutionRoles | None:
    """The parts of a convolution whose schedule stages the image and has no loops over the places of the filter."""
    parts = convolution_roles(axes, roles)
    if parts is None or tuple(schedule.stage) != (roles.rhs,):
        return None
    looped = {loop.iterator.lower() for loop in schedule.loops}
    return None if any(place.name.lower() in looped for place in parts.places) else parts


class Coordinates:
    """Affine expressions of one window's coordinates, and the indices that they have as symbols."""

    def __init__(self) -> None:
        self.indices: list[SSAValue] = []

    def sum(self, starts: Sequence[Index], *terms: AffineExpr) -> AffineExpr:
        """The sum of indices and expressions."""
        expressions = list(terms)
        for start in starts:
            if isinstance(start, int):
                expressions.append(AffineExpr.constant(start))
            else:
                expressions.append(AffineExpr.symbol(len(self.indices)))
                self.indices.append(start)
        return reduce(add, expressions, AffineExpr.constant(0))


MOST_WRITTEN_OUT = 32
"""So many places of the filter are written out for each channel (``tile-to-mma``); of more only those of a row are."""


@dataclass
class ConvolutionKernel(ContractionKernel):
    """The state of lowering one convolution."""

    parts: ConvolutionRoles = field(kw_only=True)

    @property
    def by_rows(self) -> bool:
        """Whether a contraction goes over one row of the filter, in loops over channels and rows."""
        return self.parts.place_count > MOST_WRITTEN_OUT and len(self.parts.places) > 1

    @property
    def reduced(self) -> list[Axis]:
        """The channels: the places of the filter are part of the contraction."""
        return [] if self.parts.channel is None else [self.parts.channel]

    @property
    def pitch(self) -> int | None:
        """The places of a row, if rows are folded."""
        return None if self.builder.shape.fold is None else self.builder.shape.fold[1]

    def _bounds(self, place: Place, axis: Axis) -> tuple[Index, Index]:
        if self.pitch is None or axis != self.roles.n or axis in place.spans:
            return super()._bounds(place, axis)
        rows, index = self.parts.rows, self.builder.index
        assert rows is not None and rows.result is not None
        above = index.sub(place.spans[rows.result].extent, 1)
        return 0, index.add(index.mul(above, self.pitch), self.builder.size(axis))

    # The image

    def _stage(self, place: Place, entered: Axis, loop: Loop) -> None:
        """Stage the image as soon as every axis that its buffer spans is blocked."""
        spanned = [*self.reduced, *(side.result for side in self.parts.sides if side.result is not None)]
        if self.pitch is not None:
            spanned.remove(self.roles.n)
        if self.roles.rhs not in self.staged and all(self._blocked(place, axis) for axis in spanned):
            self.staged[self.roles.rhs] = self._stage_image(place)

    def _stage_image(self, place: Place) -> Staged:
        shape: list[int] = []
        extents: list[SSAValue | None] = []

        def dimension(size: int, extent: Index | None = None) -> AffineExpr:
            shape.append(size)
            cut = extent is not None and extent != size
            extents.append(self.builder.index.value(extent) if extent is not None and cut else None)
            return AffineExpr.dimension(len(shape) - 1)

        def step(side: Side, number: int) -> AffineExpr:
            steps = dimension(number)
            starts = () if side.result is None else place.spans[side.result].starts if self._spans(side) else ()
            walked = coordinates.sum(starts, steps) + side.first
            return walked if side.stride == 1 else walked * side.stride + phases[side]

        coordinates = Coordinates()
        channel = self.parts.channel
        # Without channels one of size 1: rows and columns alone would be taken for a matrix and packed.
        channels = (
            dimension(1) if channel is None else dimension(self._capacity(place, channel), place.spans[channel].extent)
        )
        phases = {side: dimension(side.stride) for side in self.parts.sides if side.stride > 1}
        steps = {
            side.dim: step(side, number)
            for side, number in zip(self.parts.sides, self._steps_in_buffer(place), strict=True)
        }

        def coordinate(dim: int, entry: AxisOrUnit) -> AffineExpr:
            if dim in steps:
                return steps[dim]
            if not isinstance(entry, Axis):
                return AffineExpr.constant(0)
            starts = self.builder.span(place, entry).starts
            return coordinates.sum(starts, *([channels] if entry == channel else []))

        source = self.builder.memory[self.roles.nest.inputs[self.roles.rhs]]
        results = tuple(coordinate(dim, entry) for dim, entry in enumerate(self.parts.along))
        by = AffineMap(len(shape), len(coordinates.indices), results)
        window = tile.WindowOp(source, coordinates.indices, shape, extents, by, True)
        stage = self.builder.lowering.insert(tile.StageOp(self.builder.lowering.insert(window).result))
        return Staged(stage.result, {axis: len(span.starts) for axis, span in place.spans.items()})

    def _spans(self, side: Side) -> bool:
        """Whether the buffer begins where the loops over the result's axis are; with folded rows it has whole rows."""
        return self.pitch is None or side.result != self.roles.n

    def _steps_in_buffer(self, place: Place) -> list[int]:
        """How many steps of each of the image's dimensions the buffer has."""
        if self.pitch is None:
            blocks = [1 if side.result is None else self._capacity(place, side.result) for side in self.parts.sides]
            return [block + side.reach for block, side in zip(blocks, self.parts.sides, strict=True)]
        rows, columns = self.parts.rows, self.parts.columns
        assert rows is not None and rows.result is not None and self.roles.n.size is not None
        places = (self._capacity(place, rows.result) - 1) * self.pitch + self.roles.n.size
        tiles = -(-places // self.builder.shape.lane_count)
        last = tiles * self.builder.shape.lane_count - 1 + rows.reach * self.pitch + columns.reach
        return [last // self.pitch + 1, self.pitch]

    # The product

    def _is_whole(self, place: Place) -> SSAValue | None:
        """One way for all tiles: the buffer has all places that a tile reads, so only the store looks at edges."""
        return None

    def _sum(self, place: Place, loops: Sequence[Loop], accumulator: SSAValue, unroll: int | None) -> SSAValue:
        if not self.by_rows:
            return super()._sum(place, loops, accumulator, unroll)
        channel = [] if self.parts.channel is None else [self.parts.channel]
        return self._sum_rows(place, [*channel, *self.parts.places[:-1]], accumulator, unroll)

    def _sum_rows(self, place: Place, axes: Sequence[Axis], accumulator: SSAValue, unroll: int | None) -> SSAValue:
        """Loops over ``axes``, one step at a time, with the sums in registers."""
        if not axes:
            return super()._sum(place, (), accumulator, unroll)

        def inside(inner: Place, carried: list[SSAValue]) -> Sequence[SSAValue]:
            return (self._sum_rows(inner, axes[1:], carried[0], unroll),)

        return self.builder.loop(place, axes[0], self.builder.bounds(place, axes[0]), 1, [accumulator], inside)[0]

    def _chain_length(self, place: Place) -> SSAValue:
        """The extent of k: channels times places of the filter, or the places of a row."""
        channel, index = self.parts.channel, self.builder.index
        if self.by_rows:
            return index.value(self.parts.places[-1].size or 1)
        channels: Index = 1 if channel is None else place.spans[channel].extent
        return index.value(index.mul(channels, self.parts.place_count))

    def _operand(self, place: Place, position: int) -> SSAValue:
        """The window of one register tile on the filter, or on the buffer with the image."""
        length, extent = self._steps_of_k(place)
        coordinates = Coordinates()
        if position == self.roles.lhs:
            rows, m = self.builder.shape.row_count, self.roles.m
            filters: Index = rows if m is None else place.spans[m].extent
            cut = None if filters == rows else self.builder.index.value(filters)
            source = self.builder.memory[self.roles.nest.inputs[position]]
            results, shape, extents = self._filter(place, coordinates), (rows, length), (cut, extent)
        else:
            staged = self.staged[position]
            source, lanes = staged.buffer, self.builder.shape.lane_count
            results, shape, extents = self._image(place, coordinates, staged), (length, lanes), (extent, None)
        by = AffineMap(2, len(coordinates.indices), tuple(results))
        return self.builder.lowering.insert(tile.WindowOp(source, coordinates.indices, shape, extents, by)).result

    def _steps_of_k(self, place: Place) -> tuple[int, SSAValue | None]:
        """How many steps of k a window has room for, and how many there are if that may be less."""
        channel = self.parts.channel
        if self.by_rows:
            return self.parts.places[-1].size or 1, None
        if channel is None:
            return self.parts.place_count, None
        capacity = self._capacity(place, channel)
        whole = place.spans[channel].extent == capacity
        return capacity * self.parts.place_count, None if whole else self._chain_length(place)

    def _place(self, place: Place, coordinates: Coordinates, axis: Axis, k: AffineExpr) -> AffineExpr:
        """Which place of the filter along ``axis`` a step of k is at."""
        if self.by_rows:
            return k if axis == self.parts.places[-1] else coordinates.sum(place.spans[axis].starts)
        position = self.parts.places.index(axis)
        inner = prod(place.size or 1 for place in self.parts.places[position + 1 :])
        assert axis.size is not None
        return (k if inner == 1 else k // inner) % axis.size

    def _filter(self, place: Place, coordinates: Coordinates) -> list[AffineExpr]:
        row, k = AffineExpr.dimension(0), AffineExpr.dimension(1)

        def coordinate(entry: AxisOrUnit) -> AffineExpr:
            if not isinstance(entry, Axis):
                return AffineExpr.constant(0)
            if entry in self.parts.places:
                return self._place(place, coordinates, entry, k)
            starts = self.builder.span(place, entry).starts
            if entry == self.parts.channel and not self.by_rows:
                return coordinates.sum(starts, k // self.parts.place_count)
            return coordinates.sum(starts, *([row] if entry == self.roles.m else []))

        return [coordinate(entry) for entry in self._operand_axes(self.roles.lhs)]

    def _image(self, place: Place, coordinates: Coordinates, staged: Staged) -> list[AffineExpr]:
        k, lane = AffineExpr.dimension(0), AffineExpr.dimension(1)
        channel = self.parts.channel
        results = [AffineExpr.constant(0) if channel is None else k // self.parts.place_count]
        if self.by_rows and channel is not None:
            results = [coordinates.sum(place.spans[channel].starts[staged.skip[channel] :])]
        steps: list[AffineExpr] = []
        for side in self.parts.sides:
            steps.append(AffineExpr.constant(0))
            moved = (
                AffineExpr.constant(0)
                if side.place is None
                else self._place(place, coordinates, side.place, k) * side.dilation
            )
            if side.stride == 1:
                steps[-1] = moved
                continue
            moved = moved + side.offset
            results.append(moved % side.stride)
            steps[-1] = moved // side.stride + -side.first
        for at, side in enumerate(self.parts.sides):
            if side.result is not None:
                starts = place.spans[side.result].starts[staged.skip.get(side.result, 0) :]
                steps[at] = coordinates.sum(starts, steps[at], *([lane] if side.result == self.roles.n else []))
        if self.pitch is None:
            return [*results, *steps]
        row, column = steps
        run = row * self.pitch + column
        return [*results, run // self.pitch, run % self.pitch]
