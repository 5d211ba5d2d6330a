"""Rules for ``tile.load`` and ``tile.store``: one access at the place that the window names.

    %t = tile.load %w pad 1.0 : !tile.window<8x64xf32> -> !tile.tile<8x64xf32>
    ==>
    %t = mma.load %A[%i, %j] extent [%mr, %nr] pad 1.0 : memref<?x?xf32> -> !mma.fragment<8x64xf32, ...>

A tile whose rows, and not columns, are contiguous in memory is accessed along them and transposed.
"""

from __future__ import annotations

from crosstile.dialects import tile
from crosstile.lowering.tile_to_mma.places import number, place_of_window, window_of
from crosstile.lowering.tile_to_mma.state import TileLowering
from crosstile.lowering.tile_to_mma.transposition import is_transposed_tile, transpose


def lower_load(op: tile.LoadOp, lowering: TileLowering) -> None:
    """A load of the whole window."""
    place = place_of_window(window_of(op.window, lowering), lowering)
    condition = None if op.condition is None else lowering.value(op.condition)
    fragment = lowering.fragment_type(op.result)
    transposed = is_transposed_tile(lowering, place, element := fragment.get_element_type())
    if transposed:
        place = place.transposed()
        fragment = lowering.fragment(place.shape, element)
    loaded = place.load(lowering, fragment, number(op.pad), condition=condition, otherwise=number(op.otherwise))
    lowering.replace(op, transpose(lowering, loaded) if transposed else loaded)


def lower_store(op: tile.StoreOp, lowering: TileLowering) -> None:
    """A store to the whole window."""
    place, value = place_of_window(window_of(op.window, lowering), lowering), lowering.value(op.value)
    if is_transposed_tile(lowering, place, lowering.fragment_type(op.value).get_element_type()):
        place, value = place.transposed(), transpose(lowering, value)
    place.store(lowering, value)
