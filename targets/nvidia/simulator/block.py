"""A thread block while it runs, and the cluster that it belongs to.

Level: the simulator. In: a decoded program and a launch. Out: the state that instructions of several warps share:
shared memory, named barriers, mbarriers, copies under way, and what there is to know of each warp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crosstile.targets.nvidia.simulator.clocks import Clocks, Knowledge, join
from crosstile.targets.nvidia.simulator.counts import Counts
from crosstile.targets.nvidia.simulator.faults import Trouble
from crosstile.targets.nvidia.simulator.global_memory import GlobalMemory
from crosstile.targets.nvidia.simulator.mbarrier import MBarrier
from crosstile.targets.nvidia.simulator.shared_memory import SharedMemory

if TYPE_CHECKING:
    from crosstile.targets.nvidia.simulator.program import Program
    from crosstile.targets.nvidia.tensor_map import TensorMap

Lanes = NDArray[Any]
Three = tuple[int, int, int]

LANES = 32
RANK_SHIFT = 24
"""An address in shared::cluster is the block's rank in the cluster above these bits, and its own address below."""

AGENT_SHIFT = 20
"""Warps and engines are told apart in the whole grid by the number of their cluster above these bits."""


@dataclass(frozen=True)
class Launch:
    """What all blocks have in common; ``parameters`` are the bytes of the parameter space."""

    grid: Three
    block: Three
    cluster: Three
    parameters: NDArray[np.uint8]
    tensor_maps: dict[int, TensorMap]
    memory: GlobalMemory
    shared_bytes: int
    architecture: str
    counts: Counts
    symbols: dict[str, int]


@dataclass(eq=False)
class NamedBarrier:
    """One of the 16 barriers of a block: threads expected in this use, and what those who arrived know."""

    expected: int = 0
    arrived: int = 0
    generation: int = 0
    given: Knowledge | None = None
    left: Knowledge | None = None
    reduction: list[Lanes] = field(default_factory=list[Any])
    result: int = 0
    site: int = -1


@dataclass(eq=False)
class SharedBarrier:
    """An mbarrier object in shared memory, what its arrivals know, and the copies that will report to it.

    ``maker`` is the warp that initialised it, at ``maker_clock``; ``agent`` stands for the copies, ``issued`` of which
    have begun and ``agent_clock`` have written.
    """

    machine: MBarrier
    agent: int
    maker: int
    maker_clock: int
    maker_site: int
    agent_clock: int = 0
    issued: int = 0
    given: Knowledge | None = None
    ended: Knowledge | None = None
    deliveries: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    last_copy: int = -1

    def change(self, operation: Callable[[], Any], knowledge: Knowledge | None) -> Any:
        """Applies ``operation`` to the state machine; what its phase's arrivals know goes to those who wait."""
        if knowledge is not None:
            self.given = join(self.given, knowledge)
        before = self.machine.phase
        result = operation()
        if self.machine.phase != before and self.given is not None:
            self.ended = join(self.ended, self.given)
            self.given = None
        return result


@dataclass(eq=False)
class AsyncCopy:
    """Ordinary cp.async of one warp: where its bytes go, what they are and which instruction issued it."""

    addresses: Lanes
    data: Lanes
    granules: NDArray[np.intp]
    site: int
    lane: Lanes
    """Who issued each row of them, and alone knows of it when it has waited."""


@dataclass(eq=False)
class WarpState:
    """Asynchronous copies that one warp has issued: not yet committed, and committed groups, oldest first."""

    open: list[AsyncCopy] = field(default_factory=list[AsyncCopy])
    groups: list[list[AsyncCopy]] = field(default_factory=list[list[AsyncCopy]])


@dataclass(eq=False)
class BulkState:
    """Bulk copies out of shared memory that one thread has issued: not yet committed, and committed groups."""

    open: list[BulkStore] = field(default_factory=list[Any])
    groups: list[list[BulkStore]] = field(default_factory=list[Any])


@dataclass(eq=False)
class BulkStore:
    """A bulk copy from shared to global memory: ``finish_read`` ends its use of the source, ``finish`` writes."""

    finish_read: Callable[[], None]
    finish: Callable[[], None]
    site: int
    has_read: bool = False


@dataclass(eq=False)
class WarpGroup:
    """wgmma of one warpgroup: what ends with those not yet committed, and with each committed group, oldest first."""

    open: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    groups: list[tuple[int, list[Callable[[], None]]]] = field(
        default_factory=list[tuple[int, list[Callable[[], None]]]]
    )
    issued: int = 0
    finished: int = 0


