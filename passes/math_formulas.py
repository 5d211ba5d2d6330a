"""Formulas for elementary functions of f32 and f64 in arithmetic and bit operations, one function each.

Each formula is written once against ``Formula``, which makes operations for a scalar or a vector alike, with the
numbers of its type from ``math_coefficients.py``. Errors are in ``dialects/math_accuracy.py``. Ideas shared by all:

- Rounding to an integer is adding and subtracting ``1.5 * 2^23``, in f64 ``1.5 * 2^52`` (Muller et al., Handbook of
  Floating-Point Arithmetic, 2nd ed., 10.1): the sum's low bits are the integer, so a power of two is those bits shifted
  into the exponent field.
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
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, FloatAttr, IntegerAttr, VectorType, f32
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.utils.hints import isa

from crosstile.dialects.arith import CmpfOp, NegfOp, SelectOp, SIToFPOp, element_type
from crosstile.passes.math_coefficients import NUMBERS

Constant = FloatAttr | IntegerAttr | DenseIntOrFPElementsAttr


class Formula:
    """Makes operations on values of one type, f32, f64 or a vector of either, and hands each to ``insert``."""

    def __init__(
        self, type_: Attribute, insert: Callable[[Operation], object], constant: Callable[[Constant], SSAValue]
    ):
        self.type = type_
        self.shape = type_.get_shape() if isa(type_, VectorType) else None
        self.numbers = NUMBERS[type(element_type(type_))]
        integer = self.numbers.integer_type
        self.integer_type: Attribute = integer if self.shape is None else VectorType(integer, self.shape)
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
            return self.constant(FloatAttr(value, self.numbers.float_type))
        type_ = VectorType(self.numbers.float_type, self.shape)
        return self.constant(DenseIntOrFPElementsAttr.from_list(type_, [value]))

    def integer(self, value: int) -> SSAValue:
        """An integer constant in every element."""
        if self.shape is None:
            return self.constant(IntegerAttr(value, self.numbers.integer_type))
        type_ = VectorType(self.numbers.integer_type, self.shape)
        return self.constant(DenseIntOrFPElementsAttr.from_list(type_, [value]))

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

    def inside(self, x: SSAValue, range_: tuple[float, float]) -> SSAValue:
        """``x`` or the nearer end of the range; NaN stays."""
        low, high = range_
        return self.at_most(self.at_least(x, low), high)

    def to_integer(self, biases: int) -> SSAValue:
        """The number that rounds to an integer when it is added, whose bits then end in that and so many biases."""
        return self.number(self.numbers.round + biases * self.numbers.bias)

    def polynomial(self, coefficients: Sequence[float], x: SSAValue) -> SSAValue:
        """A polynomial by Horner's rule, constant term first."""
        result = self.number(coefficients[-1])
        for coefficient in reversed(coefficients[:-1]):
            result = self.fma(result, x, self.number(coefficient))
        return result

    def split(self, x: SSAValue) -> tuple[SSAValue, SSAValue, SSAValue]:
        """The nearest integer to ``x`` in the two forms that ``scale`` takes, and ``x`` less that integer.

        An ``x`` outside of ``exp2_range`` is taken for the nearer end, since its power of two is 0 or infinite.
        """
        x = self.inside(x, self.numbers.exp2_range)
        offset = self.to_integer(2)
        rounded = self.add(x, offset)
        n = self.subtract(rounded, offset)
        return rounded, n, self.subtract(x, n)

    def scale(self, x: SSAValue, rounded: SSAValue, n: SSAValue) -> SSAValue:
        """``x * 2^n`` for any n in ``exp2_range`` through two factors, so that it overflows and underflows by itself.

        ``rounded`` is ``n + to_integer(2)``. Its bits are ``m + n`` with ``m`` those of the constant, whose half
        ends in the bias; so the halves ``(m + n) >> 1`` and what is left of ``m + n`` both end in a biased exponent.
        """
        both = self.bits(rounded)
        first = self.emit(arith.ShRUIOp(both, self.integer(1)))
        second = self.emit(arith.SubiOp(both, first))
        for half in (first, second):
            x = self.multiply(x, self.power_of_two(half))
        return x

    def power_of_two(self, biased: SSAValue) -> SSAValue:
        """Two to the integer that ``biased`` ends in, an integer with the bias of exponents on it."""
        return self.float_of_bits(self.shift_left(biased, self.numbers.mantissa_bits))


