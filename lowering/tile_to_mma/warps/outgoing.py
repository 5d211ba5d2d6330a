"""Scratch that a result goes through on its way to memory, where the machine copies whole blocks by itself.

    tile.store %c, %w : !tile.tile<128x256xf32>, ...
    ==>
    %piece = mma.alloc : !mma.buffer<128x64xf32, #panels, #mma.swizzle<128>>
    mma.store %c, %C[%i, %j] extent [%mr, %nr] through %piece

It pays for accumulators: a lane holds two neighbours in a row, so that an instruction's lanes write 16 or 32 bytes of
each of 8 rows, while a copied block has whole rows of 128. Rows may be a box of memory, as a rectangle of pixels is. A
piece is as wide as shared memory has room for beside the kernel's rings, two panels of 128 bytes at most: one is filled
while the other is read.
"""

from __future__ import annotations

from math import prod

from xdsl.dialects.builtin import MemRefType
from xdsl.dialects.memref import DimOp
from xdsl.ir import Operation, SSAValue
from xdsl.ir.affine import AffineMap
from xdsl.utils.hints import isa

from crosstile.dialects import mma, tile
from crosstile.dialects.mma.attributes import canonical
from crosstile.dialects.tile.types import capacity_type
from crosstile.lowering.affine_steps import coefficient
from crosstile.lowering.llvm_types import element_bytes
from crosstile.lowering.tile_to_mma.warps.layouts import group_of
from crosstile.lowering.tile_to_mma.warps.stages import new_buffer
from crosstile.lowering.tile_to_mma.warps.state import WarpLowering

PANEL_BYTES = 128
"""A row of a block that is copied: a line of memory, and the widest swizzle."""
MOST_PANELS = 2
RESERVED = 1 << 10
"""Bytes of shared memory left for barriers."""
LANES_SHARE = 16
"""Bytes, for each byte of a reduced tile, in which warps exchange what they have reduced."""


def piece_for(op: tile.StoreOp, window: tile.WindowOp, value: SSAValue, lowering: WarpLowering) -> SSAValue | None:
    """The scratch through which ``op`` stores ``value``; None where each thread stores what it holds."""
    type_ = value.type
    assert isinstance(type_, mma.FragmentType)
    if not (_is_copied_out(op, window, lowering) and _is_accumulator(type_, lowering)):
        return None
    (rows, columns), size = type_.get_shape(), element_bytes(type_.element_type)
    room = _room(lowering)
    for panels in range(MOST_PANELS, 0, -1):
        width = min(columns, panels * PANEL_BYTES // size)
        if columns % width == 0 and rows * width * size <= room:
            return _piece((rows, width), type_, lowering)
    return None


def _is_copied_out(op: tile.StoreOp, window: tile.WindowOp, lowering: WarpLowering) -> bool:
    """Whether the machine can copy what ``op`` stores: a block of a memref that nothing else in the kernel touches."""
    memory = window.source
    if not lowering.has_roles or not lowering.machine.block_copy_bytes or op.nontemporal is not None:
        return False
    if not isa(memory.type, MemRefType) or not isinstance(op.parent_op(), tile.ParallelOp):
        return False
    uses = [use.operation for use in memory.uses if not isinstance(use.operation, DimOp | tile.DimOp)]
    rank, by = memory.type.get_num_dims(), window.map.data
    alone = uses == [window] and [use.operation for use in window.result.uses] == [op]
    return alone and (_last_dimensions(by, rank) if window.clip is None else _columns_are_last(by))


def _columns_are_last(by: AffineMap) -> bool:
    """Whether columns of a window are the memory's last dimension, and rows may be a box of the others."""
    if by.num_dims != 2 or not by.results:
        return False
    *above, last = by.results
    steps = [coefficient(last, dim) for dim in (0, 1)]
    return steps == [0, 1] and all(coefficient(result, 1) == 0 for result in above)


def _last_dimensions(by: AffineMap, rank: int) -> bool:
    """Whether rows and columns of a window are the memory's last two dimensions."""
    if by.num_dims != 2 or rank < 2:
        return False
    steps = [[result.eval(at, [0] * by.num_symbols) for result in by.results] for at in ((0, 0), (1, 0), (0, 1))]
    moved = [[there - here for there, here in zip(step, steps[0], strict=True)] for step in steps[1:]]
    return moved == [[0] * (rank - 2) + [1, 0], [0] * (rank - 2) + [0, 1]]


def _is_accumulator(type_: mma.FragmentType, lowering: WarpLowering) -> bool:
    """Whether a fragment lies as a product of whole groups of warps left it, in elements of 16 or 32 bits."""
    layout, shape = canonical(type_.layout.data), type_.get_shape()
    return element_bytes(type_.element_type) in (2, 4) and any(
        group_of(row) > 1
        and capacity_type(contract.result).get_shape() == shape
        and canonical(lowering.arrangement.accumulator(row, *shape)) == layout
        for contract, row in lowering.rows.items()
    )


def _room(lowering: WarpLowering) -> int:
    """Bytes of shared memory that nothing in the kernel takes so far."""
    limits = lowering.machine.limits
    used = sum(_taken(op) for block in lowering.open_blocks[lowering.scratch_depth :] for op in block.walk())
    return (0 if limits is None else limits.scratch - RESERVED) - used


def _taken(op: Operation) -> int:
    match op:
        case mma.RingOp():
            type_, times = op.result.type, op.result.type.depth.data
            shape = type_.storage_shape()
        case mma.AllocOp():
            type_, times = op.result.type, 1
            shape = type_.storage_shape()
        case mma.RelayoutOp() | mma.TransposeOp():
            type_, times = op.result.type, 1
            *rows, columns = type_.get_shape()
            shape = (*rows, columns + 4)
        case mma.ReduceOp():
            type_, times = op.result.type, LANES_SHARE
            shape = type_.get_shape()
        case _:
            return 0
    return times * prod(shape) * element_bytes(type_.get_element_type())


def _piece(shape: tuple[int, int], type_: mma.FragmentType, lowering: WarpLowering) -> SSAValue:
    """A buffer of this shape, the same for all stores that can share it."""
    key = (shape, type_.element_type)
    if key not in lowering.pieces:
        lowering.pieces[key] = new_buffer(shape, type_.element_type, lowering)
    return lowering.pieces[key]
