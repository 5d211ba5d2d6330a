"""Formulas for elementary functions of f32 in arithmetic and bit operations: data and one function each.

Each formula is written once against ``Formula``, which makes operations for a scalar or a vector alike. The polynomials
are minimax fits by Remez's algorithm, made by ``test/support/fit_polynomials.py``; a test makes them again. Errors are
in ``dialects/math_accuracy.py``. Ideas shared by all formulas:

- Rounding to an integer is adding and subtracting ``1.5 * 2^23`` (Muller et al., Handbook of Floating-Point Arithmetic,
  2nd ed., 10.1): the sum's low bits are the integer, so a power of two is those bits shifted into the exponent field.
- ``n * ln 2`` is taken off in two parts, the first with so few bits that its product with ``n`` is exact
  (Cody and Waite, Software Manual for the Elementary Functions, 1980).
- Comparisons are written so that a NaN falls through to the arithmetic, which passes it on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache

from xdsl.dialects import arith
from xdsl.dialects import math as math_dialect
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, FloatAttr, IntegerAttr, VectorType, f32, i32
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.utils.hints import isa

from crosstile.dialects.arith import CmpfOp, NegfOp, SelectOp, SIToFPOp

EXP = (1.0000001192092896, 0.5, 0.166663259267807, 0.041666239500045776, 0.00838111899793148, 0.0013948592822998762)
"""e^r = 1 + r * P(r) for r in [-ln(2)/2, ln(2)/2]."""

EXP2 = (
    0.6931472420692444,
    0.24022650718688965,
    0.05550297349691391,
    0.009618030861020088,
    0.0013410000829026103,
    0.00015469732170458883,
)
"""2^r = 1 + r * P(r) for r in [-1/2, 1/2]."""

EXPM1 = (0.4999999403953552, 0.1666652113199234, 0.04166838899254799, 0.008368716575205326, 0.001381459878757596)
"""e^r - 1 = r + r^2 * P(r) for r in [-ln(2)/2, ln(2)/2]."""

LOG = (
    -0.49999991059303284,
    0.33333951234817505,
    -0.25001755356788635,
    0.19962053000926971,
    -0.1657046526670456,
    0.14918147027492523,
    -0.14307937026023865,
    0.08734840899705887,
)
"""log(1 + f) = f + f^2 * P(f) for 1 + f in [sqrt(1/2), sqrt(2)]."""

TANH = (-0.3333330452442169, 0.13331998884677887, -0.05378289148211479, 0.020775415003299713, -0.005856427829712629)
"""tanh(x) = x + x^3 * P(x^2) for x in [0, 0.6]."""

ERF = (
    0.12837916612625122,
    0.6366193890571594,
    0.10277782380580902,
    -0.019153034314513206,
    -0.00016044519725255668,
    0.0016670734621584415,
    -0.0006328606978058815,
    0.00011764764349209145,
    -9.256948942493182e-06,
)
"""-log(1 - erf(a)) = a + a * P(a) for a in [0, 3.93]."""

LOG2_E = 1.4426950216293335
LN2 = 0.6931471824645996
LN2_HIGH = 0.693359375  # 355 / 512
LN2_LOW = -0.00021219444170128554  # ln 2 - 355 / 512
ROUND = 1.5 * 2**23
BIAS = 127
MANTISSA_BITS = 23
SQRT_HALF_BITS = 0x3F3504F3
MIN_NORMAL = 2.0**-126


Constant = FloatAttr | IntegerAttr | DenseIntOrFPElementsAttr


class Formula:
    """Makes operations on values of one type, f32 or a vector of f32, and hands each to ``insert``."""

    def __init__(
        self, type_: Attribute, insert: Callable[[Operation], object], constant: Callable[[Constant], SSAValue]
    ):
        self.type = type_
        self.shape = type_.get_shape() if isa(type_, VectorType) else None
        self.integer_type: Attribute = i32 if self.shape is None else VectorType(i32, self.shape)
        self._insert = insert
        self.constant = constant

    @classmethod
    def takes(cls, type_: Attribute) -> bool:
        """Whether operations on ``type_`` can be made."""
        return True

    def emit(self, op: Operation) -> SSAValue:
        """The result of ``op``, inserted."""
        self._insert(op)
        return op.results[0]

    def number(self, value: float) -> SSAValue:
        """A float constant in every element."""
        if self.shape is None:
            return self.constant(FloatAttr(value, f32))
        return self.constant(DenseIntOrFPElementsAttr.from_list(VectorType(f32, self.shape), [value]))

    def integer(self, value: int) -> SSAValue:
        """An integer constant in every element."""
        if self.shape is None:
            return self.constant(IntegerAttr(value, i32))
        return self.constant(DenseIntOrFPElementsAttr.from_list(VectorType(i32, self.shape), [value]))

    def fma(self, a: SSAValue, b: SSAValue, c: SSAValue) -> SSAValue:
        """``a * b + c``, rounded once."""
        return self.emit(math_dialect.FmaOp(a, b, c))

    def add(self, a: SSAValue, b: SSAValue) -> SSAValue:
        """``a + b``."""
        return self.emit(arith.AddfOp(a, b))

    def subtract(self, a: SSAValue, b: SSAValue) -> SSAValue:
        """``a - b``."""
        return self.emit(arith.SubfOp(a, b))

    def multiply(self, a: SSAValue, b: SSAValue) -> SSAValue:
        """``a * b``."""
        return self.emit(arith.MulfOp(a, b))

    def divide(self, a: SSAValue, b: SSAValue) -> SSAValue:
        """``a / b``."""
        return self.emit(arith.DivfOp(a, b))

    def negate(self, a: SSAValue) -> SSAValue:
        """``-a``."""
        return self.emit(NegfOp(a))

    def bits(self, a: SSAValue) -> SSAValue:
        """The bits of a float as an integer."""
        return self.emit(arith.BitcastOp(a, self.integer_type))

    def float_of_bits(self, a: SSAValue) -> SSAValue:
        """The float with these bits."""
        return self.emit(arith.BitcastOp(a, self.type))

    def to_float(self, a: SSAValue) -> SSAValue:
        """A signed integer as a float."""
        return self.emit(SIToFPOp(a, self.type))

    def shift_left(self, a: SSAValue, count: int) -> SSAValue:
        """``a << count``; bits that leave are lost."""
        return self.emit(arith.ShLIOp(a, self.integer(count)))

    def select(self, predicate: str, a: SSAValue, b: SSAValue, then: SSAValue, otherwise: SSAValue) -> SSAValue:
        """``then`` where the comparison of floats ``a`` and ``b`` holds, else ``otherwise``."""
        return self.emit(SelectOp(self.emit(CmpfOp(a, b, predicate)), then, otherwise))

    def at_most(self, x: SSAValue, limit: float) -> SSAValue:
        """The smaller of ``x`` and ``limit``; NaN stays."""
        bound = self.number(limit)
        return self.select("ogt", x, bound, bound, x)

    def at_least(self, x: SSAValue, limit: float) -> SSAValue:
        """The larger of ``x`` and ``limit``; NaN stays."""
        bound = self.number(limit)
        return self.select("olt", x, bound, bound, x)

    def polynomial(self, coefficients: Sequence[float], x: SSAValue) -> SSAValue:
        """A polynomial by Horner's rule, constant term first."""
        result = self.number(coefficients[-1])
        for coefficient in reversed(coefficients[:-1]):
            result = self.fma(result, x, self.number(coefficient))
        return result

    def split(self, x: SSAValue) -> tuple[SSAValue, SSAValue, SSAValue]:
        """The nearest integer to ``x`` in the two forms that ``scale`` takes, and ``x`` less that integer.

        An ``x`` outside of [-151, 129] is taken for the nearer end, since its power of two is 0 or infinite.
        """
        x = self.at_most(self.at_least(x, -151.0), 129.0)
        offset = self.number(ROUND + 2 * BIAS)
        rounded = self.add(x, offset)
        n = self.subtract(rounded, offset)
        return rounded, n, self.subtract(x, n)

    def scale(self, x: SSAValue, rounded: SSAValue, n: SSAValue) -> SSAValue:
        """``x * 2^n`` for any n in [-151, 129] through two factors, so that it overflows and underflows by itself.

        ``rounded`` is ``n + ROUND + 2 * BIAS``. Its bits are ``m + n`` with ``m`` those of the constant, whose half
        ends in BIAS; so the halves ``(m + n) >> 1`` and what is left of ``m + n`` both end in a biased exponent.
        """
        both = self.bits(rounded)
        first = self.emit(arith.ShRUIOp(both, self.integer(1)))
        second = self.emit(arith.SubiOp(both, first))
        for half in (first, second):
            x = self.multiply(x, self.float_of_bits(self.shift_left(half, MANTISSA_BITS)))
        return x


