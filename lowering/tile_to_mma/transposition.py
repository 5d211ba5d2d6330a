"""Tiles whose lanes are not what is contiguous in memory: read as they lie and transposed in registers.

    %t = tile.load (window of %A by (d0, d1)[s0, s1] -> (s0 + d1, s1 + d0)) : 16x16
    ==>
    %f = mma.load %A[%i, %j] : memref<?x?xf32> -> !mma.fragment<16x16xf32, ...>
    %t = mma.transpose %f

So are tiles stored whose columns are contiguous in memory, and ``tile.transpose`` is nothing else. It takes whole
blocks of as many rows and columns as registers have lanes; tiles of other shapes are accessed element by element, or
permuted in scratch.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import FixedBitwidthType
from xdsl.ir import Attribute, SSAValue
from xdsl.ir.affine import AffineMap

from crosstile.dialects import mma
from crosstile.lowering.affine_steps import runs_along
from crosstile.lowering.tile_to_mma.places import Place
from crosstile.lowering.tile_to_mma.state import TileLowering


def is_transposable(lowering: TileLowering, element: Attribute) -> bool:
    """Whether blocks of ``element`` can be transposed in registers: bytes or more, several lanes."""
    return lowering.lanes > 1 and isinstance(element, FixedBitwidthType) and element.bitwidth % 8 == 0


def is_transposed(lowering: TileLowering, map_: AffineMap, columns: int, element: Attribute) -> bool:
    """Whether neighbours in memory are not neighbours along ``columns``, but along the other of two dimensions."""
    return runs_along(map_, 1 - columns) and not runs_along(map_, columns) and is_transposable(lowering, element)


def is_in_blocks(lowering: TileLowering, shape: Sequence[int], element: Attribute) -> bool:
    """Whether a tile consists of square blocks that can be transposed in registers."""
    whole = len(shape) == 2 and all(size % lowering.lanes == 0 for size in shape)
    return whole and is_transposable(lowering, element)


def is_transposed_tile(lowering: TileLowering, place: Place, element: Attribute) -> bool:
    """Whether a tile at ``place`` is read or written along its rows."""
    if not is_in_blocks(lowering, place.shape, element) or not is_transposed(lowering, place.map, 1, element):
        return False
    return not any(isinstance(symbol, SSAValue) for symbol in place.symbols)


def transpose(lowering: TileLowering, value: SSAValue) -> SSAValue:
    """The fragment ``value`` with rows and columns exchanged."""
    assert isinstance(value.type, mma.FragmentType)
    type_ = lowering.fragment(value.type.get_shape()[::-1], value.type.get_element_type())
    return lowering.insert(mma.TransposeOp(value, type_)).result
