"""Rules for ``mma.parallel``: which tile of the grid, or which range, is this block's.

mma.parallel (%i, %j), (%mc, %nc) = (0, 0) to (%M, %N) step (128, 128) { ... }
==>
%i = ctaid.y * 128, %mc = min(128, %M - %i), ...
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import arith
from xdsl.ir import Block, SSAValue

from crosstile.dialects import mma
from crosstile.dialects.mma.kernel import integer_list
from crosstile.dialects.nvvm.special import BlockIdXOp, BlockIdYOp, GridDimXOp
from crosstile.ir.index_math import Index
from crosstile.lowering.divisibility import constant_value
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering


def lower_parallel(op: mma.ParallelOp, lowering: NvvmLowering) -> None:
    """The tile, or the range, of this block."""
    if op.is_grid:
        _lower_grid(op, lowering)
    else:
        _lower_range(op, lowering)


def _lower_grid(op: mma.ParallelOp, lowering: NvvmLowering) -> None:
    """Blocks are counted along x and y in two dimensions; all along x if there are more, as y and z are short."""
    index, steps = lowering.index, integer_list(op.steps)
    rank = len(steps)
    bounds = [
        tuple(_bound(bound, lowering) for bound in pair) for pair in zip(op.lower_bounds, op.upper_bounds, strict=True)
    ]
    for dim, at in enumerate(_block_numbers(bounds, steps, lowering)):
        lower, upper = bounds[dim]
        start = index.add(lower, index.mul(at, steps[dim]))
        extent: Index = 1 if steps[dim] == 1 else index.minimum(index.sub(upper, start), steps[dim])
        lowering.map_value(op.body.block.args[dim], index.value(start))
        lowering.map_value(op.body.block.args[rank + dim], index.value(extent))
    lower_body(op.body.block, lowering)


def _block_numbers(bounds: Sequence[tuple[Index, ...]], steps: Sequence[int], lowering: NvvmLowering) -> list[SSAValue]:
    """The number of this block along each dimension of its grid."""
    index, rank = lowering.index, len(steps)
    registers = (BlockIdXOp, BlockIdYOp)[: rank if rank <= 2 else 1]
    numbers = [lowering.to_index(index.build(register()).result) for register in registers]
    if rank <= 2:
        return numbers[::-1]
    (rest,) = numbers
    found: list[SSAValue] = []
    for dim in range(rank - 1, 0, -1):
        lower, upper = bounds[dim]
        blocks = index.value(index.floor_div(index.add(index.sub(upper, lower), steps[dim] - 1), steps[dim]))
        found.insert(0, lowering.insert(arith.RemUIOp(rest, blocks)).result)
        rest = lowering.insert(arith.DivUIOp(rest, blocks)).result
    return [rest, *found]


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
