"""Schedules of products on a unit with tile registers (AMX): both factors packed, one resident, one streaming.

Level: nest. In: a kernel whose root is a matrix product, and an intrinsic of a tile unit. Out: guarded schedules for
few rows and the general case::

    #nest.schedule<loops = [n : 1024, k : 512 balanced 32, m : 32, n : 32], parallel = m grain 32, lane = n,
                   stage = [0, 1], intrinsic = "x86.amx.tdpbf16ps.16x16x32.f32.bf16">

A block of the right factor is packed into half of the second-level cache. Each panel of rows of the left one is packed
into the first-level cache, where it stays while the block streams by, one panel of columns after the other. All
products of a type use the one instruction, however few rows they have: its sums have an order of their own.
"""

from __future__ import annotations

from crosstile.dialects.nest.analysis import element_type
from crosstile.dialects.nest.axes import KernelAxes, axes_among
from crosstile.dialects.nest.contraction_roles import ContractionRoles
from crosstile.dialects.nest.schedule import Comparison, GuardAttr, GuardedScheduleAttr, Loop, Schedule, ScheduleAttr
from crosstile.passes.schedules.register_tiles import bits, round_up
from crosstile.targets.model import Machine, MmaIntrinsic

TILES = 2
"""Tile registers of the result down and across: 2x2 accumulators and two of each factor are the eight there are."""
RESIDENT_SHARE = 0.75
"""Of the first-level cache, for the panel of the left factor; the rest is for what passes by."""


def tile_unit_schedules(
    axes: KernelAxes, roles: ContractionRoles, machine: Machine, intrinsic: MmaIntrinsic
) -> list[GuardedScheduleAttr]:
    """Guarded schedules: one for at most a tile's rows, one for more, as far as the size is not known."""
    m_size = 1 if roles.m is None else roles.m.size
    result: list[GuardedScheduleAttr] = []
    if m_size is None or m_size <= intrinsic.m:
        few = () if m_size is not None or roles.m is None else (Comparison(roles.m.name, "<=", intrinsic.m),)
        result.append(_guarded(_schedule(axes, roles, machine, intrinsic, 1), *few))
    if m_size is None or m_size > intrinsic.m:
        result.append(_guarded(_schedule(axes, roles, machine, intrinsic, TILES)))
    return result


def _guarded(schedule: Schedule, *guard: Comparison) -> GuardedScheduleAttr:
    return GuardedScheduleAttr(GuardAttr(guard), ScheduleAttr(schedule))


def _schedule(
    axes: KernelAxes, roles: ContractionRoles, machine: Machine, intrinsic: MmaIntrinsic, tiles: int
) -> Schedule:
    """One schedule with register tiles of ``tiles`` tile registers down."""
    element_bytes = bits(element_type(roles.nest.inputs[roles.rhs])) // 8
    rows, columns = tiles * intrinsic.m, TILES * intrinsic.n
    k_step = _depth(machine, intrinsic, element_bytes)
    n_step = machine.memory("L2").capacity // 2 // (k_step * element_bytes) // columns * columns
    if roles.k.size is not None:
        k_step = max(intrinsic.k, min(k_step, round_up(roles.k.size, intrinsic.k)))
    if roles.n.size is not None:
        n_step = min(n_step, round_up(max(roles.n.size, 1), columns))
    others = [axis for axis in axes_among(axes.of_result(roles.nest.results[0])) if axis not in (roles.m, roles.n)]
    outer_sums = [axis for axis in axes.reduced(roles.nest) if axis != roles.k]
    split, grain = (
        (others[0], 1) if others else (roles.n, columns) if roles.m is None or tiles == 1 else (roles.m, rows)
    )
    m_loop = [] if roles.m is None else [Loop(roles.m.name, rows)]
    loops = [
        *(Loop(axis.name, 1) for axis in (*others, *outer_sums)),
        Loop(roles.n.name, n_step),
        Loop(roles.k.name, k_step, intrinsic.k),
        *m_loop,
        Loop(roles.n.name, columns),
    ]
    return Schedule(
        loops=tuple(loops),
        parallel=split.name,
        grain=grain,
        lane=roles.n.name,
        stage=(0, 1),
        intrinsic=intrinsic.name,
    )


def _depth(machine: Machine, intrinsic: MmaIntrinsic, element_bytes: int) -> int:
    """How far k goes in a block: a panel of the left factor fills its share of the first-level cache."""
    room = int(machine.memory("L1").capacity * RESIDENT_SHARE) // (TILES * intrinsic.m * element_bytes)
    depth = intrinsic.k
    while 2 * depth <= room:
        depth *= 2
    return depth
