"""Moving data between memory and registers at the mma level: loads, stores and views.

    %f = mma.load %A[%i, %k] extent [%mr, _] pad 0.0 : memref<?x?xf32> -> !mma.fragment<8x1xf32, ...>
    %c = mma.load %C[%i, %j] extent [%mr, %nr] if %more else 0.0 : memref<?x?xf32> -> !mma.fragment<8x64xf32, ...>
    mma.store %c, %C[%i, %j] extent [%mr, %nr] : !mma.fragment<8x64xf32, ...>, memref<?x?xf32>
    mma.store %c, %C[%i, %j] through %piece : !mma.fragment<128x256xf32, ...>, memref<?x?xf32>, !mma.buffer<128x64xf32>
    %t = mma.view %k by affine_map<(d0, d1) -> (d1, d0)> : !mma.slot<read 8x4xbf16> -> !mma.slot<read 4x8xbf16, ...>

The text of a place is explained in ``place.py``. An element is *valid* if it is inside the extents, with
``clip`` inside the memory's own shape, and no index of it that comes from a tile of indices is negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from xdsl.dialects.builtin import (
    AffineMapAttr,
    DenseArrayBase,
    IndexType,
    MemRefType,
    UnitAttr,
    i1,
)
from xdsl.dialects.memref import DimOp
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import NoMemoryEffect
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.assembly import (
    LiteralAttr,
    literal_attribute,
    parse_nontemporal,
    parse_optional_literal,
    print_literal,
    print_nontemporal,
    verify_literal,
)
from crosstile.dialects.mma.kernel import integer_list, integers
from crosstile.dialects.mma.place import (
    Extents,
    given_extents,
    listed_extents,
    parse_place,
    place_properties,
    print_place,
    verify_place,
)
from crosstile.dialects.mma.types import READ, WRITE, BufferType, FragmentType, SlotType, type_of


def element_type_of(type_: Attribute) -> Attribute:
    """The element type of memory or of a fragment."""
    if isinstance(type_, MemRefType):
        return cast(MemRefType[Attribute], type_).get_element_type()
    if isinstance(type_, BufferType | SlotType | FragmentType):
        return type_.get_element_type()
    raise VerifyException(f"{type_} is neither memory nor a fragment")


def verify_readable(type_: Attribute) -> None:
    """Memory that may be read: global memory, a buffer, a slot between wait and release."""
    if isinstance(type_, SlotType) and type_.access.data != READ:
        raise VerifyException(
            "reads a slot that has been acquired for writing; a slot is readable between mma.wait and mma.release"
        )
    if not isinstance(type_, MemRefType | BufferType | SlotType):
        raise VerifyException(f"reads {type_}; expects a memref, a buffer or a slot")


def verify_writable(type_: Attribute) -> None:
    """Memory that may be written: global memory, a buffer, a slot between acquire and commit."""
    if isinstance(type_, SlotType) and type_.access.data != WRITE:
        raise VerifyException(
            "writes a slot that has been waited for; a slot is writable between mma.acquire and mma.commit"
        )
    if not isinstance(type_, MemRefType | BufferType | SlotType):
        raise VerifyException(f"writes {type_}; expects a memref, a buffer or a slot")


@irdl_op_definition
class LoadOp(IRDLOperation):
    """``%f = mma.load %A[%i, %k] extent [%mr, _] if %c else 0.0 pad 0.0 clamp [0] : memory -> fragment``.

    Invalid elements are ``pad`` (0 if not given). If ``condition`` is false nothing is read and every element is
    ``otherwise``. Along the dimensions ``clamp`` an element beyond the extent is the last valid one instead of ``pad``:
    for elements whose results are never stored, it costs no masks. Any element type is legal, and the memory's must be
    the fragment's.
    """

    name = "mma.load"

    source = operand_def()
    indices = var_operand_def()
    extents = var_operand_def(IndexType)
    condition = opt_operand_def(i1)
    map = opt_prop_def(AffineMapAttr)
    extent_dims = opt_prop_def(DenseArrayBase)
    clip = opt_prop_def(UnitAttr)
    otherwise = opt_prop_def(LiteralAttr)
    pad = opt_prop_def(LiteralAttr)
    clamp = opt_prop_def(DenseArrayBase)
    result = result_def(FragmentType)

    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def __init__(
        self,
        source: SSAValue | Operation,
        indices: Sequence[SSAValue | Operation],
        result_type: FragmentType,
        extents: Extents = (),
        condition: SSAValue | Operation | None = None,
        otherwise: float | int | None = None,
        pad: float | int | None = None,
        clamp: Sequence[int] = (),
        map: AffineMapAttr | None = None,
        clip: bool = False,
    ):
        given, dims = given_extents(extents)
        element = result_type.get_element_type()
        super().__init__(
            operands=[source, indices, given, condition],
            result_types=[result_type],
            properties=place_properties(map, dims, clip)
            | {
                "otherwise": None if otherwise is None else literal_attribute(otherwise, element),
                "pad": None if pad is None else literal_attribute(pad, element),
                "clamp": integers(clamp) if clamp else None,
            },
        )

    @classmethod
    def parse(cls, parser: Parser) -> LoadOp:
        """Parse the custom syntax."""
        place = parse_place(parser)
        condition, otherwise = None, None
        clamp: list[int] = []
        if parser.parse_optional_keyword("if") is not None:
            condition = parser.parse_operand(i1, msg="expected a condition of type i1")
            otherwise = parse_optional_literal(parser, "else")
            if otherwise is None:
                parser.raise_error("expected 'else': a conditional load says what it reads otherwise")
        pad = parse_optional_literal(parser, "pad")
        if parser.parse_optional_keyword("clamp") is not None:
            clamp = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_integer)
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        source = parser.resolve_operand(place.source, parser.parse_type())
        parser.parse_punctuation("->")
        result_type = parse_fragment_type(parser)
        op = cls(
            source,
            place.indices,
            result_type,
            place.extents,
            condition,
            None if otherwise is None else otherwise.value,
            None if pad is None else pad.value,
            clamp,
            place.map,
            place.clip,
        )
        op.attributes.update(attributes)
        return op

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        printer.print_string(" ")
        extents = listed_extents(self.extents, self.extent_dims, self.result.type.get_num_dims())
        print_place(printer, self.source, self.map, self.indices, extents, self.clip is not None)
        if self.condition is not None:
            printer.print_string(" if ")
            printer.print_ssa_value(self.condition)
        print_literal(printer, "else", self.otherwise)
        print_literal(printer, "pad", self.pad)
        if self.clamp is not None:
            printer.print_string(f" clamp {integer_list(self.clamp)}")
        printer.print_op_attributes(self.attributes)
        printer.print_string(" : ")
        printer.print_attribute(self.source.type)
        printer.print_string(" -> ")
        printer.print_attribute(self.result.type)

    def verify_(self) -> None:
        """Source, place, extents, numbers and result fit together."""
        verify_readable(self.source.type)
        result = self.result.type
        element = element_type_of(self.source.type)
        if element != result.get_element_type():
            raise VerifyException(f"loads {element} from memory into a fragment of {result.get_element_type()}")
        verify_place(self.source.type, self.map, self.indices, self.extents, self.extent_dims, result.get_shape())
        if (self.condition is None) != (self.otherwise is None):
            raise VerifyException("a condition and what is read otherwise come together: 'if %c else 0.0'")
        verify_literal(self.otherwise, element, "'else'")
        verify_literal(self.pad, element, "'pad'")
        clamp = integer_list(self.clamp)
        if any(dim not in integer_list(self.extent_dims) for dim in clamp):
            raise VerifyException(f"clamps dimensions {clamp}, of which some have no extent to clamp to")


def parse_fragment_type(parser: Parser) -> FragmentType:
    """Parse a type that must be a fragment's."""
    position = parser.pos
    type_ = parser.parse_type()
    if not isinstance(type_, FragmentType):
        parser.raise_error(f"expected a fragment, !mma.fragment<...>, got {type_}", position, parser.pos)
    return type_


