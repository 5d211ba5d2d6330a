"""Fragments in tile registers (AMX): which places of a tile each register holds, row by row.

A layout with an axis ``row`` is of tile registers; a row has lanes, words of one element or of several neighbours in k.
A factor of 32x32 bf16 and an accumulator of 32x32 f32, 16 rows of 64 bytes to a register::

    lhs  tile(32, 32) row(16:32) lane(16:2) element(2:1) register(2:512)             16x32 places, rows of the tile
    rhs  tile(32, 32) row(16:64) lane(16:1) element(2:32) register(2:16)             32x16 places, pairs of rows each
    acc  tile(32, 32) row(16:32) lane(16:1) register(2:512, 2:16)                    16x16 places
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from math import prod

from crosstile.ir.diagnostics import CrosstileError
from crosstile.lowering.vector_registers import ELEMENT, LANE, REGISTER
from crosstile.targets.layout import Layout

ROW = "row"


def is_in_tiles(layout: Layout) -> bool:
    """Whether a fragment of this layout lives in tile registers."""
    return any(axis == ROW for axis, _ in layout.axes)


@dataclass(frozen=True)
class TileRegisters:
    """The tile registers of a fragment: ``starts`` are the first places of each, ``block`` the places it holds.

    A row of a register is ``columns`` elements: of one row of the tile or, where words hold ``group`` neighbours down
    a column (``down``), of ``group`` rows.
    """

    starts: tuple[tuple[int, int], ...]
    rows: int
    columns: int
    group: int
    down: bool

    @property
    def block(self) -> tuple[int, int]:
        """The rows and columns of the tile that one register holds."""
        return (self.rows * self.group, self.columns // self.group) if self.down else (self.rows, self.columns)

    def holding(self, row: int, column: int) -> int:
        """The register that holds the place at ``row`` and ``column``."""
        height, width = self.block
        return self.starts.index((row - row % height, column - column % width))


@cache
def tile_registers_of(layout: Layout) -> TileRegisters:
    """The tile registers of ``layout``, which has an axis ``row``; a CrosstileError if they hold no such blocks."""
    axes = dict(layout.axes)
    rows, lanes, words = ([mode for mode in axes.get(axis, ()) if mode.size > 1] for axis in (ROW, LANE, ELEMENT))
    registers = [mode for axis in (REGISTER,) for mode in axes.get(axis, ())]
    if len(layout.tile) != 2 or len(rows) != 1 or len(lanes) != 1 or len(words) > 1:
        raise CrosstileError(f"layout {layout} is none of tile registers: each has rows of words")
    group = prod(mode.size for mode in words)
    width = layout.tile[1]
    down = group > 1 and words[0].stride == width and width > 1
    strides = (group * width, 1, width) if down else (width, group, 1)
    found = (rows[0].stride, lanes[0].stride, words[0].stride if words else strides[2])
    if found != strides:
        raise CrosstileError(
            f"layout {layout} is none of tile registers, whose rows are those of the tile, or hold several in words"
        )
    offsets = [sum(digits) for digits in product(*(tuple(i * m.stride for i in range(m.size)) for m in registers))]
    return TileRegisters(
        tuple(divmod(offset, width) for offset in offsets), rows[0].size, lanes[0].size * group, group, down
    )
