"""What a swept kernel tells the caches: fetch what is read next, keep out what is not read again.

A row is read from memory, worked on in the nearest cache, and written; done one after the other, memory waits while the
core computes. So each block of a row also asks for the place one row further on, in the last sweep that reads it::

    %next = arith.addi %n, %row                                    min(max(row, distance / 4), distance) elements on
    memref.prefetch %x[%m, %next], read, locality<2>, data : memref<?x?xf32>

Rows lie one after the other in memory, so a place beyond the end of a row is one in a row that follows; the distance is
limited to what the cache holds, and from below to what memory needs to answer. A result larger than the caches is
written past them: a line that is written whole need not be read first. ``tile.store ... nontemporal if %large``.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import arith
from xdsl.ir import Attribute, Operation, SSAValue

from crosstile.dialects.arith import CmpiOp
from crosstile.dialects.memref import PrefetchOp
from crosstile.dialects.nest.analysis import element_type
from crosstile.dialects.nest.schedule import Schedule
from crosstile.ir.index_math import Index
from crosstile.lowering.driver import Lowering
from crosstile.lowering.hoisting import Hoister
from crosstile.lowering.llvm_types import element_bytes

LINE = 64
"""Bytes of a cache line."""
LEAST = 4
"""The least distance is this part of the largest."""
SECOND_CACHE = 2
"""The locality of what goes to the second cache: the first one's few line buffers are busy with stores past it."""


class Caches:
    """The prefetches of one kernel, and the question whether a result is large."""

    def __init__(self, lowering: Lowering, index: Hoister, schedule: Schedule):
        self._lowering = lowering
        self._index = index
        self._prefetch = schedule.prefetch
        self._stream = schedule.stream
        self._made: dict[SSAValue, list[Operation]] = {}

    def is_large(self, sizes: Sequence[Index], element: Attribute) -> SSAValue | None:
        """Whether a result of these ``sizes`` is to go past the caches; None if it is known not to be."""
        if self._stream is None:
            return None
        least, size = -(-self._stream // element_bytes(element)), self._index.product(sizes)
        if isinstance(size, int) and size < least:
            return None
        return self._index.build(CmpiOp(self._index.value(size), self._index.value(least), "sge")).result

    def prefetch(self, value: SSAValue, memory: SSAValue, starts: Sequence[Index], row: Index, count: int) -> None:
        """Fetch ``count`` elements of ``memory``, those of the block at ``starts`` in a row that follows.

        ``row`` is the length of a row. A sweep that was built before for the same ``value`` does so no longer.
        """
        if self._prefetch is None:
            return
        for op in reversed(self._made.pop(value, [])):
            op.detach()
            op.erase()
        bytes_of_one = element_bytes(element_type(value))
        most = self._prefetch // bytes_of_one
        distance = self._index.minimum(self._index.maximum(row, most // LEAST), most)
        made = self._made[value] = []
        *outer, last = self._index.values(starts)
        ahead = self._insert(made, arith.AddiOp(last, self._index.value(distance)))
        for line in range(0, count, LINE // bytes_of_one):
            at = ahead if line == 0 else self._insert(made, arith.AddiOp(ahead, self._index.value(line)))
            made.append(self._lowering.insert(PrefetchOp(memory, [*outer, at], locality=SECOND_CACHE)))

    def _insert(self, made: list[Operation], op: arith.AddiOp) -> SSAValue:
        made.append(self._lowering.insert(op))
        return op.result
