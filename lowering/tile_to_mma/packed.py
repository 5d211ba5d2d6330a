"""Factors that are packed in memory: what may be read of them beyond the extents of their windows.

A packed matrix is filled with zeros to the end of its blocks (``targets/packing.py``), so a register tile that begins
at a multiple of its width and lies in one block needs no masks: what it reads beyond the matrix is there, and zero. ::

    %w = tile.window %B[%k, %j] extent [%kc, %nr] : memref<?x?xf32, affine_map<(d0, d1) -> (d1 floordiv 64, d0, ...)>>
    %c1 = tile.contract %a, %w, %c0 extent %kc       64 columns of each row, whatever %nr is
"""

from __future__ import annotations

from math import gcd

from xdsl.dialects import arith
from xdsl.ir import Block, SSAValue
from xdsl.ir.affine import AffineConstantExpr, AffineExpr, AffineSymExpr

from crosstile.dialects import tile
from crosstile.dialects.packing import packed_layout
from crosstile.lowering.affine_steps import coefficient
from crosstile.lowering.divisibility import constant_value, known_multiple, static_size
from crosstile.lowering.tile_to_mma.places import Place


def lies_in_blocks(place: Place, dim: int, width: int) -> bool:
    """Whether ``width`` neighbours along ``dim`` of a window of packed memory all exist, be they valid or not."""
    layout = packed_layout(place.source.type)
    if layout is None:
        return False
    moving = [at for at, result in enumerate(place.map.results) if coefficient(result, dim) != 0]
    if len(moving) != 1 or coefficient(place.map.results[moving[0]], dim) != 1:
        return False
    return layout.block(moving[0]) % width == 0 and _begin(place, place.map.results[moving[0]]) % width == 0


def _begin(place: Place, coordinate: AffineExpr) -> int:
    """A number that divides the coordinate at which ``place`` begins; 0 if that is 0."""
    multiple = 0
    for part in coordinate.dfs():
        if isinstance(part, AffineSymExpr):
            symbol = place.symbols[part.position]
            multiple = gcd(multiple, 1 if isinstance(symbol, SSAValue) else symbol.multiple)
        elif isinstance(part, AffineConstantExpr):
            multiple = gcd(multiple, part.value)
    return multiple


def ends_in_zeros(contract: tile.ContractOp, group: int) -> bool:
    """Whether what the right factor of ``contract`` holds beyond k, up to whole words of ``group``, is zero.

    It is where words are stored whole, and k ends at the end of the matrix or at a multiple of ``group``.
    """
    window = contract.rhs.owner
    if not isinstance(window, tile.WindowOp) or (layout := packed_layout(window.source.type)) is None:
        return False
    along_k = [at for at, result in enumerate(window.map.data.results) if coefficient(result, 0) != 0]
    if len(along_k) != 1 or layout.block(along_k[0]) % group:
        return False
    return _is_whole_or_last(contract.extent, window.source, along_k[0], group)


def _is_whole_or_last(extent: SSAValue | None, matrix: SSAValue, dim: int, group: int) -> bool:
    """Whether an extent is a multiple of ``group`` or reaches the end of dimension ``dim`` of ``matrix``."""
    if extent is None:
        return False
    if known_multiple(extent) % group == 0:
        return True
    match extent.owner:
        case tile.DimOp(source=source) as size:
            return source is matrix and size.dim.value.data == dim
        case arith.ConstantOp():
            return constant_value(extent) == static_size(matrix, dim)
        case arith.MinSIOp(lhs=lhs, rhs=rhs):
            return all(_is_whole_or_last(bound, matrix, dim, group) for bound in (lhs, rhs))
        case arith.MaxSIOp(lhs=lhs, rhs=rhs) if constant_value(rhs) == 1:
            return _is_whole_or_last(lhs, matrix, dim, group)  # a loop that runs once where k is 0
        case _:
            pass
    loop = extent.owner.parent_op() if isinstance(extent.owner, Block) else None
    if not isinstance(loop, tile.ForOp) or loop.body.block.args[1] is not extent:
        return False
    step = (loop.step if loop.balanced is None else loop.balanced).value.data
    return step % group == 0 and _is_whole_or_last(loop.upper_bound, matrix, dim, group)
