"""Rules for rings: slots in shared memory, and how one side learns what the other has done.

Protocol ``groups`` (sm_80): all threads copy and commit; ``mma.wait`` waits for this thread's groups, and the kernel's
``mma.barrier`` tells the others. Protocol ``barriers`` (sm_90a): each slot has two barriers in memory. *full* completes
a phase when the copies have arrived, *free* when every warp that reads has released the slot::

    acquire   wait for free, parity of the round before     wait      wait for full, parity of this round
    commit    (copies announced their bytes to full)        release   one lane of each warp arrives at free

Where a ring stands is the number of its next slot and the parity of the round; both are values that loops carry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod

from xdsl.dialects import arith, scf
from xdsl.ir import Block, Operation, SSAValue

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
from crosstile.lowering.loops import run_if
from crosstile.lowering.mma_to_nvvm.clusters import arrive_at_sources, meet_at_start, sources
from crosstile.lowering.mma_to_nvvm.fragments import LANES, memory_bytes
from crosstile.lowering.mma_to_nvvm.kernel_state import ALL_LANES, BARRIER_BYTES, SLOT_BARRIERS, Cursor, Ring
from crosstile.lowering.mma_to_nvvm.slots import barrier_of, ring_of, ring_state
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering
from crosstile.lowering.mma_to_nvvm.tensor_maps import copy_recipe

ACQUIRE, WAIT = "acquire", "wait"
TICKS = 0x989680
"""How long a thread sleeps at a barrier before it looks again, in nanoseconds."""


def ring_uses(op: Operation | Block, lowering: NvvmLowering) -> list[tuple[SSAValue, str]]:
    """The sides of rings from outside that move on inside ``op``."""
    uses: dict[tuple[SSAValue, str], None] = {}
    for inner in op.walk():
        if isinstance(inner, mma.AcquireOp):
            uses[_key(lowering, inner.ring, ACQUIRE)] = None
        elif isinstance(inner, mma.WaitOp):
            uses.update({_key(lowering, ring, WAIT): None for ring in inner.rings})
    return [use for use in uses if use in lowering.kernel.cursors]


def _key(lowering: NvvmLowering, ring: SSAValue, side: str) -> tuple[SSAValue, str]:
    """The side of the ring that stands for that of ``ring``, where several move on as one."""
    alike = lowering.kernel.together if side == WAIT else lowering.kernel.joint
    return alike.get(ring, ring), side


def _are_joint(lowering: NvvmLowering, ring: SSAValue, other: SSAValue) -> bool:
    """Whether two rings share their barriers."""
    joint = lowering.kernel.joint
    return ring is not other and ring in joint and joint[ring] is joint.get(other)


def slot_bytes_of(type_: mma.RingType | mma.SlotType) -> int:
    """The bytes of one slot."""
    return prod(type_.storage_shape()) * memory_bytes(type_.element_type)


def plan_rings(kernel: mma.KernelOp, lowering: NvvmLowering) -> None:
    """Find out which copies are of whole boxes, and give their tensor maps a place among the parameters."""
    for op in kernel.walk():
        if isinstance(op, mma.LoadOp | mma.CopyTransposedOp) and isinstance(op.source.type, mma.SlotType):
            lowering.kernel.read_by_lanes.add(ring_of(op.source))
        if isinstance(op, mma.CopyAsyncOp) and _may_be_tensor_copy(op, lowering):
            recipe = copy_recipe(op, lowering)
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
            recipe = copy_recipe(op, lowering)
            assert recipe is not None
            lowering.kernel.tensor_maps[recipe] = op.source


def _find_together(kernel: mma.KernelOp, lowering: NvvmLowering) -> None:
    """Rings that are always waited for together need one count of where they stand; if they are filled and released
    together as well, one pair of barriers a slot."""
    waits = [tuple(op.rings) for op in kernel.walk() if isinstance(op, mma.WaitOp)]
    rings = [op.result for op in kernel.walk() if isinstance(op, mma.RingOp)]
    releases = [{ring_of(slot) for slot in op.slots} for op in kernel.walk() if isinstance(op, mma.ReleaseOp)]
    for group in waits:
        shapes = {(ring.type.depth, ring.type.protocol) for ring in group if isinstance(ring.type, mma.RingType)}
        if len(shapes) != 1 or shapes.pop()[1].data == GROUPS or not _always(set(group), map(set, waits)):
            continue
        leader = next(ring for ring in rings if ring in group)
        lowering.kernel.together.update(dict.fromkeys(group, leader))
        if len(group) > 1 and _always(set(group), releases) and _filled_together(set(group)):
            lowering.kernel.joint.update(dict.fromkeys(group, leader))


def _always(group: set[SSAValue], sets: Iterable[set[SSAValue]]) -> bool:
    """Whether each set holds all of the group or none of it."""
    return all(group <= other or not group & other for other in sets)


def _filled_together(rings: set[SSAValue]) -> bool:
    """Whether a block that acquires a slot of one of the rings acquires one of each."""
    blocks: dict[Block | None, list[SSAValue]] = {}
    for ring in rings:
        for use in ring.uses:
            if isinstance(use.operation, mma.AcquireOp):
                blocks.setdefault(use.operation.parent, []).append(ring)
    return all(len(found) == len(rings) and set(found) == rings for found in blocks.values())


def _may_be_tensor_copy(op: mma.CopyAsyncOp, lowering: NvvmLowering) -> bool:
    owner = op.slot.owner
    if not isinstance(owner, mma.AcquireOp) or "sm_90a" not in lowering.kernel.machine.features:
        return False
    ring = owner.ring.type
    return isinstance(ring, mma.RingType) and ring.protocol.data != GROUPS and lowering.alignment >= 16


def _copies_of(ring: mma.RingOp) -> list[mma.CopyAsyncOp]:
    slots = [use.operation.results[0] for use in ring.result.uses if isinstance(use.operation, mma.AcquireOp)]
    return [use.operation for slot in slots for use in slot.uses if isinstance(use.operation, mma.CopyAsyncOp)]


def _is_written(ring: SSAValue) -> bool:
    """Whether warps write the slots of a ring at once, from another ring's."""
    slots = [use.operation.results[0] for use in ring.uses if isinstance(use.operation, mma.AcquireOp)]
    return any(isinstance(use.operation, mma.CopyTransposedOp) for slot in slots for use in slot.uses)


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
    ring.by_tensor_copies = _by_tensor_copies(op, lowering)
    kernel.rings[op.result] = ring
    zero, one = lowering.index.value(0), lowering.index.value(1)
    start = zero
    if ring.has_barriers:
        leader = kernel.joint.get(op.result, op.result)
        ring.barriers = _make_barriers(op, ring, lowering) if leader is op.result else kernel.rings[leader].barriers
    else:
        start = lowering.index.value(lowering.linear.value(lowering.shared_place(ring.base)))
    ahead = lowering.index.value(ring.depth) if ring.has_barriers and not ring.has_parity else start
    kernel.cursors[op.result, ACQUIRE] = Cursor(ahead, one)
    kernel.cursors[op.result, WAIT] = Cursor(start, zero)
    lowering.map_value(op.result)


