"""Reading, writing and staging windows.

%c = tile.load %w if %later else 0.0 : !tile.window<8x32xf32> -> !tile.tile<8x32xf32>
%b = tile.stage %p : !tile.window<512x4096xf32> -> !tile.buffer<512x4096xf32>
tile.store %r, %w : !tile.tile<8x32xf32>, !tile.window<8x32xf32>
"""

from __future__ import annotations

from xdsl.dialects.builtin import AnyFloat, FloatAttr, IntegerAttr, i1
from xdsl.ir import Attribute, SSAValue
from xdsl.ir.affine import AffineDimExpr
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    result_def,
    traits_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import MemoryAllocEffect, MemoryReadEffect, MemoryWriteEffect
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.assembly import (
    LiteralAttr,
    parse_attributes,
    parse_nontemporal,
    parse_optional_literal,
    parse_result_type,
    parse_typed,
    print_literal,
    print_nontemporal,
    print_types,
    typed_literal,
    verify_literal,
    with_result_type,
)
from crosstile.dialects.tile.types import BufferType, CapacityType, TileType, WindowType, capacity_type, element_type
from crosstile.dialects.tile.window import WindowOp


def _verify_same_shape(source: Attribute, result: Attribute) -> None:
    assert isinstance(source, CapacityType) and isinstance(result, CapacityType)
    if (source.get_shape(), source.element_type) != (result.get_shape(), result.element_type):
        raise VerifyException(f"{source} and {result} must have the same capacity and element type")


def _is_widened(source: WindowType, result: BufferType) -> bool:
    """Whether ``result`` holds floats of a wider type than the window it is filled from."""
    narrow, wide = source.element_type, result.element_type
    if not isinstance(narrow, AnyFloat) or not isinstance(wide, AnyFloat):
        return False
    return source.get_shape() == result.get_shape() and narrow.bitwidth < wide.bitwidth


@irdl_op_definition
class AllocOp(IRDLOperation):
    """Scratch that the enclosing body writes and reads through windows: ``%row = tile.alloc : buffer``.

    Each instance and each trip has its own; what has not been written must not be read.
    """

    name = "tile.alloc"
    result = result_def(BufferType)
    traits = traits_def(MemoryAllocEffect())
    assembly_format = "attr-dict `:` type($result)"

    def __init__(self, result_type: BufferType):
        super().__init__(result_types=[result_type])


@irdl_op_definition
class LoadOp(IRDLOperation):
    """Read a window: ``%t = tile.load %w if %later else 0.0 pad -inf : window -> tile``.

    Invalid elements read ``pad`` (0 if it is not given). If there is a condition and it is false, nothing is read and
    every element is ``otherwise``.
    """

    name = "tile.load"
    window = operand_def(WindowType)
    condition = opt_operand_def(i1)
    otherwise = opt_prop_def(FloatAttr | IntegerAttr)
    pad = opt_prop_def(FloatAttr | IntegerAttr)
    result = result_def(TileType)
    traits = traits_def(MemoryReadEffect())

    def __init__(
        self,
        window: SSAValue,
        condition: SSAValue | None = None,
        otherwise: LiteralAttr | None = None,
        pad: LiteralAttr | None = None,
    ):
        assert isinstance(window.type, WindowType)
        super().__init__(
            operands=[window, condition],
            properties={"otherwise": otherwise, "pad": pad},
            result_types=[TileType(window.type.shape, window.type.element_type)],
        )

    def verify_(self) -> None:
        _verify_same_shape(self.window.type, self.result.type)
        verify_literal(self.otherwise, self.result.type.element_type, "else")
        verify_literal(self.pad, self.result.type.element_type, "pad")
        if (self.condition is None) != (self.otherwise is None):
            raise VerifyException("a condition and the value to load otherwise come together: 'if %condition else 0.0'")

    @classmethod
    def parse(cls, parser: Parser) -> LoadOp:
        """Parse the form of the class docstring."""
        window = parser.parse_unresolved_operand()
        condition = otherwise = None
        if parser.parse_optional_keyword("if"):
            condition = parser.resolve_operand(parser.parse_unresolved_operand(), i1)
            otherwise = parse_optional_literal(parser, "else")
        pad = parse_optional_literal(parser, "pad")
        (value,) = parse_typed(parser, [window], WindowType)
        result_type = parse_result_type(parser)
        element = element_type(value)
        op = cls(value, condition, typed_literal(otherwise, parser, element), typed_literal(pad, parser, element))
        return with_result_type(parser, op, result_type)

    def print(self, printer: Printer) -> None:
        """Print the form of the class docstring."""
        printer.print_string(" ")
        printer.print_operand(self.window)
        if self.condition is not None:
            printer.print_string(" if ")
            printer.print_operand(self.condition)
        print_literal(printer, "else", self.otherwise)
        print_literal(printer, "pad", self.pad)
        print_types(printer, [self.window], [self.result])
        printer.print_op_attributes(self.attributes)


