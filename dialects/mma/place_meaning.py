"""What a place in memory means: for every element of a tile its coordinates in memory, and whether it is valid.

The text of a place is that of ``place.py``. For a 2x4 tile at ``%A[5, 2] extent [_, 3]`` of a 6x5 matrix
coordinates are ([[5], [6]], [[2, 3, 4, 5]]), arrays that broadcast to the tile, and column 3 is not valid. Reading
element (6, 2), valid and outside the memory, is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir.affine import AffineMap

from crosstile.dialects.element_types import Array
from crosstile.dialects.upstream_meaning import evaluate_map
from crosstile.ir.diagnostics import CrosstileError


@dataclass(frozen=True)
class Elements:
    """Where the elements of a tile of ``shape`` are: coordinates that broadcast to it, and which are valid."""

    shape: tuple[int, ...]
    coordinates: tuple[Array, ...]
    valid: Array

    def read(self, memory: Array, pad: Any = 0) -> Array:
        """The elements as a new array; invalid ones are ``pad``. Raises CrosstileError outside ``memory``."""
        self.check(memory.shape, "reads")
        if not memory.ndim:
            return np.where(self.valid, memory, pad).astype(memory.dtype)
        if self.valid.all():
            return np.array(memory[np.broadcast_arrays(*self._expanded())])
        result = np.full(self.shape, pad, memory.dtype)
        result[self.valid] = memory[tuple(axis[self.valid] for axis in self._expanded())]
        return result

    def write(self, memory: Array, values: Array) -> None:
        """Write the valid elements of ``values``. Raises CrosstileError outside ``memory``."""
        self.check(memory.shape, "writes")
        if not memory.ndim:
            memory.reshape(1)[[0] * int(self.valid.sum())] = values[self.valid]
            return
        memory[tuple(axis[self.valid] for axis in self._expanded())] = values[self.valid]

    def check(self, shape: Sequence[int], verb: str) -> None:
        """Every valid element is inside memory of ``shape``."""
        for axis, (coordinate, size) in enumerate(zip(self.coordinates, shape, strict=True)):
            outside = self.valid & ((coordinate < 0) | (coordinate >= size))
            if outside.any():
                at = tuple(int(index) for index in np.argwhere(outside)[0])
                where = [int(np.broadcast_to(c, self.shape)[at]) for c in self.coordinates]
                raise CrosstileError(
                    f"{verb} element {where} of memory of shape {list(shape)} for element {list(at)} of the tile; an "
                    f"extent of dimension {axis} is too large, or 'clip' is missing"
                )

    def through(self, view: AffineMap) -> Elements:
        """The same elements as coordinates of the memory that ``view`` shows."""
        seen = tuple(np.asarray(axis) for axis in evaluate_map(view, self.coordinates, ()))
        return Elements(self.shape, seen, self.valid)

    def _expanded(self) -> list[Array]:
        return [np.broadcast_to(axis, self.shape) for axis in self.coordinates]


@dataclass(frozen=True)
class Box:
    """Where a tile is that is a box of memory: where it starts, and how many elements are valid along each dimension.

    The fast form of :class:`Elements`, made by :func:`elements` where it can be.
    """

    shape: tuple[int, ...]
    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    clamp: tuple[int, ...]

    def read(self, memory: Array, pad: Any = 0) -> Array:
        """The elements as a new array; invalid ones are ``pad``. Raises CrosstileError outside ``memory``."""
        if 0 in self.sizes:
            return np.full(self.shape, pad, memory.dtype)
        part = memory[self._slices(memory, "reads")]
        if self.sizes == self.shape:
            return np.array(part)
        for dim in self.clamp:
            part = np.take(part, np.minimum(np.arange(self.shape[dim]), self.sizes[dim] - 1), dim)
        result = np.full(self.shape, pad, memory.dtype)
        result[tuple(slice(size) for size in part.shape)] = part
        return result

    def write(self, memory: Array, values: Array) -> None:
        """Write the valid elements of ``values``. Raises CrosstileError outside ``memory``."""
        if 0 not in self.sizes:
            memory[self._slices(memory, "writes")] = values[tuple(slice(size) for size in self.sizes)]

    def check(self, shape: Sequence[int], verb: str) -> None:
        """Every valid element is inside memory of ``shape``."""
        if 0 not in self.sizes and not self._is_inside(shape):
            self.general(shape).check(shape, verb)

    def general(self, shape: Sequence[int]) -> Elements:
        """The same place in memory of ``shape``, element by element."""
        return _elements(Rule(self.shape, extent_dims=tuple(range(len(self.shape)))), shape, self.starts, self.sizes)

    def _is_inside(self, shape: Sequence[int]) -> bool:
        sizes = (*(1,) * (len(shape) - len(self.sizes)), *self.sizes)
        return all(0 <= start <= end - size for start, size, end in zip(self.starts, sizes, shape, strict=True))

    def _slices(self, memory: Array, verb: str) -> tuple[int | slice, ...]:
        if not self._is_inside(memory.shape):
            self.general(memory.shape).check(memory.shape, verb)
        leading = len(self.starts) - len(self.sizes)
        trailing = zip(self.starts[leading:], self.sizes, strict=True)
        return (*self.starts[:leading], *(slice(start, start + size) for start, size in trailing))


@dataclass(frozen=True)
class Rule:
    """What a place is by its text: everything but memory, indices and extents.

    ``extent_dims`` are the dimensions that have an extent. Along the dimensions ``clamp`` elements beyond the extent
    are those at its end.
    """

    shape: tuple[int, ...]
    by: AffineMap | None = None
    extent_dims: tuple[int, ...] = ()
    clip: bool = False
    clamp: tuple[int, ...] = ()


def elements(rule: Rule, source_shape: Sequence[int], indices: Sequence[Any], extents: Sequence[int]) -> Elements | Box:
    """Where the elements of a place are in memory of ``source_shape``.

    ``indices`` are integers or arrays that broadcast to the tile; an array is a whole coordinate, and a negative entry
    makes its elements invalid.
    """
    if rule.by is not None or rule.clip or any(isinstance(index, np.ndarray) for index in indices):
        return _elements(rule, source_shape, indices, extents)
    sizes = list(rule.shape)
    for dim, extent in zip(rule.extent_dims, extents, strict=True):
        sizes[dim] = max(0, min(sizes[dim], int(extent)))
    return Box(rule.shape, tuple(map(int, indices)), tuple(sizes), rule.clamp)


def _elements(rule: Rule, source_shape: Sequence[int], indices: Sequence[Any], extents: Sequence[int]) -> Elements:
    shape, by = rule.shape, rule.by
    extent_of = dict(zip(rule.extent_dims, extents, strict=True))
    rank = len(shape)
    valid = np.ones(shape, np.bool_)
    dims: list[Array] = []
    places = [np.asarray(index) for index in indices]
    for dim, size in enumerate(shape):
        at = np.arange(size)
        if (extent := extent_of.get(dim)) is not None:
            if dim in rule.clamp and extent > 0:
                at = np.minimum(at, extent - 1)
                places = [np.take(p, at, dim) if p.ndim and p.shape[dim] == size else p for p in places]
            else:
                valid &= _along(at < extent, dim, rank)
        dims.append(_along(at, dim, rank))
    for place in places:
        if place.ndim:
            valid &= place >= 0
    if by is not None:
        coordinates = [np.asarray(axis) for axis in evaluate_map(by, dims, places)]
    else:
        coordinates = list(places)
        for dim, at in enumerate(dims):
            axis = len(source_shape) - rank + dim
            if not places[axis].ndim:
                coordinates[axis] = places[axis] + at
    if rule.clip:
        for axis, size in zip(coordinates, source_shape, strict=True):
            valid &= (axis >= 0) & (axis < size)
    return Elements(shape, tuple(coordinates), valid)


def _along(values: Array, dim: int, rank: int) -> Array:
    return values.reshape([-1 if axis == dim else 1 for axis in range(rank)])
