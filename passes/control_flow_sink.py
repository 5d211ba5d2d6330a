"""``control-flow-sink``: what one branch alone needs is computed in that branch. Any level, in place; upstream's name.

In: pure operations before an ``scf.if``, all of whose users are in one of its regions. Out: the same in that region::

    %n = arith.minsi %rest, %c16                   scf.if %whole {
    %mask = vector.create_mask %n                    vector.store %v, %y[%i]
    scf.if %whole {                                } else {
      vector.store %v, %y[%i]              =>        %n = arith.minsi %rest, %c16
    } else {                                         %mask = vector.create_mask %n
      vector.maskedstore %y[%i], %mask, %v           vector.maskedstore %y[%i], %mask, %v
    }                                              }

Lowerings build index arithmetic as far out as its operands allow, so that loops do not repeat it. Register tiles that
no edge cuts then pay for the masks of those that one does: 30 instructions for each tile of a vector times a matrix, a
tenth of its time. Nothing moves into a loop.
"""

from __future__ import annotations

from xdsl.context import Context
from xdsl.dialects import scf, vector
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, Region
from xdsl.passes import ModulePass
from xdsl.traits import is_side_effect_free

UNMARKED = (vector.BitcastOp, vector.CreateMaskOp, vector.ReductionOp)
"""Operations that are pure upstream and that xDSL does not mark so."""


class ControlFlowSinkPass(ModulePass):
    """Compute in a branch what nothing outside of it needs."""

    name = "control-flow-sink"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Move operations of ``op`` in place."""
        for block in op.body.blocks:
            _sink(block)


def _sink(block: Block) -> None:
    """Sink the operations of ``block``, users before what they use, then those of the blocks in it."""
    ops = list(block.ops)
    for op in reversed(ops) if any(isinstance(op, scf.IfOp) for op in ops) else ():
        pure = isinstance(op, UNMARKED) or (op.results and not op.regions and is_side_effect_free(op))
        if pure and (branch := _only_branch(op, block)) is not None:
            op.detach()
            first = branch.block.first_op
            assert first is not None
            branch.block.insert_op_before(op, first)
    for op in block.ops:
        for region in op.regions:
            for inner in region.blocks:
                _sink(inner)


def _only_branch(op: Operation, block: Block) -> Region | None:
    """The region of an ``scf.if`` of ``block`` that holds all users of ``op``; None if there is no such one."""
    regions = {_region_in(block, use.operation) for result in op.results for use in result.uses}
    region = regions.pop() if len(regions) == 1 else None
    return region if region is not None and isinstance(region.parent_op(), scf.IfOp) else None


def _region_in(block: Block, op: Operation) -> Region | None:
    """The region of an operation of ``block`` that ``op`` is in; None if it stands in ``block`` itself."""
    region: Region | None = None
    outer: Operation | None = op
    while outer is not None and outer.parent is not block:
        region = outer.parent_region()
        outer = None if region is None else region.parent_op()
    return region
