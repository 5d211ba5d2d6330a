"""Layouts over a block of warps: those that a matrix instruction asks for, and those that access memory widely.

A product's tiles are grids of the instruction's blocks. The warps divide the accumulator into ``rows x columns`` parts,
and each holds the blocks of the factors that its part needs::

    >>> row = intrinsic("nvidia.mma.m16n8k16.f32.bf16")
    >>> print(Arrangement(2, 2, lanes=32).accumulator(row, 128, 128))
    tile(128, 128) warp(2:8192, 2:64) register(4:2048, 8:8, 2:1024, 2:1) lane(8:128, 4:2)
    >>> print(Arrangement(2, 2, lanes=32).lhs(row, 128, 16))
    tile(128, 16) warp(2:1024, 2:0) register(4:256, 2:8, 2:128, 2:1) lane(8:16, 4:2)
    >>> print(memory_layout((4, 256), warps=4, lanes=32, element_bits=32))
    tile(4, 256) register(2:128, 4:1) warp(4:256) lane(32:4)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd, prod

from crosstile.targets.layout import Layout, Mode
from crosstile.targets.model import MmaIntrinsic

WIDEST_ACCESS = 128
"""Bits that one lane loads or stores at once."""


@dataclass(frozen=True)
class Arrangement:
    """How the warps of a block share out a product: ``rows`` times ``columns`` of groups.

    A group is what one instruction occupies: a warp, or the four warps of a wgmma.
    """

    rows: int
    columns: int
    lanes: int

    def warps(self, row: MmaIntrinsic) -> int:
        """The warps in all."""
        return self.rows * self.columns * group_of(row)

    def accumulator(self, row: MmaIntrinsic, m: int, n: int) -> Layout:
        """The layout of an m x n accumulator."""
        assert row.accumulator.layout is not None
        lanes = self._lanes(row, m, n)
        return _grid((m // row.m, n // row.n), (self.rows, self.columns), lanes).product(row.accumulator.layout)

    def lhs(self, row: MmaIntrinsic, m: int, k: int, n: int = 0) -> Layout:
        """The layout of an m x k left factor of an accumulator of ``n`` columns; each warp of a row holds the same."""
        assert row.lhs.layout is not None
        lanes = self._lanes(row, m, n)
        return _grid((m // row.m, k // row.k), (self.rows, -self.columns), (lanes[0], -lanes[1])).product(
            row.lhs.layout
        )

    def rhs(self, row: MmaIntrinsic, k: int, n: int, m: int = 0) -> Layout:
        """The layout of a k x n right factor of an accumulator of ``m`` rows; each warp of a column holds the same."""
        assert row.rhs.layout is not None
        lanes = self._lanes(row, m, n)
        return _grid((k // row.k, n // row.n), (-self.rows, self.columns), (-lanes[0], lanes[1])).product(
            row.rhs.layout
        )

    def _lanes(self, row: MmaIntrinsic, m: int, n: int) -> tuple[int, int]:
        """How the lanes of a warp share out its part of an m x n accumulator; (1, 1) if the instruction says it."""
        if not is_scalar(row):
            return 1, 1
        columns = gcd(n // self.columns, max(1, self.lanes // 4))
        return gcd(m // self.rows, self.lanes // columns), columns


def group_of(row: MmaIntrinsic) -> int:
    """The warps that execute one instruction together."""
    return 1 if row.accumulator.layout is None else row.accumulator.layout.size("warp")


def is_scalar(row: MmaIntrinsic) -> bool:
    """Whether each lane computes by itself, so that lanes are spread over the grid like warps."""
    return row.m == row.n == 1


def _grid(blocks: tuple[int, int], warps: tuple[int, int], lanes: tuple[int, int]) -> Layout:
    """A grid of blocks divided among warps, lanes and registers; negative counts are of those that hold the same.

    Of two counts along one dimension, the one that divides it is positive.
    """
    rows, columns = blocks
    steps = (columns, 1)
    axes: dict[str, list[Mode]] = {"warp": [], "lane": [], "register": []}
    rest = [rows, columns]
    for axis, counts in (("warp", warps), ("lane", lanes)):
        for dim, count in enumerate(counts):
            if count > 0:
                rest[dim] //= count
            stride = rest[dim] * steps[dim] if count > 0 else 0
            if abs(count) > 1:
                axes[axis].append(Mode(abs(count), stride))
    axes["register"] = [Mode(size, step) for size, step in zip(rest, steps, strict=True) if size > 1]
    return Layout(blocks, tuple((axis, tuple(modes)) for axis, modes in axes.items() if modes))


def memory_layout(shape: Sequence[int], warps: int, lanes: int, element_bits: int, whole: Sequence[int] = ()) -> Layout:
    """A layout in which neighbouring lanes access neighbouring memory: the last dimension's, the widest words first.

    Lanes and warps that the shape has no work for hold copies. All of the dimensions ``whole`` is in each thread.
    """
    free = list(shape) or [1]
    strides = [prod(free[dim + 1 :]) for dim in range(len(free))]
    threads = warps * lanes
    shared = prod(size for dim, size in enumerate(free) if dim not in whole)
    width = gcd(free[-1], max(1, WIDEST_ACCESS // element_bits))
    while width > 1 and shared // width < threads:
        width //= 2
    modes: dict[str, list[Mode]] = {"register": [], "warp": [], "lane": []}
    used = [1] * len(free)
    used[-1] = width

    def take(axis: str, count: int, dims: Sequence[int]) -> None:
        """Divide ``count`` locations of ``axis`` among ``dims``, the first being the innermost."""
        for dim in dims:
            if dim in whole:
                continue
            part = gcd(count, free[dim] // used[dim])
            if part > 1:
                modes[axis].insert(0, Mode(part, used[dim] * strides[dim]))
                used[dim] *= part
                count //= part
        if count > 1:
            modes[axis].insert(0, Mode(count, 0))

    inner_first = list(reversed(range(len(free))))
    take("lane", lanes, inner_first)
    take("warp", warps, list(range(len(free))))
    for dim in range(len(free)):
        if (left := free[dim] // used[dim]) > 1:
            modes["register"].append(Mode(left, used[dim] * strides[dim]))
    if width > 1:
        modes["register"].append(Mode(width, 1))
    return Layout(tuple(shape), tuple((axis, tuple(found)) for axis, found in modes.items() if found))
