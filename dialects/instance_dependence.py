"""On which dimensions of a grid an operation depends: instances that differ in others alone do the same there.

    tile.parallel (%i, %j), (%mc, %nc) = ... {
      tile.for %k, %kc = 0 to %K step 64 {
        %b = tile.window %B[%k, %j] extent [%kc, %nc]       depends on dimension 1, by %j and %nc

Followed are operands, arguments of loops, and the loops and branches around, which say whether and how often it runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import scf
from xdsl.ir import Block, Operation, SSAValue

from crosstile.dialects import mma, tile

GRIDS = (tile.ParallelOp, mma.ParallelOp)


def grid_around(op: Operation) -> tile.ParallelOp | mma.ParallelOp | None:
    """The grid in which ``op`` stands."""
    around = op.parent_op()
    while around is not None and not isinstance(around, GRIDS):
        around = around.parent_op()
    return around


def dependences(op: Operation) -> set[int]:
    """The dimensions of the grid around ``op`` that decide what it does, or whether and how often."""
    found: set[int] = set()
    seen: set[Operation | SSAValue] = set()
    pending: list[Operation | SSAValue] = [*op.operands, op]
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        if isinstance(current, Operation):
            if not isinstance(around := current.parent_op(), (*GRIDS, type(None))):
                pending += [around, *_controls(around)]
        elif isinstance(owner := current.owner, Operation):
            pending += [owner, *owner.operands]
        else:
            pending += _of_argument(owner, current, found)
    return found


def _controls(op: Operation) -> Sequence[SSAValue]:
    """What decides whether and how often the body of ``op`` runs: not the values that a loop carries."""
    carried = len(op.iter_args) if isinstance(op, scf.ForOp | tile.ForOp) else 0
    return op.operands[: len(op.operands) - carried]


def _of_argument(block: Block, argument: SSAValue, found: set[int]) -> Sequence[SSAValue]:
    """What an argument of a block depends on; a dimension of the grid is ``found``."""
    loop, place = block.parent_op(), block.args.index(argument)
    if isinstance(loop, GRIDS):
        found.add(place % len(loop.lower_bounds))
        return ()
    if not isinstance(loop, scf.ForOp | tile.ForOp) or block.last_op is None:
        return () if loop is None else loop.operands
    carried = place - (len(block.args) - len(loop.iter_args))
    values = [] if carried < 0 else [loop.iter_args[carried], block.last_op.operands[carried]]
    return [*_controls(loop), *values]
