"""Asynchronous copies: cp.async, and the bulk and tensor copies of Hopper.

Level: the simulator's rules. In: decoded instructions. Out: one closure each. A copy *starts* when it is issued: its
target is poisoned and may not be touched, its source in shared memory may not be written. It *ends* as late as the
memory model allows: at the wait of the thread that issued it, or when nothing can run before an mbarrier's phase ends.
PTX ISA, "Data Movement: asynchronous copy".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crosstile.targets.nvidia.ptx.module import Immediate, Instruction, Register
from crosstile.targets.nvidia.simulator.access import Access, active_lanes, address_reader, load, space_of, spread
from crosstile.targets.nvidia.simulator.barriers import active_warps
from crosstile.targets.nvidia.simulator.block import AsyncCopy, Block, BulkState, SharedBarrier
from crosstile.targets.nvidia.simulator.bulk import bulk_copy, bulk_tensor_copy
from crosstile.targets.nvidia.simulator.faults import Trouble, not_simulated
from crosstile.targets.nvidia.simulator.gang import Gang
from crosstile.targets.nvidia.simulator.mbarrier_rules import barrier_at, knowledge_of
from crosstile.targets.nvidia.simulator.operands import reader
from crosstile.targets.nvidia.simulator.shared_memory import GENERIC, POISON

if TYPE_CHECKING:
    from crosstile.targets.nvidia.simulator.program import Execute, Program

Lanes = NDArray[Any]


def _copy(program: Program, instruction: Instruction, site: int) -> Execute:
    """cp.async.{ca,cg}.shared.global [to], [from], size{, source size or ignore}."""
    to, source, size = instruction.operands[:3]
    if not isinstance(size, Immediate) or size.value not in (4, 8, 16):
        raise not_simulated(instruction, f"copy of {size} bytes; it has 4, 8 and 16")
    width = size.value
    target, where = address_reader(program, instruction, to), address_reader(program, instruction, source)
    rest = instruction.operands[3:]
    if rest and "L2::cache_hint" in instruction.modifiers:
        rest = rest[:-1]
    ignores = bool(rest) and isinstance(rest[0], Register) and program.kernel.registers.get(rest[0].name) == "pred"
    part = reader(program, instruction, rest[0], "pred" if ignores else "u32") if rest else None
    unit = 4

    def run(gang: Gang) -> None:
        lanes = active_lanes(gang)
        block = gang.block
        addresses = spread(gang, target(gang), lanes) - (block.rank << 24)
        block.shared.check_bounds(addresses, width, "copies to")
        data = np.zeros((len(addresses), width // unit), np.uint32)
        sources = spread(gang, where(gang), lanes)
        number = np.arange(gang.size) if lanes is None else lanes
        valid = np.full(len(addresses), width)
        if part is not None:
            given = spread(gang, part(gang), lanes).astype(np.int64)
            valid = np.where(given != 0, 0, width) if ignores else given
        if (valid > width).any():
            raise Trouble("operand", f"copies {int(valid.max())} bytes of {width}")
        if (sources % width)[valid > 0].any():
            bad = int(sources[(valid > 0) & (sources % width != 0)][0])
            raise Trouble("alignment", f"copies {width} bytes from {bad:#x}, which is no multiple of {width}")
        for count in np.unique(valid[valid > 0]).tolist():
            rows = np.flatnonzero(valid == count)
            own = Access(site, unit, count // unit, "copies") if count % unit == 0 else Access(site, 1, count, "copies")
            found = load(gang, "global", sources[rows], number[rows], own)
            bytes_ = np.zeros((len(rows), width), np.uint8)
            bytes_[:, :count] = np.ascontiguousarray(found).view(np.uint8)
            data[rows] = bytes_.view(np.uint32)
        warps, lane = gang.warp[number], gang.lane[number]
        block.launch.counts.add_shared(site, addresses, warps, lane, width)
        block.launch.counts.add_bytes("shared store", len(addresses) * width)
        granules = block.shared.granules(addresses, width)
        words = (addresses // unit)[:, np.newaxis] + np.arange(width // unit)
        for warp in np.unique(warps).tolist():
            rows = np.flatnonzero(warps == warp)
            block.shared.start_copy(granules[rows], warp, site)
            block.shared.views[unit][words[rows]] = POISON * 0x01010101
            copy = AsyncCopy(words[rows], data[rows], granules[rows], site, lane[rows, np.newaxis])
            state = block.states[int(warp) - block.first_warp]
            state.open.append(copy)

    return run


def _deliver(block: Block, warp: int, copies: list[AsyncCopy]) -> None:
    for copy in copies:
        block.shared.views[4][copy.addresses] = copy.data
        clock = int(block.clocks.known[warp, 0, warp])
        block.shared.finish_copy(copy.granules, warp, clock, copy.site, GENERIC, copy.lane)


def _deliver_and_arrive(gang: Gang, warp: int, lanes: Lanes, copies: list[AsyncCopy], barrier: SharedBarrier) -> None:
    _deliver(gang.block, warp, copies)
    barrier.change(partial(barrier.machine.arrive, len(lanes)), knowledge_of(gang, lanes))


def _commit(program: Program, instruction: Instruction, site: int) -> Execute:
    def run(gang: Gang) -> None:
        for warp in active_warps(gang):
            state = gang.block.states[warp - gang.block.first_warp]
            state.groups.append(state.open)
            state.open = []

    return run


def _wait_group(program: Program, instruction: Instruction, site: int) -> Execute:
    keep = 0
    everything = instruction.modifiers[-1] == "wait_all"
    if not everything:
        (count,) = instruction.operands
        assert isinstance(count, Immediate)
        keep = count.value

    def run(gang: Gang) -> None:
        block = gang.block
        for warp in active_warps(gang):
            state = block.states[warp - block.first_warp]
            while len(state.groups) > keep:
                _deliver(block, warp, state.groups.pop(0))
            if everything:
                _deliver(block, warp, state.open)
                state.open = []

    return run


def _arrive_on_copies(program: Program, instruction: Instruction, site: int) -> Execute:
    """cp.async.mbarrier.arrive{.noinc}: arrives when the copies that the thread has issued so far have written."""
    where = address_reader(program, instruction, instruction.operands[0])
    space, keeps_count = space_of(instruction), "noinc" in instruction.modifiers

    def run(gang: Gang) -> None:
        lanes = active_lanes(gang)
        number = np.arange(gang.size) if lanes is None else lanes
        addresses = spread(gang, where(gang), lanes)
        block = gang.block
        for warp in active_warps(gang):
            own = number[gang.warp[number] == warp]
            address = int(addresses[gang.warp[number] == warp][0])
            barrier = barrier_at(gang, address, space, own)
            state = block.states[warp - block.first_warp]
            # The copies are due by the time the phase ends, and may be waited for by their groups, too.
            batches = [*state.groups, state.open]
            copies = [copy for batch in batches for copy in batch]
            for batch in batches:
                batch.clear()
            if not keeps_count:
                barrier.machine.pending += len(own)

            barrier.deliveries.append(partial(_deliver_and_arrive, gang, warp, own, copies, barrier))

    return run


# Bulk copies.


def _bulk(program: Program, instruction: Instruction, site: int) -> Execute:
    modifiers = instruction.modifiers
    if "prefetch" in modifiers:
        return lambda gang: None
    if "commit_group" in modifiers:
        return _bulk_commit
    if "wait_group" in modifiers:
        return _bulk_wait(program, instruction, site)
    if "tensor" in modifiers:
        return bulk_tensor_copy(program, instruction, site)
    return bulk_copy(program, instruction, site)


def _threads(gang: Gang) -> list[int]:
    return [int(thread) for thread in gang.thread[gang.active()] if int(thread) in gang.block.bulk]


def _bulk_commit(gang: Gang) -> None:
    for thread in _threads(gang):
        state = gang.block.bulk[thread]
        state.groups.append(state.open)
        state.open = []


def _bulk_wait(program: Program, instruction: Instruction, site: int) -> Execute:
    (count,) = instruction.operands
    assert isinstance(count, Immediate)
    keep, reads_only = count.value, "read" in instruction.modifiers

    def run(gang: Gang) -> None:
        for thread in _threads(gang):
            state: BulkState = gang.block.bulk[thread]
            ended = state.groups[: max(0, len(state.groups) - keep)]
            for group in ended:
                for one in group:
                    one.finish_read()
                    if not reads_only:
                        one.finish()
            if not reads_only:
                del state.groups[: len(ended)]

    return run


def _cp(program: Program, instruction: Instruction, site: int) -> Execute:
    modifiers = instruction.modifiers
    if modifiers[:1] == ("reduce",) or modifiers[:2] == ("async", "bulk"):
        return _bulk(program, instruction, site)
    form = modifiers[1] if len(modifiers) > 1 else ""
    forms = {"commit_group": _commit, "wait_group": _wait_group, "wait_all": _wait_group, "mbarrier": _arrive_on_copies}
    return forms.get(form, _copy)(program, instruction, site)


def finish_block(block: Block) -> None:
    """Ends what is still under way when all warps have; raises :class:`Trouble` for a copy that needed the block."""
    for state in block.bulk.values():
        for group in [*state.groups, state.open]:
            for one in group:
                if not one.has_read:
                    raise Trouble(
                        "pending",
                        "the block ends while a bulk copy may still read its shared memory: cp.async.bulk.wait_group "
                        "is missing",
                        one.site,
                    )
                one.finish()
    for barrier in block.mbarriers.values():
        if barrier.deliveries:
            raise Trouble("pending", "the block ends while a copy may still write its shared memory", barrier.last_copy)


RULES: dict[str, Callable[[Program, Instruction, int], Execute]] = {"cp": _cp}
