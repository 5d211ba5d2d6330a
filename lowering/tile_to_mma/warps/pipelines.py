"""Loops whose stages are copied ahead, into rings in shared memory.

``pipeline(n)`` of a ``tile.for`` asks for n trips in flight. Its staged windows are copied n - 1 trips ahead, into
rings of n slots::

    copies of trips 0 to n - 2, one group each
    trip t:  wait until at most n - 2 groups are on their way    slot t has arrived
             barrier                                             all warps see it, and have done with slot t - 1
             copies of trip t + n - 1                            into the slot of trip t - 1
             the body, reading slot t
             release slot t

A trip beyond the last commits an empty group, so that the count stays right. Elements outside the extents are filled
with zeros by the copies. Where a body has several products, the copies start behind the first: what is computed between
the products has room for them, and the first waits for nothing but its slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xdsl.dialects import arith
from xdsl.dialects.builtin import IntAttr, StringAttr
from xdsl.ir import Block, Operation, SSAValue

from crosstile.dialects import mma, tile
from crosstile.dialects.mma.types import GROUPS, RingType, shape_attribute
from crosstile.dialects.tile.types import capacity_type
from crosstile.ir.index_math import Index
from crosstile.lowering.loops import build_for, build_if
from crosstile.lowering.tile_to_mma.control import block_extent
from crosstile.lowering.tile_to_mma.places import place_of_window, window_of
from crosstile.lowering.tile_to_mma.warps.stages import copied_ahead, runs_down, storage_of, transposed_view
from crosstile.lowering.tile_to_mma.warps.state import WarpLowering


@dataclass(frozen=True)
class Blocks:
    """The blocks of a loop: from ``lower`` to ``upper`` in steps of ``step``, the last one shorter."""

    lower: Index
    upper: Index
    step: Index

    def enter(self, op: tile.ForOp, start: SSAValue, lowering: WarpLowering) -> None:
        """The body's arguments are those of the block that begins at ``start``."""
        old_start, old_extent = op.body.block.args[:2]
        lowering.map_value(old_start, start)
        if old_extent.uses:
            extent = block_extent(start, self.lower, self.upper, self.step, lowering)
            lowering.map_value(old_extent, lowering.index.value(extent))

    def start(self, trip: SSAValue, lowering: WarpLowering) -> SSAValue:
        """Where the block number ``trip`` begins."""
        index = lowering.index
        return index.value(index.add(self.lower, index.mul(trip, self.step)))

    def count(self, lowering: WarpLowering) -> Index:
        """How many there are."""
        index = lowering.index
        length = index.maximum(index.sub(self.upper, self.lower), 0)
        if isinstance(self.step, int):
            return index.floor_div(index.add(length, self.step - 1), self.step)
        return index.build(arith.CeilDivUIOp(index.value(length), index.value(self.step))).result


