"""One ``nest.kernel`` with one of its schedules becomes one ``tile.kernel``.

A schedule with a grid is for attention (``attention``), the blocks of a product (``block_products``), or blocks of rows
(``block_sweeps``), one with an intrinsic makes the kernel a blocked matrix product
(``contraction``), any other a sweep over rows (``sweeps``). They share what stands here: the arguments, and but for
attention the register tile and the outermost parallel loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from xdsl.dialects.builtin import IndexType, IntegerAttr, MemRefType, TensorType, i64
from xdsl.ir import Attribute, Block, SSAValue
from xdsl.utils.hints import isa

from crosstile.dialects import tile
from crosstile.dialects.nest.attention_roles import attention_roles
from crosstile.dialects.nest.axes import Axis, KernelAxes
from crosstile.dialects.nest.contraction_roles import ContractionRoles, contraction_roles, row_axes
from crosstile.dialects.nest.kernel import KernelOp
from crosstile.dialects.nest.row_chain_roles import row_chain_roles
from crosstile.dialects.nest.schedule import GuardedScheduleAttr, Schedule
from crosstile.dialects.packing import memref_of_tensor
from crosstile.dialects.tile.launch import ALIGNMENT
from crosstile.lowering.driver import Lowering
from crosstile.lowering.nest_to_tile.attention import AttentionKernel
from crosstile.lowering.nest_to_tile.block_products import BlockProduct
from crosstile.lowering.nest_to_tile.block_sweeps import sweep_blocks
from crosstile.lowering.nest_to_tile.channels_last import ChannelsLastKernel, channels_last_of
from crosstile.lowering.nest_to_tile.contraction import ContractionKernel
from crosstile.lowering.nest_to_tile.convolution import ConvolutionKernel, convolution_of
from crosstile.lowering.nest_to_tile.kernel_builder import KernelBuilder
from crosstile.lowering.nest_to_tile.places import Place, TileShape
from crosstile.lowering.nest_to_tile.row_chains import RowChainKernel
from crosstile.lowering.nest_to_tile.sweeps import sweep_body
from crosstile.lowering.nest_to_tile.whole_filter import WholeFilterKernel


def lower_kernel_body(
    lowering: Lowering, op: KernelOp, axes: KernelAxes, guarded: GuardedScheduleAttr, name: str
) -> tile.KernelOp:
    """The tile kernel called ``name`` for ``op`` with the schedule of ``guarded``; its arguments are the inputs, then
    the results."""
    schedule, block = guarded.schedule.data, Block()
    values = [*op.body.block.args, *op.yield_op.arguments]
    memory: dict[SSAValue, SSAValue] = {}
    for value in values:
        memory[value] = block.insert_arg(_memref(value.type), len(block.args))
        memory[value].name_hint = value.name_hint
    shape = register_tile(axes, schedule)
    builder = KernelBuilder(lowering, axes, shape, memory, schedule)
    with builder.index.function(block):
        outputs = list(op.yield_op.arguments)
        if schedule.grid:
            _grid(builder, guarded, outputs)
        else:
            _parallel(builder, schedule, outputs, _unread(op))
        lowering.insert(tile.ReturnOp())
    kernel = tile.KernelOp(name, block)
    kernel.location = op.location
    if schedule.aligned is not None:
        kernel.attributes[ALIGNMENT] = IntegerAttr(schedule.aligned, i64)
    return kernel


def _grid(builder: KernelBuilder, guarded: GuardedScheduleAttr, outputs: Sequence[SSAValue]) -> None:
    """A kernel whose outermost blocks are all divided among workers: attention, or the blocks of a product."""
    schedule = guarded.schedule.data
    if (attention := attention_roles(builder.axes)) is not None:
        AttentionKernel(builder, attention, schedule, guarded.guard, outputs).build()
    elif (chain := row_chain_roles(builder.axes)) is not None:
        RowChainKernel(builder, chain, schedule, guarded.guard, outputs).build()
    elif (roles := contraction_roles(builder.axes)) is not None and schedule.intrinsic is not None:
        BlockProduct(builder, roles, schedule, outputs).build()
    else:
        sweep_blocks(builder, schedule, outputs)


def _memref(type_: Attribute) -> MemRefType:
    assert isa(type_, TensorType)
    return memref_of_tensor(type_)


def register_tile(axes: KernelAxes, schedule: Schedule) -> TileShape:
    """The rows and lanes of the schedule's innermost loops.

    Lanes are the axis the schedule says; rows are the axis of a contraction's m, else the innermost other loop that is
    parallel in every nest.
    """
    lanes = None if schedule.lane is None else axes.by_name(schedule.lane)
    roles = None if schedule.intrinsic is None else contraction_roles(axes)
    if roles is not None:
        rows = roles.m
    else:
        named = [axes.by_name(loop.iterator) for loop in schedule.loops]
        others = [axis for axis in named if axis is not None and axis != lanes]
        candidates = [axis for axis in others if axis in axes.parallel()]
        # Blocks of warps fold a few rows at once down their columns.
        folded = [axis for axis in others if axis not in axes.parallel() and _innermost_step(schedule, axis) > 1]
        rows = (folded if schedule.grid and folded else candidates or [None])[-1]
    row_count, lane_count = _innermost_step(schedule, rows), _innermost_step(schedule, lanes)
    rectangle: tuple[tuple[Axis, int], ...] = ()
    if roles is not None and schedule.grid:
        rectangle = _rectangle(axes, roles, schedule)
        row_count = prod(count for _, count in rectangle) if rectangle else row_count
    folded = None if schedule.fold is None else axes.by_name(schedule.fold[0])
    fold = None if folded is None or schedule.fold is None else (folded, schedule.fold[1])
    return TileShape(rows, row_count, lanes, lane_count, fold, rectangle)


def _rectangle(axes: KernelAxes, roles: ContractionRoles, schedule: Schedule) -> tuple[tuple[Axis, int], ...]:
    """The axes through which rows of a product's block count, m the last, if there are others than m."""
    counts = [(axis, _innermost_step(schedule, axis)) for axis in row_axes(axes, roles)]
    found = tuple((axis, count) for axis, count in counts if count > 1 or axis == roles.m)
    return found if len(found) > 1 else ()


