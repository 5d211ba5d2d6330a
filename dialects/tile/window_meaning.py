"""What a window means: which elements of an array it shows, read with padding and written where valid.

A map whose every coordinate is linear with positive strides is a NumPy slice, a view that costs nothing. Gathers,
``floordiv`` and ``mod`` compute the coordinates of all elements and index with arrays::

    %A[%i, %k] extent [%mc, %kc]              source[i : i + mc, k : k + kc]
    %A by (d0, d1)[s0] -> (d0 floordiv 3, d1) [..]     source[(arange(m) // 3)[:, None], arange(n)]
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, cast

import numpy as np
from xdsl.ir.affine import (
    AffineBinaryOpExpr,
    AffineBinaryOpKind,
    AffineConstantExpr,
    AffineDimExpr,
    AffineExpr,
    AffineMap,
)

from crosstile.dialects.element_types import Array, is_poison
from crosstile.dialects.tile.coverage import Coverage
from crosstile.dialects.tile.window import WindowOp
from crosstile.dialects.upstream_meaning import evaluate_map
from crosstile.ir.diagnostics import CrosstileError

Box = tuple[int, ...]


@lru_cache(maxsize=4096)
def strides_per_dim(map_: AffineMap) -> tuple[tuple[int, int] | None, ...] | None:
    """Per result of ``map_`` the one dim it moves with and its positive stride, or None if it moves with none.

    None as a whole if the map is not of that kind: a dim in two results, ``floordiv``, a negative stride.
    """
    found: list[tuple[int, int] | None] = []
    for result in map_.results:
        strides = _linear(result)
        if strides is None or len(strides) > 1 or any(stride <= 0 for stride in strides.values()):
            return None
        found.append(next(iter(strides.items()), None))
    dims = [entry[0] for entry in found if entry is not None]
    return tuple(found) if len(set(dims)) == len(dims) else None


def _linear(expression: AffineExpr) -> dict[int, int] | None:
    """The strides of the dims in ``expression`` if it is linear in them; symbols may stand anywhere without a dim."""
    parts = list(expression.dfs())
    if not any(isinstance(part, AffineDimExpr) for part in parts):
        return {}
    if isinstance(expression, AffineDimExpr):
        return {expression.position: 1}
    if not isinstance(expression, AffineBinaryOpExpr):
        return None
    lhs, rhs = _linear(expression.lhs), _linear(expression.rhs)
    if lhs is None or rhs is None:
        return None
    if expression.kind is AffineBinaryOpKind.Add:
        return {dim: lhs.get(dim, 0) + rhs.get(dim, 0) for dim in lhs | rhs}
    if expression.kind is AffineBinaryOpKind.Mul and isinstance(expression.rhs, AffineConstantExpr):
        return {dim: stride * expression.rhs.value for dim, stride in lhs.items()}
    return None


@dataclass(frozen=True)
class _Slices:
    """The valid part of a window as slices: ``region`` of the window, ``index`` of its source (None if it is empty)."""

    region: tuple[slice, ...]
    index: tuple[slice | int, ...] | None
    order: tuple[int, ...]
    """The dimension of the window that each slice of ``index`` is."""

    def of(self, array: Array) -> Array:
        """A view of ``array``, which has the shape of the source, with the dimensions of the window."""
        shape = [part.stop - part.start for part in self.region]
        if self.index is None:
            return np.empty(shape, array.dtype)
        view = array[(*self.index, ...)]  # with the ellipsis, all integers give a view too
        if any(before > after for before, after in pairwise(self.order)):
            view = view.transpose(np.argsort(self.order))
        if len(self.order) < len(shape):
            view = np.expand_dims(view, [dim for dim in range(len(shape)) if dim not in self.order])
        if view.shape != tuple(shape):
            view = np.broadcast_to(view, shape)
        return view


@dataclass(frozen=True)
class Window:
    """The value of a ``tile.window``: an array, and where in it. ``extents`` has one entry per dimension."""

    op: WindowOp
    source: Array
    symbols: tuple[Any, ...]
    capacity: Box
    extents: Box
    from_memory: bool

    def read(self, coverage: Coverage, pad: Any, shape: Box | None = None) -> Array:
        """The elements inside ``shape`` (the capacity if not given), ``pad`` where they are invalid.

        The array may be a view of the source, which the caller must not write. Raises a CrosstileError for a valid
        element outside the source or never written.
        """
        shape = self.capacity if shape is None else shape
        box = tuple(min(size, extent) for size, extent in zip(shape, self.extents, strict=True))
        slices = self._slices(box)
        if slices is None:
            return self._gather(coverage, pad, shape, box)
        view = slices.of(self.source)
        self._check_written(coverage, view)
        if view.shape == shape:
            return view
        result = _filled(shape, pad, self.source.dtype)
        result[slices.region] = view
        return result

    def write(self, coverage: Coverage, value: Array) -> None:
        """Store the valid elements of ``value``, an array of the capacity.

        Raises a CrosstileError for a valid element outside the source, and for an element that was also written by
        another instance of the kernel, or twice by this one through a tile of indices.
        """
        slices = self._slices(self.extents)
        if slices is not None:
            slices.of(self.source)[...] = value[slices.region]
            coverage.record(self.source, slices.of, self._describe)
            return
        coordinates, valid = self._coordinates(self.extents)
        places = tuple(coordinate[valid] for coordinate in coordinates)
        flat = np.ravel_multi_index(places, self.source.shape) if places[0].size else places[0]
        if len(np.unique(flat)) != len(flat):
            raise CrosstileError(f"writes one element twice, of {self._describe()}")
        self.source[places] = value[_corner(self.extents)][valid]
        coverage.record(self.source, lambda array: array[places], self._describe, places)

    # Maps that are slices

    def _slices(self, box: Box) -> _Slices | None:
        """The valid part of ``box``; None if the map is no matter of slices."""
        strides = strides_per_dim(self.op.map.data)
        if strides is None or any(isinstance(symbol, np.ndarray) for symbol in self.symbols):
            return None
        order = tuple(entry[0] for entry in strides if entry is not None)
        bounds = [(0, extent) for extent in box]
        starts = evaluate_map(self.op.map.data, [0] * len(box), self.symbols)
        empty = 0 in box
        for axis, (start, entry) in enumerate(zip(starts, strides, strict=True)):
            if empty:
                break
            size = self.source.shape[axis]
            last = start if entry is None else start + (box[entry[0]] - 1) * entry[1]
            if start >= 0 and last < size:
                continue
            if self.op.clip is None:
                raise self._outside(axis, start if start < 0 else last, size)
            if entry is not None:
                dim, stride = entry
                bounds[dim] = max(0, -(start // stride)), min(box[dim], (size - 1 - start) // stride + 1)
            empty = entry is None or bounds[entry[0]][0] >= bounds[entry[0]][1]
        if empty:
            return _Slices(tuple(slice(0, 0) if self.op.clip else slice(0, extent) for extent in box), None, order)
        index: list[slice | int] = []
        for start, entry in zip(starts, strides, strict=True):
            if entry is None:
                index.append(start)
            else:
                low, high = bounds[entry[0]]
                index.append(slice(start + low * entry[1], start + (high - 1) * entry[1] + 1, entry[1]))
        return _Slices(tuple(slice(*bound) for bound in bounds), tuple(index), order)

    # Any map

    def _coordinates(self, box: Box) -> tuple[list[Array], Array]:
        """The coordinates in the source of every element of ``box``, and which elements are valid."""
        dims = [np.arange(extent).reshape(_along(dim, len(box))) for dim, extent in enumerate(box)]
        valid = np.ones(box, np.bool_)
        symbols: list[Any] = []
        for symbol in self.symbols:
            if isinstance(symbol, np.ndarray):
                symbol = _cut(cast(Array, symbol), box)
                valid &= symbol >= 0
            symbols.append(symbol)
        results = evaluate_map(self.op.map.data, dims, symbols)
        coordinates = [np.broadcast_to(np.asarray(result), box) for result in results]
        for axis, (coordinate, size) in enumerate(zip(coordinates, self.source.shape, strict=True)):
            outside = (coordinate < 0) | (coordinate >= size)
            if self.op.clip is not None:
                valid &= ~outside
            elif (valid & outside).any():
                raise self._outside(axis, int(coordinate[valid & outside][0]), size)
        return coordinates, valid

    def _gather(self, coverage: Coverage, pad: Any, shape: Box, box: Box) -> Array:
        coordinates, valid = self._coordinates(box)
        result = _filled(shape, pad, self.source.dtype)
        values = self.source[tuple(coordinate[valid] for coordinate in coordinates)]
        self._check_written(coverage, values)
        result[_corner(box)][valid] = values
        return result

    # Errors

    def _check_written(self, coverage: Coverage, values: Array) -> None:
        if self.from_memory and values.size and bool(is_poison(values).any()):
            coverage.never_written(self._describe())

    def _outside(self, axis: int, coordinate: int, size: int) -> CrosstileError:
        return CrosstileError(
            f"reaches outside {self._describe()}: a valid element has coordinate {coordinate} in dimension {axis}, "
            f"whose size is {size}; give the window an extent or 'clip'"
        )

    def _describe(self) -> str:
        symbols = ("a tile" if isinstance(symbol, np.ndarray) else str(symbol) for symbol in self.symbols)
        extents = ", ".join(map(str, self.extents))
        shape = "x".join(map(str, self.source.shape))
        return f"a window of a {shape} source at indices [{', '.join(symbols)}] with extent [{extents}]"


def _along(dim: int, rank: int) -> list[int]:
    return [-1 if axis == dim else 1 for axis in range(rank)]


def _corner(box: Box) -> tuple[slice, ...]:
    return tuple(slice(0, extent) for extent in box)


def _cut(index: Array, box: Box) -> Array:
    """The part of a tile of indices that belongs to ``box``; dimensions of size 1 stay."""
    sizes = zip(index.shape, box, strict=True)
    return index[tuple(slice(0, min(size, extent) if size > 1 else 1) for size, extent in sizes)]


def _filled(shape: Box, pad: Any, dtype: np.dtype[Any]) -> Array:
    """An array of padding; zeros come cleared from the system, so a large capacity costs nothing until it is used."""
    if pad is None or (pad == 0 and not np.signbit(pad)):
        return np.zeros(shape, dtype)
    return np.full(shape, pad, dtype)
