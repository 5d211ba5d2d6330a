"""Rules for rings: slots in shared memory, and how one side learns what the other has done.

Protocol ``groups`` (sm_80): all threads copy and commit; ``mma.wait`` waits for this thread's groups, and the kernel's
``mma.barrier`` tells the others. Protocol ``barriers`` (sm_90a): each slot has two barriers in memory. *full* completes
a phase when the copies have arrived, *free* when every warp that reads has released the slot::

    acquire   wait for free, parity of the round before     wait      wait for full, parity of this round
    commit    (copies announced their bytes to full)        release   one lane of each warp arrives at free

Where a ring stands is the number of its next slot and the parity of the round; both are values that loops carry.
"""

from __future__ import annotations

from math import prod

from xdsl.dialects import arith
from xdsl.ir import Operation, SSAValue

from crosstile.dialects import mma
from crosstile.dialects.mma.types import GROUPS
from crosstile.dialects.nvvm.copies import CpAsyncCommitGroupOp, CpAsyncWaitGroupOp
from crosstile.dialects.nvvm.synchronisation import (
    Barrier0Op,
    BarrierOp,
    FenceMbarrierInitOp,
    FenceProxyOp,
    MbarrierArriveOp,
    MbarrierInitOp,
    MbarrierTryWaitOp,
    WarpSyncOp,
)
from crosstile.lowering.linear_index import Linear
from crosstile.lowering.loops import run_if
from crosstile.lowering.mma_to_nvvm.fragments import LANES, memory_bytes
from crosstile.lowering.mma_to_nvvm.kernel_state import ALL_LANES, BARRIER_BYTES, SLOT_BARRIERS, Cursor, Ring
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering
from crosstile.lowering.mma_to_nvvm.tensor_maps import tensor_map_recipe

ACQUIRE, WAIT = "acquire", "wait"
TICKS = 0x989680
"""How long a thread sleeps at a barrier before it looks again, in nanoseconds."""


def ring_uses(op: Operation, lowering: NvvmLowering) -> list[tuple[SSAValue, str]]:
    """The sides of rings from outside that move on inside ``op``."""
    uses: dict[tuple[SSAValue, str], None] = {}
    for inner in op.walk():
        if isinstance(inner, mma.AcquireOp):
            uses[inner.ring, ACQUIRE] = None
        elif isinstance(inner, mma.WaitOp):
            uses.update({(lowering.kernel.together.get(ring, ring), WAIT): None for ring in inner.rings})
    return [use for use in uses if use in lowering.kernel.cursors]


def slot_bytes_of(type_: mma.RingType | mma.SlotType) -> int:
    """The bytes of one slot."""
    return prod(type_.storage_shape()) * memory_bytes(type_.element_type)


def plan_rings(kernel: mma.KernelOp, lowering: NvvmLowering) -> None:
    """Find out which copies are of whole boxes, and give their tensor maps a place among the parameters."""
    for op in kernel.walk():
        if isinstance(op, mma.LoadOp) and isinstance(op.source.type, mma.SlotType):
            lowering.kernel.reads_by_lanes = True
        if isinstance(op, mma.CopyAsyncOp) and _may_be_tensor_copy(op, lowering):
            recipe = tensor_map_recipe(op, lowering)
            if recipe is not None:
                lowering.kernel.tensor_copies.add(op)
    rings = [op for op in kernel.walk() if isinstance(op, mma.RingOp)]
    _find_together(kernel, lowering)
    for op in rings:  # all copies into a ring, or none
        copies = _copies_of(op)
        if not all(copy in lowering.kernel.tensor_copies for copy in copies):
            lowering.kernel.tensor_copies.difference_update(copies)
    for op in kernel.walk():
        if op in lowering.kernel.tensor_copies and isinstance(op, mma.CopyAsyncOp):
            recipe = tensor_map_recipe(op, lowering)
            assert recipe is not None
            lowering.kernel.tensor_maps[recipe] = op.source


def _find_together(kernel: mma.KernelOp, lowering: NvvmLowering) -> None:
    """Rings that are always waited for together need one count of where they stand."""
    waits = [tuple(op.rings) for op in kernel.walk() if isinstance(op, mma.WaitOp)]
    for group in waits:
        shapes = {(ring.type.depth, ring.type.protocol) for ring in group if isinstance(ring.type, mma.RingType)}
        alone = all(other == group or not set(other) & set(group) for other in waits)
        if alone and len(shapes) == 1 and shapes.pop()[1].data != GROUPS:
            lowering.kernel.together.update(dict.fromkeys(group, group[0]))


def _may_be_tensor_copy(op: mma.CopyAsyncOp, lowering: NvvmLowering) -> bool:
    owner = op.slot.owner
    if not isinstance(owner, mma.AcquireOp) or "sm_90a" not in lowering.kernel.machine.features:
        return False
    ring = owner.ring.type
    return isinstance(ring, mma.RingType) and ring.protocol.data != GROUPS and lowering.alignment >= 16


