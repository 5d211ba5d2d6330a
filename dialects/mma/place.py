"""Places in memory: where the elements of a tile are, as text and as rules.

    %A[%i, %k] extent [%mc, _] clip                   a place: trailing dimensions, unit stride
    %A by affine_map<(t0, t1)[s0] -> (t1, s0 + t0)>[%i]   the same with any map from tile coordinates and indices
    %A[%rows : !mma.fragment<128x1xindex, ...>, %k]   an index that is a tile of indices (a gather or a scatter)

An extent ``_`` stands for the whole capacity of that dimension. An index without a type is of type ``index``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import AffineMapAttr, DenseArrayBase, MemRefType, UnitAttr
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.parser import Parser, UnresolvedOperand
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.assembly import INDEX, parse_extents, print_extents, verify_extents
from crosstile.dialects.mma.kernel import integer_list, integers
from crosstile.dialects.mma.types import BufferType, SlotType

Extents = Sequence[SSAValue | Operation | None]
"""One entry per dimension; None, and what is missing at the end, stands for the whole capacity."""


@dataclass
class Place:
    """A place as written: the memory is resolved once its type is known."""

    source: UnresolvedOperand
    map: AffineMapAttr | None
    indices: list[SSAValue]
    extents: list[SSAValue | None]
    clip: bool


def parse_place(parser: Parser) -> Place:
    """Parse ``%A[%i, %k] extent [%mc, _] clip`` or ``%A by affine_map<...>[%i] ...``; types of memory come later."""
    source = parser.parse_unresolved_operand("expected the memory that is read or written")
    by: AffineMapAttr | None = None
    if parser.parse_optional_keyword("by") is not None:
        parser.parse_keyword("affine_map", " after 'by'")
        with parser.in_angle_brackets():
            by = AffineMapAttr(parser.parse_affine_map())
    indices = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, lambda: _parse_index(parser), " for indices")
    extents = parse_extents(parser)
    return Place(source, by, indices, extents, parser.parse_optional_keyword("clip") is not None)


def _parse_index(parser: Parser) -> SSAValue:
    operand = parser.parse_unresolved_operand("expected an index")
    type_ = parser.parse_type() if parser.parse_optional_punctuation(":") is not None else INDEX
    return parser.resolve_operand(operand, type_)


def print_place(
    printer: Printer,
    source: SSAValue,
    by: AffineMapAttr | None,
    indices: Sequence[SSAValue],
    extents: Sequence[SSAValue | None],
    clip: bool,
) -> None:
    """Print what ``parse_place`` reads back."""
    printer.print_ssa_value(source)
    if by is not None:
        printer.print_string(f" by affine_map<{by.data}>")
    with printer.in_square_brackets():
        printer.print_list(indices, lambda index: _print_index(printer, index))
    print_extents(printer, extents)
    if clip:
        printer.print_string(" clip")


def _print_index(printer: Printer, index: SSAValue) -> None:
    printer.print_ssa_value(index)
    if index.type != INDEX:
        printer.print_string(" : ")
        printer.print_attribute(index.type)


def given_extents(extents: Extents) -> tuple[list[SSAValue | Operation], DenseArrayBase | None]:
    """The extents that are there, and the property that lists their dimensions (None if there are none)."""
    given = [(dim, extent) for dim, extent in enumerate(extents) if extent is not None]
    return [extent for _, extent in given], integers([dim for dim, _ in given]) if given else None


def listed_extents(extents: Sequence[SSAValue], extent_dims: DenseArrayBase | None, rank: int) -> list[SSAValue | None]:
    """The inverse: one entry per dimension of a tile of ``rank`` dimensions."""
    by_dim = dict(zip(integer_list(extent_dims), extents, strict=False))
    return [by_dim.get(dim) for dim in range(rank)]


def check_extents(extents: Sequence[SSAValue], extent_dims: DenseArrayBase | None, dims: Sequence[int]) -> None:
    """Extents are those of some of ``dims``; VerifyException otherwise."""
    verify_extents(extents, integers([]) if extent_dims is None else extent_dims, dims)


def place_properties(
    map: AffineMapAttr | None, extent_dims: DenseArrayBase | None, clip: bool
) -> dict[str, Attribute | None]:
    """The properties of an operation that has a place."""
    return {"map": map, "extent_dims": extent_dims, "clip": UnitAttr() if clip else None}


def verify_place(
    memory: Attribute,
    map: AffineMapAttr | None,
    indices: Sequence[SSAValue],
    extents: Sequence[SSAValue],
    extent_dims: DenseArrayBase | None,
    shape: Sequence[int],
) -> None:
    """A place of ``shape`` in ``memory`` is legal; VerifyException otherwise."""
    if not isinstance(memory, MemRefType | BufferType | SlotType):
        raise VerifyException(f"{memory} is not memory; expects a memref, a buffer or a slot")
    check_extents(extents, extent_dims, range(len(shape)))
    _verify_map(map, indices, shape, memory.get_shape())


def _verify_map(
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
