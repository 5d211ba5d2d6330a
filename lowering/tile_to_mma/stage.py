"""The rule for ``tile.stage``: scratch, packed for the contractions that read it, and the loops that fill it.

    %b = tile.stage %w : !tile.window<512x4096xf32> -> !tile.buffer<512x4096xf32>
    ==>
    %b = mma.alloc : !mma.buffer<512x4096xf32, affine_map<(d0, d1) -> (d1 floordiv 64, d0, d1 mod 64)>>
    scf.for %j = %zero to %nc step %c64 {
      scf.for %k = %zero to %kc step %one {
        %f = mma.load %B[%k0 + %k, %j0 + %j] extent [_, %nc - %j]      the last panel is padded
        mma.store %f, %b[%k, %j]

Where rows of the buffer are columns in memory, the copy goes element by element along the columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import AffineMapAttr
from xdsl.ir import Attribute, SSAValue
from xdsl.ir.affine import AffineMap

from crosstile.dialects import mma, tile
from crosstile.dialects.tile.types import capacity_type
from crosstile.ir.index_math import Index
from crosstile.lowering.affine_steps import coefficient
from crosstile.lowering.loops import build_for
from crosstile.lowering.tile_to_mma.panels import Panels, choose_panels, is_read_beyond
from crosstile.lowering.tile_to_mma.places import Place, number, place_of_buffer, place_of_window, window_of
from crosstile.lowering.tile_to_mma.state import TileLowering


def lower_stage(op: tile.StageOp, lowering: TileLowering) -> None:
    """Scratch, and the loops that fill it."""
    type_ = capacity_type(op.result)
    shape, element = type_.get_shape(), type_.element_type
    panels = choose_panels(op, lowering)
    if panels is None or panels.is_row_major(shape):
        buffer_type = mma.BufferType.of(shape, element)
    else:
        whole = [size if dim == panels.dim else round_up(size, panels.group) for dim, size in enumerate(shape)]
        buffer_type = mma.BufferType.of(whole, element, AffineMapAttr(panels.map()))
    buffer = lowering.insert(mma.AllocOp(buffer_type)).result
    lowering.replace(op, buffer)
    target = place_of_buffer(buffer, shape)
    if isinstance(op.source.type, tile.TileType):
        target.store(lowering, lowering.value(op.source))
        return
    if len(shape) != 2:
        raise lowering.error(f"stages a window of {len(shape)} dimensions; a core packs matrices only")
    source = place_of_window(window_of(op.source, lowering), lowering)
    limits = [_limit(op, dim, lowering) for dim in range(2)]
    fill = Filling(lowering, source, target, element, number(op.pad))
    transposed = _runs_along(source.map, 0) and not _runs_along(source.map, 1)
    cut = panels or Panels(1, shape[1])
    if cut.dim == 0 or transposed:
        fill.by_elements(cut, limits)
    else:
        fill.by_rows(cut, limits)


def round_up(size: int, multiple: int) -> int:
    """The least multiple of ``multiple`` that is not below ``size``."""
    return -(-size // multiple) * multiple


def _runs_along(map_: AffineMap, dim: int) -> bool:
    """Whether neighbours along ``dim`` of a window are neighbours in a row-major source."""
    return [coefficient(result, dim) for result in map_.results] == [0] * (len(map_.results) - 1) + [1]


def _limit(op: tile.StageOp, dim: int, lowering: TileLowering) -> Index:
    """How far a dimension of the buffer is filled: as far as its elements are valid, or all of it if that is read."""
    extent = window_of(op.source, lowering).extents_by_dim[dim]
    if extent is None or is_read_beyond(op, dim, extent):
        return capacity_type(op.result).get_shape()[dim]
    return lowering.as_index(extent)


def _piece(columns: int, lowering: TileLowering) -> int:
    """How many columns to copy at once: a few registers, or one element where no register fits."""
    pieces = (vectors * lowering.lanes for vectors in (4, 2, 1))
    return next((piece for piece in pieces if columns % piece == 0), 1)


@dataclass(frozen=True)
class Filling:
    """The loops that fill a buffer, ``target``, from a window, ``source``."""

    lowering: TileLowering
    source: Place
    target: Place
    element: Attribute
    pad: float | int | None

    def by_rows(self, cut: Panels, limits: Sequence[Index]) -> None:
        """Some columns of a row, or of the rows of a word, at a time, all columns of a panel of ``width``."""
        rows, columns = limits
        index, width, group = self.lowering.index, cut.width, cut.group
        source = self.source.without_extent(0) if self._is_valid_to(0, rows) else self.source
        piece = _piece(width, self.lowering)
        whole = index.round_down(rows, group)

        def copy(j: Index) -> None:
            self._loop(0, whole, group, lambda k: self._copy(source, (group, piece), {0: k, 1: j}))
            if group > 1 and not (isinstance(rows, int) and whole == rows):
                rest = self.source.cut(self.lowering, 0, rows)
                self._loop(whole, rows, group, lambda k: self._copy(rest, (group, piece), {0: k, 1: j}))

        end = columns if piece == width else index.round_up(columns, width)
        self._loop(0, end, piece, copy)

    def by_elements(self, cut: Panels, limits: Sequence[Index]) -> None:
        """Element by element, panel after panel, the dimension that is not cut innermost."""
        index, dim, other = self.lowering.index, cut.dim, 1 - cut.dim
        length = limits[other]
        source = self.source.without_extent(other) if self._is_valid_to(other, length) else self.source
        extent = source.extents[dim]

        def copy(place: Place, begin: Index, end: Index) -> None:
            def line(i: Index) -> None:
                self._loop(0, length, 1, lambda k: self._copy(place, (1, 1), {dim: i, other: k}))
                if cut.group > 1:
                    nothing = place.cut(self.lowering, other, length)
                    rounded = index.round_up(length, cut.group)
                    self._loop(length, rounded, 1, lambda k: self._copy(nothing, (1, 1), {dim: i, other: k}))

            self._loop(begin, end, 1, line)

        def panel(begin: Index) -> None:
            end = index.add(begin, cut.width)
            if extent is None:
                copy(source, begin, end)
                return
            valid = index.maximum(begin, index.minimum(extent, end))
            copy(source.without_extent(dim), begin, valid)
            copy(source, valid, end)

        self._loop(0, limits[dim], cut.width, panel)

    def _is_valid_to(self, dim: int, limit: Index) -> bool:
        extent = self.source.extents[dim]
        return extent is not None and (extent is limit or (isinstance(extent, int) and extent == limit))

    def _copy(self, source: Place, shape: tuple[int, int], at: dict[int, Index]) -> None:
        group = shape[0] if shape[1] > 1 else 1
        fragment = (
            self.lowering.fragment(shape, self.element) if group == 1 else self.lowering.words(shape, self.element)
        )
        value = source.part(self.lowering, shape, at).load(self.lowering, fragment, self.pad)
        self.target.part(self.lowering, shape, at).store(self.lowering, value)

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
