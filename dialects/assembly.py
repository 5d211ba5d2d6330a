"""Pieces of custom syntax that dialects share: indices, extents, literals, static shapes, typed operands.

8x64xf32             a static shape with its element type
extent [%mc, _]      one entry per dimension, `_` where the whole capacity is used
if ... else -inf     a literal of the element type; `inf`, `-inf` and `nan` are spelled out
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from xdsl.dialects.builtin import (
    AnyFloat,
    ArrayAttr,
    DenseArrayBase,
    FloatAttr,
    IndexType,
    IntAttr,
    IntegerAttr,
    IntegerType,
    i1,
    i64,
)
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.ir.affine import AffineExpr, AffineMap
from xdsl.parser import AttrParser, Parser, UnresolvedOperand
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.hints import isa

INDEX = IndexType()
LiteralAttr = FloatAttr[AnyFloat] | IntegerAttr[IntegerType | IndexType]


def parse_index(parser: Parser) -> SSAValue:
    """Parse an operand of type index."""
    return parser.resolve_operand(parser.parse_unresolved_operand(), IndexType())


def parse_typed(
    parser: Parser,
    operands: Sequence[UnresolvedOperand],
    *kinds: type[Attribute] | tuple[type[Attribute], ...],
) -> list[SSAValue]:
    """Parse ``: type, type, ...``, one for each of ``operands`` and of a class of ``kinds``, and resolve them."""
    parser.parse_punctuation(":", " before the operand types")
    position = parser.pos
    types = parser.parse_comma_separated_list(parser.Delimiter.NONE, parser.parse_type)
    if len(types) != len(operands):
        parser.raise_error(f"expected the types of {len(operands)} operands, found {len(types)}", position)
    for type_, kind in zip(types, kinds, strict=True):
        if not isinstance(type_, kind):
            legal = kind if isinstance(kind, tuple) else (kind,)
            names = " or ".join(f"!{class_.name}" for class_ in legal)
            parser.raise_error(f"expected a {names}, found {type_}", position)
    return [parser.resolve_operand(operand, type_) for operand, type_ in zip(operands, types, strict=True)]


OperationT = TypeVar("OperationT", bound=Operation)


def with_result_type(parser: Parser, op: OperationT, result_type: Attribute) -> OperationT:
    """``op`` with the result type that the text states, and its optional attributes parsed.

    The operation was built with the type that its operands imply; its verifier says so if the text states another.
    """
    if op.results[0].type != result_type:
        inferred = op
        op = type(op).create(operands=inferred.operands, result_types=[result_type], properties=inferred.properties)
        inferred.erase()
    op.attributes |= parser.parse_optional_attr_dict()
    return op


def parse_result_type(parser: Parser) -> Attribute:
    """Parse ``-> type``."""
    parser.parse_punctuation("->", " before the result type")
    return parser.parse_type()


def print_types(printer: Printer, operands: Sequence[SSAValue], results: Sequence[SSAValue] = ()) -> None:
    """Print `` : types -> types``."""
    printer.print_string(" : ")
    printer.print_list([operand.type for operand in operands], printer.print_attribute)
    if results:
        printer.print_string(" -> ")
        printer.print_list([result.type for result in results], printer.print_attribute)


def parse_attributes(parser: Parser, op: Operation) -> None:
    """Parse an optional ``{...}`` of further attributes into ``op``."""
    op.attributes |= parser.parse_optional_attr_dict()


# Extents


def parse_extents(parser: Parser) -> list[SSAValue | None]:
    """Parse an optional ``extent [%m, _]``; empty if there is none."""
    if parser.parse_optional_keyword("extent") is None:
        return []
    return parser.parse_comma_separated_list(parser.Delimiter.SQUARE, lambda: _parse_extent(parser))


def _parse_extent(parser: Parser) -> SSAValue | None:
    return None if parser.parse_optional_keyword("_") else parse_index(parser)


def print_extents(printer: Printer, extents: Sequence[SSAValue | None]) -> None:
    """Print `` extent [...]`` unless every entry is None."""
    if any(extent is not None for extent in extents):
        printer.print_string(" extent [")
        printer.print_list(extents, lambda extent: _print_extent(printer, extent))
        printer.print_string("]")


def _print_extent(printer: Printer, extent: SSAValue | None) -> None:
    if extent is None:
        printer.print_string("_")
    else:
        printer.print_operand(extent)


def split_extents(extents: Sequence[SSAValue | None], dims: Sequence[int]) -> tuple[list[SSAValue], DenseArrayBase]:
    """The extents that are there, and the dimension (of ``dims``, in order) that each belongs to."""
    present = [(dim, extent) for dim, extent in zip(dims, extents, strict=False) if extent is not None]
    return [extent for _, extent in present], DenseArrayBase.from_list(i64, [dim for dim, _ in present])


def join_extents(
    extents: Sequence[SSAValue], extent_dims: DenseArrayBase, dims: Sequence[int]
) -> list[SSAValue | None]:
    """The inverse of ``split_extents``: one entry per dimension of ``dims``."""
    known = dict(zip(dense_values(extent_dims), extents, strict=False))
    return [known.get(dim) for dim in dims]


def verify_extents(extents: Sequence[SSAValue], extent_dims: DenseArrayBase, dims: Sequence[int]) -> None:
    """An extent for each of ``extent_dims``, which are some of ``dims`` in their order."""
    found = dense_values(extent_dims)
    if len(found) != len(extents):
        raise VerifyException(f"has {len(extents)} extents for the {len(found)} dimensions of extent_dims")
    if found != [dim for dim in dims if dim in found]:
        raise VerifyException(f"extent_dims must be some of the dimensions {list(dims)} in this order, found {found}")


def dense_values(array: DenseArrayBase) -> list[int]:
    """The integers of a dense array."""
    return [int(value) for value in cast(DenseArrayBase[IntegerType], array).get_values()]


# Literals


@dataclass(frozen=True)
class Literal:
    """A number as written, which becomes an attribute when the type of the elements is known."""

    value: int | float
    position: int

    def typed(self, parser: Parser, type_: Attribute) -> LiteralAttr:
        """The attribute of ``type_``; an error at the literal if it is no such number."""
        if isinstance(type_, AnyFloat):
            if _rounded(float(self.value), type_) is None:
                parser.raise_error(f"{self.value} is too large for {type_}; infinity is 'inf'", self.position)
            return FloatAttr(float(self.value), type_)
        if isa(type_, IntegerType | IndexType) and isinstance(self.value, int):
            return IntegerAttr(self.value, type_)
        parser.raise_error(f"expected a literal of type {type_}, found {self.value}", self.position)


def parse_optional_literal(parser: Parser, keyword: str) -> Literal | None:
    """Parse ``keyword number`` if the keyword is there; numbers are ``0.0``, ``-3``, ``inf``, ``-inf``, ``nan``."""
    if parser.parse_optional_keyword(keyword) is None:
        return None
    position = parser.pos
    negative = parser.parse_optional_punctuation("-") is not None
    name = parser.parse_optional_keyword_in(("inf", "nan", "true", "false"))
    if name is None:
        value = parser.parse_optional_number()
        if value is None or (negative and value < 0):
            parser.raise_error("expected a number, inf, -inf or nan", position)
    else:
        value = int(name == "true") if name in ("true", "false") else float(name)
    return Literal(-value if negative else value, position)


def typed_literal(literal: Literal | None, parser: Parser, type_: Attribute) -> LiteralAttr | None:
    """``literal.typed``, None for None."""
    return None if literal is None else literal.typed(parser, type_)


def print_literal(printer: Printer, keyword: str, literal: LiteralAttr | None) -> None:
    """Print `` keyword number``, the shortest text that reads back as the same value; nothing for None."""
    if literal is None:
        return
    printer.print_string(f" {keyword} ")
    if isa(literal, FloatAttr):
        printer.print_string(float_text(literal))
    else:
        printer.print_string(str(literal.value.data))


def float_text(literal: FloatAttr[AnyFloat]) -> str:
    """The shortest text of a float that MLIR's lexer reads back to the same value of its type."""
    value = literal.value.data
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    for digits in range(1, 18):
        text = f"{value:.{digits}g}"
        if _rounded(float(text), literal.type) == value:
            break
    else:
        text = repr(value)
    mantissa, exponent, power = text.partition("e")
    return mantissa + ("" if "." in mantissa else ".0") + exponent + power


