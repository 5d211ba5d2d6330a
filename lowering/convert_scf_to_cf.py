"""``convert-scf-to-cf``: structured control flow to branches between blocks.

In: ``scf.for``, ``scf.if``, ``scf.while``, ``scf.index_switch`` around operations of other dialects, which stay.
Out: ``cf.br`` and ``cf.cond_br``. A ``scf.for`` becomes a loop that is tested at its end, behind a guard for zero trips
(none where constant bounds show that there is a trip): the code generator then needs no loop rotation, and the loop is
one block with its values in registers. ::

    %r = scf.for %i = %lb to %ub step %s iter_args(%x = %init) -> (f32) { ...  scf.yield %y : f32 }
    ==>
      %enter = arith.cmpi slt, %lb, %ub : index
      cf.cond_br %enter, ^body(%lb, %init : index, f32), ^exit(%init : f32)
    ^body(%i: index, %x: f32):
      ...
      %next = arith.addi %i, %s : index
      %again = arith.cmpi slt, %next, %ub : index
      cf.cond_br %again, ^body(%next, %y : index, f32), ^exit(%y : f32)
    ^exit(%r: f32):

The pass takes the place of xDSL's pass of the same name, whose loops are tested at the top.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from xdsl.dialects import arith, cf, scf
from xdsl.dialects.builtin import IndexType, IntegerAttr
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.utils.hints import isa

from crosstile.dialects.arith import CmpiOp
from crosstile.lowering.driver import Lowering, LoweringPass, Rule


def constant_integer(value: SSAValue) -> int | None:
    """The value of an integer or index that ``arith.constant`` defines, else None."""
    owner = value.owner
    if isinstance(owner, arith.ConstantOp) and isa(owner.value, IntegerAttr):
        return owner.value.value.data
    return None


def lower_for(op: scf.ForOp, lowering: Lowering) -> None:
    """A guard, one body tested at its end, and an exit that receives the results."""
    lower_bound, upper_bound, step = (lowering.value(value) for value in (op.lb, op.ub, op.step))
    initial = lowering.flatten(op.iter_args)
    exit_block = lowering.new_block()
    body = lowering.new_block()
    for result in op.results:
        lowering.add_argument(exit_block, result)
    for argument in op.body.block.args:
        lowering.add_argument(body, argument)
    first, last = constant_integer(op.lb), constant_integer(op.ub)
    if first is not None and last is not None and first < last:
        lowering.insert(cf.BranchOp(body, lower_bound, *initial))
    else:
        enter = lowering.insert(CmpiOp(lower_bound, upper_bound, "slt")).result
        branch = cf.ConditionalBranchOp(enter, body, [lower_bound, *initial], exit_block, initial)
        lowering.insert(branch)
    with lowering.at(body):
        yielded = lower_body(op.body.block, lowering)
        following = lowering.insert(arith.AddiOp(body.args[0], step)).result
        again = lowering.insert(CmpiOp(following, upper_bound, "slt")).result
        branch = cf.ConditionalBranchOp(again, body, [following, *yielded], exit_block, yielded)
        lowering.insert(branch)
    lowering.continue_at(exit_block)


def lower_body(block: Block, lowering: Lowering) -> list[SSAValue]:
    """Lower ``block`` at the current place, all but its ``scf.yield``; the new values of what that yields."""
    *ops, terminator = block.ops
    for op in ops:
        lowering.lower_op(op)
    return lowering.flatten(terminator.operands)


def lower_if(op: scf.IfOp, lowering: Lowering) -> None:
    """Two blocks that join in a third, which receives the results; without an else region, one block."""
    exit_block = lowering.new_block()
    for result in op.results:
        lowering.add_argument(exit_block, result)
    false_block = exit_block
    if op.false_region.blocks:
        false_block = lowering.new_block()
        lower_branch(op.false_region, false_block, exit_block, lowering)
    true_block = lowering.new_block()
    lower_branch(op.true_region, true_block, exit_block, lowering)
    lowering.insert(cf.ConditionalBranchOp(lowering.value(op.cond), true_block, [], false_block, []))
    lowering.continue_at(exit_block)


def lower_branch(region: Region, block: Block, exit_block: Block, lowering: Lowering) -> None:
    """Fill ``block`` with a single-block ``region`` and a branch to ``exit_block`` with what it yields."""
    with lowering.at(block):
        yielded = lower_body(region.block, lowering)
        lowering.insert(cf.BranchOp(exit_block, *yielded))


def lower_while(op: scf.WhileOp, lowering: Lowering) -> None:
    """The region before the condition, the region after it which jumps back, and an exit with the results."""
    exit_block = lowering.new_block()
    after = lowering.new_block()
    before = lowering.new_block()
    for result in op.results:
        lowering.add_argument(exit_block, result)
    for new, old in ((before, op.before_region.block), (after, op.after_region.block)):
        for argument in old.args:
            lowering.add_argument(new, argument)
    lowering.insert(cf.BranchOp(before, *lowering.flatten(op.arguments)))
    with lowering.at(before):
        condition, *passed = lower_body(op.before_region.block, lowering)
        lowering.insert(cf.ConditionalBranchOp(condition, after, passed, exit_block, passed))
    lower_branch(op.after_region, after, before, lowering)
    lowering.continue_at(exit_block)


def lower_index_switch(op: scf.IndexSwitchOp, lowering: Lowering) -> None:
    """One comparison and branch per case, in order, then the default; all join in one block."""
    exit_block = lowering.new_block()
    for result in op.results:
        lowering.add_argument(exit_block, result)
    argument = lowering.value(op.arg)
    for case, region in zip(op.cases.get_values(), op.case_regions, strict=True):
        value = lowering.insert(arith.ConstantOp(IntegerAttr(case, IndexType()))).result
        taken = lowering.insert(CmpiOp(argument, value, "eq")).result
        otherwise = lowering.new_block()
        block = lowering.new_block()
        lowering.insert(cf.ConditionalBranchOp(taken, block, [], otherwise, []))
        lower_branch(region, block, exit_block, lowering)
        lowering.continue_at(otherwise)
    lowering.insert(cf.BranchOp(exit_block, *lower_body(op.default_region.block, lowering)))
    lowering.continue_at(exit_block)


RULES: Mapping[type[Operation], Rule] = {
    scf.ForOp: lower_for,
    scf.IfOp: lower_if,
    scf.WhileOp: lower_while,
    scf.IndexSwitchOp: lower_index_switch,
}


class ConvertScfToCfPass(LoweringPass):
    """Structured control flow to branches."""

    name = "convert-scf-to-cf"
    rules: ClassVar[Mapping[type[Operation], Rule]] = RULES
    kept_dialects: ClassVar[frozenset[str]] = frozenset(
        ("arith", "cf", "func", "llvm", "math", "memref", "vector", "x86vector", "amx", "affine", "ub")
    )
