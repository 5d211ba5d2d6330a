"""How loops of the tile level cut a range: into blocks, balanced blocks, ranges for workers, samples of a grid.

blocks(0, 10, 4)                    (0, 4) (4, 4) (8, 2)         start, extent
blocks(0, 520, 512, balanced=8)     (0, 264) (264, 256)
worker_ranges(0, 20, 8, workers=2)  (0, 8) (8, 20)               begin, end
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from math import prod


def ceil_divide(count: int, size: int) -> int:
    """How many pieces of ``size`` it takes for ``count``."""
    return -(-count // size)


def blocks(lower: int, upper: int, step: int, balanced: int | None = None) -> list[tuple[int, int]]:
    """Start and extent of the blocks of ``lower`` to ``upper``; with ``balanced`` equal multiples of it, at most step.

    The last block is what is left.
    """
    count = upper - lower
    if count <= 0:
        return []
    if balanced is not None:
        trips = ceil_divide(count, step)
        step = ceil_divide(ceil_divide(count, trips), balanced) * balanced
    return [(start, min(step, upper - start)) for start in range(lower, upper, step)]


def worker_ranges(lower: int, upper: int, grain: int, workers: int) -> list[tuple[int, int]]:
    """Begin and end of each worker's range: whole grains, as even as they go, in order; no empty ranges."""
    grains = max(0, ceil_divide(upper - lower, grain))
    cuts = [min(upper, lower + grains * worker // workers * grain) for worker in range(workers + 1)]
    return [(begin, end) for begin, end in pairwise(cuts) if begin < end]


def sample_positions(counts: Sequence[int], budget: int) -> list[int]:
    """About ``budget`` positions of a grid with ``counts`` instances per dimension, numbered in row-major order.

    The corners come first, which are the first instance and every kind of ragged edge; the others are spread over the
    grid by the golden ratio, so that no period of the program is always met in the same place.
    """
    total = prod(counts)
    if total <= budget:
        return list(range(total))
    chosen: set[int] = set()
    for corner in product(*((0, count - 1) for count in counts)):
        position = 0
        for index, count in zip(corner, counts, strict=True):
            position = position * count + index
        chosen.add(position)
    step = 0
    while len(chosen) < budget:
        step += 1
        chosen.add(int(step * 0.6180339887498949 % 1.0 * total))
    return sorted(chosen)
