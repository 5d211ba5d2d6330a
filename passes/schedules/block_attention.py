"""Schedules of attention on machines whose programs are blocks of warps: a block of queries per instance.

Level: nest. In: the roles of an attention's axes. Out: guarded schedules, such as, for heads of 64::

    #nest.schedule<loops = [b : 1, h : 1, m : 64, n : 64, d : 64, e : 64], grid = [b, h, m], lane = n,
                   stage = [0, 1, 2], pipeline = 2>

Queries are rows: each warp has rows of its own, so the weights of a block are the left factor of the second product as
they stand, and maxima and sums cross the few lanes that share a row. Queries are staged once, keys and values a block
ahead. The instruction is the fastest that one warp executes by itself.
"""

from __future__ import annotations

from crosstile.dialects.nest.analysis import element_type
from crosstile.dialects.nest.attention_roles import AttentionRoles
from crosstile.dialects.nest.schedule import GuardAttr, GuardedScheduleAttr, Loop, Schedule, ScheduleAttr
from crosstile.passes.schedules.register_tiles import bits, round_up
from crosstile.targets.model import Machine

WARPS = 4
QUERY_BLOCK = 64
"""Queries of a block: four warps of 16 rows each."""
KEY_BLOCK = 64
"""Keys of a block of scores, of which each thread holds 32 in registers, beside as many sums for heads of 64."""
HEAD_STEP = 16
"""Heads are filled up to a multiple of this: what the instructions take of k."""


def block_attention_schedules(roles: AttentionRoles, machine: Machine) -> list[GuardedScheduleAttr]:
    """The schedule of an attention on blocks of warps."""
    assert roles.d.size is not None and roles.e.size is not None
    loops = [Loop(axis.name, 1) for axis in roles.outer]
    loops += [Loop(roles.m.name, QUERY_BLOCK), Loop(roles.n.name, KEY_BLOCK)]
    loops += [Loop(axis.name, round_up(axis.size or 1, HEAD_STEP)) for axis in dict.fromkeys((roles.d, roles.e))]
    width = bits(element_type(roles.scores.inputs[roles.key])) // 8
    block = KEY_BLOCK * (round_up(roles.d.size, HEAD_STEP) + round_up(roles.e.size, HEAD_STEP)) * width
    room = machine.memory("shared").capacity // 2
    schedule = Schedule(
        loops=tuple(loops),
        grid=tuple(axis.name for axis in (*roles.outer, roles.m)),
        lane=roles.n.name,
        stage=(0, 1, 2),
        intrinsic=_intrinsic(roles, machine),
        pipeline=2 if 2 * block <= room else 1,
    )
    return [GuardedScheduleAttr(GuardAttr(()), ScheduleAttr(schedule))]


def _intrinsic(roles: AttentionRoles, machine: Machine) -> str | None:
    """The fastest instruction for factors of these types whose rows are at most those of a warp; None if there is none.

    Those of a group of warps (``wgmma``) have to be reached by all of them at once.
    """
    element = str(element_type(roles.scores.inputs[roles.query]))
    wanted = (element, element, "f32")
    found = [
        row
        for row in machine.intrinsics
        if (row.lhs.element, row.rhs.element, row.accumulator.element) == wanted and WARPS * row.m <= QUERY_BLOCK
    ]
    best = max(found, key=lambda row: row.operations * row.rate, default=None)
    return None if best is None or element == "f32" else best.name
