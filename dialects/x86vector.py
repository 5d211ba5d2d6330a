"""The ``x86vector`` dialect of the hardware level: vector instructions of x86 that no portable operation stands for.

Name and syntax are upstream's; upstream has bf16's dot product here, and none of unsigned by signed bytes, which is
therefore a call of LLVM's intrinsic::

    %d = x86vector.avx512.dot %c, %a, %b : vector<32xbf16> -> vector<16xf32>
    %d = llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.512"(%c, %u, %s)
           : (vector<16xi32>, vector<64xi8>, vector<64xi8>) -> vector<16xi32>
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from xdsl.dialects.builtin import VectorType, bf16, f32, f64
from xdsl.dialects.llvm import CallIntrinsicOp
from xdsl.ir import Attribute, Dialect, SSAValue
from xdsl.irdl import IRDLOperation, VarConstraint, irdl_op_definition, operand_def, result_def, traits_def
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.hints import isa

from crosstile.dialects.arith import element_type
from crosstile.ir.diagnostics import CrosstileError


@irdl_op_definition
class DotOp(IRDLOperation):
    """``src`` plus, in every lane, the dot product of two pairs of bf16; Intel's VDPBF16PS."""

    name = "x86vector.avx512.dot"

    SUMS: ClassVar = VarConstraint("Sums", VectorType.constr(f32))
    PAIRS: ClassVar = VarConstraint("Pairs", VectorType.constr(bf16))
    src = operand_def(SUMS)
    a = operand_def(PAIRS)
    b = operand_def(PAIRS)
    dst = result_def(SUMS)
    traits = traits_def(Pure())

    assembly_format = "$src `,` $a `,` $b attr-dict `:` type($a) `->` type($src)"

    def __init__(self, src: SSAValue, a: SSAValue, b: SSAValue):
        super().__init__(operands=[src, a, b], result_types=[src.type])

    def verify_(self) -> None:
        assert isa(self.src.type, VectorType)
        shape = self.src.type.get_shape()
        if shape not in ((4,), (8,), (16,)):
            raise VerifyException(f"adds to {self.src.type}; expects vectors of 4, 8 or 16 f32")
        if self.a.type != (pairs := VectorType(bf16, [2 * shape[0]])):
            raise VerifyException(f"multiplies pairs of {self.a.type}; expects {pairs}, two for each of its sums")


BYTE_DOTS = {8: "llvm.x86.avx512.vpdpbusd.256", 16: "llvm.x86.avx512.vpdpbusd.512"}
"""LLVM's intrinsic by lanes; that of 256 bits becomes AVX-VNNI's encoding where there is no AVX-512."""


LEFT_OF_NEAREST: Mapping[Attribute, str] = {
    f32: "llvm.x86.avx512.mask.reduce.ps.512",
    f64: "llvm.x86.avx512.mask.reduce.pd.512",
}
"""LLVM's intrinsics for what floats are more than a multiple of a power of two; Intel's VREDUCEPS and VREDUCEPD.

Operands are the floats, the exponent of the power and the rounding in one constant (0: the nearest integer), floats for
lanes that are masked off, the mask, and a constant for exceptions."""
SCALE_BY_POWER: Mapping[Attribute, str] = {
    f32: "llvm.x86.avx512.mask.scalef.ps.512",
    f64: "llvm.x86.avx512.mask.scalef.pd.512",
}
"""LLVM's intrinsics for floats times two to the integers below others; Intel's VSCALEFPS and VSCALEFPD.

Operands are both floats, floats for lanes that are masked off, the mask, and a constant for the rounding."""

ROUND_TO_BF16 = "llvm.x86.avx512bf16.cvtneps2bf16.512"
"""LLVM's intrinsic for 16 f32 rounded to the nearest even bf16, subnormal numbers to zero; Intel's VCVTNEPS2BF16."""
ROUND_PAIR_TO_BF16 = "llvm.x86.avx512bf16.cvtne2ps2bf16.512"
"""The same for 32 f32, those of the second operand first; Intel's VCVTNE2PS2BF16."""

STORE_FENCE = "llvm.x86.sse.sfence"
"""LLVM's intrinsic that puts stores past the caches in order with those after it; Intel's SFENCE."""


def unsigned_signed_dot(accumulator: SSAValue, unsigned: SSAValue, signed: SSAValue) -> CallIntrinsicOp:
    """``accumulator`` plus, in every lane, the dot product of four unsigned by four signed bytes; Intel's VPDPBUSD."""
    type_ = accumulator.type
    assert isa(type_, VectorType)
    (lanes,) = type_.get_shape()
    if lanes not in BYTE_DOTS:
        raise CrosstileError(f"a dot product of bytes has 8 or 16 lanes, not {lanes} of {element_type(type_)}")
    return CallIntrinsicOp(BYTE_DOTS[lanes], [accumulator, unsigned, signed], [type_])


def rounded_to_bf16(*registers: SSAValue) -> CallIntrinsicOp:
    """The bf16 that the f32 in one register, or in two, one behind the other, are rounded to."""
    name = ROUND_TO_BF16 if len(registers) == 1 else ROUND_PAIR_TO_BF16
    return CallIntrinsicOp(name, [*reversed(registers)], [VectorType(bf16, [16 * len(registers)])])


X86Vector = Dialect("x86vector", [DotOp], [])
