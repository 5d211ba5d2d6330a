"""bar, barrier, fences, mbarrier and cluster barriers.

Level: the simulator's rules. In: decoded instructions. Out: one closure each. PTX ISA, "Parallel Synchronization and
Communication Instructions". A barrier hands on what those who arrive know (see clocks.py) to those who wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crosstile.targets.nvidia.ptx.module import Instruction
from crosstile.targets.nvidia.simulator.access import active_lanes, spread
from crosstile.targets.nvidia.simulator.block import Block, Cluster, NamedBarrier
from crosstile.targets.nvidia.simulator.clocks import join
from crosstile.targets.nvidia.simulator.faults import Trouble, not_simulated
from crosstile.targets.nvidia.simulator.gang import LANES, Gang, Wait
from crosstile.targets.nvidia.simulator.operands import Read, reader, writer
from crosstile.targets.nvidia.simulator.warp_operations import missing_lanes

if TYPE_CHECKING:
    from crosstile.targets.nvidia.simulator.program import Execute, Program, Signal

Lanes = NDArray[Any]


def active_warps(gang: Gang) -> list[int]:
    """The warps (numbers in the cluster) that have active lanes."""
    if gang.mask is None:
        return [warp + gang.block.first_warp for warp in gang.warps]
    rows: list[bool] = np.asarray(gang.warp_rows().any(axis=1)).tolist()
    return [warp + gang.block.first_warp for warp, here in zip(gang.warps, rows, strict=True) if here]


def uniform(gang: Gang, read: Read, what: str) -> int:
    """The value that all active lanes agree on."""
    values = spread(gang, read(gang), active_lanes(gang))
    first = int(values[0])
    if (values != values[0]).any():
        raise Trouble("operand", f"lanes disagree about {what}: {first} and {int(values[values != values[0]][0])}")
    return first


# Named barriers.


def _expected(block: Block, barrier: NamedBarrier) -> int:
    """Threads of this use; a barrier of the whole block does not wait for warps that have ended."""
    return barrier.expected if barrier.expected else block.warps * LANES - block.exited_threads


def _finish_if_complete(block: Block, barrier: NamedBarrier, number: int) -> None:
    expected = _expected(block, barrier)
    if barrier.arrived > expected:
        raise Trouble(
            "barrier", f"barrier {number} expects {expected} threads and {barrier.arrived} arrived", barrier.site
        )
    if barrier.arrived == expected and expected:
        barrier.generation += 1
        barrier.arrived = 0
        barrier.left = barrier.given
        barrier.given = None
        barrier.result = _reduced(barrier)
        barrier.reduction = []


def _reduced(barrier: NamedBarrier) -> int:
    return int(sum(int(one.sum()) for one in barrier.reduction))


def warps_ended(block: Block, warps: Sequence[int]) -> None:
    """Barriers of the whole block go on without ``warps``."""
    if warps:
        for number, barrier in block.barriers.items():
            if barrier.arrived and not barrier.expected:
                _finish_if_complete(block, barrier, number)
        _finish_cluster_if_complete(block.cluster)


def _warp_barrier(gang: Gang) -> None:
    """bar.warp.sync: the lanes, which run together here, now also know of each other's accesses."""
    gang.block.clocks.step[active_warps(gang)] += 1


def _barrier(program: Program, instruction: Instruction, site: int) -> Execute:
    """bar.sync, bar.arrive, bar.red and their barrier.cta forms; bar.warp.sync and barrier.cluster."""
    modifiers = [one for one in instruction.modifiers if one not in ("cta", "aligned")]
    if modifiers[:1] == ["warp"]:
        return _warp_barrier
    if modifiers[:1] == ["cluster"]:
        return _cluster_barrier(program, instruction, site)
    action = modifiers[0]
    if action not in ("sync", "arrive", "red"):
        raise not_simulated(instruction, f"form '{instruction.name}'")
    operands = list(instruction.operands)
    target = operands.pop(0) if action == "red" else None
    value = operands.pop() if action == "red" else None
    first = reader(program, instruction, operands[0], "u32")
    second = reader(program, instruction, operands[1], "u32") if len(operands) > 1 else None
    write = writer(program, instruction, target) if target is not None else None
    chosen = reader(program, instruction, value, "pred") if value is not None else None
    reduction = modifiers[1] if action == "red" else ""

    def run(gang: Gang) -> Signal | None:
        block = gang.block
        number = uniform(gang, first, "the barrier")
        count = 0 if second is None else uniform(gang, second, "the number of threads")
        if not 0 <= number < 16:
            raise Trouble("barrier", f"barrier {number}; there are 0 to 15")
        if count % LANES:
            raise Trouble("barrier", f"barrier {number} expects {count} threads, which is no multiple of {LANES}")
        barrier = block.barriers.setdefault(number, NamedBarrier())
        if barrier.arrived and barrier.expected != count:
            raise Trouble(
                "barrier",
                f"barrier {number} expects {count or 'all'} threads here, {barrier.expected or 'all'} there",
                barrier.site,
            )
        barrier.expected, barrier.site = count, site
        warps = active_warps(gang)
        for warp in warps:
            barrier.given = join(barrier.given, block.clocks.release(warp))
        barrier.arrived += len(warps) * LANES
        if chosen is not None:
            lanes = active_lanes(gang)
            votes = spread(gang, chosen(gang), lanes)
            barrier.reduction.append(~votes if reduction == "and" else votes)
        block.cluster.progress += 1
        generation = barrier.generation
        mask = gang.mask
        _finish_if_complete(block, barrier, number)
        if action == "arrive":
            return None

        def resume() -> None:
            assert barrier.left is not None
            for warp in warps:
                block.clocks.acquire(warp, barrier.left)
            if write is not None:
                gang.mask = mask
                result = barrier.result
                decided = {"popc": result, "and": result == 0, "or": result != 0}[reduction]
                write(gang, np.array([decided], np.uint32 if reduction == "popc" else np.bool_))

        if barrier.generation != generation:
            resume()
            return None
        missing = _expected(block, barrier)
        what = f"barrier {number} ({missing} threads expected)"
        return Wait(lambda: barrier.generation != generation, resume, what, site)

    return run


