"""Copying a window into scratch: whole registers at a time, whichever way the window lies in memory.

Seen from the panels of the buffer, *columns* are what stands together in it and *rows* what follows one after the
other (k). Three cases, by the dimension of the window whose neighbours are neighbours in memory:

- columns: pieces of a row are copied as they are, with words those of the rows of a word interleaved;
- rows: a square block is read along the rows and transposed in registers;
- neither, as with a stride: element by element.

    scf.for %j = %zero to %nc step %c16 {                 16 columns of the buffer, 16 lines of memory
      scf.for %k = %zero to %whole step %c16 {
        %f = mma.load %B[%j0 + %j, %k0 + %k]              16 registers of 16 neighbours
        %t = mma.transpose %f
        mma.store %t, %b[%k, %j]
      }
      scf.for %k = %whole to %kc step %c16 { ... }        the same with the extents, for what is no whole block
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdsl.dialects import arith
from xdsl.ir import Attribute, SSAValue
from xdsl.ir.affine import AffineMap

from crosstile.dialects import mma
from crosstile.dialects.arith import CmpiOp
from crosstile.ir.index_math import Index
from crosstile.lowering.affine_steps import runs_along
from crosstile.lowering.loops import build_for
from crosstile.lowering.tile_to_mma.panels import Panels
from crosstile.lowering.tile_to_mma.places import Place
from crosstile.lowering.tile_to_mma.state import TileLowering
from crosstile.lowering.tile_to_mma.transposition import is_transposed


def round_up(size: int, multiple: int) -> int:
    """The least multiple of ``multiple`` that is not below ``size``."""
    return -(-size // multiple) * multiple


def block_shape(lowering: TileLowering, map_: AffineMap | None, cut: Panels, element: Attribute) -> tuple[int, int]:
    """What the sizes of a buffer cut like this must be multiples of for ``Filling`` to write whole blocks only.

    ``map_`` is that of the window, None for a buffer that is filled from a tile.
    """
    rows = cut.group
    if map_ is not None and is_transposed(lowering, map_, cut.dim, element):
        rows *= lowering.lanes
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
        exchanged = Panels(1, cut.width, cut.group)
        return cls(lowering, source.transposed(), target.transposed(), exchanged, (limits[1], limits[0]), element, pad)

    def build(self) -> None:
        """Build the loops."""
        if runs_along(self.source.map, 1):
            self._by_rows()
        elif is_transposed(self.lowering, self.source.map, 1, self.element):
            self._by_blocks()
        else:
            self._by_elements()

    # Neighbours in memory stand together in the panels

    def _by_rows(self) -> None:
        """Some columns of a row, or of the rows of a word, at a time, all columns of a panel."""
        rows, columns = self.limits
        index, width, group = self.lowering.index, self.cut.width, self.cut.group
        source = self.source.without_extent(0) if self._is_valid_to(0, rows) else self.source
        piece = self._piece()
        whole = index.round_down(rows, group)

        def copy(j: Index) -> None:
            self._loop(0, whole, group, lambda k: self._copy(source, (group, piece), {0: k, 1: j}))
            if group > 1 and not (isinstance(rows, int) and whole == rows):
                rest = self.source.cut(self.lowering, 0, rows)
                self._loop(whole, rows, group, lambda k: self._copy(rest, (group, piece), {0: k, 1: j}))

        end = columns if piece == width else index.round_up(columns, width)
        self._loop(0, end, piece, copy)

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
        value = source.part(self.lowering, shape, at).load(self.lowering, fragment, self.pad)
        self.target.part(self.lowering, shape, at).store(self.lowering, value)

    # Neighbours in memory follow one after the other in the panels

    def _by_blocks(self) -> None:
        """Square blocks of as many columns as a register has lanes, transposed; whole ones without masks."""
        rows, columns = self.limits
        index, lanes, width = self.lowering.index, self.lowering.lanes, self.cut.width
        height = lanes * self.cut.group
        extents = self.source.extents
        plain = self.source.without_extent(0, 1)
        rest = self.source if extents[0] is not None else self.source.cut(self.lowering, 0, rows)
        valid = rows if self._is_valid_to(0, rows) or extents[0] is None else index.minimum(rows, extents[0])

        def line(column: Index, count: int) -> None:
            """One block after the other, ``count`` columns wide."""
            whole = 0 if self._has_conditions() else index.round_down(valid, height)
            if extents[1] is not None and whole != 0:
                end, limit = index.value(index.add(column, count)), index.value(extents[1])
                inside = index.build(CmpiOp(end, limit, "sle")).result
                whole = index.build(arith.SelectOp(inside, index.value(whole), index.value(0))).result
            self._loop(0, whole, height, lambda row: self._transpose(plain, row, column, count))
            if not (isinstance(whole, int) and whole == rows):
                self._loop(whole, rows, height, lambda row: self._transpose(rest, row, column, count))

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
            block = self.lowering.words(shape, self.element, group, lanes)
        else:
            block = self.lowering.fragment(shape, self.element)
        loaded = read.transposed().load(self.lowering, line, self.pad)
        written.store(self.lowering, self.lowering.insert(mma.TransposeOp(loaded, block)).result)

    # Neighbours in memory are nowhere near

    def _by_elements(self) -> None:
        """Element by element, panel after panel, rows innermost."""
        index, group = self.lowering.index, self.cut.group
        rows, columns = self.limits
        source = self.source.without_extent(0) if self._is_valid_to(0, rows) else self.source
        extent = source.extents[1]

        def copy(place: Place, begin: Index, end: Index) -> None:
            def line(j: Index) -> None:
                self._loop(0, rows, 1, lambda k: self._copy(place, (1, 1), {0: k, 1: j}))
                if group > 1:
                    nothing = place.cut(self.lowering, 0, rows)
                    rounded = index.round_up(rows, group)
                    self._loop(rows, rounded, 1, lambda k: self._copy(nothing, (1, 1), {0: k, 1: j}))

            self._loop(begin, end, 1, line)

        def panel(begin: Index) -> None:
            end = index.add(begin, self.cut.width)
            if extent is None:
                copy(source, begin, end)
                return
            valid = index.maximum(begin, index.minimum(extent, end))
            copy(source.without_extent(1), begin, valid)
            copy(source, valid, end)

        self._loop(0, columns, self.cut.width, panel)

    # Common

    def _is_valid_to(self, dim: int, limit: Index) -> bool:
        extent = self.source.extents[dim]
        return extent is not None and (extent is limit or (isinstance(extent, int) and extent == limit))

    def _loop(self, begin: Index, end: Index, step: int, build: Callable[[Index], None]) -> None:
        """``build`` in a loop from ``begin`` to ``end``, or once if that is one trip."""
        if isinstance(begin, int) and isinstance(end, int) and end - begin <= step:
            if begin < end:
                build(begin)
            return

        def body(start: SSAValue, _carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            build(start)
            return []

        build_for(self.lowering, self.lowering.index.bounds(begin, end, step), [], body, "at")
