"""The meaning of ``amx``: tiles are arrays of rows, products have the arithmetic of the instruction's row.

    amx.tile_mulf %a, %b, %c      execute(intrinsic("x86.amx.tdpbf16ps.16x16x32.f32.bf16"), ...)

The rows of the right factor are taken apart into the rows of k that its words hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from crosstile.dialects.amx import TileLoadOp, TileMulFOp, TileMulIOp, TileStoreOp, TileType, TileZeroOp
from crosstile.dialects.element_types import Array, dtype_of
from crosstile.dialects.interpreter import Interpreter, Meanings
from crosstile.ir.diagnostics import op_error
from crosstile.targets.execute import execute
from crosstile.targets.model import MmaIntrinsic, intrinsic

MEANINGS = Meanings()

BFLOAT_ROW = "x86.amx.tdpbf16ps.16x16x32.f32.bf16"
BYTE_ROWS = {
    (False, False): "x86.amx.tdpbssd.16x16x64.i32.si8",
    (False, True): "x86.amx.tdpbsud.16x16x64.i32.si8.ui8",
    (True, False): "x86.amx.tdpbusd.16x16x64.i32.ui8.si8",
    (True, True): "x86.amx.tdpbuud.16x16x64.i32.ui8",
}
"""The row by which of the factors are unsigned."""


def _rows(op: TileLoadOp | TileStoreOp, type_: TileType, base: Array, operands: Sequence[Any]) -> Array:
    """The rows of a tile as a view of memory; a CrosstileError if one lies outside of it."""
    count = len(op.indices)
    *outer, column = operands[:count]
    rows, columns = type_.get_shape()
    step = base.strides[-2] // base.itemsize if op.stride is None else operands[-1]
    first = sum(index * stride for index, stride in zip(outer, base.strides[:-1], strict=True)) + column * base.itemsize
    last = first + ((rows - 1) * step + columns - 1) * base.itemsize
    reach = sum((size - 1) * stride for size, stride in zip(base.shape, base.strides, strict=True))
    if first < 0 or step < 0 or last > reach or base.size == 0:
        raise op_error(
            op,
            f"'{op.name}' reads or writes {rows} rows of {columns} at {list(operands[:count])}, {step} apart, beyond "
            f"the {'x'.join(map(str, base.shape))} elements there are",
        )
    place = base[(*outer, slice(column, None))]
    return np.lib.stride_tricks.as_strided(place, (rows, columns), (step * base.itemsize, base.itemsize))


@MEANINGS.of(TileZeroOp)
def zero(interpreter: Interpreter, op: TileZeroOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Zeros."""
    type_ = op.res.type
    assert isinstance(type_, TileType)
    return (np.zeros(type_.get_shape(), dtype_of(type_.element_type)),)


@MEANINGS.of(TileLoadOp)
def load(interpreter: Interpreter, op: TileLoadOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Rows of memory."""
    type_ = op.res.type
    assert isinstance(type_, TileType)
    return (np.array(_rows(op, type_, operands[0], operands[1:])),)


@MEANINGS.of(TileStoreOp)
def store(interpreter: Interpreter, op: TileStoreOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Rows of memory."""
    count = len(op.indices)
    base, value, rest = operands[0], operands[1 + count], operands[2 + count :]
    type_ = op.val.type
    assert isinstance(type_, TileType)
    _rows(op, type_, base, [*operands[1 : 1 + count], *rest])[...] = value
    return ()


def _product(row: MmaIntrinsic, lhs: Array, rhs: Array, accumulator: Array) -> Array:
    """The product of two tiles, of which smaller ones are filled up with zeros."""
    group = 4 // rhs.itemsize
    words = rhs.reshape(rhs.shape[0], -1, group)
    by_k = words.transpose(0, 2, 1).reshape(rhs.shape[0] * group, -1)
    missing = row.k - len(by_k)
    return execute(row, np.pad(lhs, ((0, 0), (0, missing))), np.pad(by_k, ((0, missing), (0, 0))), accumulator)


@MEANINGS.of(TileMulFOp)
def multiply_floats(interpreter: Interpreter, op: TileMulFOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Two chains of fused multiply-adds per element, added once."""
    return (_product(intrinsic(BFLOAT_ROW), *operands),)


@MEANINGS.of(TileMulIOp)
def multiply_bytes(interpreter: Interpreter, op: TileMulIOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Exact products, sums that wrap."""
    unsigned = op.isZextLhs is not None, op.isZextRhs is not None
    return (_product(intrinsic(BYTE_ROWS[unsigned]), *operands),)
