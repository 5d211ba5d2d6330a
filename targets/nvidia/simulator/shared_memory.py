"""Shared memory of one block: its bytes, who touched which last, and what is still under way.

Level: the simulator. In: accesses of warps and of asynchronous engines, as granule numbers. Out: data, or a fault for
a race, a byte that nobody wrote, or one that an unfinished copy may still write or an unfinished wgmma still read.

An address is the byte's number in :attr:`SharedMemory.bytes`: the first 1024 belong to the system, as on the hardware.
Races are found by happens-before (:mod:`~crosstile.targets.nvidia.simulator.clocks`), never by luck of the schedule;
so are those of lanes of one warp, which know of each other's accesses once they have met, in bar.warp.sync or any other
barrier, and not because they happen to run together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstile.targets.nvidia.simulator.clocks import Clocks
from crosstile.targets.nvidia.simulator.faults import Trouble

Array = NDArray[Any]
Indices = NDArray[np.intp]

RESERVED = 1024
"""Bytes that sm_80 and later keep for the system in front of a block's own (CUDA C Programming Guide, compute
capabilities, "Shared Memory")."""
POISON = 0xDB
GENERIC, ASYNCHRONOUS, ATOMIC = 0, 1, 2
ALL_LANES = -1
"""In place of a lane: an access of a whole warp, such as ldmatrix, whose data are other lanes' than its rows."""
NEVER = -1
"""In place of a step: no lane's own access, or one that every lane knows of."""


