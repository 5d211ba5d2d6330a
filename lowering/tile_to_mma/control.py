"""Rules for kernels and loops: blocks of a loop become a step, a start and an extent.

tile.for %k, %kc = %zero to %K step 512 { ... }
==>
scf.for %k = %zero to %K step %c512 {
  %rest = arith.subi %K, %k
  %kc = arith.minsi %c512, %rest        a constant where the bounds are known and divide
"""

from __future__ import annotations

from xdsl.dialects import affine, arith, memref, scf
from xdsl.ir import Block, Region

from crosstile.dialects import mma, tile
from crosstile.ir.index_math import Index
from crosstile.lowering.divisibility import static_size
from crosstile.lowering.tile_to_mma.carried import enter_loop, leave_loop, lower_loop_yield
from crosstile.lowering.tile_to_mma.state import INDEX, TileLowering


def lower_kernel(op: tile.KernelOp, lowering: TileLowering) -> None:
    """A kernel for the machine that tiles are placed on."""
    lowering.enter_kernel(op)
    block = Block()
    for argument in op.body.block.args:
        lowering.add_argument(block, argument)
    with lowering.index.function(block):
        lowering.lower_ops(op.body.block)
    lowering.insert(mma.KernelOp(op.sym_name.data, Region(block), lowering.machine.name))


def lower_return(op: tile.ReturnOp, lowering: TileLowering) -> None:
    """The end of the kernel."""
    lowering.insert(mma.ReturnOp())


def lower_dim(op: tile.DimOp, lowering: TileLowering) -> None:
    """A size of a memref, a constant if its type says it."""
    index = lowering.index
    dim = op.dim.value.data
    if (size := static_size(op.source, dim)) is not None:
        lowering.replace(op, index.value(size))
        return
    lowering.replace(op, index.build(memref.DimOp(lowering.value(op.source), index.value(dim))).result)


def lower_apply(op: affine.ApplyOp, lowering: TileLowering) -> None:
    """Index arithmetic, outside of the loops that it does not depend on."""
    lowering.replace(op, lowering.index.value(lowering.linear.value(lowering.linear.apply(op))))


def lower_parallel(op: tile.ParallelOp, lowering: TileLowering) -> None:
    """The same on fragments."""
    lowers, uppers = lowering.flatten(op.lower_bounds), lowering.flatten(op.upper_bounds)
    grain = None if op.grain is None else op.grain.value.data
    if lowering.machine.warp_lanes is None and (op.order.persistent is not None or op.order.cluster):
        raise lowering.error(
            f"its grid is to run by blocks of multiprocessors,{op.order}; {lowering.machine.name} has workers, which "
            "take a range of the grid each: leave out 'persistent' and 'cluster'"
        )
    body = lowering.lower_region(op.body)
    lowering.insert(mma.ParallelOp(lowers, uppers, body, op.grid_steps or None, grain, op.order))


def lower_for(op: tile.ForOp, lowering: TileLowering) -> None:
    """An ``scf.for`` over the starts of blocks, which computes each block's extent first."""
    index = lowering.index
    lower, upper = lowering.as_index(op.lower_bound), lowering.as_index(op.upper_bound)
    step = block_size(op, lower, upper, lowering)
    initial = lowering.flatten([value for value in op.iter_args if not lowering.in_scratch(value)])
    enter_loop(op, lowering)
    body = Block(arg_types=[INDEX])
    start, extent, *carried = op.body.block.args
    lowering.map_value(start, body.args[0])
    for argument in carried:
        if not lowering.in_scratch(argument):
            lowering.add_argument(body, argument)
    with lowering.at(body):
        if extent.uses:
            lowering.map_value(extent, index.value(block_extent(body.args[0], lower, upper, step, lowering)))
        lowering.lower_ops(op.body.block)
        if op.body.block.last_op is None or not isinstance(body.last_op, scf.YieldOp):
            lowering.insert(scf.YieldOp())
    bounds = index.bounds(lower, upper, step)
    loop = lowering.insert(scf.ForOp(*bounds, initial, Region(body)))
    results = iter(loop.results)
    for result in op.results:
        if not lowering.in_scratch(result):
            lowering.map_value(result, next(results))
    leave_loop(op, lowering)


def block_extent(start: Index, lower: Index, upper: Index, size: Index, lowering: TileLowering) -> Index:
    """How many elements the block at ``start`` has: ``size``, or what is left."""
    index = lowering.index
    if isinstance(lower, int) and isinstance(upper, int) and isinstance(size, int) and (upper - lower) % size == 0:
        return size
    return index.minimum(size, index.sub(upper, start))


def block_size(op: tile.ForOp, lower: Index, upper: Index, lowering: TileLowering) -> Index:
    """The distance between the starts of blocks: the step, or for ``balanced(g)`` equal multiples of g."""
    index, step = lowering.index, op.step.value.data
    if op.balanced is None:
        return step
    count = index.maximum(index.sub(upper, lower), 1)
    blocks = index.floor_div(index.add(count, step - 1), step)
    if isinstance(count, int) and isinstance(blocks, int):
        return index.round_up(-(-count // blocks), op.balanced.value.data)
    # There is at least one block, so this division cannot fault wherever it is moved to.
    size = index.build(arith.CeilDivUIOp(index.value(count), index.value(blocks))).result
    return index.round_up(size, op.balanced.value.data)


def lower_yield(op: tile.YieldOp, lowering: TileLowering) -> None:
    """The end of a body: of a loop, of a map, or of the parallel loop, which yields nothing."""
    match op.parent_op():
        case tile.ForOp() as loop:
            lower_loop_yield(op, loop, lowering)
        case tile.MapOp():
            lowering.insert(mma.YieldOp(*lowering.flatten(op.arguments)))
        case _:
            lowering.insert(mma.YieldOp())
