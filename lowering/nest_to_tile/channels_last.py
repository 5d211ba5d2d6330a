"""Kernels around a convolution of an image with channels last: the image staged with its padding, rows of it in place.

    tile.for %h ... step 16 {
      %s = tile.stage (18 rows x 58 columns x 64 channels of the image, clipped)     the padding is zeros of the buffer
      tile.for %o ... step 64 { tile.for %h2 ... step 1 { tile.for %w ... step 6 {
        %c = tile.for %r ... step 1 iter_args(0) { tile.for %s ... step 1 {
          %a = tile.window %s by (d0, d1)[h2, r, w, s] -> (h2 + r, w + s + d0, d1)       6 places, 64 channels
          %b = tile.window %filter by (d0, d1)[r, s, o] -> (r, s, d0, o + d1)            read in place
          tile.contract %a, %b, ... extent 64 } }
        epilogue; tile.store

The sums stay in registers over all places of the filter. Rows of the left factor may lie any distance apart, so an
image that is walked with a stride is staged and read as any other, and one without padding is not staged at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from xdsl.ir import SSAValue
from xdsl.ir.affine import AffineExpr, AffineMap

from crosstile.dialects import tile
from crosstile.dialects.nest.axes import Axis, AxisOrUnit, AxisSum, KernelAxes
from crosstile.dialects.nest.contraction_roles import ContractionRoles
from crosstile.dialects.nest.convolution_roles import ConvolutionRoles, Side, channels_last_roles
from crosstile.dialects.nest.schedule import Loop, Schedule
from crosstile.ir.index_math import Index
from crosstile.lowering.nest_to_tile.contraction import ContractionKernel, Staged
from crosstile.lowering.nest_to_tile.convolution import Coordinates
from crosstile.lowering.nest_to_tile.places import Place


def channels_last_of(axes: KernelAxes, roles: ContractionRoles, schedule: Schedule) -> ConvolutionRoles | None:
    """The parts of a convolution with channels last whose schedule stages the image for all places of the filter."""
    parts = channels_last_roles(axes, roles)
    if parts is None or roles.lhs not in schedule.stage or roles.m is None:
        return None
    names = [loop.iterator.lower() for loop in schedule.loops]
    tile_at = names.index(roles.m.name.lower()) if roles.m.name.lower() in names else len(names)
    whole = all(
        names.index(axis.name.lower()) > tile_at for axis in (*parts.places, roles.k) if axis.name.lower() in names
    )
    return parts if whole and roles.k.size is not None else None


@dataclass
class ChannelsLastKernel(ContractionKernel):
    """The state of lowering one convolution with channels last."""

    parts: ConvolutionRoles = field(kw_only=True)
    covers_tiles: ClassVar[bool] = False
    """Whether the image's buffer has all places that a register tile reads, those beyond its edge included."""

    @property
    def depth(self) -> int:
        """The channels of the image's buffer."""
        return max(self.roles.k.size or 0, 1)

    def _stage(self, place: Place, entered: Axis, loop: Loop) -> None:
        """Stage the image as soon as every axis of the result that walks along it is blocked; the filter as ever."""
        lhs = self.roles.lhs
        moving = [side.result for side in self.parts.sides if side.result is not None]
        if lhs not in self.staged and all(self._blocked(place, axis) for axis in moving):
            self.staged[lhs] = self._stage_image(place)

    def _stage_image(self, place: Place) -> Staged:
        roles, index = self.roles, self.builder.index
        shape: list[int] = []
        extents: list[SSAValue | None] = []
        coordinates = Coordinates()

        def coordinate(dim: int, entry: AxisOrUnit) -> AffineExpr:
            here = AffineExpr.dimension(len(shape))
            side = next((side for side in self.parts.sides if side.dim == dim), None)
            if side is not None:
                starts = () if side.result is None else place.spans[side.result].starts
                capacity = 1 if side.result is None else self._capacity(place, side.result)
                extent: Index = 1 if side.result is None else place.spans[side.result].extent
                shape.append(_needed(side, capacity))
                needed = index.add(index.mul(index.sub(extent, 1), side.stride), _needed(side, 1))
                covered = extent == capacity or (self.covers_tiles and side.result == roles.m)
                extents.append(None if covered else index.value(needed))
                moved = coordinates.sum([index.mul(start, side.stride) for start in starts], here)
                return moved + side.offset
            if entry == roles.k:
                shape.append(self.depth)
                extents.append(None if roles.k.size else index.value(0))
                return here
            if entry is None:
                return AffineExpr.constant(0)
            assert isinstance(entry, Axis)
            return coordinates.sum(self.builder.span(place, entry).starts)

        results = tuple(coordinate(dim, entry) for dim, entry in enumerate(self.parts.along))
        source = self.builder.memory[roles.nest.inputs[roles.lhs]]
        by = AffineMap(len(shape), len(coordinates.indices), results)
        window = tile.WindowOp(source, coordinates.indices, shape, extents, by, True)
        staged = tile.StageOp(self.builder.lowering.insert(window).result, element=self._staged_type(roles.lhs))
        stage = self.builder.lowering.insert(staged)
        return Staged(stage.result, {axis: len(span.starts) for axis, span in place.spans.items()})

    def _operand(self, place: Place, position: int) -> SSAValue:
        if position != self.roles.lhs:
            return super()._operand(place, position)
        staged, roles = self.staged[position], self.roles
        entries: list[AxisOrUnit] = [AxisSum(tuple(terms_of(side)), 0) for side in self.parts.sides]
        shape = (self._capacity(place, roles.m), self._capacity(place, roles.k))
        dimension = {axis: at for at, axis in enumerate((roles.m, roles.k)) if axis is not None}
        return self.builder.window(place, staged.buffer, (*entries, roles.k), shape, dimension.get, staged.skip)


def _needed(side: Side, steps: int) -> int:
    """How many elements of the image ``steps`` of the result read along one side."""
    places = 1 if side.place is None or side.place.size is None else side.place.size
    return (steps - 1) * side.stride + (places - 1) * side.dilation + 1


def terms_of(side: Side) -> list[tuple[Axis, int]]:
    """The axes that move along one side of a staged image, with their steps."""
    moving = [] if side.result is None else [(side.result, side.stride)]
    return moving + ([] if side.place is None else [(side.place, side.dilation)])
