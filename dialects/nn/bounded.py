"""Arrays with error bounds: what a computation in a narrow float type may return, next to its exact value.

``Bounded(value, error)`` says that the computed result lies within ``error`` of ``value``, which is float64. Functions
here do what an elementwise operation does to it: the errors of the operands are carried through the operation at its
steepest over their range, then the operation's own rounding is added::

    add:  error = ea + eb, then + u (|a + b| + ea + eb)
    mul:  error = |a| eb + |b| ea + ea eb, then likewise
    exp:  error = exp(a) (exp(ea) - 1), then its units in the last place

This is running error analysis (Wilkinson; Higham, Accuracy and Stability of Numerical Algorithms, section 3.3). The
rounding of the float64 values themselves is part of the bound, which matters for programs in f64.

An error of infinity means that the program's arithmetic does not determine the element: a quotient by something that
may be zero, or an overflow on the way. ``least`` then still bounds the computed magnitude from below, so that a
division by what overflowed is known to be nearly zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from xdsl.dialects.builtin import BFloat16Type, Float16Type, Float32Type, Float64Type
from xdsl.ir import Attribute

from crosstile.dialects.element_types import Array, dtype_of
from crosstile.dialects.math_accuracy import max_ulp
from crosstile.dialects.math_meaning import erf as erf_of

REFERENCE_ROUNDOFF = 2.0**-53
"""Of the float64 in which the values here are computed."""


@dataclass(frozen=True)
class Format:
    """A number format: relative error of one rounding, smallest positive number, and where rounding overflows."""

    name: str
    roundoff: float
    smallest: float
    overflow: float

    @property
    def unit(self) -> float:
        """The relative error of one operation: its own rounding, and that of the reference."""
        return self.roundoff + REFERENCE_ROUNDOFF if self.roundoff else 0.0


def _ieee(name: str, precision: int, largest_exponent: int) -> Format:
    smallest = math.ldexp(1.0, 2 - largest_exponent - precision)
    # In float64 itself the limit is not a number; there an overflow is an infinite value.
    overflow = math.inf if precision == 53 else math.ldexp(2.0 - 2.0**-precision, largest_exponent)
    return Format(name, 2.0**-precision, smallest, overflow)


_FORMATS: dict[type[Attribute], Format] = {
    Float16Type: _ieee("f16", 11, 15),
    BFloat16Type: _ieee("bf16", 8, 127),
    Float32Type: _ieee("f32", 24, 127),
    Float64Type: _ieee("f64", 53, 1023),
}
_EXACT = Format("integer", 0.0, 0.0, math.inf)


def format_of(element: Attribute) -> Format:
    """The format of an element type; integers are exact, and counted in float64 up to 2^53."""
    return _FORMATS.get(type(element), _EXACT)


def format_of_dtype(dtype: np.dtype[Any]) -> Format:
    """The format of the elements of an array."""
    return next((found for element, found in _FORMATS.items() if dtype_of(element()) == dtype), _EXACT)


@dataclass(frozen=True)
class Bounded:
    """``value`` with the largest absolute ``error`` of what is computed in its place, elementwise.

    ``overflowed`` is the least magnitude that is computed where ``error`` is infinite, 0 elsewhere; None stands for no
    such element.
    """

    value: Array
    error: Array
    overflowed: Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.value.shape

    @cached_property
    def largest(self) -> Array:
        """The largest magnitude that may be computed."""
        return np.abs(self.value) + self.error

    @cached_property
    def least(self) -> Array:
        """The least magnitude that may be computed; where it is positive the sign is that of ``value``."""
        least = np.nan_to_num(np.maximum(np.abs(self.value) - self.error, 0.0), nan=0.0, posinf=np.inf)
        return least if self.overflowed is None else np.maximum(least, self.overflowed)

    @property
    def interval(self) -> tuple[Array, Array]:
        """The smallest and the largest number that may be computed."""
        low = np.where((self.value > 0) & (self.least > 0), self.least, self.value - self.error)
        high = np.where((self.value < 0) & (self.least > 0), -self.least, self.value + self.error)
        return low, high

    @cached_property
    def certain(self) -> Array:
        """Where no error can turn the operation's special cases on or off: exact, or finite and away from zero."""
        return (self.error == 0) | ((self.least > 0) & np.isfinite(self.error))

    def rearranged(self, function: Callable[[Array], Array]) -> Bounded:
        """The same elements elsewhere: ``function`` applied to every part."""
        overflowed = None if self.overflowed is None else function(self.overflowed)
        return Bounded(function(self.value), function(self.error), overflowed)


def exactly(value: Any) -> Bounded:
    """An array that is what it is."""
    array = np.asarray(value).astype(np.float64)
    return Bounded(array, np.zeros(array.shape))


