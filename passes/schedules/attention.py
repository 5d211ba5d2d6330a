"""Schedules of attention: a block of queries per worker's turn, which meets the keys block by block.

Level: nest. In: the roles of an attention's axes. Out: guarded schedules, such as, on a core with AVX-512::

    #nest.schedule<loops = [b : 1, h : 1, m : 48, n : 64, d : 64, e : 64], grid = [b, h, m], lane = m, stage = [0],
                   intrinsic = "x86.avx512.fma.1x16x1.f32", unroll = 2, prefetch = 32768>

Queries lie across lanes: then keys and values are read in place, row by row, as the left factors of both products, only
the block of queries is packed, once for all keys, and the maxima and sums of a softmax never cross lanes. Numbers of
queries up to a vector, and those that whole blocks of four vectors hold without a rest, have blocks of their own. Of a
few queries they are rows (``few_queries``).
"""

from __future__ import annotations

from dataclasses import replace

from xdsl.dialects.builtin import f32
from xdsl.ir.affine import AffineExpr

from crosstile.dialects.nest.analysis import element_type
from crosstile.dialects.nest.attention_roles import AttentionRoles
from crosstile.dialects.nest.axes import Axis
from crosstile.dialects.nest.schedule import (
    Comparison,
    GuardAttr,
    GuardedScheduleAttr,
    Loop,
    Schedule,
    ScheduleAttr,
)
from crosstile.passes.schedules.few_queries import MOST_ROWS, QueryBlock, few_query_blocks
from crosstile.passes.schedules.register_tiles import round_up
from crosstile.targets.model import Machine, MmaIntrinsic, UnknownNameError

VALUES = 2
"""The position of the values among what is staged: behind the two factors of the scores."""
QUERY_VECTORS = 3
"""Vectors of queries in a block: eight rows of three are the register tile that loads least per multiplication.
Measured with 48 and 64 queries: 165 and 163 GFLOP/s for S = 1024, 167 and 161 for S = 2048 and heads of 128."""
EVEN_VECTORS = 4
"""Vectors of queries where they divide the queries; up to ``MOST_EVEN`` queries the rest of three costs more. And of
products of words, whose blocks are half as large, of any number of queries: measured with 48 and 64 queries of bf16 on
Zen 5, 354 and 375 GFLOP/s for S = 1024, 399 and 412 for S = 2048 and heads of 128, 377 and 384 for S = 1000."""
MOST_EVEN = 1024
TILE_QUERY_VECTORS = 8
"""Vectors of queries in a block on tile registers, for which each block of keys and of values is packed. Measured with
64 and 128 queries in bf16: 430 and 440 GFLOP/s for S = 1024, 460 and 550 for S = 2048 and heads of 128."""
KEY_BLOCK = 64
"""Keys in a block of scores: each costs the sums one more pass through memory (32 and 128 keys: 6 % less)."""
TILE_KEY_BLOCK = 192
"""The same on tile registers, whose products leave that pass a larger part. Measured with 64, 128, 192 and 256 keys in
bf16: 434, 424, 458 and 460 GFLOP/s for S = 1024, 550, 599, 625 and 564 for S = 2048 and heads of 128."""
HEAD_BLOCK = 512
"""The most of a head in one block: the sums of 48 queries are then 96 KB. What a head lacks to it costs nothing."""
UNKNOWN_HEAD_LANES = 8
"""Vectors of a block of a head that lies across lanes and is of unknown size: what it lacks is computed as well."""
HEAD_ROWS = 8
"""Heads are filled up to a multiple of this: rows of register tiles divide it."""
FETCHING_STEPS = 2
"""Where there are more than ``MOST_EVEN`` queries, and so as many keys or more as a rule, the keys of a head exceed the
second cache: during each product a block of keys or values is fetched that the other reads, if the nearest cache may
hold one. Two steps of k fetch a line. Measured for S = 2048 and heads of 128: 172 GFLOP/s instead of 147; where all
keys are in the second cache, 2 % less. Products of words read twice as many of them in the same time: there it gains
2 % for S = 1024 as well, 4 % with ``causal`` (Zen 5)."""


def attention_schedules(roles: AttentionRoles, machine: Machine) -> list[GuardedScheduleAttr]:
    """The guarded schedules of an attention on ``machine``, by the number of its queries."""
    element = str(element_type(roles.scores.inputs[roles.query]))
    if roles.m is None or (roles.m.size is not None and roles.m.size <= MOST_ROWS):
        machine = machine.without_tile_registers()
    try:
        intrinsic = machine.choose_widening(element, element, "f32")
        lanes = intrinsic.n
    except UnknownNameError:
        intrinsic, lanes = None, 1  # no matrix unit: products and sums of scalars
    blocks = _blocks(roles, lanes, intrinsic)
    if roles.d.size is None:
        # Longer heads are summed in blocks, for which the block of queries is packed again for each block of keys.
        whole = Comparison(roles.d.name, "<=", HEAD_BLOCK)
        blocks = [*(replace(block, guard=(*block.guard, whole)) for block in blocks), blocks[-1]]
    nearest = next((memory.capacity for memory in machine.memories if memory.name == "L1"), None)
    return [
        GuardedScheduleAttr(
            GuardAttr(block.guard),
            ScheduleAttr(_schedule(roles, block, intrinsic, nearest if block.is_far else None)),
        )
        for block in blocks
    ]


