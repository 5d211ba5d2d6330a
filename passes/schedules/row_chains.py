"""Schedules of chains of two products: blocks of rows across lanes, whose rows wait in scratch while they fit.

Level: nest. In: the roles of a chain's axes. Out: guarded schedules, such as, on a core with AVX-512::

    n <= 5440 : loops = [b : 1, h : 1, m : 48, n : 64, d : 64, e : 64], grid = [b, h, m], lane = m, keep = 5440
                loops = [b : 1, h : 1, m : 48, n : 64, d : 64, e : 64], grid = [b, h, m], lane = m

What waits takes half of the second cache; the other half is for keys and values. Longer rows are computed again in each
sweep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from crosstile.dialects.nest.analysis import is_contraction
from crosstile.dialects.nest.attention_roles import AttentionRoles
from crosstile.dialects.nest.axes import Axis, KernelAxes
from crosstile.dialects.nest.schedule import Comparison, GuardAttr, GuardedScheduleAttr, Loop, Schedule, ScheduleAttr
from crosstile.passes.schedules.attention import HEAD_ROWS, KEY_BLOCK, QUERY_VECTORS
from crosstile.passes.schedules.register_tiles import round_up
from crosstile.passes.schedules.sweeps import may_reorder
from crosstile.targets.model import Machine, MmaIntrinsic, UnknownNameError

MOST_HEAD = 256
"""The most of either product's other dimension for which both in one kernel pay: all of it is in each block, and what
waits in memory between two kernels is the less of their work the larger it is."""
KEPT_SHARE = 2
"""What waits takes this part of the second cache."""


def takes_row_chain(axes: KernelAxes, roles: AttentionRoles, machine: Machine) -> bool:
    """Whether ``machine`` has a kernel for a chain, and it pays: heads known not to be large, and a sum in order.

    Where lanes may share the sums of a row, two kernels of products blocked for caches are faster. Measured on 4096
    rows, products with 64x96 and 128x1024 and a norm between them: 0.91 and 13.7 ms, as a chain 0.98 and 18.6.
    """
    if all(map(may_reorder, (nest for nest in axes.nests if not is_contraction(nest)))):
        return False
    heads = (roles.d.size, roles.e.size)
    if not all(size is not None and 0 < size <= MOST_HEAD for size in heads):
        return False
    known = machine.warp_lanes is None and any(memory.name == "L2" for memory in machine.memories)
    intrinsic = _intrinsic(machine)
    return known and roles.m is not None and intrinsic is not None and intrinsic.n > 1


def _intrinsic(machine: Machine) -> MmaIntrinsic | None:
    """The multiply-add of f32."""
    try:
        return machine.choose("f32", "f32", "f32")
    except UnknownNameError:
        return None


def row_chain_schedules(roles: AttentionRoles, machine: Machine) -> list[GuardedScheduleAttr]:
    """Schedules for few and for many rows, each for rows that fit scratch and for longer ones."""
    intrinsic = _intrinsic(machine)
    assert intrinsic is not None and roles.m is not None
    found: list[GuardedScheduleAttr] = []
    lanes = intrinsic.n
    few = (Comparison(roles.m.name, "<=", lanes),)
    many = ((), QUERY_VECTORS * lanes)
    blocks = [(few, lanes), many] if roles.m.size is None else [((), lanes) if roles.m.size <= lanes else many]
    for guard, size in blocks:
        schedule = _schedule(roles, intrinsic, size)
        step = schedule.steps(roles.n.name)[0]
        room = machine.memory("L2").capacity // KEPT_SHARE // (size * 4) // step * step
        found += _by_length(roles.n, guard, schedule, room)
    return found


def _by_length(n: Axis, guard: Sequence[Comparison], schedule: Schedule, room: int) -> list[GuardedScheduleAttr]:
    if n.size is not None and n.size <= room:
        keep = replace(schedule, keep=max(n.size, 1))
        return [GuardedScheduleAttr(GuardAttr(tuple(guard)), ScheduleAttr(keep))]
    general = GuardedScheduleAttr(GuardAttr(tuple(guard)), ScheduleAttr(schedule))
    if n.size is not None:
        return [general]
    keep = ScheduleAttr(replace(schedule, keep=room))
    return [GuardedScheduleAttr(GuardAttr((*guard, Comparison(n.name, "<=", room))), keep), general]


def _schedule(roles: AttentionRoles, intrinsic: MmaIntrinsic, size: int) -> Schedule:
    assert roles.m is not None and roles.d.size is not None and roles.e.size is not None
    keys = KEY_BLOCK if roles.n.size is None else min(KEY_BLOCK, max(roles.n.size, 1))
    loops = [Loop(axis.name, 1) for axis in roles.outer]
    loops.append(Loop(roles.m.name, size))
    loops.append(Loop(roles.n.name, round_up(keys, intrinsic.m)))
    loops += [Loop(roles.d.name, roles.d.size), Loop(roles.e.name, round_up(roles.e.size, HEAD_ROWS))]
    return Schedule(
        loops=tuple(loops),
        grid=tuple(axis.name for axis in (*roles.outer, roles.m)),
        lane=roles.m.name,
        stage=(roles.query,),
        intrinsic=intrinsic.name,
    )
