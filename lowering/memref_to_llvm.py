"""Rules for ``memref``: addresses, loads, stores, views of memory, constants, small arrays on the stack.

A memref is row-major or strided; it becomes the pointer to its first element and its dynamic sizes and strides (see
``llvm_types``). No rule allocates from a heap: buffers come from the arena that ``plan-buffers`` cuts up. ::

    %x = memref.load %m[%i, %j] : memref<?x64xf32>
    ==> %0 = llvm.mul %i, %c64 : i64
        %1 = llvm.add %0, %j : i64
        %2 = llvm.getelementptr %m[%1] : (!llvm.ptr, i64) -> !llvm.ptr, f32
        %x = llvm.load %2 : !llvm.ptr -> f32
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from xdsl.dialects import llvm as xllvm
from xdsl.dialects import memref
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    ArrayAttr,
    BytesAttr,
    DenseArrayBase,
    DenseIntOrFPElementsAttr,
    IntegerAttr,
    IntegerType,
    MemRefType,
    SymbolRefAttr,
    TensorType,
    UnitAttr,
    i1,
    i8,
    i32,
    i64,
)
from xdsl.dialects.utils import get_dynamic_index_list
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.utils.hints import isa

from crosstile.dialects import llvm
from crosstile.dialects.arith_meaning import dense_array
from crosstile.dialects.memref import PrefetchOp
from crosstile.dialects.packing import packed_layout
from crosstile.lowering.arith_to_llvm import convert_elements
from crosstile.lowering.driver import Lowering, Rule
from crosstile.lowering.llvm_types import constant, element_bytes, memref_strides
from crosstile.lowering.memref_descriptor import (
    MemRef,
    Size,
    advance,
    as_size,
    as_value,
    element_in_memory,
    map_memref,
    multiply,
)

STACK_ALIGNMENT = 64
"""Bytes: a cache line and the widest vector."""


def load_element(lowering: Lowering, address: SSAValue, type_: Attribute) -> SSAValue:
    """The value of ``type_``, a type on the level above, at ``address``; a bool is a byte that is not zero."""
    memory_type = element_in_memory(type_)
    value = lowering.insert(xllvm.LoadOp(address, memory_type, alignment=element_bytes(type_))).dereferenced_value
    if type_ != i1:
        return value
    zero = constant(lowering, 0, i8)
    return lowering.insert(xllvm.ICmpOp(value, zero, IntegerAttr(1, i64))).res


def lower_load(op: memref.LoadOp, lowering: Lowering) -> None:
    """``memref.load``: the address and a load aligned to the element."""
    source = MemRef.of(lowering, op.memref)
    address = source.address(lowering, lowering.flatten(op.indices))
    lowering.replace(op, load_element(lowering, address, op.res.type))


def lower_store(op: memref.StoreOp, lowering: Lowering) -> None:
    """``memref.store``: the address and a store aligned to the element."""
    target = MemRef.of(lowering, op.memref)
    address = target.address(lowering, lowering.flatten(op.indices))
    value = lowering.value(op.value)
    if value.type == i1:
        value = lowering.insert(xllvm.ZExtOp(value, i8)).res
    lowering.insert(xllvm.StoreOp(value, address, alignment=element_bytes(op.value.type)))


def lower_prefetch(op: PrefetchOp, lowering: Lowering) -> None:
    """``memref.prefetch``: the address and LLVM's intrinsic."""
    address = MemRef.of(lowering, op.memref).address(lowering, lowering.flatten(op.indices))
    hints = [op.isWrite.value.data != 0, op.localityHint.value.data, op.isDataCache.value.data != 0]
    arguments = [address, *(constant(lowering, int(hint), i32) for hint in hints)]
    lowering.insert(xllvm.CallIntrinsicOp("llvm.prefetch.p0", arguments, []))


