"""Slots of rings: which ring a slot is of, where its elements and its barriers are.

A slot is one value: of a ring with barriers its number, from which follow the addresses of its elements, of its
barriers and of a descriptor, each by one shift and add; of a ring of groups the address of its first byte::

    slot %n of !mma.ring<4 x 128x64xbf16>    elements at base + %n * 16384, barriers at barriers + %n * 16

Rings whose slots are always filled, waited for and released together share their barriers.
"""

from __future__ import annotations

from math import gcd

from xdsl.dialects import arith, scf
from xdsl.ir import Block, SSAValue

from crosstile.dialects import mma
from crosstile.lowering.linear_index import Linear, Term
from crosstile.lowering.mma_to_nvvm.kernel_state import SHARED_ALIGNMENT, SLOT_BARRIERS, Ring
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering

BLOCK_BYTES = 1 << 24
"""An address of shared memory has the number of the block in the cluster above these bits."""


def ring_of(slot: SSAValue) -> SSAValue:
    """The ring of a slot, which may have come round loops and out of branches."""
    owner = slot.owner
    match owner:
        case mma.AcquireOp():
            return owner.ring
        case mma.WaitOp():
            return owner.rings[owner.slots.index(slot)]
        case mma.ViewOp():
            return ring_of(owner.source)
        case scf.ForOp():
            return ring_of(owner.iter_args[owner.results.index(slot)])
        case scf.IfOp():
            terminator = owner.true_region.block.last_op
            assert terminator is not None
            return ring_of(terminator.operands[owner.results.index(slot)])
        case Block():
            loop = owner.parent_op()
            assert isinstance(loop, scf.ForOp), "a slot is an argument of loops only"
            return ring_of(loop.iter_args[owner.args.index(slot) - 1])
        case _:
            raise AssertionError(f"'{owner.name}' gives no slot")


def ring_state(lowering: NvvmLowering, slot: SSAValue) -> Ring:
    """What is known of the ring of a slot."""
    return lowering.kernel.rings[ring_of(slot)]


def address_of(lowering: NvvmLowering, memory: SSAValue) -> Linear:
    """The address of the first byte of scratch, a buffer's or a slot's."""
    value = lowering.value(memory)
    if not isinstance(memory.type, mma.SlotType):
        return lowering.linear.of_new(value, SHARED_ALIGNMENT)
    ring = ring_state(lowering, memory)
    if not ring.has_barriers:
        return lowering.linear.of_new(value, gcd(SHARED_ALIGNMENT, ring.slot_bytes))
    return lowering.shared_place(ring.base) + lowering.linear.of_new(value).scale(ring.slot_bytes)


def own_address_of(lowering: NvvmLowering, memory: SSAValue) -> Linear:
    """The same without the number of the block in its cluster, which descriptors have no room for."""
    address = address_of(lowering, memory)
    if not lowering.kernel.cluster:
        return address
    base, index = lowering.shared_base(), lowering.index
    own = memory.type if isinstance(memory.type, mma.SlotType) else None

    def local(value: SSAValue) -> SSAValue:
        return index.build(arith.AndIOp(value, index.value(BLOCK_BYTES - 1))).result

    terms = (
        Term(local(term.value), term.factor, term.multiple) if own is None or term.value is base else term
        for term in address.terms
    )
    return Linear(address.constant, tuple(terms))


def barrier_of(lowering: NvvmLowering, slot: SSAValue, offset: int) -> SSAValue:
    """A pointer to a slot's barrier, full or free, of a ring with barriers."""
    barriers = lowering.shared_place(ring_state(lowering, slot).barriers + offset)
    return lowering.shared_pointer(barriers + lowering.linear.of_new(lowering.value(slot)).scale(SLOT_BARRIERS))
