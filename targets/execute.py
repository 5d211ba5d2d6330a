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
from crosstile.targets.numerics import EvenOddChains, IntegerDot, MultiplyThenAdd, SequentialFma, TruncatedSum
from crosstile.targets.truncated_sum import round_to_tf32, truncated_sum

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
    an int8 array stands for ui8 too, as MLIR's i8 has no sign: its bits are read as unsigned. Factors that the row
    says are rounded are.
    Returns a new array. Raises ``TypeError`` for other element types and ``ValueError`` for shapes that do not fit.
    """
    lhs, rhs = (_as_read_by(operand, array) for operand, array in ((intrinsic.lhs, lhs), (intrinsic.rhs, rhs)))
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


def _as_read_by(operand: Operand, array: Array) -> Array:
    """``array``, its bytes read with the sign that the row says, its numbers rounded if it says so."""
    if operand.rounded and array.dtype == np.float32:
        return round_to_tf32(array)
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
    lhs, rhs = np.moveaxis(columns[..., 0], 0, -1), np.moveaxis(rows[..., 0, :], 0, -2)
    elements = (row.lhs.element, row.rhs.element, row.accumulator.element)
    accumulator[...] = truncated_sum(lhs, rhs, accumulator, numerics, elements=elements)