def lower_dim(op: memref.DimOp, lowering: Lowering) -> None:
    """``memref.dim`` of a constant dimension: a size that is at hand."""
    dimension = as_size(lowering.value(op.index))
    source = MemRef.of(lowering, op.source)
    if not isinstance(dimension, int):
        raise lowering.error("the dimension must be an arith.constant")
    if not 0 <= dimension < len(source.sizes):
        raise lowering.error(f"dimension {dimension} is outside of {source.type}")
    lowering.replace(op, as_value(lowering, source.sizes[dimension]))


def lower_rank(op: memref.RankOp, lowering: Lowering) -> None:
    """``memref.rank``: a constant."""
    lowering.replace(op, constant(lowering, len(MemRef.of(lowering, op.source).sizes)))


def mixed(lowering: Lowering, static: DenseArrayBase[IntegerType], dynamic: Sequence[SSAValue]) -> list[Size]:
    """The list of sizes that a static array and its dynamic operands describe."""
    values = [lowering.value(value) for value in dynamic]
    sizes: list[Size] = []
    for item in get_dynamic_index_list(static.get_values(), values, DYNAMIC_INDEX):
        sizes.append(item if isinstance(item, int) else as_size(item))
    return sizes


def lower_subview(op: memref.SubviewOp, lowering: Lowering) -> None:
    """``memref.subview``: the pointer moves to the first element, strides multiply; dropped dimensions have size 1."""
    source = MemRef.of(lowering, op.source)
    offsets = mixed(lowering, op.static_offsets, op.offsets)
    sizes = mixed(lowering, op.static_sizes, op.sizes)
    steps = mixed(lowering, op.static_strides, op.strides)
    offset = source.offset(lowering, offsets)
    pointer = advance(lowering, source.pointer, offset, source.element)
    if not isinstance(offset, int):
        pointer = lowering.insert(llvm.FreezeOp(pointer)).res
    strides = [multiply(lowering, *pair) for pair in zip(source.strides(lowering), steps, strict=True)]
    kept = kept_dimensions(lowering, sizes, op.result.type)
    map_memref(lowering, op.result, pointer, [sizes[i] for i in kept], [strides[i] for i in kept])


def kept_dimensions(lowering: Lowering, sizes: Sequence[Size], type_: Attribute) -> list[int]:
    """Which of the ``sizes`` are dimensions of the rank-reduced ``type_``; the others must be the constant 1."""
    assert isa(type_, MemRefType)
    kept: list[int] = []
    shape = list(type_.get_shape())
    for index, size in enumerate(sizes):
        droppable = size == 1 and len(sizes) - index > len(shape) - len(kept)
        if droppable and (len(kept) == len(shape) or shape[len(kept)] != 1):
            continue
        kept.append(index)
    if len(kept) != len(shape):
        raise lowering.error(
            f"cannot tell which dimensions {type_} drops; only those of constant size 1 can be dropped"
        )
    return kept


def lower_cast(op: memref.CastOp | memref.MemorySpaceCastOp, lowering: Lowering) -> None:
    """A cast: sizes and strides move between the type and run time."""
    source = MemRef.of(lowering, op.source)
    if not isa(op.dest.type, MemRefType):
        raise lowering.error(f"a memref of known rank is needed, not {op.dest.type}")
    map_memref(lowering, op.dest, source.pointer, source.sizes, source.strides(lowering))


def lower_reinterpret_cast(op: memref.ReinterpretCastOp, lowering: Lowering) -> None:
    """``memref.reinterpret_cast``: new sizes and strides; the offset counts from the source's first element."""
    source = MemRef.of(lowering, op.source)
    if packed_layout(source.type) is None and source.type.get_offset() != 0:
        raise lowering.error(f"the source {source.type} must have offset 0; take a memref without an offset")
    (offset,) = mixed(lowering, op.static_offsets, op.offsets)
    sizes = mixed(lowering, op.static_sizes, op.sizes)
    strides = mixed(lowering, op.static_strides, op.strides)
    pointer = advance(lowering, source.pointer, offset, source.element)
    map_memref(lowering, op.result, pointer, sizes, strides)


