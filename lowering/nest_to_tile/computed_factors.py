"""Factors of a matrix product that are computed where they are staged, a block at a time.

    %a = tile.alloc : !tile.buffer<1020x2048xf32>                   the block that the product meets next
    tile.for %m ... step 1 {
      %total = tile.for %k ... step 64 iter_args(...)                only if something is folded along rows: all of k
      %scale = tile.map (tile.reduce add %total) { rsqrt ... }
      tile.for %k ... step 64 {
        %t = tile.map (tile.load %x, %scale) { x * scale }
        tile.store %t, (window of %a) } }
    ... tile.contract (window of %a), (window of %b), %c

The buffer holds the block row-major, as the left factor is read and as a panel of the right one is. What a factor is
computed from may lie the other way in memory; it is then computed in square blocks, which are transposed in registers.
A right factor that is read in words of several k is computed as many rows at a time, which are interleaved on the way
to the buffer; one that lies the other way is computed as it lies, and packed from there.
Whole steps are stored, whatever their extent: the buffer has room for them, and what lies beyond is not summed up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.ir import Attribute, SSAValue

from crosstile.dialects import tile
from crosstile.dialects.mma.intrinsics import find_intrinsic
from crosstile.dialects.nest.analysis import element_type
from crosstile.dialects.nest.axes import Axis
from crosstile.dialects.nest.contraction_roles import ContractionRoles
from crosstile.dialects.nest.generic import GenericOp
from crosstile.lowering.nest_to_tile.kernel_builder import KernelBuilder
from crosstile.lowering.nest_to_tile.places import Place, Span, TileShape
from crosstile.lowering.nest_to_tile.row_values import compute_before
from crosstile.lowering.nest_to_tile.sweeps import sweep_reduction
from crosstile.passes.schedules.computed import axis_across, computing
from crosstile.passes.schedules.register_tiles import bits, round_up
from crosstile.passes.schedules.sweeps import SWEEP_VECTORS

PITCH_PADDING = 64
"""Bytes between the rows of a left factor, so that those of a register tile do not all lie in the same set of L1, as
rows a multiple of 4096 bytes apart do. Measured with ``vpdpbusd`` on 20000x64x64: 0.38 ms instead of 0.66."""


@dataclass(frozen=True)
class ComputedFactor:
    """The factor at ``position`` of a product by ``intrinsic`` whose kernel computes it."""

    builder: KernelBuilder
    roles: ContractionRoles
    position: int
    intrinsic: str
    panel: int
    """The columns of the product's register tile."""

    @staticmethod
    def filled(place: Place, axis: Axis, size: int) -> Place:
        """``place`` where ``size`` elements along ``axis`` may be read, as a buffer has them all."""
        return Place({**place.spans, axis: Span(place.spans[axis].starts, size)})

    def stage(self, place: Place, capacity: tuple[int, int]) -> SSAValue:
        """Compute the block of the factor at ``place`` into a buffer for ``capacity`` rows and columns."""
        k, n = self.roles.k, self.roles.n
        if self._is_left:
            return self._compute(place, (self.roles.m, k), capacity)
        if find_intrinsic(self.intrinsic).k == 1 or not self._lies_across:
            return self._compute(place, (k, n), capacity)
        buffer = self._compute(place, (n, k), (capacity[1], capacity[0]))
        window = self.builder.window(place, buffer, (n, k), capacity, {k: 0, n: 1}.get, self._skip(place))
        return self.builder.lowering.insert(tile.StageOp(window)).result

    def _compute(self, place: Place, lies: tuple[Axis | None, Axis | None], capacity: tuple[int, int]) -> SSAValue:
        """The block at ``place`` in a buffer with rows and columns along the axes ``lies``."""
        rows, columns = lies
        assert columns is not None
        shape = self._shape(rows, columns)
        builder, counts = self.builder.of_shape(shape), (shape.row_count, shape.lane_count)
        room = [round_up(size, step) for size, step in zip(capacity, counts, strict=True)]
        element = self._element
        if columns == self.roles.k:
            room[1] += PITCH_PADDING * 8 // bits(element)
        buffer = builder.lowering.insert(tile.AllocOp(tile.BufferType(room, element))).result
        value = self.roles.nest.inputs[self.position]
        along = builder.axes.of_operand(self.roles.nest, self.position)

        def store(inside: Place, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            result = builder.tile(inside, value, along)
            if element != element_type(value):
                result = builder.cast(result, element)
            whole = inside
            for axis, size in zip(lies, counts, strict=True):
                whole = whole if axis is None else self.filled(whole, axis, size)
            window = builder.window(whole, buffer, lies, counts, shape.dimension, self._skip(place))
            builder.lowering.insert(tile.StoreOp(result, window))
            return ()

        def row(inside: Place, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            self._fold_row(builder, inside, columns, shape)
            last = value.owner
            assert isinstance(last, GenericOp)
            compute_before(builder, inside, [last], [columns])
            builder.loops(inside, [(columns, shape.lane_count)], (), store)
            return ()

        builder.loops(Place(place.spans), [] if rows is None else [(rows, shape.row_count)], (), row)
        return buffer

    @staticmethod
    def _skip(place: Place) -> dict[Axis, int]:
        """The loops that a buffer made at ``place`` is relative to."""
        return {axis: len(span.starts) for axis, span in place.spans.items()}

    @property
    def _is_left(self) -> bool:
        return self.position == self.roles.lhs

    @property
    def _lies_across(self) -> bool:
        """Whether something that the factor is computed from lies down its rows in memory."""
        columns = self.roles.k if self._is_left else self.roles.n
        return axis_across(self.builder.axes, self.roles, self.position, columns) is not None

    @property
    def _element(self) -> Attribute:
        """The type of what is staged: the sums' if the instruction multiplies that, else the factor's own."""
        row = find_intrinsic(self.intrinsic)
        taken = row.lhs.element if self.position == self.roles.lhs else row.rhs.element
        wide = self.roles.element
        return wide if taken == str(wide) else element_type(self.roles.nest.inputs[self.position])

    def _shape(self, rows: Axis | None, columns: Axis) -> TileShape:
        """Rows one by one, or those of a word, several vectors at a time; square blocks where something lies across."""
        size, row = columns.size, find_intrinsic(self.intrinsic)
        lanes = row.n
        if self._lies_across and rows != self.roles.n:
            return TileShape(rows, lanes, columns, lanes)
        if rows == self.roles.k:
            whole = self.panel // lanes
            vectors = max(count for count in range(1, SWEEP_VECTORS + 1) if whole % count == 0)
            return TileShape(rows, row.k, columns, vectors * lanes)
        # The step decides in which order a row is folded, so it must not follow from how k is blocked.
        vectors = SWEEP_VECTORS if size is None else min(SWEEP_VECTORS, -(-max(size, 1) // lanes))
        return TileShape(rows, 1, columns, vectors * lanes)

    def _fold_row(self, builder: KernelBuilder, place: Place, columns: Axis, shape: TileShape) -> None:
        """Fold what the factor needs of the row at ``place``: all of it, not the block of it that is staged."""
        folds = [nest for nest in computing(builder.axes, self.roles, self.position) if nest.combiner is not None]
        spans = {axis: span for axis, span in place.spans.items() if axis != columns}
        shared = [axis for axis in builder.axes.all() if axis != columns]
        for nest in folds:
            # Tiles that are found on the way are of the row, and stay.
            row = Place(spans, place.tiles, reciprocals=place.reciprocals)
            compute_before(builder, row, [nest], [columns])
            sweep_reduction(builder, row, nest, {columns: shape.lane_count}, shared)
