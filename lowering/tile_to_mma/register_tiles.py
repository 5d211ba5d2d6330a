"""How large the parts are in which a tile in scratch goes through the registers.

A product takes the register tile that loads least: of 64x48 on 32 registers of 16 lanes 8x48, which makes 24
multiply-adds of 3 + 8 loads; of 64x64 on eight tile registers of 16x16 32x32. A sweep takes as many rows as a quarter
of the registers holds, enough that rows overlap and the rest is left for what is computed on the way.
"""

from __future__ import annotations

from crosstile.dialects import tile
from crosstile.dialects.tile.types import capacity_type
from crosstile.lowering.tile_to_mma.state import TileLowering
from crosstile.lowering.tile_to_mma.steps import Group
from crosstile.lowering.vector_registers import registers_needed, tile_registers_needed
from crosstile.targets.model import MmaIntrinsic

SWEPT_PART = 4
"""A sub-tile of a sweep takes this part of the registers."""


def register_tile(op: tile.ContractOp, row: MmaIntrinsic, lowering: TileLowering) -> tuple[int, int]:
    """The rows and columns of ``op`` that are computed at once: all of a tile in registers, parts of one in scratch."""
    m, n = capacity_type(op.accumulator).get_shape()
    if not lowering.in_scratch(op.accumulator) or n % row.n or m % row.m:
        return m, n
    machine = lowering.machine
    legal = [
        (rows, columns)
        for columns in _divisors(n // row.n, row.n)
        for rows in _divisors(m // row.m, row.m)
        if (
            tile_registers_needed(rows // row.m, columns // row.n) <= machine.tile_registers
            if row.in_tiles
            else registers_needed(rows, columns // row.n) <= machine.vector_registers
        )
    ]
    # Of equal ones the wider: it walks through longer lines of memory.
    return max(legal, key=lambda tile: (_products_per_load(tile[0] // row.m, tile[1] // row.n), tile[1]))


def _products_per_load(rows: int, vectors: int) -> float:
    return rows * vectors / (rows + vectors)


def sweep_tile(group: Group, lowering: TileLowering) -> tuple[int, int]:
    """The rows and columns of one part of a sweep. Raises CrosstileError if a row that is reduced does not fit."""
    lanes = lowering.lanes
    if group.is_transposed and group.rows % lanes == 0 and group.columns % lanes == 0:
        return lanes, lanes  # the blocks that are transposed in registers
    vectors, most = max(group.columns // lanes, 1), max(lowering.machine.vector_registers // SWEPT_PART, 1)
    if vectors <= most:
        return max(rows for rows in _divisors(group.rows) if rows * vectors <= most), group.columns
    reduction = next((op for op in group.ops if isinstance(op, tile.ReduceOp)), None)
    if reduction is not None:
        limit = lowering.machine.vector_registers * lanes
        if group.columns > limit:
            with lowering.about(reduction):
                raise lowering.error(
                    f"reduces rows of {group.columns} elements; the registers of {lowering.machine.name} hold "
                    f"{limit}: reduce blocks of at most {limit} columns into a tile"
                )
        return 1, group.columns
    return 1, max(columns for columns in _divisors(vectors, lanes) if columns <= most * lanes)


def _divisors(number: int, unit: int = 1) -> list[int]:
    """The divisors of ``number``, each times ``unit``."""
    return [unit * size for size in range(1, number + 1) if number % size == 0]