def _innermost_step(schedule: Schedule, axis: Axis | None) -> int:
    steps = () if axis is None else schedule.steps(axis.name)
    return steps[-1] if steps else 1


def _unread(op: KernelOp) -> frozenset[SSAValue]:
    """The results that nobody reads, which only hold what waits between blocks; none if that would be all of them."""
    pairs = zip(op.yield_op.arguments, op.results, strict=True)
    found = frozenset(value for value, result in pairs if not result.uses)
    return found if len(found) < len(op.results) else frozenset()


def _parallel(
    builder: KernelBuilder, schedule: Schedule, outputs: Sequence[SSAValue], unread: frozenset[SSAValue]
) -> None:
    """The outermost loop, split over workers, around the rest of the kernel."""
    axis = None if schedule.parallel is None else builder.axes.by_name(schedule.parallel)
    size = 1 if axis is None else builder.size(axis)
    bounds = builder.index.value(0), builder.index.value(size)
    block = Block(arg_types=[IndexType(), IndexType()])
    begin, end = block.args
    begin.name_hint, end.name_hint = "begin", "end"
    with builder.lowering.at(block):
        place = Place()
        if axis is not None:
            place = place.inside(axis, begin, builder.index.sub(end, begin))
        if schedule.intrinsic is not None:
            roles = contraction_roles(builder.axes)
            if roles is None:
                raise builder.lowering.error(
                    f"the schedule names intrinsic '{schedule.intrinsic}', but the root nest is no matrix product of "
                    "inputs of one floating-point type"
                )
            parts, last = (of(builder.axes, roles, schedule) for of in (convolution_of, channels_last_of))
            if last is not None:
                kind = WholeFilterKernel if roles.rhs in schedule.stage else ChannelsLastKernel
                kind(builder, roles, schedule, outputs, unread, parts=last).body(place)
            elif parts is None:
                ContractionKernel(builder, roles, schedule, outputs, unread).body(place)
            else:
                ConvolutionKernel(builder, roles, schedule, outputs, unread, parts=parts).body(place)
        else:
            sweep_body(builder, schedule, place, outputs)
        builder.lowering.insert(tile.YieldOp())
    builder.lowering.insert(tile.ParallelOp([bounds[0]], [bounds[1]], block, grain=schedule.grain))