def _copies_of(ring: mma.RingOp) -> list[mma.CopyAsyncOp]:
    slots = [use.operation.results[0] for use in ring.result.uses if isinstance(use.operation, mma.AcquireOp)]
    return [use.operation for slot in slots for use in slot.uses if isinstance(use.operation, mma.CopyAsyncOp)]


def _program_of(op: Operation, kernel_warps: int) -> int:
    """The warps that run ``op``."""
    region = op.parent_region()
    while region is not None and (parent := region.parent) is not None:
        if isinstance(parent, mma.RolesOp):
            return next(role.warps for role in parent.roles if role.body is region)
        region = parent.parent_region()
    return kernel_warps


def lower_ring(op: mma.RingOp, lowering: NvvmLowering) -> None:
    """Shared memory for the slots and barriers; the first thread makes the barriers ready."""
    kernel, type_ = lowering.kernel, op.result.type
    ring = Ring(type_, kernel.take(slot_bytes_of(type_) * type_.depth.data), slot_bytes_of(type_))
    copies = _copies_of(op)
    ring.by_tensor_copies = bool(copies) and all(copy in kernel.tensor_copies for copy in copies)
    users = [use.operation for use in op.result.uses]
    ring.producers = max((_program_of(u, kernel.warps) for u in users if isinstance(u, mma.AcquireOp)), default=1)
    ring.consumers = max((_program_of(u, kernel.warps) for u in users if isinstance(u, mma.WaitOp)), default=1)
    kernel.rings[op.result] = ring
    zero, one = lowering.index.value(0), lowering.index.value(1)
    start = zero
    if ring.has_barriers:
        ring.barriers = kernel.take(SLOT_BARRIERS * ring.depth, BARRIER_BYTES)
        full = lowering.integer(1 if ring.by_tensor_copies else ring.producers * LANES)
        free = lowering.integer(ring.consumers)

        def init() -> None:
            for slot in range(ring.depth):
                place = ring.barriers + slot * SLOT_BARRIERS
                for offset, count in ((0, full), (BARRIER_BYTES, free)):
                    pointer = lowering.shared_pointer(lowering.shared_place(place + offset))
                    lowering.insert(MbarrierInitOp(pointer, count))

        run_if(lowering, lowering.compare("eq", lowering.thread(), 0), init)
    else:
        start = lowering.index.value(lowering.linear.value(lowering.shared_place(ring.base)))
    ahead = lowering.index.value(ring.depth) if ring.has_barriers and not ring.has_parity else start
    kernel.cursors[op.result, ACQUIRE] = Cursor(ahead, one)
    kernel.cursors[op.result, WAIT] = Cursor(start, zero)
    lowering.map_value(op.result)


def finish_barriers(lowering: NvvmLowering) -> None:
    """All threads see the barriers that the first one made ready."""
    if any(ring.has_barriers for ring in lowering.kernel.rings.values()):
        lowering.insert(FenceMbarrierInitOp())
        lowering.insert(Barrier0Op())


def _next_slot(
    lowering: NvvmLowering, value: SSAValue, side: str, before: Cursor | None = None
) -> tuple[SSAValue, SSAValue, SSAValue]:
    """The address of the next slot of a ring, that of its barriers, and the parity; the ring moves on.

    ``before``: where it stands, for one that another ring has moved on already.
    """
    kernel, index = lowering.kernel, lowering.index
    ring, first = kernel.rings[value], kernel.together.get(value, value) if side == WAIT else value
    cursor = kernel.cursors[first, side] if before is None else before
    if not ring.has_barriers:
        if ring.depth == 1:
            return cursor.number, index.value(0), index.value(0)
        last = lowering.linear.value(lowering.shared_place(ring.base + (ring.depth - 1) * ring.slot_bytes))
        begin = index.value(lowering.linear.value(lowering.shared_place(ring.base)))
        is_last = lowering.compare("eq", cursor.number, last)
        following = index.value(index.add(cursor.number, ring.slot_bytes))
        kernel.cursors[value, side] = Cursor(lowering.select(is_last, begin, following), cursor.phase)
        return cursor.number, index.value(0), index.value(0)
    number, phase = cursor.number, cursor.phase
    if not ring.has_parity:
        number = index.value(index.remainder(cursor.number, ring.depth))
        phase = index.value(index.remainder(index.floor_div(cursor.number, ring.depth), 2))
    address = lowering.linear.value(
        lowering.shared_place(ring.base) + lowering.linear.of_new(index.mul(number, ring.slot_bytes))
    )
    barriers = lowering.linear.value(
        lowering.shared_place(ring.barriers) + lowering.linear.of_new(index.mul(number, SLOT_BARRIERS))
    )
    if before is None:
        kernel.cursors[first, side] = _moved_on(lowering, ring, cursor)
    return index.value(address), index.value(barriers), phase


