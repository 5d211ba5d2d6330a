"""Rules for ``mma.parallel``: which tile of the grid, or which range, is this block's.

mma.parallel (%i, %j), (%mc, %nc) = (0, 0) to (%M, %N) step (128, 128) { ... }
==>
%i = ctaid.y * 128, %mc = min(128, %M - %i), ...

With ``raster 8`` the number of a block in the order in which the machine begins them is counted through groups of 8
rows, column by column: what runs at one time then reads fewer different rows and columns of the factors.

With ``descending`` the columns are counted from the last one.

With ``persistent`` a block takes every instance whose number is its own plus a multiple of how many blocks there are::

    scf.for %instance = ctaid.x to %instances step nctaid.x iter_args(where the role's rings stand) { ... }
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import arith
from xdsl.ir import Block, SSAValue

from crosstile.dialects import mma
from crosstile.dialects.mma.kernel import integer_list
from crosstile.dialects.nvvm.clusters import ClusterCountXOp, ClusterIdXOp
from crosstile.dialects.nvvm.special import BlockIdXOp, BlockIdYOp, GridDimXOp
from crosstile.ir.index_math import Index
from crosstile.lowering.divisibility import constant_value
from crosstile.lowering.mma_to_nvvm.clusters import position
from crosstile.lowering.mma_to_nvvm.loops import loop_over_instances
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering


def lower_parallel(op: mma.ParallelOp, lowering: NvvmLowering) -> None:
    """The tile, or the range, of this block."""
    if op.is_grid:
        _lower_grid(op, lowering)
    else:
        _lower_range(op, lowering)


def _lower_grid(op: mma.ParallelOp, lowering: NvvmLowering) -> None:
    """Blocks are counted along x and y in two dimensions; all along x if there are more, as y and z are short."""
    if op.order.persistent is None:
        bounds = _bounds(op, lowering)
        _enter_instance(op, bounds, _block_numbers(bounds, integer_list(op.steps), lowering), lowering)
        lower_body(op.body.block, lowering)
        return
    for inner in op.body.block.ops:
        if isinstance(inner, _SHARED):
            lowering.lower_op(inner)


_SHARED = (mma.RingOp, mma.AllocOp, mma.RolesOp)
"""What the instances of a persistent grid share: scratch, rings, and the roles with their loops."""


def lower_instances(op: mma.ParallelOp, role: Block, lowering: NvvmLowering) -> None:
    """All instances of this block, one after the other, as far as they are the work of ``role``."""
    index = lowering.index
    bounds, steps = _bounds(op, lowering), integer_list(op.steps)
    counts = _counts(bounds, steps, lowering)
    first, all_ = (ClusterIdXOp(), ClusterCountXOp()) if op.order.cluster else (BlockIdXOp(), GridDimXOp())
    begin, step = (lowering.to_index(index.build(register).result) for register in (first, all_))

    def instance(number: SSAValue) -> None:
        _enter_instance(op, bounds, _numbers(number, counts, lowering), lowering)
        for inner in op.body.block.ops:
            if not isinstance(inner, (*_SHARED, mma.YieldOp)):
                lowering.lower_op(inner)
        lower_body(role, lowering)

    loop_over_instances((begin, index.value(index.product(counts)), step), role, lowering, instance)


def _bounds(op: mma.ParallelOp, lowering: NvvmLowering) -> list[tuple[Index, ...]]:
    pairs = zip(op.lower_bounds, op.upper_bounds, strict=True)
    return [tuple(_bound(bound, lowering) for bound in pair) for pair in pairs]


def _enter_instance(
    op: mma.ParallelOp, bounds: Sequence[tuple[Index, ...]], numbers: Sequence[SSAValue], lowering: NvvmLowering
) -> None:
    """The body's arguments are those of the instance at ``numbers``, in order of their beginning."""
    index, steps, order = lowering.index, integer_list(op.steps), op.order
    rank = len(steps)
    if order.raster is not None:
        counts = _counts(bounds, steps, lowering)[-2:]
        rows = order.raster // (order.cluster[-2] if order.cluster else 1)
        numbers = [*numbers[:-2], *_rastered(numbers[-2:], counts, rows, lowering)]
    if order.descending:
        last = index.sub(_counts(bounds, steps, lowering)[-1], 1)
        numbers = [*numbers[:-1], index.value(index.sub(last, numbers[-1]))]
    for dim, at in enumerate(numbers):
        lower, upper = bounds[dim]
        blocks = order.cluster[dim] if order.cluster else 1
        number = index.add(index.mul(at, blocks), position(lowering, dim))
        start = index.add(lower, index.mul(number, steps[dim]))
        extent: Index = 1
        if steps[dim] > 1 or blocks > 1:
            extent = index.minimum(index.sub(upper, start), steps[dim])
            extent = index.maximum(extent, 0) if blocks > 1 else extent  # of a cluster's blocks beyond the edge
        lowering.map_value(op.body.block.args[dim], index.value(start))
        lowering.map_value(op.body.block.args[rank + dim], index.value(extent))


