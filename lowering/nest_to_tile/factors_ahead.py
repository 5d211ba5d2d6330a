"""What a product fetches ahead of its right factor: lines of memory that the blocks after this one read.

Of a right factor that is read where it lies, with ``prefetch = 768``, a row of the columns 768 bytes further on in each
step of k::

    %v = tile.window %B[%k, %n + 192] : memref<?x?xf32> -> 32x48
    %d = tile.contract (window of A), (window of B), %c unroll 1 ahead %v

Its rows are far apart, so that nothing else fetches more than the lines that lie right behind those just read. One
that is packed lies as a stream, of which lines of two places are fetched; see ``tile_to_mma/fetching.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xdsl.ir import BlockArgument, SSAValue
from xdsl.ir.affine import AffineExpr, AffineMap

from crosstile.dialects import tile
from crosstile.dialects.nest.analysis import element_type
from crosstile.dialects.nest.axes import Axis, AxisOrUnit, AxisSum
from crosstile.dialects.nest.contraction_roles import ContractionRoles
from crosstile.dialects.nest.schedule import Schedule
from crosstile.dialects.packing import packed_layout
from crosstile.ir.index_math import Index
from crosstile.lowering.llvm_types import element_bytes
from crosstile.lowering.nest_to_tile.caches import LINE
from crosstile.lowering.nest_to_tile.kernel_builder import KernelBuilder
from crosstile.lowering.nest_to_tile.places import Place

STREAMS = 2
"""Places from which lines of the next block are fetched side by side. Measured on 16x4096x11008: 12.4 GB/s; with one,
9.5, as much as with none."""


@dataclass(frozen=True)
class FactorAhead:
    """The right factor of a register tile's product at ``place``; ``capacity`` says how much of an axis a tile has."""

    builder: KernelBuilder
    roles: ContractionRoles
    schedule: Schedule
    place: Place
    capacity: Callable[[Axis], int]

    def window(self) -> SSAValue | None:
        """What is fetched meanwhile, a row for each step of k; None where the schedule has nothing fetched ahead."""
        rhs = self.roles.nest.inputs[self.roles.rhs]
        if self.schedule.prefetch is None or self.roles.rhs in self.schedule.stage:
            return None
        if packed_layout(rhs.type) is not None:
            return self._packed(rhs, self.schedule.prefetch)
        return self._in_place(rhs, self.schedule.prefetch)

    def _in_place(self, rhs: SSAValue, distance: int) -> SSAValue | None:
        """The same rows ``distance`` bytes further on; None where columns are not adjacent in memory."""
        k, n, along = self.roles.k, self.roles.n, self._along
        if not isinstance(rhs, BlockArgument) or along[-1] != n or n in along[:-1]:
            return None
        further = AxisSum(((n, 1),), distance // element_bytes(element_type(rhs)))
        shape = self.capacity(k), self.capacity(n)
        source = self.builder.memory[rhs]
        return self.builder.window(self.place, source, (*along[:-1], further), shape, {k: 0, n: 1}.get)

    def _packed(self, rhs: SSAValue, most: int) -> SSAValue | None:
        """Lines of a panel's next block of k: in every step of k one from each of two places.

        A panel's block has as many places, one behind the other, as its rows have lines, and tiles of rows take turns.
        Two places are two streams of memory. None where a block has more than ``most`` bytes.
        """
        m, n, k, along = self.roles.m, self.roles.n, self.roles.k, self._along
        if m is None or {*along} != {k, n}:
            return None
        steps, columns, rows = (self.capacity(axis) for axis in (k, n, m))
        width = element_bytes(element_type(rhs))
        line, lines = LINE // width, columns * width // LINE
        if lines < STREAMS or steps % lines or steps * columns * width > most:
            return None
        index, spans = self.builder.index, self.place.spans
        apart = steps // lines
        turn = index.floor_div(index.remainder(spans[m].starts[-1], rows * (lines // STREAMS)), rows)
        starts: dict[AxisOrUnit, Index] = {
            k: index.sum([*spans[k].starts, spans[k].extent, index.mul(turn, apart * STREAMS)]),
            n: index.sum(spans[n].starts),
        }
        step, stream, *symbols = AffineExpr.dimension(0), AffineExpr.dimension(1), *map(AffineExpr.symbol, range(2))
        moves: dict[AxisOrUnit, AffineExpr] = {k: step // lines + stream * apart, n: (step % lines) * line}
        by = AffineMap(2, 2, tuple(symbol + moves[axis] for symbol, axis in zip(symbols, along, strict=True)))
        indices = index.values([starts[axis] for axis in along])
        window = tile.WindowOp(self.builder.memory[rhs], indices, (steps, STREAMS), map_=by)
        return self.builder.lowering.insert(window).result

    @property
    def _along(self) -> tuple[AxisOrUnit, ...]:
        return self.builder.axes.of_operand(self.roles.nest, self.roles.rhs)
