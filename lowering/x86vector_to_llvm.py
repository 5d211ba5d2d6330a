"""Rules for ``x86vector``: calls of LLVM's intrinsics.

%d = x86vector.avx512.dot %c, %a, %b : vector<32xbf16> -> vector<16xf32>
==> %0 = llvm.bitcast %a : vector<32xi16> to vector<32xbf16>      as %a and %b are their bits by now
    %1 = llvm.bitcast %b : vector<32xi16> to vector<32xbf16>
    %d = llvm.call_intrinsic "llvm.x86.avx512bf16.dpbf16ps.512"(%c, %0, %1)
           : (vector<16xf32>, vector<32xbf16>, vector<32xbf16>) -> vector<16xf32>

%d = llvm.call_intrinsic "llvm.x86.avx512bf16.cvtneps2bf16.512"(%x) : (vector<16xf32>) -> vector<16xbf16>
==> the same, and its bits: llvm.bitcast %d : vector<16xbf16> to vector<16xi16>
"""

from __future__ import annotations

from collections.abc import Mapping

from xdsl.dialects.builtin import BFloat16Type, VectorType, bf16, i16
from xdsl.dialects.llvm import BitcastOp, CallIntrinsicOp
from xdsl.ir import Operation

from crosstile.dialects.arith import element_type, with_element_type
from crosstile.dialects.x86vector import DotOp
from crosstile.lowering.driver import Lowering, Rule, keep
from crosstile.lowering.vector_to_llvm import lanes


def lower_dot(op: DotOp, lowering: Lowering) -> None:
    """``x86vector.avx512.dot``."""
    bits = 32 * lanes(op.src.type)
    accumulator, *factors = (lowering.value(value) for value in (op.src, op.a, op.b))
    pairs = [lowering.insert(BitcastOp(factor, VectorType(bf16, [lanes(factor.type)]))).result for factor in factors]
    operands = [accumulator, *pairs]
    call = CallIntrinsicOp(f"llvm.x86.avx512bf16.dpbf16ps.{bits}", operands, [operands[0].type])
    lowering.replace(op, lowering.insert(call).results[0])


def lower_call(op: CallIntrinsicOp, lowering: Lowering) -> None:
    """A call of LLVM's intrinsic stays; a bf16 that it returns is the i16 of its bits from here on."""
    types = [result.type for result in op.results]
    if not any(isinstance(element_type(type_), BFloat16Type) for type_ in types):
        keep(op, lowering)
        return
    call = lowering.insert(CallIntrinsicOp(op.intrin, [lowering.value(value) for value in op.args], types))
    lowering.replace(op, lowering.insert(BitcastOp(call.results[0], with_element_type(types[0], i16))).result)


RULES: Mapping[type[Operation], Rule] = {DotOp: lower_dot, CallIntrinsicOp: lower_call}