@irdl_op_definition
class StoreOp(IRDLOperation):
    """Write the valid elements of a window: ``tile.store %t, %w : tile, window``; other memory is not touched.

    ``tile.store %t, %w nontemporal if %large`` asks to write past the caches where the condition holds: for results
    that the caches could not keep until they are read. It changes no value.
    """

    name = "tile.store"
    value = operand_def(TileType)
    window = operand_def(WindowType)
    nontemporal = opt_operand_def(i1)
    traits = traits_def(MemoryWriteEffect())

    def __init__(self, value: SSAValue, window: SSAValue, nontemporal: SSAValue | None = None):
        super().__init__(operands=[value, window, nontemporal])

    def verify_(self) -> None:
        _verify_same_shape(self.value.type, self.window.type)
        window = self.window.owner
        if not isinstance(window, WindowOp):
            return
        if isinstance(window.source.type, BufferType) and not isinstance(window.source.owner, AllocOp):
            raise VerifyException(f"writes a window of {window.source.type}; a staged buffer is read-only")
        used = {
            expr.position
            for result in window.map.data.results
            for expr in result.dfs()
            if isinstance(expr, AffineDimExpr)
        }
        for index in window.indices:
            if isinstance(index.type, TileType):
                used |= {dim for dim, size in enumerate(index.type.get_shape()) if size > 1}
        for dim, size in enumerate(capacity_type(self.value).get_shape()):
            if dim not in used and size > 1:
                raise VerifyException(
                    f"dimension {dim} of the window does not move it, so {size} elements would be written to one place"
                )

    @classmethod
    def parse(cls, parser: Parser) -> StoreOp:
        """Parse the form of the class docstring."""
        value = parser.parse_unresolved_operand()
        parser.parse_punctuation(",")
        window = parser.parse_unresolved_operand()
        nontemporal = parse_nontemporal(parser)
        resolved = parse_typed(parser, [value, window], TileType, WindowType)
        op = cls(resolved[0], resolved[1], nontemporal)
        parse_attributes(parser, op)
        return op

    def print(self, printer: Printer) -> None:
        """Print the form of the class docstring."""
        printer.print_string(" ")
        printer.print_list([self.value, self.window], printer.print_operand)
        print_nontemporal(printer, self.nontemporal)
        print_types(printer, [self.value, self.window])
        printer.print_op_attributes(self.attributes)


@irdl_op_definition
class StageOp(IRDLOperation):
    """Put a window, or a tile computed on the way, into scratch: ``%b = tile.stage %w pad 0.0 : window -> buffer``.

    A buffer of floats may be of a wider type than the window: its elements are widened on the way, which is exact.
    The buffer is read-only, lives for the enclosing body, and holds ``pad`` (0 if it is not given) where the window is
    invalid. It may be windowed again or given to a contract. Packing on a CPU, shared memory on a GPU.
    """

    name = "tile.stage"
    source = operand_def(WindowType | TileType)
    pad = opt_prop_def(FloatAttr | IntegerAttr)
    result = result_def(BufferType)
    traits = traits_def(MemoryReadEffect(), MemoryAllocEffect())

    def __init__(self, source: SSAValue, pad: LiteralAttr | None = None, element: Attribute | None = None):
        assert isinstance(source.type, WindowType | TileType)
        super().__init__(
            operands=[source],
            properties={"pad": pad},
            result_types=[BufferType(source.type.shape, element or source.type.element_type)],
        )

    def verify_(self) -> None:
        if not isinstance(self.source.type, WindowType) or not _is_widened(self.source.type, self.result.type):
            _verify_same_shape(self.source.type, self.result.type)
        verify_literal(self.pad, element_type(self.source), "pad")
        if self.pad is not None and isinstance(self.source.type, TileType):
            raise VerifyException("pads a tile, which has no invalid elements; use 'tile.mask' before it")

    @classmethod
    def parse(cls, parser: Parser) -> StageOp:
        """Parse the form of the class docstring."""
        source = parser.parse_unresolved_operand()
        pad = parse_optional_literal(parser, "pad")
        (value,) = parse_typed(parser, [source], (WindowType, TileType))
        result_type = parse_result_type(parser)
        return with_result_type(parser, cls(value, typed_literal(pad, parser, element_type(value))), result_type)

    def print(self, printer: Printer) -> None:
        """Print the form of the class docstring."""
        printer.print_string(" ")
        printer.print_operand(self.source)
        print_literal(printer, "pad", self.pad)
        print_types(printer, [self.source], [self.result])
        printer.print_op_attributes(self.attributes)