def lower_view(op: memref.ViewOp, lowering: Lowering) -> None:
    """``memref.view``: a row-major memref in a byte buffer, at a byte offset that the caller keeps aligned."""
    source = MemRef.of(lowering, op.source)
    pointer = advance(lowering, source.pointer, as_size(lowering.value(op.byte_shift)), i8)
    lowering.map_value(op.result, pointer, *lowering.flatten(op.sizes))


def lower_collapse_shape(op: memref.CollapseShapeOp, lowering: Lowering) -> None:
    """``memref.collapse_shape`` of a row-major memref: sizes multiply."""
    source = MemRef.of(lowering, op.src)
    _require_row_major(lowering, source.type, op.result.type)
    sizes: list[Size] = []
    for group in groups(op):
        size: Size = 1
        for dimension in group:
            size = multiply(lowering, size, source.sizes[dimension])
        sizes.append(size)
    map_memref(lowering, op.result, source.pointer, sizes, [1] * len(sizes))


def lower_expand_shape(op: memref.ExpandShapeOp, lowering: Lowering) -> None:
    """``memref.expand_shape`` of a row-major memref: sizes as given."""
    source = MemRef.of(lowering, op.src)
    _require_row_major(lowering, source.type, op.result.type)
    sizes = mixed(lowering, op.static_output_shape, op.output_shape)
    map_memref(lowering, op.result, source.pointer, sizes, [1] * len(sizes))


def groups(op: memref.CollapseShapeOp) -> list[list[int]]:
    """Per dimension of the result the dimensions of the source it is made of."""
    result: list[list[int]] = []
    for group in op.reassociation:
        assert isa(group, ArrayAttr[IntegerAttr])
        result.append([index.value.data for index in group])
    return result


def _require_row_major(lowering: Lowering, *types: Attribute) -> None:
    for type_ in types:
        if isa(type_, MemRefType) and memref_strides(type_) is not None:
            raise lowering.error(f"only row-major memrefs can change their shape, not {type_}")


def lower_metadata(op: memref.ExtractStridedMetaDataOp, lowering: Lowering) -> None:
    """``memref.extract_strided_metadata``: the pointer is at the first element, so the offset is 0."""
    source = MemRef.of(lowering, op.source)
    lowering.map_value(op.base_buffer, source.pointer)
    lowering.map_value(op.offset, constant(lowering, 0))
    for old, size in zip(op.sizes, source.sizes, strict=True):
        lowering.map_value(old, as_value(lowering, size))
    for old, stride in zip(op.strides, source.strides(lowering), strict=True):
        lowering.map_value(old, as_value(lowering, stride))


def lower_pointer(op: memref.ExtractAlignedPointerAsIndexOp, lowering: Lowering) -> None:
    """``memref.extract_aligned_pointer_as_index``: the address as an integer."""
    pointer = MemRef.of(lowering, op.source).pointer
    lowering.replace(op, lowering.insert(xllvm.PtrToIntOp(pointer)).output)


def pass_on(op: memref.AssumeAlignmentOp, lowering: Lowering) -> None:
    """``memref.assume_alignment``: nothing; x86 loads of any alignment cost the same on aligned addresses."""
    lowering.map_value(op.result, *lowering.values(op.memref))


def lower_copy(op: memref.CopyOp, lowering: Lowering) -> None:
    """``memref.copy`` between row-major memrefs: one memcpy."""
    source, target = MemRef.of(lowering, op.source), MemRef.of(lowering, op.destination)
    _require_row_major(lowering, source.type, target.type)
    size = multiply(lowering, source.elements(lowering), element_bytes(source.type.element_type))
    arguments = [target.pointer, source.pointer, as_value(lowering, size), constant(lowering, 0, i1)]
    lowering.insert(xllvm.CallIntrinsicOp("llvm.memcpy.p0.p0.i64", arguments, []))


