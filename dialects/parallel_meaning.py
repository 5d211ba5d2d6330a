"""How a parallel loop's instances are told apart: ranges of workers, and tiles of a grid.

``ranges(0, 21, grain=8, workers=2)`` is [(0, 16), (16, 21)]; ``tiles((0,), (300,), (128,))`` is
[((0,), (128,)), ((128,), (128,)), ((256,), (44,))], each a start and an extent per dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product

Point = tuple[int, ...]


def ranges(lower: int, upper: int, grain: int, workers: int) -> list[tuple[int, int]]:
    """One contiguous range per worker that gets work; inner ends are multiples of ``grain`` from ``lower``.

    Grains are shared as evenly as they can be: ranges differ by at most one grain.
    """
    grains = max(0, -(-(upper - lower) // grain))
    ends = [lower + grain * (grains * worker // workers) for worker in range(workers + 1)]
    clipped = [min(end, upper) for end in ends]
    return [(begin, end) for begin, end in pairwise(clipped) if begin < end]


def tiles(
    lower: Sequence[int], upper: Sequence[int], steps: Sequence[int], sample: int | None = None
) -> list[tuple[Point, Point]]:
    """The start and the extent of every tile of the box, in row-major order.

    With ``sample`` only about so many of them: the corners (which hold the ragged edges) first, then others spread
    evenly over the grid.
    """
    counts = [max(0, -(-(high - low) // step)) for low, high, step in zip(lower, upper, steps, strict=True)]
    points: list[Point] = list(product(*map(range, counts)))
    if sample is not None and len(points) > sample:
        corners = dict.fromkeys(product(*(sorted({0, count - 1}) for count in counts)))
        rest = [point for point in points if point not in corners]
        more = max(0, sample - len(corners))
        chosen = set(corners) | {rest[index * len(rest) // more] for index in range(more)}
        points = [point for point in points if point in chosen]
    found: list[tuple[Point, Point]] = []
    for point in points:
        start = tuple(low + step * at for low, step, at in zip(lower, steps, point, strict=True))
        extent = tuple(min(step, high - at) for step, high, at in zip(steps, upper, start, strict=True))
        found.append((start, extent))
    return found
