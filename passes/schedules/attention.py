"""Schedules of attention: a block of queries per worker's turn, which meets the keys block by block.

Level: nest. In: the roles of an attention's axes. Out: guarded schedules, such as, on a core with AVX-512::

    #nest.schedule<loops = [b : 1, h : 1, m : 48, n : 64, d : 64, e : 64], grid = [b, h, m], lane = m, stage = [0],
                   intrinsic = "x86.avx512.fma.1x16x1.f32", unroll = 2, prefetch = 32768>

Queries lie across lanes: then keys and values are read in place, row by row, as the left factors of both products, only
the block of queries is packed, once for all keys, and the maxima and sums of a softmax never cross lanes. Few queries,
and numbers of them that whole blocks of four vectors hold without a rest, have blocks of their own.
"""

from __future__ import annotations

from xdsl.dialects.builtin import f32

from crosstile.dialects.nest.analysis import element_type
from crosstile.dialects.nest.attention_roles import AttentionRoles
from crosstile.dialects.nest.schedule import (
    Comparison,
    GuardAttr,
    GuardedScheduleAttr,
    Loop,
    Schedule,
    ScheduleAttr,
)
from crosstile.passes.schedules.register_tiles import round_up
from crosstile.targets.model import Machine, UnknownNameError

VALUES = 2
"""The position of the values among what is staged: behind the two factors of the scores."""
QUERY_VECTORS = 3
"""Vectors of queries in a block: eight rows of three are the register tile that loads least per multiplication.
Measured with 48 and 64 queries: 165 and 163 GFLOP/s for S = 1024, 167 and 161 for S = 2048 and heads of 128."""
EVEN_VECTORS = 4
"""Vectors of queries where they divide the queries; up to ``MOST_EVEN`` queries the rest of three costs more."""
MOST_EVEN = 1024
KEY_BLOCK = 64
"""Keys in a block of scores: each costs the sums one more pass through memory (32 and 128 keys: 6 % less).
"""
FETCHING_STEPS = 2
"""Where there are more than ``MOST_EVEN`` queries, and so as many keys or more as a rule, the keys of a head exceed the
second cache: during each product a block of keys or values is fetched that the other reads, if the nearest cache may
hold one. Two steps of k fetch a line. Measured for S = 2048 and heads of 128: 172 GFLOP/s instead of 147; where all
keys are in the second cache, 2 % less."""


def attention_schedules(roles: AttentionRoles, machine: Machine) -> list[GuardedScheduleAttr]:
    """The guarded schedules of an attention on ``machine``, by the number of its queries."""
    try:
        # Narrower factors are widened as they are staged.
        intrinsic = machine.choose("f32", "f32", "f32")
        lanes, name = intrinsic.n, intrinsic.name
    except UnknownNameError:
        lanes, name = 1, None  # no matrix unit: products and sums of scalars
    staged = (roles.query,) if element_type(roles.scores.inputs[roles.query]) == f32 else (0, 1, VALUES)
    nearest = next((memory.capacity for memory in machine.memories if memory.name == "L1"), None)
    few, even = Comparison(roles.m.name, "<=", lanes), EVEN_VECTORS * lanes
    divided = (Comparison(roles.m.name, "==", 0, even), Comparison(roles.m.name, "<=", MOST_EVEN))
    if (queries := roles.m.size) is None:
        blocks = [((few,), lanes, False), (divided, even, False), ((), QUERY_VECTORS * lanes, True)]
    elif queries <= even:
        blocks = [((), round_up(max(queries, 1), lanes), False)]
    else:
        is_even = all(one.holds(queries) for one in divided)
        blocks = [((), even if is_even else QUERY_VECTORS * lanes, queries > MOST_EVEN)]
    return [
        GuardedScheduleAttr(
            GuardAttr(guard), ScheduleAttr(_schedule(roles, block, staged, name, nearest if is_far else None))
        )
        for guard, block, is_far in blocks
    ]


def _schedule(
    roles: AttentionRoles, queries: int, staged: tuple[int, ...], intrinsic: str | None, fetched: int | None
) -> Schedule:
    """One schedule, for blocks of ``queries``."""
    keys = KEY_BLOCK if roles.n.size is None else min(KEY_BLOCK, max(roles.n.size, 1))
    assert roles.d.size is not None and roles.e.size is not None
    loops = [Loop(axis.name, 1) for axis in roles.outer]
    loops += [Loop(roles.m.name, queries), Loop(roles.n.name, keys), Loop(roles.d.name, roles.d.size)]
    if roles.e != roles.d:
        loops.append(Loop(roles.e.name, roles.e.size))
    return Schedule(
        loops=tuple(loops),
        grid=tuple(axis.name for axis in (*roles.outer, roles.m)),
        lane=roles.m.name,
        stage=staged,
        intrinsic=intrinsic,
        unroll=None if fetched is None else FETCHING_STEPS,
        prefetch=fetched,
    )
