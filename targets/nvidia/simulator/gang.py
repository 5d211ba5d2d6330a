"""Warps that run in lockstep: one register file of arrays over their lanes.

Level: the simulator. In: the warps of a block. Out: :class:`Gang`, which instructions read and write. Warps are
contexts of their own: a gang is only how they are stored while they do the same, and splits when they part. Lanes of
one warp that part are *strands* of the gang, each with a program counter and a mask; the scheduler runs the one that is
furthest behind and joins strands that meet. Register arrays are never changed in place, so that they may be shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crosstile.targets.nvidia.simulator.faults import Trouble

if TYPE_CHECKING:
    from crosstile.targets.nvidia.simulator.block import Block

Lanes = NDArray[Any]
Mask = NDArray[np.bool_]
LANES = 32


@dataclass(eq=False)
class Wait:
    """Why a strand does not go on: until ``ready``, and then ``resume`` once; ``what`` is for the report of a deadlock.

    ``barriers`` are the mbarriers whose copies would help, ``give_up`` lets a test that may answer "not yet" do so when
    nothing else can run; ``meets`` waits for other lanes of the same warps to arrive at the same instruction.
    """

    ready: Callable[[], bool]
    resume: Callable[[], None]
    what: str
    site: int
    give_up: Callable[[], None] | None = None
    meets: bool = False
    barriers: tuple[object, ...] = ()


@dataclass(eq=False)
class Strand:
    """Lanes of a gang at one place: ``mask`` is None for all of them."""

    gang: Gang
    pc: int
    mask: Mask | None
    wait: Wait | None = None


@dataclass(eq=False)
class Pending:
    """Registers that an asynchronous wgmma may still read or write: ``site`` issued it."""

    site: int
    writes: bool
    issue: int


@dataclass(eq=False)
class Gang:
    """Some warps of a block; ``watched`` has the registers that are not simply readable and why."""

    block: Block
    warps: Sequence[int]
    registers: list[Lanes | None]
    watched: dict[int, Mask | dict[int, Pending]] = field(default_factory=dict[int, "Mask | dict[int, Pending]"])
    mask: Mask | None = None
    dirty: set[int] = field(default_factory=set[int])
    """Registers of wgmma that were written since the last wgmma.fence."""
    special: dict[str, Lanes] = field(default_factory=dict[str, Lanes])

    def __post_init__(self) -> None:
        numbers = np.asarray(self.warps, np.int64)
        self.size = len(numbers) * LANES
        self.thread: NDArray[np.int64] = (numbers[:, np.newaxis] * LANES + np.arange(LANES)).reshape(-1)
        """The number of each lane's thread in its block."""
        self.warp: NDArray[np.int64] = np.repeat(numbers, LANES) + self.block.first_warp
        """The number of each lane's warp in its cluster."""
        self.warp_column = self.warp[:, np.newaxis]
        self.lane: NDArray[np.int64] = self.thread % LANES
        self.strands: list[Strand] = []

    # Registers.

    def unusual(self, index: int) -> Lanes:
        """A register that is undefined, in part undefined, or in use by wgmma, if that does no harm."""
        found = self.watched.get(index)
        name = self.block.program.register_names[index]
        value = self.registers[index]
        if isinstance(found, dict):
            writing = [pending.site for pending in found.values() if pending.writes]
            if writing:
                raise Trouble("pending", f"reads {name} before wgmma.wait_group: it is being written", writing[0])
        elif value is None:
            raise Trouble("uninitialised", f"reads {name}, which was never written")
        elif found is not None:
            lost = ~found if self.mask is None else self.mask & ~found
            if lost.any():
                lane = int(self.lane[lost][0])
                raise Trouble("uninitialised", f"reads {name}, which lane {lane} never wrote")
        assert value is not None
        return value

    def write(self, index: int, value: Lanes) -> None:
        """The register takes ``value`` (its raw bits, [lanes] or [1]) in the active lanes."""
        mask = self.mask
        if value.shape[0] != self.size:
            value = np.broadcast_to(value, (self.size,))
        if index in self.watched:
            self._check_overwritten(index, mask)
        if mask is None:
            self.registers[index] = value
            return
        old = self.registers[index]
        if old is None:
            self.watched[index] = mask
            self.registers[index] = value
        else:
            self.registers[index] = np.where(mask, value, old)

    def _check_overwritten(self, index: int, mask: Mask | None) -> None:
        found = self.watched[index]
        if isinstance(found, dict):
            name = self.block.program.register_names[index]
            site = next(iter(found.values())).site
            raise Trouble("pending", f"writes {name} before wgmma.wait_group: wgmma is using it", site)
        if mask is None or (found := found | mask).all():
            del self.watched[index]
        else:
            self.watched[index] = found

    # Lanes.

    def active(self) -> Mask:
        """The mask of active lanes as an array."""
        return np.ones(self.size, np.bool_) if self.mask is None else self.mask

    def warp_rows(self) -> NDArray[np.bool_]:
        """The mask of active lanes, [warps, 32]."""
        return self.active().reshape(-1, LANES)

    def normal(self, mask: Mask) -> Mask | None:
        """``mask``, or None if it has all lanes."""
        return None if mask.all() else mask

    def take(self, rows: Sequence[int]) -> Gang:
        """A gang of the warps at ``rows`` of this one, with their registers and without strands."""
        lanes = (np.asarray(rows)[:, np.newaxis] * LANES + np.arange(LANES)).reshape(-1)
        registers = [None if value is None else value[lanes] for value in self.registers]
        gang = Gang(self.block, [self.warps[row] for row in rows], registers)
        for index, found in self.watched.items():
            if isinstance(found, dict):
                groups = {warp // 4 for warp in gang.warps}
                own = {group: pending for group, pending in found.items() if group in groups}
                if own:
                    gang.watched[index] = own
            elif not (part := found[lanes]).any():
                gang.registers[index] = None
            elif not part.all():
                gang.watched[index] = part
        gang.dirty = set(self.dirty)
        return gang

    def is_pending(self) -> bool:
        """Whether wgmma may be using registers."""
        return any(isinstance(found, dict) for found in self.watched.values())


def merge(first: Gang, second: Gang) -> Gang:
    """One gang of the warps of both, which must not be pending; without strands."""
    registers: list[Lanes | None] = []
    gang = Gang(first.block, [*first.warps, *second.warps], registers)
    for index, (one, two) in enumerate(zip(first.registers, second.registers, strict=True)):
        if one is None and two is None:
            registers.append(None)
            continue
        sides = ((one, first, two), (two, second, one))
        parts = [value if value is not None else np.zeros(side.size, other.dtype) for value, side, other in sides]  # pyright: ignore[reportOptionalMemberAccess]
        registers.append(np.concatenate(parts))
        if one is None or two is None or index in first.watched or index in second.watched:
            gang.watched[index] = np.concatenate([_defined(side, index) for side in (first, second)])
    gang.dirty = first.dirty | second.dirty
    return gang


def _defined(gang: Gang, index: int) -> Mask:
    if gang.registers[index] is None:
        return np.zeros(gang.size, np.bool_)
    found = gang.watched.get(index)
    return np.ones(gang.size, np.bool_) if found is None or isinstance(found, dict) else found
