"""``tile.window``: which elements of a memref or buffer a block of the program means, before any is read.

The window maps its own coordinates (d0, d1, ...) and SSA indices (s0, s1, ...) to coordinates of the source. The short
form aligns the last dimensions of both: a source of higher rank has a fixed place in its leading dimensions, a source
of lower rank is repeated along the window's leading ones. Anything else is an affine map::

    %w = tile.window %A[%i + %ir, %k] extent [%mc, %kc] : memref<?x?xf32> -> !tile.window<8x512xf32>
    %t = tile.window %A by affine_map<(d0, d1)[s0, s1] -> (s0 + d1, s1 + d0)> [%i, %k]
           : memref<?x?xf32> -> !tile.window<512x8xf32>
    %g = tile.window %A[%rows : !tile.tile<128x1xindex>, %k] : memref<?x?xf32> -> !tile.window<128x64xf32>

An element of the window is *valid* if it lies inside the extents, if with ``clip`` its coordinates lie inside the
source, and if its gather indices are not negative. Invalid elements read as padding and are never written. A valid
element outside the source is an error of the program.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xdsl.dialects.builtin import AffineMapAttr, DenseArrayBase, IndexType, MemRefType, UnitAttr
from xdsl.ir import Attribute, SSAValue
from xdsl.ir.affine import (
    AffineBinaryOpExpr,
    AffineBinaryOpKind,
    AffineConstantExpr,
    AffineDimExpr,
    AffineExpr,
    AffineMap,
    AffineSymExpr,
)
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    irdl_op_definition,
    operand_def,
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
from xdsl.utils.hints import isa

from crosstile.dialects.assembly import (
    join_extents,
    parse_extents,
    print_extents,
    split_extents,
    verify_extents,
    with_result_type,
)
from crosstile.dialects.tile.types import BufferType, TileType, WindowType


@dataclass
class _Coordinate:
    """One entry of the short form: the sum of ``indices`` and ``constant``, or a tile of whole coordinates."""

    indices: list[SSAValue] = field(default_factory=list[SSAValue])
    constant: int = 0

    @property
    def is_gather(self) -> bool:
        return any(isinstance(index.type, TileType) for index in self.indices)


def trailing_map(coordinates: Sequence[tuple[int, int, bool]], rank: int) -> AffineMap:
    """The map of the short form: per dimension of the source (number of indices, constant, whether it is a gather).

    ``rank`` is that of the window, whose last dimension is aligned with the source's last. ``[%i + %ir, 3]`` of rank 1
    is ``(d0)[s0, s1] -> (s0 + s1, d0 + 3)``, and ``[%j]`` of rank 2 is ``(d0, d1)[s0] -> (s0 + d1)``.
    """
    results: list[AffineExpr] = []
    symbol = 0
    for position, (count, constant, is_gather) in enumerate(coordinates):
        terms: list[AffineExpr] = [AffineExpr.symbol(symbol + offset) for offset in range(count)]
        symbol += count
        dim = position - (len(coordinates) - rank)
        if dim >= 0 and not is_gather:
            terms.append(AffineExpr.dimension(dim))
        if constant or not terms:
            terms.append(AffineExpr.constant(constant))
        total = terms[0]
        for term in terms[1:]:
            total = AffineBinaryOpExpr(AffineBinaryOpKind.Add, total, term)
        results.append(total)
    return AffineMap(rank, symbol, tuple(results))


@irdl_op_definition
class WindowOp(IRDLOperation):
    """See the module docstring. ``extent_dims`` are the dimensions of the window that ``extents`` belong to."""

    name = "tile.window"
    source = operand_def(MemRefType | BufferType)
    indices = var_operand_def(IndexType | TileType)
    extents = var_operand_def(IndexType)
    map = prop_def(AffineMapAttr)
    extent_dims = prop_def(DenseArrayBase)
    clip = opt_prop_def(UnitAttr)
    result = result_def(WindowType)
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    traits = traits_def(NoMemoryEffect())

    def __init__(
        self,
        source: SSAValue,
        indices: Sequence[SSAValue],
        shape: Sequence[int],
        extents: Sequence[SSAValue | None] = (),
        map_: AffineMap | None = None,
        clip: bool = False,
    ):
        """``extents`` has one entry per dimension of ``shape``, None for the whole capacity; it may be empty.

        Without ``map_`` there is one index per dimension of the source, and the window is its trailing dimensions.
        """
        assert isa(source.type, MemRefType) or isinstance(source.type, BufferType)
        if map_ is None:
            map_ = trailing_map([(1, 0, isinstance(index.type, TileType)) for index in indices], len(shape))
        present, extent_dims = split_extents(extents, range(len(shape)))
        super().__init__(
            operands=[source, indices, present],
            properties={
                "map": AffineMapAttr(map_),
                "extent_dims": extent_dims,
                "clip": UnitAttr() if clip else None,
            },
            result_types=[WindowType(shape, source.type.get_element_type())],
        )

    @property
    def extents_by_dim(self) -> list[SSAValue | None]:
        """One entry per dimension of the window, None where the whole capacity is used."""
        return join_extents(self.extents, self.extent_dims, range(self.result.type.get_num_dims()))

    def verify_(self) -> None:
        source, window, map_ = self.source.type, self.result.type, self.map.data
        assert isinstance(source, MemRefType | BufferType)
        rank = window.get_num_dims()
        if source.get_element_type() != window.element_type:
            raise VerifyException(f"{window} has other elements than {source}")
        expected = (rank, len(self.indices), source.get_num_dims())
        found = (map_.num_dims, map_.num_symbols, len(map_.results))
        if found != expected:
            raise VerifyException(
                f"its map takes {found[0]} tile coordinates and {found[1]} indices to {found[2]} coordinates; "
                f"this window of {source} needs {expected[0]}, {expected[1]} and {expected[2]}"
            )
        verify_extents(self.extents, self.extent_dims, range(rank))
        for symbol, index in enumerate(self.indices):
            if isinstance(index.type, TileType):
                self._verify_gather(symbol, index.type, window)

    def _verify_gather(self, symbol: int, index: TileType, window: WindowType) -> None:
        sizes, capacity = index.get_shape(), window.get_shape()
        fits = len(sizes) == len(capacity) and all(
            size in (1, full) for size, full in zip(sizes, capacity, strict=False)
        )
        if not isinstance(index.element_type, IndexType) or not fits:
            raise VerifyException(
                f"index {symbol} is a {index}; a tile of indices has index elements and in each dimension the size of "
                f"{window}, or 1"
            )
        for result in self.map.data.results:
            uses = any(isinstance(part, AffineSymExpr) and part.position == symbol for part in result.dfs())
            if uses and not isinstance(result, AffineSymExpr):
                raise VerifyException(
                    f"index {symbol} is a tile of indices, which are whole coordinates, but its map computes {result} "
                    "from it; compute that with 'tile.map' instead"
                )

    # Syntax

    @classmethod
    def parse(cls, parser: Parser) -> WindowOp:
        """Parse either form of the module docstring."""
        source = parser.parse_unresolved_operand()
        map_: AffineMap | None = None
        coordinates: list[_Coordinate] = []
        position = parser.pos
        if parser.parse_optional_keyword("by"):
            attribute = parser.parse_attribute()
            if not isinstance(attribute, AffineMapAttr):
                parser.raise_error(f"expected an affine_map after 'by', found {attribute}", position)
            map_ = attribute.data
            indices = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, lambda: _parse_index_or_tile(parser))
        else:
            coordinates = parser.parse_comma_separated_list(
                parser.Delimiter.SQUARE, lambda: _parse_coordinate(parser), " with one entry per dimension"
            )
            indices = [index for coordinate in coordinates for index in coordinate.indices]
        extents = parse_extents(parser)
        clip = parser.parse_optional_keyword("clip") is not None
        parser.parse_punctuation(":", " before the type of the source")
        source_type = parser.parse_type()
        parser.parse_punctuation("->", " before the type of the window")
        type_position = parser.pos
        result_type = parser.parse_type()
        if not isa(source_type, MemRefType) and not isinstance(source_type, BufferType):
            parser.raise_error(f"a window is of a memref or a !tile.buffer, found {source_type}", type_position)
        if not isinstance(result_type, WindowType):
            parser.raise_error(f"the result is a !tile.window, found {result_type}", type_position)
        shape = result_type.get_shape()
        if extents and len(extents) != len(shape):
            parser.raise_error(f"has {len(extents)} extents for the {len(shape)} dimensions of the window", position)
        if map_ is None:
            if len(coordinates) != source_type.get_num_dims():
                parser.raise_error(
                    f"has {len(coordinates)} coordinates, {source_type} has {source_type.get_num_dims()} dimensions; "
                    "the short form names every dimension of the source, 'by affine_map<...>' says anything else",
                    position,
                )
            entries = [(len(entry.indices), entry.constant, entry.is_gather) for entry in coordinates]
            map_ = trailing_map(entries, len(shape))
        op = cls(parser.resolve_operand(source, source_type), indices, shape, extents, map_, clip)
        return with_result_type(parser, op, result_type)

    def print(self, printer: Printer) -> None:
        """Print the short form if the map has that shape, else the map."""
        printer.print_string(" ")
        printer.print_operand(self.source)
        coordinates = self._short_form()
        if coordinates is None:
            printer.print_string(" by ")
            printer.print_attribute(self.map)
            printer.print_string(" [")
            printer.print_list(self.indices, lambda index: _print_index(printer, index))
        else:
            printer.print_string("[")
            printer.print_list(coordinates, lambda coordinate: _print_coordinate(printer, coordinate))
        printer.print_string("]")
        print_extents(printer, self.extents_by_dim)
        printer.print_string(" clip : " if self.clip is not None else " : ")
        printer.print_attribute(self.source.type)
        printer.print_string(" -> ")
        printer.print_attribute(self.result.type)
        printer.print_op_attributes(self.attributes)

    def _short_form(self) -> list[_Coordinate] | None:
        if self.map.data.num_dims > len(self.map.data.results):
            return None
        coordinates: list[_Coordinate] = []
        for result in self.map.data.results:
            coordinate = _Coordinate()
            for term in _summands(result):
                match term:
                    case AffineSymExpr():
                        coordinate.indices.append(self.indices[term.position])
                    case AffineConstantExpr():
                        coordinate.constant += term.value
                    case AffineDimExpr():
                        pass
                    case _:
                        return None
            coordinates.append(coordinate)
        entries = [(len(entry.indices), entry.constant, entry.is_gather) for entry in coordinates]
        if any(entry.is_gather and (len(entry.indices) > 1 or entry.constant) for entry in coordinates):
            return None
        same = trailing_map(entries, self.result.type.get_num_dims()) == self.map.data
        return coordinates if same else None


def _summands(expression: AffineExpr) -> list[AffineExpr]:
    if isinstance(expression, AffineBinaryOpExpr) and expression.kind is AffineBinaryOpKind.Add:
        return _summands(expression.lhs) + _summands(expression.rhs)
    return [expression]


def _parse_index_or_tile(parser: Parser) -> SSAValue:
    operand = parser.parse_unresolved_operand()
    type_: Attribute = parser.parse_type() if parser.parse_optional_punctuation(":") else IndexType()
    return parser.resolve_operand(operand, type_)


def _parse_coordinate(parser: Parser) -> _Coordinate:
    coordinate = _Coordinate()
    position = parser.pos
    while True:
        constant = parser.parse_optional_integer(allow_boolean=False)
        if constant is not None:
            coordinate.constant += constant
        else:
            coordinate.indices.append(_parse_index_or_tile(parser))
        if not parser.parse_optional_punctuation("+"):
            break
    if coordinate.is_gather and (len(coordinate.indices) > 1 or coordinate.constant):
        parser.raise_error(
            "a tile of indices is a whole coordinate and stands alone; add to it with 'tile.map'", position
        )
    return coordinate


def _print_index(printer: Printer, index: SSAValue) -> None:
    printer.print_operand(index)
    if isinstance(index.type, TileType):
        printer.print_string(" : ")
        printer.print_attribute(index.type)


def _print_coordinate(printer: Printer, coordinate: _Coordinate) -> None:
    for position, index in enumerate(coordinate.indices):
        printer.print_string(" + " if position else "")
        _print_index(printer, index)
    if coordinate.constant or not coordinate.indices:
        printer.print_string(f"{' + ' if coordinate.indices else ''}{coordinate.constant}")
