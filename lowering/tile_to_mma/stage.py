"""The rule for ``tile.stage``: scratch, packed for the contractions that read it, and the loops that fill it.

    %b = tile.stage %w : !tile.window<512x4096xf32> -> !tile.buffer<512x4096xf32>
    ==>
    %b = mma.alloc : !mma.buffer<512x4096xf32, affine_map<(d0, d1) -> (d1 floordiv 64, d0, d1 mod 64)>>
    scf.for %j = %zero to %nc step %c64 {
      scf.for %k = %zero to %kc step %one {
        %f = mma.load %B[%k0 + %k, %j0 + %j] extent [_, %nc - %j]      the last panel is padded
        mma.store %f, %b[%k, %j]

How a window is copied is in ``filling``, for other ranks than matrices in ``row_filling``.
"""

from __future__ import annotations

from xdsl.dialects.builtin import AffineMapAttr, NoneAttr

from crosstile.dialects import mma, tile
from crosstile.dialects.tile.types import capacity_type
from crosstile.ir.index_math import Index
from crosstile.lowering.tile_to_mma.filling import Filling, block_shape
from crosstile.lowering.tile_to_mma.panels import Panels, choose_panels, is_read_beyond, round_up
from crosstile.lowering.tile_to_mma.places import number, place_of_buffer, place_of_window, window_of
from crosstile.lowering.tile_to_mma.row_filling import fill_rows
from crosstile.lowering.tile_to_mma.state import TileLowering
from crosstile.lowering.tile_to_mma.sub_tiles import fill


def lower_stage(op: tile.StageOp, lowering: TileLowering) -> None:
    """Scratch, and the loops that fill it."""
    type_ = capacity_type(op.result)
    shape, element = type_.get_shape(), type_.element_type
    chosen = choose_panels(op.result, lowering)
    panels = chosen or Panels(1, shape[-1])
    is_window = isinstance(op.source.type, tile.WindowType)
    source = place_of_window(window_of(op.source, lowering), lowering) if is_window else None
    whole = shape
    if len(shape) == 2:
        multiples = block_shape(lowering, None if source is None else source.map, panels, element)
        whole = tuple(round_up(size, multiple) for size, multiple in zip(shape, multiples, strict=True))
    packed = chosen is not None and not chosen.is_row_major(shape)
    buffer_type = mma.BufferType.of(whole, element, AffineMapAttr(panels.map()) if packed else NoneAttr())
    buffer = lowering.insert(mma.AllocOp(buffer_type)).result
    lowering.replace(op, buffer)
    target = place_of_buffer(buffer, shape)
    if lowering.in_scratch(op.source):
        fill(op.source, target, lowering)
        return
    if source is None:
        target.store(lowering, lowering.value(op.source))
        return
    limits = [_limit(op, dim, lowering) for dim in range(len(shape))]
    read = capacity_type(op.source).element_type
    if len(shape) != 2:
        fill_rows(lowering, source, target, limits, read, element, number(op.pad))
        return
    Filling.of(lowering, source, target, panels, (limits[0], limits[1]), read, number(op.pad)).build()


def _limit(op: tile.StageOp, dim: int, lowering: TileLowering) -> Index:
    """How far a dimension of the buffer is filled: as far as its elements are valid, or all of it if that is read."""
    extent = window_of(op.source, lowering).extents_by_dim[dim]
    if extent is None or is_read_beyond(op, dim, extent):
        return capacity_type(op.result).get_shape()[dim]
    return lowering.as_index(extent)