@irdl_op_definition
class StoreOp(IRDLOperation):
    """``mma.store %f, %A[%i, %j] extent [%mr, %nr] : fragment, memory``: writes the valid elements only.

    Where several places of a fragment are the same place in memory (an index that stands still, two equal indices of
    a scatter) which element is written is undefined. ``nontemporal if %large`` asks to write past the caches where the
    condition holds; it changes no value.

    ``through %buffer`` names scratch that the fragment goes through in pieces of the buffer's shape, from where the
    machine copies whole blocks to global memory by itself. What the buffer holds is lost, and the copies end when the
    kernel does: nothing else in the kernel may touch the memref.
    """

    name = "mma.store"

    value = operand_def(FragmentType)
    destination = operand_def()
    indices = var_operand_def()
    extents = var_operand_def(IndexType)
    nontemporal = opt_operand_def(i1)
    through = opt_operand_def(BufferType)
    map = opt_prop_def(AffineMapAttr)
    extent_dims = opt_prop_def(DenseArrayBase)
    clip = opt_prop_def(UnitAttr)

    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def __init__(
        self,
        value: SSAValue | Operation,
        destination: SSAValue | Operation,
        indices: Sequence[SSAValue | Operation],
        extents: Extents = (),
        map: AffineMapAttr | None = None,
        clip: bool = False,
        nontemporal: SSAValue | None = None,
        through: SSAValue | None = None,
    ):
        given, dims = given_extents(extents)
        operands = [value, destination, indices, given, nontemporal, through]
        super().__init__(operands=operands, properties=place_properties(map, dims, clip))

    @classmethod
    def parse(cls, parser: Parser) -> StoreOp:
        """Parse the custom syntax."""
        value = parser.parse_unresolved_operand("expected the fragment to store")
        parser.parse_punctuation(",")
        place = parse_place(parser)
        nontemporal = parse_nontemporal(parser)
        through = None if parser.parse_optional_keyword("through") is None else parser.parse_unresolved_operand()
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        fragment = parser.resolve_operand(value, parse_fragment_type(parser))
        parser.parse_punctuation(",")
        destination = parser.resolve_operand(place.source, parser.parse_type())
        buffer = None
        if through is not None:
            parser.parse_punctuation(",")
            buffer = parser.resolve_operand(through, parser.parse_type())
        op = cls(fragment, destination, place.indices, place.extents, place.map, place.clip, nontemporal, buffer)
        op.attributes.update(attributes)
        return op

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        printer.print_string(" ")
        printer.print_ssa_value(self.value)
        printer.print_string(", ")
        extents = listed_extents(self.extents, self.extent_dims, self.value_type.get_num_dims())
        print_place(printer, self.destination, self.map, self.indices, extents, self.clip is not None)
        print_nontemporal(printer, self.nontemporal)
        if self.through is not None:
            printer.print_string(" through ")
            printer.print_ssa_value(self.through)
        printer.print_op_attributes(self.attributes)
        printer.print_string(" : ")
        types = [self.value.type, self.destination.type, *([] if self.through is None else [self.through.type])]
        printer.print_list(types, printer.print_attribute)

    @property
    def value_type(self) -> FragmentType:
        """The type of the fragment that is stored."""
        return type_of(self.value, FragmentType)

    def verify_(self) -> None:
        """Value, place and extents fit together."""
        verify_writable(self.destination.type)
        element = element_type_of(self.destination.type)
        if element != self.value_type.get_element_type():
            raise VerifyException(f"stores a fragment of {self.value_type.get_element_type()} to memory of {element}")
        shape = self.value_type.get_shape()
        verify_place(self.destination.type, self.map, self.indices, self.extents, self.extent_dims, shape)
        if self.through is not None:
            self._verify_through(self.through, shape)

    def _verify_through(self, through: SSAValue, shape: Sequence[int]) -> None:
        """The buffer is a piece of the fragment; nobody looks at the memref before the copies have ended."""
        type_ = type_of(through, BufferType)
        if not isinstance(self.destination.type, MemRefType) or self.nontemporal is not None:
            raise VerifyException("'through' is for stores to a memref, and not together with 'nontemporal'")
        if type_.get_element_type() != self.value_type.get_element_type():
            raise VerifyException(f"{self.value_type.get_element_type()} goes through {type_}, of another element type")
        pieces = type_.get_shape()
        if len(pieces) != len(shape) or any(size % piece for size, piece in zip(shape, pieces, strict=True)):
            raise VerifyException(f"a fragment of {list(shape)} is not made up of pieces of {list(pieces)}")
        if any(use.operation is not self and not isinstance(use.operation, DimOp) for use in self.destination.uses):
            raise VerifyException(
                "other operations of the kernel use the memref: what goes 'through' a buffer is there when it ends"
            )


