"""Copying a window into scratch: whole registers at a time, whichever way the window lies in memory.

Seen from the panels of the buffer, *columns* are what stands together in it and *rows* what follows one after the
other (k). Cases, by the dimension of the window whose neighbours are neighbours in memory:

- rows, and words fill registers (those of a left factor for tile registers): word by word;
- columns, and words fill registers: blocks of as many rows, interleaved and transposed in registers;
- columns: pieces of a row are copied as they are, with words those of the rows of a word interleaved;
- rows: a square block is read along the rows and transposed in registers;
- neither, as with a stride: element by element.

A buffer of wider floats than the window's gets them widened in registers, before anything is transposed.

    scf.for %j = %zero to %nc step %c16 {                 16 columns of the buffer, 16 lines of memory
      scf.for %k = %zero to %whole step %c16 {
        %f = mma.load %B[%j0 + %j, %k0 + %k]              16 registers of 16 neighbours
        %t = mma.transpose %f
        mma.store %t, %b[%k, %j]
      }
      scf.for %k = %whole to %kc step %c16 { ... }        the same with the extents, for what is no whole block
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import lcm

from xdsl.dialects import arith
from xdsl.ir import Attribute, SSAValue
from xdsl.ir.affine import AffineMap

from crosstile.dialects import mma
from crosstile.dialects.arith import CmpiOp
from crosstile.ir.index_math import Index
from crosstile.lowering.affine_steps import runs_along
from crosstile.lowering.tile_to_mma.panels import Panels
from crosstile.lowering.tile_to_mma.places import Place
from crosstile.lowering.tile_to_mma.state import TileLowering
from crosstile.lowering.tile_to_mma.transposition import is_transposed
from crosstile.lowering.tile_to_mma.widening import widen

STRIP_ROWS = 8
"""Rows of memory that are copied to all panels before the next ones."""


def block_shape(lowering: TileLowering, map_: AffineMap | None, cut: Panels, element: Attribute) -> tuple[int, int]:
    """What the sizes of a buffer cut like this must be multiples of for ``Filling`` to write whole blocks only.

    ``map_`` is that of the window, None for a buffer that is filled from a tile.
    """
    rows = lcm(cut.group, cut.depth)
    if map_ is not None and is_transposed(lowering, map_, cut.dim, element):
        rows = lcm(rows, cut.group * lowering.lanes)
    return (rows, 1) if cut.dim == 1 else (1, rows)


@dataclass(frozen=True)
class Filling:
    """The loops that fill ``target`` from ``source``; both have rows and columns as the panels, ``cut``, have them.

    ``limits`` say how many rows and columns are to be filled.
    """

    lowering: TileLowering
    source: Place
    target: Place
    cut: Panels
    limits: tuple[Index, Index]
    element: Attribute
    pad: float | int | None

    @classmethod
    def of(
        cls,
        lowering: TileLowering,
        source: Place,
        target: Place,
        cut: Panels,
        limits: tuple[Index, Index],
        element: Attribute,
        pad: float | int | None,
    ) -> Filling:
        """The filling of a buffer whose panels may cut rows instead of columns."""
        if cut.dim == 1:
            return cls(lowering, source, target, cut, limits, element, pad)
        exchanged = replace(cut, dim=1)
        return cls(lowering, source.transposed(), target.transposed(), exchanged, (limits[1], limits[0]), element, pad)

    def build(self) -> None:
        """Build the loops."""
        fills_registers = self.cut.group > 1 and self.cut.group % self.lowering.lanes == 0
        if fills_registers and runs_along(self.source.map, 0):
            self._by_words()
        elif fills_registers and runs_along(self.source.map, 1) and self.cut.width % self.lowering.lanes == 0:
            self._by_word_blocks()
        elif fills_registers:
            self._by_elements()
        elif runs_along(self.source.map, 1):
            self._by_rows()
        elif is_transposed(self.lowering, self.source.map, 1, self.element):
            self._by_blocks()
        else:
            self._by_elements()

    # Neighbours in memory stand together in the panels

    def _by_rows(self) -> None:
        """Some columns of a row, or of the rows of a word, at a time: all panels for a strip of rows, then the next.

        Rows of memory that are a page or more apart cost a translation each, so a strip of them goes to all panels.
        """
        rows, _ = self.limits
        index, group = self.lowering.index, self.cut.group
        source = self.source.without_extent(0) if self._is_valid_to(0, rows) else self.source
        whole = index.round_down(rows, group)
        strip = STRIP_ROWS * group
        if self._piece() == self.target.shape[1] or self.target.shape[0] <= strip:
            self._rows(source, 0, whole)
        else:
            self._loop(
                0, whole, strip, lambda row: self._rows(source, row, index.minimum(whole, index.add(row, strip)))
            )
        if group > 1 and not (isinstance(rows, int) and rows % self.cut.depth == 0):
            rest = self.source.cut(self.lowering, 0, rows)
            self._rows(rest, whole, index.round_up(rows, self.cut.depth))

    def _rows(self, source: Place, begin: Index, end: Index) -> None:
        """Copy the rows from ``begin`` to ``end``, a piece of the columns at a time; whole pieces without masks."""
        index, group, piece, (_, columns) = self.lowering.index, self.cut.group, self._piece(), self.limits
        last = columns if piece == self.cut.width else index.round_up(columns, self.cut.width)
        extent = source.extents[1]

        def copy(place: Place, first: Index, limit: Index) -> None:
            def down(column: Index) -> None:
                self._loop(begin, end, group, lambda row: self._copy(place, (group, piece), {0: row, 1: column}))

            self._loop(first, limit, piece, down)

        whole = 0 if extent is None or self._has_conditions() else index.round_down(extent, piece)
        if whole != 0:
            copy(source.without_extent(1), 0, whole)
        copy(source, whole, last)

    def _by_words(self) -> None:
        """A whole word, which fills registers and is next to itself in memory, at a time, panel after panel."""
        rows, _ = self.limits
        index, group = self.lowering.index, self.cut.group
        source = self.source.without_extent(0) if self._is_valid_to(0, rows) else self.source
        whole = index.round_down(rows, group)
        type_ = self.lowering.fragment((1, group), self.element, group)

        def words(place: Place, j: Index, begin: Index, end: Index) -> None:
            def copy(k: Index) -> None:
                at = {0: k, 1: j}
                read, written = (part.part(self.lowering, (group, 1), at) for part in (place, self.target))
                written.transposed().store(self.lowering, read.transposed().load(self.lowering, type_, self.pad))

            self._loop(begin, end, group, copy)

        def column(place: Place, j: Index) -> None:
            words(place, j, 0, whole)
            if not (isinstance(rows, int) and whole == rows):
                words(place.cut(self.lowering, 0, rows), j, whole, rows)

        self._by_panels(source, column)

    def _by_word_blocks(self) -> None:
        """As many columns as a register has lanes, and all rows of their words, at a time; whole ones without masks.

        The rows of parts of a word of 32 bits are interleaved on the way in, and these parts transposed.
        """
        rows, columns = self.limits
        index, height, lanes, extent = self.lowering.index, self.cut.group, self.lowering.lanes, self.source.extents[1]
        source = self.source.without_extent(0) if self._is_valid_to(0, rows) else self.source
        loaded = self.lowering.words((height, lanes), self.element, height // lanes, lanes)
        lines = self.lowering.fragment((lanes, height), self.element, height)
        whole_rows = index.round_down(rows, height)

        def block(place: Place, row: Index, column: Index) -> None:
            at = {0: row, 1: column}
            read, written = (part.part(self.lowering, (height, lanes), at) for part in (place, self.target))
            value = self.lowering.insert(mma.TransposeOp(read.load(self.lowering, loaded, self.pad), lines)).result
            written.transposed().store(self.lowering, value)

        def strip(place: Place, column: Index) -> None:
            self._loop(0, whole_rows, height, lambda row: block(place, row, column))
            if not (isinstance(rows, int) and whole_rows == rows):
                rest = place.cut(self.lowering, 0, rows)
                self._loop(whole_rows, rows, height, lambda row: block(rest, row, column))

        whole = 0 if extent is None or self._has_conditions() else index.round_down(extent, lanes)
        if whole != 0:
            self._loop(0, whole, lanes, lambda column: strip(source.without_extent(1), column))
        self._loop(whole, index.round_up(columns, self.cut.width), lanes, lambda column: strip(source, column))

    def _by_panels(self, source: Place, column: Callable[[Place, Index], None]) -> None:
        """``column`` for all columns of all panels: valid ones, whose place has no extent, and the rest of a panel."""
        index, extent = self.lowering.index, source.extents[1]

        def panel(begin: Index) -> None:
            end = index.add(begin, self.cut.width)
            if extent is None:
                self._loop(begin, end, 1, lambda j: column(source, j))
                return
            valid = index.maximum(begin, index.minimum(extent, end))
            self._loop(begin, valid, 1, lambda j: column(source.without_extent(1), j))
            self._loop(valid, end, 1, lambda j: column(source, j))

        self._loop(0, self.limits[1], self.cut.width, panel)

    def _piece(self) -> int:
        """How many columns to copy at once: a few registers, or as much of one as divides a panel."""
        sizes = [vectors * self.lowering.lanes for vectors in (4, 2, 1)]
        while sizes[-1] > 1:
            sizes.append(sizes[-1] // 2)
        return next(size for size in sizes if self.cut.width % size == 0)

    def _copy(self, source: Place, shape: tuple[int, int], at: dict[int, Index]) -> None:
        lanes = min(shape[1], self.lowering.lanes)
        group = shape[0] if shape[1] > 1 else 1
        if group > 1:
            fragment = self.lowering.words(shape, self.element, group, lanes)
        else:
            fragment = self.lowering.fragment(shape, self.element, lanes if lanes > 1 else self.lowering.lanes)
        value = self._read(source.part(self.lowering, shape, at), fragment)
        self.target.part(self.lowering, shape, at).store(self.lowering, value)

    def _read(self, source: Place, type_: mma.FragmentType) -> SSAValue:
        """What ``source`` holds, as the buffer is to hold it."""
        return widen(self.lowering, source.load(self.lowering, type_, self.pad), self._stored)

    @property
    def _stored(self) -> Attribute:
        buffer = self.target.source.type
        assert isinstance(buffer, mma.BufferType)
        return buffer.get_element_type()

    # Neighbours in memory follow one after the other in the panels

    def _by_blocks(self) -> None:
        """Square blocks of as many columns as a register has lanes, transposed; whole ones without masks."""
        rows, columns = self.limits
        index, lanes, width = self.lowering.index, self.lowering.lanes, self.cut.width
        height = lanes * self.cut.group
        end = index.round_up(rows, self.cut.depth) if self.cut.group > 1 else rows
        extents = self.source.extents
        plain = self.source.without_extent(0, 1)
        rest = self.source if extents[0] is not None else self.source.cut(self.lowering, 0, rows)
        valid = rows if self._is_valid_to(0, rows) or extents[0] is None else index.minimum(rows, extents[0])

        def line(column: Index, count: int) -> None:
            """One block after the other, ``count`` columns wide."""
            whole = 0 if self._has_conditions() else index.round_down(valid, height)
            if extents[1] is not None and whole != 0:
                last, limit = index.value(index.add(column, count)), index.value(extents[1])
                inside = index.build(CmpiOp(last, limit, "sle")).result
                whole = index.build(arith.SelectOp(inside, index.value(whole), index.value(0))).result
            self._loop(0, whole, height, lambda row: self._transpose(plain, row, column, count))
            if not (isinstance(whole, int) and whole == end):
                self._loop(whole, end, height, lambda row: self._transpose(rest, row, column, count))

        if width % lanes == 0:
            self._loop(0, index.round_up(columns, width), lanes, lambda column: line(column, lanes))
            return

        def panel(begin: Index) -> None:
            for first in range(0, width, lanes):
                line(index.add(begin, first), min(lanes, width - first))

        self._loop(0, columns, width, panel)

    def _has_conditions(self) -> bool:
        """Whether elements of the window may be invalid wherever they are."""
        return self.source.clip or any(isinstance(symbol, SSAValue) for symbol in self.source.symbols)

    def _transpose(self, source: Place, row: Index, column: Index, count: int) -> None:
        """One block from ``row`` and ``column`` on, of which ``count`` columns belong to the panel."""
        lanes, group = self.lowering.lanes, self.cut.group
        shape = lanes * group, lanes
        at = {0: row, 1: column}
        read, written = (place.part(self.lowering, shape, at) for place in (source, self.target))
        if count < lanes:
            read, written = (place.cut(self.lowering, 1, count) for place in (read, written))
        line = self.lowering.fragment(shape[::-1], self.element, lanes * group)
        if group > 1:
            block = self.lowering.words(shape, self._stored, group, lanes)
        else:
            block = self.lowering.fragment(shape, self._stored)
        loaded = self._read(read.transposed(), line)
        written.store(self.lowering, self.lowering.insert(mma.TransposeOp(loaded, block)).result)

    # Neighbours in memory are nowhere near

    def _by_elements(self) -> None:
        """Element by element, panel after panel, rows innermost."""
        index, rows = self.lowering.index, self.limits[0]
        source = self.source.without_extent(0) if self._is_valid_to(0, rows) else self.source

        def column(place: Place, j: Index) -> None:
            self._loop(0, rows, 1, lambda k: self._copy(place, (1, 1), {0: k, 1: j}))
            if self.cut.group > 1:
                nothing = place.cut(self.lowering, 0, rows)
                rounded = index.round_up(rows, self.cut.depth)
                self._loop(rows, rounded, 1, lambda k: self._copy(nothing, (1, 1), {0: k, 1: j}))

        self._by_panels(source, column)

    # Common

    def _is_valid_to(self, dim: int, limit: Index) -> bool:
        extent = self.source.extents[dim]
        return extent is not None and (extent is limit or (isinstance(extent, int) and extent == limit))

    def _loop(self, begin: Index, end: Index, step: int, build: Callable[[Index], None]) -> None:
        self.lowering.repeat(begin, end, step, build, "at")
