"""Who knows of whose work: vector clocks over the warps of a cluster and its asynchronous engines.

Level: the simulator. In: releases and acquires (barriers, mbarriers, atomics, proxy fences). Out: whether an access of
one warp happens before one of another. Every warp counts its releases; ``known[w, 0, u]`` is the newest count of ``u``
whose work warp ``w`` may see, ``known[w, 1, u]`` the same behind a proxy fence: what ``u`` wrote with ordinary stores
up to there may be read by TMA and wgmma on behalf of ``w``; and ``known[w, 2, u]`` the same of mbarriers that ``u``
made ready, which a fence of their own shows even to those who are told nothing else. Agents beyond the warps are
mbarriers, for the copies that report to them. Source: Lamport 1978; Flanagan and Freund, FastTrack, PLDI 2009; PTX ISA,
"Memory Consistency Model".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EVERY_LANE = (1 << 32) - 1
"""The lanes of a warp, as bits."""

Knowledge = NDArray[np.int32]
"""What one warp knows, [3, agents]: plain, behind a proxy fence, and of mbarriers that are ready."""


class Clocks:
    """The knowledge of all warps of a cluster."""

    def __init__(self, warps: int):
        self.warps = warps
        self.readers = warps + warps // 4
        """Warps, and behind them their warpgroups, in whose name wgmma reads."""
        self.agents = self.readers
        self.known: NDArray[np.int32] = np.zeros((warps, 3, self.readers + 32), np.int32)
        self.known[np.arange(warps), 0, np.arange(warps)] = 1
        self.step: NDArray[np.int32] = np.zeros(warps, np.int32)
        """How often the lanes of each warp have met, in a barrier of their own or in any other."""
        self.accessed: NDArray[np.int32] = np.full(warps, -1, np.int32)
        """The step in which lanes of each warp accessed shared memory last."""
        self.releases: list[list[tuple[int, int, int]]] = [[] for _ in range(warps)]
        """Of each warp that is in ``partial`` its count and step at each release, and the lanes, as bits."""
        self.told_by_all: list[list[tuple[int, int, int]]] = [[] for _ in range(warps)]
        """The same of the last release by every lane of each warp that is not in ``partial``, if there was one."""
        self.partial: set[int] = set()
        """The warps of which some lanes have told of work that others may have done since they met."""

    def new_agent(self) -> int:
        """The number of one more asynchronous engine."""
        if self.agents == self.known.shape[2]:
            self.known = np.concatenate([self.known, np.zeros_like(self.known)], axis=2)
        self.agents += 1
        return self.agents - 1

    def release(self, warp: int, lanes: int = EVERY_LANE) -> Knowledge:
        """What ``lanes`` of ``warp`` know now, to be handed on; its own work from here on is newer."""
        given = self.known[warp].copy()
        if lanes != EVERY_LANE and self.accessed[warp] == self.step[warp] and warp not in self.partial:
            self.partial.add(warp)
            self.releases[warp] += self.told_by_all[warp]
        now = int(given[0, warp]), int(self.step[warp]), lanes
        if warp in self.partial:
            self.releases[warp].append(now)
        elif lanes == EVERY_LANE:
            self.told_by_all[warp] = [now]
        self.known[warp, 0, warp] += 1
        return given

    def is_told(self, warp: int, lane: int, clock: int, step: int, known: int) -> bool:
        """Whether who knows of ``warp`` up to the count ``known`` knows what ``lane`` did at ``clock``, in ``step``.

        A lane tells of its own work, and of what others did before they met it. A negative ``lane`` is all of them.
        """
        needed, told = EVERY_LANE if lane < 0 else 1 << lane, 0
        for count, when, lanes in reversed(self.releases[warp]):
            if count > known:
                continue
            if count < clock:
                break
            if when > step:
                return True
            told |= lanes
            if told & needed == needed:
                return True
        return not told

    def acquire(self, warp: int, given: Knowledge) -> None:
        """Warp ``warp`` knows what was handed on, too, and its lanes what the others did before."""
        self.step[warp] += 1
        width = given.shape[1]
        own = self.known[warp, :, :width]
        np.maximum(own, given, out=own)

    def fence_proxy(self, warp: int) -> None:
        """What ``warp`` knows of ordinary writes may now be read asynchronously; what it writes later is newer."""
        np.maximum(self.known[warp, 1], self.known[warp, 0], out=self.known[warp, 1])
        self.known[warp, 0, warp] += 1

    def fence_ready(self, warp: int) -> None:
        """The mbarriers that ``warp`` has initialised so far are shown to whoever hears of it at all."""
        self.known[warp, 2, warp] = self.known[warp, 0, warp]
        self.known[warp, 0, warp] += 1

    def release_ready(self, warp: int) -> Knowledge:
        """What ``warp`` hands on where it orders nothing: the mbarriers that a fence has shown."""
        given = np.zeros_like(self.known[warp])
        given[2] = self.known[warp, 2]
        return given


def join(first: Knowledge | None, second: Knowledge) -> Knowledge:
    """Both together."""
    if first is None:
        return second.copy()
    if first.shape[1] < second.shape[1]:
        first, second = second, first
    joined = first.copy()
    own = joined[:, : second.shape[1]]
    np.maximum(own, second, out=own)
    return joined