def exp(f: Formula, x: SSAValue) -> SSAValue:
    """``2^n * e^r`` with ``x = n ln 2 + r``. Below -104 the result is 0, above 89 it is infinite."""
    x = f.at_most(f.at_least(x, -104.0), 89.0)
    offset = f.number(ROUND + 2 * BIAS)
    rounded = f.fma(x, f.number(LOG2_E), offset)
    n = f.subtract(rounded, offset)
    r = f.fma(n, f.number(-LN2_LOW), f.fma(n, f.number(-LN2_HIGH), x))
    return f.scale(f.fma(f.polynomial(EXP, r), r, f.number(1.0)), rounded, n)


def exp_by_exp2(f: Formula, x: SSAValue) -> SSAValue:
    """``2^(x log2 e)`` where ``2^t`` is one instruction: off by as much, and by half a unit for each of ``x``."""
    exponent = f.multiply(x, f.number(LOG2_E))
    return f.emit(math_dialect.Exp2Op(exponent, arith.FastMathFlagsAttr([FastMathFlag.APPROX_FUNC])))


def exp2(f: Formula, x: SSAValue) -> SSAValue:
    """``2^n * 2^r`` with ``x = n + r``. Below -151 the result is 0, above 129 it is infinite."""
    rounded, n, r = f.split(x)
    return f.scale(f.fma(f.polynomial(EXP2, r), r, f.number(1.0)), rounded, n)


