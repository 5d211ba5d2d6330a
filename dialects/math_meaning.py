"""The meaning of ``math``: computed in float64 and rounded once to the type of the operand, elementwise.

A function of f64 is the host's own, within an ulp or two. ``math.fma`` is exact: one rounding of ``a * b + c``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from xdsl.dialects import math as math_dialect
from xdsl.ir import Operation

from crosstile.dialects.arith_meaning import elementwise
from crosstile.dialects.interpreter import Interpreter, Meaning, Meanings
from crosstile.targets.fma import fma

MEANINGS = Meanings()

_erf = np.frompyfunc(math.erf, 1, 1)


def erf(value: Any) -> Any:
    """The error function of a float64 array or scalar."""
    return np.asarray(_erf(value), np.float64)


def rounded_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` of float64, applied to operands of any float type and rounded to that type."""

    def apply(*operands: Any) -> Any:
        arrays = [np.asarray(operand) for operand in operands]
        return np.asarray(function(*(array.astype(np.float64) for array in arrays))).astype(arrays[0].dtype)[()]

    return apply


_UNARY: dict[type[Operation], Callable[[Any], Any]] = {
    math_dialect.AbsFOp: np.abs,
    math_dialect.AcosOp: np.arccos,
    math_dialect.AcoshOp: np.arccosh,
    math_dialect.AsinOp: np.arcsin,
    math_dialect.AsinhOp: np.arcsinh,
    math_dialect.AtanOp: np.arctan,
    math_dialect.AtanhOp: np.arctanh,
    math_dialect.CbrtOp: np.cbrt,
    math_dialect.CeilOp: np.ceil,
    math_dialect.CosOp: np.cos,
    math_dialect.CoshOp: np.cosh,
    math_dialect.ErfOp: erf,
    math_dialect.Exp2Op: np.exp2,
    math_dialect.ExpM1Op: np.expm1,
    math_dialect.ExpOp: np.exp,
    math_dialect.FloorOp: np.floor,
    math_dialect.Log10Op: np.log10,
    math_dialect.Log1pOp: np.log1p,
    math_dialect.Log2Op: np.log2,
    math_dialect.LogOp: np.log,
    math_dialect.RoundEvenOp: np.rint,
    math_dialect.RoundOp: lambda value: np.copysign(np.floor(np.abs(value) + 0.5), value),
    math_dialect.RsqrtOp: lambda value: 1.0 / np.sqrt(value),
    math_dialect.SinOp: np.sin,
    math_dialect.SinhOp: np.sinh,
    math_dialect.SqrtOp: np.sqrt,
    math_dialect.TanOp: np.tan,
    math_dialect.TanhOp: np.tanh,
    math_dialect.TruncOp: np.trunc,
}

for _op, _function in _UNARY.items():
    MEANINGS[_op] = elementwise(rounded_once(_function))

MEANINGS[math_dialect.Atan2Op] = elementwise(rounded_once(np.arctan2))
MEANINGS[math_dialect.CopySignOp] = elementwise(rounded_once(np.copysign))
MEANINGS[math_dialect.PowFOp] = elementwise(rounded_once(np.power))

MEANINGS[math_dialect.FmaOp] = elementwise(fma)
MEANINGS[math_dialect.AbsIOp] = elementwise(abs)
MEANINGS[math_dialect.FPowIOp] = elementwise(rounded_once(np.power))


def _bit_function(function: Callable[[int, int], int]) -> Meaning:
    def meaning(interpreter: Interpreter, op: Operation, operands: Sequence[Any]) -> Sequence[Any]:
        array = np.asarray(operands[0])
        width = array.dtype.itemsize * 8
        counts = [function(int(element) & ((1 << width) - 1), width) for element in array.flat]
        return (np.array(counts, array.dtype).reshape(array.shape)[()],)

    return meaning


MEANINGS[math_dialect.CtPopOp] = _bit_function(lambda bits, width: bits.bit_count())
MEANINGS[math_dialect.CountLeadingZerosOp] = _bit_function(lambda bits, width: width - bits.bit_length())
MEANINGS[math_dialect.CountTrailingZerosOp] = _bit_function(
    lambda bits, width: (bits & -bits).bit_length() - 1 if bits else width
)


@MEANINGS.of(math_dialect.IPowIOp)
def integer_power(interpreter: Interpreter, op: math_dialect.IPowIOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Wraps at the width; a negative exponent gives 0, or a power of one or minus one."""
    base, exponent = np.broadcast_arrays(*operands)
    width = base.dtype.itemsize * 8

    def power(value: int, count: int) -> int:
        if count >= 0:
            return pow(value, count, 1 << width)
        return {1: 1, -1: -1 if count % 2 else 1}.get(value, 0) & ((1 << width) - 1)

    bits = [power(int(value), int(count)) for value, count in zip(base.flat, exponent.flat, strict=True)]
    return (np.array(bits, f"u{width // 8}").view(base.dtype).reshape(base.shape)[()],)
