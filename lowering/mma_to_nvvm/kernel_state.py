"""What is known of the kernel being lowered: its memory, rings, threads, and what its values are made of.

An index is 32 bits wide: sizes, and strides in elements, are below 2^31. Offsets in global memory have 64 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xdsl.dialects.builtin import IndexType, IntAttr
from xdsl.dialects.llvm import LLVMPointerType, LLVMStructType
from xdsl.ir import Attribute, Operation, SSAValue

from crosstile.dialects import mma
from crosstile.ir.index_math import Index
from crosstile.lowering.mma_to_nvvm.fragments import accumulator_type, word_types
from crosstile.targets.model import Machine

INDEX = IndexType()
GLOBAL = LLVMPointerType(IntAttr(1))
SHARED = LLVMPointerType(IntAttr(3))
GENERIC = LLVMPointerType()
SHARED_MEMORY = "shared_memory"
"""The symbol of a block's shared memory."""
SHARED_ALIGNMENT = 1024
"""Bytes: the period of the widest swizzle, which acts on addresses (PTX ISA, "Swizzling modes")."""
BARRIER_BYTES = 8
ALL_LANES = -1
"""The mask of all lanes of a warp."""
SLOT_BARRIERS = 2 * BARRIER_BYTES
"""A slot's barriers lie side by side: full, then free."""


def pending_types(type_: mma.PendingType) -> tuple[Attribute, ...]:
    """What stands for a fragment that products still write: one struct of all its registers."""
    count = len(word_types(type_.fragment))
    return (LLVMStructType.from_type_list([accumulator_type(type_.fragment)] * count),)


def convert_type(type_: Attribute) -> Sequence[Attribute]:
    """The types of the values that stand for one of ``type_``."""
    if isinstance(type_, mma.FragmentType):
        return word_types(type_)
    if isinstance(type_, mma.PendingType):
        return pending_types(type_)
    if isinstance(type_, mma.SlotType):
        return (INDEX,)  # its number, or its address: see ``slots``
    if isinstance(type_, mma.RingType):
        return ()
    return (type_,)


@dataclass(frozen=True)
class GlobalMemory:
    """A memref: its pointer, sizes, and strides in elements; ``number`` is that of the kernel's argument."""

    pointer: SSAValue
    sizes: tuple[Index, ...]
    strides: tuple[Index, ...]
    number: int


@dataclass
class Ring:
    """A ring: where its slots and barriers are, and how full slots become known.

    ``by_tensor_copies``: one thread starts copies of whole boxes.
    """

    type: mma.RingType
    base: int
    slot_bytes: int
    barriers: int = 0
    by_tensor_copies: bool = False

    @property
    def depth(self) -> int:
        """The number of slots."""
        return self.type.depth.data

    @property
    def has_parity(self) -> bool:
        """Whether the parity of the round is carried beside the slot; a count of slots has both if the depth is 2^n."""
        return self.has_barriers and bool(self.depth & (self.depth - 1))

    @property
    def has_barriers(self) -> bool:
        """Whether slots have barriers in memory."""
        return self.type.protocol.data == "barriers"


@dataclass
class Cursor:
    """Where one side of a ring stands: the number of its next slot, and the parity of the ring's round.

    A ring of 2^n slots with barriers counts on instead: the slot and the parity are bits of ``number``.
    """

    number: SSAValue
    phase: SSAValue


@dataclass
class Program:
    """The warps that run the operations being lowered: all of the kernel's, or a role's.

    ``barrier`` is the number of the barrier at which they meet. ``single``: one thread of them runs alone.
    """

    first_warp: int
    warps: int
    barrier: int
    single: bool = False


@dataclass
class KernelState:
    """The kernel being lowered: its machine, shared memory taken so far, rings, tensor maps.

    ``has_products_in_flight``: products are started and awaited, not executed by the warps themselves.
    ``shows_writes``: threads write scratch that products read through the asynchronous proxy (PTX ISA, "Async proxy").

    ``together``: rings of one depth that every wait names together stand at the same slot; each to the first of them.
    ``before``: where a side stood when it was asked last.
    ``cluster``: the blocks of a cluster along each dimension of the grid, none without clusters; ``sources``: of a ring
    that has barriers, the blocks that copy into its slots (``clusters``).
    ``rounded``: fragments of f32 whose registers hold numbers of tf32, since they are factors and nothing else.
    ``joint``: of those, the ones that are also filled and released together, and so share their barriers.
    ``read_by_lanes``: rings whose slots threads read, and not products alone.
    """

    machine: Machine
    warps: int
    cluster: tuple[int, ...] = ()
    shared: int = 0
    rings: dict[SSAValue, Ring] = field(default_factory=dict[SSAValue, Ring])
    cursors: dict[tuple[SSAValue, str], Cursor] = field(default_factory=dict[tuple[SSAValue, str], Cursor])
    before: dict[tuple[SSAValue, str], Cursor] = field(default_factory=dict[tuple[SSAValue, str], Cursor])
    memories: dict[SSAValue, GlobalMemory] = field(default_factory=dict[SSAValue, GlobalMemory])
    together: dict[SSAValue, SSAValue] = field(default_factory=dict[SSAValue, SSAValue])
    sources: dict[SSAValue, list[tuple[int, ...]]] = field(default_factory=dict[SSAValue, list[tuple[int, ...]]])
    joint: dict[SSAValue, SSAValue] = field(default_factory=dict[SSAValue, SSAValue])
    tensor_maps: dict[Attribute, SSAValue] = field(default_factory=dict[Attribute, SSAValue])
    has_products_in_flight: bool = False
    shows_writes: bool = False
    tensor_copies: set[Operation] = field(default_factory=set[Operation])
    read_by_lanes: set[SSAValue] = field(default_factory=set[SSAValue])
    arrived: set[SSAValue] = field(default_factory=set[SSAValue])
    rounded: set[SSAValue] = field(default_factory=set[SSAValue])

    def take(self, size: int, alignment: int = SHARED_ALIGNMENT) -> int:
        """The place of the next ``size`` bytes of shared memory."""
        place = -(-self.shared // alignment) * alignment
        self.shared = place + size
        return place
