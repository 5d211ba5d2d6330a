"""Schedules of everything that is not a product: rows swept once per reduction and once for the results.

Level: nest. In: the axes of a kernel. Out: one schedule, a few vectors at a time along the dimension that lies
contiguous in memory. Where a tensor lies along another dimension than the result (a transposition), square blocks of as
many rows as a register has lanes are transposed in registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from xdsl.dialects.builtin import AnyFloat, IntegerType
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Attribute, BlockArgument

from crosstile.dialects.nest.analysis import element_type
from crosstile.dialects.nest.axes import Axis, AxisOrUnit, KernelAxes
from crosstile.dialects.nest.generic import GenericOp
from crosstile.dialects.nest.kept_values import is_row, kept_values
from crosstile.dialects.nest.schedule import (
    Comparison,
    GuardAttr,
    GuardedScheduleAttr,
    Loop,
    Schedule,
    ScheduleAttr,
)
from crosstile.passes.schedules.register_tiles import bits, round_up
from crosstile.targets.model import Machine

SWEEP_VECTORS = 4
"""Vectors per step of a sweep: independent chains that hide the latency of an addition."""

COLUMN_SHARE = 2
"""Of the registers, for the sums of columns where rows are long: as long a piece of each row is read as sums fit."""
LONG_ROWS = 512
"""Columns from which that pays. Measured on a Zen 5 with f32: 1024x1024 and 4096x1001 take 60 to 75 % of the time of 64
columns at a time, 4096x4096 two thirds. The core's own prefetchers follow the rows then: fetching ahead along a row's
bytes fetches other columns, which makes 4096x4000 a third slower and 4096x4096, whose rows are pages, 8 % faster."""
TRANSPOSED_ROWS = 256
"""Rows of a result in a block that is read across, in which each row of the source is read so many elements at a time.
Measured on 4096x4096 of f32: 256 are as fast as a copy in C, 64 are a third slower."""
LEAST_ACROSS = 4
"""Fewer rows are gathered element by element: a block is transposed whole, however few of its rows are wanted.
Measured on 3 rows: a third faster."""
KEPT_SHARE = 16
"""A row that is kept in scratch takes at most this part of the second-level cache, in which its source lies as well."""
SHARED_CACHE = 16
"""How many of its second-level caches a core may count on of the last one, which it shares.

What the system says is often the cache of a whole socket, of which a core, or a virtual machine, has its share only.
"""


def sweep_schedules(axes: KernelAxes, machine: Machine) -> list[GuardedScheduleAttr]:
    """The schedule for sweeps; before it one for rows of which values that are kept between sweeps fit scratch."""
    schedule = sweep_schedule(axes, machine)
    general = GuardedScheduleAttr(GuardAttr(()), ScheduleAttr(schedule))
    lane = None if schedule.lane is None else axes.by_name(schedule.lane)
    if lane is not None and _sums_columns(axes, lane, machine):
        return _column_schedules(axes, schedule, lane, machine, general)
    homes = kept_values(axes, axes.kernel.yield_op.arguments).values()
    if lane is None or schedule.stream is None or not any(is_row(axes, axes.of_result(home), lane) for home in homes):
        return [general]
    room = machine.memory("L2").capacity // KEPT_SHARE * 8 // max(bits(type_) for type_ in _element_types(axes))
    if lane.size is None:
        guard = GuardAttr((Comparison(lane.name, "<=", room),))
        return [GuardedScheduleAttr(guard, ScheduleAttr(replace(schedule, keep=room))), general]
    if lane.size > room:
        return [general]
    return [GuardedScheduleAttr(GuardAttr(()), ScheduleAttr(replace(schedule, keep=max(lane.size, 1))))]


def _sums_columns(axes: KernelAxes, lane: Axis, machine: Machine) -> bool:
    """Whether the kernel is one fold of rows into one, on a core whose registers hold more than a sweep's step."""
    (*others, nest) = axes.nests
    folds = not others and nest.combiner is not None and lane not in axes.reduced(nest)
    folds = folds and all(axes.of_operand(nest, position)[-1:] == (lane,) for position in range(len(nest.inputs)))
    return folds and machine.warp_lanes is None and machine.vector_registers // COLUMN_SHARE > SWEEP_VECTORS


def _column_schedules(
    axes: KernelAxes, schedule: Schedule, lane: Axis, machine: Machine, general: GuardedScheduleAttr
) -> list[GuardedScheduleAttr]:
    """A schedule with as many sums side by side as the registers hold for long rows, and the ``general`` one."""
    if lane.size is not None and lane.size < LONG_ROWS:
        return [general]
    columns = machine.vector_registers // COLUMN_SHARE * (machine.vector_bits // _lane_bits(axes))
    loops = tuple(
        replace(loop, step=columns) if axes.by_name(loop.iterator) == lane else loop for loop in schedule.loops
    )
    grain = columns if schedule.parallel == lane.name else schedule.grain
    wide = ScheduleAttr(replace(schedule, loops=loops, grain=grain, prefetch=None))
    if lane.size is not None:
        return [GuardedScheduleAttr(GuardAttr(()), wide)]
    return [GuardedScheduleAttr(GuardAttr((Comparison(lane.name, ">=", LONG_ROWS),)), wide), general]


