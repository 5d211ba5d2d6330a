"""Tiles in scratch that loops carry and branches choose: one buffer for all the values that follow each other.

    %n = tile.for %j, %jc = ... iter_args(%c = %c0) -> (!tile.tile<64x48xf32>) { ... tile.yield %d }
    ==>
    %home = mma.alloc : !mma.buffer<64x48xf32>        filled with %c0
    scf.for %j = ... { ... }                          reads %c and writes %d there

A value that could not be computed in that buffer, because something still reads what was there, is copied at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import scf
from xdsl.ir import Block, Region, SSAValue

from crosstile.dialects import tile
from crosstile.lowering.driver import keep
from crosstile.lowering.tile_to_mma.places import whole_buffer
from crosstile.lowering.tile_to_mma.state import TileLowering
from crosstile.lowering.tile_to_mma.sub_tiles import fill


def enter_loop(op: tile.ForOp, lowering: TileLowering) -> None:
    """Put what tiles in scratch start from into their buffers."""
    terminator = op.body.block.last_op
    assert isinstance(terminator, tile.YieldOp)
    for argument, initial, last in zip(op.body.block.args[2:], op.iter_args, terminator.arguments, strict=True):
        if lowering.in_scratch(argument):
            home = lowering.homes.new(argument)
            fill(initial, whole_buffer(home), lowering)
            lowering.homes.settle(argument, home)
            lowering.homes.prefer(last, home)


def leave_loop(op: tile.ForOp, lowering: TileLowering) -> None:
    """After the loop, results in scratch are where the loop carried them."""
    for argument, result in zip(op.body.block.args[2:], op.results, strict=True):
        if lowering.in_scratch(result):
            lowering.homes.settle(result, lowering.value(argument))


def lower_loop_yield(op: tile.YieldOp, loop: tile.ForOp, lowering: TileLowering) -> None:
    """The end of a loop's body; tiles in scratch are put where the loop carries them."""
    pairs = list(zip(op.arguments, loop.body.block.args[2:], strict=True))
    in_scratch = [(value, lowering.value(carried)) for value, carried in pairs if lowering.in_scratch(carried)]
    leave([value for value, _ in in_scratch], [home for _, home in in_scratch], lowering)
    others = [value for value, carried in pairs if not lowering.in_scratch(carried)]
    lowering.insert(scf.YieldOp(*lowering.flatten(others)))


def leave(values: Sequence[SSAValue], homes: Sequence[SSAValue], lowering: TileLowering) -> None:
    """Put ``values``, tiles in scratch, into ``homes``, each of which another value may be in."""
    moved = [(value, home) for value, home in zip(values, homes, strict=True) if not _is_in(value, home, lowering)]
    targets = [home for _, home in moved]
    between = {value: lowering.value(value) for value, _ in moved if lowering.homes.holds(value)}
    for value, home in between.items():
        if home in targets:
            copy = lowering.homes.new(value)
            fill(value, whole_buffer(copy), lowering)
            lowering.map_value(value, copy)
    for value, home in moved:
        fill(value, whole_buffer(home), lowering)
    for value, home in between.items():
        lowering.map_value(value, home)


def _is_in(value: SSAValue, home: SSAValue, lowering: TileLowering) -> bool:
    return lowering.homes.holds(value) and lowering.value(value) is home


def lower_if(op: scf.IfOp, lowering: TileLowering) -> None:
    """A branch; tiles in scratch that it results in are where one of the branches has them, if nothing needs that."""
    results = [result for result in op.results if lowering.in_scratch(result)]
    if not results:
        keep(op, lowering)
        return
    for result in results:
        last = [_yielded(region)[result.index] for region in op.regions]
        home = lowering.homes.choose(result, op, [value for value in last if lowering.homes.holds(value)])
        lowering.homes.settle(result, home)
        for value in last:
            lowering.homes.prefer(value, home)
    regions = [_lower_branch(op, region, lowering) for region in op.regions]
    others = [result for result in op.results if result not in results]
    types = lowering.convert_types([result.type for result in others])
    new = scf.IfOp(lowering.value(op.cond), types, regions[0], regions[1])
    lowering.insert(new)
    for old, value in zip(others, new.results, strict=True):
        lowering.map_value(old, value)


def _lower_branch(op: scf.IfOp, region: Region, lowering: TileLowering) -> Region:
    block = Block()
    with lowering.at(block):
        lowering.lower_ops(region.block)
    return Region(block)


def _yielded(region: Region) -> Sequence[SSAValue]:
    terminator = region.block.last_op
    assert isinstance(terminator, scf.YieldOp)
    return terminator.operands


def lower_scf_yield(op: scf.YieldOp, lowering: TileLowering) -> None:
    """The end of a branch, with tiles in scratch where the branch's results are."""
    parent = op.parent_op()
    assert parent is not None
    pairs = list(zip(op.operands, parent.results, strict=True))
    in_scratch = [(value, lowering.value(result)) for value, result in pairs if lowering.in_scratch(result)]
    leave([value for value, _ in in_scratch], [home for _, home in in_scratch], lowering)
    others = [value for value, result in pairs if not lowering.in_scratch(result)]
    lowering.insert(scf.YieldOp(*lowering.flatten(others)))
