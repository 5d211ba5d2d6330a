"""Schedules of attention of few queries on a core: queries as rows, keys across lanes.

Level: nest. In: the roles of an attention's axes. Out: guarded schedules, such as, of one query of each head and of
four on AVX-512::

    M <= 1 : #nest.schedule<loops = [b : 1, h : 1, m : 1, n : 64, d : 64, e : 64], grid = [b, h, m], lane = n ordered,
                            stage = [1], intrinsic = "x86.avx512.fma.1x16x1.f32", unroll = 2>
    M <= 4 : #nest.schedule<loops = [b : 1, h : 1, m : 4, ...

With queries across lanes one query costs as much as 16: every key is broadcast to lanes that hold nothing. Here a block
of keys is packed, 64 columns of it, which is a transposition in registers, and values are read in place: one query
reads keys and values as fast as they come from memory. Sums are ``ordered``, and blocks of keys as large as among many
queries, so that no bit depends on how many there are.

Where heads share keys, those that do are the rows: keys and values are read once for all of them. Where there are more
of them than a few, they are the lanes.
"""

from __future__ import annotations

from dataclasses import dataclass

from crosstile.dialects.nest.attention_roles import AttentionRoles
from crosstile.dialects.nest.axes import Axis
from crosstile.dialects.nest.schedule import Comparison

MOST_ROWS = 8
"""So many rows are faster than queries across lanes. Measured on 8 heads of 64 and 4096 keys with 8 queries: 1.11 ms
instead of 1.33, with 12 queries 1.33 and 1.36."""
ROWS = (1, 4)
"""The rows of blocks of a number of queries that is known at run time. Measured as above with 1, 2 and 4 queries: 0.70,
0.92 and 0.93 ms instead of 1.39; blocks of 8 rows that are not full take longer than those of 16 lanes."""


@dataclass(frozen=True)
class QueryBlock:
    """Blocks of ``size`` steps of the axis ``along`` (None: there is a single query), across lanes or as rows, where
    ``guard`` holds; ``is_far`` says that keys are to be fetched ahead."""

    guard: tuple[Comparison, ...]
    along: Axis | None
    size: int
    in_lanes: bool
    is_far: bool = False


def few_query_blocks(roles: AttentionRoles, lanes: int) -> list[QueryBlock]:
    """The blocks for few queries; the last one has no guard if there are never more."""
    m = roles.m
    if m is None:
        return [QueryBlock((), None, 1, in_lanes=False)]
    if m.size is not None:
        return [QueryBlock((), m, max(m.size, 1), in_lanes=False)] if m.size <= MOST_ROWS else []
    if (heads := next((axis for axis in roles.rows if axis != m and (axis.size or 0) > 1), None)) is None:
        return [QueryBlock((Comparison(m.name, "<=", rows),), m, rows, in_lanes=False) for rows in ROWS]
    assert heads.size is not None
    few = heads.size <= MOST_ROWS
    block = heads.size if few else -(-min(heads.size, MOST_LANES * lanes) // lanes) * lanes
    return [QueryBlock((Comparison(m.name, "<=", ROWS[-1]),), heads, block, in_lanes=not few)]


MOST_LANES = 3
"""Vectors of heads that share keys in a block, as of queries."""
