"""The window that a product fetches ahead: some of its cache lines in each step of k, so that all have come at the end.

    %s = tile.contract %q, %k, %zero ahead %v : ...        S = 64x128 by 128x48 in 8 register tiles, V is 64x128
    ==>
    scf.for %i = 0 to 64 step 8 { ... scf.for %k = 0 to 128 ... {
        memref.prefetch %V[%n + %i, 8 * %k], read, locality<3>, data         8192 elements in 8 * 128 steps
        ...

A single register tile fetches, in each step of k, what stands in that row of a window, wherever in memory it is. Here
lines of two places, 16 rows of a packed panel apart::

    %v = tile.window %B by affine_map<(d0, d1)[s0, s1] -> (s0 + d0 floordiv 4 + d1 * 16, s1 + (d0 mod 4) * 16)> [...]
    %s = tile.contract %a, %b, %c ahead %v : ...                          4x64 by 64x64, V is 64x2
    ==>
    scf.for %k = 0 to 64 {
        memref.prefetch %B[%k0 + %k floordiv 4, %n + %k mod 4 * 16], ...
        memref.prefetch %B[%k0 + %k floordiv 4 + 16, %n + %k mod 4 * 16], ...

A burst of prefetches would wait for the few lines that a core fetches at a time; spread, they come for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.dialects.builtin import MemRefType
from xdsl.ir import SSAValue
from xdsl.ir.affine import AffineDimExpr
from xdsl.utils.hints import isa

from crosstile.dialects import tile
from crosstile.dialects.memref import PrefetchOp
from crosstile.dialects.tile.types import capacity_type
from crosstile.ir.index_math import Index
from crosstile.lowering.affine_steps import coefficient
from crosstile.lowering.linear_index import Linear
from crosstile.lowering.llvm_types import element_bytes
from crosstile.lowering.tile_to_mma.places import Place, place_of_window, window_of
from crosstile.lowering.tile_to_mma.state import TileLowering

LINE = 64
"""Bytes of a cache line."""


@dataclass(frozen=True)
class Fetching:
    """The window that a product in register tiles of ``rows`` fetches, ``share`` elements in each of ``steps`` of k."""

    place: Place
    rows: int
    steps: int
    share: int

    @staticmethod
    def of(op: tile.ContractOp, rows: int, columns: int, lowering: TileLowering) -> Fetching | None:
        """What ``op`` fetches, if it goes through its rows one register tile of ``rows`` by ``columns`` after another.

        None as well for a window that is no block of whole rows of its memory one after the other.
        """
        if op.ahead is None:
            return None
        shape, (_, steps) = capacity_type(op.accumulator).get_shape(), capacity_type(op.lhs).get_shape()
        place = place_of_window(window_of(op.ahead, lowering), lowering)
        if columns != shape[1] or not _is_contiguous(place):
            return None
        share = -(-place.shape[0] * place.shape[1] // (shape[0] // rows * steps))
        return Fetching(place, rows, steps, share)

    def fetch(self, lowering: TileLowering, row: Index, k: Linear, count: int) -> None:
        """What is due in the ``count`` steps from ``k`` on, of the register tile that begins at ``row``."""
        done = lowering.linear.of_new(row, self.rows).scale(self.steps * self.share)
        tiles = Linear(
            done.constant // self.rows,
            tuple(term._replace(factor=term.factor // self.rows) for term in done.terms),
        )
        if done.constant % self.rows or any(term.factor % self.rows for term in done.terms):
            return
        type_ = self.place.source.type
        assert isa(type_, MemRefType)
        line = LINE // element_bytes(type_.element_type)
        for part in range(0, count * self.share, line):
            at = tiles + k.scale(self.share) + part
            indices, _ = self.place.part(lowering, (1, 1), {1: at}).operands(lowering)
            lowering.insert(PrefetchOp(self.place.source, indices[: type_.get_num_dims()]))


@dataclass(frozen=True)
class RowFetching:
    """The window of which a product in one register tile fetches one row in each step of k: the lines in it."""

    place: Place

    @staticmethod
    def of(op: tile.ContractOp, lowering: TileLowering) -> RowFetching | None:
        """What ``op``, a single register tile, fetches: a window of memory that has a row for every step of k."""
        if op.ahead is None:
            return None
        place = place_of_window(window_of(op.ahead, lowering), lowering)
        _, steps = capacity_type(op.lhs).get_shape()
        return RowFetching(place) if isa(place.source.type, MemRefType) and place.shape[0] == steps else None

    def fetch(self, lowering: TileLowering, k: Linear, count: int) -> None:
        """The rows that are due in the ``count`` steps from ``k`` on."""
        type_ = self.place.source.type
        assert isa(type_, MemRefType)
        adjacent = coefficient(self.place.map.results[-1], 1) == 1
        apart = LINE // element_bytes(type_.element_type) if adjacent else 1
        for step in range(count):
            for column in range(0, self.place.shape[1], apart):
                indices, _ = self.place.part(lowering, (1, 1), {0: k + step, 1: column}).operands(lowering)
                lowering.insert(PrefetchOp(self.place.source, indices[: type_.get_num_dims()]))


def _is_contiguous(place: Place) -> bool:
    """Whether rows of the window follow each other in memory without a gap."""
    type_ = place.source.type
    if not isa(type_, MemRefType) or any(isinstance(symbol, SSAValue) for symbol in place.symbols):
        return False
    dims = [{part.position for part in result.dfs() if isinstance(part, AffineDimExpr)} for result in place.map.results]
    return dims[-2:] == [{0}, {1}] and not any(dims[:-2]) and type_.get_shape()[-1] == place.shape[1]
