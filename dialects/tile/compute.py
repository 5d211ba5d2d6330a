"""Arithmetic of the tile level: contractions, maps with a scalar body, reductions.

%c1 = tile.contract %a, %b, %c0 extent %kc
        : !tile.window<8x512xf32>, !tile.window<512x32xf32> -> !tile.tile<8x32xf32>
%r = tile.map (%c1 : !tile.tile<8x32xf32>) -> !tile.tile<8x32xf32> {
^bb0(%x : f32):
  %y = arith.maximumf %x, %zero : f32
  tile.yield %y : f32
}
%m = tile.reduce max %r dims [1] extent [%nc] : !tile.tile<8x32xf32> -> !tile.tile<8x1xf32>
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import AnyFloat, DenseArrayBase, IndexType, IntegerAttr, IntegerType, StringAttr, i64
from xdsl.ir import Attribute, Block, Region, SSAValue
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
from xdsl.traits import MemoryReadEffect, Pure, RecursiveMemoryEffect
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.hints import isa

from crosstile.dialects.assembly import (
    dense_values,
    join_extents,
    parse_extents,
    parse_index,
    parse_result_type,
    parse_typed,
    print_extents,
    print_types,
    split_extents,
    verify_extents,
    with_result_type,
)
from crosstile.dialects.tile.loops import YieldOp
from crosstile.dialects.tile.types import (
    BufferType,
    TileType,
    WindowType,
    capacity_type,
    element_type,
    is_element_type,
    is_float_type,
)

REDUCE_KINDS = ("add", "mul", "max", "min", "maxnum")
"""How ``tile.reduce`` combines elements."""


@irdl_op_definition
class ContractOp(IRDLOperation):
    """A matrix product into an accumulator: ``%c1 = tile.contract %a, %b, %c0 extent %kc : A, B -> tile``.

    ``lhs`` is [m, k] and ``rhs`` [k, n], each a window, buffer or tile; the result is ``accumulator`` [m, n] plus the
    products for k = 0 to extent - 1, added one after the other in this order, in the accumulator's type. Nothing
    beyond the extent is read (None means the whole capacity). ``intrinsic`` names the matrix instruction to use, and so
    its arithmetic; without one a product and the sum are rounded separately. ``unroll 2`` after it writes two steps of
    the loop over k out one after the other, which changes no result. ``ahead %w`` names a window whose cache lines
    are fetched meanwhile, since what follows reads it; nothing depends on what it holds or whether it is there::

        %s = tile.contract %q, %k, %zero intrinsic "..." ahead %v : Q, K, V -> tile
    """

    name = "tile.contract"
    lhs = operand_def(WindowType | BufferType | TileType)
    rhs = operand_def(WindowType | BufferType | TileType)
    accumulator = operand_def(TileType)
    extent = opt_operand_def(IndexType)
    ahead = opt_operand_def(WindowType)
    intrinsic = opt_prop_def(StringAttr)
    unroll = opt_prop_def(IntegerAttr)
    result = result_def(TileType)
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    traits = traits_def(MemoryReadEffect())

    def __init__(
        self,
        lhs: SSAValue,
        rhs: SSAValue,
        accumulator: SSAValue,
        extent: SSAValue | None = None,
        intrinsic: str | None = None,
        unroll: int | None = None,
        ahead: SSAValue | None = None,
    ):
        super().__init__(
            operands=[lhs, rhs, accumulator, extent, ahead],
            properties={
                "intrinsic": None if intrinsic is None else StringAttr(intrinsic),
                "unroll": None if unroll is None else IntegerAttr(unroll, i64),
            },
            result_types=[accumulator.type],
        )

    def verify_(self) -> None:
        lhs, rhs, accumulator = (capacity_type(value) for value in (self.lhs, self.rhs, self.accumulator))
        if self.result.type != accumulator:
            raise VerifyException(f"the result is a {self.result.type}, but the accumulator a {accumulator}")
        shapes = (lhs.get_shape(), rhs.get_shape(), accumulator.get_shape())
        if any(len(shape) != 2 for shape in shapes):
            raise VerifyException(
                f"contracts matrices [m, k] x [k, n] into [m, n], found {lhs}, {rhs} into {accumulator}"
            )
        if (shapes[0][1], shapes[0][0], shapes[1][1]) != (shapes[1][0], *shapes[2]):
            raise VerifyException(
                f"shapes do not agree: {lhs} is [m, k], {rhs} is [k, n], {accumulator} must be [m, n]"
            )
        if self.unroll is not None and self.unroll.value.data < 1:
            raise VerifyException(f"unrolls {self.unroll.value.data} steps of k; legal is 1, a step at a time, or more")
        if self.ahead is not None and capacity_type(self.ahead).get_num_dims() != 2:
            raise VerifyException(f"fetches a window of rows and columns ahead, found {self.ahead.type}")
        _verify_accumulator(lhs.element_type, rhs.element_type, accumulator.element_type)

    @classmethod
    def parse(cls, parser: Parser) -> ContractOp:
        """Parse the form of the class docstring."""
        operands = [parser.parse_unresolved_operand()]
        for _ in range(2):
            parser.parse_punctuation(",")
            operands.append(parser.parse_unresolved_operand())
        extent = parse_index(parser) if parser.parse_optional_keyword("extent") else None
        intrinsic = parser.parse_str_literal() if parser.parse_optional_keyword("intrinsic") else None
        unroll = parser.parse_integer(allow_boolean=False) if parser.parse_optional_keyword("unroll") else None
        ahead = [parser.parse_unresolved_operand()] if parser.parse_optional_keyword("ahead") else []
        kinds = (WindowType, BufferType, TileType)
        lhs, rhs, *fetched = parse_typed(parser, [*operands[:2], *ahead], *[kinds] * 2, *[(WindowType,)] * len(ahead))
        result_type = parse_result_type(parser)
        accumulator = parser.resolve_operand(operands[2], result_type)
        op = cls(lhs, rhs, accumulator, extent, intrinsic, unroll, *fetched)
        return with_result_type(parser, op, result_type)

    def print(self, printer: Printer) -> None:
        """Print the form of the class docstring."""
        printer.print_string(" ")
        printer.print_list([self.lhs, self.rhs, self.accumulator], printer.print_operand)
        if self.extent is not None:
            printer.print_string(" extent ")
            printer.print_operand(self.extent)
        if self.intrinsic is not None:
            printer.print_string(" intrinsic ")
            printer.print_string_literal(self.intrinsic.data)
        if self.unroll is not None:
            printer.print_string(f" unroll {self.unroll.value.data}")
        fetched = [] if self.ahead is None else [self.ahead]
        if self.ahead is not None:
            printer.print_string(" ahead ")
            printer.print_operand(self.ahead)
        print_types(printer, [self.lhs, self.rhs, *fetched], [self.result])
        printer.print_op_attributes(self.attributes)


def _verify_accumulator(lhs: Attribute, rhs: Attribute, accumulator: Attribute) -> None:
    if is_float_type(accumulator):
        legal = all(is_float_type(type_) and _width(type_) <= _width(accumulator) for type_ in (lhs, rhs))
    else:
        legal = all(isa(type_, IntegerType) and type_.bitwidth > 1 for type_ in (lhs, rhs, accumulator))
        legal = legal and max(_width(lhs), _width(rhs)) <= _width(accumulator)
    if not legal:
        raise VerifyException(
            f"sums products of {lhs} and {rhs} in {accumulator}; operands and accumulator are all floats or all "
            "integers of at least 8 bits, and the accumulator is no narrower than the operands"
        )


def _width(type_: Attribute) -> int:
    return type_.bitwidth if isa(type_, AnyFloat | IntegerType) else 64


@irdl_op_definition
class MapOp(IRDLOperation):
    """A scalar body applied to every element: ``tile.map (%a, %b : t, t) -> !tile.tile<8x32xf32> { ^bb0(...): ... }``.

    The inputs have the rank of the result; a dimension of size 1 is repeated. Scalars from outside may be used.
    """

    name = "tile.map"
    inputs = var_operand_def(TileType)
    body = region_def("single_block")
    result = result_def(TileType)
    traits = traits_def(RecursiveMemoryEffect())

    def __init__(self, inputs: Sequence[SSAValue], result_type: TileType, body: Region | Block):
        super().__init__(
            operands=[inputs],
            result_types=[result_type],
            regions=[Region(body) if isinstance(body, Block) else body],
        )

    def verify_(self) -> None:
        result = self.result.type
        for position, value in enumerate(self.inputs):
            assert isinstance(value.type, TileType)
            sizes = value.type.get_shape()
            if len(sizes) != result.get_num_dims() or any(
                size not in (1, full) for size, full in zip(sizes, result.get_shape(), strict=True)
            ):
                raise VerifyException(
                    f"input {position} is a {value.type}; in each dimension its size must be 1 or that of {result}"
                )
        expected = [element_type(value) for value in self.inputs]
        if list(self.body.block.arg_types) != expected:
            found = ", ".join(map(str, self.body.block.arg_types))
            raise VerifyException(f"its body takes ({found}), expected ({', '.join(map(str, expected))})")
        last = self.body.block.last_op
        if not isinstance(last, YieldOp) or [value.type for value in last.arguments] != [result.element_type]:
            raise VerifyException(f"its body must yield one {result.element_type}")
        for op in self.body.block.ops:
            bad = [value.type for value in (*op.operands, *op.results) if not is_element_type(value.type)]
            if bad or op.regions:
                what = f"'{op.name}' on a {bad[0]}" if bad else f"'{op.name}', which has a region"
                raise VerifyException(f"its body is scalar, but uses {what}")

    @classmethod
    def parse(cls, parser: Parser) -> MapOp:
        """Parse the form of the class docstring."""
        inputs: list[SSAValue] = []
        with parser.in_parens():
            if (first := parser.parse_optional_unresolved_operand()) is not None:
                operands = [first]
                while parser.parse_optional_punctuation(","):
                    operands.append(parser.parse_unresolved_operand())
                inputs = parse_typed(parser, operands, *([TileType] * len(operands)))
        position = parser.pos
        result_type = parse_result_type(parser)
        if not isinstance(result_type, TileType):
            parser.raise_error(f"the result is a !tile.tile, found {result_type}", position)
        attributes = parser.parse_optional_attr_dict_with_keyword()
        op = cls(inputs, result_type, parser.parse_region())
        if attributes is not None:
            op.attributes |= attributes.data
        return op

    def print(self, printer: Printer) -> None:
        """Print the form of the class docstring."""
        printer.print_string(" (")
        if self.inputs:
            printer.print_list(self.inputs, printer.print_operand)
            print_types(printer, self.inputs)
        printer.print_string(") -> ")
        printer.print_attribute(self.result.type)
        if self.attributes:
            printer.print_op_attributes(self.attributes, print_keyword=True)
        printer.print_string(" ")
        printer.print_region(self.body)


@irdl_op_definition
class ReduceOp(IRDLOperation):
    """Combine along dimensions, which stay with size 1: ``%m = tile.reduce max %t dims [1] extent [%nc] : A -> B``.

    ``extent`` has one entry per reduced dimension; elements beyond it take no part, and of nothing the result is the
    identity of the kind. With ``into %acc`` the result is combined with a tile of the result's type. Sums may be
    reassociated; ``max`` and ``min`` give NaN if any element is; ``maxnum`` skips those.
    """

    name = "tile.reduce"
    value = operand_def(TileType)
    into = opt_operand_def(TileType)
    extents = var_operand_def(IndexType)
    kind = prop_def(StringAttr)
    dims = prop_def(DenseArrayBase)
    extent_dims = prop_def(DenseArrayBase)
    result = result_def(TileType)
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    traits = traits_def(Pure())

    def __init__(
        self,
        kind: str,
        value: SSAValue,
        dims: Sequence[int],
        extents: Sequence[SSAValue | None] = (),
        into: SSAValue | None = None,
    ):
        """``extents`` has one entry per entry of ``dims``, None for the whole capacity; it may be empty."""
        assert isinstance(value.type, TileType)
        present, extent_dims = split_extents(extents, dims)
        shape = [1 if dim in dims else size for dim, size in enumerate(value.type.get_shape())]
        super().__init__(
            operands=[value, into, present],
            properties={
                "kind": StringAttr(kind),
                "dims": DenseArrayBase.from_list(i64, list(dims)),
                "extent_dims": extent_dims,
            },
            result_types=[TileType(shape, value.type.element_type)],
        )

    @property
    def reduced_dims(self) -> list[int]:
        """The dimensions that are reduced, ascending."""
        return dense_values(self.dims)

    @property
    def extents_by_dim(self) -> list[SSAValue | None]:
        """One entry per reduced dimension, None where the whole capacity is used."""
        return join_extents(self.extents, self.extent_dims, self.reduced_dims)

    def verify_(self) -> None:
        if self.kind.data not in REDUCE_KINDS:
            raise VerifyException(f"reduces by '{self.kind.data}'; legal are {', '.join(REDUCE_KINDS)}")
        value, dims = capacity_type(self.value), self.reduced_dims
        rank = value.get_num_dims()
        if not dims or dims != sorted(set(dims)) or not (dims[0] >= 0 and dims[-1] < rank):
            raise VerifyException(f"dims are one or more of 0 to {rank - 1} in ascending order, found {dims}")
        verify_extents(self.extents, self.extent_dims, dims)
        expected = TileType(
            [1 if dim in dims else size for dim, size in enumerate(value.get_shape())], value.element_type
        )
        if self.result.type != expected:
            raise VerifyException(f"the result is a {self.result.type}, expected {expected}")
        if self.into is not None and self.into.type != expected:
            raise VerifyException(f"reduces into a {self.into.type}, expected {expected}")
        if value.element_type == IntegerType(1):
            raise VerifyException("reduces truth values; extend them to a wider integer first")

    @classmethod
    def parse(cls, parser: Parser) -> ReduceOp:
        """Parse the form of the class docstring."""
        kind = parser.parse_keyword_in(REDUCE_KINDS)
        value = parser.parse_unresolved_operand()
        into = parser.parse_unresolved_operand() if parser.parse_optional_keyword("into") else None
        parser.parse_keyword("dims")
        position = parser.pos
        dims = parser.parse_comma_separated_list(
            parser.Delimiter.SQUARE, lambda: parser.parse_integer(allow_boolean=False)
        )
        extents = parse_extents(parser)
        if extents and len(extents) != len(dims):
            parser.raise_error(f"has {len(extents)} extents for {len(dims)} reduced dimensions", position)
        (tile,) = parse_typed(parser, [value], TileType)
        result_type = parse_result_type(parser)
        accumulator = None if into is None else parser.resolve_operand(into, result_type)
        return with_result_type(parser, cls(kind, tile, dims, extents, accumulator), result_type)

    def print(self, printer: Printer) -> None:
        """Print the form of the class docstring."""
        printer.print_string(f" {self.kind.data} ")
        printer.print_operand(self.value)
        if self.into is not None:
            printer.print_string(" into ")
            printer.print_operand(self.into)
        printer.print_string(f" dims [{', '.join(map(str, self.reduced_dims))}]")
        print_extents(printer, self.extents_by_dim)
        print_types(printer, [self.value], [self.result])
        printer.print_op_attributes(self.attributes)
