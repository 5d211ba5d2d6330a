"""What the values of upstream dialects become in the ``llvm`` dialect, and constants of the new types.

``index`` becomes ``i64``, an 8-bit float the ``i8`` of its bits and bf16 the ``i16``: without instructions for bf16,
LLVM keeps one in a register as an f32 and rounds it again, with a function of a library that is not there. Integers,
other floats and rank-1 vectors stay. A memref becomes several values: the pointer to its first element (a type's offset
is already in it), one ``i64`` per dynamic size and stride. A tile of x86 becomes ``!llvm.x86_amx``, whatever
its shape::

    memref<?x64xf32>                        -> !llvm.ptr, i64
    memref<?x?xf32, strided<[?, 1]>>        -> !llvm.ptr, i64, i64, i64
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    AffineMapAttr,
    BFloat16Type,
    Float8E4M3FNType,
    Float8E5M2Type,
    Float16Type,
    Float32Type,
    Float64Type,
    IndexType,
    IntegerAttr,
    IntegerType,
    MemRefType,
    NoneAttr,
    StridedLayoutAttr,
    VectorType,
    i8,
    i16,
    i64,
)
from xdsl.dialects.llvm import ConstantOp, LLVMArrayType, LLVMPointerType, LLVMStructType
from xdsl.ir import Attribute, SSAValue
from xdsl.ir.affine import AffineMap
from xdsl.utils.hints import isa

from crosstile.dialects.amx import TileType
from crosstile.dialects.arith import with_element_type
from crosstile.dialects.llvm import X86AmxType
from crosstile.dialects.packing import packed_layout
from crosstile.ir.diagnostics import CrosstileError
from crosstile.lowering.driver import Lowering

FLOAT8 = Float8E4M3FNType | Float8E5M2Type
"""Floats of 8 bits, which are bits to LLVM."""
_KEPT: tuple[type[Attribute], ...] = (
    IntegerType,
    Float16Type,
    Float32Type,
    Float64Type,
    LLVMPointerType,
    LLVMStructType,
    LLVMArrayType,
    X86AmxType,
)


def scalar_or_vector(type_: Attribute) -> Attribute:
    """The ``llvm`` type of a scalar or rank-1 vector type; a CrosstileError for any other type."""
    if isinstance(type_, _KEPT):
        return type_
    if isinstance(type_, IndexType):
        return i64
    if isinstance(type_, BFloat16Type):
        return i16
    if isinstance(type_, FLOAT8):
        return i8
    if isa(type_, VectorType) and type_.get_num_dims() == 1 and not type_.get_num_scalable_dims():
        element = scalar_or_vector(type_.element_type)
        return type_ if element == type_.element_type else with_element_type(type_, element)
    if isa(type_, VectorType):
        raise CrosstileError(f"a vector of type {type_} has no LLVM type; vectors must have rank 1 and a fixed length")
    raise CrosstileError(
        f"a value of type {type_} has no LLVM type here; legal are index, integers, bf16, f16, f32, f64, rank-1 "
        "vectors of these, memrefs and llvm types"
    )


def memref_strides(type_: MemRefType) -> list[int | None] | None:
    """Strides in elements, None for one known only at run time; None alone for the identity layout and packed elements.

    Raises a CrosstileError for a layout that is none of these.
    """
    layout = type_.layout
    if packed_layout(type_) is not None:
        return None
    if isinstance(layout, NoneAttr) or layout == AffineMapAttr(AffineMap.identity(type_.get_num_dims())):
        return None
    if isinstance(layout, StridedLayoutAttr):
        return list(layout.get_strides())
    raise CrosstileError(f"the layout of {type_} is neither the identity nor strided<[...]>")


def convert_type(type_: Attribute) -> Sequence[Attribute]:
    """The ``llvm`` types that stand for ``type_``; a CrosstileError if there are none."""
    if isinstance(type_, TileType):
        return (X86AmxType(),)
    if not isa(type_, MemRefType):
        return (scalar_or_vector(type_),)
    dynamic = sum(size == DYNAMIC_INDEX for size in type_.get_shape())
    dynamic += sum(stride is None for stride in memref_strides(type_) or ())
    return (LLVMPointerType(), *[i64] * dynamic)


def element_bytes(type_: Attribute) -> int:
    """The bytes one element of a vector or memref occupies in memory: its width rounded up to whole bytes."""
    if isinstance(type_, IndexType):
        return 8
    if isinstance(type_, IntegerType | BFloat16Type | Float16Type | Float32Type | Float64Type | FLOAT8):
        return (type_.bitwidth + 7) // 8
    raise CrosstileError(f"values of type {type_} have no size in memory")


def constant(lowering: Lowering, value: int, type_: IntegerType = i64) -> SSAValue:
    """An integer constant of a scalar type, one per block."""

    def make() -> SSAValue:
        return lowering.insert(ConstantOp(IntegerAttr(value, type_), type_)).result

    return lowering.once((value, type_), make)


def literal(lowering: Lowering, value: Attribute, type_: Attribute) -> SSAValue:
    """The constant ``value`` of type ``type_``, one per block."""
    return lowering.once((value, type_), lambda: lowering.insert(ConstantOp(value, type_)).result)
