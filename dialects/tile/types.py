"""The types of the tile level: blocks of data with a constant capacity.

``!tile.tile<8x32xf32>`` is a value, ``!tile.buffer<512x4096xf32>`` read-only scratch that a value or a window was
staged into, ``!tile.window<8x512xf32>`` a view of a memref or a buffer that nothing has been read from yet. How much of
the capacity is used is a run-time *extent*, which belongs to operations and not to types.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import (
    ArrayAttr,
    BFloat16Type,
    ContainerType,
    Float8E4M3FNType,
    Float8E4M3FNUZType,
    Float8E5M2FNUZType,
    Float8E5M2Type,
    Float16Type,
    Float32Type,
    Float64Type,
    IndexType,
    IntAttr,
    IntegerType,
    ShapedType,
)
from xdsl.ir import Attribute, ParametrizedAttribute, SSAValue, TypeAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.hints import isa

_FLOATS = (
    Float64Type,
    Float32Type,
    Float16Type,
    BFloat16Type,
    Float8E4M3FNType,
    Float8E5M2Type,
    Float8E4M3FNUZType,
    Float8E5M2FNUZType,
)
ELEMENT_RULE = "f64, f32, f16, bf16, an 8-bit float, index, i1, i8, i16, i32 or i64"


def is_float_type(type_: Attribute) -> bool:
    """Whether ``type_`` is one of the float types that tiles are made of."""
    return isinstance(type_, _FLOATS)


def is_element_type(type_: Attribute) -> bool:
    """Whether tiles can be made of ``type_``."""
    if isa(type_, IntegerType):
        return type_.bitwidth in (1, 8, 16, 32, 64)
    return isinstance(type_, IndexType) or is_float_type(type_)


def _sizes(shape: Sequence[int] | ArrayAttr[IntAttr]) -> ArrayAttr[IntAttr]:
    return shape if isinstance(shape, ArrayAttr) else ArrayAttr([IntAttr(size) for size in shape])


@dataclass(frozen=True, init=False)
class CapacityType(ParametrizedAttribute, TypeAttribute, ShapedType, ContainerType[Attribute]):
    """What the three types share: a static shape of at least one dimension, and an element type."""

    shape: ArrayAttr[IntAttr]
    element_type: Attribute

    def verify(self) -> None:
        if not self.shape.data or any(size.data <= 0 for size in self.shape):
            raise VerifyException(f"a capacity is one or more positive sizes, found {list(self.get_shape())}")
        if not is_element_type(self.element_type):
            raise VerifyException(f"elements are {ELEMENT_RULE}, found {self.element_type}")

    def get_num_dims(self) -> int:
        """The number of dimensions."""
        return len(self.shape.data)

    def get_shape(self) -> tuple[int, ...]:
        """The capacity of each dimension."""
        return tuple(size.data for size in self.shape.data)

    def get_element_type(self) -> Attribute:
        """The type of the elements."""
        return self.element_type

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """Parse ``<8x32xf32>``."""
        with parser.in_angle_brackets():
            position = parser.pos
            shape, element_type = parser.parse_ranked_shape()
            if not shape or any(size <= 0 for size in shape):
                parser.raise_error(f"'{cls.name}' has a capacity of one or more positive constant sizes", position)
        return (ArrayAttr([IntAttr(size) for size in shape]), element_type)

    def print_parameters(self, printer: Printer) -> None:
        """Print ``<8x32xf32>``."""
        with printer.in_angle_brackets():
            printer.print_dimension_list(self.get_shape())
            printer.print_string("x")
            printer.print_attribute(self.element_type)


@irdl_attr_definition
class TileType(CapacityType):
    """A block of values, ``!tile.tile<8x32xf32>``."""

    name = "tile.tile"

    def __init__(self, shape: Sequence[int] | ArrayAttr[IntAttr], element_type: Attribute):
        super().__init__(_sizes(shape), element_type)


@irdl_attr_definition
class BufferType(CapacityType):
    """Scratch, ``!tile.buffer<512x4096xf32>``, alive in the enclosing body: read-only if ``tile.stage`` filled it."""

    name = "tile.buffer"

    def __init__(self, shape: Sequence[int] | ArrayAttr[IntAttr], element_type: Attribute):
        super().__init__(_sizes(shape), element_type)


@irdl_attr_definition
class WindowType(CapacityType):
    """Where to read or write, ``!tile.window<8x512xf32>``."""

    name = "tile.window"

    def __init__(self, shape: Sequence[int] | ArrayAttr[IntAttr], element_type: Attribute):
        super().__init__(_sizes(shape), element_type)


def capacity_type(value: SSAValue) -> CapacityType:
    """The type of a value that is a tile, buffer or window."""
    assert isinstance(value.type, CapacityType)
    return value.type


def element_type(value: SSAValue) -> Attribute:
    """The element type of a tile, window or buffer, or a scalar type itself."""
    return value.type.element_type if isinstance(value.type, CapacityType) else value.type
