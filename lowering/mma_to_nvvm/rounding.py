"""Rounding of factors: the f32 of a product of tf32 is rounded where it is loaded, if nothing else reads it.

    %a = mma.load %slot[...] ...            ldmatrix; of each register x  fma(x & 0xff800000, 2^-11, x)
    scf.for ... iter_args(%now = %a) {      a step later:
      mma.mma %now, ...                     mma.sync, which cuts off the lower 13 bits

Sign and exponent alone are the power of two below x, and 2^-11 of that is half of tf32's last place: what is then cut
off is rounded to nearest, ties away from zero. NaN and infinity stay what they are, and numbers below 2^-126 are cut
off. That is two instructions without a predicate, where ptxas makes four of cvt.rna.tf32. They then stand among the
products of the step before, which take the tensor core's time and no other's. A factor that something else reads, or
that comes from elsewhere, is rounded where it is multiplied.
"""

from __future__ import annotations

from xdsl.dialects import arith, llvm, math, scf
from xdsl.dialects.builtin import f32, i32
from xdsl.ir import Operation, SSAValue

from crosstile.dialects import mma
from crosstile.dialects.mma.intrinsics import find_intrinsic
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering
from crosstile.targets.model import Operand

SIGN_AND_EXPONENT = -0x00800000
"""The upper 9 bits of an f32."""
HALF_A_PLACE = 2.0**-11
"""Half of the last of tf32's 10 bits after the point."""


def plan_rounding(kernel: mma.KernelOp, lowering: NvvmLowering) -> None:
    """Find the fragments that are rounded from their loads on."""
    products = [op for op in kernel.walk() if isinstance(op, mma.MmaOp)]
    factors = [
        factor
        for op in products
        for factor, operand in zip((op.lhs, op.rhs), _operands(op), strict=True)
        if operand.rounded
    ]
    for factor in factors:
        if factor not in lowering.kernel.rounded and (family := _family(factor)) is not None:
            lowering.kernel.rounded |= family


def round_word(lowering: NvvmLowering, word: SSAValue) -> SSAValue:
    """An f32 whose upper 19 bits are the number of tf32 that is nearest to ``word``."""
    bits = lowering.insert(llvm.BitcastOp(word, i32)).result
    power = lowering.insert(arith.AndIOp(bits, lowering.constant(SIGN_AND_EXPONENT, i32))).result
    power = lowering.insert(llvm.BitcastOp(power, f32)).result
    return lowering.insert(math.FmaOp(power, lowering.constant(HALF_A_PLACE, f32), word)).result


def _operands(op: mma.MmaOp) -> tuple[Operand, Operand]:
    row = find_intrinsic(op.intrinsic.data)
    return row.lhs, row.rhs


def _family(factor: SSAValue) -> set[SSAValue] | None:
    """The fragments that ``factor`` may be and becomes, round loops and out of branches; None unless all of them are
    loaded and nothing but such products reads them."""
    found: set[SSAValue] = set()
    pending = [factor]
    while pending:
        value = pending.pop()
        if value in found:
            continue
        found.add(value)
        sources = _sources(value)
        if sources is None:
            return None
        pending += sources
        for use in value.uses:
            taken = _taken(use.operation, use.index)
            if taken is None:
                return None
            pending += taken
    return found


def _sources(value: SSAValue) -> list[SSAValue] | None:
    """What ``value`` may come from: nothing if it is loaded, None if it is computed."""
    owner = value.owner
    if isinstance(owner, mma.LoadOp):
        return []
    if isinstance(owner, scf.ForOp):
        return _carried(owner, owner.results.index(value))
    if isinstance(owner, scf.IfOp):
        number = owner.results.index(value)
        ends = [region.block.last_op for region in owner.regions if region.blocks]
        return [end.operands[number] for end in ends if end is not None]
    loop = None if isinstance(owner, Operation) else owner.parent_op()
    if isinstance(loop, scf.ForOp):
        return _carried(loop, loop.body.block.args.index(value) - 1)
    return None


def _carried(loop: scf.ForOp, number: int) -> list[SSAValue]:
    end = loop.body.block.last_op
    assert end is not None
    return [loop.iter_args[number], end.operands[number]]


def _taken(op: Operation, index: int) -> list[SSAValue] | None:
    """What operand ``index`` of ``op`` becomes: nothing if a product rounds it, None if anything else reads it."""
    if isinstance(op, mma.MmaOp):
        return [] if index < 2 and _operands(op)[index].rounded else None
    if isinstance(op, scf.ForOp) and index >= 3:
        return [op.results[index - 3]]
    if isinstance(op, scf.YieldOp):
        parent = op.parent_op()
        if isinstance(parent, scf.ForOp):
            return [parent.results[index], parent.body.block.args[index + 1]]
        return [parent.results[index]] if isinstance(parent, scf.IfOp) else None
    return None
