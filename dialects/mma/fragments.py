"""Arithmetic on fragments: every element in the register where it is.

    %e = mma.map (%s, %max : !s, !row) -> !s { ^bb0(%x : f32, %m : f32): ... mma.yield %r : f32 }
    %m = mma.reduce max %s into %old dims [1] extent [%nc] : !s -> !row
    %t = mma.mask %s extent [%mc, %nc] else -inf : !s
    %z = mma.splat %zero : f32 -> !s
    %n = mma.iota dim 1 start %j : !index

Layouts must agree: an operand of a map has its elements where the result has them, and along a dimension of size 1 it
is *replicated*, in every lane that needs it. What moves data between registers is in ``rearrangement``.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import DenseArrayBase, IndexType, IntegerAttr, IntegerType, StringAttr
from xdsl.ir import Attribute, Operation, Region, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.assembly import (
    INDEX,
    LiteralAttr,
    literal_attribute,
    parse_extents,
    parse_optional_literal,
    print_extents,
    print_literal,
    verify_literal,
)
from crosstile.dialects.mma.access import parse_fragment_type
from crosstile.dialects.mma.kernel import YieldOp, integer, integer_list, integers
from crosstile.dialects.mma.place import Extents, check_extents, given_extents, listed_extents
from crosstile.dialects.mma.projection import verify_projection
from crosstile.dialects.mma.types import FragmentType, type_of

REDUCTIONS = ("add", "mul", "max", "min", "maxnum")


@irdl_op_definition
class MapOp(IRDLOperation):
    """``mma.map (%a, %b : !t, !row) -> !t { ^bb0(%x : f32, %y : f32): ... mma.yield %r : f32 }``.

    The body runs once per element of the result. An input of size 1 in a dimension is broadcast along it; scalars from
    above may be used in the body. Body arguments have the inputs' element types, and one value of the result's element
    type is yielded.
    """

    name = "mma.map"

    inputs = var_operand_def(FragmentType)
    result = result_def(FragmentType)
    body = region_def("single_block")

    def __init__(self, inputs: Sequence[SSAValue | Operation], result_type: FragmentType, body: Region):
        super().__init__(operands=[inputs], result_types=[result_type], regions=[body])

    @classmethod
    def parse(cls, parser: Parser) -> MapOp:
        """Parse the custom syntax."""
        inputs: list[SSAValue] = []
        with parser.in_parens():
            names = parser.parse_optional_undelimited_comma_separated_list(
                parser.parse_optional_unresolved_operand, parser.parse_unresolved_operand
            )
            if names:
                parser.parse_punctuation(":")
                position = parser.pos
                types = parser.parse_comma_separated_list(parser.Delimiter.NONE, parser.parse_type)
                inputs = list(parser.resolve_operands(names, types, position))
        parser.parse_punctuation("->")
        result_type = parse_fragment_type(parser)
        attributes = parser.parse_optional_attr_dict_with_keyword()
        op = cls(inputs, result_type, parser.parse_region())
        if attributes is not None:
            op.attributes.update(attributes.data)
        return op

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        printer.print_string(" ")
        with printer.in_parens():
            if self.inputs:
                printer.print_list(self.inputs, printer.print_ssa_value)
                printer.print_string(" : ")
                printer.print_list(self.inputs.types, printer.print_attribute)
        printer.print_string(" -> ")
        printer.print_attribute(self.result.type)
        printer.print_op_attributes(self.attributes, print_keyword=True)
        printer.print_string(" ")
        printer.print_region(self.body)

    def verify_(self) -> None:
        """Inputs are laid out like the result; the body takes and yields their element types."""
        result: FragmentType = self.result.type
        types: list[Attribute] = []
        for number, value in enumerate(self.inputs):
            part = type_of(value, FragmentType)
            verify_projection(part, result, f"input {number}")
            types.append(part.get_element_type())
        arguments = [argument.type for argument in self.body.block.args]
        if arguments != types:
            raise VerifyException(f"its body takes {_types(arguments)}; the inputs have elements of {_types(types)}")
        last = self.body.block.last_op
        yielded = list(last.operand_types) if isinstance(last, YieldOp) else None
        if yielded != [result.get_element_type()]:
            raise VerifyException(
                f"its body must end in mma.yield of one {result.get_element_type()}, an element of the result"
            )


def _types(types: Sequence[Attribute]) -> str:
    return "(" + ", ".join(map(str, types)) + ")"


@irdl_op_definition
class ReduceOp(IRDLOperation):
    """``mma.reduce add %t into %acc dims [1] extent [%nc] : !t -> !row``: sizes of ``dims`` become 1.

    ``extent`` gives, per dimension of the fragment, how far the reduction goes (``_``: to its end). The order is
    defined, so that every level computes the same bits: each lane first combines its own elements in increasing order
    of register number, sums in pairs where all are of one result (``reduction.py``); then lanes that hold parts of one
    result combine them in a butterfly, halving the distance each time (lanes 8 apart, 4, 2, 1), and axes of the layout
    beyond lanes likewise; then ``into`` is combined with the outcome, ``into`` on the left. Where elements of one lane
    alone are combined, ``into`` is what they begin with: a fragment reduced in parts is one chain. Every lane ends up
    with the result. Element types are floats or integers.
    """

    name = "mma.reduce"

    value = operand_def(FragmentType)
    into = opt_operand_def(FragmentType)
    extents = var_operand_def(IndexType)
    kind = prop_def(StringAttr)
    dims = prop_def(DenseArrayBase)
    extent_dims = opt_prop_def(DenseArrayBase)
    result = result_def(FragmentType)

    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    traits = traits_def(Pure())

    def __init__(
        self,
        kind: str,
        value: SSAValue | Operation,
        dims: Sequence[int],
        result_type: FragmentType,
        into: SSAValue | Operation | None = None,
        extents: Extents = (),
    ):
        given, extent_dims = given_extents(extents)
        super().__init__(
            operands=[value, into, given],
            properties={
                "kind": StringAttr(kind),
                "dims": integers(dims),
                "extent_dims": extent_dims,
            },
            result_types=[result_type],
        )

    @classmethod
    def parse(cls, parser: Parser) -> ReduceOp:
        """Parse the custom syntax."""
        kind = parser.parse_keyword_in(REDUCTIONS, " for the kind of reduction")
        value = parser.parse_unresolved_operand("expected the fragment to reduce")
        into = parser.parse_unresolved_operand() if parser.parse_optional_keyword("into") is not None else None
        parser.parse_keyword("dims", " before the dimensions that are reduced")
        dims = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_integer)
        extents = parse_extents(parser)
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        fragment = parser.resolve_operand(value, parse_fragment_type(parser))
        parser.parse_punctuation("->")
        result_type = parse_fragment_type(parser)
        start = None if into is None else parser.resolve_operand(into, result_type)
        op = cls(kind, fragment, dims, result_type, start, extents)
        op.attributes.update(attributes)
        return op

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        printer.print_string(f" {self.kind.data} ")
        printer.print_ssa_value(self.value)
        if self.into is not None:
            printer.print_string(" into ")
            printer.print_ssa_value(self.into)
        printer.print_string(f" dims {integer_list(self.dims)}")
        print_extents(printer, listed_extents(self.extents, self.extent_dims, self.value_type.get_num_dims()))
        printer.print_op_attributes(self.attributes)
        printer.print_string(" : ")
        printer.print_attribute(self.value.type)
        printer.print_string(" -> ")
        printer.print_attribute(self.result.type)

    @property
    def value_type(self) -> FragmentType:
        """The type of what is reduced."""
        return type_of(self.value, FragmentType)

    def verify_(self) -> None:
        """Dimensions exist, the result has size 1 there and is laid out like the value."""
        value, result = self.value_type, self.result.type
        if self.kind.data not in REDUCTIONS:
            raise VerifyException(f"no reduction is called '{self.kind.data}'; legal are {', '.join(REDUCTIONS)}")
        dims, rank = integer_list(self.dims), value.get_num_dims()
        if not dims or dims != sorted(set(dims)) or any(not 0 <= dim < rank for dim in dims):
            raise VerifyException(f"reduces dimensions {dims}; expects increasing dimensions from 0 to {rank - 1}")
        shape = tuple(1 if dim in dims else size for dim, size in enumerate(value.get_shape()))
        if result.get_shape() != shape or result.get_element_type() != value.get_element_type():
            raise VerifyException(
                f"the result is {list(result.get_shape())} of {result.get_element_type()}; a reduction of dimensions "
                f"{dims} leaves {list(shape)} of {value.get_element_type()}"
            )
        verify_projection(result, value, "the result")
        check_extents(self.extents, self.extent_dims, dims)
        if self.into is not None and self.into.type != result:
            raise VerifyException(f"'into' has type {self.into.type}; it must be that of the result, {result}")


@irdl_op_definition
class MaskOp(IRDLOperation):
    """``mma.mask %t extent [%mc, %nc] else -inf : !t``: elements beyond the extents become ``otherwise``."""

    name = "mma.mask"

    value = operand_def(FragmentType)
    extents = var_operand_def(IndexType)
    extent_dims = prop_def(DenseArrayBase)
    otherwise = prop_def(LiteralAttr)
    result = result_def(FragmentType)

    traits = traits_def(Pure())

    def __init__(self, value: SSAValue | Operation, extents: Extents, otherwise: float | int):
        value = SSAValue.get(value, type=FragmentType)
        given, dims = given_extents(extents)
        number = literal_attribute(otherwise, value.type.get_element_type())
        super().__init__(
            operands=[value, given],
            properties={"extent_dims": integers([]) if dims is None else dims, "otherwise": number},
            result_types=[value.type],
        )

    @classmethod
    def parse(cls, parser: Parser) -> MaskOp:
        """Parse the custom syntax."""
        value = parser.parse_unresolved_operand("expected the fragment to mask")
        extents = parse_extents(parser)
        otherwise = parse_optional_literal(parser, "else")
        if otherwise is None:
            parser.raise_error("expected 'else' and the value of elements beyond the extents")
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        op = cls(parser.resolve_operand(value, parse_fragment_type(parser)), extents, otherwise.value)
        op.attributes.update(attributes)
        return op

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        printer.print_string(" ")
        printer.print_ssa_value(self.value)
        rank = self.result.type.get_num_dims()
        print_extents(printer, listed_extents(self.extents, self.extent_dims, rank))
        print_literal(printer, "else", self.otherwise)
        printer.print_op_attributes(self.attributes)
        printer.print_string(" : ")
        printer.print_attribute(self.value.type)

    def verify_(self) -> None:
        """Extents fit, and the result is of the value's type."""
        if self.result.type != self.value.type:
            raise VerifyException(f"masks {self.value.type} into {self.result.type}; expects the same type")
        check_extents(self.extents, self.extent_dims, range(self.result.type.get_num_dims()))
        verify_literal(self.otherwise, self.result.type.get_element_type(), "'else'")