def _by_tensor_copies(ring: mma.RingOp, lowering: NvvmLowering) -> bool:
    copies = _copies_of(ring)
    return bool(copies) and all(copy in lowering.kernel.tensor_copies for copy in copies)


def _make_barriers(op: mma.RingOp, ring: Ring, lowering: NvvmLowering) -> int:
    """Where the barriers of a ring are, and of those that share them: full counts everybody who fills a slot."""
    kernel = lowering.kernel
    place = kernel.take(SLOT_BARRIERS * ring.depth, BARRIER_BYTES)
    sharing = [value for value, leader in kernel.joint.items() if leader is op.result] or [op.result]
    full = lowering.integer(sum(_arrivals(value, lowering) for value in sharing))
    copies = [copy for value in sharing if isinstance(value.owner, mma.RingOp) for copy in _copies_of(value.owner)]
    kernel.sources[op.result] = sources(copies, lowering)
    free = lowering.integer(_warps_of(op, mma.WaitOp, lowering) * len(kernel.sources[op.result]))

    def init() -> None:
        for slot in range(ring.depth):
            for offset, count in ((0, full), (BARRIER_BYTES, free)):
                pointer = lowering.shared_pointer(lowering.shared_place(place + slot * SLOT_BARRIERS + offset))
                lowering.insert(MbarrierInitOp(pointer, count))

    run_if(lowering, lowering.compare("eq", lowering.thread(), 0), init)
    return place