class Cluster:
    """The blocks that run together, one unless the launch has clusters; their warps are numbered through."""

    def __init__(self, launch: Launch, program: Program, corner: Three, number: int):
        self.launch = launch
        self.program = program
        self.number = number
        self.corner = corner
        self.threads = int(np.prod(launch.block))
        self.warps_per_block = -(-self.threads // 32)
        size = int(np.prod(launch.cluster))
        self.clocks = Clocks(size * self.warps_per_block)
        self.blocks: list[Block] = [Block(self, rank) for rank in range(size)]
        self.barrier = NamedBarrier()
        self.progress = 0
        """Grows with everything that a waiting strand may wait for."""
        self.executed = 0
        self.waited: dict[int, int] = {}
        """How often each warp has waited at the cluster's barrier."""


class Block:
    """One thread block."""

    def __init__(self, cluster: Cluster, rank: int):
        launch, program = cluster.launch, cluster.program
        self.cluster = cluster
        self.launch = launch
        self.program = program
        self.rank = rank
        self.clocks = cluster.clocks
        shape = launch.cluster
        within = (rank % shape[0], rank // shape[0] % shape[1], rank // (shape[0] * shape[1]))
        x, y, z = (corner + inner for corner, inner in zip(cluster.corner, within, strict=True))
        self.index: Three = (x, y, z)
        self.within = within
        self.first_warp = rank * cluster.warps_per_block
        self.warps = cluster.warps_per_block
        name = f"block {self.index}"
        self.shared = SharedMemory(program.shared_bytes + launch.shared_bytes, program.granule, self.clocks, name)
        self.local: NDArray[np.uint8] = np.zeros((cluster.threads, program.local_bytes), np.uint8)
        self.barriers: dict[int, NamedBarrier] = {}
        self.mbarriers: dict[int, SharedBarrier] = {}
        self.states = [WarpState() for _ in range(self.warps)]
        self.bulk: dict[int, BulkState] = {}
        self.warpgroups = [WarpGroup() for _ in range(-(-self.warps // 4))]
        self.exited_threads = 0
        self.ended: Knowledge | None = None
        """What the warps that have ended knew."""
        self.touched: dict[int, tuple[int, int]] = {}
        """By warp of another block, when it last used this block's shared memory, and by which instruction."""
        self.global_releases: dict[int, Knowledge] = {}

    @property
    def first_agent_in_grid(self) -> int:
        """The number in the grid of the cluster's first warp; warps and engines of its blocks count through."""
        return self.cluster.number << AGENT_SHIFT

    def mbarrier(self, address: int) -> SharedBarrier:
        """The initialised object at ``address``. Raises :class:`Trouble` if there is none."""
        found = self.mbarriers.get(address)
        if found is None:
            raise Trouble("barrier", f"uses an mbarrier at {address:#x} of shared memory that was never initialised")
        return found

    def check_alive(self, by: Block) -> None:
        """Raises :class:`Trouble` if block ``by`` uses shared memory of this one, whose threads have all ended."""
        if self is not by and self.exited_threads == self.warps * LANES:
            raise Trouble("bounds", f"uses the shared memory of block {self.index}, all threads of which have ended")

    def touch(self, by: Block, warps: Lanes, site: int) -> None:
        """Notes that ``warps`` of block ``by`` use shared memory of this block, which must not end before."""
        if self is by:
            return
        self.check_alive(by)
        for warp in np.unique(warps).tolist():
            self.touched[warp] = (int(self.clocks.known[warp, 0, warp]), site)

    def end(self, warps: Sequence[int]) -> None:
        """``warps`` (numbers in the block) have ended. Raises :class:`Trouble` if the block may have ended too soon."""
        for warp in warps:
            self.ended = join(self.ended, self.clocks.known[self.first_warp + warp])
        if self.exited_threads < self.warps * LANES or self.ended is None:
            return
        for warp, (clock, site) in self.touched.items():
            if self.ended[0, warp] < clock:
                raise Trouble(
                    "race",
                    f"block {self.index} ends and does not know that warp {warp} of its cluster has done with its "
                    "shared memory: barrier.cluster is missing",
                    site,
                )

    def peer(self, rank: int) -> Block:
        """The block of that rank in the cluster. Raises :class:`Trouble` if there is none."""
        if not 0 <= rank < len(self.cluster.blocks):
            raise Trouble("bounds", f"names block {rank} of a cluster of {len(self.cluster.blocks)}")
        return self.cluster.blocks[rank]


def threads_of(warps: Sequence[int]) -> int:
    """The threads that barriers count for ``warps``: whole warps, PTX ISA, "bar, barrier"."""
    return len(warps) * 32
