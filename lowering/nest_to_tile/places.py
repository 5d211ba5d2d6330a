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
from xdsl.ir.affine import AffineExpr, AffineMap

from crosstile.dialects.nest.axes import Axis, AxisOrUnit
from crosstile.ir.index_math import Index


@dataclass(frozen=True)
class TileShape:
    """The register tile of a kernel: which axes it spans and how far."""

    rows: Axis | None
    row_count: int
    lanes: Axis | None
    lane_count: int

    def of(self, axes: Sequence[AxisOrUnit]) -> tuple[int, int]:
        """The shape of a tile of a value that lies along ``axes``."""
        rows = self.row_count if self.rows is not None and self.rows in axes else 1
        lanes = self.lane_count if self.lanes is not None and self.lanes in axes else 1
        return rows, lanes

    def dimension(self, axis: AxisOrUnit) -> int | None:
        """0 for the axis of the rows, 1 for the axis of the lanes, None for every other."""
        if axis is None:
            return None
        return 0 if axis == self.rows else 1 if axis == self.lanes else None


@dataclass(frozen=True)
class Span:
    """A place along one axis: the sum of ``starts`` (one per enclosing loop over the axis), and the extent from there.

    ``extent`` is a number where it is known to be the whole step of the innermost loop.
    """

    starts: tuple[Index, ...]
    extent: Index


TileKey = tuple[SSAValue, tuple[AxisOrUnit, ...]]


@dataclass(frozen=True)
class Place:
    """A point of the tile program: the span along each axis entered so far, and the tiles computed so far.

    Tiles computed in an outer place remain valid inside it, as they do not vary along axes entered later.
    """

    spans: Mapping[Axis, Span] = field(default_factory=dict[Axis, Span])
    tiles: dict[TileKey, SSAValue] = field(default_factory=dict[TileKey, SSAValue])
    windows: dict[TileKey, SSAValue] = field(default_factory=dict[TileKey, SSAValue])
    """The windows of the register tile made at this very place."""

    def branch(self) -> Place:
        """The same place in a region of its own: what is computed there does not reach the outside."""
        return Place(self.spans, dict(self.tiles), dict(self.windows))

    def inside(self, axis: Axis, start: Index, extent: Index) -> Place:
        """The place one loop further in: at ``start`` within the current span of ``axis``, ``extent`` long."""
        outer = self.spans.get(axis)
        starts = (start,) if outer is None else (*outer.starts, start)
        return Place({**self.spans, axis: Span(starts, extent)}, dict(self.tiles))


def window_map(
    axes: Sequence[AxisOrUnit], starts: Sequence[Sequence[Index]], dimensions: Sequence[int | None], rank: int
) -> tuple[AffineMap, list[SSAValue]]:
    """The map of a window and its indices: each source dimension is the sum of its starts, plus a tile coordinate.

    ``dimensions`` gives the tile dimension that walks each source dimension, if one does. Known starts are constants.
    """
    indices: list[SSAValue] = []
    results: list[AffineExpr] = []
    for axis, summands, dimension in zip(axes, starts, dimensions, strict=True):
        terms: list[AffineExpr] = []
        constant = 0
        for summand in summands if axis is not None else ():
            if isinstance(summand, int):
                constant += summand
            else:
                terms.append(AffineExpr.symbol(len(indices)))
                indices.append(summand)
        terms += [] if dimension is None else [AffineExpr.dimension(dimension)]
        terms += [AffineExpr.constant(constant)] if constant or not terms else []
        results.append(reduce(add, terms))
    return AffineMap(rank, len(indices), tuple(results)), indices
