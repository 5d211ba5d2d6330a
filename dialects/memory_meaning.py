"""The meaning of ``memref`` and ``tensor``: arrays written in place, and arrays that never change.

A memref is a NumPy array, possibly a view of a larger one, so ``memref.subview`` and ``memref.view`` alias as they do
in the compiled program. Accesses are checked against the shape; fresh memory is poison (see element_types).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from xdsl.dialects import memref, tensor
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    DenseArrayBase,
    DenseIntOrFPElementsAttr,
    MemRefType,
    ShapedType,
    TensorType,
)
from xdsl.ir import Attribute, Operation

from crosstile.dialects.arith_meaning import dense_array
from crosstile.dialects.element_types import Array, dtype_of, is_poison, poisoned
from crosstile.dialects.interpreter import Interpreter, Meanings
from crosstile.dialects.memref import PrefetchOp
from crosstile.dialects.packing import packed_layout
from crosstile.ir.diagnostics import op_error

MEANINGS = Meanings()

Collapse = memref.CollapseShapeOp | tensor.CollapseShapeOp
Expand = memref.ExpandShapeOp | tensor.ExpandShapeOp


class Globals(dict[str, Array]):
    """The memory of ``memref.global`` by name, shared by all its users in one interpreter."""


def filled_shape(type_: Attribute, sizes: Sequence[int]) -> tuple[int, ...]:
    """The shape of ``type_`` with its dynamic dimensions taken from ``sizes`` in order."""
    assert isinstance(type_, ShapedType)
    remaining = iter(sizes)
    return tuple(next(remaining) if size == DYNAMIC_INDEX else size for size in type_.get_shape())


def element_dtype(type_: Attribute) -> np.dtype[Any]:
    """The NumPy type of the elements of a memref or tensor type."""
    return dtype_of(cast("MemRefType[Any] | TensorType[Any]", type_).get_element_type())


def _mixed(static: DenseArrayBase[Any], dynamic: Sequence[int]) -> list[int]:
    remaining = iter(dynamic)
    return [next(remaining) if size == DYNAMIC_INDEX else size for size in cast(Sequence[int], static.get_values())]


def check_indices(op: Operation, shape: Sequence[int], indices: Sequence[int]) -> tuple[int, ...]:
    """``indices`` as a tuple; a CrosstileError if one is outside ``shape``."""
    for dim, (size, index) in enumerate(zip(shape, indices, strict=True)):
        if not 0 <= index < size:
            raise op_error(op, f"'{op.name}' index {index} of dimension {dim} is out of bounds, its size is {size}")
    return tuple(indices)


def _slices(op: Operation, source: Array, offsets: Sequence[int], sizes: Sequence[int], strides: Sequence[int]):
    slices: list[slice] = []
    for dim, (bound, offset, size, stride) in enumerate(zip(source.shape, offsets, sizes, strides, strict=True)):
        last = offset + (size - 1) * stride
        if size < 0 or offset < 0 or (size > 0 and not (0 <= last < bound)) or (size == 0 and offset > bound):
            raise op_error(
                op, f"'{op.name}' takes elements {offset} to {last} of dimension {dim}, whose size is {bound}"
            )
        slices.append(slice(offset, offset + size * stride, stride))
    return tuple(slices)


def _reshaped_view(op: Operation, source: Array, shape: tuple[int, ...]) -> Array:
    view = source.reshape(shape)
    if view.size and not np.may_share_memory(view, source):
        raise op_error(op, f"'{op.name}' of a memref with these strides would need a copy")
    return view


# memref


@MEANINGS.of(memref.AllocOp, memref.AllocaOp)
def allocate(interpreter: Interpreter, op: memref.AllocOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Fresh, poisoned memory."""
    sizes = operands[: len(op.dynamic_sizes)]
    return (poisoned(filled_shape(op.memref.type, sizes), element_dtype(op.memref.type)),)


