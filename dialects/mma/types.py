"""Types of the mma level: what lives in scratch, what lives in registers, and what is on its way.

    !mma.buffer<512x4096xf32, affine_map<(d0, d1) -> (d1 floordiv 64, d0, d1 mod 64)>>   scratch, packed in panels
    !mma.fragment<8x64xf32, #mma.layout<tile(8, 64) register(8:64, 4:16) lane(16:1)>>    registers
    !mma.ring<4 x 128x64xbf16, #mma.swizzle<128>>         a queue of 4 scratch slots
    !mma.slot<write 128x64xbf16, #mma.swizzle<128>>       a slot between acquire and commit
    !mma.slot<read 128x64xbf16, #mma.swizzle<128>>        a slot between wait and release
    !mma.pending<!mma.fragment<...>>                      what an asynchronous product will leave in registers

The *storage* of scratch is written after its shape, each part optional: an affine map from elements to the box in which
they are stored, a swizzle, a memory. Without a map elements are stored in row-major order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from xdsl.dialects.builtin import (
    AffineMapAttr,
    ArrayAttr,
    ContainerType,
    IntAttr,
    NoneAttr,
    ShapedType,
    StringAttr,
)
from xdsl.ir import Attribute, ParametrizedAttribute, SSAValue, TypeAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.assembly import parse_static_shape, print_static_shape, verify_static_shape
from crosstile.dialects.mma.attributes import LayoutAttr, MemoryAttr, SwizzleAttr

NONE = NoneAttr()
GROUPS, BARRIERS = "groups", "barriers"
WRITE, READ = "write", "read"


def shape_attribute(shape: Sequence[int]) -> ArrayAttr[IntAttr]:
    """A shape as the parameter of a type."""
    return ArrayAttr(IntAttr(size) for size in shape)


def _parse_storage(parser: AttrParser) -> tuple[list[Attribute], str | None]:
    """Parse what follows the shape: map, swizzle and memory, and a ring's protocol."""
    storage: list[Attribute] = [NONE, NONE, NONE]
    protocol: str | None = None
    while parser.parse_optional_punctuation(",") is not None:
        position = parser.pos
        if (word := parser.parse_optional_keyword_in((GROUPS, BARRIERS))) is not None:
            protocol = word
            continue
        part = parser.parse_attribute()
        for index, kind in enumerate((AffineMapAttr, SwizzleAttr, MemoryAttr)):
            if isinstance(part, kind) and storage[index] == NONE:
                storage[index] = part
                break
        else:
            parser.raise_error(
                f"{part} is no part of how scratch is stored, or is given twice; legal are one affine_map<...>, one "
                "#mma.swizzle<...> and one #mma.memory<...>",
                position,
                parser.pos,
            )
    return storage, protocol


