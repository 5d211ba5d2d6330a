"""Register tiles: as many vectors of accumulators as a machine's registers hold beside the factors.

Level: nest. Used by the schedules of products and convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.dialects.builtin import FixedBitwidthType
from xdsl.ir import Attribute

from crosstile.targets.model import Machine

ACCUMULATOR_VECTORS = 24
"""Two units of latency four need eight in flight; more of them reuse each row of the panel, which streams from L2."""
MOST_ROWS = 12
"""Rows of a register tile of one vector: more only add broadcasts."""
EFFICIENCY = {4: 1.0, 2: 0.97, 1: 0.85}
"""Rate of a register tile by its vectors: fewer of them need more broadcasts per multiplication."""
REDUCTION_BLOCK_BYTES = 2048
"""Bytes of one row of a block of the reduction: 512 words, so that a packed panel of 64 columns is 128 KB."""


def round_up(size: int, multiple: int) -> int:
    """The least multiple of ``multiple`` that is not below ``size``."""
    return -(-size // multiple) * multiple


def bits(type_: Attribute) -> int:
    """The bits of an element; 64 for an index."""
    return type_.bitwidth if isinstance(type_, FixedBitwidthType) else 64


@dataclass(frozen=True)
class RegisterTile:
    """``rows`` by ``vectors`` vectors of accumulators."""

    rows: int
    vectors: int


def register_tile(machine: Machine, vectors: int) -> RegisterTile:
    """The highest register tile of so many ``vectors``: accumulators, one row of the rhs and a broadcast fit."""
    rows = (machine.vector_registers - 1 - vectors) // vectors
    return RegisterTile(min(rows, ACCUMULATOR_VECTORS // vectors, MOST_ROWS), vectors)


def register_tiles(machine: Machine) -> list[RegisterTile]:
    """The register tiles of ``machine``, widest first."""
    widest = 4 if machine.vector_registers >= 32 else 2
    return [register_tile(machine, vectors) for vectors in (4, 2, 1) if vectors <= widest]