def rounded(
    format_: Format,
    value: Array,
    carried: Array,
    operands: tuple[Bounded, ...],
    roundings: float = 1.0,
    least: Array | None = None,
    underflows: bool = True,
) -> Bounded:
    """``value`` whose operands carry an error of ``carried`` into it, after ``roundings`` roundings to ``format_``.

    Where a result ``underflows`` it is also off by the smallest positive number; sums of two never are.
    ``least`` is a bound from below of the computed magnitude where ``carried`` is infinite.
    """
    carried = np.where(np.isnan(carried), np.inf, carried)
    error = carried
    if roundings and format_.roundoff:
        error = carried + roundings * (format_.unit * (np.abs(value) + carried) + underflows * format_.smallest)
    if not np.isfinite(value).all():
        certain = np.logical_and.reduce(np.broadcast_arrays(*(operand.certain for operand in operands)))
        error = np.where(np.isfinite(value), error, np.where(certain, 0.0, np.inf))
    return saturated(format_, Bounded(value, error), least)


def saturated(format_: Format, result: Bounded, least: Array | None = None) -> Bounded:
    """``result`` with infinite errors where it may overflow ``format_``, and what is known of it there."""
    value, error = result.value, result.error
    below = result.least if least is None else np.maximum(result.least, np.nan_to_num(least, nan=0.0, posinf=np.inf))
    lost = np.isfinite(value) & ~(result.largest < format_.overflow)
    if not lost.any():
        return result
    certain_overflow = below >= format_.overflow
    overflowed = np.where(lost, np.where(certain_overflow, np.inf, below), 0.0)
    return Bounded(value, np.where(lost, np.inf, error), overflowed)


# Elementwise operations


def negate(format_: Format, x: Bounded) -> Bounded:
    """Exact."""
    return Bounded(-x.value, x.error, x.overflowed)


def absolute(format_: Format, x: Bounded) -> Bounded:
    """Exact."""
    return Bounded(np.abs(x.value), x.error, x.overflowed)


def add(format_: Format, x: Bounded, y: Bounded) -> Bounded:
    """The errors add up; an infinite term absorbs any finite one."""
    least = np.maximum(x.least - y.largest, y.least - x.largest) if _lost(x, y) else None
    result = rounded(format_, x.value + y.value, x.error + y.error, (x, y), least=least, underflows=False)
    if not np.isinf(result.value).any():
        return result
    absorbed = _absorbs(x, y) | _absorbs(y, x)
    return Bounded(result.value, np.where(absorbed, 0.0, result.error), result.overflowed)


def _absorbs(x: Bounded, y: Bounded) -> Array:
    """Where ``x`` is infinite for certain and ``y`` is not."""
    return np.isinf(x.value) & (x.error == 0) & np.isfinite(y.largest)


def subtract(format_: Format, x: Bounded, y: Bounded) -> Bounded:
    """The errors add up, however much cancels."""
    return add(format_, x, negate(format_, y))


def multiply(format_: Format, x: Bounded, y: Bounded) -> Bounded:
    """Each error is multiplied by the other operand."""
    carried = np.abs(x.value) * y.error + np.abs(y.value) * x.error + x.error * y.error
    least = x.least * y.least if _lost(x, y) else None
    return rounded(format_, x.value * y.value, carried, (x, y), least=least)


def divide(format_: Format, x: Bounded, y: Bounded) -> Bounded:
    """Relative to the least that the divisor may be; infinite if that is zero."""
    value = x.value / y.value
    carried = (x.error + np.abs(value) * y.error) / y.least
    carried = np.where((carried == 0) | (y.least > 0), carried, np.inf)
    if y.overflowed is not None:
        # A divisor that overflowed gives anything between zero and this.
        carried = np.fmin(carried, np.abs(value) + x.largest / y.least)
    least = x.least / y.largest if _lost(x) else None
    return rounded(format_, value, carried, (x, y), least=least)


def maximum(format_: Format, x: Bounded, y: Bounded) -> Bounded:
    """Exact; the error is that of the operand that is larger, or the larger one if that is open."""
    (x_low, x_high), (y_low, y_high) = x.interval, y.interval
    either = np.maximum(x.error, y.error)
    error = np.where(x_low >= y_high, x.error, np.where(y_low >= x_high, y.error, either))
    return rounded(format_, np.maximum(x.value, y.value), error, (x, y), roundings=0)


def minimum(format_: Format, x: Bounded, y: Bounded) -> Bounded:
    """``-max(-x, -y)``."""
    return negate(format_, maximum(format_, negate(format_, x), negate(format_, y)))


def approximate_exp(format_: Format, x: Bounded) -> Bounded:
    """An exponential that is ``fastmath<afn>``: 2 to the rounded product with a rounded log2 e, subnormal results 0."""
    if format_.roundoff < _FORMATS[Float32Type].roundoff:
        return exp(format_, x)
    rounding = np.where(np.isfinite(x.value), 1.5 * _FORMATS[Float32Type].roundoff * np.abs(x.value), 0.0)
    flushing = replace(format_, smallest=max(format_.smallest, 2.0**-126))
    return exp(flushing, Bounded(x.value, x.error + rounding, x.overflowed), approximate=True)