class SharedMemory:
    """The shared memory of a block; granules are ``granule`` bytes, the narrowest access that the kernel makes."""

    def __init__(self, size: int, granule: int, clocks: Clocks, name: str):
        self.size = RESERVED + size
        self.granule = granule
        self.clocks = clocks
        self.name = name
        padded = -(-self.size // 16) * 16
        self.bytes: NDArray[np.uint8] = np.full(padded, POISON, np.uint8)
        self.views: dict[int, Array] = {width: self.bytes.view(f"u{width}") for width in (1, 2, 4, 8)}
        count = padded // granule
        self.writer: NDArray[np.int32] = np.full(count, -1, np.int32)
        self.writer_clock: NDArray[np.int32] = np.zeros(count, np.int32)
        self.writer_site: NDArray[np.int32] = np.full(count, -1, np.int32)
        self.writer_kind: NDArray[np.uint8] = np.zeros(count, np.uint8)
        self.writer_lane: NDArray[np.int8] = np.zeros(count, np.int8)
        self.writer_step: NDArray[np.int32] = np.full(count, NEVER, np.int32)
        self.reader_lane: NDArray[np.int8] = np.zeros((clocks.warps, count), np.int8)
        self.reader_step: NDArray[np.int32] = np.full((clocks.warps, count), NEVER, np.int32)
        self.reader_clock: NDArray[np.int32] = np.zeros((clocks.readers, count), np.int32)
        self.reader_site: NDArray[np.int32] = np.full((clocks.readers, count), -1, np.int32)
        self.arriving: NDArray[np.int32] = np.full(count, -1, np.int32)
        """The instruction that issued the copy which may write a granule at any time, -1 if none."""
        self.leaving: NDArray[np.int32] = np.full(count, -1, np.int32)
        """The number in ``reads`` of the asynchronous read of a granule that may still be under way, -1 if none."""
        self.reads: list[int] = []
        """The instruction of every asynchronous read so far."""
        self.copies_under_way = 0
        self.reads_under_way = 0

    def check_bounds(self, addresses: Array, width: int, what: str) -> None:
        """Raises :class:`Trouble` for an address outside the block's own bytes, or not a multiple of ``width``."""
        low, high = int(addresses.min()), int(addresses.max())
        if low < RESERVED or high + width > self.size:
            bad = low if low < RESERVED else high
            own = f"it has bytes {RESERVED:#x} to {self.size - 1:#x}" if self.size > RESERVED else "it has none"
            raise Trouble("bounds", f"{what} {width} bytes at {bad:#x} of {self.name}'s shared memory; {own}")
        if (bad := addresses % width).any():
            at = int(addresses[bad != 0][0])
            raise Trouble(
                "alignment", f"{what} {width} bytes at {at:#x} of shared memory, which is no multiple of {width}"
            )

    def granules(self, addresses: Array, width: int) -> Indices:
        """The granules [..., n] that ``width`` bytes at each address lie in."""
        first = addresses // self.granule
        count = max(1, width // self.granule)
        return first[..., np.newaxis] + np.arange(count) if count > 1 else first[..., np.newaxis]

    # Ordinary accesses: ``warp`` and ``lane`` broadcast against ``granules``.

    def note_read(
        self, granules: Indices, warp: Array, site: int, *, lane: Array | None = None, asynchronous: bool = False
    ) -> None:
        """A read by ``lane`` of ``warp``, or an engine's on its behalf, which is noted when it ends.

        Raises :class:`Trouble` if the bytes may be others.
        """
        if self.copies_under_way and (found := self.arriving[granules]).max() >= 0:
            raise self._unfinished(granules, found, "reads", "copy to it")
        writer = self.writer[granules]
        if writer.min() < 0:
            at = self._where(granules, writer < 0)
            raise Trouble("uninitialised", f"reads {at}, which nothing has written")
        clock = self.writer_clock[granules]
        known = self.clocks.known
        late = known[warp, 0, writer] < clock
        if late.any():
            raise self._race(granules, late, warp, "reads", "wrote", writer, self.writer_site)
        if self.clocks.partial:
            self._check_told(granules, warp, "reads")
        if lane is not None:
            self.clocks.accessed[warp] = self.clocks.step[warp]
            self._check_lanes(granules, warp, lane, "reads")
        if asynchronous:
            unfenced = (self.writer_kind[granules] != ASYNCHRONOUS) & (known[warp, 1, writer] < clock)
            if unfenced.any():
                at = self._where(granules, unfenced)
                site_of = int(self.writer_site[granules][unfenced][0])
                raise Trouble(
                    "race",
                    f"reads {at} through the asynchronous proxy without a fence.proxy.async after the ordinary write",
                    site_of,
                )
            return
        self.reader_clock[warp, granules] = known[warp, 0, warp]
        self.reader_site[warp, granules] = site
        if lane is not None:
            step = self.clocks.step[warp]
            others = (self.reader_step[warp, granules] == step) & (self.reader_lane[warp, granules] != lane)
            self.reader_lane[warp, granules] = lane
            others |= self.reader_lane[warp, granules] != lane  # lanes of this very access, of which one was kept
            if others.any():
                warps, many = np.broadcast_arrays(warp, granules)
                others = np.broadcast_to(others, many.shape)
                self.reader_lane[warps[others], many[others]] = ALL_LANES
            self.reader_step[warp, granules] = step

    def note_write(
        self,
        granules: Indices,
        warp: Array,
        site: int,
        *,
        lane: Array | None = None,
        kind: int = GENERIC,
        is_same: Callable[[], Array] | None = None,
    ) -> None:
        """A write by ``lane`` of ``warp``, checked against everything before.

        ``is_same`` says where it would change nothing.
        """
        self.check_write(granules, warp, kind=kind, is_same=is_same)
        if lane is not None:
            self.clocks.accessed[warp] = self.clocks.step[warp]
            self._check_lanes(granules, warp, lane, "writes", is_same)
        warps = np.broadcast_to(warp, granules.shape)
        self.writer[granules] = warps
        self.writer_clock[granules] = self.clocks.known[warps, 0, warps]
        self.writer_site[granules] = site
        self.writer_kind[granules] = kind
        self.writer_lane[granules] = ALL_LANES if lane is None else lane
        self.writer_step[granules] = NEVER if lane is None else self.clocks.step[warps]

    def _check_lanes(
        self, granules: Indices, warp: Array, lane: Array, does: str, is_same: Callable[[], Array] | None = None
    ) -> None:
        """Raises :class:`Trouble` if another lane of ``warp`` has accessed the bytes since the lanes last met."""
        step = self.clocks.step[warp]
        seen = [(self.writer[granules] == warp, self.writer_lane[granules], self.writer_step[granules], "wrote")]
        if does == "writes":
            seen.append((np.True_, self.reader_lane[warp, granules], self.reader_step[warp, granules], "read"))
        for own, other, when, did in seen:
            late = own & (when == step) & ((other != lane) | (lane == ALL_LANES))
            if not late.any() or (is_same is not None and not (late & ~is_same()).any()):
                continue
            sites = self.writer_site[granules] if did == "wrote" else self.reader_site[warp, granules]
            lanes = [int(np.broadcast_to(one, late.shape)[late][0]) for one in (lane, other)]
            first, second = ("all lanes" if one == ALL_LANES else f"lane {one}" for one in lanes)
            verb = does[:-1] if lanes[0] == ALL_LANES else does
            message = f"data race: {first} of warp {int(np.broadcast_to(warp, late.shape)[late][0])} {verb} "
            message += f"{self._where(granules, late)}, which {second} {did} without a bar.warp.sync between"
            raise Trouble("race", message, int(np.broadcast_to(sites, late.shape)[late][0]))

    def _check_told(
        self, granules: Indices, warp: Array, does: str, is_same: Callable[[], Array] | None = None
    ) -> None:
        """Raises :class:`Trouble` if lanes of another warp accessed the bytes, and only others told of it."""
        known = self.clocks.known
        for other in sorted(self.clocks.partial):
            wrote = self.writer_lane, self.writer_step, self.writer_clock, self.writer_site
            read = (one[other] for one in (self.reader_lane, self.reader_step, self.reader_clock, self.reader_site))
            seen = [("wrote", self.writer[granules] == other, *wrote)]
            seen += [("read", np.True_, *read)] if does == "writes" else []
            for did, there, lanes, steps, clocks, sites in seen:
                late = there & (warp != other) & (steps[granules] != NEVER)
                late &= clocks[granules] <= known[warp, 0, other]
                if not late.any() or (is_same is not None and not (late := late & ~is_same()).any()):
                    continue
                own, at, upto = (
                    np.broadcast_to(one, late.shape)[late] for one in (warp, granules, known[warp, 0, other])
                )
                for number, granule in enumerate(at.tolist()):
                    access = int(lanes[granule]), int(clocks[granule]), int(steps[granule])
                    if not self.clocks.is_told(other, *access, int(upto[number])):
                        which = "all lanes" if access[0] == ALL_LANES else f"lane {access[0]}"
                        raise Trouble(
                            "race",
                            f"data race: warp {int(own[number])} {does} {self.name}'s shared memory at "
                            f"{granule * self.granule:#x}, which {which} of warp {other} {did}; another lane told of "
                            "it, without a bar.warp.sync between",
                            int(sites[granule]),
                        )

    def check_write(
        self, granules: Indices, warp: Array, *, kind: int = GENERIC, is_same: Callable[[], Array] | None = None
    ) -> None:
        """Raises :class:`Trouble` if a write by ``warp`` now would meet an access that it does not know of."""
        if self.copies_under_way and (found := self.arriving[granules]).max() >= 0:
            raise self._unfinished(granules, found, "writes", "copy to it")
        if self.reads_under_way and (found := self.leaving[granules]).max() >= 0:
            found = np.where(found >= 0, np.asarray(self.reads, np.int32)[found], -1)
            raise self._unfinished(granules, found, "writes", "read of it")
        known = self.clocks.known
        writer = self.writer[granules]
        late = (writer >= 0) & (known[warp, 0, writer] < self.writer_clock[granules])
        if kind == ATOMIC:
            late &= self.writer_kind[granules] != ATOMIC
        if late.any() and (is_same is None or (late & ~is_same()).any()):
            raise self._race(granules, late, warp, "writes", "wrote", writer, self.writer_site)
        warps = np.broadcast_to(warp, granules.shape)
        seen = np.moveaxis(known[warps, 0, : self.clocks.readers], -1, 0)
        unseen = self.reader_clock[:, granules] > seen
        if unseen.any() and (is_same is None or (unseen & ~is_same()).any()):
            reader = unseen.argmax(axis=0)
            late = np.asarray(unseen.any(axis=0))
            sites = self.reader_site[reader, granules]
            raise self._race(granules, late, warp, "writes", "read", reader, sites, True)
        if self.clocks.partial and kind != ATOMIC:
            self._check_told(granules, warp, "writes", is_same)

    # Asynchronous accesses.

    def start_copy(self, granules: Indices, warp: int, site: int) -> None:
        """A copy on behalf of ``warp`` may write the granules from now on; they are poisoned."""
        self.check_write(granules, np.asarray(warp))
        self.arriving[granules] = site
        self.copies_under_way += 1

    def finish_copy(
        self, granules: Indices, agent: int, clock: int, site: int, kind: int, lane: Array | None = None
    ) -> None:
        """The copy has written, as ``agent`` at ``clock``.

        ``lane`` of the warp ``agent`` knows of it, and the others when they have met it; None if all do.
        """
        self.arriving[granules] = -1
        self.copies_under_way -= 1
        self.writer[granules] = agent
        self.writer_clock[granules] = clock
        self.writer_site[granules] = site
        self.writer_kind[granules] = kind
        self.writer_step[granules] = NEVER
        if lane is not None:
            self.clocks.accessed[agent] = self.clocks.step[agent]
            self.writer_lane[granules] = lane
            self.writer_step[granules] = self.clocks.step[agent]

    def start_read(self, granules: Indices, warp: int, site: int, lane: int | None = None) -> int:
        """An engine reads the granules on behalf of ``warp`` at some time from now on; the number of this read.

        ``lane`` is the one that asked for it, None if the whole warp did.
        """
        by = None if lane is None else np.asarray(lane)
        self.note_read(granules, np.asarray(warp), site, lane=by, asynchronous=True)
        self.reads.append(site)
        self.leaving[granules] = len(self.reads) - 1
        self.reads_under_way += 1
        return len(self.reads) - 1

    def finish_read(self, granules: Indices, reader: int, clock: int, read: int, lane: int | None = None) -> None:
        """The engine has read, in the name of ``reader`` (a warp or a warpgroup's agent) at ``clock``.

        ``lane`` of the warp knows of it, and the others when they have met it; None if all do.
        """
        self.leaving[granules[self.leaving[granules] == read]] = -1
        self.reads_under_way -= 1
        self.reader_clock[reader, granules] = clock
        self.reader_site[reader, granules] = self.reads[read]
        if lane is not None:
            self.reader_lane[reader, granules] = lane
            self.reader_step[reader, granules] = self.clocks.step[reader]

    # Messages.

    def _where(self, granules: Indices, wrong: Array) -> str:
        first = int(np.broadcast_to(granules, wrong.shape)[wrong][0]) * self.granule
        return f"{self.name}'s shared memory at {first:#x}"

    def _unfinished(self, granules: Indices, found: Array, does: str, what: str) -> Trouble:
        at = self._where(granules, found >= 0)
        return Trouble("pending", f"{does} {at} while an asynchronous {what} may be under way", int(found.max()))

    def _race(
        self,
        granules: Indices,
        late: Array,
        warp: Array,
        does: str,
        did: str,
        other: Array,
        sites: Array,
        sites_are_gathered: bool = False,
    ) -> Trouble:
        warps = np.broadcast_to(warp, late.shape)
        at, own, them = (
            self._where(granules, late),
            int(warps[late][0]),
            int(np.broadcast_to(other, late.shape)[late][0]),
        )
        sites = sites if sites_are_gathered else sites[granules]
        who = f"warp {them}" if them < self.clocks.warps else "an asynchronous operation"
        message = f"data race: warp {own} {does} {at}, which {who} {did} without a barrier between"
        return Trouble("race", message, int(np.broadcast_to(sites, late.shape)[late][0]))