class _Scratch(ShapedType, ContainerType[Attribute]):
    """What buffers, rings and slots share: a static shape, an element type and a storage."""

    if TYPE_CHECKING:  # the order of a type's parameters is that of its own annotations, so these must not be seen
        shape: ArrayAttr[IntAttr]
        element_type: Attribute
        map: AffineMapAttr | NoneAttr
        swizzle: SwizzleAttr | NoneAttr
        memory: MemoryAttr | NoneAttr

    def get_num_dims(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    def get_shape(self) -> tuple[int, ...]:
        """The sizes."""
        return tuple(size.data for size in self.shape)

    def get_element_type(self) -> Attribute:
        """The type of one element."""
        return self.element_type

    @property
    def storage(self) -> tuple[AffineMapAttr | NoneAttr, SwizzleAttr | NoneAttr, MemoryAttr | NoneAttr]:
        """The parts of the storage: map, swizzle, memory."""
        return self.map, self.swizzle, self.memory

    def storage_shape(self) -> tuple[int, ...]:
        """The box in which the elements are stored: the map's largest coordinates plus one, or the shape.

        The map's results are monotonic or periodic in each dimension, so corners and period ends bound them.
        """
        if isinstance(self.map, NoneAttr):
            return self.get_shape()
        return _box(self.map.data, self.get_shape())

    def _print_body(self, printer: Printer, protocol: str = BARRIERS) -> None:
        print_static_shape(printer, self.get_shape(), self.element_type)
        for part in self.storage:
            if not isinstance(part, NoneAttr):
                printer.print_string(", ")
                printer.print_attribute(part)
        if protocol != BARRIERS:
            printer.print_string(f", {protocol}")

    def _verify_storage(self) -> None:
        verify_static_shape(self.get_shape())
        if isinstance(self.map, AffineMapAttr):
            by = self.map.data
            if by.num_dims != len(self.shape) or by.num_symbols:
                raise VerifyException(
                    f"the storage map affine_map<{by}> takes {by.num_dims} dimensions and {by.num_symbols} symbols; "
                    f"expects the {len(self.shape)} dimensions of the shape and no symbols"
                )


def _box(by: Any, shape: Sequence[int]) -> tuple[int, ...]:
    from itertools import product

    ends = [sorted({0, size - 1, *(end for end in _period_ends(by, size) if end < size)}) for size in shape]
    corners = [by.eval(point, ()) for point in product(*ends)]
    return tuple(max(corner[axis] for corner in corners) + 1 for axis in range(len(by.results)))


def _period_ends(by: Any, size: int) -> set[int]:
    """Where ``d mod c`` is largest, for every constant ``c`` of the map."""
    from xdsl.ir.affine import AffineBinaryOpExpr, AffineBinaryOpKind, AffineConstantExpr

    ends: set[int] = set()
    for result in by.results:
        for expression in result.dfs():
            if (
                isinstance(expression, AffineBinaryOpExpr)
                and expression.kind is AffineBinaryOpKind.Mod
                and isinstance(expression.rhs, AffineConstantExpr)
            ):
                ends.add(expression.rhs.value - 1)
    return ends


@irdl_attr_definition
class BufferType(_Scratch, ParametrizedAttribute, TypeAttribute):
    """``!mma.buffer<512x4096xf32, affine_map<...>, #mma.swizzle<...>, #mma.memory<...>>``: scratch."""

    name = "mma.buffer"

    shape: ArrayAttr[IntAttr]
    element_type: Attribute
    map: AffineMapAttr | NoneAttr
    swizzle: SwizzleAttr | NoneAttr
    memory: MemoryAttr | NoneAttr

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        element_type: Attribute,
        map: AffineMapAttr | NoneAttr = NONE,
        swizzle: SwizzleAttr | NoneAttr = NONE,
        memory: MemoryAttr | NoneAttr = NONE,
    ) -> BufferType:
        """The type of a buffer, row-major unless ``map`` says otherwise."""
        return cls(shape_attribute(shape), element_type, map, swizzle, memory)

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """Parse ``<512x4096xf32, ...>``."""
        with parser.in_angle_brackets():
            shape, element_type = parse_static_shape(parser)
            storage, protocol = _parse_storage(parser)
            if protocol is not None:
                parser.raise_error(f"a buffer has no protocol '{protocol}', only a ring has one")
            return shape, element_type, *storage

    def print_parameters(self, printer: Printer) -> None:
        """Print ``<512x4096xf32, ...>``."""
        with printer.in_angle_brackets():
            self._print_body(printer)

    def verify(self) -> None:
        """The shape and the storage are legal."""
        self._verify_storage()


