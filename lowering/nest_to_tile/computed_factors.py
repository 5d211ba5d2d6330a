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

    @staticmethod
    def filled(place: Place, axis: Axis, size: int) -> Place:
        """``place`` where ``size`` elements along ``axis`` may be read, as a buffer has them all."""
        return Place({**place.spans, axis: Span(place.spans[axis].starts, size)})

    def stage(self, place: Place, capacity: tuple[int, int]) -> SSAValue:
        """Compute the block of the factor at ``place`` into a buffer for ``capacity`` rows and columns."""
        lhs = self.position == self.roles.lhs
        rows, columns = (self.roles.m, self.roles.k) if lhs else (self.roles.k, self.roles.n)
        shape = self._shape(rows, columns, capacity[1])
        builder = self.builder.of_shape(shape)
        room = [round_up(size, step) for size, step in zip(capacity, (shape.row_count, shape.lane_count), strict=True)]
        element = self._element
        if lhs:
            room[1] += PITCH_PADDING * 8 // bits(element)
        buffer = builder.lowering.insert(tile.AllocOp(tile.BufferType(room, element))).result
        value = self.roles.nest.inputs[self.position]
        along = builder.axes.of_operand(self.roles.nest, self.position)
        skip = {axis: len(span.starts) for axis, span in place.spans.items()}
        places = {axis: at for at, axis in enumerate((rows, columns)) if axis is not None}
        steps = [] if rows is None else [(rows, shape.row_count)]

        def store(inside: Place, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            result = builder.tile(inside, value, along)
            if element != element_type(value):
                result = builder.cast(result, element)
            whole = inside
            for axis, size in ((rows, shape.row_count), (columns, shape.lane_count)):
                whole = whole if axis is None else self.filled(whole, axis, size)
            size = (shape.row_count, shape.lane_count)
            window = builder.window(whole, buffer, (rows, columns), size, places.get, skip)
            builder.lowering.insert(tile.StoreOp(result, window))
            return ()

        def row(inside: Place, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            self._fold_row(builder, inside, columns, shape)
            last = value.owner
            assert isinstance(last, GenericOp)
            compute_before(builder, inside, [last], [columns])
            builder.loops(inside, [(columns, shape.lane_count)], (), store)
            return ()

        builder.loops(Place(place.spans), steps, (), row)
        return buffer

    @property
    def _element(self) -> Attribute:
        """The type of what is staged: the sums' if the instruction multiplies that, else the factor's own."""
        row = find_intrinsic(self.intrinsic)
        taken = row.lhs.element if self.position == self.roles.lhs else row.rhs.element
        wide = self.roles.element
        return wide if taken == str(wide) else element_type(self.roles.nest.inputs[self.position])

    def _shape(self, rows: Axis | None, columns: Axis, capacity: int) -> TileShape:
        """Rows one by one, several vectors at a time; square blocks where something lies across."""
        axes, size = self.builder.axes, columns.size
        lanes = find_intrinsic(self.intrinsic).n
        if axis_across(axes, self.roles, self.position, columns) is not None:
            return TileShape(rows, lanes, columns, lanes)
        # The step decides in which order a row is folded, so it must not follow from how k is blocked.
        needed = capacity if self.position == self.roles.rhs else size
        vectors = SWEEP_VECTORS if needed is None else min(SWEEP_VECTORS, -(-max(needed, 1) // lanes))
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
