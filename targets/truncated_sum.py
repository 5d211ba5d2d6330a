"""The sums of NVIDIA's tensor cores on NumPy arrays, bit for bit: T-FDPA, truncated fused dot product and accumulate.

Level: the arithmetic under the interpreters and under the simulator's matrix units. In: matrices and a row
:class:`~crosstile.targets.numerics.TruncatedSum`. Out: ``lhs @ rhs + accumulator`` after every k, computed so::

    for each chunk of `fused_length` products, in order of k:
        m = the largest exponent among the products and the accumulator
        truncate every term toward zero to `fraction_bits` bits below 2**m
        accumulator = the exact sum, rounded once

A product's exponent is the sum of its factors', not renormalised; a zero's is -126.

Source: MMA-Sim, arXiv 2511.10909, verified bitwise on hardware by its authors; Khattak and Mikaitis, arXiv 2512.07004.
float64 holds every intermediate: products have at most 24 significand bits and ``TruncatedSum`` bounds the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstile.targets.numerics import Rounding, TruncatedSum

Array = NDArray[Any]
Float64 = NDArray[np.float64]

_MIN_EXPONENT = {"f32": -126, "tf32": -126, "bf16": -126, "f16": -14, "f8E4M3FN": -6, "f8E5M2": -14}
_ZERO_EXPONENT = -(1 << 12)
"""Below the sum of any two exponents; a sum with an ordinary exponent still fits 16 bits."""

_BLOCK = 1 << 16
"""Products computed together: the temporaries stay in a core's second-level cache."""


def truncated_sum(
    lhs: Array, rhs: Array, accumulator: Array, numerics: TruncatedSum, *, elements: tuple[str, str, str]
) -> Array:
    """``lhs @ rhs + accumulator`` as a tensor core of arithmetic ``numerics`` computes it; a new array.

    Shapes [..., m, k], [..., k, n] and [..., m, n] with equal leading dimensions (or 1). ``elements`` are the types of
    the three, named as in ``targets/model.py``; tf32 is held in float32, whose low 13 bits are not read. NaNs are
    0x7FFFFFFF in f32 and 0x7FFF in f16.
    """
    k = lhs.shape[-1]
    a, b = np.moveaxis(lhs, -1, 0)[..., np.newaxis], np.moveaxis(rhs, -2, 0)[..., np.newaxis, :]
    a_value, a_exponent = decompose(a, elements[0])
    b_value, b_exponent = decompose(b, elements[1])
    leading = np.broadcast_shapes(a.shape[1:], b.shape[1:], accumulator.shape)
    result = np.array(np.broadcast_to(accumulator, leading))
    rows = result.shape[-2]
    step = max(1, _BLOCK * rows // max(1, result.size * min(numerics.fused_length, max(1, k))))
    with np.errstate(all="ignore"):
        for start in range(0, rows, step):
            block = slice(start, start + step)
            part = result[..., block, :]
            for first in range(0, k, numerics.fused_length):
                chunk = slice(first, first + numerics.fused_length)
                a_chunk = (a_value[chunk, ..., block, :], a_exponent[chunk, ..., block, :])
                part[...] = _add(a_chunk, (b_value[chunk], b_exponent[chunk]), part, numerics, elements[2])
    return result


def _add(
    a: tuple[Float64, NDArray[np.int16]],
    b: tuple[Float64, NDArray[np.int16]],
    accumulator: Array,
    numerics: TruncatedSum,
    element: str,
) -> Array:
    """One fused sum: products a * b [length, ..., m, n] and the accumulator [..., m, n]."""
    addend, largest = decompose(accumulator, element)
    np.maximum(largest, -126, out=largest)  # what a zero counts as
    np.maximum(largest, (a[1] + b[1]).max(axis=0), out=largest)
    unit = numerics.fraction_bits - largest.astype(np.int64)
    scale = _power_of_two(unit)
    terms = a[0] * b[0]
    terms *= scale
    # Terms are below 2**48 and integers once truncated: any order adds them exactly. No fixed-point zero is negative.
    total = np.trunc(terms, out=terms).sum(axis=0) + np.trunc(addend * scale) + 0.0
    total *= _power_of_two(-unit)
    rounded = _round(total, numerics, accumulator.dtype)
    if not (np.isfinite(a[0]).all() and np.isfinite(b[0]).all() and np.isfinite(addend).all()):
        plain = (a[0] * b[0]).sum(axis=0) + addend
        special = ~np.isfinite(plain)
        rounded[special] = plain[special].astype(accumulator.dtype)
        bits = rounded.view(np.uint32 if accumulator.itemsize == 4 else np.uint16)
        bits[np.isnan(plain)] = 0x7FFFFFFF if accumulator.itemsize == 4 else 0x7FFF
    return rounded


def round_to_tf32(values: Array) -> Array:
    """Numbers of float32 whose upper 19 bits are those of ``values`` rounded to nearest, ties away from zero.

    Half of tf32's last place is added, as kernels do; subnormal numbers have none and are cut off.
    """
    power = (np.ascontiguousarray(values).view(np.uint32) & np.uint32(0xFF800000)).view(np.float32)
    with np.errstate(all="ignore"):
        return (values.astype(np.float64) + power.astype(np.float64) * 2.0**-11).astype(np.float32)


def decompose(values: Array, element: str) -> tuple[Float64, NDArray[np.int16]]:
    """Values in float64 and their exponents: subnormal numbers keep the smallest, zeros have one below all others."""
    if element == "tf32":
        values = (np.ascontiguousarray(values).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
    wide = values.astype(np.float64)
    exponent = ((wide.view(np.int64) >> 52 & 0x7FF) - 1023).astype(np.int16)
    np.maximum(exponent, _MIN_EXPONENT[element], out=exponent)
    exponent[wide == 0] = _ZERO_EXPONENT
    return wide, exponent


def _power_of_two(exponent: NDArray[np.int64]) -> Float64:
    """2.0 ** exponent, for exponents of normal float64 numbers."""
    return ((exponent + 1023) << 52).view(np.float64)


def _round(values: Float64, numerics: TruncatedSum, dtype: np.dtype[Any]) -> Array:
    """The sum in the accumulator's type."""
    if numerics.rounding is Rounding.NEAREST_EVEN:
        return values.astype(dtype)
    if numerics.result_fraction_bits < 23:
        unit = np.maximum(np.frexp(values)[1] - 1, -126) - numerics.result_fraction_bits
        return np.ldexp(np.trunc(np.ldexp(values, -unit)), unit).astype(dtype)
    rounded = values.astype(np.float32)  # to nearest, then one step back where that went away from zero
    size = np.abs(values)
    rounded.view(np.int32)[...] -= (np.abs(rounded) > size) & (size < 2.0**128)
    return rounded.astype(dtype)
