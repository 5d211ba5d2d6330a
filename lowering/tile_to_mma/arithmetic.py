"""Rules for arithmetic on tiles: the same operations on fragments.

    tile.map (%a, %b : 8x32, 8x1) -> 8x32 { ... tile.yield %r }    ==>    mma.map (...) -> ... { ... mma.yield %r }

What permutes elements goes through scratch, stored in one order and loaded in another; matrices are transposed in
registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import copysign

from xdsl.dialects import arith
from xdsl.dialects.builtin import IntegerType
from xdsl.ir import SSAValue
from xdsl.ir.affine import AffineExpr, AffineMap

from crosstile.dialects import mma, tile
from crosstile.dialects.assembly import dense_values, number_of
from crosstile.dialects.mma.kernel import integer_list
from crosstile.dialects.mma.types import type_of
from crosstile.dialects.tile.types import capacity_type
from crosstile.ir.index_math import Index
from crosstile.lowering.tile_to_mma import tile_units
from crosstile.lowering.tile_to_mma.places import Place, store_to_scratch
from crosstile.lowering.tile_to_mma.state import INDEX, TileLowering
from crosstile.lowering.tile_to_mma.transposition import is_in_blocks, transpose
from crosstile.lowering.tile_to_mma.uses import same_index


def lower_map(op: tile.MapOp, lowering: TileLowering) -> None:
    """The same body, on fragments."""
    inputs = [lowering.value(value) for value in op.inputs]
    lowering.replace(op, map_fragments(op, inputs, lowering.fragment_type(op.result), lowering))


def map_fragments(
    op: tile.MapOp, inputs: Sequence[SSAValue], type_: mma.FragmentType, lowering: TileLowering
) -> SSAValue:
    """The body of ``op`` on fragments."""
    return lowering.insert(mma.MapOp(inputs, type_, lowering.lower_region(op.body))).result


def lower_reduce(op: tile.ReduceOp, lowering: TileLowering) -> None:
    """The same on fragments; extents are given per dimension of the fragment."""
    extents: list[SSAValue | None] = [None] * capacity_type(op.value).get_num_dims()
    for dim, extent in zip(op.reduced_dims, op.extents_by_dim, strict=True):
        extents[dim] = None if extent is None else lowering.value(extent)
    into = None if op.into is None else lowering.value(op.into)
    result_type = lowering.fragment_type(op.result)
    reduce = mma.ReduceOp(op.kind.data, lowering.value(op.value), op.reduced_dims, result_type, into, extents)
    lowering.replace(op, lowering.insert(reduce).result)


def lower_mask(op: tile.MaskOp, lowering: TileLowering) -> None:
    """The same on fragments; nothing without extents."""
    extents = [None if extent is None else lowering.value(extent) for extent in op.extents_by_dim]
    value, otherwise = lowering.value(op.value), number_of(op.otherwise)
    if all(extent is None for extent in extents) or (_is_zero(otherwise) and is_zero_beyond(value, extents)):
        lowering.replace(op, value)
        return
    lowering.replace(op, lowering.insert(mma.MaskOp(value, extents, otherwise)).result)


def is_zero_beyond(value: SSAValue, extents: Sequence[SSAValue | None]) -> bool:
    """Whether a fragment is +0 beyond ``extents``, one per dimension or None: loaded, or products of what is."""
    load = value.owner
    if isinstance(load, mma.MapOp):
        return _only_multiplies(load) and all(is_zero_beyond(part, extents) for part in load.inputs)
    if not isinstance(load, mma.LoadOp) or load.clamp is not None or load.condition is not None:
        return False
    if load.pad is not None and not _is_zero(number_of(load.pad)):
        return False
    found = dict(zip(integer_list(load.extent_dims), load.extents, strict=True))
    return all(extent is None or same_index(found.get(dim), extent) for dim, extent in enumerate(extents))


def _only_multiplies(op: mma.MapOp) -> bool:
    """Whether the result is a product of elements of fragments that are as large as the result, or one of them."""
    block, shape = op.body.block, op.result.type.get_shape()
    own = {block, *block.ops}
    return all(type_of(part, mma.FragmentType).get_shape() == shape for part in op.inputs) and all(
        isinstance(inner, arith.MulfOp | arith.ExtFOp | mma.YieldOp)
        and all(value.owner in own for value in inner.operands)
        for inner in block.ops
    )


def _is_zero(number: float | int) -> bool:
    return number == 0 and copysign(1.0, number) > 0


def lower_splat(op: tile.SplatOp, lowering: TileLowering) -> None:
    """The same on fragments."""
    type_ = tile_units.accumulator_type(op.result, lowering) or lowering.fragment_type(op.result)
    splat = mma.SplatOp(lowering.value(op.scalar), type_)
    lowering.replace(op, lowering.insert(splat).result)


def lower_iota(op: tile.IotaOp, lowering: TileLowering) -> None:
    """The same on fragments; the start is an index there."""
    lowering.replace(op, count_fragment(op, 0, lowering.fragment_type(op.result), lowering))


def count_fragment(op: tile.IotaOp, offset: Index, type_: mma.FragmentType, lowering: TileLowering) -> SSAValue:
    """The fragment of ``type_`` that begins ``offset`` further along the dimension that counts."""
    start = None if op.start is None else lowering.value(op.start)
    if start is not None and isinstance(start.type, IntegerType):
        start = lowering.index.build(arith.IndexCastOp(start, INDEX)).result
    begin = lowering.index.add(0 if start is None else start, offset)
    given = None if start is None and begin == 0 else lowering.index.value(begin)
    return lowering.insert(mma.IotaOp(op.dim.value.data, type_, given)).result


def lower_transpose(op: tile.TransposeOp, lowering: TileLowering) -> None:
    """Shuffles of registers for matrices of whole blocks; others are stored and loaded with dimensions exchanged."""
    _check_home(op.value, lowering)
    permutation = dense_values(op.permutation)
    type_ = capacity_type(op.value)
    if permutation == [1, 0] and is_in_blocks(lowering, type_.get_shape(), type_.element_type):
        lowering.replace(op, transpose(lowering, lowering.value(op.value)))
        return
    _reload(op.value, op.result, rearrangement(op), lowering)


def lower_reshape(op: tile.ReshapeOp, lowering: TileLowering) -> None:
    """Stored row by row, loaded by the number of the element."""
    _check_home(op.value, lowering)
    _reload(op.value, op.result, rearrangement(op), lowering)


def rearrangement(op: tile.TransposeOp | tile.ReshapeOp) -> AffineMap:
    """From the coordinates of an element of the result to those that it has in the value."""
    if isinstance(op, tile.TransposeOp):
        permutation = dense_values(op.permutation)
        dims = [AffineExpr.dimension(permutation.index(dim)) for dim in range(len(permutation))]
        return AffineMap(len(permutation), 0, tuple(dims))
    old, new = capacity_type(op.value).get_shape(), capacity_type(op.result).get_shape()
    number: AffineExpr = AffineExpr.constant(0)
    for dim, size in enumerate(new):
        number = number * size + AffineExpr.dimension(dim)
    results: list[AffineExpr] = []
    for size in reversed(old):
        results.insert(0, number % size)
        number = number // size
    return AffineMap(len(new), 0, tuple(results))


def _check_home(value: SSAValue, lowering: TileLowering) -> None:
    if lowering.in_scratch(value):
        shape = "x".join(map(str, capacity_type(value).get_shape()))
        raise lowering.error(
            f"rearranges a tile of {shape} that lives in scratch; load or store it through a window that exchanges its "
            "dimensions, or stage it"
        )


def _reload(value: SSAValue, result: SSAValue, by: AffineMap, lowering: TileLowering) -> None:
    buffer = store_to_scratch(lowering.value(value), lowering)
    fragment = lowering.fragment_type(result)
    shape = fragment.get_shape()
    lowering.map_value(result, Place(buffer, shape, by, (), (None,) * len(shape)).load(lowering, fragment))
