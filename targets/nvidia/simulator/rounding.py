"""Rounding to a float type in PTX's modes, and NVIDIA's NaN.

Level: the simulator's arithmetic. In: float64 values, exact or rounded to odd. Out: values of the narrower type. A
value rounded to odd in float64 rounds to f32, bf16 and f16 in every mode as the exact one does (see targets/fma.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Lanes = NDArray[Any]

where: Callable[..., Any] = np.where
"""np.where, for operands of any type."""

CANONICAL = {2: 0x7FFF, 4: 0x7FFFFFFF}
"""The bits of the NaN that arithmetic gives, by size; f64 keeps payloads."""


def canonical(values: Lanes) -> Lanes:
    """``values`` (a fresh array) with every NaN the one that the hardware gives."""
    bad = values != values
    if bad.any() and values.dtype.itemsize in CANONICAL:
        values.view(f"u{values.dtype.itemsize}")[bad] = CANONICAL[values.dtype.itemsize]
    return values


def round_to(values: NDArray[np.float64], dtype: np.dtype[Any], mode: str) -> Lanes:
    """``values`` in ``dtype`` by mode rn (nearest, ties to even), rz, rm or rp; NaN canonical, no saturation."""
    if mode == "rn" and dtype == np.float64:
        return values
    rounded = np.atleast_1d(_nearest(values, dtype))
    if mode != "rn":
        back = rounded.astype(np.float64)
        bits: Any = rounded.view(f"i{dtype.itemsize}")
        one = bits.dtype.type(1)
        if mode == "rz":
            bits -= (np.abs(back) > np.abs(values)) * one
        elif mode == "rm":
            # One step down is one more in magnitude for negative numbers and for +0.
            wrong = back > values
            bits += where(wrong, np.where(back > 0, -one, one), 0 * one)
            bits[wrong & (back == 0)] = np.iinfo(bits.dtype).min + 1
        elif mode == "rp":
            wrong = back < values
            bits += where(wrong, np.where(back < 0, -one, one), 0 * one)
            bits[wrong & (back == 0)] = 1
        else:
            raise ValueError(f"rounding mode '.{mode}'")
    return canonical(rounded)


def _nearest(values: NDArray[np.float64], dtype: np.dtype[Any]) -> Lanes:
    if dtype.itemsize == 2 and dtype != np.float16:
        # ml_dtypes goes by way of float32: rounding that to odd first makes the second rounding right.
        short = values.astype(np.float32)
        bits = np.atleast_1d(short).view(np.int32)
        wide = np.atleast_1d(values)
        finite = np.isfinite(wide)
        bits -= (np.abs(bits.view(np.float32)) > np.abs(wide)) & finite
        bits |= (bits.view(np.float32) != wide) & finite
        return bits.view(np.float32).astype(dtype)
    return values.astype(dtype)