def _finish_cluster_if_complete(cluster: Cluster) -> None:
    """The cluster's barrier waits for the threads that have not ended."""
    barrier = cluster.barrier
    everyone = sum(block.warps * LANES - block.exited_threads for block in cluster.blocks)
    if barrier.arrived and barrier.arrived == everyone:
        barrier.generation += 1
        barrier.arrived = 0
        barrier.left = barrier.given
        barrier.given = None


def _cluster_barrier(program: Program, instruction: Instruction, site: int) -> Execute:
    aligned = "aligned" in instruction.modifiers
    action = "wait" if "wait" in instruction.modifiers else "arrive"
    relaxed = "relaxed" in instruction.modifiers

    def together(gang: Gang) -> Wait | None:
        """What to wait for where all threads of a warp must be here and are not."""
        if not aligned or gang.mask is None:
            return None
        return missing_lanes(gang, np.full((gang.size // LANES, 1), 0xFFFFFFFF, np.int64), site)

    def arrive(gang: Gang) -> Signal | None:
        if (wait := together(gang)) is not None:
            return wait
        cluster = gang.block.cluster
        barrier = cluster.barrier
        for warp in active_warps(gang):
            clocks = gang.block.clocks
            given = clocks.release_ready(warp) if relaxed else clocks.release(warp)
            barrier.given = join(barrier.given, given)
            barrier.arrived += LANES
        cluster.progress += 1
        _finish_cluster_if_complete(cluster)
        return None

    def wait(gang: Gang) -> Signal | None:
        if (wait := together(gang)) is not None:
            return wait
        cluster = gang.block.cluster
        barrier = cluster.barrier
        warps = active_warps(gang)
        phases = cluster.waited
        target = phases.get(warps[0], 0) + 1

        def resume() -> None:
            for warp in warps:
                phases[warp] = target
                if barrier.left is not None:
                    gang.block.clocks.acquire(warp, barrier.left)

        if barrier.generation >= target:
            resume()
            return None
        return Wait(lambda: barrier.generation >= target, resume, "the other blocks of the cluster", site)

    return arrive if action == "arrive" else wait


# Fences.


def _fence(program: Program, instruction: Instruction, site: int) -> Execute:
    if instruction.modifiers[:2] == ("proxy", "async") or "async" in instruction.modifiers:

        def run(gang: Gang) -> None:
            for warp in active_warps(gang):
                gang.block.clocks.fence_proxy(warp)

        return run
    if "mbarrier_init" in instruction.modifiers:

        def show(gang: Gang) -> None:
            for warp in active_warps(gang):
                gang.block.clocks.fence_ready(warp)

        return show
    return lambda gang: None


def groups(gang: Gang, *arrays: Lanes) -> Iterator[tuple[tuple[int, ...], Lanes]]:
    """The distinct combinations of values in the active lanes, and which lanes have each; arrays are [active]."""
    lanes = active_lanes(gang)
    number = np.arange(gang.size) if lanes is None else lanes
    if all((array == array[0]).all() for array in arrays):
        yield tuple(int(array[0]) for array in arrays), number
        return
    table = np.stack([array.astype(np.int64) for array in arrays], axis=1)
    for row in np.unique(table, axis=0):
        yield tuple(int(value) for value in row), number[(table == row).all(axis=1)]


RULES: dict[str, Callable[[Program, Instruction, int], Execute]] = {
    "bar": _barrier,
    "barrier": _barrier,
    "fence": _fence,
    "membar": _fence,
}
