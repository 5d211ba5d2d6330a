"""Races on global memory: the last writer and two readers of every granule of an array.

Level: the simulator. In: accesses of warps and of bulk copies. Out: a fault where two of them are not ordered. Between
blocks nothing orders but atomics and strong loads and stores; a kernel that has any of those is trusted between blocks,
within one block it is checked all the same. Two writes of one value do no harm.

A bulk store writes at some time between its issue and the wait of the thread that issued it: until then every access to
its target is a fault. A bulk load reads in the name of its mbarrier, at some time before the phase ends. Of the readers
since the last write two are kept that do not know of each other: where a barrier is missing, one of them at least is
not ordered with a writer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstile.targets.nvidia.simulator.block import AGENT_SHIFT, Block
from crosstile.targets.nvidia.simulator.faults import Trouble
from crosstile.targets.nvidia.simulator.global_memory import Allocation, GlobalShadow

Lanes = NDArray[Any]
MOST_TRACKED = 1 << 28
"""Bytes of an array beyond which it is not watched: the shadow is many times as large."""


def _shadow(allocation: Allocation, granule: int) -> GlobalShadow | None:
    if allocation.shadow is None and allocation.size <= MOST_TRACKED:
        allocation.shadow = GlobalShadow.of(allocation.bytes.size // granule)
    return allocation.shadow


def note_read(
    allocation: Allocation,
    granules: Lanes,
    block: Block,
    warp: Lanes,
    site: int,
    *,
    engine: tuple[int, int] | None = None,
) -> None:
    """A read by ``warp`` [accesses, 1] of granules [accesses, n].

    ``engine``: a bulk copy reads on the warp's behalf, and whoever knows of this agent at this clock knows that it has.
    """
    shadow = _shadow(allocation, block.program.granule_of_global)
    if shadow is None:
        return
    _check_pending(shadow, allocation, granules, block, "reads")
    writer = shadow.writer[granules]
    if writer.max() >= 0:
        late = _unordered(block, warp, writer, shadow.writer_clock[granules])
        if late.any():
            raise _race(allocation, granules, late, block, "reads", "wrote", writer, shadow.writer_site[granules])
        if engine is not None:
            _check_proxy(shadow, allocation, granules, block, warp, "reads")
    if engine is None:
        own = np.broadcast_to(warp + block.first_agent_in_grid, granules.shape)
        clock = block.clocks.known[warp, 0, warp]
    else:
        own = np.full(granules.shape, engine[0] + block.first_agent_in_grid)
        clock = np.full(granules.shape, engine[1])
    reader = shadow.reader[granules]
    others = reader != own
    if others.any():
        others &= _unordered(block, warp, reader, shadow.reader_clock[granules])
        moved = granules[others]
        shadow.earlier[moved] = reader[others]
        shadow.earlier_clock[moved] = shadow.reader_clock[moved]
        shadow.earlier_site[moved] = shadow.reader_site[moved]
    shadow.reader[granules] = own
    shadow.reader_clock[granules] = clock
    shadow.reader_site[granules] = site
    others = shadow.reader[granules] != own  # warps of this very access, of which one was kept
    if others.any():
        shadow.earlier[granules[others]] = own[others]
        shadow.earlier_clock[granules[others]] = np.broadcast_to(clock, own.shape)[others]
        shadow.earlier_site[granules[others]] = site


def note_write(
    allocation: Allocation, granules: Lanes, block: Block, warp: Lanes, site: int, is_same: Callable[[], Lanes]
) -> None:
    """A write by ``warp``; ``is_same`` says where it changes nothing."""
    shadow = _shadow(allocation, block.program.granule_of_global)
    if shadow is None:
        return
    _check_write(shadow, allocation, granules, block, warp, is_same)
    own = np.broadcast_to(warp + block.first_agent_in_grid, granules.shape)
    _set_writer(shadow, granules, own, block.clocks.known[warp, 0, warp], site, False)


def start_store(
    allocation: Allocation, granules: Lanes, block: Block, warp: int, site: int, is_same: Callable[[], Lanes]
) -> None:
    """A bulk store issued by ``warp`` may write the granules [elements, n] from now on."""
    shadow = _shadow(allocation, block.program.granule_of_global)
    if shadow is not None:
        _check_write(shadow, allocation, granules, block, np.asarray(warp), is_same)
        _check_proxy(shadow, allocation, granules, block, np.asarray(warp), "writes")
        shadow.pending[granules] = site
        shadow.stores_under_way += 1


def finish_store(allocation: Allocation, granules: Lanes, block: Block, warp: int, site: int) -> None:
    """The bulk store has written, and ``warp`` knows it."""
    shadow = allocation.shadow
    if shadow is not None:
        shadow.pending[granules] = -1
        shadow.stores_under_way -= 1
        clock = block.clocks.known[warp, 0, warp]
        _set_writer(shadow, granules, warp + block.first_agent_in_grid, clock, site, True)


def _set_writer(shadow: GlobalShadow, granules: Lanes, agent: Any, clock: Any, site: int, by_engine: bool) -> None:
    shadow.writer[granules] = agent
    shadow.writer_clock[granules] = clock
    shadow.writer_site[granules] = site
    shadow.by_engine[granules] = by_engine
    shadow.reader[granules] = -1
    shadow.earlier[granules] = -1


def _check_write(
    shadow: GlobalShadow,
    allocation: Allocation,
    granules: Lanes,
    block: Block,
    warp: Lanes,
    is_same: Callable[[], Lanes],
) -> None:
    _check_pending(shadow, allocation, granules, block, "writes")
    for did, other, clock, sites in (
        ("wrote", shadow.writer, shadow.writer_clock, shadow.writer_site),
        ("read", shadow.reader, shadow.reader_clock, shadow.reader_site),
        ("read", shadow.earlier, shadow.earlier_clock, shadow.earlier_site),
    ):
        found = other[granules]
        if found.max(initial=-1) < 0:
            continue
        late = _unordered(block, warp, found, clock[granules])
        if late.any() and (late & ~is_same()).any():
            raise _race(allocation, granules, late, block, "writes", did, found, sites[granules])


def _check_proxy(
    shadow: GlobalShadow, allocation: Allocation, granules: Lanes, block: Block, warp: Lanes, does: str
) -> None:
    """Ordinary writes come before what a bulk copy does for ``warp`` only behind a proxy fence."""
    late = _unordered(block, warp, shadow.writer[granules], shadow.writer_clock[granules], 1)
    late &= ~shadow.by_engine[granules]
    if late.any():
        address = allocation.address + int(granules[late][0]) * block.program.granule_of_global
        raise Trouble(
            "race",
            f"{does} {_place(allocation, address)} through the asynchronous proxy without a fence.proxy.async after "
            "the ordinary write",
            int(shadow.writer_site[granules][late][0]),
        )


def _check_pending(shadow: GlobalShadow, allocation: Allocation, granules: Lanes, block: Block, does: str) -> None:
    if shadow.stores_under_way and (found := shadow.pending[granules]).max(initial=-1) >= 0:
        address = allocation.address + int(granules[found >= 0][0]) * block.program.granule_of_global
        message = f"{does} {_place(allocation, address)} while a bulk copy to it may be under way"
        raise Trouble("pending", message, int(found.max()))


def _unordered(block: Block, warp: Lanes, other: Lanes, clock: Lanes, kind: int = 0) -> Lanes:
    """Where ``warp`` does not know of ``clock`` of agents ``other`` of the grid."""
    known = block.clocks.known
    within = other - block.first_agent_in_grid
    is_here = (within >= 0) & (within < known.shape[2])
    late = is_here & (known[warp, kind, np.where(is_here, within, 0)] < clock)
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
    address = allocation.address + int(granules[late][0]) * block.program.granule_of_global
    them = int(other[late][0]) - block.first_agent_in_grid
    who = "another block"
    if 0 <= them < 1 << AGENT_SHIFT:
        who = f"warp {them}" if them < block.clocks.warps else "a bulk copy"
    where = _place(allocation, address)
    return Trouble("race", f"data race: {does} {where}, which {who} {did} without synchronisation", int(sites[late][0]))


def _place(allocation: Allocation, address: int) -> str:
    return f"global memory at {address:#x}" + (f" ('{allocation.name}')" if allocation.name else "")