@MEANINGS.of(PrefetchOp)
def prefetch(interpreter: Interpreter, op: PrefetchOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Nothing that can be seen, wherever it points."""
    return ()


@MEANINGS.of(memref.ExtractAlignedPointerAsIndexOp)
def address(
    interpreter: Interpreter, op: memref.ExtractAlignedPointerAsIndexOp, operands: Sequence[Any]
) -> Sequence[Any]:
    """Where the array begins."""
    return (operands[0].ctypes.data,)


@MEANINGS.of(memref.DeallocOp, memref.AssumeAlignmentOp)
def nothing(interpreter: Interpreter, op: Operation, operands: Sequence[Any]) -> Sequence[Any]:
    """Nothing that can be seen; a result is the operand."""
    return operands[: len(op.results)]


@MEANINGS.of(memref.GetGlobalOp)
def get_global(interpreter: Interpreter, op: memref.GetGlobalOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The one array of the global; a constant one cannot be written."""
    name = op.name_.string_value()
    memory = interpreter.state(Globals)
    if name not in memory:
        definition = interpreter.lookup(name)
        if not isinstance(definition, memref.GlobalOp):
            raise op_error(op, f"'{name}' is a '{definition.name}', not a 'memref.global'")
        value = definition.initial_value
        type_ = definition.type
        if isinstance(value, DenseIntOrFPElementsAttr):
            memory[name] = dense_array(value)
        else:
            memory[name] = poisoned(type_.get_shape(), element_dtype(type_))
        memory[name].flags.writeable = definition.constant is None
    return (memory[name],)


@MEANINGS.of(memref.LoadOp)
def load(interpreter: Interpreter, op: memref.LoadOp, operands: Sequence[Any]) -> Sequence[Any]:
    """One element; reading what was never written is an error."""
    source, *indices = operands
    value = source[check_indices(op, source.shape, indices)]
    if bool(is_poison(np.asarray(value))):
        raise op_error(op, f"'memref.load' reads element {indices}, which was never written")
    return (value,)


@MEANINGS.of(memref.StoreOp)
def store(interpreter: Interpreter, op: memref.StoreOp, operands: Sequence[Any]) -> Sequence[Any]:
    """One element."""
    value, target, *indices = operands
    target[check_indices(op, target.shape, indices)] = value
    return ()


@MEANINGS.of(memref.CopyOp)
def copy(interpreter: Interpreter, op: memref.CopyOp, operands: Sequence[Any]) -> Sequence[Any]:
    """All elements; the shapes must agree."""
    source, target = operands
    if source.shape != target.shape:
        raise op_error(op, f"'memref.copy' from shape {source.shape} to {target.shape}")
    target[...] = source
    return ()


@MEANINGS.of(memref.DimOp, tensor.DimOp)
def dim(interpreter: Interpreter, op: memref.DimOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The size of one dimension."""
    source, index = operands
    if not 0 <= index < source.ndim:
        raise op_error(op, f"'{op.name}' asks for dimension {index} of a value of rank {source.ndim}")
    return (int(source.shape[index]),)


@MEANINGS.of(memref.RankOp)
def rank(interpreter: Interpreter, op: memref.RankOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The number of dimensions."""
    return (operands[0].ndim,)


@MEANINGS.of(memref.CastOp, memref.MemorySpaceCastOp, tensor.CastOp)
def cast_shape(interpreter: Interpreter, op: memref.CastOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The same array; static sizes of the result type are checked."""
    expected = cast(ShapedType, op.results[0].type).get_shape()
    for dim, (want, got) in enumerate(zip(expected, operands[0].shape, strict=True)):
        if want not in (DYNAMIC_INDEX, got):
            raise op_error(op, f"'{op.name}' states size {want} for dimension {dim}, found {got}")
    return operands


@MEANINGS.of(memref.SubviewOp)
def subview(interpreter: Interpreter, op: memref.SubviewOp, operands: Sequence[Any]) -> Sequence[Any]:
    """A view of a strided box; size-1 dimensions missing from the result type are dropped."""
    return (_box(op, operands[0], interpreter),)


def _box(op: memref.SubviewOp | tensor.ExtractSliceOp, source: Array, interpreter: Interpreter) -> Array:
    offsets, sizes, strides = _boxed(op, interpreter)
    view = source[_slices(op, source, offsets, sizes, strides)]
    result = cast(ShapedType, op.result.type).get_shape()
    surplus = view.ndim - len(result)
    if not surplus:
        return view
    kept = list(result)
    dropped: list[int] = []
    for dim, size in enumerate(sizes):
        if len(dropped) < surplus and size == 1 and (not kept or kept[0] != 1 or view.ndim - dim <= surplus):
            dropped.append(dim)
        elif kept:
            kept.pop(0)
    return view.squeeze(tuple(dropped))


def _boxed(
    op: memref.SubviewOp | tensor.ExtractSliceOp | tensor.InsertSliceOp, interpreter: Interpreter
) -> tuple[list[int], list[int], list[int]]:
    return (
        _mixed(op.static_offsets, [interpreter[value] for value in op.offsets]),
        _mixed(op.static_sizes, [interpreter[value] for value in op.sizes]),
        _mixed(op.static_strides, [interpreter[value] for value in op.strides]),
    )


@MEANINGS.of(memref.ViewOp)
def view(interpreter: Interpreter, op: memref.ViewOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Bytes of an arena as an array of another type."""
    arena, shift, *sizes = operands
    shape = filled_shape(op.result.type, sizes)
    dtype = element_dtype(op.result.type)
    length = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if shift < 0 or shift + length > arena.size:
        raise op_error(op, f"'memref.view' of bytes {shift} to {shift + length}, the source has {arena.size}")
    return (arena[shift : shift + length].view(dtype).reshape(shape),)


@MEANINGS.of(memref.ReinterpretCastOp)
def reinterpret(interpreter: Interpreter, op: memref.ReinterpretCastOp, operands: Sequence[Any]) -> Sequence[Any]:
    """New offset, sizes and strides in elements over the memory of the source, which must be contiguous.

    That of a packed source is a copy of its elements as they lie: nothing writes to what is packed.
    """
    source = operands[0]
    if (layout := packed_layout(op.source.type)) is not None:
        source = layout.pack(source)
        source.flags.writeable = False
    flat = _reshaped_view(op, source, (source.size,))
    offset = _mixed(op.static_offsets, [interpreter[value] for value in op.offsets])[0]
    sizes = _mixed(op.static_sizes, [interpreter[value] for value in op.sizes])
    strides = _mixed(op.static_strides, [interpreter[value] for value in op.strides])
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if 0 not in sizes and not (offset >= 0 and last < flat.size):
        raise op_error(op, f"'{op.name}' reaches elements {offset} to {last}, the source has {flat.size}")
    byte_strides = [stride * flat.itemsize for stride in strides]
    return (np.lib.stride_tricks.as_strided(flat[offset:], sizes, byte_strides),)


@MEANINGS.of(memref.CollapseShapeOp, tensor.CollapseShapeOp)
def collapse(interpreter: Interpreter, op: Collapse, operands: Sequence[Any]) -> Sequence[Any]:
    """Neighbouring dimensions merged."""
    source = operands[0]
    groups = [[index.value.data for index in group.data] for group in op.reassociation.data]
    shape = tuple(int(np.prod([source.shape[dim] for dim in group], dtype=np.int64)) for group in groups)
    return (_reshaped_view(op, source, shape) if isinstance(op, memref.CollapseShapeOp) else source.reshape(shape),)


@MEANINGS.of(memref.ExpandShapeOp, tensor.ExpandShapeOp)
def expand(interpreter: Interpreter, op: Expand, operands: Sequence[Any]) -> Sequence[Any]:
    """A dimension split in several."""
    source, *dynamic = operands
    shape = tuple(_mixed(op.static_output_shape, dynamic))
    if int(np.prod(shape, dtype=np.int64)) != source.size:
        raise op_error(op, f"'{op.name}' of {source.size} elements to shape {shape}")
    return (_reshaped_view(op, source, shape) if isinstance(op, memref.ExpandShapeOp) else source.reshape(shape),)


# tensor


@MEANINGS.of(tensor.EmptyOp)
def empty(interpreter: Interpreter, op: tensor.EmptyOp, operands: Sequence[Any]) -> Sequence[Any]:
    """A tensor of poison."""
    type_ = op.results[0].type
    return (poisoned(filled_shape(type_, operands), element_dtype(type_)),)


@MEANINGS.of(tensor.SplatOp)
def splat(interpreter: Interpreter, op: tensor.SplatOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The scalar in every element."""
    value, *sizes = operands
    return (np.full(filled_shape(op.result.type, sizes), value, np.asarray(value).dtype),)


@MEANINGS.of(tensor.FromElementsOp)
def from_elements(interpreter: Interpreter, op: tensor.FromElementsOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The scalars in row-major order."""
    type_ = op.result.type
    return (np.array(operands, element_dtype(type_)).reshape(cast(ShapedType, type_).get_shape()),)


@MEANINGS.of(tensor.ExtractOp)
def extract(interpreter: Interpreter, op: tensor.ExtractOp, operands: Sequence[Any]) -> Sequence[Any]:
    """One element."""
    source, *indices = operands
    value = source[check_indices(op, source.shape, indices)]
    return (int(value) if source.dtype == np.int64 else value,)


@MEANINGS.of(tensor.InsertOp)
def insert(interpreter: Interpreter, op: tensor.InsertOp, operands: Sequence[Any]) -> Sequence[Any]:
    """A copy with one element replaced."""
    value, source, *indices = operands
    result = source.copy()
    result[check_indices(op, source.shape, indices)] = value
    return (result,)


@MEANINGS.of(tensor.ExtractSliceOp)
def extract_slice(interpreter: Interpreter, op: tensor.ExtractSliceOp, operands: Sequence[Any]) -> Sequence[Any]:
    """A strided box."""
    return (_box(op, operands[0], interpreter).copy(),)


@MEANINGS.of(tensor.InsertSliceOp)
def insert_slice(interpreter: Interpreter, op: tensor.InsertSliceOp, operands: Sequence[Any]) -> Sequence[Any]:
    """A copy with a strided box replaced."""
    value, target = operands[:2]
    offsets, sizes, strides = _boxed(op, interpreter)
    result = target.copy()
    result[_slices(op, target, offsets, sizes, strides)] = value.reshape(sizes)
    return (result,)


@MEANINGS.of(tensor.ConcatOp)
def concat(interpreter: Interpreter, op: tensor.ConcatOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The tensors one after the other along one dimension."""
    return (np.concatenate(list(operands), axis=op.dim.value.data),)


@MEANINGS.of(tensor.ReshapeOp)
def reshape(interpreter: Interpreter, op: tensor.ReshapeOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The elements in row-major order in the shape that the second operand holds."""
    source, shape = operands
    return (source.reshape([int(size) for size in shape]),)


@MEANINGS.of(tensor.PadOp)
def pad(interpreter: Interpreter, op: tensor.PadOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The source in a frame whose elements the region computes from their indices."""
    source = operands[0]
    low = _mixed(op.static_low, [interpreter[value] for value in op.low])
    high = _mixed(op.static_high, [interpreter[value] for value in op.high])
    shape = tuple(before + size + after for before, size, after in zip(low, source.shape, high, strict=True))
    coordinates = list(np.indices(shape))
    (value,) = interpreter.run_block(op.region.block, coordinates)
    result = np.array(np.broadcast_to(value, shape), source.dtype)
    result[tuple(slice(before, before + size) for before, size in zip(low, source.shape, strict=True))] = source
    return (result,)
