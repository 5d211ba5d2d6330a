"""Staging for a block of warps: how shared memory is stored, and buffers that all warps fill.

    %b = tile.stage %t : !tile.tile<64x64xbf16> -> !tile.buffer<64x64xbf16>
    ==>
    %b = mma.alloc : !mma.buffer<64x64xbf16, #mma.swizzle<128>>
    mma.barrier        if it may still be read, from the trip before
    mma.store %t, %b[%zero, %zero]
    mma.barrier        unless a loop that copies ahead, and begins its trips with one, is all that reads it

A stage that a loop copies ahead is a slot of a ring instead (``pipelines``).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from xdsl.dialects.builtin import AffineMapAttr, MemRefType, NoneAttr
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineExpr, AffineMap

from crosstile.dialects import mma, tile
from crosstile.dialects.mma.attributes import SWIZZLES, LayoutAttr, SwizzleAttr
from crosstile.dialects.tile.types import capacity_type
from crosstile.ir.index_math import Index
from crosstile.lowering.llvm_types import element_bytes
from crosstile.lowering.loops import build_for
from crosstile.lowering.tile_to_mma.places import Place, number, place_of_window, window_of
from crosstile.lowering.tile_to_mma.warps.layouts import memory_layout
from crosstile.lowering.tile_to_mma.warps.state import WarpLowering

COPIED_AT_ONCE = 32
"""Elements of a staged window that a thread has in registers at a time where it is not copied asynchronously."""

Storage = tuple[AffineMapAttr | NoneAttr, SwizzleAttr | NoneAttr, NoneAttr]


def storage_of(shape: Sequence[int], element: Attribute) -> Storage:
    """How a matrix is stored in shared memory: in panels as wide as the widest swizzle that divides its rows."""
    bits = element_bytes(element) * 8
    widths = [width for width in sorted(SWIZZLES, reverse=True) if shape[-1] * bits % (8 * width) == 0]
    fitting = [width for width in widths if prod(shape[:-1]) * width % (8 * width) == 0]
    if len(shape) != 2 or not fitting:
        return NoneAttr(), NoneAttr(), NoneAttr()
    panel = fitting[0] * 8 // bits
    if panel == shape[-1]:
        return NoneAttr(), SwizzleAttr(fitting[0]), NoneAttr()
    rows, columns = AffineExpr.dimension(0), AffineExpr.dimension(1)
    by = AffineMap(2, 0, (columns // panel, rows, columns % panel))
    return AffineMapAttr(by), SwizzleAttr(fitting[0]), NoneAttr()


def is_copied(op: tile.StageOp) -> bool:
    """Whether ``op`` can be an asynchronous copy: of a matrix in memory, zeros beyond it."""
    window = op.source.owner
    return (
        isinstance(window, tile.WindowOp)
        and isinstance(window.source.type, MemRefType)
        and capacity_type(op.source).get_num_dims() == 2
        and number(op.pad) in (None, 0)
    )


def is_exchanged(op: tile.StageOp, lowering: WarpLowering) -> bool:
    """Whether an instruction reads ``op`` with k contiguous and memory has the other dimension so."""
    window = op.source.owner
    if not isinstance(window, tile.WindowOp):
        return False
    down = runs_down(window)
    products = [use.operation for use in op.result.uses if isinstance(use.operation, tile.ContractOp)]
    rows = [(lowering.rows[product], product.rhs is op.result) for product in products]
    return any((row.rhs.along_k and not down) if right else (row.lhs.along_k and down) for row, right in rows)


def copied_ahead(op: tile.ForOp, lowering: WarpLowering) -> list[tile.StageOp]:
    """The stages of the loop ``op`` that it copies some trips ahead itself; each of its trips begins with a barrier."""
    if op.pipeline is None or op.pipeline.value.data < 2 or op.role is not None:
        return []
    stages = [inner for inner in op.body.block.ops if isinstance(inner, tile.StageOp) and is_copied(inner)]
    return [stage for stage in stages if not is_exchanged(stage, lowering)]


def _is_read_ahead_of_barriers(op: tile.StageOp, lowering: WarpLowering) -> bool:
    """Whether something reads ``op`` before a loop that copies ahead has met at a barrier."""
    for use in op.result.uses:
        around: Operation | None = use.operation
        while around is not None and around.parent is not op.parent:
            around = around.parent_op()
        if not isinstance(around, tile.ForOp) or around is use.operation or not copied_ahead(around, lowering):
            return True
    return False


def runs_down(window: tile.WindowOp) -> bool:
    """Whether neighbours in memory are neighbours in a column of the window, and not in a row."""
    last = window.map.data.results[-1]
    dims = {part.position for part in last.dfs() if isinstance(part, AffineDimExpr)}
    return window.map.data.num_dims == 2 and dims == {0}


def transposed_view(scratch: SSAValue, lowering: WarpLowering) -> SSAValue:
    """The same scratch with rows and columns exchanged."""
    assert isinstance(scratch.type, mma.BufferType | mma.SlotType)
    exchanged = AffineMapAttr(AffineMap(2, 0, (AffineExpr.dimension(1), AffineExpr.dimension(0))))
    return lowering.insert(mma.ViewOp(scratch, exchanged, scratch.type.get_shape()[::-1])).result


def lower_stage(op: tile.StageOp, lowering: WarpLowering) -> None:
    """The slot that the loop around has waited for; else a buffer that all warps fill."""
    if (slot := lowering.slots.get(op)) is not None:
        lowering.replace(op, slot)
        return
    if not isinstance(op.source.type, tile.WindowType):
        lowering.replace(op, store_to_scratch(lowering.value(op.source), lowering))
        return
    window = window_of(op.source, lowering)
    place = place_of_window(window, lowering)
    down, exchanged = runs_down(window), is_exchanged(op, lowering)
    place = place.transposed() if down else place
    shape = place.shape[::-1] if exchanged else place.shape
    buffer = new_buffer(shape, capacity_type(op.source).element_type, lowering)
    if lowering.scratch_may_be_read:
        lowering.insert(mma.BarrierOp())
    _fill(place, transposed_view(buffer, lowering) if exchanged else buffer, number(op.pad), lowering)
    if _is_read_ahead_of_barriers(op, lowering):
        lowering.insert(mma.BarrierOp())
    lowering.replace(op, transposed_view(buffer, lowering) if down != exchanged else buffer)


def new_buffer(shape: Sequence[int], element: Attribute, lowering: WarpLowering) -> SSAValue:
    """A new buffer in shared memory."""
    alloc = mma.AllocOp(mma.BufferType.of(shape, element, *storage_of(shape, element)))
    lowering.insert_outside(alloc)
    return alloc.result


def store_to_scratch(fragment: SSAValue, lowering: WarpLowering) -> SSAValue:
    """A buffer that holds a fragment, which all warps may read."""
    assert isinstance(fragment.type, mma.FragmentType)
    shape = fragment.type.get_shape()
    buffer = new_buffer(shape, fragment.type.get_element_type(), lowering)
    if lowering.scratch_may_be_read:
        lowering.insert(mma.BarrierOp())
    whole_place(buffer).store(lowering, fragment)
    lowering.insert(mma.BarrierOp())
    return buffer


def whole_place(scratch: SSAValue) -> Place:
    """The place that is all of a buffer or slot."""
    assert isinstance(scratch.type, mma.BufferType | mma.SlotType)
    shape = scratch.type.get_shape()
    return Place(scratch, shape, AffineMap.identity(len(shape)), (), (None,) * len(shape))


def _fill(place: Place, buffer: SSAValue, pad: float | int | None, lowering: WarpLowering) -> None:
    """Copy a window to a buffer through registers, a few rows at a time."""
    assert isinstance(buffer.type, mma.BufferType)
    shape, element = buffer.type.get_shape(), buffer.type.get_element_type()
    most = max(1, COPIED_AT_ONCE * lowering.warps * lowering.arrangement.lanes // prod(shape[1:]))
    rows = max(size for size in range(1, shape[0] + 1) if shape[0] % size == 0 and size <= most)
    part_shape = (rows, *shape[1:])
    layout = memory_layout(part_shape, lowering.warps, lowering.arrangement.lanes, 8 * element_bytes(element))
    type_ = mma.FragmentType.of(part_shape, element, LayoutAttr(layout))
    target = whole_place(buffer)

    def part(at: Index) -> None:
        offsets = {} if at == 0 else {0: at}
        loaded = place.part(lowering, part_shape, offsets).load(lowering, type_, pad)
        target.part(lowering, part_shape, offsets).store(lowering, loaded)

    if rows == shape[0]:
        part(0)
        return

    def body(at: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
        part(at)
        return ()

    build_for(lowering, lowering.index.bounds(0, shape[0], rows), [], body, "row")