def exp(format_: Format, x: Bounded, approximate: bool = False) -> Bounded:
    """Steepest at the upper end."""
    value = np.exp(x.value)
    carried = np.where(value == 0, np.exp(x.interval[1]), value * np.expm1(x.error))
    if x.overflowed is not None:
        tiny = (x.value < 0) & (x.least > 0)
        carried = np.where(np.isfinite(x.error), carried, np.where(tiny, value + np.exp(-x.least), np.inf))
    least = np.where(x.value > 0, np.exp(x.least), 0.0) if _lost(x) else None
    return rounded(format_, value, carried, (x,), _roundings("exp", format_, approximate), least)


def log(format_: Format, x: Bounded) -> Bounded:
    """Steepest at the lower end; infinite if that may be zero or negative."""
    low = x.interval[0]
    carried = np.where(low > 0, np.log(x.value / low), np.inf)
    carried = np.where(x.error == 0, 0.0, carried)
    return rounded(format_, np.log(x.value), carried, (x,), _roundings("log", format_))


def _saturating(
    name: str, function: Callable[[Array], Array], slope: Callable[[Array], Array]
) -> Callable[[Format, Bounded], Bounded]:
    """A function that rises from -1 to 1 and is steepest at zero."""

    def apply(format_: Format, x: Bounded) -> Bounded:
        value = function(x.value)
        rest = np.where(x.least > 0, 2.0 - np.abs(value) - function(x.least), 2.0)
        carried = np.where(np.isfinite(x.error), np.fmin(x.error * slope(x.least), rest), rest)
        return rounded(format_, value, carried, (x,), _roundings(name, format_))

    return apply


def _tanh_slope(x: Array) -> Array:
    return 1.0 / np.cosh(np.minimum(x, 700.0)) ** 2


def _erf_slope(x: Array) -> Array:
    return 2.0 / math.sqrt(math.pi) * np.exp(-(x**2))


tanh = _saturating("tanh", np.tanh, _tanh_slope)
erf = _saturating("erf", erf_of, _erf_slope)


def square_root(format_: Format, x: Bounded) -> Bounded:
    """Steepest at the lower end; infinite if that may be negative and give NaN."""
    value, low = np.sqrt(x.value), x.interval[0]
    carried = np.where(low >= 0, x.error / (value + np.sqrt(low)), np.inf)
    carried = np.where(x.error == 0, 0.0, carried)
    return rounded(format_, value, carried, (x,), _roundings("sqrt", format_))


def reciprocal_root(format_: Format, x: Bounded, approximate: bool = False) -> Bounded:
    """Steepest at the lower end; infinite if that may be zero or negative, or for approximations subnormal."""
    low = x.interval[0]
    value = 1.0 / np.sqrt(x.value)
    root, low_root = np.sqrt(x.value), np.sqrt(low)
    carried = np.where(low > 0, x.error / (root * low_root * (root + low_root)), np.inf)
    carried = np.where(x.error == 0, 0.0, carried)
    if x.overflowed is not None:
        carried = np.where(np.isfinite(x.error) | (low <= 0), carried, value + 1.0 / low_root)
    if approximate:
        carried = np.where(low < 2.0**-126, np.inf, carried)
    return rounded(format_, value, carried, (x,), _roundings("rsqrt", format_, approximate))


def convert(format_: Format, source: Format, x: Bounded) -> Bounded:
    """One rounding, if the target is narrower; toward zero to the integers."""
    if format_ == _EXACT and source != _EXACT:
        low, high = (np.trunc(bound) for bound in x.interval)
        value = np.trunc(x.value)
        return Bounded(value, np.where(np.isfinite(value), np.maximum(high - value, value - low), np.inf))
    narrower = format_.roundoff > source.roundoff
    return rounded(format_, x.value, x.error, (x,), roundings=1.0 if narrower else 0.0, least=x.overflowed)


def _lost(*operands: Bounded) -> bool:
    return any(operand.overflowed is not None for operand in operands)


def _roundings(function: str, format_: Format, approximate: bool = False) -> float:
    """The error of a function in half units in the last place; narrow types compute it in f32 and round again."""
    if format_.name in ("f16", "bf16"):
        return 1.0 + max_ulp(function, "f32", approximate) * 2.0 * _FORMATS[Float32Type].roundoff / format_.roundoff
    approximate = approximate and format_.roundoff == _FORMATS[Float32Type].roundoff
    # A unit in the last place is at most twice the roundoff, relative to the result.
    return 2.0 * max_ulp(function, format_.name, approximate)
