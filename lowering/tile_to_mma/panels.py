"""How a staged buffer is laid out, and how far it must be filled: both follow from the contractions that read it.

A right factor [k, n] that is read in register tiles of 64 columns is stored as panels of 64 columns, each with its rows
one after the other, so that the loop over k walks through memory; a left factor [m, k] as panels of rows likewise::

    !mma.buffer<512x4096xf32, affine_map<(d0, d1) -> (d1 floordiv 64, d0, d1 mod 64)>>

For an instruction that takes words of G neighbours in k these stand together, and what k lacks to whole words is zero::

    !mma.buffer<512x4096xbf16, affine_map<(d0, d1) -> (d1 floordiv 64, d0 floordiv 2, d1 mod 64, d0 mod 2)>>

The left one has panels of as many rows as registers have lanes, if whole register tiles of fewer rows fill them: then
what stands beside each other in memory is moved by whole registers::

    !mma.buffer<128x64xbf16, affine_map<(d0, d1) -> (d0 floordiv 64, d1 floordiv 2, d0 mod 64, d1 mod 2)>>

A left factor for tile registers has whole rows of a register for words. A right one that is read in several of them
side by side has each of these apart, so that all rows of a register follow each other::

    !mma.buffer<32x512xbf16, affine_map<(d0, d1) -> (d0 floordiv 32, d1 floordiv 32, d0 mod 32, d1 mod 32)>>
    !mma.buffer<512x1024xbf16, affine_map<(d0, d1) -> (d1 floordiv 16, d0 floordiv 2, d1 mod 16, d0 mod 2)>>
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from xdsl.ir import Block, SSAValue
from xdsl.ir.affine import AffineConstantExpr, AffineExpr, AffineMap, AffineSymExpr

from crosstile.dialects import tile
from crosstile.dialects.tile.types import capacity_type
from crosstile.ir.diagnostics import CrosstileError
from crosstile.lowering.affine_steps import coefficient
from crosstile.lowering.divisibility import constant_value, known_multiple
from crosstile.lowering.tile_to_mma.intrinsic import choose_intrinsic, neighbours
from crosstile.lowering.tile_to_mma.register_tiles import register_tile
from crosstile.lowering.tile_to_mma.state import TileLowering
from crosstile.lowering.tile_to_mma.uses import Reader, contracts_of, is_unused_beyond, same_index
from crosstile.targets.model import MmaIntrinsic

PANEL_VECTORS = (4, 2, 1)
"""Registers of rows of words in a panel of a left factor. Attention of bf16, whose values are packed so, heads of 64 on
Zen 5: with four in a panel 388 GFLOP/s, with one 381, with the rows of a register tile 5 % less."""


def round_up(size: int, multiple: int) -> int:
    """The least multiple of ``multiple`` that is not below ``size``."""
    return -(-size // multiple) * multiple


@dataclass(frozen=True)
class Panels:
    """How a buffer is cut: dimension ``dim`` into panels of ``width``, the other, k, into words of ``group``.

    What k lacks to a multiple of ``depth``, the steps of the instruction, is zero. Of a panel only ``beside`` elements
    stand beside each other, where that is given, and the next as many behind all of k.
    """

    dim: int
    width: int
    group: int = 1
    depth: int = 1
    beside: int | None = None

    def map(self) -> AffineMap:
        """From coordinates of the buffer to (panel, the other dimension, place in the panel), or, with words, to
        (panel, word, place in the panel, place in the word)."""
        cut, other = AffineExpr.dimension(self.dim), AffineExpr.dimension(1 - self.dim)
        width = self.beside or self.width
        if self.group == 1:
            return AffineMap(2, 0, (cut // width, other, cut % width))
        return AffineMap(2, 0, (cut // width, other // self.group, cut % width, other % self.group))

    def is_row_major(self, shape: Sequence[int]) -> bool:
        """Whether a buffer of ``shape`` cut like this is as it would be uncut: a single panel of columns."""
        return self.dim == 1 and self.width == shape[1] and self.group == 1


def choose_panels(buffer: SSAValue, lowering: TileLowering) -> Panels | None:
    """The panels in which the contractions that read a buffer walk through it; None if they do not agree."""
    shape = capacity_type(buffer).get_shape()
    readers = contracts_of(buffer)
    if not readers or len(shape) != 2:
        return None
    found: list[tuple[Panels, bool]] = []
    for contract, is_rhs, _ in readers:
        panels = _register_tile(contract, is_rhs, lowering)
        found.append((panels, capacity_type(contract.accumulator).get_shape()[panels.dim] == panels.width))
    widest = max((panels for panels, _ in found), key=lambda panels: panels.width)
    # A single register tile that is narrower reads the beginning of a panel.
    agreed = all(
        panels == widest or (is_single and replace(panels, width=widest.width) == widest) for panels, is_single in found
    )
    chosen = _in_whole_registers(widest, shape, lowering)
    kept = all(window is None or _keeps_to_panels(window, chosen) for _, _, window in readers)
    return None if not agreed or not kept or shape[chosen.dim] % chosen.width or chosen.width == 1 else chosen


def _in_whole_registers(panels: Panels, shape: Sequence[int], lowering: TileLowering) -> Panels:
    """Panels of rows of words as wide as a few registers have lanes, if they are to be narrower: words are interleaved,
    or transposed, by whole registers, and a register tile may read a part of a panel's rows."""
    lanes = lowering.lanes
    if panels.dim == 1 or not 1 < panels.group < lanes or not 1 < panels.width < lanes or lanes % panels.width:
        return panels
    widths = [vectors * lanes for vectors in PANEL_VECTORS if shape[0] % (vectors * lanes) == 0]
    return replace(panels, width=widths[0]) if widths else panels


