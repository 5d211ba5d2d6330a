"""Attributes of the mma level: layouts, swizzles and memories.

    #mma.layout<tile(8, 64) register(8:64, 4:16) lane(16:1)>   which register and lane holds which element
    #mma.swizzle<128>                                          bytes of a power-of-two panel are permuted by xor
    #mma.memory<shared>                                        a memory of the machine, by the name in its description

The text of a layout, and what can be asked of one, is that of ``targets/layout.py``.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import ClassVar

from xdsl.ir import Data
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from crosstile.targets.layout import Layout, LayoutError, Mode

SWIZZLES = (32, 64, 128)
"""Panel widths in bytes that a swizzle can permute (PTX ISA, "Swizzling modes" of tensor copies)."""


@irdl_attr_definition
class LayoutAttr(Data[Layout]):
    """``#mma.layout<tile(8, 64) register(8:64, 4:16) lane(16:1)>``: where the elements of a fragment are."""

    name = "mma.layout"
    alias: ClassVar[str] = "layout"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Layout:
        """Parse ``<tile(8, 64) lane(...)>``."""
        with parser.in_angle_brackets():
            position = parser.pos
            parser.parse_keyword("tile", ": a layout begins with the sizes of its tile, as in tile(8, 64)")
            tile = parser.parse_comma_separated_list(parser.Delimiter.PAREN, parser.parse_integer)
            axes: list[tuple[str, tuple[Mode, ...]]] = []
            while (axis := parser.parse_optional_identifier()) is not None:
                modes = parser.parse_comma_separated_list(parser.Delimiter.PAREN, lambda: _parse_mode(parser))
                axes.append((axis, tuple(modes)))
            try:
                return Layout(tuple(tile), tuple(axes))
            except LayoutError as error:
                parser.raise_error(str(error), position, parser.pos)

    def print_parameter(self, printer: Printer) -> None:
        """Print ``<tile(8, 64) lane(...)>``."""
        printer.print_string(f"<{self.data}>")


def _parse_mode(parser: AttrParser) -> Mode:
    size = parser.parse_integer(allow_negative=False, context_msg=" for the size of a mode, as in 8:64")
    parser.parse_punctuation(":", " between size and stride of a mode, as in 8:64")
    return Mode(size, parser.parse_integer(allow_negative=False, context_msg=" for the stride of a mode, as in 8:64"))


@irdl_attr_definition
class SwizzleAttr(Data[int]):
    """``#mma.swizzle<128>``: 16-byte units of each panel ``width`` bytes wide are permuted by the row number (xor)."""

    name = "mma.swizzle"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> int:
        """Parse ``<128>``."""
        with parser.in_angle_brackets():
            return parser.parse_integer(context_msg=" for the width of a swizzled panel in bytes")

    def print_parameter(self, printer: Printer) -> None:
        """Print ``<128>``."""
        printer.print_string(f"<{self.data}>")

    def verify(self) -> None:
        """The width is one that hardware has."""
        if self.data not in SWIZZLES:
            raise VerifyException(f"no swizzle is {self.data} bytes wide; legal are {', '.join(map(str, SWIZZLES))}")


@irdl_attr_definition
class MemoryAttr(Data[str]):
    """``#mma.memory<shared>``: a memory by the name it has in the machine's description."""

    name = "mma.memory"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> str:
        """Parse ``<shared>``."""
        with parser.in_angle_brackets():
            return parser.parse_identifier(" for the name of a memory")

    def print_parameter(self, printer: Printer) -> None:
        """Print ``<shared>``."""
        printer.print_string(f"<{self.data}>")


@lru_cache(maxsize=4096)
def canonical(layout: Layout) -> Layout:
    """The layout as far as it decides where an element is: fewest modes, no copies in further registers.

    A value that several registers would hold needs only one, so register modes of stride 0 are dropped.
    """
    axes = ((axis, tuple(mode for mode in modes if mode.stride or axis != "register")) for axis, modes in layout.axes)
    return _drop_empty(Layout(layout.tile, tuple(axes)).simplify())


def _drop_empty(layout: Layout) -> Layout:
    axes = sorted(((axis, modes) for axis, modes in layout.axes if modes), key=lambda entry: entry[0])
    return Layout(layout.tile, tuple(axes))


@lru_cache(maxsize=4096)
def projected(layout: Layout, shape: tuple[int, ...]) -> Layout:
    """The layout of a fragment of ``shape`` that is a projection of one laid out as ``layout``.

    Each size of ``shape`` is that of the tile, or 1: what a reduction of the other dimensions leaves, and what is
    broadcast along them. Raises :class:`LayoutError` if no strides express it.
    """
    strides = [prod(shape[dim + 1 :]) if shape[dim] > 1 else 0 for dim in range(len(shape))]
    project = Layout(shape, (("place", tuple(Mode(*mode) for mode in zip(layout.tile, strides, strict=True))),))
    return canonical(project.compose(layout))
