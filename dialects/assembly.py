"""Pieces of text that the custom syntax of several dialects shares: static shapes, numbers, places in memory.

    8x64xf32                                          a static shape with its element type
    -inf, 0.0, 3                                      a number of a known element type
    %A[%i, %k] extent [%mc, _] clip                   a place: trailing dimensions, unit stride
    %A by affine_map<(t0, t1)[s0] -> (t1, s0 + t0)>[%i]   the same with any map from tile coordinates and indices
    %A[%rows : !mma.fragment<128x1xindex, ...>, %k]   an index that is a tile of indices (a gather or a scatter)

An extent ``_`` stands for the whole capacity of that dimension. An index without a type is of type ``index``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from xdsl.dialects.builtin import (
    AffineMapAttr,
    AnyFloat,
    ArrayAttr,
    FloatAttr,
    IndexType,
    IntAttr,
    IntegerAttr,
    IntegerType,
)
from xdsl.ir import Attribute, SSAValue
from xdsl.ir.affine import AffineExpr, AffineMap
from xdsl.parser import AttrParser, Parser, UnresolvedOperand
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

NumberAttr = FloatAttr | IntegerAttr
INDEX = IndexType()


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


def parse_number(parser: Parser) -> float | int:
    """Parse an integer, a float, ``inf``, ``-inf`` or ``nan``."""
    sign = -1 if parser.parse_optional_punctuation("-") is not None else 1
    if (word := parser.parse_optional_keyword_in(("inf", "nan"))) is not None:
        return sign * float(word)
    return sign * parser.parse_number(context_msg=" for a number: also legal are inf, -inf and nan")


def number_attribute(value: float | int, element_type: Attribute) -> NumberAttr:
    """``value`` as an attribute of ``element_type``; VerifyException if that is no type of numbers."""
    if isinstance(element_type, AnyFloat):
        return FloatAttr(float(value), element_type)
    if isinstance(element_type, IndexType) and float(value).is_integer():
        return IntegerAttr.from_index_int_value(int(value))
    if isinstance(element_type, IntegerType) and float(value).is_integer():
        return IntegerAttr(int(value), cast(IntegerType, element_type))
    raise VerifyException(f"{value} is not a number of type {element_type}")


def number_of(attribute: NumberAttr) -> float | int:
    """The Python number that ``attribute`` holds."""
    return attribute.value.data


def print_number(printer: Printer, attribute: NumberAttr) -> None:
    """Print what ``parse_number`` reads back."""
    value = number_of(attribute)
    if isinstance(value, float) and (math.isinf(value) or math.isnan(value)):
        printer.print_string("nan" if math.isnan(value) else "inf" if value > 0 else "-inf")
    else:
        printer.print_string(repr(value))


@dataclass
class Place:
    """A place in memory as written: the operands are resolved once the type of the source is known."""

    source: UnresolvedOperand
    map: AffineMapAttr | None
    indices: list[SSAValue]
    extents: list[SSAValue]
    extent_dims: list[int] | None
    clip: bool


def parse_place(parser: Parser) -> Place:
    """Parse ``%A[%i, %k] extent [%mc, _] clip`` or ``%A by affine_map<...>[%i] ...``; types of memory come later."""
    source = parser.parse_unresolved_operand("expected the memory that is read or written")
    by: AffineMapAttr | None = None
    if parser.parse_optional_keyword("by") is not None:
        parser.parse_keyword("affine_map", " after 'by'")
        with parser.in_angle_brackets():
            by = AffineMapAttr(parser.parse_affine_map())
    indices = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, lambda: parse_index(parser), " for indices")
    extents, extent_dims = parse_extents(parser)
    clip = parser.parse_optional_keyword("clip") is not None
    return Place(source, by, indices, extents, extent_dims, clip)


def parse_index(parser: Parser) -> SSAValue:
    """Parse ``%i``, of type index, or ``%rows : type``."""
    operand = parser.parse_unresolved_operand("expected an index")
    type_ = parser.parse_type() if parser.parse_optional_punctuation(":") is not None else INDEX
    return parser.resolve_operand(operand, type_)


def parse_extents(parser: Parser) -> tuple[list[SSAValue], list[int] | None]:
    """Parse ``extent [%mc, _]`` if it is there: the extents given, and the dimensions they belong to."""
    if parser.parse_optional_keyword("extent") is None:
        return [], None

    def extent() -> SSAValue | None:
        if parser.parse_optional_keyword("_") is not None:
            return None
        return parser.parse_operand(INDEX, msg="expected an extent or _")

    given = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, extent, " for extents")
    return [value for value in given if value is not None], [i for i, value in enumerate(given) if value is not None]


def print_place(
    printer: Printer,
    source: SSAValue,
    by: AffineMapAttr | None,
    indices: Sequence[SSAValue],
    extents: Sequence[SSAValue],
    extent_dims: Sequence[int] | None,
    rank: int,
    clip: bool,
) -> None:
    """Print what ``parse_place`` reads back; ``rank`` is that of the tile."""
    printer.print_ssa_value(source)
    if by is not None:
        printer.print_string(f" by affine_map<{by.data}>")
    with printer.in_square_brackets():
        printer.print_list(indices, lambda index: print_index(printer, index))
    print_extents(printer, extents, extent_dims, rank)
    if clip:
        printer.print_string(" clip")


def print_index(printer: Printer, index: SSAValue) -> None:
    """Print ``%i`` or ``%rows : type``."""
    printer.print_ssa_value(index)
    if index.type != INDEX:
        printer.print_string(" : ")
        printer.print_attribute(index.type)


def print_extents(printer: Printer, extents: Sequence[SSAValue], dims: Sequence[int] | None, rank: int) -> None:
    """Print `` extent [%mc, _]`` unless no dimension has one."""
    if not dims:
        return
    by_dim = dict(zip(dims, extents, strict=True))
    printer.print_string(" extent ")
    with printer.in_square_brackets():
        for dim in range(rank):
            if dim:
                printer.print_string(", ")
            if dim in by_dim:
                printer.print_ssa_value(by_dim[dim])
            else:
                printer.print_string("_")


def verify_extents(extents: Sequence[SSAValue], dims: Sequence[int] | None, rank: int) -> None:
    """Extents are of type index, one for each listed dimension of a tile of ``rank`` dimensions."""
    listed = list(dims or ())
    if listed != sorted(set(listed)) or any(not 0 <= dim < rank for dim in listed):
        raise VerifyException(f"extents are given for dimensions {listed}; the tile has dimensions 0 to {rank - 1}")
    if len(listed) != len(extents):
        raise VerifyException(f"{len(extents)} extents are given for {len(listed)} dimensions")
    for extent in extents:
        if extent.type != INDEX:
            raise VerifyException(f"an extent has type {extent.type}; it must be an index")


def default_map(tile_rank: int, source_rank: int) -> AffineMap:
    """The map of a place without ``by``: tile dimensions are the trailing dimensions of the source, unit stride."""

    results = [AffineExpr.symbol(dim) for dim in range(source_rank)]
    for dim in range(tile_rank):
        results[source_rank - tile_rank + dim] += AffineExpr.dimension(dim)
    return AffineMap(tile_rank, source_rank, tuple(results))


def verify_place(
    by: AffineMapAttr | None,
    indices: Sequence[SSAValue],
    tile_shape: Sequence[int],
    source_shape: Sequence[int],
) -> None:
    """The map or the number of indices fits the source and the tile, and index tiles broadcast to the tile."""
    tile_rank, source_rank = len(tile_shape), len(source_shape)
    if by is None:
        if len(indices) != source_rank:
            raise VerifyException(f"{len(indices)} indices are given for memory of {source_rank} dimensions")
        if tile_rank > source_rank:
            raise VerifyException(
                f"a tile of {tile_rank} dimensions does not fit memory of {source_rank}; "
                "say with 'by affine_map<...>' which of its dimensions stand still"
            )
    else:
        found = (by.data.num_dims, by.data.num_symbols, len(by.data.results))
        if found != (tile_rank, len(indices), source_rank):
            raise VerifyException(
                f"affine_map<{by.data}> maps {found[0]} tile dimensions and {found[1]} indices to {found[2]} "
                f"coordinates; expects {tile_rank} and {len(indices)} to {source_rank}"
            )
    for index in indices:
        if index.type == INDEX:
            continue
        shape = getattr(index.type, "get_shape", lambda: None)()
        element = getattr(index.type, "element_type", None)
        if element != INDEX or shape is None or len(shape) != tile_rank:
            raise VerifyException(f"an index has type {index.type}; expects index, or a tile of index of the same rank")
        if any(size not in (1, whole) for size, whole in zip(shape, tile_shape, strict=True)):
            raise VerifyException(f"a tile of indices of shape {list(shape)} does not broadcast to {list(tile_shape)}")