def _arrivals(ring: SSAValue, lowering: NvvmLowering) -> int:
    """How many arrivals fill a slot: one thread's, every writing warp's, or every copying thread's."""
    assert isinstance(ring.owner, mma.RingOp)
    if _by_tensor_copies(ring.owner, lowering):
        return 1
    return _warps_of(ring.owner, mma.AcquireOp, lowering) * (1 if _is_written(ring) else LANES)


def _warps_of(ring: mma.RingOp, kind: type[Operation], lowering: NvvmLowering) -> int:
    """The warps that fill a ring, or that empty it."""
    users = [use.operation for use in ring.result.uses if isinstance(use.operation, kind)]
    return max((_program_of(user, lowering.kernel.warps) for user in users), default=1)


def finish_barriers(lowering: NvvmLowering) -> None:
    """All threads see the barriers that the first one made ready."""
    if any(ring.has_barriers for ring in lowering.kernel.rings.values()):
        lowering.insert(FenceMbarrierInitOp())
        if lowering.kernel.cluster:
            meet_at_start(lowering)
        else:
            lowering.insert(Barrier0Op())


def _take(lowering: NvvmLowering, ring: SSAValue, side: str, first: bool = True) -> tuple[SSAValue, SSAValue]:
    """The next slot of a ring and the parity of its round; the ring moves on unless it is not the ``first`` to ask."""
    key, state = _key(lowering, ring, side), lowering.kernel.rings[ring]
    cursor = lowering.kernel.cursors[key] if first else lowering.kernel.before[key]
    if first:
        lowering.kernel.before[key] = cursor
        lowering.kernel.cursors[key] = _moved_on(lowering, state, cursor)
    if state.has_parity or not state.has_barriers:
        return cursor.number, cursor.phase
    index = lowering.index
    slot = index.value(index.remainder(cursor.number, state.depth))
    return slot, index.value(index.remainder(index.floor_div(cursor.number, state.depth), 2))


def _moved_on(lowering: NvvmLowering, ring: Ring, cursor: Cursor) -> Cursor:
    """Where a ring stands one slot later."""
    index = lowering.index
    if not ring.has_barriers:
        if ring.depth == 1:
            return cursor
        begin, last = (
            index.value(lowering.linear.value(lowering.shared_place(ring.base + place * ring.slot_bytes)))
            for place in (0, ring.depth - 1)
        )
        is_last = lowering.compare("eq", cursor.number, last)
        following = index.value(index.add(cursor.number, ring.slot_bytes))
        return Cursor(lowering.select(is_last, begin, following), cursor.phase)
    following = index.value(index.add(cursor.number, 1))
    if not ring.has_parity:
        return Cursor(following, following)
    is_last = lowering.compare("eq", cursor.number, ring.depth - 1)
    flipped = index.build(arith.XOrIOp(cursor.phase, index.value(1))).result
    return Cursor(lowering.select(is_last, index.value(0), following), lowering.select(is_last, flipped, cursor.phase))


def _wait(lowering: NvvmLowering, slot: SSAValue, offset: int, phase: SSAValue) -> None:
    pointer = barrier_of(lowering, slot, offset)
    lowering.insert(MbarrierTryWaitOp(pointer, lowering.to_i32(phase), lowering.integer(TICKS)))


def lower_acquire(op: mma.AcquireOp, lowering: NvvmLowering) -> None:
    """The next slot, once it is free; of joint rings the first one acquired waits for all."""
    before = [other.ring for other in _before(op) if isinstance(other, mma.AcquireOp)]
    first = not any(_are_joint(lowering, op.ring, ring) for ring in before)
    slot, phase = _take(lowering, op.ring, ACQUIRE, first)
    lowering.map_value(op.slot, slot)
    if first and lowering.kernel.rings[op.ring].has_barriers:
        _wait(lowering, op.slot, BARRIER_BYTES, phase)


def _before(op: Operation) -> Iterator[Operation]:
    """The operations before ``op`` in its block."""
    before = op.prev_op
    while before is not None:
        yield before
        before = before.prev_op


def lower_wait(op: mma.WaitOp, lowering: NvvmLowering) -> None:
    """The next full slot of each ring; of joint rings the first one's barrier tells of all."""
    if not lowering.kernel.rings[op.rings[0]].has_barriers:
        lowering.insert(CpAsyncWaitGroupOp(0 if op.in_flight is None else op.in_flight.value.data))
    for number, (ring, result) in enumerate(zip(op.rings, op.slots, strict=True)):
        first = not any(_key(lowering, ring, WAIT) == _key(lowering, other, WAIT) for other in op.rings[:number])
        slot, phase = _take(lowering, ring, WAIT, first)
        lowering.map_value(result, slot)
        if lowering.kernel.rings[ring].has_barriers and not any(
            _are_joint(lowering, ring, other) for other in op.rings[:number]
        ):
            _wait(lowering, result, 0, phase)


