"""Fragments of narrow floats as fragments of the type that an instruction takes.

    %n = mma.load %b[...] : memref<?x?xbf16> -> !mma.fragment<1x64xbf16, ...>
    %w = mma.map (%n : ...) -> !mma.fragment<1x64xf32, ...> { ^bb0(%x : bf16): %y = arith.extf %x ... mma.yield %y }

Every number of a narrow type is one of the wide type, so nothing is rounded.
"""

from __future__ import annotations

from xdsl.dialects import arith
from xdsl.dialects.builtin import AnyFloat
from xdsl.ir import Attribute, Block, Region, SSAValue

from crosstile.dialects import mma
from crosstile.lowering.tile_to_mma.state import TileLowering


def widen(lowering: TileLowering, value: SSAValue, element: Attribute) -> SSAValue:
    """The fragment ``value`` with elements of the floating-point type ``element``, which is no narrower."""
    type_ = value.type
    assert isinstance(type_, mma.FragmentType)
    if type_.get_element_type() == element:
        return value
    assert isinstance(element, AnyFloat)
    block = Block(arg_types=[type_.get_element_type()])
    with lowering.at(block):
        wide = lowering.insert(arith.ExtFOp(block.args[0], element))
        lowering.insert(mma.YieldOp(wide.result))
    result_type = mma.FragmentType.of(type_.get_shape(), element, type_.layout)
    return lowering.insert(mma.MapOp([value], result_type, Region(block))).result
