"""Runs an intrinsic row on NumPy arrays, bit for bit as the hardware does.

Level: the arithmetic under the ``tile``, ``mma`` and hardware interpreters. In: an :class:`MmaIntrinsic` and the arrays
of its operands. Out: the accumulator after every k, computed as the row's ``numerics`` says and in no other way::

    %d = mma.mma %a, %b, %c {intrinsic = "x86.avx512.fma.1x16x1.f32"}      d = execute(intrinsic(name), a, b, c)

One function per kind of arithmetic, chosen by the type of the row's ``numerics``.
"""

from __future__ import annotations

from functools import cache, singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstile.targets.fma import flush, fma_chain, fma_flushing
from crosstile.targets.model import MmaIntrinsic, Operand
from crosstile.targets.numerics import EvenOddChains, IntegerDot, MultiplyThenAdd, Rounding, SequentialFma, TruncatedSum

Array = NDArray[Any]

_DTYPES = {
    "f64": "float64",
    "f32": "float32",
    "tf32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "f8E4M3FN": "float8_e4m3fn",
    "f8E5M2": "float8_e5m2",
    "i32": "int32",
    "si8": "int8",
    "ui8": "uint8",
}
"""The NumPy (or ml_dtypes) name of each element type; tf32 is kept in float32."""

_BLOCK = 1 << 14
"""Accumulators computed together: the temporaries stay in a core's second-level cache."""


