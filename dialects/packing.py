"""Packed layouts as the compiler writes them: the encoding of a tensor, from the tile level down the map of a memref.

    tensor<?x?xf32, affine_map<(d0, d1) -> (d1 floordiv 64, d0, d1 mod 64)>>
    memref<?x?xf32, affine_map<(d0, d1) -> (d1 floordiv 64, d0, d1 mod 64)>>

The shape stays that of the matrix, and so does what an index means; only where an element lies is another place. Who
calls a program brings such an argument in its layout (``targets/packing.py`` says how), a constant is written in it.
"""

from __future__ import annotations

from xdsl.dialects.builtin import AffineMapAttr, MemRefType, NoneAttr, TensorType
from xdsl.ir import Attribute
from xdsl.ir.affine import (
    AffineBinaryOpExpr,
    AffineBinaryOpKind,
    AffineConstantExpr,
    AffineDimExpr,
    AffineExpr,
    AffineMap,
)
from xdsl.utils.hints import isa

from crosstile.targets.packing import PackedLayout, Part


def packed_layout(type_: Attribute) -> PackedLayout | None:
    """How the elements of a tensor or memref are packed; None if they are not, or in a way that has no box."""
    if isa(type_, TensorType):
        layout = type_.encoding
    elif isa(type_, MemRefType):
        layout = type_.layout
    else:
        return None
    if not isinstance(layout, AffineMapAttr) or layout.data == AffineMap.identity(type_.get_num_dims()):
        return None
    parts = [_part(result) for result in layout.data.results]
    try:
        found = PackedLayout(tuple(part for part in parts if part is not None))
    except ValueError:
        return None
    return found if None not in parts and found.rank == type_.get_num_dims() else None


def _part(expression: AffineExpr) -> Part | None:
    """``(d mod within) floordiv size``, of which either may be missing."""
    size, within = 1, 0
    match expression:
        case AffineBinaryOpExpr(kind=AffineBinaryOpKind.FloorDiv, lhs=inner, rhs=AffineConstantExpr(value=size)):
            expression = inner
        case _:
            pass
    match expression:
        case AffineBinaryOpExpr(kind=AffineBinaryOpKind.Mod, lhs=inner, rhs=AffineConstantExpr(value=within)):
            expression = inner
        case _:
            pass
    return Part(expression.position, size, within) if isinstance(expression, AffineDimExpr) else None


def layout_map(layout: PackedLayout) -> AffineMap:
    """The affine map from the coordinates of an array to those of its box."""
    results: list[AffineExpr] = []
    for part in layout.parts:
        place: AffineExpr = AffineExpr.dimension(part.dim)
        place = place % part.within if part.within else place
        results.append(place // part.size if part.size > 1 else place)
    return AffineMap(layout.rank, 0, tuple(results))


def packed_tensor(type_: TensorType[Attribute], layout: PackedLayout) -> TensorType[Attribute]:
    """The tensor type with its elements in ``layout``."""
    return TensorType(type_.element_type, type_.get_shape(), AffineMapAttr(layout_map(layout)))


def memref_of_tensor(type_: TensorType[Attribute]) -> MemRefType[Attribute]:
    """The memref that holds a tensor: contiguous, or in the layout of its encoding."""
    layout = packed_layout(type_)
    packed = NoneAttr() if layout is None else AffineMapAttr(layout_map(layout))
    return MemRefType(type_.element_type, type_.get_shape(), packed)
