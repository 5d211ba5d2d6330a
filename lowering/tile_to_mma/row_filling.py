"""Copying a window of any rank into scratch, row after row: what ``filling`` does for matrices in panels.

%s = tile.stage %w : !tile.window<64x19x57xf32> -> !tile.buffer<64x19x57xf32>
==>
scf.for %c = %zero to %channels step %one {
  scf.for %y = %zero to %c19 step %one {
    %f = mma.load %x[%c, %h + %y - 1, %zero - 1] clip      48 columns
    mma.store %f, %s[%c, %y, %zero]
    %g = mma.load %x[%c, %h + %y - 1, %zero + 47] clip     16 columns, of which nine are stored
    mma.store %g, %s[%c, %y, %c48] extent [_, _, %c9]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.ir import Attribute, SSAValue

from crosstile.ir.index_math import Index
from crosstile.lowering.loops import build_for
from crosstile.lowering.tile_to_mma.places import Place
from crosstile.lowering.tile_to_mma.state import TileLowering
from crosstile.lowering.tile_to_mma.widening import widen

PIECE_VECTORS = 4
"""Vectors of a row that are copied together."""
UNROLLED_PIECES = 2
"""Rows of so many pieces are copied without a loop over them."""


def fill_rows(
    lowering: TileLowering,
    source: Place,
    target: Place,
    limits: Sequence[Index],
    element: Attribute,
    stored: Attribute,
    pad: float | int | None,
) -> None:
    """The loops that fill ``target`` from ``source`` as far as ``limits`` say; rows are filled to their capacity.

    ``element`` is what the window has, ``stored`` what the buffer has of it: the same, or a wider type of floats.
    """
    *outer, width = target.shape
    widest = PIECE_VECTORS * lowering.lanes

    def piece(places: tuple[Place, Place], at: Index, columns: int) -> None:
        """``columns`` columns from ``at`` on."""
        last = len(outer)
        shape = (*(1 for _ in outer), -(-columns // lowering.lanes) * lowering.lanes)
        read, written = (place.part(lowering, shape, {last: at}) for place in places)
        if shape[-1] > columns:
            written = written.cut(lowering, last, columns)
        loaded = read.load(lowering, lowering.fragment(shape, element), pad)
        written.store(lowering, widen(lowering, loaded, stored))

    def row(places: tuple[Place, Place]) -> None:
        whole = width // widest * widest
        if whole > UNROLLED_PIECES * widest:
            _loop(lowering, whole, widest, lambda at: piece(places, at, widest))
        else:
            for at in range(0, whole, widest):
                piece(places, at, widest)
        vectors = width // lowering.lanes * lowering.lanes
        if whole < vectors:
            piece(places, whole, vectors - whole)
        if vectors < width:
            piece(places, vectors, width - vectors)

    def enter(dim: int, places: tuple[Place, Place]) -> None:
        if dim == len(outer):
            row(places)
            return

        def inside(at: Index) -> None:
            shape = [1 if d <= dim else size for d, size in enumerate(target.shape)]
            read, written = (place.part(lowering, shape, {dim: at}) for place in places)
            enter(dim + 1, (read, written))

        _loop(lowering, limits[dim], 1, inside)

    enter(0, (source, target))


def _loop(lowering: TileLowering, end: Index, step: int, build: Callable[[Index], None]) -> None:
    if isinstance(end, int) and end <= step:
        if end > 0:
            build(0)
        return

    def body(at: SSAValue, _carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        build(at)
        return []

    build_for(lowering, lowering.index.bounds(0, end, step), [], body, "at")
