"""Tiles made from scalars and from other tiles without arithmetic: splat, iota, mask, transpose, reshape.

%z = tile.splat %zero : f32 -> !tile.tile<8x32xf32>
%n = tile.iota dim 1 start %j : !tile.tile<1x32xindex>
%t = tile.mask %s extent [_, %nc] else -inf : !tile.tile<8x32xf32>
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TypeVar

from xdsl.dialects.builtin import DenseArrayBase, FloatAttr, IndexType, IntegerAttr, IntegerType, i64
from xdsl.ir import SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.hints import isa

from crosstile.dialects.assembly import (
    LiteralAttr,
    dense_values,
    join_extents,
    parse_extents,
    parse_optional_literal,
    parse_result_type,
    parse_typed,
    print_extents,
    print_literal,
    print_types,
    split_extents,
    verify_extents,
    verify_literal,
    with_result_type,
)
from crosstile.dialects.tile.types import TileType, capacity_type, is_element_type


@irdl_op_definition
class SplatOp(IRDLOperation):
    """A scalar in every element: ``%z = tile.splat %zero : f32 -> !tile.tile<8x32xf32>``."""

    name = "tile.splat"
    scalar = operand_def()
    result = result_def(TileType)
    traits = traits_def(Pure())

    def __init__(self, scalar: SSAValue, shape: Sequence[int]):
        super().__init__(operands=[scalar], result_types=[TileType(shape, scalar.type)])

    def verify_(self) -> None:
        if self.scalar.type != self.result.type.element_type:
            raise VerifyException(f"splats a {self.scalar.type} over elements of {self.result.type}")

    @classmethod
    def parse(cls, parser: Parser) -> SplatOp:
        """Parse the form of the class docstring."""
        operand = parser.parse_unresolved_operand()
        parser.parse_punctuation(":")
        position = parser.pos
        scalar_type = parser.parse_type()
        result_type = parse_result_type(parser)
        if not is_element_type(scalar_type) or not isinstance(result_type, TileType):
            parser.raise_error(f"splats a scalar over a !tile.tile, found {scalar_type} over {result_type}", position)
        op = cls(parser.resolve_operand(operand, scalar_type), result_type.get_shape())
        return with_result_type(parser, op, result_type)

    def print(self, printer: Printer) -> None:
        """Print the form of the class docstring."""
        printer.print_string(" ")
        printer.print_operand(self.scalar)
        print_types(printer, [self.scalar], [self.result])
        printer.print_op_attributes(self.attributes)


@irdl_op_definition
class IotaOp(IRDLOperation):
    """Consecutive numbers along a dimension: ``%n = tile.iota dim 1 start %j : !tile.tile<1x64xindex>``.

    Element i along ``dim`` is ``start`` + i (0 + i without a start).
    """

    name = "tile.iota"
    start = opt_operand_def()
    dim = prop_def(IntegerAttr)
    result = result_def(TileType)
    traits = traits_def(Pure())

    def __init__(self, result_type: TileType, dim: int, start: SSAValue | None = None):
        super().__init__(
            operands=[start], properties={"dim": IntegerAttr(dim, IndexType())}, result_types=[result_type]
        )

    def verify_(self) -> None:
        result = self.result.type
        if not isa(result.element_type, IndexType | IntegerType) or result.element_type == IntegerType(1):
            raise VerifyException(f"numbers elements with index or integers of at least 8 bits, found {result}")
        if not 0 <= self.dim.value.data < result.get_num_dims():
            raise VerifyException(f"numbers dimension {self.dim.value.data} of {result}")
        if self.start is not None and self.start.type != result.element_type:
            raise VerifyException(f"starts at a {self.start.type}, but the elements are {result.element_type}")

    @classmethod
    def parse(cls, parser: Parser) -> IotaOp:
        """Parse the form of the class docstring."""
        parser.parse_keyword("dim")
        dim = parser.parse_integer(allow_boolean=False, allow_negative=False)
        start = parser.parse_unresolved_operand() if parser.parse_optional_keyword("start") else None
        parser.parse_punctuation(":")
        position = parser.pos
        result_type = parser.parse_type()
        if not isinstance(result_type, TileType):
            parser.raise_error(f"the result is a !tile.tile, found {result_type}", position)
        value = None if start is None else parser.resolve_operand(start, result_type.element_type)
        return with_result_type(parser, cls(result_type, dim, value), result_type)

    def print(self, printer: Printer) -> None:
        """Print the form of the class docstring."""
        printer.print_string(f" dim {self.dim.value.data}")
        if self.start is not None:
            printer.print_string(" start ")
            printer.print_operand(self.start)
        print_types(printer, [self.result])
        printer.print_op_attributes(self.attributes)


@irdl_op_definition
class MaskOp(IRDLOperation):
    """Replace elements beyond the extents: ``%t = tile.mask %s extent [_, %nc] else -inf : !tile.tile<8x32xf32>``."""

    name = "tile.mask"
    value = operand_def(TileType)
    extents = var_operand_def(IndexType)
    extent_dims = prop_def(DenseArrayBase)
    otherwise = prop_def(FloatAttr | IntegerAttr)
    result = result_def(TileType)
    traits = traits_def(Pure())

    def __init__(self, value: SSAValue, extents: Sequence[SSAValue | None], otherwise: LiteralAttr):
        """``extents`` has one entry per dimension, None for the whole capacity."""
        assert isinstance(value.type, TileType)
        present, extent_dims = split_extents(extents, range(value.type.get_num_dims()))
        super().__init__(
            operands=[value, present],
            properties={"extent_dims": extent_dims, "otherwise": otherwise},
            result_types=[value.type],
        )

    @property
    def extents_by_dim(self) -> list[SSAValue | None]:
        """One entry per dimension, None where the whole capacity is kept."""
        return join_extents(self.extents, self.extent_dims, range(self.result.type.get_num_dims()))

    def verify_(self) -> None:
        if self.value.type != self.result.type:
            raise VerifyException(f"the result is a {self.result.type}, expected {self.value.type}")
        verify_extents(self.extents, self.extent_dims, range(self.result.type.get_num_dims()))
        verify_literal(self.otherwise, self.result.type.element_type, "else")

    @classmethod
    def parse(cls, parser: Parser) -> MaskOp:
        """Parse the form of the class docstring."""
        operand = parser.parse_unresolved_operand()
        position = parser.pos
        extents = parse_extents(parser)
        otherwise = parse_optional_literal(parser, "else")
        if otherwise is None:
            parser.raise_error("expected 'else' and the value of masked elements")
        (value,) = parse_typed(parser, [operand], TileType)
        assert isinstance(value.type, TileType)
        if extents and len(extents) != value.type.get_num_dims():
            parser.raise_error(f"has {len(extents)} extents for the dimensions of {value.type}", position)
        op = cls(value, extents, otherwise.typed(parser, value.type.element_type))
        return with_result_type(parser, op, value.type)

    def print(self, printer: Printer) -> None:
        """Print the form of the class docstring."""
        printer.print_string(" ")
        printer.print_operand(self.value)
        print_extents(printer, self.extents_by_dim)
        print_literal(printer, "else", self.otherwise)
        print_types(printer, [self.value])
        printer.print_op_attributes(self.attributes)


@irdl_op_definition
class TransposeOp(IRDLOperation):
    """Permute dimensions: dimension i of the result is dimension ``permutation[i]`` of the operand.

    %u = tile.transpose %t [1, 0] : !tile.tile<8x32xf32> -> !tile.tile<32x8xf32>
    """

    name = "tile.transpose"
    value = operand_def(TileType)
    permutation = prop_def(DenseArrayBase)
    result = result_def(TileType)
    traits = traits_def(Pure())

    def __init__(self, value: SSAValue, permutation: Sequence[int], result_type: TileType | None = None):
        assert isinstance(value.type, TileType)
        if result_type is None:
            shape = value.type.get_shape()
            result_type = TileType([shape[dim] for dim in permutation], value.type.element_type)
        super().__init__(
            operands=[value],
            properties={"permutation": DenseArrayBase.from_list(i64, list(permutation))},
            result_types=[result_type],
        )

    def verify_(self) -> None:
        value, permutation = capacity_type(self.value), dense_values(self.permutation)
        if sorted(permutation) != list(range(value.get_num_dims())):
            raise VerifyException(f"{permutation} is not a permutation of the dimensions of {value}")
        expected = TileType([value.get_shape()[dim] for dim in permutation], value.element_type)
        if self.result.type != expected:
            raise VerifyException(f"the result is a {self.result.type}, expected {expected}")

    @classmethod
    def parse(cls, parser: Parser) -> TransposeOp:
        """Parse the form of the class docstring."""
        operand = parser.parse_unresolved_operand()
        permutation = parser.parse_comma_separated_list(
            parser.Delimiter.SQUARE, lambda: parser.parse_integer(allow_boolean=False)
        )
        (value,) = parse_typed(parser, [operand], TileType)
        return _with_tile_result(parser, lambda result_type: cls(value, permutation, result_type))

    def print(self, printer: Printer) -> None:
        """Print the form of the class docstring."""
        printer.print_string(" ")
        printer.print_operand(self.value)
        printer.print_string(f" [{', '.join(map(str, dense_values(self.permutation)))}]")
        print_types(printer, [self.value], [self.result])
        printer.print_op_attributes(self.attributes)


@irdl_op_definition
class ReshapeOp(IRDLOperation):
    """The same elements in row-major order.

    %u = tile.reshape %t : !tile.tile<8x32xf32> -> !tile.tile<256x1xf32>
    """

    name = "tile.reshape"
    value = operand_def(TileType)
    result = result_def(TileType)
    traits = traits_def(Pure())

    def __init__(self, value: SSAValue, result_type: TileType):
        super().__init__(operands=[value], result_types=[result_type])

    def verify_(self) -> None:
        value, result = capacity_type(self.value), self.result.type
        if value.element_type != result.element_type or prod(value.get_shape()) != prod(result.get_shape()):
            raise VerifyException(f"{value} and {result} must have the same number of elements of the same type")

    @classmethod
    def parse(cls, parser: Parser) -> ReshapeOp:
        """Parse the form of the class docstring."""
        (value,) = parse_typed(parser, [parser.parse_unresolved_operand()], TileType)
        return _with_tile_result(parser, lambda result_type: cls(value, result_type))

    def print(self, printer: Printer) -> None:
        """Print the form of the class docstring."""
        printer.print_string(" ")
        printer.print_operand(self.value)
        print_types(printer, [self.value], [self.result])
        printer.print_op_attributes(self.attributes)


OpT = TypeVar("OpT", TransposeOp, ReshapeOp)


def _with_tile_result(parser: Parser, build: Callable[[TileType], OpT]) -> OpT:
    position = parser.pos
    result_type = parse_result_type(parser)
    if not isinstance(result_type, TileType):
        parser.raise_error(f"the result is a !tile.tile, found {result_type}", position)
    return with_result_type(parser, build(result_type), result_type)