def _rounded(value: float, type_: AnyFloat) -> float | None:
    """``value`` as a number of ``type_``, None if it is too large for one."""
    try:
        return FloatAttr(value, type_).value.data
    except OverflowError:
        return None


def verify_literal(literal: LiteralAttr | None, element_type: Attribute, what: str) -> None:
    """A literal, if there is one, has the element type; NaN has no payload."""
    if literal is None:
        return
    if literal.type != element_type:
        raise VerifyException(f"the {what} value is a {literal.type}, but the elements are {element_type}")
    if isa(literal, FloatAttr) and literal != FloatAttr(float(float_text(literal)), literal.type):
        raise VerifyException(f"the {what} value is a NaN with a payload; only the default NaN is legal")


def literal_attribute(value: float | int, type_: Attribute) -> LiteralAttr:
    """``value`` as an attribute of ``type_``; VerifyException if it is no number of that type."""
    if isinstance(type_, AnyFloat) and _rounded(float(value), type_) is not None:
        return FloatAttr(float(value), type_)
    if isa(type_, IntegerType | IndexType) and float(value).is_integer():
        return IntegerAttr(int(value), type_)
    raise VerifyException(f"{value} is not a number of type {type_}")


def number_of(attribute: LiteralAttr) -> float | int:
    """The Python number that ``attribute`` holds."""
    return attribute.value.data