@irdl_attr_definition
class FragmentType(ParametrizedAttribute, TypeAttribute, ShapedType, ContainerType[Attribute]):
    """``!mma.fragment<8x64xf32, #mma.layout<...>>``: registers of the unit that runs the program."""

    name = "mma.fragment"

    shape: ArrayAttr[IntAttr]
    element_type: Attribute
    layout: LayoutAttr

    @classmethod
    def of(cls, shape: Sequence[int], element_type: Attribute, layout: LayoutAttr) -> FragmentType:
        """The type of a fragment."""
        return cls(shape_attribute(shape), element_type, layout)

    def get_num_dims(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    def get_shape(self) -> tuple[int, ...]:
        """The sizes."""
        return tuple(size.data for size in self.shape)

    def get_element_type(self) -> Attribute:
        """The type of one element."""
        return self.element_type

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """Parse ``<8x64xf32, #mma.layout<...>>``."""
        with parser.in_angle_brackets():
            shape, element_type = parse_static_shape(parser)
            parser.parse_punctuation(",", " between the shape and the layout of a fragment")
            position = parser.pos
            layout = parser.parse_attribute()
            if not isinstance(layout, LayoutAttr):
                parser.raise_error(f"expected the layout of the fragment, #mma.layout<...>, got {layout}", position)
            return shape, element_type, layout

    def print_parameters(self, printer: Printer) -> None:
        """Print ``<8x64xf32, #mma.layout<...>>``."""
        with printer.in_angle_brackets():
            print_static_shape(printer, self.get_shape(), self.element_type)
            printer.print_string(", ")
            printer.print_attribute(self.layout)

    def verify(self) -> None:
        """The layout is one of this shape, and every element has a place."""
        verify_static_shape(self.get_shape())
        layout = self.layout.data
        if layout.tile != self.get_shape():
            raise VerifyException(f"the layout {layout} is of another shape than {list(self.get_shape())}")
        if not layout.is_onto:
            raise VerifyException(f"the layout {layout} leaves some elements without a register")


@irdl_attr_definition
class RingType(_Scratch, ParametrizedAttribute, TypeAttribute):
    """``!mma.ring<4 x 128x64xbf16, #mma.swizzle<128>, groups>``: a queue of ``depth`` scratch slots.

    The *protocol* says how a consumer learns that a slot is full: ``barriers`` (the default), a pair of barriers in
    memory per slot, for any thread of any role; ``groups``, the commit groups of each thread, completed in order, which
    other threads learn of through an ``mma.barrier``.
    """

    name = "mma.ring"

    depth: IntAttr
    shape: ArrayAttr[IntAttr]
    element_type: Attribute
    map: AffineMapAttr | NoneAttr
    swizzle: SwizzleAttr | NoneAttr
    memory: MemoryAttr | NoneAttr
    protocol: StringAttr

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """Parse ``<4 x 128x64xbf16, ...>``."""
        with parser.in_angle_brackets():
            depth = parser.parse_integer(
                allow_negative=False, context_msg=" for the depth of the ring, as in 4 x 8xf32"
            )
            parser.parse_characters("x", " after the depth of the ring, as in 4 x 8xf32")
            shape, element_type = parse_static_shape(parser)
            storage, protocol = _parse_storage(parser)
            return IntAttr(depth), shape, element_type, *storage, StringAttr(protocol or BARRIERS)

    def print_parameters(self, printer: Printer) -> None:
        """Print ``<4 x 128x64xbf16, ...>``."""
        with printer.in_angle_brackets():
            printer.print_string(f"{self.depth.data} x ")
            self._print_body(printer, self.protocol.data)

    def verify(self) -> None:
        """The ring has a slot, and its storage is legal."""
        if self.depth.data < 1:
            raise VerifyException(f"a ring of depth {self.depth.data} has no slot; expects at least 1")
        if self.protocol.data not in (GROUPS, BARRIERS):
            raise VerifyException(f"no ring protocol is called '{self.protocol.data}'; legal are {GROUPS}, {BARRIERS}")
        self._verify_storage()

    def slot(self, access: str) -> SlotType:
        """The type of one of the ring's slots, for ``access`` ``write`` or ``read``."""
        return SlotType(StringAttr(access), self.shape, self.element_type, *self.storage)


@irdl_attr_definition
class SlotType(_Scratch, ParametrizedAttribute, TypeAttribute):
    """``!mma.slot<write 128x64xbf16>`` from acquire to commit, ``!mma.slot<read 128x64xbf16>`` from wait to release."""

    name = "mma.slot"

    access: StringAttr
    shape: ArrayAttr[IntAttr]
    element_type: Attribute
    map: AffineMapAttr | NoneAttr
    swizzle: SwizzleAttr | NoneAttr
    memory: MemoryAttr | NoneAttr

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """Parse ``<write 128x64xbf16, ...>``."""
        with parser.in_angle_brackets():
            access = parser.parse_keyword_in((WRITE, READ), " for the access to a slot")
            shape, element_type = parse_static_shape(parser)
            storage, protocol = _parse_storage(parser)
            if protocol is not None:
                parser.raise_error(f"a slot has no protocol '{protocol}', only its ring has one")
            return StringAttr(access), shape, element_type, *storage

    def print_parameters(self, printer: Printer) -> None:
        """Print ``<write 128x64xbf16, ...>``."""
        with printer.in_angle_brackets():
            printer.print_string(f"{self.access.data} ")
            self._print_body(printer)

    def verify(self) -> None:
        """The access is known and the storage is legal."""
        if self.access.data not in (WRITE, READ):
            raise VerifyException(f"no access to a slot is called '{self.access.data}'; legal are {WRITE} and {READ}")
        self._verify_storage()

    def viewed(self, shape: Sequence[int], map: AffineMapAttr) -> SlotType:
        """The type of a view with another shape and map."""
        return SlotType(self.access, shape_attribute(shape), self.element_type, map, self.swizzle, self.memory)


@irdl_attr_definition
class PendingType(ParametrizedAttribute, TypeAttribute):
    """``!mma.pending<!mma.fragment<...>>``: a fragment that only ``mma.await`` makes readable."""

    name = "mma.pending"

    fragment: FragmentType

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """Parse ``<!mma.fragment<...>>``."""
        with parser.in_angle_brackets():
            position = parser.pos
            fragment = parser.parse_type()
            if not isinstance(fragment, FragmentType):
                parser.raise_error(f"expected a fragment that is pending, !mma.fragment<...>, got {fragment}", position)
            return (fragment,)

    def print_parameters(self, printer: Printer) -> None:
        """Print ``<!mma.fragment<...>>``."""
        with printer.in_angle_brackets():
            printer.print_attribute(self.fragment)


TypeT = TypeVar("TypeT", bound=Attribute)


def type_of(value: SSAValue, kind: type[TypeT]) -> TypeT:
    """The type of ``value``, which its operation's constraints have made a ``kind``."""
    return SSAValue.get(value, type=kind).type
