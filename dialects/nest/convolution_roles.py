"""Which axes of a convolution play which part: what is moved over the image, and by what.

An image is read through a window: one of its dimensions, or two, are walked by an axis of the result and by a place of
the filter, ``stride * w + dilation * s - padding``. The result's last axis, ``w``, walks along the image's last
dimension, and the sum is over channels first and then over the filter's places, in the order in which both lie in
memory. So an image staged once, with its padding, serves all places of the filter, and a window of it is a matrix whose
rows are channels and places in one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from crosstile.dialects.nest.axes import Axis, AxisOrUnit, AxisSum, KernelAxes
from crosstile.dialects.nest.contraction_roles import ContractionRoles


@dataclass(frozen=True)
class Side:
    """A dimension of the image: ``stride * result + dilation * place + offset``, each axis None if there is none."""

    dim: int
    result: Axis | None
    place: Axis | None
    stride: int
    dilation: int
    offset: int

    def at(self, place: int) -> tuple[int, int]:
        """For a place of the filter: of each ``stride`` neighbours in the image which one, and how far along."""
        where = self.dilation * place + self.offset
        return where % self.stride, where // self.stride

    @property
    def first(self) -> int:
        """The least step along at which an element is read for the result's first."""
        return self.offset // self.stride

    @property
    def reach(self) -> int:
        """How many steps more are read for each place of the result than one."""
        last = 0 if self.place is None or self.place.size is None else self.place.size - 1
        return (self.dilation * last + self.offset) // self.stride - self.first


@dataclass(frozen=True)
class ConvolutionRoles:
    """A contraction of which one factor is an image: the right one, or the left one if channels are last.

    ``sides`` has the dimension of the image that its columns lie along and, before it, the other.
    ``channel`` is the reduced axis that is no place of the filter, None if there is one channel.
    """

    roles: ContractionRoles
    along: tuple[AxisOrUnit, ...]
    sides: tuple[Side, ...]
    channel: Axis | None
    places: tuple[Axis, ...]

    @property
    def place_count(self) -> int:
        """How many places the filter has."""
        return prod(place.size or 1 for place in self.places)

    @property
    def columns(self) -> Side:
        """The last dimension, along which lanes lie."""
        return self.sides[-1]

    @property
    def rows(self) -> Side | None:
        """The other dimension of the image."""
        return self.sides[0] if len(self.sides) > 1 else None


def convolution_roles(axes: KernelAxes, roles: ContractionRoles) -> ConvolutionRoles | None:
    """The parts of a contraction that is a convolution as the module says; None for any other."""
    along, others = (axes.of_operand(roles.nest, position) for position in (roles.rhs, roles.lhs))
    if any(isinstance(entry, AxisSum) for entry in others) or not any(isinstance(entry, AxisSum) for entry in along):
        return None
    reduced = axes.reduced(roles.nest)
    channels = [axis for axis in reduced if axis in along]
    places = tuple(axis for axis in reduced if axis not in along)
    if len(channels) > 1 or reduced != [*channels, *places] or any(not place.size for place in places):
        return None
    sides = _sides(axes, roles, along, places, roles.n)
    if sides is None or sides[-1].dim != len(along) - 1 or sides[-1].result != roles.n:
        return None
    used = [side.place for side in sides if side.place is not None]
    if sorted(used, key=places.index) != list(places) or len(sides) > 2:
        return None
    return ConvolutionRoles(roles, along, sides, channels[0] if channels else None, places)


def channels_last_roles(axes: KernelAxes, roles: ContractionRoles) -> ConvolutionRoles | None:
    """The parts of a convolution whose image is the left factor, its channels last in memory; None for any other.

    The sum is over the filter's places first and then over channels, and the register tile's rows are places of the
    image along its last dimension but the channels.
    """
    along, others = (axes.of_operand(roles.nest, position) for position in (roles.lhs, roles.rhs))
    if any(isinstance(entry, AxisSum) for entry in others) or not any(isinstance(entry, AxisSum) for entry in along):
        return None
    reduced = axes.reduced(roles.nest)
    places = tuple(axis for axis in reduced if axis not in along)
    if reduced != [*places, roles.k] or along[-1] != roles.k or any(not place.size for place in places):
        return None
    sides = _sides(axes, roles, along, places, roles.m)
    if sides is None or roles.m is None or sides[-1].result != roles.m or len(sides) > 2:
        return None
    used = [side.place for side in sides if side.place is not None]
    if sorted(used, key=places.index) != list(places):
        return None
    return ConvolutionRoles(roles, along, sides, roles.k, places)


def _sides(
    axes: KernelAxes,
    roles: ContractionRoles,
    along: Sequence[AxisOrUnit],
    places: Sequence[Axis],
    moving: Axis | None,
) -> tuple[Side, ...] | None:
    """The dimensions of the image that are walked by several axes, or by ``moving``."""
    found: list[Side] = []
    for dim, entry in enumerate(along):
        if not isinstance(entry, AxisSum):
            if entry is not None and entry == moving:
                found.append(Side(dim, moving, None, 1, 1, 0))
            continue
        moved = [(axis, factor) for axis, factor in entry.terms if axis not in places]
        placed = [(axis, factor) for axis, factor in entry.terms if axis in places]
        if len(moved) > 1 or len(placed) > 1 or any(factor < 1 for _, factor in entry.terms):
            return None
        result, stride = moved[0] if moved else (None, 1)
        place, dilation = placed[0] if placed else (None, 1)
        if result is not None and result not in axes.of_result(roles.nest.results[0]):
            return None
        found.append(Side(dim, result, place, stride, dilation, entry.constant))
    return tuple(found) or None
