"""Schedules of attention on machines whose programs are blocks of warps: a block of queries per instance.

Level: nest. In: the roles of an attention's axes. Out: guarded schedules, such as, for heads of 64::

    #nest.schedule<loops = [b : 1, h : 1, m : 128, n : 64, d : 64, e : 64], grid = [b, h, m], lane = n,
                   stage = [0, 1, 2], intrinsic = "nvidia.mma.m16n8k16.f32.bf16", pipeline = 2>
    #nest.schedule<loops = [b : 1, h : 1, m : 128, n : 128, d : 64, e : 64], grid = [b, h, m], lane = n,
                   stage = [0, 1, 2], pipeline = 2 role, aligned = 16>

Queries are rows: each warp has rows of its own, so the weights of a block are the left factor of the second product as
they stand, and maxima and sums cross the few lanes that share a row. Queries are staged once, keys and values a block
ahead. Where a role of its own can copy keys and values in whole blocks, the instructions are those of a group of warps:
each group has 64 rows, and while one waits for its products the other computes weights. Else they are those that one
warp executes by itself, and a warp has as many rows as it has room for, which share the factors that it loads.
"""

from __future__ import annotations

from dataclasses import replace

from crosstile.dialects.grid_order import ANY_ORDER, GridOrder
from crosstile.dialects.nest.analysis import element_type
from crosstile.dialects.nest.attention_roles import AttentionRoles
from crosstile.dialects.nest.axes import Axis, KernelAxes
from crosstile.dialects.nest.generic import GenericOp
from crosstile.dialects.nest.schedule import Comparison, GuardAttr, GuardedScheduleAttr, Loop, Schedule, ScheduleAttr
from crosstile.dialects.nest.visible_range import mask_of
from crosstile.ir.diagnostics import op_error
from crosstile.passes.schedules.alignment import ALIGNMENT, aligned_variants, rows_guard
from crosstile.passes.schedules.register_tiles import bits, round_up
from crosstile.targets.model import Machine, MmaIntrinsic

WARPS = 4
QUERY_BLOCK = 64
"""Queries of a block: four warps of 16 rows each."""
KEY_BLOCK = 64
"""Keys of a block of scores, of which each thread holds 32 in registers, beside as many sums for heads of 64."""
GROUPS = 2
"""Groups of warps that share a block of queries."""
MOST_WIDE_HEAD = 128
"""With heads of up to so many numbers a group has room for twice as many scores, with larger ones a warp for half."""
MOST_DEEP_HEAD = 64
"""With heads of up to so many numbers a warp has room for sums of twice 16 rows, which share what it loads."""
HEADS = 8
"""Heads whose blocks of queries begin in turn, the longest first, while their keys are in L2. With 2048 queries of each
of 32 causal heads 132 multiprocessors take 3 % longer than if all were equally busy; head by head, 27 %."""
HEAD_STEP = 16
"""Heads are filled up to a multiple of this: what the instructions take of k."""


def block_attention_schedules(axes: KernelAxes, roles: AttentionRoles, machine: Machine) -> list[GuardedScheduleAttr]:
    """The schedules of an attention on blocks of warps, the first where whole blocks of memory can be copied.

    Blocks of queries that see more keys than others begin first. Raises a CrosstileError for one query of each head,
    which would leave all rows of a block but one empty.
    """
    if roles.m is None:
        raise op_error(
            axes.kernel,
            "choose-schedule: attention of one query of each head is no kernel for blocks of warps: expects three, as "
            f"'fuse-attention' with target {machine.name} leaves them",
        )
    order = _order(axes, roles, roles.m)
    found = _in_any_order(axes, roles, roles.m, machine)
    ordered = ((one.guard, replace(one.schedule.data, order=order)) for one in found)
    return [GuardedScheduleAttr(guard, ScheduleAttr(schedule)) for guard, schedule in ordered]


def _order(axes: KernelAxes, roles: AttentionRoles, m: Axis) -> GridOrder:
    """The last blocks of queries first, of several heads at a time, if later queries see more keys."""
    nest = roles.weighted.inputs[roles.score].owner
    if not isinstance(nest, GenericOp) or nest is roles.scores or (m.size is not None and m.size <= QUERY_BLOCK):
        return ANY_ORDER
    along = axes.of_nest(nest)
    bounds = mask_of(nest, along.index(roles.n)).bounds
    if not any(one.is_upper and one.factor > 0 and one.row is not None and along[one.row] == m for one in bounds):
        return ANY_ORDER
    return GridOrder(HEADS if roles.outer else None, descending=True)