def computed_panels(buffer: SSAValue, lowering: TileLowering) -> Panels | None:
    """The panels of scratch that tiles are stored to one by one, as a right factor; None if it lies row by row."""
    if not isinstance(buffer.owner, tile.AllocOp):
        return None
    panels = choose_panels(buffer, lowering)
    return None if panels is None or panels.dim == 0 or panels.beside is not None else panels


def panels_of(row: MmaIntrinsic, is_rhs: bool, width: int) -> Panels:
    """The panels of a factor of the instruction ``row`` that is read in register tiles of ``width``."""
    beside = row.n if is_rhs and row.in_tiles else None
    return Panels(1 if is_rhs else 0, width, neighbours(row, is_rhs), row.k, beside)


@dataclass(frozen=True)
class Words:
    """How a tile in scratch lies in panels of words, zero beyond the extent, as far as the instruction reaches."""

    panels: Panels
    extent: SSAValue | None


def home_words(value: SSAValue, lowering: TileLowering) -> Words | None:
    """The words in which a tile in scratch is to lie: those of the contraction that has it as its right factor, if its
    instruction takes words; None if it lies row by row."""
    if not lowering.in_scratch(value):
        return None
    contracts = [use.operation for use in value.uses if isinstance(use.operation, tile.ContractOp) and use.index == 1]
    if len(contracts) != 1:
        return None
    (contract,) = contracts
    panels = _register_tile(contract, True, lowering)
    rows, columns = capacity_type(value).get_shape()
    if panels.group == 1 or rows % panels.depth or columns % panels.width:
        return None
    return Words(panels, contract.extent)


def _register_tile(contract: tile.ContractOp, is_rhs: bool, lowering: TileLowering) -> Panels:
    """The panels that the register tile of ``contract`` walks through."""
    try:
        row = choose_intrinsic(contract, lowering)
    except CrosstileError:
        # Refused when the contraction itself is lowered, where the error belongs.
        m, n = capacity_type(contract.accumulator).get_shape()
        return Panels(1, n) if is_rhs else Panels(0, m)
    m, n = register_tile(contract, row, lowering)
    return panels_of(row, is_rhs, n if is_rhs else m)


def _keeps_to_panels(window: tile.WindowOp, panels: Panels) -> bool:
    """Whether a window of a buffer begins at the beginning of a panel and lies in it row by row."""
    results = window.map.data.results
    if any(coefficient(results[dim], other) != (dim == other) for dim in range(2) for other in range(2)):
        return False
    indices, constant = coordinate_parts(window, panels.dim)
    return constant % panels.width == 0 and all(known_multiple(index) % panels.width == 0 for index in indices)


def coordinate_parts(window: tile.WindowOp, dim: int) -> tuple[list[SSAValue], int]:
    """The indices in one coordinate of a window, and the sum of its constants."""
    parts = list(window.map.data.results[dim].dfs())
    indices = [window.indices[part.position] for part in parts if isinstance(part, AffineSymExpr)]
    return indices, sum(part.value for part in parts if isinstance(part, AffineConstantExpr))


def is_read_beyond(stage: tile.StageOp, dim: int, extent: SSAValue) -> bool:
    """Whether a result may depend on elements of the staged buffer beyond ``extent`` in dimension ``dim``."""
    readers = contracts_of(stage.result)
    return readers is None or any(_reads_beyond(reader, dim, extent) for reader in readers)


def _reads_beyond(reader: Reader, dim: int, extent: SSAValue) -> bool:
    contract, is_rhs, window = reader
    is_k = dim == (0 if is_rhs else 1)
    indices, constant = ([], 0) if window is None else coordinate_parts(window, dim)
    if is_k:
        at_zero = constant == 0 and all(constant_value(index) == 0 for index in indices)
        return not at_zero or not same_index(contract.extent, extent)
    if window is None:
        return not is_unused_beyond(contract.result, 1 if is_rhs else 0, extent)
    # Rows or columns: panels are filled to their end, so it is enough that the panel begins below the extent.
    return constant != 0 or len(indices) != 1 or not _runs_to(indices[0], extent)


def _runs_to(index: SSAValue, extent: SSAValue) -> bool:
    """Whether ``index`` is that of a loop whose blocks begin below ``extent``."""
    loop = index.owner.parent_op() if isinstance(index.owner, Block) else None
    return isinstance(loop, tile.ForOp) and loop.body.block.args[0] is index and same_index(loop.upper_bound, extent)
