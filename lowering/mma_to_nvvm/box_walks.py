"""Which rows of a tile are a box of memory: rows that count through several of its dimensions, the last one fastest.

    by affine_map<(d0, d1)[s0, s1, s2, s3] -> (s0, s1 + 2 * (d0 floordiv 16), s2 + 2 * (d0 mod 16), s3 + d1)>
    ==> 128 rows are a box of 1 x 8 x 16 rows of memory, every other one:  counts (1, 8, 16), steps (1, 2, 2)

So do the pixels of an image that a block of a convolution multiplies for one place of its filter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

from xdsl.ir.affine import AffineExpr, AffineMap, AffineSymExpr

from crosstile.lowering.affine_steps import coefficient, summands


@dataclass(frozen=True)
class BoxWalk:
    """The rows of a tile as ``counts`` places along all dimensions of memory but the last, each ``steps`` apart."""

    counts: tuple[int, ...]
    steps: tuple[int, ...]

    def part(self, rows: int) -> BoxWalk | None:
        """The first ``rows`` rows, if they are a box as well, and with them every so many that follow them."""
        counts: list[int] = []
        for count in reversed(self.counts):
            if count % rows and rows % count:
                return None
            counts.insert(0, min(count, rows))
            rows = max(1, rows // count)
        return BoxWalk(tuple(counts), self.steps) if rows == 1 else None

    @property
    def box(self) -> tuple[int, ...]:
        """How far the box reaches along each dimension."""
        return tuple((count - 1) * step + 1 for count, step in zip(self.counts, self.steps, strict=True))


def walk_of(by: AffineMap, rows: int) -> BoxWalk | None:
    """How the first dimension of a map, of ``rows``, walks through memory from a place that one index each says.

    The second dimension is that of the memory's last one. None if the rows are no box.
    """
    *above, last = by.results
    if by.num_dims != 2 or by.num_symbols != len(by.results):
        return None
    if not all(_begins_at(result, at) and coefficient(result, 1) == 0 for at, result in enumerate(above)):
        return None
    if not _begins_at(last, len(above)) or coefficient(last, 0) != 0 or coefficient(last, 1) != 1:
        return None
    origin = [0] * by.num_symbols
    places = [tuple(result.eval((row, 0), origin) for result in above) for row in range(rows)]
    along = [sorted(set(column)) for column in zip(*places, strict=True)]
    steps = [_step(column) for column in along]
    if any(column[0] for column in along) or None in steps or places != list(product(*along)):
        return None
    return BoxWalk(tuple(map(len, along)), tuple(step for step in steps if step is not None))


def _begins_at(result: AffineExpr, symbol: int) -> bool:
    """Whether a coordinate is an index of its own, and what the tile's dimensions add to it."""
    symbols = [term for term in summands(result) if any(isinstance(part, AffineSymExpr) for part in term.dfs())]
    return symbols == [AffineExpr.symbol(symbol)]


def _step(places: Sequence[int]) -> int | None:
    """The distance of neighbours, 1 for a single place; None if there is no one distance."""
    distances = {after - before for before, after in pairwise(places)} or {1}
    return distances.pop() if len(distances) == 1 else None