def _moved_on(lowering: NvvmLowering, ring: Ring, cursor: Cursor) -> Cursor:
    """Where a ring with barriers stands one slot later."""
    index = lowering.index
    following = index.value(index.add(cursor.number, 1))
    if not ring.has_parity:
        return Cursor(following, following)
    is_last = lowering.compare("eq", cursor.number, ring.depth - 1)
    flipped = index.build(arith.XOrIOp(cursor.phase, index.value(1))).result
    return Cursor(lowering.select(is_last, index.value(0), following), lowering.select(is_last, flipped, cursor.phase))


def _barrier(lowering: NvvmLowering, barriers: SSAValue, offset: int) -> SSAValue:
    return lowering.shared_pointer(lowering.linear.of_new(barriers) + Linear(offset))


def _wait(lowering: NvvmLowering, barriers: SSAValue, offset: int, phase: SSAValue) -> None:
    pointer = _barrier(lowering, barriers, offset)
    lowering.insert(MbarrierTryWaitOp(pointer, lowering.to_i32(phase), lowering.integer(TICKS)))


def lower_acquire(op: mma.AcquireOp, lowering: NvvmLowering) -> None:
    """The next slot, once it is free."""
    address, barriers, phase = _next_slot(lowering, op.ring, ACQUIRE)
    if lowering.kernel.rings[op.ring].has_barriers:
        _wait(lowering, barriers, BARRIER_BYTES, phase)
    lowering.map_value(op.slot, address, barriers)


def lower_wait(op: mma.WaitOp, lowering: NvvmLowering) -> None:
    """The next full slot of each ring."""
    if not lowering.kernel.rings[op.rings[0]].has_barriers:
        lowering.insert(CpAsyncWaitGroupOp(0 if op.in_flight is None else op.in_flight.value.data))
    together = lowering.kernel.together
    cursors = [lowering.kernel.cursors[together.get(ring, ring), WAIT] for ring in op.rings]
    for ring, slot, cursor in zip(op.rings, op.slots, cursors, strict=True):
        follows = together.get(ring, ring) is not ring
        address, barriers, phase = _next_slot(lowering, ring, WAIT, cursor if follows else None)
        if lowering.kernel.rings[ring].has_barriers:
            _wait(lowering, barriers, 0, phase)
        lowering.map_value(slot, address, barriers)


def lower_commit(op: mma.CommitOp, lowering: NvvmLowering) -> None:
    """A group of copies, or arrivals at the slots' full barriers."""
    rings = [lowering.kernel.rings.get(_ring_of(slot)) for slot in op.slots]
    if not op.slots or any(ring is not None and not ring.has_barriers for ring in rings):
        lowering.insert(CpAsyncCommitGroupOp())
        return
    for slot, ring in zip(op.slots, rings, strict=True):
        if slot in lowering.kernel.arrived:
            continue  # the copies' transactions complete the phase
        if ring is None or ring.by_tensor_copies:
            raise lowering.error("commits a slot that no tensor copy fills in the same block")
        barriers = lowering.values(slot)[1]
        pointer = _barrier(lowering, barriers, 0)
        # A product reads through the asynchronous proxy: the copies must have arrived before the fence.
        lowering.insert(CpAsyncCommitGroupOp())
        lowering.insert(CpAsyncWaitGroupOp(0))
        lowering.insert(FenceProxyOp())
        lowering.insert(MbarrierArriveOp(pointer))


def _ring_of(slot: SSAValue) -> SSAValue:
    owner = slot.owner
    if isinstance(owner, mma.AcquireOp):
        return owner.ring
    return slot


def lower_release(op: mma.ReleaseOp, lowering: NvvmLowering) -> None:
    """One arrival per warp at the slots' free barriers; nothing for groups, whose barrier tells."""
    pointers: list[SSAValue] = []
    for slot in op.slots:
        barriers = lowering.values(slot)[1]
        if _is_zero(barriers):
            continue
        pointers.append(_barrier(lowering, barriers, BARRIER_BYTES))
    if not pointers:
        return
    if lowering.kernel.reads_by_lanes:
        lowering.insert(WarpSyncOp(lowering.integer(ALL_LANES)))

    def arrive() -> None:
        for pointer in pointers:
            lowering.insert(MbarrierArriveOp(pointer))

    run_if(lowering, lowering.first_lane(), arrive)


def _is_zero(value: SSAValue) -> bool:
    owner = value.owner
    return isinstance(owner, arith.ConstantOp)


def lower_barrier(op: mma.BarrierOp, lowering: NvvmLowering) -> None:
    """All threads of the block, or of the role, meet."""
    meet(lowering)


def meet(lowering: NvvmLowering) -> None:
    """A barrier of the warps of the program, before which what they wrote is shown to products that read scratch."""
    program = lowering.program
    if lowering.kernel.shows_writes:
        lowering.insert(FenceProxyOp())
    if not program.barrier:
        lowering.insert(Barrier0Op())
    elif program.warps == 1:
        lowering.insert(WarpSyncOp(lowering.integer(ALL_LANES)))
    else:
        lowering.insert(BarrierOp(lowering.integer(program.barrier), lowering.integer(program.warps * LANES)))