@irdl_op_definition
class SplatOp(IRDLOperation):
    """``mma.splat %s : f32 -> !t``: every element is the scalar."""

    name = "mma.splat"

    value = operand_def()
    result = result_def(FragmentType)

    traits = traits_def(Pure())

    assembly_format = "$value attr-dict `:` type($value) `->` type($result)"

    def __init__(self, value: SSAValue | Operation, result_type: FragmentType):
        super().__init__(operands=[value], result_types=[result_type])

    def verify_(self) -> None:
        """The scalar has the element type of the result."""
        if self.value.type != self.result.type.get_element_type():
            raise VerifyException(
                f"splats {self.value.type} into a fragment of {self.result.type.get_element_type()}; expects the same"
            )


@irdl_op_definition
class IotaOp(IRDLOperation):
    """``mma.iota dim 1 start %j : !t``: each element is its coordinate along ``dim``, plus ``start`` (0 if absent).

    The result's elements are of type index or of an integer type.
    """

    name = "mma.iota"

    start = opt_operand_def(IndexType)
    dim = prop_def(IntegerAttr)
    result = result_def(FragmentType)

    traits = traits_def(Pure())

    def __init__(self, dim: int, result_type: FragmentType, start: SSAValue | Operation | None = None):
        super().__init__(operands=[start], properties={"dim": integer(dim)}, result_types=[result_type])

    @classmethod
    def parse(cls, parser: Parser) -> IotaOp:
        """Parse the custom syntax."""
        parser.parse_keyword("dim", " before the dimension along which elements count up")
        dim = parser.parse_integer()
        start = parser.parse_operand(INDEX) if parser.parse_optional_keyword("start") is not None else None
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        op = cls(dim, parse_fragment_type(parser), start)
        op.attributes.update(attributes)
        return op

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        printer.print_string(f" dim {self.dim.value.data}")
        if self.start is not None:
            printer.print_string(" start ")
            printer.print_ssa_value(self.start)
        printer.print_op_attributes(self.attributes)
        printer.print_string(" : ")
        printer.print_attribute(self.result.type)

    def verify_(self) -> None:
        """The dimension exists and elements are integers."""
        result = self.result.type
        if not 0 <= self.dim.value.data < result.get_num_dims():
            raise VerifyException(f"has no dimension {self.dim.value.data}; the last is {result.get_num_dims() - 1}")
        if not isinstance(result.get_element_type(), IndexType | IntegerType):
            raise VerifyException(f"counts in {result.get_element_type()}; expects index or an integer type")
