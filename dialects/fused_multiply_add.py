"""Exact fused multiply-add on arrays: ``a * b + c`` with one rounding to nearest even, bit for bit as hardware does.

f32 and narrower: the product of two 24-bit numbers is exact in float64, and the sum is rounded to odd in float64, which
makes the second rounding (to at most 24 bits) the right one (Boldo and Melquiond, "Emulation of FMA and correctly
rounded sums: proved algorithms using rounding to odd", IEEE Trans. Computers 57(4), 2008). f64: the error-free product
and sums of the same paper, with operands scaled out of the range where those would overflow.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from crosstile.dialects.element_types import Array


def fused_multiply_add(a: Any, b: Any, c: Any) -> Any:
    """``a * b + c`` rounded once, in the type of ``a``; operands broadcast."""
    a, b, c = (np.asarray(operand) for operand in (a, b, c))
    with np.errstate(all="ignore"):
        if a.dtype == np.float64:
            return _fma_float64(a, b, c)[()]
        product = a.astype(np.float64) * b.astype(np.float64)
        return add_rounded_once(product, c)[()]


def add_rounded_once(product: Array, c: Array) -> Array:
    """``product + c`` rounded once to the type of ``c`` (narrower than f64); ``product`` is exact in float64."""
    wide = c.astype(np.float64)
    total = product + wide
    if c.dtype == np.float32 and not _near_tie(total).any():
        return total.astype(np.float32)
    return _rounded_to_odd(product, wide, total).astype(c.dtype)


def _near_tie(total: Array) -> Array:
    """Where rounding ``total`` to float32 could double-round: exactly between two floats, or subnormal."""
    bits = total.view(np.uint64) if total.ndim else total.reshape(1).view(np.uint64)
    magnitude = bits & np.uint64(0x7FFF_FFFF_FFFF_FFFF)
    smallest_normal = np.uint64(0x3810_0000_0000_0000)  # 2**-126
    tie = (bits & np.uint64(0x1FFF_FFFF)) == np.uint64(0x1000_0000)
    return tie | ((magnitude < smallest_normal) & (magnitude != 0))


def _rounded_to_odd(x: Array, y: Array, total: Array) -> Array:
    """``total`` = x + y rounded to nearest, moved to the odd neighbour where it is inexact and even."""
    virtual = total - x
    error = np.asarray((x - (total - virtual)) + (y - virtual))
    bits = np.array(total, np.float64).reshape(np.shape(total)).view(np.int64)
    inexact = np.isfinite(total) & (error != 0) & ((bits & 1) == 0)
    away = (error > 0) == (np.asarray(total) > 0)
    return np.asarray(bits + np.where(inexact, np.where(away, 1, -1), 0)).view(np.float64)


def _two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """The product and its rounding error (Dekker), exact without over- or underflow."""
    splitter = float(2**27 + 1)
    high_a = splitter * a - (splitter * a - a)
    high_b = splitter * b - (splitter * b - b)
    low_a, low_b = a - high_a, b - high_b
    product = a * b
    return product, ((high_a * high_b - product) + high_a * low_b + low_a * high_b) + low_a * low_b


def _two_sum(x: Array, y: Array) -> tuple[Array, Array]:
    total = x + y
    virtual = total - x
    return total, (x - (total - virtual)) + (y - virtual)


def _fma_float64(a: Array, b: Array, c: Array) -> Array:
    a, b, c = np.broadcast_arrays(a, b, c)
    product, product_error = _two_product(a, b)
    low_sum, low_error = _two_sum(c, product_error)
    high, high_error = _two_sum(product, low_sum)
    tail = _rounded_to_odd(high_error, low_error, np.asarray(high_error + low_error))
    result = np.array(high + tail)
    magnitudes = [np.abs(array) for array in (a, b, c, product)]
    small, large = 2.0**-400, 2.0**400
    extreme = np.zeros(result.shape, np.bool_)
    for magnitude in magnitudes:
        extreme |= ~(magnitude < large) | ((magnitude < small) & (magnitude != 0))
    extreme |= (a != 0) & (b != 0) & (product == 0)
    for place in zip(*np.nonzero(np.atleast_1d(extreme)), strict=True):
        place = place if result.ndim else ()
        result[place] = _fma_exact(float(a[place]), float(b[place]), float(c[place]))
    return result


def _fma_exact(a: float, b: float, c: float) -> float:
    """One element through rational arithmetic, for operands too large or too small for the error-free sums."""
    if not (np.isfinite(a) and np.isfinite(b)):
        return float(np.float64(a) * np.float64(b) + np.float64(c))
    if not np.isfinite(c):
        return c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        return a * b + c
    try:
        return float(exact)
    except OverflowError:
        return float("inf") if exact > 0 else float("-inf")