# Shapes and places


def parse_static_shape(parser: AttrParser) -> tuple[ArrayAttr[IntAttr], Attribute]:
    """Parse ``8x64xf32``: at least one dimension, none of them ``?``."""
    position = parser.pos
    shape, element_type = parser.parse_ranked_shape()
    if not shape or any(size < 0 for size in shape):
        parser.raise_error("expected a static shape of at least one dimension, as in 8x64xf32", position, parser.pos)
    return ArrayAttr(map(IntAttr, shape)), element_type


def print_static_shape(printer: Printer, shape: Sequence[int], element_type: Attribute) -> None:
    """Print ``8x64xf32``."""
    for size in shape:
        printer.print_string(f"{size}x")
    printer.print_attribute(element_type)


def verify_static_shape(shape: Sequence[int]) -> None:
    """Every size is at least 1, and there is one."""
    if not shape or any(size < 1 for size in shape):
        raise VerifyException(f"shape {list(shape)} is not legal: expects at least one dimension, each of size >= 1")


def default_map(tile_rank: int, source_rank: int) -> AffineMap:
    """The map of a place without ``by``: tile dimensions are the trailing dimensions of the source, unit stride."""

    results = [AffineExpr.symbol(dim) for dim in range(source_rank)]
    for dim in range(tile_rank):
        results[source_rank - tile_rank + dim] += AffineExpr.dimension(dim)
    return AffineMap(tile_rank, source_rank, tuple(results))


def parse_nontemporal(parser: Parser) -> SSAValue | None:
    """The condition of ``nontemporal if %large``, if it stands here."""
    if parser.parse_optional_keyword("nontemporal") is None:
        return None
    parser.parse_keyword("if")
    return parser.parse_operand(i1, msg="expected a condition of type i1")


def print_nontemporal(printer: Printer, condition: SSAValue | None) -> None:
    """Print what ``parse_nontemporal`` reads."""
    if condition is not None:
        printer.print_string(" nontemporal if ")
        printer.print_ssa_value(condition)
