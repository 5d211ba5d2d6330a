"""Packed arrays: the elements of a matrix in the order in which a kernel walks through them.

Level: data, for the compiler (the layout of a ``memref`` whose elements are packed), its interpreters and the launcher.
A layout maps the coordinates of an array to those of a *box* that lies row-major in memory. Each dimension is whole, or
cut into blocks, which may be cut into smaller ones; what the last block lacks is zero. A right factor [k, n] in panels
of 64 columns, and in panels of 16, of which four belong together::

    affine_map<(d0, d1) -> (d1 floordiv 64, d0, d1 mod 64)>                            (1000, 130) -> (3, 1000, 64)
    affine_map<(d0, d1) -> (d1 floordiv 64, (d1 mod 64) floordiv 16, d0, d1 mod 16)>   (1000, 130) -> (3, 4, 1000, 16)

    PackedLayout((Part(1, 64), Part(0), Part(1, 1, 64)))      PackedLayout((Part(1, 64), Part(1, 16, 64), ...))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

ALIGNMENT = 64
"""Bytes: a cache line, so that no vector of a packed array lies across two."""


class Part(NamedTuple):
    """One dimension of a box: ``(d mod within) floordiv size`` of dimension ``dim``; without ``within``, all of it."""

    dim: int
    size: int = 1
    within: int = 0

    def extent(self, shape: Sequence[int]) -> int:
        """How large this dimension of the box is for an array of ``shape``."""
        return -(-(self.within or shape[self.dim]) // self.size)

    def place(self, coordinate: int) -> int:
        """Where ``coordinate`` of the array's dimension is along this one of the box."""
        return (coordinate % self.within if self.within else coordinate) // self.size


@dataclass(frozen=True)
class PackedLayout:
    """The dimensions of the box, outermost first. Raises ``ValueError`` if they do not hold each element once."""

    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        dims = sorted({part.dim for part in self.parts})
        if dims != list(range(len(dims))):
            raise ValueError(f"a packed layout names dimensions {dims}, which are not all of the first ones")
        for dim in dims:
            within = 0
            for part in self.chain(dim):
                if part.within != within or part.size < 1 or (within and (within % part.size or within == part.size)):
                    raise ValueError(
                        f"a packed layout cuts dimension {dim} into blocks of {part.size} of {part.within or 'all'}, "
                        f"which do not make up the blocks of {within or 'all'}"
                    )
                within = part.size
            if within != 1:
                raise ValueError(f"a packed layout says nothing of the places in blocks of {within} of dimension {dim}")

    @property
    def rank(self) -> int:
        """The dimensions of the array."""
        return 1 + max((part.dim for part in self.parts), default=-1)

    def chain(self, dim: int) -> list[Part]:
        """The parts that dimension ``dim`` is cut into, the largest blocks first."""
        return sorted((part for part in self.parts if part.dim == dim), key=lambda part: -part.size)

    def block(self, dim: int) -> int:
        """The size of the largest blocks that dimension ``dim`` is cut into; 1 if it is whole."""
        return self.chain(dim)[0].size

    def box(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the box of an array of ``shape``."""
        return tuple(part.extent(shape) for part in self.parts)

    def pack(self, array: Array) -> Array:
        """A new array of the box's shape, aligned to a cache line, with the elements of ``array`` and zeros."""
        packed = _aligned_zeros(self.box(array.shape), array.dtype)
        chains = [self.chain(dim) for dim in range(self.rank)]
        flat = [part for chain in chains for part in chain]
        order = [flat.index(part) for part in self.parts]
        for pieces in product(*map(_pieces, array.shape, chains)):
            source = array[tuple(slice(piece.first, piece.last) for piece in pieces)]
            shape = [size for piece in pieces for size in piece.shape]
            places = [place for piece in pieces for place in piece.places]
            packed[tuple(places[at] for at in order)] = source.reshape(shape).transpose(order)
        return packed

    @classmethod
    def from_json(cls, data: Sequence[Sequence[Any]]) -> PackedLayout:
        """The layout with these parts, as JSON has them."""
        return cls(tuple(Part(*map(int, part)) for part in data))


class _Piece(NamedTuple):
    """A range of a dimension that is a box of its parts: their sizes, and where in them it is."""

    first: int
    last: int
    shape: tuple[int, ...]
    places: tuple[slice, ...]


def _pieces(size: int, chain: Sequence[Part]) -> list[_Piece]:
    """A dimension cut into all of its largest blocks, then what is left into those of the next size, and so on."""
    found: list[_Piece] = []
    first = 0
    for level, part in enumerate(chain):
        count = (size - first) // part.size
        if count == 0:
            continue
        last = first + count * part.size
        inner = [each.within // each.size for each in chain[level + 1 :]]
        outer = [each.place(first) for each in chain[: level + 1]]
        places = [*(slice(at, at + 1) for at in outer[:-1]), slice(outer[-1], outer[-1] + count)]
        found.append(
            _Piece(first, last, (*(1,) * level, count, *inner), (*places, *(slice(0, extent) for extent in inner)))
        )
        first = last
    return found


def _aligned_zeros(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    size = prod(shape) * dtype.itemsize
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)