def log(f: Formula, x: SSAValue) -> SSAValue:
    """``n ln 2 + log(1 + f)`` with ``x = 2^n (1 + f)``; a subnormal ``x`` is first scaled by 2^23."""
    minimum, zero = f.number(MIN_NORMAL), f.number(0.0)
    normal = f.select("olt", x, minimum, f.multiply(x, f.number(2.0**MANTISSA_BITS)), x)
    bias = f.select("olt", x, minimum, f.number(-float(MANTISSA_BITS)), zero)
    bits = f.bits(normal)
    exponent = f.emit(arith.ShRSIOp(f.emit(arith.SubiOp(bits, f.integer(SQRT_HALF_BITS))), f.integer(MANTISSA_BITS)))
    significand = f.float_of_bits(f.emit(arith.SubiOp(bits, f.shift_left(exponent, MANTISSA_BITS))))
    n = f.add(f.to_float(exponent), bias)
    fraction = f.subtract(significand, f.number(1.0))
    tail = f.fma(f.polynomial(LOG, fraction), f.multiply(fraction, fraction), fraction)
    result = f.fma(n, f.number(LN2), tail)
    result = f.select("olt", x, f.number(math.inf), result, x)
    not_positive = f.select("oeq", x, zero, f.number(-math.inf), f.number(math.nan))
    return f.select("ole", x, zero, not_positive, result)


def tanh(f: Formula, x: SSAValue) -> SSAValue:
    """``1 - 2 / (e^(2|x|) + 1)`` from 0.6 on, a polynomial below, and the sign of ``x``; above 9.02 it is 1."""
    a = f.emit(math_dialect.AbsFOp(x))
    square = f.multiply(a, a)
    small = f.fma(f.multiply(f.polynomial(TANH, square), square), a, a)
    bounded = f.at_most(a, 9.02)
    offset = f.number(ROUND + BIAS)
    rounded = f.fma(bounded, f.number(2 * LOG2_E), offset)
    half = f.fma(f.subtract(rounded, offset), f.number(-LN2 / 2), bounded)
    doubled = [coefficient * 2.0 ** (power + 1) for power, coefficient in enumerate(EXP)]
    exponential = f.fma(f.polynomial(doubled, half), half, f.number(1.0))
    power = f.float_of_bits(f.shift_left(f.bits(rounded), MANTISSA_BITS))
    sum_ = f.fma(exponential, power, f.number(1.0))
    large = f.subtract(f.number(1.0), f.divide(f.number(2.0), sum_))
    return f.emit(math_dialect.CopySignOp(f.select("olt", a, f.number(0.6), small, large), x))


def erf(f: Formula, x: SSAValue) -> SSAValue:
    """``1 - e^-h`` with the polynomial ``h = -log(1 - erf|x|)``, and the sign of ``x``; above 3.93 it is 1.

    With ``-h = n ln 2 + r``: ``1 - 2^n (1 + expm1(r))``, in which nothing cancels.
    """
    a = f.at_most(f.emit(math_dialect.AbsFOp(x)), 3.93)
    h = f.fma(f.polynomial(ERF, a), a, a)
    offset = f.number(ROUND + BIAS)
    rounded = f.fma(h, f.number(-LOG2_E), offset)
    n = f.subtract(rounded, offset)
    r = f.fma(n, f.number(-LN2), f.negate(h))
    expm1 = f.fma(f.polynomial(EXPM1, r), f.multiply(r, r), r)
    power = f.float_of_bits(f.shift_left(f.bits(rounded), MANTISSA_BITS))
    result = f.fma(f.negate(expm1), power, f.subtract(f.number(1.0), power))
    return f.emit(math_dialect.CopySignOp(result, x))


def rsqrt(f: Formula, x: SSAValue) -> SSAValue:
    """One over the square root, both correctly rounded."""
    return f.divide(f.number(1.0), f.emit(math_dialect.SqrtOp(x)))


FORMULAS: Mapping[type[Operation], Callable[[Formula, SSAValue], SSAValue]] = {
    math_dialect.ExpOp: exp,
    math_dialect.Exp2Op: exp2,
    math_dialect.LogOp: log,
    math_dialect.TanhOp: tanh,
    math_dialect.ErfOp: erf,
    math_dialect.RsqrtOp: rsqrt,
}
BY_ONE_INSTRUCTION: Mapping[type[Operation], tuple[str, Callable[[Formula, SSAValue], SSAValue]]] = {
    math_dialect.ExpOp: ("exp2", exp_by_exp2),
}
"""Formulas for what is ``fastmath<afn>`` on machines that approximate another function by one instruction."""


@cache
def formula_length(kind: type[Operation]) -> int:
    """How many operations the formula of a function has."""
    made: list[Operation] = []
    formula = Formula(f32, made.append, lambda value: arith.ConstantOp(value).result)
    FORMULAS[kind](formula, formula.number(0.0))
    return len(made)
