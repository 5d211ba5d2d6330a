"""Windows as places of loads and stores: what does not move with the tile is added up, the rest stays a map.

    tile.window %A[%i + %ir, %k] extent [%mr, %kc] : memref<?x?xf32> -> !tile.window<4x512xf32>
    column %p of it:  %A[%i + %ir, %k + %p] extent [%mr, %kc - %p]

A window is not an operation below the ``tile`` level; every use of it makes its own loads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from xdsl.dialects.builtin import AffineMapAttr, UnitAttr
from xdsl.ir import SSAValue
from xdsl.ir.affine import (
    AffineDimExpr,
    AffineExpr,
    AffineMap,
    AffineSymExpr,
)

from crosstile.dialects import mma, tile
from crosstile.dialects.amx import NONTEMPORAL
from crosstile.dialects.assembly import LiteralAttr, default_map, number_of
from crosstile.ir.index_math import Index
from crosstile.lowering.affine_steps import summands
from crosstile.lowering.linear_index import Linear
from crosstile.lowering.tile_to_mma.state import INDEX, TileLowering


@dataclass(frozen=True)
class Place:
    """Where the elements of a window, a whole buffer or a part of either are.

    ``symbols`` are the values of the map's symbols: sums of indices, or fragments of indices. ``extents`` has an entry
    per dimension, None where the whole capacity is meant.
    """

    source: SSAValue
    shape: tuple[int, ...]
    map: AffineMap
    symbols: tuple[Linear | SSAValue, ...]
    extents: tuple[Index | None, ...]
    clip: bool = False

    def part(self, lowering: TileLowering, shape: Sequence[int], offsets: Mapping[int, Index | Linear]) -> Place:
        """The part of ``shape`` that begins at ``offsets`` (0 for dimensions not named).

        Along a dimension of size 1 with a linear offset nothing moves: its quotients and remainders are known here.
        """
        expressions: list[AffineExpr] = [AffineExpr.dimension(dim) for dim in range(len(self.shape))]
        symbols = list(self.symbols)
        extents = list(self.extents)
        for dim, offset in offsets.items():
            begin = AffineExpr.symbol(len(symbols))
            stands = isinstance(offset, Linear) and shape[dim] == 1
            expressions[dim] = begin if stands else expressions[dim] + begin
            symbols.append(offset if isinstance(offset, Linear) else lowering.linear.of_new(offset))
            if (extent := extents[dim]) is not None:
                at = lowering.linear.value(offset) if isinstance(offset, Linear) else offset
                extents[dim] = lowering.index.sub(extent, at)
        moved = self.map.replace_dims_and_symbols(
            expressions,
            [AffineExpr.symbol(symbol) for symbol in range(len(self.symbols))],
            len(self.shape),
            len(symbols),
        )
        return replace(self, shape=tuple(shape), map=moved, symbols=tuple(symbols), extents=tuple(extents))

    def transposed(self) -> Place:
        """The same elements with rows and columns exchanged; no index may be a fragment."""
        dims = [AffineExpr.dimension(1), AffineExpr.dimension(0)]
        symbols = [AffineExpr.symbol(symbol) for symbol in range(len(self.symbols))]
        exchanged = self.map.replace_dims_and_symbols(dims, symbols, 2, len(symbols))
        return replace(self, shape=self.shape[::-1], map=exchanged, extents=self.extents[::-1])

    def without_extent(self, *dims: int) -> Place:
        """The same with all of the capacity of ``dims`` valid."""
        return replace(self, extents=tuple(None if d in dims else extent for d, extent in enumerate(self.extents)))

    def cut(self, lowering: TileLowering, dim: int, extent: Index) -> Place:
        """The same with no more than ``extent`` of dimension ``dim`` valid."""
        known = self.extents[dim]
        extent = extent if known is None else lowering.index.minimum(known, extent)
        return replace(self, extents=(*self.extents[:dim], extent, *self.extents[dim + 1 :]))

    def operands(self, lowering: TileLowering) -> tuple[list[SSAValue], AffineMapAttr | None]:
        """The indices and the map of a load or store here: one index per coordinate for what does not move."""
        rank = len(self.shape)
        bases: list[Linear] = []
        moving: list[list[AffineExpr]] = []
        for result in self.map.results:
            terms = summands(result)
            fixed = [term for term in terms if not self._moves(term)]
            bases.append(
                sum((lowering.linear.evaluate(term, [], self._linear_symbols()) for term in fixed), start=Linear())
            )
            moving.append([term for term in terms if self._moves(term)])
        indices = [lowering.index.value(lowering.linear.value(base)) for base in bases]
        kept = sorted(
            {
                part.position
                for terms in moving
                for term in terms
                for part in term.dfs()
                if isinstance(part, AffineSymExpr)
            }
        )
        renumbered: list[AffineExpr] = [AffineExpr.constant(0)] * len(self.symbols)
        for number, symbol in enumerate(kept):
            renumbered[symbol] = AffineExpr.symbol(len(bases) + number)
            value = self.symbols[symbol]
            indices.append(value if isinstance(value, SSAValue) else lowering.index.value(lowering.linear.value(value)))
        dims: list[AffineExpr] = [AffineExpr.dimension(dim) for dim in range(rank)]
        results: list[AffineExpr] = []
        for number, terms in enumerate(moving):
            total = AffineExpr.symbol(number)
            for term in terms:
                total = total + term.replace_dims_and_symbols(dims, renumbered)
            results.append(total)
        by = AffineMap(rank, len(indices), tuple(results))
        same = rank <= len(results) and by == default_map(rank, len(results))
        return indices, None if same else AffineMapAttr(by)

    def _moves(self, term: AffineExpr) -> bool:
        """Whether a term depends on the place in the tile: on its coordinates, or on a fragment of indices."""
        return any(
            isinstance(part, AffineDimExpr)
            or (isinstance(part, AffineSymExpr) and isinstance(self.symbols[part.position], SSAValue))
            for part in term.dfs()
        )

    def _linear_symbols(self) -> list[Linear]:
        return [Linear() if isinstance(symbol, SSAValue) else symbol for symbol in self.symbols]

    def extent_values(self, lowering: TileLowering) -> list[SSAValue | None]:
        """The extents as operands, those that cut nothing left out."""
        return [
            None if extent is None or (isinstance(extent, int) and extent >= size) else lowering.index.value(extent)
            for extent, size in zip(self.extents, self.shape, strict=True)
        ]

    def load(
        self,
        lowering: TileLowering,
        fragment: mma.FragmentType,
        pad: float | int | None = None,
        clamp: Sequence[int] = (),
        condition: SSAValue | None = None,
        otherwise: float | int | None = None,
        nontemporal: bool = False,
    ) -> SSAValue:
        """The fragment that this place holds; along ``clamp`` the last valid element stands for those beyond.

        With ``nontemporal`` the first-level cache need not keep it.
        """
        indices, by = self.operands(lowering)
        extents = self.extent_values(lowering)
        clamped = [dim for dim in clamp if extents[dim] is not None]
        load = mma.LoadOp(self.source, indices, fragment, extents, condition, otherwise, pad, clamped, by, self.clip)
        if nontemporal:
            load.attributes[NONTEMPORAL] = UnitAttr()
        return lowering.insert(load).result

    def store(
        self,
        lowering: TileLowering,
        value: SSAValue,
        nontemporal: SSAValue | None = None,
        through: SSAValue | None = None,
    ) -> None:
        """Write the valid elements, past the caches where ``nontemporal`` holds, or ``through`` scratch."""
        indices, by = self.operands(lowering)
        extents = self.extent_values(lowering)
        lowering.insert(mma.StoreOp(value, self.source, indices, extents, by, self.clip, nontemporal, through))


def window_of(value: SSAValue, lowering: TileLowering) -> tile.WindowOp:
    """The operation that defines a window."""
    if not isinstance(value.owner, tile.WindowOp):
        raise lowering.error("uses a window that no tile.window defines; windows are not passed on")
    return value.owner


def place_of_window(window: tile.WindowOp, lowering: TileLowering) -> Place:
    """The place that a window names."""
    symbols = tuple(
        lowering.linear.of(index) if index.type == INDEX else lowering.value(index) for index in window.indices
    )
    extents = tuple(None if extent is None else lowering.as_index(extent) for extent in window.extents_by_dim)
    shape = window.result.type.get_shape()
    return Place(lowering.value(window.source), shape, window.map.data, symbols, extents, window.clip is not None)


def place_of_buffer(buffer: SSAValue, shape: Sequence[int]) -> Place:
    """The place that is the whole of a new buffer, or its first elements."""
    assert isinstance(buffer.type, mma.BufferType)
    rank = len(buffer.type.get_shape())
    return Place(buffer, tuple(shape), AffineMap.identity(rank), (), (None,) * rank)


def whole_buffer(buffer: SSAValue) -> Place:
    """The place that is the whole of a new buffer."""
    assert isinstance(buffer.type, mma.BufferType)
    return place_of_buffer(buffer, buffer.type.get_shape())


def lower_window(op: tile.WindowOp, lowering: TileLowering) -> None:
    """Nothing: its uses make the loads and stores."""
    lowering.map_value(op.result)


def store_to_scratch(fragment: SSAValue, lowering: TileLowering) -> SSAValue:
    """A row-major buffer that holds a fragment."""
    assert isinstance(fragment.type, mma.FragmentType)
    shape, element = fragment.type.get_shape(), fragment.type.get_element_type()
    buffer = lowering.insert(mma.AllocOp(mma.BufferType.of(shape, element))).result
    place_of_buffer(buffer, shape).store(lowering, fragment)
    return buffer


def number(literal: LiteralAttr | None) -> float | int | None:
    """The number of an optional literal."""
    return None if literal is None else number_of(literal)
