"""Rules for ``tile.alloc``, ``tile.load`` and ``tile.store``: scratch, and an access at the place that a window names.

    %t = tile.load %w pad 1.0 : !tile.window<8x64xf32> -> !tile.tile<8x64xf32>
    ==>
    %t = mma.load %A[%i, %j] extent [%mr, %nr] pad 1.0 : memref<?x?xf32> -> !mma.fragment<8x64xf32, ...>

A tile whose rows, and not columns, are contiguous in memory is accessed along them and transposed. What only a product
on tile registers accumulates into, and what one leaves there, is read and written by ``tile_units``.

Scratch that a contraction reads as its right factor, and that tiles are stored to, has the panels of a staged one. Rows
of words are interleaved in registers where a tile has all of them::

    tile.store %t, %w : !tile.tile<2x64xbf16>, !tile.window<2x64xbf16>
    ==>
    %v = mma.relayout %t : ... -> !mma.fragment<2x64xbf16, tile(2, 64) lane(16:1) element(2:64) register(4:16)>
    mma.store %v, %s[%k, %j]
"""

from __future__ import annotations

from xdsl.dialects.builtin import AffineMapAttr, NoneAttr
from xdsl.ir import SSAValue

from crosstile.dialects import mma, tile
from crosstile.dialects.tile.types import capacity_type
from crosstile.lowering.tile_registers import is_in_tiles
from crosstile.lowering.tile_to_mma import tile_units
from crosstile.lowering.tile_to_mma.panels import computed_panels, round_up
from crosstile.lowering.tile_to_mma.places import Place, number, place_of_window, window_of
from crosstile.lowering.tile_to_mma.state import TileLowering
from crosstile.lowering.tile_to_mma.transposition import is_transposed_tile, transpose


def lower_alloc(op: tile.AllocOp, lowering: TileLowering) -> None:
    """Scratch, row by row, or in the panels and whole words in which a right factor is read."""
    type_, shape = op.result.type, list(op.result.type.get_shape())
    layout: AffineMapAttr | NoneAttr = NoneAttr()
    if (panels := computed_panels(op.result, lowering)) is not None:
        shape[0] = round_up(shape[0], panels.depth)
        layout = layout if panels.is_row_major(shape) else AffineMapAttr(panels.map())
    buffer_type = mma.BufferType.of(shape, type_.element_type, layout)
    lowering.replace(op, lowering.insert(mma.AllocOp(buffer_type)).result)


def lower_load(op: tile.LoadOp, lowering: TileLowering) -> None:
    """A load of the whole window."""
    if (type_ := tile_units.accumulator_type(op.result, lowering)) is not None:
        lowering.replace(op, tile_units.load_accumulator(op, type_, lowering))
        return
    place = place_of_window(window_of(op.window, lowering), lowering)
    lowering.replace(op, load_from(op, place, lowering))


def load_from(op: tile.LoadOp, place: Place, lowering: TileLowering) -> SSAValue:
    """What ``op`` reads of ``place``, its window or a part of it."""
    condition = None if op.condition is None else lowering.value(op.condition)
    element = capacity_type(op.result).element_type
    transposed = is_transposed_tile(lowering, place, element)
    place = place.transposed() if transposed else place
    fragment = lowering.fragment(place.shape, element)
    loaded = place.load(lowering, fragment, number(op.pad), condition=condition, otherwise=number(op.otherwise))
    return transpose(lowering, loaded) if transposed else loaded


def lower_store(op: tile.StoreOp, lowering: TileLowering) -> None:
    """A store to the whole window."""
    store_to(op, place_of_window(window_of(op.window, lowering), lowering), lowering.value(op.value), lowering)


def store_to(op: tile.StoreOp, place: Place, value: SSAValue, lowering: TileLowering) -> None:
    """What ``op`` stores of the fragment ``value`` to ``place``, its window or a part of it."""
    assert isinstance(value.type, mma.FragmentType)
    if is_in_tiles(value.type.layout.data):
        tile_units.store_result(place, value, lowering)
        return
    group = _word(op, lowering)
    if is_transposed_tile(lowering, place, value.type.get_element_type()):
        place, value = place.transposed(), transpose(lowering, value)
    elif group > 1 and place.shape[0] % group == 0 and place.shape[1] > 1:
        rows, columns = place.shape
        type_ = lowering.words((rows, columns), value.type.get_element_type(), group, lowering.lanes)
        value = lowering.insert(mma.RelayoutOp(value, type_)).result
    nontemporal = None if op.nontemporal is None else lowering.value(op.nontemporal)
    place.store(lowering, value, nontemporal)


def _word(op: tile.StoreOp, lowering: TileLowering) -> int:
    """How many rows of what ``op`` writes stand together in a word."""
    panels = computed_panels(window_of(op.window, lowering).source, lowering)
    return 1 if panels is None else panels.group