@irdl_op_definition
class ViewOp(IRDLOperation):
    """``%t = mma.view %s by affine_map<(d0, d1) -> (d1, d0)> : slot -> slot``: the same scratch, other coordinates.

    The map takes coordinates of the result to coordinates of the source; the result's type has the storage that
    follows. No data moves: a product that reads a transposed view reads transposed.
    """

    name = "mma.view"

    source = operand_def(BufferType | SlotType)
    map = prop_def(AffineMapAttr)
    result = result_def(BufferType | SlotType)

    traits = traits_def(NoMemoryEffect())

    assembly_format = "$source `by` $map attr-dict `:` type($source) `->` type($result)"

    def __init__(self, source: SSAValue | Operation, map: AffineMapAttr, shape: Sequence[int]):
        source = SSAValue.get(source)
        result_type = viewed_type(scratch_type(source), map, shape)
        super().__init__(operands=[source], properties={"map": map}, result_types=[result_type])

    def verify_(self) -> None:
        """The map fits both shapes and the result's storage is the source's seen through it."""
        source, result, by = scratch_type(self.source), scratch_type(self.result), self.map.data
        found = (by.num_dims, by.num_symbols, len(by.results))
        if found != (result.get_num_dims(), 0, source.get_num_dims()):
            raise VerifyException(
                f"affine_map<{by}> maps {found[0]} dimensions and {found[1]} symbols to {found[2]}; expects "
                f"{result.get_num_dims()} and none to {source.get_num_dims()}"
            )
        expected = viewed_type(source, self.map, result.get_shape())
        if result != expected:
            raise VerifyException(f"the result has type {result}; the storage of the source makes it {expected}")
        last = by.eval([size - 1 for size in result.get_shape()], [])
        if any(not 0 <= at < size for at, size in zip(last, source.get_shape(), strict=True)):
            raise VerifyException(f"the last element of the view is {list(last)}, outside {list(source.get_shape())}")


def scratch_type(value: SSAValue) -> BufferType | SlotType:
    """The type of a value that is a buffer or a slot; VerifyException if it is neither."""
    if not isinstance(value.type, BufferType | SlotType):
        raise VerifyException(f"{value.type} is not scratch; expects a buffer or a slot")
    return value.type


def viewed_type(source: BufferType | SlotType, map: AffineMapAttr, shape: Sequence[int]) -> BufferType | SlotType:
    """The type of the view of ``source`` through ``map``."""
    stored = AffineMapAttr(source.map.data.compose(map.data)) if isinstance(source.map, AffineMapAttr) else map
    if isinstance(source, SlotType):
        return source.viewed(shape, stored)
    return BufferType.of(shape, source.element_type, stored, source.swizzle, source.memory)
