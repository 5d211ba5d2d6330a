"""Formulas of elementary functions with the instructions that some machines have for exponents of floats.

The formulas of ``math_formulas.py`` round to an integer by adding and subtracting a large number, and multiply by a
power of two through the bits of its exponent, in two factors. AVX-512 does each with one instruction, for 16 f32 or 8
f64::

    %r = llvm.call_intrinsic "llvm.x86.avx512.mask.reduce.ps.512"(%x, ...)        x less the nearest integer
    %y = llvm.call_intrinsic "llvm.x86.avx512.mask.scalef.ps.512"(%p, %n, ...)    p * 2^n, rounded once

Both are exact but for the one rounding of a result that is subnormal, as the arithmetic that they replace is: no bit of
any result depends on which of them computed it. (Intel SDM vol. 2, VREDUCEPS, VREDUCEPD, VSCALEFPS and VSCALEFPD.)
"""

from __future__ import annotations

from collections.abc import Mapping

from xdsl.dialects.builtin import IntegerAttr, VectorType, f32, f64, i8, i16, i32
from xdsl.dialects.llvm import CallIntrinsicOp
from xdsl.ir import Attribute, SSAValue

from crosstile.dialects.x86vector import LEFT_OF_NEAREST, SCALE_BY_POWER
from crosstile.passes.math_formulas import Formula

CURRENT_ROUNDING = 4
"""The rounding mode of the processor's control register, which is to the nearest."""


class Avx512Formula(Formula):
    """Sixteen f32 with VREDUCEPS and VSCALEFPS, eight f64 with VREDUCEPD and VSCALEFPD."""

    @classmethod
    def takes(cls, type_: Attribute) -> bool:
        """Whether there are such instructions for ``type_``."""
        return type_ in (VectorType(f32, [16]), VectorType(f64, [8]))

    def split(self, x: SSAValue) -> tuple[SSAValue, SSAValue, SSAValue]:
        """What an infinite ``x`` is more than the nearest integer is 0 to the instruction, so no bounds are needed."""
        r = self._call(LEFT_OF_NEAREST, x, self.single(0))
        n = self.subtract(x, r)
        return n, n, r

    def scale(self, x: SSAValue, rounded: SSAValue, n: SSAValue) -> SSAValue:
        """``x * 2^n``."""
        return self._call(SCALE_BY_POWER, x, n)

    def single(self, value: int) -> SSAValue:
        """One integer."""
        return self.constant(IntegerAttr(value, i32))

    def _call(self, names: Mapping[Attribute, str], *operands: SSAValue) -> SSAValue:
        all_lanes = self.constant(IntegerAttr(-1, i16 if self.shape == (16,) else i8))
        unused = self.number(0.0)
        arguments = [*operands, unused, all_lanes, self.single(CURRENT_ROUNDING)]
        return self.emit(CallIntrinsicOp(names[self.numbers.float_type], arguments, [self.type]))


FORMULAS_WITH: Mapping[str, tuple[type[Formula], ...]] = {"avx512": (Avx512Formula,)}
"""By the machine's ``exponents``, what makes formulas with its instructions, for the types that it takes."""
