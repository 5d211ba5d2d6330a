"""Races on global memory: last writer and last reader of every granule of an array that the kernel writes.

Level: the simulator. In: accesses of warps. Out: a fault where two of them are not ordered. Between blocks nothing
orders but atomics and strong loads and stores; a kernel that has any of those is trusted between blocks, within one
block it is checked all the same. Two writes of one value do no harm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstile.targets.nvidia.simulator.block import Block
from crosstile.targets.nvidia.simulator.faults import Trouble
from crosstile.targets.nvidia.simulator.global_memory import Allocation, GlobalShadow

Lanes = NDArray[Any]
MANY = -2
MOST_TRACKED = 1 << 28
"""Bytes of an array beyond which it is not watched: the shadow is eight times as large."""


def _shadow(allocation: Allocation, granule: int) -> GlobalShadow | None:
    if allocation.shadow is None and allocation.size <= MOST_TRACKED:
        count = allocation.bytes.size // granule

        def filled(dtype: Any) -> Any:
            return np.full(count, -1, dtype)

        allocation.shadow = GlobalShadow(
            filled(np.int64), filled(np.int32), filled(np.int32), filled(np.int64), filled(np.int32), filled(np.int32)
        )
    return allocation.shadow


def note_read(allocation: Allocation, granules: Lanes, block: Block, warp: Lanes, site: int) -> None:
    """A read by ``warp`` [accesses, 1] of granules [accesses, n]."""
    shadow = allocation.shadow
    if shadow is None:
        return
    writer = shadow.writer[granules]
    late = _unordered(block, warp, writer, shadow.writer_clock[granules])
    if late.any():
        raise _race(allocation, granules, late, block, "reads", "wrote", writer, shadow.writer_site[granules])
    own = np.broadcast_to(warp + block.cluster.first_warp_in_grid, granules.shape)
    reader = shadow.reader[granules]
    shadow.reader[granules] = np.where((reader == -1) | (reader == own), own, MANY)
    shadow.reader_clock[granules] = block.clocks.known[warp, 0, warp]
    shadow.reader_site[granules] = site


def note_write(
    allocation: Allocation, granules: Lanes, block: Block, warp: Lanes, site: int, is_same: Callable[[], Lanes]
) -> None:
    """A write by ``warp``; ``is_same`` says where it changes nothing."""
    shadow = _shadow(allocation, block.program.granule_of_global)
    if shadow is None:
        return
    writer = shadow.writer[granules]
    late = _unordered(block, warp, writer, shadow.writer_clock[granules])
    if late.any() and (late & ~is_same()).any():
        raise _race(allocation, granules, late, block, "writes", "wrote", writer, shadow.writer_site[granules])
    reader = shadow.reader[granules]
    late = _unordered(block, warp, reader, shadow.reader_clock[granules])
    if late.any() and (late & ~is_same()).any():
        raise _race(allocation, granules, late, block, "writes", "read", reader, shadow.reader_site[granules])
    own = np.broadcast_to(warp + block.cluster.first_warp_in_grid, granules.shape)
    shadow.writer[granules] = own
    shadow.writer_clock[granules] = block.clocks.known[warp, 0, warp]
    shadow.writer_site[granules] = site
    shadow.reader[granules] = -1


def _unordered(block: Block, warp: Lanes, other: Lanes, clock: Lanes) -> Lanes:
    first, count = block.cluster.first_warp_in_grid, block.clocks.warps
    within = other - first
    is_here = (within >= 0) & (within < count)
    known = block.clocks.known[warp, 0, np.where(is_here, within, 0)]
    late = is_here & (known < clock)
    if not block.program.synchronises_globally:
        late |= (other >= 0) & ~is_here
    return late


def _race(
    allocation: Allocation,
    granules: Lanes,
    late: Lanes,
    block: Block,
    does: str,
    did: str,
    other: Lanes,
    sites: Lanes,
) -> Trouble:
    granule = block.program.granule_of_global
    address = allocation.address + int(granules[late][0]) * granule
    them = int(other[late][0]) - block.cluster.first_warp_in_grid
    who = f"warp {them}" if 0 <= them < block.clocks.warps else "another block"
    where = f"global memory at {address:#x}"
    if allocation.name:
        where += f" ('{allocation.name}')"
    return Trouble("race", f"data race: {does} {where}, which {who} {did} without synchronisation", int(sites[late][0]))
