"""The rule for ``mma.mma``: a fragment of many instructions becomes the instructions, in order of k.

    %c1 = mma.mma %a, %b, %c0 {intrinsic = "x86.avx512.fma.1x16x1.f32"} : 4x1, 1x64, 4x64
    ==>
      %c1_0 = vector.fma %a_0, %b_0, %c0_0 : vector<16xf32>        16 of them

What an instruction computes is in its row; this rule knows how each kind of arithmetic is written with upstream's
operations, so a vector multiply-add of another width or type needs no new rule. A dot-product instruction takes words
of k neighbours::

    %c1_0 = x86vector.avx512.dot %c0_0, %a_0, %b_0 : vector<32xbf16> -> vector<16xf32>
"""

from __future__ import annotations

from xdsl.dialects import arith, vector
from xdsl.ir import SSAValue

from crosstile.dialects import mma
from crosstile.dialects.mma.intrinsics import find_intrinsic
from crosstile.dialects.x86vector import DotOp, unsigned_signed_dot
from crosstile.lowering.mma_to_hardware import tiles
from crosstile.lowering.mma_to_hardware.state import HardwareLowering
from crosstile.lowering.vector_registers import registers_of
from crosstile.targets.model import MmaIntrinsic
from crosstile.targets.numerics import IntegerDot, MultiplyThenAdd, SequentialFma


def lower_product(op: mma.MmaOp, lowering: HardwareLowering) -> None:
    """One multiply-add per register of the accumulator and step of k."""
    lhs_type, rhs_type = op.lhs.type, op.rhs.type
    row = find_intrinsic(op.intrinsic.data)
    if tiles.lives_in_tiles(op.result.type):
        tiles.lower_product(op, row, lowering)
        return
    if not isinstance(lhs_type, mma.FragmentType) or not isinstance(rhs_type, mma.FragmentType) or row.m != 1:
        raise lowering.error(
            f"{row.name} is not an outer product of a number, or a word of several, and a vector, the only form there "
            "are operations for"
        )
    rhs = lowering.values(op.rhs)
    lhs_registers, rhs_registers = registers_of(lhs_type.layout.data), registers_of(rhs_type.layout.data)
    accumulators = list(lowering.values(op.accumulator))
    starts = registers_of(op.result.type.layout.data).starts
    for k in range(0, lhs_type.get_shape()[1], row.k):
        lhs: dict[int, SSAValue] = {}
        for number, (i, j) in enumerate(starts):
            position = lhs_registers.holding((i, k))
            if position not in lhs:
                lhs[position] = lowering.register(op.lhs, position)
            right = rhs[rhs_registers.holding((k, j))]
            accumulators[number] = multiply_add(lowering, row, lhs[position], right, accumulators[number])
    lowering.map_value(op.result, *accumulators)


def multiply_add(
    lowering: HardwareLowering, row: MmaIntrinsic, lhs: SSAValue, rhs: SSAValue, accumulator: SSAValue
) -> SSAValue:
    """``lhs * rhs + accumulator`` in the arithmetic of a row."""
    match row.numerics:
        case SequentialFma(order=(), flush_subnormals=False) if row.k == 1:
            return lowering.insert(vector.FMAOp(lhs, rhs, accumulator)).res
        case SequentialFma(order=(1, 0), flush_subnormals=True) if row.k == 2:
            return lowering.insert(DotOp(accumulator, lhs, rhs)).dst
        case IntegerDot(saturate=False) if row.k == 4 and {row.lhs.element, row.rhs.element} == {"ui8", "si8"}:
            unsigned, signed = (lhs, rhs) if row.lhs.element == "ui8" else (rhs, lhs)
            return lowering.insert(unsigned_signed_dot(accumulator, unsigned, signed)).results[0]
        case MultiplyThenAdd():
            product = lowering.insert(arith.MulfOp(lhs, rhs)).result
            return lowering.insert(arith.AddfOp(accumulator, product)).result
        case _:
            raise lowering.error(f"no operation of a core computes like {row.name}: {row.numerics}")