def _block_numbers(bounds: Sequence[tuple[Index, ...]], steps: Sequence[int], lowering: NvvmLowering) -> list[SSAValue]:
    """The number of this block along each dimension of its grid."""
    index, rank = lowering.index, len(steps)
    if lowering.kernel.cluster:
        number = lowering.to_index(index.build(ClusterIdXOp()).result)
        return _numbers(number, _counts(bounds, steps, lowering), lowering)
    registers = (BlockIdXOp, BlockIdYOp)[: rank if rank <= 2 else 1]
    numbers = [lowering.to_index(index.build(register()).result) for register in registers]
    if rank <= 2:
        return numbers[::-1]
    return _numbers(numbers[0], _counts(bounds, steps, lowering), lowering)


def _numbers(rest: SSAValue, counts: Sequence[SSAValue], lowering: NvvmLowering) -> list[SSAValue]:
    """The place of instance number ``rest`` among ``counts`` along each dimension, the last one fastest."""
    found: list[SSAValue] = []
    for count in reversed(counts[1:]):
        found.insert(0, lowering.insert(arith.RemUIOp(rest, count)).result)
        rest = lowering.insert(arith.DivUIOp(rest, count)).result
    return [rest, *found]


def _counts(bounds: Sequence[tuple[Index, ...]], steps: Sequence[int], lowering: NvvmLowering) -> list[SSAValue]:
    """How many blocks, or clusters of them, there are along each dimension."""
    cluster = lowering.kernel.cluster or (1,) * len(steps)
    sides = zip(bounds, steps, cluster, strict=True)
    return [_block_count(pair, step * blocks, lowering) for pair, step, blocks in sides]


def _block_count(bounds: tuple[Index, ...], step: int, lowering: NvvmLowering) -> SSAValue:
    """How many blocks a grid has along one dimension."""
    index, (lower, upper) = lowering.index, bounds
    return index.value(index.floor_div(index.add(index.sub(upper, lower), step - 1), step))


def _rastered(
    numbers: Sequence[SSAValue], counts: Sequence[SSAValue], raster: int, lowering: NvvmLowering
) -> list[SSAValue]:
    """The row and the column of the block that begins as the one at ``numbers`` would, row by row.

    ``counts`` are how many rows and columns of blocks there are.
    """
    index, (row, column), (rows, columns) = lowering.index, numbers, counts
    number = index.value(index.add(index.mul(row, columns), column))
    group_size = index.value(index.mul(columns, raster))
    group = lowering.insert(arith.DivUIOp(number, group_size)).result
    inside = index.value(index.sub(number, index.mul(group, group_size)))
    first = index.mul(group, raster)
    height = index.value(index.minimum(index.sub(rows, first), raster))  # of the last group, what is left
    row_inside = lowering.insert(arith.RemUIOp(inside, height)).result
    return [index.value(index.add(first, row_inside)), lowering.insert(arith.DivUIOp(inside, height)).result]


def _lower_range(op: mma.ParallelOp, lowering: NvvmLowering) -> None:
    assert op.grain is not None
    index, grain = lowering.index, op.grain.value.data
    lower, upper = _bound(op.lower_bounds[0], lowering), _bound(op.upper_bounds[0], lowering)
    distance = index.maximum(index.sub(upper, lower), 0)
    blocks = index.floor_div(index.add(distance, grain - 1), grain)
    part = lowering.to_index(index.build(BlockIdXOp()).result)
    parts = lowering.to_index(index.build(GridDimXOp()).result)
    total = index.value(index.add(blocks, index.sub(parts, 1)))
    share = lowering.insert(arith.DivUIOp(total, parts)).result
    begin = index.minimum(upper, index.add(lower, index.mul(index.mul(part, share), grain)))
    end = index.minimum(upper, index.add(begin, index.mul(share, grain)))
    for argument, value in zip(op.body.block.args, (begin, end), strict=True):
        lowering.map_value(argument, index.value(value))
    lower_body(op.body.block, lowering)


def _bound(old: SSAValue, lowering: NvvmLowering) -> Index:
    known = constant_value(old)
    return lowering.value(old) if known is None else known


def lower_body(block: Block, lowering: NvvmLowering) -> None:
    """The operations of a body that ends in ``mma.yield``."""
    for inner in block.ops:
        if not isinstance(inner, mma.YieldOp):
            lowering.lower_op(inner)
