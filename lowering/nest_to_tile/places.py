"""Where a tile stands: the start and the extent along each axis of a kernel, at one point of the tile program.

A tile of a generated kernel has two dimensions: ``rows`` of one axis by ``lanes`` of another. Along every other axis it
stands at a single step. A value that does not vary along rows or lanes has size 1 there and is broadcast when used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

from xdsl.ir import SSAValue
from xdsl.ir.affine import AffineBinaryOpKind, AffineExpr, AffineMap

from crosstile.dialects.nest.axes import Axis, AxisOrUnit, axes_among
from crosstile.ir.index_math import Index


@dataclass(frozen=True)
class TileShape:
    """The register tile of a kernel: which axes it spans and how far.

    With ``fold``, an axis and a pitch, the lanes are places: a place is a step of that axis, ``place floordiv pitch``,
    and one of the lanes' axis, ``place mod pitch``.

    With a ``rectangle`` of several axes, each with how far it goes, the rows count through them, the last one fastest:
    of 8 steps of h and 16 of w, row 35 is at step 2 of h and 3 of w. What is beyond the axes' ends is clipped.
    """

    rows: Axis | None
    row_count: int
    lanes: Axis | None
    lane_count: int
    fold: tuple[Axis, int] | None = None
    rectangle: tuple[tuple[Axis, int], ...] = ()

    def of(self, axes: Sequence[AxisOrUnit]) -> tuple[int, int]:
        """The shape of a tile of a value that lies along ``axes``."""
        among = axes_among(axes)
        down = [axis for axis, count in self.rectangle if count > 1] or [self.rows]
        rows = self.row_count if any(axis in among for axis in down) else 1
        across = self.lanes in among or (self.fold is not None and self.fold[0] in among)
        return rows, self.lane_count if self.lanes is not None and across else 1

    def dimension(self, axis: Axis | None) -> int | None:
        """0 for the axis of the rows, 1 for the axis of the lanes, None for every other."""
        if axis is None:
            return None
        return 0 if axis == self.rows else 1 if axis == self.lanes else None

    def digit(self, axis: Axis) -> Digit | None:
        """What of a row's number says how far along ``axis`` it is, if rows count through several axes."""
        weight = 1
        for position, (other, count) in reversed([*enumerate(self.rectangle)]):
            if other == axis:
                return Digit(weight, count if position else None)
            weight *= count
        return None


@dataclass(frozen=True)
class Digit:
    """A digit of a number: what is left of it divided by ``weight``, up to ``size``, None for all of that."""

    weight: int
    size: int | None

    def of(self, number: AffineExpr) -> AffineExpr:
        """The digit of ``number``."""
        if self.size == 1:
            return AffineExpr.constant(0)
        quotient = number if self.weight == 1 else number // self.weight
        return quotient if self.size is None else quotient % self.size


@dataclass(frozen=True)
class Span:
    """A place along one axis: the sum of ``starts`` (one per enclosing loop over the axis), and the extent from there.

    ``extent`` is a number where it is known to be the whole step of the innermost loop.
    """

    starts: tuple[Index, ...]
    extent: Index


TileKey = tuple[SSAValue, tuple[AxisOrUnit, ...], bool]
"""A value, the axes it lies along, and whether it is zero outside of its bounds."""


@dataclass(frozen=True)
class Place:
    """A point of the tile program: the span along each axis entered so far, and the tiles computed so far.

    Tiles computed in an outer place remain valid inside it, as they do not vary along axes entered later.
    """

    spans: Mapping[Axis, Span] = field(default_factory=dict[Axis, Span])
    tiles: dict[TileKey, SSAValue] = field(default_factory=dict[TileKey, SSAValue])
    windows: dict[TileKey, SSAValue] = field(default_factory=dict[TileKey, SSAValue])
    """The windows of the register tile made at this very place."""
    reciprocals: dict[SSAValue, SSAValue] = field(default_factory=dict[SSAValue, SSAValue])
    """Tiles that are divided by again and again, each with the tile of its reciprocals."""

    def branch(self) -> Place:
        """The same place in a region of its own: what is computed there does not reach the outside."""
        return Place(self.spans, dict(self.tiles), dict(self.windows), dict(self.reciprocals))

    def inside(self, axis: Axis, start: Index, extent: Index) -> Place:
        """The place one loop further in: at ``start`` within the current span of ``axis``, ``extent`` long."""
        outer = self.spans.get(axis)
        starts = (start,) if outer is None else (*outer.starts, start)
        spans = {**self.spans, axis: Span(starts, extent)}
        return Place(spans, dict(self.tiles), reciprocals=dict(self.reciprocals))


@dataclass(frozen=True)
class Walk:
    """A part of one source dimension's coordinate: ``factor`` times an axis that begins at the sum of ``starts``.

    ``dimension`` is the dimension of the tile that walks along the axis, if one does. With ``part`` it is the quotient
    or the remainder of a division by ``pitch`` that counts; with ``digit`` that of the tile's dimension alone.
    """

    starts: Sequence[Index]
    dimension: int | None
    factor: int = 1
    part: AffineBinaryOpKind | None = None
    pitch: int = 1
    digit: Digit | None = None


@dataclass(frozen=True)
class Coordinate:
    """One source dimension's coordinate: the sum of ``walks`` and a constant."""

    walks: Sequence[Walk]
    constant: int = 0


def window_map(coordinates: Sequence[Coordinate], rank: int) -> tuple[AffineMap, list[SSAValue]]:
    """The map of a window of ``rank`` and its indices. Starts that are known become constants."""
    indices: list[SSAValue] = []
    results: list[AffineExpr] = []
    for coordinate in coordinates:
        terms: list[AffineExpr] = []
        constant = coordinate.constant
        for walk in coordinate.walks:
            if walk.part is not None:
                terms.append(_times(_part(walk, indices), walk.factor))
                continue
            for start in walk.starts:
                if isinstance(start, int):
                    constant += walk.factor * start
                else:
                    terms.append(_times(AffineExpr.symbol(len(indices)), walk.factor))
                    indices.append(start)
            if walk.dimension is not None:
                along = AffineExpr.dimension(walk.dimension)
                terms.append(_times(along if walk.digit is None else walk.digit.of(along), walk.factor))
        terms += [AffineExpr.constant(constant)] if constant or not terms else []
        results.append(reduce(add, terms))
    return AffineMap(rank, len(indices), tuple(results)), indices


def _part(walk: Walk, indices: list[SSAValue]) -> AffineExpr:
    """The quotient or the remainder of a place."""
    terms: list[AffineExpr] = [] if walk.dimension is None else [AffineExpr.dimension(walk.dimension)]
    for start in walk.starts:
        if isinstance(start, int):
            terms.append(AffineExpr.constant(start))
        else:
            if start not in indices:  # quotient and remainder are seen to belong together by what they are of
                indices.append(start)
            terms.append(AffineExpr.symbol(indices.index(start)))
    place = reduce(add, terms)
    return place // walk.pitch if walk.part is AffineBinaryOpKind.FloorDiv else place % walk.pitch


def _times(expression: AffineExpr, factor: int) -> AffineExpr:
    return expression if factor == 1 else expression * factor