def exp(f: Formula, x: SSAValue) -> SSAValue:
    """``2^n * e^r`` with ``x = n ln 2 + r``. Below ``exp_range`` the result is 0, above it is infinite."""
    c = f.numbers
    x = f.inside(x, c.exp_range)
    offset = f.to_integer(2)
    rounded = f.fma(x, f.number(c.log2_e), offset)
    n = f.subtract(rounded, offset)
    r = f.fma(n, f.number(-c.ln2_low), f.fma(n, f.number(-c.ln2_high), x))
    return f.scale(f.fma(f.polynomial(c.exp, r), r, f.number(1.0)), rounded, n)


def exp_by_exp2(f: Formula, x: SSAValue) -> SSAValue:
    """``2^(x log2 e)`` where ``2^t`` is one instruction: off by as much, and by half a unit for each of ``x``."""
    exponent = f.multiply(x, f.number(f.numbers.log2_e))
    return f.emit(math_dialect.Exp2Op(exponent, arith.FastMathFlagsAttr([FastMathFlag.APPROX_FUNC])))


def exp2(f: Formula, x: SSAValue) -> SSAValue:
    """``2^n * 2^r`` with ``x = n + r``. Below ``exp2_range`` the result is 0, above it is infinite."""
    rounded, n, r = f.split(x)
    return f.scale(f.fma(f.polynomial(f.numbers.exp2, r), r, f.number(1.0)), rounded, n)


def log(f: Formula, x: SSAValue) -> SSAValue:
    """``n ln 2 + log(1 + f)`` with ``x = 2^n (1 + f)``; a subnormal ``x`` is first scaled by 2^23 (f64: 2^52)."""
    c = f.numbers
    minimum, zero = f.number(c.min_normal), f.number(0.0)
    normal = f.select("olt", x, minimum, f.multiply(x, f.number(2.0**c.mantissa_bits)), x)
    bias = f.select("olt", x, minimum, f.number(-float(c.mantissa_bits)), zero)
    bits = f.bits(normal)
    above = f.emit(arith.SubiOp(bits, f.integer(c.sqrt_half_bits)))
    exponent = f.emit(arith.ShRSIOp(above, f.integer(c.mantissa_bits)))
    significand = f.float_of_bits(f.emit(arith.SubiOp(bits, f.shift_left(exponent, c.mantissa_bits))))
    n = f.add(f.to_float(exponent), bias)
    fraction = f.subtract(significand, f.number(1.0))
    tail = f.fma(f.polynomial(c.log, fraction), f.multiply(fraction, fraction), fraction)
    result = f.fma(n, f.number(c.ln2), tail)
    result = f.select("olt", x, f.number(math.inf), result, x)
    not_positive = f.select("oeq", x, zero, f.number(-math.inf), f.number(math.nan))
    return f.select("ole", x, zero, not_positive, result)


def tanh(f: Formula, x: SSAValue) -> SSAValue:
    """``1 - 2 / (e^(2|x|) + 1)`` from 0.6 on, a polynomial below, and the sign of ``x``; above ``tanh_one`` it is 1."""
    c = f.numbers
    a = f.emit(math_dialect.AbsFOp(x))
    square = f.multiply(a, a)
    small = f.fma(f.multiply(f.polynomial(c.tanh, square), square), a, a)
    bounded = f.at_most(a, c.tanh_one)
    offset = f.to_integer(1)
    rounded = f.fma(bounded, f.number(2 * c.log2_e), offset)
    half = f.fma(f.subtract(rounded, offset), f.number(-c.ln2 / 2), bounded)
    doubled = [coefficient * 2.0 ** (power + 1) for power, coefficient in enumerate(c.exp)]
    exponential = f.fma(f.polynomial(doubled, half), half, f.number(1.0))
    sum_ = f.fma(exponential, f.power_of_two(f.bits(rounded)), f.number(1.0))
    large = f.subtract(f.number(1.0), f.divide(f.number(2.0), sum_))
    return f.emit(math_dialect.CopySignOp(f.select("olt", a, f.number(0.6), small, large), x))


def erf(f: Formula, x: SSAValue) -> SSAValue:
    """``1 - e^-h`` with the polynomial ``h = -log(1 - erf|x|)``, and the sign of ``x``; above ``erf_one`` it is 1.

    With ``-h = n ln 2 + r``: ``1 - 2^n (1 + expm1(r))``, in which nothing cancels.
    """
    c = f.numbers
    a = f.at_most(f.emit(math_dialect.AbsFOp(x)), c.erf_one)
    h = f.fma(f.polynomial(c.erf, a), a, a)
    offset = f.to_integer(1)
    rounded = f.fma(h, f.number(-c.log2_e), offset)
    n = f.subtract(rounded, offset)
    r = f.fma(n, f.number(-c.ln2), f.negate(h))
    expm1 = f.fma(f.polynomial(c.expm1, r), f.multiply(r, r), r)
    power = f.power_of_two(f.bits(rounded))
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
