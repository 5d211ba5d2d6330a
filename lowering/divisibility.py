"""What is known of an index without running the program: what divides it, its value if constant, the end of a loop's.

Blocked loops count in steps of their blocks, so most indices of a kernel are multiples of something, and a block that
starts at a multiple of the panel width lies in one panel::

    scf.for %j = %c0 to %n step %c64 {                known_multiple(%j) = 64
      %at = arith.addi %j, %c16 : index               known_multiple(%at) = 16
    scf.for %o = %c0 to %c64 step %c8 {               known_end(%o) = 57
"""

from __future__ import annotations

from math import gcd

from xdsl.dialects import arith, memref, scf
from xdsl.dialects.builtin import DYNAMIC_INDEX, MemRefType
from xdsl.ir import Block, SSAValue

from crosstile.dialects import mma, tile
from crosstile.dialects.mma.kernel import integer_list
from crosstile.ir.index_math import constant_index


def constant_value(value: SSAValue) -> int | None:
    """The value of an integer or index that is an ``arith.constant`` or the size of a static dimension, else None."""
    if (known := constant_index(value)) is not None:
        return known
    op = value.owner
    if isinstance(op, tile.DimOp):
        return static_size(op.source, op.dim.value.data)
    if isinstance(op, memref.DimOp) and (dim := constant_value(op.index)) is not None:
        return static_size(op.source, dim)
    return None


def static_size(memory: SSAValue, dim: int) -> int | None:
    """The size of a dimension of a memref if its type says it."""
    type_ = memory.type
    if not isinstance(type_, MemRefType) or not 0 <= dim < len(type_.shape):
        return None
    size = type_.shape.data[dim].data
    return None if size == DYNAMIC_INDEX else size


def is_same(value: SSAValue, other: SSAValue) -> bool:
    """Whether two indices are computed in the same way of the same things."""
    if value is other:
        return True
    op, like = value.owner, other.owner
    if isinstance(op, Block) or isinstance(like, Block) or type(op) is not type(like):
        return False
    if isinstance(op, arith.ConstantOp):
        return constant_value(value) is not None and constant_value(value) == constant_value(other)
    known = isinstance(op, arith.AddiOp | arith.SubiOp | arith.MuliOp | arith.DivUIOp | arith.RemUIOp)
    return known and all(is_same(*pair) for pair in zip(op.operands, like.operands, strict=True))


def known_multiple(value: SSAValue) -> int:
    """A number that divides ``value`` at run time; 0 for a value that is 0, 1 where nothing is known."""
    if (constant := constant_value(value)) is not None:
        return abs(constant)
    op = value.owner
    if isinstance(op, Block):
        return _multiple_of_argument(op, value)
    match op:
        case arith.AddiOp() | arith.SubiOp() | arith.MinSIOp() | arith.MaxSIOp():
            return gcd(known_multiple(op.lhs), known_multiple(op.rhs))
        case arith.MuliOp():
            return known_multiple(op.lhs) * known_multiple(op.rhs)
        case arith.SelectOp():
            return gcd(known_multiple(op.lhs), known_multiple(op.rhs))
        case _:
            return 1


def known_end(value: SSAValue) -> int | None:
    """One more than the last value of a remainder, or of a loop's index that begins at 0 or above; None for others."""
    if isinstance(value.owner, arith.RemUIOp):
        return constant_value(value.owner.rhs)
    loop = value.owner.parent_op() if isinstance(value.owner, Block) else None
    if not isinstance(loop, scf.ForOp) or value is not loop.body.block.args[0]:
        return None
    begin, end, step = (constant_value(bound) for bound in (loop.lb, loop.ub, loop.step))
    if begin is None or end is None or step is None or begin < 0 or step < 1:
        return None
    return begin + max(end - 1 - begin, 0) // step * step + 1


def _multiple_of_argument(block: Block, argument: SSAValue) -> int:
    """The multiple of a loop's index: it starts at the lower bound and advances by the step."""
    loop = block.parent_op()
    position = block.args.index(argument)
    match loop:
        case scf.ForOp() if position == 0:
            return gcd(known_multiple(loop.lb), known_multiple(loop.step))
        case tile.ForOp() if position == 0:
            step = loop.step.value.data if loop.balanced is None else loop.balanced.value.data
            return gcd(known_multiple(loop.lower_bound), step)
        case tile.ParallelOp() | mma.ParallelOp() if position < len(loop.lower_bounds):
            steps = integer_list(loop.steps) if loop.grain is None else [loop.grain.value.data]
            return gcd(known_multiple(loop.lower_bounds[position]), steps[position])
        case _:
            return 1
