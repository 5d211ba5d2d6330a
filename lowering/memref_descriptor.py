"""A memref on the ``llvm`` level: pointer, sizes and strides, each a constant or a value, and addresses made from them.

Address arithmetic is folded as it is made: constant indices and strides become one constant, a stride of one multiplies
nothing. What remains is written in the order of the dimensions, so that a loop's own index is added last and the rest
is left to the code generator's loop-invariant motion. ::

    memref<?x?xf32>[%i, %c3]  ==>  %0 = mul %i, %dim1 ; %1 = add %0, 3 ; %2 = getelementptr %p[%1] : f32
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from xdsl.dialects import llvm as xllvm
from xdsl.dialects.builtin import DYNAMIC_INDEX, DenseArrayBase, IntegerAttr, MemRefType, i1, i8, i32
from xdsl.ir import Attribute, SSAValue
from xdsl.utils.hints import isa

from crosstile.dialects.packing import packed_layout
from crosstile.lowering.driver import Lowering
from crosstile.lowering.llvm_types import constant, memref_strides, scalar_or_vector

Size = int | SSAValue

_POINTER = xllvm.LLVMPointerType()
_ONE_DYNAMIC_INDEX = DenseArrayBase.from_list(i32, [xllvm.GEP_USE_SSA_VAL])
_NO_FLAGS = IntegerAttr(0, 32)


def as_size(value: SSAValue) -> Size:
    """The integer that an ``llvm.mlir.constant`` defines, or the value itself."""
    owner = value.owner
    if isinstance(owner, xllvm.ConstantOp) and isa(owner.value, IntegerAttr):
        return owner.value.value.data
    return value


def as_value(lowering: Lowering, size: Size) -> SSAValue:
    """``size`` as a value of type i64."""
    return constant(lowering, size) if isinstance(size, int) else size


def add(lowering: Lowering, lhs: Size, rhs: Size) -> Size:
    """``lhs + rhs``, folded where it can be."""
    if isinstance(lhs, int) and isinstance(rhs, int):
        return lhs + rhs
    if lhs == 0:
        return rhs
    if rhs == 0:
        return lhs
    return lowering.insert(xllvm.AddOp(as_value(lowering, lhs), as_value(lowering, rhs))).res


def multiply(lowering: Lowering, lhs: Size, rhs: Size) -> Size:
    """``lhs * rhs``, folded where it can be."""
    if isinstance(lhs, int) and isinstance(rhs, int):
        return lhs * rhs
    if lhs == 0 or rhs == 0:
        return 0
    if lhs == 1:
        return rhs
    if rhs == 1:
        return lhs
    return lowering.insert(xllvm.MulOp(as_value(lowering, lhs), as_value(lowering, rhs))).res


def product(lowering: Lowering, sizes: Iterable[Size]) -> Size:
    """The product of ``sizes``; 1 if there are none."""
    result: Size = 1
    for size in sizes:
        result = multiply(lowering, result, size)
    return result


@dataclass(frozen=True)
class MemRef:
    """A memref's pointer to its first element, its sizes, and its strides in elements (None: row-major)."""

    type: MemRefType
    pointer: SSAValue
    sizes: tuple[Size, ...]
    given_strides: tuple[Size, ...] | None

    @staticmethod
    def of(lowering: Lowering, old: SSAValue) -> MemRef:
        """The memref ``old`` of the level above."""
        type_ = cast("MemRefType", old.type)
        if not isinstance(old.type, MemRefType):
            raise lowering.error(f"a memref of known rank is needed, not {type_}")
        pointer, *dynamic = lowering.values(old)
        remaining = iter(dynamic)
        sizes = tuple(as_size(next(remaining)) if size == DYNAMIC_INDEX else size for size in type_.get_shape())
        strides = memref_strides(type_)
        if strides is None:
            return MemRef(type_, pointer, sizes, None)
        given = tuple(as_size(next(remaining)) if stride is None else stride for stride in strides)
        return MemRef(type_, pointer, sizes, given)

    def strides(self, lowering: Lowering) -> tuple[Size, ...]:
        """The strides in elements; those of a row-major memref are the products of the sizes to the right."""
        if self.given_strides is not None:
            return self.given_strides
        if packed_layout(self.type) is not None:
            raise lowering.error(f"{self.type} has no strides; memref.reinterpret_cast gives its elements as they lie")
        strides: list[Size] = []
        stride: Size = 1
        for size in reversed(self.sizes):
            strides.append(stride)
            if len(strides) < len(self.sizes):
                stride = multiply(lowering, stride, size)
        return tuple(reversed(strides))

    def offset(self, lowering: Lowering, indices: Sequence[Size]) -> Size:
        """The distance in elements from the first element to that at ``indices``."""
        offset: Size = 0
        for index, stride in zip(indices, self.strides(lowering), strict=True):
            offset = add(lowering, offset, multiply(lowering, index, stride))
        return offset

    def address(self, lowering: Lowering, indices: Sequence[SSAValue]) -> SSAValue:
        """A pointer to the element at ``indices``, new values."""
        return advance(
            lowering, self.pointer, self.offset(lowering, [as_size(index) for index in indices]), self.element
        )

    @property
    def element(self) -> Attribute:
        """The element type in memory."""
        return element_in_memory(self.type.element_type)

    def elements(self, lowering: Lowering) -> Size:
        """The number of elements."""
        return product(lowering, self.sizes)


def element_in_memory(type_: Attribute) -> Attribute:
    """``type_`` as memory holds it: a bool takes a byte."""
    type_ = scalar_or_vector(type_)
    return i8 if type_ == i1 else type_


def advance(lowering: Lowering, pointer: SSAValue, offset: Size, element: Attribute) -> SSAValue:
    """``pointer`` moved by ``offset`` elements."""
    if offset == 0:
        return pointer
    if isinstance(offset, int) and -(2**31) < offset < 2**31:
        return lowering.insert(xllvm.GEPOp(pointer, [offset], element)).result
    # What the constructor makes, without its checks: address arithmetic is a good part of all operations.
    new_op = xllvm.GEPOp.create(
        operands=[pointer, as_value(lowering, offset)],
        result_types=[_POINTER],
        properties={"rawConstantIndices": _ONE_DYNAMIC_INDEX, "elem_type": element, "noWrapFlags": _NO_FLAGS},
    )
    return lowering.insert(new_op).result


def map_memref(
    lowering: Lowering, old: SSAValue, pointer: SSAValue, sizes: Sequence[Size], strides: Sequence[Size]
) -> None:
    """``old`` becomes ``pointer`` and those of ``sizes`` and ``strides`` that its type leaves open."""
    type_ = old.type
    assert isa(type_, MemRefType)
    values = [pointer]
    for size, known in zip(sizes, type_.get_shape(), strict=True):
        if known == DYNAMIC_INDEX:
            values.append(as_value(lowering, size))
    for stride, known_stride in zip(strides, memref_strides(type_) or [0] * len(strides), strict=True):
        if known_stride is None:
            values.append(as_value(lowering, stride))
    lowering.map_value(old, *values)
