"""Packed arrays: the elements of a matrix in the order in which a kernel walks through them.

Level: data, for the compiler (the layout of a ``memref`` whose elements are packed), its interpreters and the launcher.
A layout maps the coordinates of an array to those of a *box* that lies row-major in memory. Each dimension is whole, or
cut into blocks; what the last block lacks is zero. A right factor [k, n] in panels of 64 columns::

    affine_map<(d0, d1) -> (d1 floordiv 64, d0, d1 mod 64)>      (1000, 130) -> box (3, 1000, 64)

    PackedLayout((Part(1, BLOCK, 64), Part(0, WHOLE), Part(1, PLACE, 64)))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

WHOLE, BLOCK, PLACE = "whole", "block", "place"
ALIGNMENT = 64
"""Bytes: a cache line, so that no vector of a packed array lies across two."""


class Part(NamedTuple):
    """One dimension of a box: dimension ``dim`` of the array as it is, its blocks of ``size``, or places in a block."""

    dim: int
    kind: str = WHOLE
    size: int = 1

    def extent(self, shape: Sequence[int]) -> int:
        """How large this dimension of the box is for an array of ``shape``."""
        return {WHOLE: shape[self.dim], BLOCK: -(-shape[self.dim] // self.size), PLACE: self.size}[self.kind]

    def range(self, first: int, last: int) -> slice:
        """Where in this dimension of the box the elements from ``first`` to ``last`` are: whole blocks, or one."""
        match self.kind:
            case "block":
                return slice(first // self.size, -(-last // self.size))
            case "place":
                return slice(0, min(self.size, last - first))
            case _:
                return slice(first, last)


@dataclass(frozen=True)
class PackedLayout:
    """The dimensions of the box, outermost first. Raises ``ValueError`` if they do not hold each element once."""

    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        dims = sorted({part.dim for part in self.parts})
        if dims != list(range(len(dims))):
            raise ValueError(f"a packed layout names dimensions {dims}, which are not all of the first ones")
        for dim in dims:
            found = sorted((part.kind, part.size) for part in self.parts if part.dim == dim)
            whole = found == [(WHOLE, 1)]
            cut = [kind for kind, _ in found] == [BLOCK, PLACE] and found[0][1] == found[1][1] > 1
            if not whole and not cut:
                raise ValueError(f"dimension {dim} of a packed layout is neither whole nor cut into blocks of one size")

    @property
    def rank(self) -> int:
        """The dimensions of the array."""
        return 1 + max((part.dim for part in self.parts), default=-1)

    def block(self, dim: int) -> int:
        """The size of the blocks that dimension ``dim`` is cut into; 1 if it is whole."""
        return next(part.size for part in self.parts if part.dim == dim)

    def box(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the box of an array of ``shape``."""
        return tuple(part.extent(shape) for part in self.parts)

    def pack(self, array: Array) -> Array:
        """A new array of the box's shape, aligned to a cache line, with the elements of ``array`` and zeros."""
        packed = _aligned_zeros(self.box(array.shape), array.dtype)
        blocks = [self.block(dim) for dim in range(self.rank)]
        for pieces in product(*map(_pieces, array.shape, blocks)):
            source = array[tuple(slice(first, last) for first, last in pieces)]
            shape: list[int] = []
            axes: dict[tuple[int, str], int] = {}
            for dim, (block, size) in enumerate(zip(blocks, source.shape, strict=True)):
                if block == 1:
                    axes[dim, WHOLE] = len(shape)
                    shape.append(size)
                else:
                    axes[dim, BLOCK], axes[dim, PLACE] = len(shape), len(shape) + 1
                    shape += [size // block, block] if size % block == 0 else [1, size]
            target = packed[tuple(part.range(*pieces[part.dim]) for part in self.parts)]
            target[...] = source.reshape(shape).transpose([axes[part.dim, part.kind] for part in self.parts])
        return packed

    @classmethod
    def from_json(cls, data: Sequence[Sequence[Any]]) -> PackedLayout:
        """The layout with these parts, as JSON has them."""
        return cls(tuple(Part(int(dim), str(kind), int(size)) for dim, kind, size in data))


def _pieces(size: int, block: int) -> list[tuple[int, int]]:
    """A dimension cut into all of its whole blocks, and what is left."""
    whole = size - size % block
    return [piece for piece in ((0, whole), (whole, size)) if piece[0] < piece[1]]


def _aligned_zeros(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    size = prod(shape) * dtype.itemsize
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)
