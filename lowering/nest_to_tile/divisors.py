"""Divisions that ``fastmath<arcp>`` allows to be products with a reciprocal.

^bb0(%e: f32, %sum: f32):                        ^bb0(%e: f32, %reciprocal: f32):
  %r = arith.divf %e, %sum fastmath<arcp>   ==>    %r = arith.mulf %e, %reciprocal
"""

from __future__ import annotations

from xdsl.dialects import arith
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Block, Operation


def divides_by(op: Operation, block: Block, position: int) -> bool:
    """Whether ``op`` divides by argument ``position`` of ``block`` and may multiply by the reciprocal instead."""
    if not isinstance(op, arith.DivfOp) or FastMathFlag.ALLOW_RECIP not in op.fastmath.data:
        return False
    return op.rhs is block.args[position] and op.lhs is not op.rhs


def is_divisor(block: Block, position: int) -> bool:
    """Whether all that the body ``block`` does with argument ``position`` is to divide by it, where that is allowed."""
    argument = block.args[position]
    return bool(argument.uses) and all(divides_by(use.operation, block, position) for use in argument.uses)