@dataclass
class Pipeline:
    """The rings of the loop ``op`` and the copies that fill them, for its ``stages``, ``depth`` trips in flight."""

    op: tile.ForOp
    blocks: Blocks
    stages: Sequence[tile.StageOp]
    depth: int
    trips: Index
    lowering: WarpLowering
    rings: list[SSAValue] = field(default_factory=list[SSAValue])
    slots: list[SSAValue] = field(default_factory=list[SSAValue])
    later: Block = field(default_factory=Block)
    """The copies that the trip starts behind its first product."""

    @staticmethod
    def of(op: tile.ForOp, blocks: Blocks, lowering: WarpLowering) -> Pipeline | None:
        """The pipeline of ``op``; None if it asks for none or stages no window of memory."""
        stages = copied_ahead(op, lowering)
        if not stages or op.pipeline is None:
            return None
        depth = op.pipeline.value.data
        pipeline = Pipeline(op, blocks, stages, depth, blocks.count(lowering), lowering)
        pipeline.rings = [pipeline._ring(stage) for stage in stages]
        return pipeline

    def fill(self) -> None:
        """Start the copies of the first trips, once nobody reads what an earlier run of the loop has left."""
        if self.lowering.in_loop:
            self.lowering.insert(mma.BarrierOp())

        def ahead(trip: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            self._copy_trip(trip)
            return ()

        build_for(self.lowering, self.lowering.index.bounds(0, self.depth - 1, 1), [], ahead, "trip")

    def enter(self, trip: SSAValue) -> None:
        """Wait for the slots of ``trip``, start the copies of a later one, and enter the block."""
        lowering = self.lowering
        trip.name_hint = "trip"
        self.slots = list(lowering.insert(mma.WaitOp(self.rings, self.depth - 2)).slots)
        lowering.insert(mma.BarrierOp())
        lowering.begun_with_barrier.add(lowering.open_blocks[-1])
        with lowering.index.branches(), lowering.at(self.later):
            self._copy_trip(lowering.index.value(lowering.index.add(trip, self.depth - 1)))
        if len(self._products) < 2:
            self._start_copies()
        for stage, slot in zip(self.stages, self.slots, strict=True):
            lowering.slots[stage] = as_staged(stage, slot, lowering)
        self.blocks.enter(self.op, self.blocks.start(trip, lowering), lowering)

    def behind(self, op: Operation) -> None:
        """What follows ``op`` of the body: the copies, if it is the first of several products."""
        if len(self._products) > 1 and self._products[0] is op:
            self._start_copies()

    @property
    def _products(self) -> list[Operation]:
        return [op for op in self.op.body.block.ops if isinstance(op, tile.ContractOp)]

    def _start_copies(self) -> None:
        for op in list(self.later.ops):
            op.detach()
            self.lowering.insert(op)

    def leave(self) -> None:
        """Nothing reads the slots of this trip any more."""
        self.lowering.insert(mma.ReleaseOp(*self.slots))

    def _ring(self, stage: tile.StageOp) -> SSAValue:
        ring = mma.RingOp(ring_type(stage, self.depth, GROUPS, self.lowering))
        self.lowering.insert_outside(ring)
        return ring.result

    def _copy_trip(self, trip: SSAValue) -> None:
        """The copies of ``trip``, as one group, which is empty if there is no such trip."""
        lowering = self.lowering
        exists = lowering.index.build(arith.CmpiOp(trip, lowering.index.value(self.trips), "slt")).result
        start = self.blocks.start(trip, lowering)

        def nothing() -> Sequence[SSAValue]:
            lowering.insert(mma.CommitOp())
            return ()

        def copies() -> Sequence[SSAValue]:
            self.blocks.enter(self.op, start, lowering)
            for op in _computed_for(self.stages, self.op.body.block):
                lowering.lower_op(op)
            lowering.insert(mma.CommitOp(*map(self._copy, self.stages, self.rings)))
            return ()

        build_if(lowering, exists, copies, nothing)

    def _copy(self, stage: tile.StageOp, ring: SSAValue) -> SSAValue:
        with self.lowering.about(stage):
            return copy_window(stage, ring, self.lowering)


def ring_type(
    stage: tile.StageOp, depth: int, protocol: str, lowering: WarpLowering, exchanged: bool = False
) -> RingType:
    """A ring of ``depth`` slots for what ``stage`` stages, stored as it lies in memory, or across if ``exchanged``."""
    type_ = capacity_type(stage.result)
    down = runs_down(window_of(stage.source, lowering))
    shape = type_.get_shape()[::-1] if down != exchanged else type_.get_shape()
    storage = storage_of(shape, type_.element_type)
    return RingType(IntAttr(depth), shape_attribute(shape), type_.element_type, *storage, StringAttr(protocol))


def as_staged(stage: tile.StageOp, slot: SSAValue, lowering: WarpLowering) -> SSAValue:
    """The slot with the rows and columns of the window that it is a copy of."""
    exchanged = stage in lowering.copied
    return transposed_view(slot, lowering) if runs_down(window_of(stage.source, lowering)) != exchanged else slot


def copy_window(stage: tile.StageOp, ring: SSAValue, lowering: WarpLowering, multicast: Sequence[int] = ()) -> SSAValue:
    """Start the copy of a stage's window into the next slot of ``ring``, which is returned.

    Blocks of a cluster along the dimensions ``multicast`` of the grid copy for each other.
    """
    slot = lowering.insert(mma.AcquireOp(ring)).slot
    window = window_of(stage.source, lowering)
    place = place_of_window(window, lowering)
    place = place.transposed() if runs_down(window) else place
    indices, by = place.operands(lowering)
    extents = place.extent_values(lowering)
    lowering.insert(mma.CopyAsyncOp(place.source, indices, slot, extents, by, place.clip, multicast))
    return slot


def _computed_for(stages: Sequence[tile.StageOp], block: Block) -> list[Operation]:
    """The operations of ``block`` that the windows of ``stages`` are computed by, in order."""
    found: set[Operation] = set()
    windows = [stage.source.owner for stage in stages]
    pending = [operand for window in windows if isinstance(window, Operation) for operand in window.operands]
    while pending:
        owner = pending.pop().owner
        if isinstance(owner, Operation) and owner.parent is block and owner not in found:
            found.add(owner)
            pending += owner.operands
    return [op for op in block.ops if op in found]