def lower_alloca(op: memref.AllocaOp, lowering: Lowering) -> None:
    """``memref.alloca`` of a constant shape outside of loops: an array on the stack."""
    type_ = op.memref.type
    if DYNAMIC_INDEX in type_.get_shape() or memref_strides(type_) is not None:
        raise lowering.error(f"only row-major memrefs of constant shape go on the stack, not {type_}")
    function = op.parent_op()
    if function is None or op.parent_block() is not function.regions[0].first_block:
        raise lowering.error("must stand in a function's first block, or every trip of a loop would take more stack")
    count = 1
    for size in type_.get_shape():
        count *= size
    alignment = op.alignment.value.data if op.alignment is not None else STACK_ALIGNMENT
    new_op = xllvm.AllocaOp(constant(lowering, count), element_in_memory(type_.element_type), alignment)
    lowering.replace(op, lowering.insert(new_op).res)


def lower_alloc(op: memref.AllocOp | memref.DeallocOp, lowering: Lowering) -> None:
    """There is no heap on this level."""
    raise lowering.error("there is no heap at this level; run plan-buffers, which places buffers in the arena")


def lower_global(op: memref.GlobalOp, lowering: Lowering) -> None:
    """``memref.global``: a global array with its initial values, those of a packed one in their order in memory."""
    type_ = op.type
    assert isa(type_, MemRefType)
    array_type: Attribute = element_in_memory(type_.element_type)
    value, layout = op.initial_value, packed_layout(type_)
    shape = type_.get_shape() if layout is None else layout.box(type_.get_shape())
    for size in reversed(shape):
        array_type = xllvm.LLVMArrayType(size, array_type)
    if layout is not None and isinstance(value, DenseIntOrFPElementsAttr):
        packed = layout.pack(dense_array(value))
        value = DenseIntOrFPElementsAttr(
            cast("TensorType[Any]", TensorType(type_.element_type, shape)), BytesAttr(packed.tobytes())
        )
    external = op.sym_visibility.data != "private"
    new_op = xllvm.GlobalOp(
        array_type,
        op.sym_name,
        "external" if external or isinstance(value, UnitAttr) else "internal",
        constant=op.constant is not None,
        value=None if isinstance(value, UnitAttr) else convert_elements(value),
        alignment=op.alignment.value.data if op.alignment is not None else STACK_ALIGNMENT,
    )
    lowering.insert(new_op)


def lower_get_global(op: memref.GetGlobalOp, lowering: Lowering) -> None:
    """``memref.get_global``: the array's address."""
    name = op.name_.root_reference
    new_op = xllvm.AddressOfOp(SymbolRefAttr(name), xllvm.LLVMPointerType())
    lowering.replace(op, lowering.insert(new_op).result)


RULES: Mapping[type[Operation], Rule] = {
    memref.LoadOp: lower_load,
    memref.StoreOp: lower_store,
    PrefetchOp: lower_prefetch,
    memref.DimOp: lower_dim,
    memref.RankOp: lower_rank,
    memref.SubviewOp: lower_subview,
    memref.CastOp: lower_cast,
    memref.MemorySpaceCastOp: lower_cast,
    memref.ReinterpretCastOp: lower_reinterpret_cast,
    memref.ViewOp: lower_view,
    memref.CollapseShapeOp: lower_collapse_shape,
    memref.ExpandShapeOp: lower_expand_shape,
    memref.ExtractStridedMetaDataOp: lower_metadata,
    memref.ExtractAlignedPointerAsIndexOp: lower_pointer,
    memref.AssumeAlignmentOp: pass_on,
    memref.CopyOp: lower_copy,
    memref.AllocaOp: lower_alloca,
    memref.AllocOp: lower_alloc,
    memref.DeallocOp: lower_alloc,
    memref.GlobalOp: lower_global,
    memref.GetGlobalOp: lower_get_global,
}