def lower_commit(op: mma.CommitOp, lowering: NvvmLowering) -> None:
    """A group of copies, or arrivals at the slots' full barriers."""
    rings = [ring_state(lowering, slot) for slot in op.slots]
    if not all(ring.has_barriers for ring in rings) or not rings:
        lowering.insert(CpAsyncCommitGroupOp())
        return
    written = [barrier_of(lowering, slot, 0) for slot in op.slots if _is_written(ring_of(slot))]
    if written:  # each lane shows what it wrote, and one tells when all have
        lowering.insert(FenceProxyOp())
        meet_in_warp(lowering)
        _arrive_once(lowering, written)
    for slot, ring in zip(op.slots, rings, strict=True):
        if slot in lowering.kernel.arrived or _is_written(ring_of(slot)):
            continue  # the copies' transactions complete the phase
        if ring.by_tensor_copies:
            raise lowering.error("commits a slot that no tensor copy fills in the same block")
        # A product reads through the asynchronous proxy: the copies must have arrived before the fence.
        lowering.insert(CpAsyncCommitGroupOp())
        lowering.insert(CpAsyncWaitGroupOp(0))
        lowering.insert(FenceProxyOp())
        lowering.insert(MbarrierArriveOp(barrier_of(lowering, slot, 0)))


def lower_release(op: mma.ReleaseOp, lowering: NvvmLowering) -> None:
    """One arrival per warp at the slots' free barriers; nothing for groups, whose barrier tells."""
    slots = {lowering.kernel.joint.get(ring := ring_of(slot), ring): slot for slot in reversed(op.slots)}
    with_barriers = {
        leader: slot for leader, slot in reversed(slots.items()) if ring_state(lowering, slot).has_barriers
    }
    if not with_barriers:
        return
    if any(ring_of(slot) in lowering.kernel.read_by_lanes for slot in op.slots) and not _lanes_have_met(op):
        meet_in_warp(lowering)
    peers = lowering.kernel.sources
    own = [barrier_of(lowering, slot, BARRIER_BYTES) for ring, slot in with_barriers.items() if len(peers[ring]) == 1]
    if own:
        _arrive_once(lowering, own)
    for ring, slot in with_barriers.items():
        if len(peers[ring]) > 1:
            place = ring_state(lowering, slot).barriers
            arrive_at_sources(lowering, place, peers[ring], slot, BARRIER_BYTES)


def _arrive_once(lowering: NvvmLowering, barriers: Sequence[SSAValue]) -> None:
    """One lane of each warp arrives."""

    def arrive() -> None:
        for pointer in barriers:
            lowering.insert(MbarrierArriveOp(pointer))

    run_if(lowering, lowering.first_lane(), arrive)


def _lanes_have_met(op: mma.ReleaseOp) -> bool:
    """Whether the lanes of a warp met right before, when all had read, to tell that they had written."""
    before = op.prev_op
    return isinstance(before, mma.CommitOp) and any(_is_written(ring_of(slot)) for slot in before.slots)


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
        meet_in_warp(lowering)
    else:
        lowering.insert(BarrierOp(lowering.integer(program.barrier), lowering.integer(program.warps * LANES)))


def meet_in_warp(lowering: NvvmLowering) -> None:
    """The lanes of a warp learn of what the others wrote and read."""
    lowering.insert(WarpSyncOp(lowering.integer(ALL_LANES)))


def may_run_again(op: Operation) -> bool:
    """Whether ``op`` runs again, in a loop or in the block's next instance, with no barrier of all warps between."""
    inner, parent = op, op.parent_op()
    while parent is not None and not isinstance(inner, mma.KernelOp):
        if isinstance(parent, scf.ForOp | scf.WhileOp):
            body = inner.parent
            return body is None or not any(isinstance(other, mma.BarrierOp) for other in body.ops)
        if isinstance(parent, mma.ParallelOp) and parent.order.persistent is not None:
            return True
        inner, parent = parent, parent.parent_op()
    return False
