"""Runs the warps of a cluster to their ends.

Level: the simulator. In: a cluster whose blocks have their gangs. Out: memory as the kernel leaves it, or a
:class:`SimulatedFault` with the instruction that caused it.

The strand that is furthest behind runs (minimum program counter), until it waits, ends, or meets another; strands that
meet are joined. When nothing can run, the oldest asynchronous copy that somebody waits for is delivered, never before.
When there is none either, tests that may answer "not yet" do so once; then it is a deadlock.
"""

from __future__ import annotations

import numpy as np

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.simulator.block import Block, Cluster
from crosstile.targets.nvidia.simulator.faults import SimulatedFault, Trouble
from crosstile.targets.nvidia.simulator.gang import LANES, Gang, Mask, Strand, Wait, merge
from crosstile.targets.nvidia.simulator.program import Branch, Exit, Signal

QUANTUM = 20_000
"""Instructions after which another strand has its turn, should this one wait for it in a loop of its own."""
LIMIT = 50_000_000
"""Instructions of one cluster after which it is said not to end."""


def run_cluster(cluster: Cluster) -> None:
    """Runs all blocks of ``cluster``. Raises :class:`SimulatedFault`."""
    scheduler = _Scheduler(cluster)
    with np.errstate(all="ignore"):
        scheduler.run()


