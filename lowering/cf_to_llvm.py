"""Rules for ``cf``: branches, whose operands and block arguments are converted value by value. ::

cf.cond_br %c, ^loop(%m, %i : memref<?xf32>, index), ^exit
==> llvm.cond_br %c, ^loop(%m_ptr, %m_size, %i : !llvm.ptr, i64, i64), ^exit
"""

from __future__ import annotations

from collections.abc import Mapping

from xdsl.dialects import cf
from xdsl.dialects import llvm as xllvm
from xdsl.ir import Operation

from crosstile.dialects import llvm
from crosstile.lowering.driver import Lowering, Rule


def lower_br(op: cf.BranchOp, lowering: Lowering) -> None:
    """``cf.br``."""
    lowering.insert(xllvm.BrOp(lowering.successor(op.successor), *lowering.flatten(op.arguments)))


def lower_cond_br(op: cf.ConditionalBranchOp, lowering: Lowering) -> None:
    """``cf.cond_br``; with one target for both outcomes, a selection of its operands (a block enters another once)."""
    condition = lowering.value(op.cond)
    then_arguments, else_arguments = lowering.flatten(op.then_arguments), lowering.flatten(op.else_arguments)
    then_block, else_block = lowering.successor(op.then_block), lowering.successor(op.else_block)
    if then_block is not else_block:
        lowering.insert(xllvm.CondBrOp(condition, then_block, then_arguments, else_block, else_arguments))
        return
    pairs = zip(then_arguments, else_arguments, strict=True)
    selected = [lowering.insert(llvm.SelectOp(condition, lhs, rhs)).res for lhs, rhs in pairs]
    lowering.insert(xllvm.BrOp(then_block, *selected))


RULES: Mapping[type[Operation], Rule] = {cf.BranchOp: lower_br, cf.ConditionalBranchOp: lower_cond_br}
