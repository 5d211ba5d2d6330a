"""Correctly rounded fused multiply-add on NumPy arrays, which NumPy itself does not have.

Level: the arithmetic under every interpreter. In: float32 or float64 arrays. Out: round(a*b + c), to nearest even, bit
for bit what the instruction gives, for all inputs: subnormal, infinite, NaN (any NaN for a NaN), signed zeros.

Both types rest on *rounding to odd* (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums", IEEE
Transactions on Computers 57(4), 2008): a sum that is inexact takes the neighbour whose last bit is 1, and rounding that
once more to a shorter type is as good as rounding the exact sum. float32 computes in float64, where products are exact;
float64 computes in pairs of float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


def fma(a: ArrayLike, b: ArrayLike, c: ArrayLike) -> Any:
    """``a*b + c`` elementwise with one rounding; arrays or scalars of one float type, that broadcast together.

    float64, float32 and whatever is narrower (float16, and bfloat16 and 8-bit floats of ``ml_dtypes``).
    Raises ``TypeError`` if the types differ.
    """
    a, b, c = np.asarray(a), np.asarray(b), np.asarray(c)
    if not a.dtype == b.dtype == c.dtype:
        raise TypeError(f"fma takes operands of one type, not {a.dtype}, {b.dtype} and {c.dtype}")
    shape = np.broadcast_shapes(a.shape, b.shape, c.shape)
    a, b, c = (np.broadcast_to(x, shape).reshape(-1) for x in (a, b, c))  # odd_sum works in place: no scalars
    with np.errstate(all="ignore"):
        if a.dtype == np.float64:
            return _add_any_product(a, b, *_exact_product(a, b), c).reshape(shape)[()]
        total = odd_sum(a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64))
        rounded = total.astype(np.float32)
        if c.dtype != np.float32:  # ml_dtypes casts by way of float32, so that rounding is to odd, too
            bits = rounded.view(np.int32)
            bits -= np.abs(rounded) > np.abs(total)
            bits |= rounded != total
        return rounded.astype(c.dtype).reshape(shape)[()]


def fma_flushing(a: Float32, b: Float32, c: Float32) -> Float32:
    """``a*b + c`` with one rounding, where subnormal inputs and results are zeros of the same sign.

    A result is subnormal if its 24 bits are below 2**-126 when rounded as if exponents had no end, which is how x86
    detects tininess (Intel SDM vol. 1, 4.9.1.5, Numeric Underflow): less may round up to 2**-126.
    """
    with np.errstate(all="ignore"):
        product = np.multiply(flush(a), flush(b), dtype=np.float64)
        total = odd_sum(*np.broadcast_arrays(product, flush(c).astype(np.float64)))
        tiny = np.abs((total * 2.0**64).astype(np.float32)) < 2.0**-62
        return np.where(tiny, np.copysign(np.float32(0), total), total).astype(np.float32)


def flush(values: Float32) -> Float32:
    """``values`` with subnormal numbers replaced by zeros of their sign."""
    return np.where(np.abs(values) < np.float32(2.0**-126), np.copysign(np.float32(0), values), values)


def fma_chain(columns: NDArray[Any], rows: NDArray[Any], accumulator: NDArray[Any]) -> None:
    """Adds ``columns[k] * rows[k]`` to ``accumulator`` for k = 0, 1, ... in order and in place, every step one fma.

    ``accumulator`` is float32 or float64, of any shape; columns and rows are float64 arrays [k, ...] of values of its
    type, whose slices have as many dimensions and broadcast to its shape. Equal to k calls of :func:`fma`, but faster.
    """
    if accumulator.size == 0:
        return
    with np.errstate(all="ignore"):
        (_chain_f32 if accumulator.dtype == np.float32 else _chain_f64)(columns, rows, accumulator)


def odd_sum(x: Float64, y: Float64) -> Float64:
    """``x + y`` rounded to odd: exact, or the neighbour of the exact sum whose significand ends in 1."""
    total = x + y
    error = _sum_error(x, y, total)
    _nudge(total, error)
    return total


def _sum_error(x: Float64, y: Float64, total: Float64) -> Float64:
    """The exact ``x + y - total`` where ``total`` is the rounded sum (Knuth's TwoSum)."""
    part = total - x
    return (x - (total - part)) + (y - part)


def _nudge(total: Float64, error: Float64) -> None:
    """Turns sums rounded to nearest, with their exact errors, into sums rounded to odd, in place.

    A sum rounded away from zero is stepped back, then the last bit of every inexact sum is set. An infinite total has
    the error NaN, which is above nothing, and stays as it is.
    """
    inexact = np.abs(error) > 0
    bits = total.view(np.int64)
    away = (error.view(np.int64) ^ bits) >> 63
    away *= inexact
    bits += away
    bits |= inexact


# float32: one step is product and sum in float64 and a rounding ------------------------------------------------------


def _chain_f32(columns: Float64, rows: Float64, result: Float32) -> None:
    """Chains in place into ``result``.

    Rounding twice, first to float64, errs only if the first rounding lands on the midpoint between two floats: the 29
    bits that float32 lacks are then 1000...0. Below the normal numbers the midpoints are elsewhere. Such sums are rare:
    some steps are made as if there were none, and made again if there was one.
    """
    tiny = not _exact_below_normal_f32(columns, rows)
    careful = False
    for part in _parts(len(columns), result.size):
        products = columns[part] * rows[part]
        if not careful:
            before = result.copy()
            careful = bool(_add_quickly(products, result, tiny).any())
            if not careful:
                continue
            np.copyto(result, before)
        for product in products:
            wide = result.astype(np.float64)
            total = product + wide
            if (mask := _doubtful(total, tiny)).any():
                total[mask] = odd_sum(np.broadcast_to(product, total.shape)[mask], wide[mask])
            np.copyto(result, total, casting="same_kind")


def _parts(steps: int, size: int) -> Iterator[slice]:
    """The steps of a chain in parts whose products, ``size`` each, stay in a core's second-level cache."""
    length = max(1, (1 << 14) // size)
    for start in range(0, steps, length):
        yield slice(start, min(start + length, steps))


def _add_quickly(products: Float64, result: Float32, tiny: bool) -> NDArray[np.bool_]:
    """Adds the products to ``result`` one after the other; returns where rounding twice may have been wrong."""
    wide = result.astype(np.float64)
    totals = np.empty((len(products), *result.shape))
    for step, product in enumerate(products):
        np.add(product, wide, out=totals[step])
        result[...] = totals[step]
        wide[...] = result
    return _doubtful(totals, tiny)


def _doubtful(totals: Float64, tiny: bool) -> NDArray[np.bool_]:
    """Where ``totals`` are midpoints between floats or, if ``tiny``, subnormal in float32."""
    bits = totals.view(np.uint64)
    midpoint = bits << 35 == 1 << 63
    return midpoint | ((bits << 1) - 1 < (1023 - 126 << 53) - 1) if tiny else midpoint


def _exact_below_normal_f32(columns: Float64, rows: Float64) -> bool:
    """All terms are multiples of 2**-179, as accumulators always are: sums below 2**-126 then fit into 53 bits."""
    return _quantum(columns) + _quantum(rows) >= -179


def _quantum(values: NDArray[Any]) -> int:
    """An exponent e such that all ``values``, floats of 24 bits, are multiples of 2**e."""
    magnitudes = np.abs(values[values != 0])
    magnitudes = magnitudes[np.isfinite(magnitudes)]
    return int(np.frexp(magnitudes.min())[1]) - 24 if magnitudes.size else 0


# float64: products and sums as unevaluated pairs ----------------------------------------------------------------------

_SPLITTER = float((1 << 27) + 1)


def _split(x: Float64) -> tuple[Float64, Float64]:
    """``x`` as a sum of two numbers of 26 bits (Veltkamp); needs abs(x) < 2**996."""
    scaled = x * _SPLITTER
    high = scaled - (scaled - x)
    return high, x - high


def _exact_product(a: Float64, b: Float64) -> tuple[Float64, Float64]:
    """``a * b`` as the rounded product and its exact error (Dekker), if nothing over- or underflows."""
    (a_high, a_low), (b_high, b_low) = _split(a), _split(b)
    high = a * b
    low = a_high * b_high
    low -= high
    low += a_high * b_low
    low += a_low * b_high
    low += a_low * b_low
    return high, low


def _chain_f64(columns: Float64, rows: Float64, result: Float64) -> None:
    """Chains in place into ``result``."""
    safe = _moderate(columns) and _moderate(rows) and bool(np.all(np.abs(result) < 2.0**1000))
    for part in _parts(len(columns), result.size):
        highs, lows = _exact_product(columns[part], rows[part])
        for a, b, high, low in zip(columns[part], rows[part], highs, lows, strict=True):
            np.copyto(result, _add_product(high, low, result) if safe else _add_any_product(a, b, high, low, result))


def _moderate(values: Float64) -> bool:
    """Whether no product of two such numbers, and no sum of such products, leaves the safe range."""
    sizes = np.abs(values[values != 0])
    return sizes.size == 0 or bool(sizes.min() > 2.0**-450 and sizes.max() < 2.0**450)


def _add_product(high: Float64, low: Float64, c: Float64) -> Float64:
    """``c`` plus the product that is exactly ``high + low``, rounded once (Boldo and Melquiond).

    With c + low = middle + middle_error and high + middle = total + total_error, both exact, the result is
    total + odd(middle_error + total_error).
    """
    middle = c + low
    middle_error = _sum_error(c, low, middle)
    total = high + middle
    total_error = _sum_error(high, middle, total)
    rounded = total + odd_sum(middle_error, total_error)
    zero = rounded == 0
    if zero.any():  # the sign of an exact zero is that of the plain sum
        np.add(high, c, out=rounded, where=zero)
    return rounded


def _add_any_product(a: Float64, b: Float64, high: Float64, low: Float64, c: Float64) -> Float64:
    """:func:`_add_product`, with the elements redone whose terms are not exact or overflow; a and b broadcast to c."""
    rounded = _add_product(high, low, c)
    if (outside := ~_in_safe_range(a, b, high, c)).any():
        wide_a, wide_b = np.broadcast_to(a, c.shape)[outside], np.broadcast_to(b, c.shape)[outside]
        rounded[outside] = _scaled_fma_f64(wide_a, wide_b, c[outside])
    return rounded


def _in_safe_range(a: Float64, b: Float64, product: Float64, c: Float64) -> NDArray[np.bool_]:
    """Where the algorithm neither overflows nor loses the low half of a product; False for NaN and infinity."""
    size = np.abs(product)
    enough = (size > 2.0**-960) | (a == 0) | (b == 0)
    return (np.abs(a) < 2.0**990) & (np.abs(b) < 2.0**990) & enough & (size < 2.0**1015) & (np.abs(c) < 2.0**1015)


def _scaled_fma_f64(a: Float64, b: Float64, c: Float64) -> Float64:
    """fma for any inputs: computed on significands, with a second step to odd where the result is subnormal."""
    plain = a * b + c
    significand_a, exponent_a = np.frexp(a)
    significand_b, exponent_b = np.frexp(b)
    significand_c, exponent_c = np.frexp(c)
    exponent = exponent_a + exponent_b
    scale = np.maximum(exponent, exponent_c)
    # A term 2**-200 times the other only says on which side of it the sum lies: no need to make it smaller still.
    x = np.ldexp(significand_a, np.maximum(exponent - scale, -200))
    z = np.ldexp(significand_c, np.maximum(exponent_c - scale, -200))
    high, low = _exact_product(x, significand_b)
    middle = z + low
    middle_error = _sum_error(z, low, middle)
    total = high + middle
    rest = odd_sum(middle_error, _sum_error(high, middle, total))
    rounded = total + rest
    normal = np.ldexp(rounded, scale)
    # The numbers from 2**-1022 to 2**-1021 are spaced like the subnormal ones: adding 2**-1022 rounds to that spacing,
    # subtracting it again is exact.
    offset = np.copysign(np.ldexp(1.0, np.minimum(-1022 - scale, 1000)), rounded)
    shifted = offset + total
    shifted = shifted + odd_sum(_sum_error(offset, total, shifted), rest)
    subnormal = np.copysign(np.ldexp(shifted - offset, scale), rounded)
    result = np.where(np.abs(normal) <= 2.0**-1022, subnormal, normal)
    result = np.where(rounded == 0, plain, result)
    result = np.where(c == 0, a * b, result)
    result = np.where((a == 0) | (b == 0), plain, result)
    finite = np.isfinite(a) & np.isfinite(b)
    return np.where(finite & np.isfinite(c), result, np.where(finite, c, plain))