class _Scheduler:
    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        self.program = cluster.program
        self.gangs: dict[int, list[Gang]] = {}
        self.executed = 0
        self.gave_up_at = -1
        for block in cluster.blocks:
            gang = Gang(block, range(block.warps), [None] * len(self.program.register_names))
            threads = gang.thread < cluster.threads
            gang.strands = [Strand(gang, 0, gang.normal(threads))]
            self.gangs[block.rank] = [gang]

    def run(self) -> None:
        while True:
            ready = [strand for strand in self.strands() if self.is_ready(strand)]
            if not ready:
                if not any(True for _ in self.strands()):
                    return
                if not self.unblock():
                    raise self.deadlock()
                continue
            first = min(ready, key=lambda strand: strand.pc)
            if (met := self.join(first)) is not None:
                first = met
            if first.pc >= len(self.program.code):
                self.exit(first)
            else:
                self.step(first)

    def strands(self) -> list[Strand]:
        return [strand for gangs in self.gangs.values() for gang in gangs for strand in gang.strands]

    def is_ready(self, strand: Strand) -> bool:
        wait = strand.wait
        if wait is None:
            return True
        if wait.meets or not wait.ready():
            return False
        strand.wait = None
        strand.gang.mask = strand.mask
        try:
            wait.resume()
        except (Trouble, CrosstileError) as error:
            raise self.fault(error, wait.site, strand) from error
        return True

    # Running one strand.

    def step(self, strand: Strand) -> None:
        gang, code, program = strand.gang, self.program.code, self.program
        block = gang.block
        counts = block.launch.counts.executed
        others = [other for gang in self.gangs[block.rank] for other in gang.strands if other is not strand]
        stops = {other.pc for other in others if other.wait is None or other.wait.meets}
        behind = min((other.pc for other in others if other.wait is None), default=len(code))
        gang.mask = strand.mask
        warps = len(gang.warps) if strand.mask is None else int(gang.warp_rows().any(axis=1).sum())
        pc, budget, end = strand.pc, QUANTUM, len(code)
        result: Signal | int | None = None
        try:
            while budget:
                budget -= 1
                counts[pc] += warps
                result = code[pc](gang)
                if result is None:
                    pc += 1
                elif isinstance(result, int):
                    if result <= pc:
                        block.launch.counts.jumps[pc] += warps
                    pc = result
                    result = None
                else:
                    break
                if pc in stops or pc > behind:
                    break
                if pc >= end:
                    result = Exit()
                    break
        except Trouble as error:
            raise self.fault(error, pc, strand) from error
        except CrosstileError as error:
            if isinstance(error, SimulatedFault):
                raise
            raise self.fault(error, pc, strand) from error
        self.executed += QUANTUM - budget
        self.cluster.executed = self.executed
        if self.executed > LIMIT:
            raise SimulatedFault("limit", f"the block still runs after {LIMIT} instructions", program.sites[pc])
        strand.pc = pc
        if isinstance(result, Wait):
            strand.wait = result
            strand.pc = pc if result.meets else pc + 1
            if result.meets:
                counts[pc] -= warps
        elif isinstance(result, Branch):
            self.diverge(strand, result)
        elif isinstance(result, Exit):
            self.exit(strand)

    def diverge(self, strand: Strand, branch: Branch) -> None:
        """Warps that go one way together become gangs of their own; lanes of one warp become strands."""
        gang = strand.gang
        here = gang.active() if strand.mask is None else strand.mask
        taken = branch.taken & here
        if branch.target <= strand.pc:
            rows = taken.reshape(-1, LANES).any(axis=1)
            gang.block.launch.counts.jumps[strand.pc] += int(rows.sum())
        stay = here & ~taken
        gang.strands.remove(strand)
        for pc, mask in ((branch.target, taken), (strand.pc + 1, stay)):
            gang.strands.append(Strand(gang, pc, gang.normal(mask)))
        self.part(gang)

    def part(self, gang: Gang) -> None:
        """Splits ``gang`` so that warps whose lanes are in different strands do not hold up each other."""
        if len(gang.warps) == 1 or any(strand.wait is not None for strand in gang.strands):
            return
        places: dict[tuple[int, ...], list[int]] = {}
        masks = [strand.mask if strand.mask is not None else np.ones(gang.size, np.bool_) for strand in gang.strands]
        table = np.stack([mask.reshape(-1, LANES).any(axis=1) for mask in masks], axis=1)
        for row, present in enumerate(table):
            places.setdefault(tuple(np.flatnonzero(present).tolist()), []).append(row)
        gangs = self.gangs[gang.block.rank]
        if len(places) == 1 and next(iter(places)):
            return
        gangs.remove(gang)
        for present, rows in places.items():
            if not present:
                continue
            part = gang.take(rows)
            lanes = (np.asarray(rows)[:, np.newaxis] * LANES + np.arange(LANES)).reshape(-1)
            for index in present:
                old = gang.strands[index]
                part.strands.append(Strand(part, old.pc, part.normal(masks[index][lanes])))
            gangs.append(part)

    def exit(self, strand: Strand) -> None:
        gang = strand.gang
        block = gang.block
        gang.strands.remove(strand)
        ended = gang.active() if strand.mask is None else strand.mask
        remaining: Mask = np.zeros(gang.size, np.bool_)
        for other in gang.strands:
            remaining |= np.ones(gang.size, np.bool_) if other.mask is None else other.mask
        rows: list[bool] = (_any_lane(ended) & ~_any_lane(remaining)).tolist()
        block.exited_threads += sum(rows) * LANES
        self.cluster.progress += 1
        from crosstile.targets.nvidia.simulator.barriers import warps_ended

        gone = [warp for warp, has_ended in zip(gang.warps, rows, strict=True) if has_ended]
        try:
            block.end(gone)
            warps_ended(block, gone)
        except Trouble as error:
            raise self.fault(error, error.sites[0], strand) from error
        if gang.strands:
            self.part(gang)
        else:
            self.gangs[block.rank].remove(gang)

    # Joining.

    def join(self, strand: Strand) -> Strand | None:
        """Joins ``strand`` with every other strand at its place that it can be joined with."""
        gang = strand.gang
        for other in list(gang.strands):
            if other is not strand and other.pc == strand.pc and (other.wait is None or other.wait.meets):
                mask = _mask(strand) | _mask(other)
                gang.strands.remove(other)
                strand.mask = gang.normal(mask)
        gangs = self.gangs[gang.block.rank]
        for other in list(gangs):
            if other is gang or len(gang.strands) != 1 or len(other.strands) != 1:
                continue
            second = other.strands[0]
            if second.pc != strand.pc or second.wait is not None or gang.is_pending() or other.is_pending():
                continue
            both = merge(gang, other)
            mask = np.concatenate([_mask(strand), _mask(second)])
            strand = Strand(both, strand.pc, both.normal(mask))
            both.strands = [strand]
            gangs.remove(gang)
            gangs.remove(other)
            gangs.append(both)
            gang = both
        return strand

    # When nothing runs.

    def unblock(self) -> bool:
        """Lets one thing happen that had been put off; False if there is none."""
        awaited = {id(one) for strand in self.strands() if strand.wait is not None for one in strand.wait.barriers}
        for block in self.cluster.blocks:
            for barrier in block.mbarriers.values():
                if barrier.deliveries and id(barrier) in awaited:
                    deliveries, barrier.deliveries = barrier.deliveries, []
                    try:
                        for deliver in deliveries:
                            deliver()
                    except (CrosstileError, Trouble) as error:
                        raise self.fault_in(block, error, barrier.last_copy) from error
                    self.cluster.progress += 1
                    return True
        for strand in self.strands():
            if strand.wait is not None and strand.wait.meets:
                raise self.fault(
                    Trouble("convergence", f"{strand.wait.what}, but those never come here together"),
                    strand.wait.site,
                    strand,
                )
        if self.gave_up_at != self.cluster.progress:
            self.gave_up_at = self.cluster.progress
            gave_up = False
            for strand in self.strands():
                wait = strand.wait
                if wait is not None and wait.give_up is not None:
                    strand.wait = None
                    strand.gang.mask = strand.mask
                    wait.give_up()
                    gave_up = True
            return gave_up
        return False

    # Faults.

    def fault(self, error: Exception, site: int, strand: Strand) -> CrosstileError:
        return self.fault_in(strand.gang.block, error, site)

    def fault_in(self, block: Block, error: Exception, site: int) -> CrosstileError:
        """``error`` of the instruction ``site``, with its place."""
        sites = self.program.sites
        where = f"in block {block.index}"
        if isinstance(error, Trouble):
            others = [sites[other] for other in error.sites]
            return SimulatedFault(error.kind, f"{error.message} ({where})", sites[site], *others)
        if isinstance(error, CrosstileError) and not isinstance(error, SimulatedFault):
            return SimulatedFault("operand", f"{error.message} ({where})", sites[site])
        assert isinstance(error, CrosstileError)
        return error

    def deadlock(self) -> SimulatedFault:
        waiting = self.strands()
        lines: list[str] = []
        for strand in waiting:
            assert strand.wait is not None
            rows: list[bool] = _any_lane(_mask(strand)).tolist()
            warps = ", ".join(str(warp) for warp, here in zip(strand.gang.warps, rows, strict=True) if here)
            lines.append(f"warps {warps} of block {strand.gang.block.index} wait for {strand.wait.what}")
        sites = dict.fromkeys(strand.wait.site for strand in waiting if strand.wait is not None)
        return SimulatedFault(
            "deadlock", "deadlock: " + "; ".join(lines), *(self.program.sites[site] for site in sites)
        )


def _any_lane(mask: Mask) -> Mask:
    """Which warps have a lane in ``mask``."""
    return np.asarray(mask.reshape(-1, LANES).any(axis=1))


def _mask(strand: Strand) -> Mask:
    return np.ones(strand.gang.size, np.bool_) if strand.mask is None else strand.mask