def _in_any_order(axes: KernelAxes, roles: AttentionRoles, m: Axis, machine: Machine) -> list[GuardedScheduleAttr]:
    """The schedules, without the order of blocks."""
    rows = _instructions(roles, machine)
    single = [row for row in rows if WARPS * row.m <= QUERY_BLOCK]
    best = max(single, key=_speed, default=None)
    plain = _single_warps(roles, m, machine, best)
    grouped = [row for row in rows if row not in single]
    guard = rows_guard(axes, ALIGNMENT)
    faster = best is not None and any(_speed(row) > _speed(best) for row in grouped)
    if not faster or guard is None or roles.n.size == 0 or machine.block_copy_bytes != ALIGNMENT:
        return aligned_variants(axes, plain)
    some = () if roles.n.size else (Comparison(roles.n.name, ">=", 1),)
    assert roles.d.size is not None and roles.e.size is not None
    keys = 2 * KEY_BLOCK if max(roles.d.size, roles.e.size) <= MOST_WIDE_HEAD else KEY_BLOCK
    schedule = _schedule(roles, m, machine, GROUPS * QUERY_BLOCK, keys, None, role=True)
    first = GuardedScheduleAttr(GuardAttr((*guard, *some)), ScheduleAttr(schedule))
    if not first.guard.data:
        return [first]
    # Where rows are known to be aligned, all that is left is no keys at all.
    rest = plain if guard else [GuardedScheduleAttr(GuardAttr(()), plain[0].schedule)]
    return [first, *aligned_variants(axes, rest)]


def _single_warps(
    roles: AttentionRoles, m: Axis, machine: Machine, intrinsic: MmaIntrinsic | None
) -> list[GuardedScheduleAttr]:
    """Few queries, and any number of them where heads are small."""
    assert roles.d.size is not None and roles.e.size is not None
    size, head = m.size, max(roles.d.size, roles.e.size)
    keys = KEY_BLOCK if head <= MOST_WIDE_HEAD or intrinsic is None else KEY_BLOCK // 2
    few, many = (
        ScheduleAttr(_schedule(roles, m, machine, queries, keys, intrinsic))
        for queries in (QUERY_BLOCK, 2 * QUERY_BLOCK)
    )
    if intrinsic is None or head > MOST_DEEP_HEAD or (size is not None and size <= QUERY_BLOCK):
        return [GuardedScheduleAttr(GuardAttr(()), few)]
    first = [] if size is not None else [Comparison(m.name, "<=", QUERY_BLOCK)]
    found = [GuardedScheduleAttr(GuardAttr(tuple(first)), few)] if first else []
    return [*found, GuardedScheduleAttr(GuardAttr(()), many)]


def _schedule(
    roles: AttentionRoles,
    m: Axis,
    machine: Machine,
    queries: int,
    keys: int,
    intrinsic: MmaIntrinsic | None,
    role: bool = False,
) -> Schedule:
    """Blocks of so many queries and keys. Without ``intrinsic`` each product has the fastest that its shape allows."""
    assert roles.d.size is not None and roles.e.size is not None
    loops = [Loop(axis.name, 1) for axis in roles.outer]
    loops += [Loop(m.name, queries), Loop(roles.n.name, keys)]
    loops += [Loop(axis.name, round_up(axis.size or 1, HEAD_STEP)) for axis in dict.fromkeys((roles.d, roles.e))]
    width = bits(element_type(roles.scores.inputs[roles.key])) // 8
    block = keys * (round_up(roles.d.size, HEAD_STEP) + round_up(roles.e.size, HEAD_STEP)) * width
    room = machine.memory("shared").capacity // (1 if role else 2)
    return Schedule(
        loops=tuple(loops),
        grid=tuple(axis.name for axis in (*roles.outer, m)),
        lane=roles.n.name,
        stage=(0, 1, 2),
        intrinsic=None if intrinsic is None else intrinsic.name,
        pipeline=2 if role or 2 * block <= room else 1,
        role=role,
        aligned=ALIGNMENT if role else None,
    )


def _speed(row: MmaIntrinsic) -> float:
    return row.operations * row.rate


def _instructions(roles: AttentionRoles, machine: Machine) -> list[MmaIntrinsic]:
    """The instructions for factors of these types; none where factors are of f32, which fma multiplies."""
    element = str(element_type(roles.scores.inputs[roles.query]))
    wanted = (element, element, "f32")
    rows = machine.intrinsics if element != "f32" else ()
    return [row for row in rows if (row.lhs.element, row.rhs.element, row.accumulator.element) == wanted]