def _blocks(roles: AttentionRoles, lanes: int, intrinsic: MmaIntrinsic | None) -> list[QueryBlock]:
    """The blocks of queries, those for few of them first."""
    in_tiles = intrinsic is not None and intrinsic.in_tiles
    is_known = roles.m is None or roles.e.size is not None
    first = few_query_blocks(roles, lanes) if is_known and lanes > 1 and not in_tiles else []
    if (m := roles.m) is None or (first and not first[-1].guard):
        return first or few_query_blocks(roles, lanes)
    even = EVEN_VECTORS * lanes
    few, some = Comparison(m.name, "<=", lanes), Comparison(m.name, "<=", even)
    divided = (Comparison(m.name, "==", 0, even), Comparison(m.name, "<=", MOST_EVEN))
    if in_tiles:
        found = [((some,), even, False), ((), TILE_QUERY_VECTORS * lanes, False)]
    elif intrinsic is not None and intrinsic.k > 1:
        found = [((), even, True)]
    else:
        found = [(divided, even, False), ((), QUERY_VECTORS * lanes, m.size is None or m.size > MOST_EVEN)]
    found = [((few,), lanes, False), *found]
    if (queries := m.size) is None:
        return [*first, *(QueryBlock(guard, m, size, True, is_far) for guard, size, is_far in found)]
    if queries <= even:
        return [QueryBlock((), m, round_up(max(queries, 1), lanes), True)]
    _, block, is_far = next(one for one in found if all(comparison.holds(queries) for comparison in one[0]))
    return [QueryBlock((), m, block, True, is_far)]


def _head(axis: Axis, multiple: int) -> int:
    """How much of a dimension of a head is in a block: all of it, if it is known not to be large."""
    return HEAD_BLOCK if axis.size is None else min(round_up(axis.size, multiple), HEAD_BLOCK)


def _lies_along_keys(roles: AttentionRoles) -> bool:
    """Whether the keys' memory has neighbours in n next to each other, so that it is read in place across lanes."""
    n = roles.scores.iterator_names.index(roles.n.name)
    return roles.scores.input_maps[roles.key].results[-1] == AffineExpr.dimension(n)


def _lies_in_words(roles: AttentionRoles, depth: int) -> bool:
    """Whether the keys' memory has words of ``depth`` neighbours in d, and d is whole words that one block holds."""
    d = roles.scores.iterator_names.index(roles.d.name)
    is_whole = roles.d.size is not None and roles.d.size <= HEAD_BLOCK and roles.d.size % depth == 0
    return is_whole and roles.scores.input_maps[roles.key].results[-1] == AffineExpr.dimension(d)


def _staged(roles: AttentionRoles, block: QueryBlock, intrinsic: MmaIntrinsic | None) -> tuple[int, ...]:
    """The inputs of a ``block`` that are packed.

    Keys and values as rows are read in place, but those that are narrower than the instruction takes, which are widened
    on the way, and those that do not lie in its words: of values these are neighbours in n, which are none in memory.
    """
    if not block.in_lanes:
        return () if _lies_along_keys(roles) else (roles.key,)
    if intrinsic is None or (intrinsic.k == 1 and element_type(roles.scores.inputs[roles.key]) == f32):
        return (roles.query,)
    if intrinsic.k > 1 and not intrinsic.in_tiles and _lies_in_words(roles, intrinsic.k):
        return (roles.query, VALUES)
    return (0, 1, VALUES)


def _schedule(
    roles: AttentionRoles, block: QueryBlock, intrinsic: MmaIntrinsic | None, fetched: int | None
) -> Schedule:
    """One schedule, for a ``block`` of queries."""
    rows, lanes, depth = (1, 1, 1) if intrinsic is None else (intrinsic.m, intrinsic.n, intrinsic.k)
    keys = TILE_KEY_BLOCK if intrinsic is not None and intrinsic.in_tiles else KEY_BLOCK
    if roles.n.size is not None:
        keys = min(keys, max(roles.n.size, 1))
    heads = {roles.d: _head(roles.d, depth)}
    if block.in_lanes:
        is_short = roles.e.size is not None and roles.e.size < HEAD_ROWS
        heads[roles.e] = max(_head(roles.e, max(rows, 1 if is_short else HEAD_ROWS)), heads.get(roles.e, 0))
    else:
        heads[roles.e] = UNKNOWN_HEAD_LANES * lanes if roles.e.size is None else _head(roles.e, lanes)
    loops = [Loop(axis.name, block.size if axis == block.along else 1) for axis in roles.outer]
    if roles.m is not None:
        loops.append(Loop(roles.m.name, block.size if roles.m == block.along else 1))
    loops.append(Loop(roles.n.name, round_up(keys, max(rows, depth) if block.in_lanes else lanes)))
    loops += [Loop(axis.name, size) for axis, size in heads.items()]
    is_whole = roles.e.size is not None and roles.e.size <= HEAD_BLOCK
    queries = () if roles.m is None else (roles.m,)
    # A grid has an axis at least.
    grid = (*roles.outer, *(() if is_whole else (roles.e,)), *queries) or (roles.e,)
    lane = block.along if block.in_lanes and block.along is not None else roles.n
    return Schedule(
        loops=tuple(loops),
        grid=tuple(axis.name for axis in grid),
        lane=lane.name,
        ordered=not block.in_lanes,
        stage=_staged(roles, block, intrinsic),
        intrinsic=None if intrinsic is None else intrinsic.name,
        unroll=None if fetched is None and block.in_lanes else FETCHING_STEPS,
        prefetch=fetched,
    )