def execute(intrinsic: MmaIntrinsic, lhs: Array, rhs: Array, accumulator: Array) -> Array:
    """``lhs @ rhs + accumulator`` in the arithmetic of ``intrinsic``.

    Shapes [..., m, k], [..., k, n] and [..., m, n], leading dimensions broadcast. k is a multiple of the intrinsic's
    and the instructions along k form one chain, the result of one being the accumulator of the next; m and n are any,
    since elements do not depend on each other. Element types are those of the row (bf16, f8: from ``ml_dtypes``);
    an int8 array stands for ui8 too, as MLIR's i8 has no sign: its bits are read as unsigned.
    Returns a new array. Raises ``TypeError`` for other element types and ``ValueError`` for shapes that do not fit.
    """
    lhs, rhs = (_as_signed_by(operand, array) for operand, array in ((intrinsic.lhs, lhs), (intrinsic.rhs, rhs)))
    _check(intrinsic, lhs, rhs, accumulator)
    leading = np.broadcast_shapes(lhs.shape[:-2], rhs.shape[:-2], accumulator.shape[:-2])
    m, n = accumulator.shape[-2:]
    result = accumulator.copy()
    if leading != accumulator.shape[:-2]:
        result = np.array(np.broadcast_to(accumulator, (*leading, m, n)))
    lhs, rhs = (x.reshape((1,) * (result.ndim - x.ndim) + x.shape) for x in (lhs, rhs))
    dims = tuple(range(len(leading)))
    columns = np.ascontiguousarray(lhs.transpose(-1, *dims, -2))[..., np.newaxis]  # [k, ..., m, 1]
    rows = np.ascontiguousarray(rhs.transpose(-2, *dims, -1))[..., np.newaxis, :]  # [k, ..., 1, n]
    height = max(1, _BLOCK // max(1, result.size // max(1, m)))
    with np.errstate(all="ignore"):
        for start in range(0, m, height):
            block = slice(start, start + height)
            _accumulate(intrinsic.numerics, intrinsic, columns[..., block, :], rows, result[..., block, :])
    return result


def _as_signed_by(operand: Operand, array: Array) -> Array:
    """``array``, its bytes read with the sign that the row says."""
    return array.view(np.uint8) if operand.element == "ui8" and array.dtype == np.int8 else array


@cache
def _name(dtype: np.dtype[Any]) -> str:
    return dtype.name


def _check(intrinsic: MmaIntrinsic, lhs: Array, rhs: Array, accumulator: Array) -> None:
    operands = (
        ("lhs", intrinsic.lhs, lhs),
        ("rhs", intrinsic.rhs, rhs),
        ("accumulator", intrinsic.accumulator, accumulator),
    )
    for role, operand, array in operands:
        if (found := _name(array.dtype)) != _DTYPES[operand.element]:
            raise TypeError(
                f"{intrinsic.name}: {role} has elements of {found}, the row says {operand.element} "
                f"({_DTYPES[operand.element]})"
            )
        if array.ndim < 2:
            raise ValueError(f"{intrinsic.name}: {role} of shape {array.shape} is not a matrix")
    (m, k), (k_rhs, n) = lhs.shape[-2:], rhs.shape[-2:]
    if k != k_rhs or accumulator.shape[-2:] != (m, n):
        shapes = f"{lhs.shape} x {rhs.shape} + {accumulator.shape}"
        raise ValueError(f"{intrinsic.name}: shapes {shapes} do not fit [..., m, k] x [..., k, n] + [..., m, n]")
    if k % intrinsic.k:
        raise ValueError(f"{intrinsic.name}: a sum over {k} is not a multiple of the intrinsic's k, {intrinsic.k}")


# Each adds columns[i] * rows[i], i = 0 ... k-1, to accumulator in place; slices broadcast to its shape [..., m, n].


@singledispatch
def _accumulate(numerics: object, row: MmaIntrinsic, columns: Array, rows: Array, accumulator: Array) -> None:
    raise TypeError(f"{row.name}: nothing executes numerics of type {type(numerics).__name__}")


@_accumulate.register
def _(numerics: SequentialFma, row: MmaIntrinsic, columns: Array, rows: Array, accumulator: Array) -> None:
    if numerics.order:
        order = np.arange(len(columns)).reshape(-1, len(numerics.order))[:, list(numerics.order)].reshape(-1)
        columns, rows = columns[order], rows[order]
    if not numerics.flush_subnormals:
        fma_chain(columns.astype(np.float64), rows.astype(np.float64), accumulator)
        return
    for column, row_k in zip(columns.astype(np.float32), rows.astype(np.float32), strict=True):
        accumulator[...] = fma_flushing(column, row_k, accumulator)


@_accumulate.register
def _(numerics: EvenOddChains, row: MmaIntrinsic, columns: Array, rows: Array, accumulator: Array) -> None:
    columns, rows = columns.astype(np.float32), rows.astype(np.float32)
    for start in range(0, len(columns), row.k):
        chains = [np.zeros_like(accumulator), np.zeros_like(accumulator)]
        for k in range(start, start + row.k):
            chains[k % 2] = fma_flushing(columns[k], rows[k], chains[k % 2])
        accumulator[...] = flush(flush(accumulator) + flush(chains[0] + chains[1]))


@_accumulate.register
def _(numerics: MultiplyThenAdd, row: MmaIntrinsic, columns: Array, rows: Array, accumulator: Array) -> None:
    product = np.empty_like(accumulator)
    for column, row_k in zip(columns, rows, strict=True):
        np.multiply(column, row_k, out=product)
        accumulator += product


@_accumulate.register
def _(numerics: IntegerDot, row: MmaIntrinsic, columns: Array, rows: Array, accumulator: Array) -> None:
    step = row.k if numerics.saturate else len(columns)  # sums that wrap may be added in any grouping
    total = accumulator.astype(np.int64)
    for start in range(0, len(columns), max(1, step)):
        for column, row_k in zip(columns[start : start + step], rows[start : start + step], strict=True):
            total += np.multiply(column, row_k, dtype=np.int64)
        if numerics.saturate:
            np.clip(total, -(1 << 31), (1 << 31) - 1, out=total)
    accumulator[...] = total.astype(np.int32)


@_accumulate.register
def _(numerics: TruncatedSum, row: MmaIntrinsic, columns: Array, rows: Array, accumulator: Array) -> None:
    columns_value, columns_exponent = _decompose(columns, row.lhs.element)
    rows_value, rows_exponent = _decompose(rows, row.rhs.element)
    for start in range(0, len(columns), numerics.fused_length):
        group = slice(start, start + numerics.fused_length)
        exponents = zip(columns_exponent[group], rows_exponent[group], strict=True)
        terms = list(zip(columns_value[group], rows_value[group], strict=True))
        addend, largest = _decompose(accumulator, row.accumulator.element)
        largest = np.maximum(largest, -126)  # what a zero accumulator counts as
        for column, row_k in exponents:
            np.maximum(largest, column + row_k, out=largest)
        unit = numerics.fraction_bits - largest
        scale = np.ldexp(1.0, unit)
        total = np.trunc(addend * scale)
        plain = addend.copy()
        for column, row_k in terms:
            product = column * row_k
            plain += product
            product *= scale
            total += np.trunc(product, out=product)
        total = np.ldexp(total + 0.0, -unit)  # a fixed-point sum has no negative zero
        rounded = _round(total, numerics).astype(accumulator.dtype)
        special = ~np.isfinite(plain)
        if special.any():
            rounded[special] = plain[special].astype(accumulator.dtype)
            bits = rounded.view(np.uint32 if accumulator.itemsize == 4 else np.uint16)
            bits[np.isnan(plain)] = 0x7FFFFFFF if accumulator.itemsize == 4 else 0x7FFF
        accumulator[...] = rounded


_MIN_EXPONENT = {"f32": -126, "tf32": -126, "bf16": -126, "f16": -14, "f8E4M3FN": -6, "f8E5M2": -14}
_ZERO_EXPONENT = -(1 << 16)


def _decompose(values: Array, element: str) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Values in float64 and their exponents: subnormal numbers keep the smallest, zeros have one below all others."""
    if element == "tf32":
        values = (values.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
    wide = values.astype(np.float64)
    exponent = np.frexp(wide)[1] - 1
    np.maximum(exponent, _MIN_EXPONENT[element], out=exponent)
    exponent[wide == 0] = _ZERO_EXPONENT
    return wide, exponent


def _round(values: NDArray[np.float64], numerics: TruncatedSum) -> NDArray[np.float64]:
    """Rounds float64 to the result's significand; float16 is rounded by the caller's cast, which is to nearest even."""
    if numerics.rounding is Rounding.NEAREST_EVEN:
        return values
    unit = np.maximum(np.frexp(values)[1] - 1, -126) - numerics.result_fraction_bits
    return np.ldexp(np.trunc(np.ldexp(values, -unit)), unit)
