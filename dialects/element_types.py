"""Element types as NumPy types, and poison: the value of memory that nothing has written yet.

``f32`` is ``float32``, ``bf16`` and the 8-bit floats are those of ml_dtypes, ``i1`` is ``bool``, ``index`` ``int64``.

Poison is a quiet NaN with a payload that no arithmetic of ours produces and that x86 and NumPy carry along, so reading
an element that was never written is told apart from reading a computed NaN. Types without payload bits (8-bit floats,
integers) have no poison: their fresh memory holds NaN, or the most negative integer.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import builtin
from xdsl.ir import Attribute
from xdsl.utils.hints import isa

from crosstile.ir.diagnostics import CrosstileError

Array = NDArray[Any]

_FLOATS: dict[type[Attribute], Any] = {
    builtin.Float64Type: np.float64,
    builtin.Float32Type: np.float32,
    builtin.Float16Type: np.float16,
    builtin.BFloat16Type: ml_dtypes.bfloat16,
    builtin.Float8E4M3FNType: ml_dtypes.float8_e4m3fn,
    builtin.Float8E5M2Type: ml_dtypes.float8_e5m2,
    builtin.Float8E4M3FNUZType: ml_dtypes.float8_e4m3fnuz,
    builtin.Float8E5M2FNUZType: ml_dtypes.float8_e5m2fnuz,
}
_INTEGERS: dict[int, Any] = {1: np.bool_, 8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}

_POISON_BITS: dict[Any, Any] = {
    np.dtype(np.float64): np.uint64(0x7FF8_DEAD_DEAD_DEAD),
    np.dtype(np.float32): np.uint32(0x7FC0_DEAD),
    np.dtype(np.float16): np.uint16(0x7EAD),
    np.dtype(ml_dtypes.bfloat16): np.uint16(0x7FED),
}


@cache
def dtype_of(type_: Attribute) -> np.dtype[Any]:
    """The NumPy type of a scalar type; a CrosstileError for a type that no level computes with."""
    if isinstance(type_, builtin.IndexType):
        return np.dtype(np.int64)
    scalar: Any = None
    if isa(type_, builtin.IntegerType):
        scalar = _INTEGERS.get(type_.bitwidth)
    elif type(type_) in _FLOATS:
        scalar = _FLOATS[type(type_)]
    if scalar is not None:
        return np.dtype(scalar)
    raise CrosstileError(
        f"element type {type_} cannot be computed with; legal are f64, f32, f16, bf16, f8E4M3FN, f8E5M2, "
        "f8E4M3FNUZ, f8E5M2FNUZ, i1, i8, i16, i32, i64 and index"
    )


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether values of ``dtype`` are floating-point numbers, ml_dtypes' included (NumPy calls those void)."""
    return dtype.kind not in "biu"


def poison_of(dtype: np.dtype[Any]) -> Any:
    """The scalar that fresh memory of ``dtype`` holds."""
    if (bits := _POISON_BITS.get(dtype)) is not None:
        return np.array(bits).view(dtype)[()]
    if is_float(dtype):
        return dtype.type(float("nan"))
    return dtype.type(0) if dtype.kind == "b" else np.iinfo(dtype).min


def poisoned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A fresh array that nothing has written yet."""
    array = np.empty(shape, dtype)
    poison(array)
    return array


def poison(array: Array) -> None:
    """Make every element of ``array`` one that was never written."""
    if (bits := _POISON_BITS.get(array.dtype)) is not None:
        array.view(bits.dtype)[...] = bits
    else:
        array[...] = poison_of(array.dtype)


def is_poison(array: Array) -> Array:
    """Which elements of ``array`` were never written; none where the element type has no poison."""
    bits = _POISON_BITS.get(array.dtype)
    if bits is None:
        return np.zeros(array.shape, np.bool_)
    return array.view(bits.dtype) == bits