def sweep_schedule(axes: KernelAxes, machine: Machine) -> Schedule:
    """A schedule for rows that are swept once per reduction and once for the results."""
    parallel = axes.parallel()
    lane = lane_axis(axes, parallel)
    lanes = machine.vector_bits // _lane_bits(axes)
    vectors = SWEEP_VECTORS if machine.vector_registers > 1 and lanes > 1 else 1
    across = None if lane is None or lanes == 1 else axis_across(axes, lane)
    if lane is not None and across is not None:
        return _transposing_schedule(axes, parallel, lane, across, lanes, machine)
    if lane is not None and lane.size is not None:
        vectors = min(vectors, max(1, -(-lane.size // lanes)))
    outer = [axis for axis in parallel if axis != lane]
    rows = outer[-1] if outer and vectors == 1 else None
    steps = dict.fromkeys((*outer, *(axis for nest in axes.nests for axis in axes.reduced(nest))), 1)
    if lane is not None:
        steps[lane] = lanes * vectors
    if rows is not None:
        steps[rows] = SWEEP_VECTORS
    ordered = [axis for axis in dict.fromkeys([*parallel, *axes.of_nest(axes.root)]) if axis != lane]
    ordered += [] if lane is None else [lane]
    split = next((axis for axis in parallel if axis.size != 1), None)
    known = [axis for axis in ordered if axis in axes.of_nest(axes.root)]
    return Schedule(
        loops=tuple(Loop(axis.name, steps.get(axis, 1)) for axis in known),
        parallel=None if split is None else split.name,
        grain=1 if split is None else steps[split],
        lane=None if lane is None else lane.name,
        prefetch=machine.memory("L1").capacity // 2 if lane is not None and _has(machine, "L1") else None,
        stream=_share_of_last_cache(machine) if lane is not None else None,
    )


def _transposing_schedule(
    axes: KernelAxes, parallel: Sequence[Axis], lane: Axis, across: Axis, lanes: int, machine: Machine
) -> Schedule:
    """Square blocks of registers, of which some tensors are read or written along the rows and transposed.

    The blocks go along the row of the tensor that is read across, so that each of its rows is a stream.
    """
    outer = [axis for axis in parallel if axis not in (lane, across)]
    block = TRANSPOSED_ROWS if across.size is None else min(TRANSPOSED_ROWS, round_up(max(across.size, 1), lanes))
    split = next((axis for axis in (*outer, across) if axis.size != 1), across)
    return Schedule(
        loops=(
            *(Loop(axis.name, 1) for axis in outer),
            Loop(across.name, block),
            Loop(lane.name, lanes),
            Loop(across.name, lanes),
        ),
        parallel=split.name,
        grain=lanes if split == across else 1,
        lane=lane.name,
        stream=_share_of_last_cache(machine),
    )


def axis_across(axes: KernelAxes, lane: Axis) -> Axis | None:
    """Where nothing is folded, the axis along which a tensor lies that does not lie along ``lane``, but has it."""
    if any(nest.combiner is not None for nest in axes.nests):
        return None
    lying = (along[-1] for along in _memory_axes(axes) if lane in along)
    found = next((axis for axis in lying if isinstance(axis, Axis) and axis != lane), None)
    return None if found is None or (found.size is not None and found.size < LEAST_ACROSS) else found


def _has(machine: Machine, name: str) -> bool:
    return any(memory.name == name for memory in machine.memories)


def _share_of_last_cache(machine: Machine) -> int | None:
    """The bytes from which a result drives what it needs out of the caches; None for a core without shared cache."""
    if not machine.store_fence or not _has(machine, "L3") or not _has(machine, "L2"):
        return None
    return min(machine.memory("L3").capacity, SHARED_CACHE * machine.memory("L2").capacity)


def lane_axis(axes: KernelAxes, parallel: Sequence[Axis]) -> Axis | None:
    """The axis across lanes: contiguous in memory, and not one whose sums must stay in order."""
    ordered = {axis for nest in axes.nests if not may_reorder(nest) for axis in axes.reduced(nest)}
    for along in _memory_axes(axes):
        last = along[-1] if along else None
        if isinstance(last, Axis) and last not in ordered:
            return last
    return parallel[-1] if parallel else None


def _memory_axes(axes: KernelAxes) -> list[tuple[AxisOrUnit, ...]]:
    """How tensors in memory lie along the axes: the results of the kernel, then its inputs, of highest rank first."""
    results = [axes.of_result(value) for value in axes.kernel.yield_op.arguments if isinstance(value.owner, GenericOp)]
    inputs = [
        axes.of_operand(nest, position)
        for nest in axes.nests
        for position, operand in enumerate(nest.inputs)
        if isinstance(operand, BlockArgument)
    ]
    return sorted([*results, *inputs], key=lambda along: -sum(axis is not None for axis in along))


def may_reorder(nest: GenericOp) -> bool:
    """Whether the reduction of ``nest`` may be split into several chains: a sum of floats with ``reassoc`` only."""
    if nest.combiner is None or nest.combiner.data in ("max", "min") or isinstance(nest.accumulator_type, IntegerType):
        return True
    return nest.fastmath is not None and FastMathFlag.REASSOC in nest.fastmath.data


def _element_types(axes: KernelAxes) -> list[Attribute]:
    nests = axes.nests
    types = [element_type(value) for nest in nests for value in (*nest.inputs, *nest.results)]
    return types + [nest.accumulator_type for nest in nests if nest.accumulator_type is not None]


def _lane_bits(axes: KernelAxes) -> int:
    """The bits of a lane: as many as the kernel's widest float has, f32's if it has none.

    Wider integers take several registers per lane's worth: an i64 beside f32 lies across 16 lanes of 512 bits as well.
    """
    return max((bits(type_) for type_ in _element_types(axes) if isinstance(type_, AnyFloat)), default=32)
