"""mbarrier.*: arrivals, transaction counts and waits on objects in shared memory.

Level: the simulator's rules. In: decoded instructions. Out: one closure each; :mod:`mbarrier` is the state machine.
Every active lane arrives for itself. What arrivals know goes to those who wait. PTX ISA, "mbarrier".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crosstile.targets.nvidia.ptx.module import Address, Instruction, Sink
from crosstile.targets.nvidia.simulator.access import active_lanes, address_reader, space_of, spread
from crosstile.targets.nvidia.simulator.barriers import groups
from crosstile.targets.nvidia.simulator.block import RANK_SHIFT, Block, SharedBarrier
from crosstile.targets.nvidia.simulator.clocks import Knowledge, join
from crosstile.targets.nvidia.simulator.faults import Trouble, not_simulated
from crosstile.targets.nvidia.simulator.gang import Gang, Wait
from crosstile.targets.nvidia.simulator.mbarrier import MBarrier
from crosstile.targets.nvidia.simulator.moves import WINDOWS
from crosstile.targets.nvidia.simulator.operands import Read, reader, writer

if TYPE_CHECKING:
    from crosstile.targets.nvidia.simulator.program import Execute, Program, Signal

Lanes = NDArray[Any]


def locate(gang: Gang, address: int, space: str) -> tuple[Block, int]:
    """The block and the address in it of a barrier at ``address`` in ``space``."""
    if space == "generic":
        address -= WINDOWS["shared"]
    block = gang.block if space == "shared" else gang.block.peer(address >> RANK_SHIFT)
    return block, address & (1 << RANK_SHIFT) - 1


def barrier_at(gang: Gang, address: int, space: str, lanes: Lanes) -> SharedBarrier:
    """The initialised object, which the warps of ``lanes`` must know of."""
    block, inner = locate(gang, address, space)
    barrier = block.mbarrier(inner)
    warps = gang.warp[lanes]
    known = gang.block.clocks.known[warps][:, (0, 2), barrier.maker].max(axis=1)
    if (known < barrier.maker_clock).any():
        raise Trouble(
            "race",
            f"warp {int(warps[known < barrier.maker_clock][0])} uses the mbarrier at {inner:#x}, which warp "
            f"{barrier.maker} initialised without a barrier between",
            barrier.maker_site,
        )
    return barrier


def knowledge_of(gang: Gang, lanes: Lanes) -> Knowledge:
    """What the warps of ``lanes`` know, released by these lanes."""
    given: Knowledge | None = None
    warps, own = gang.warp[lanes], gang.lane[lanes]
    for warp in np.unique(warps).tolist():
        bits = sum(1 << lane for lane in own[warps == warp].tolist())
        given = join(given, gang.block.clocks.release(warp, bits))
    assert given is not None
    return given


def _initialise(program: Program, instruction: Instruction, site: int) -> Execute:
    where = address_reader(program, instruction, instruction.operands[0])
    count = reader(program, instruction, instruction.operands[1], "u32")
    space = space_of(instruction)

    def run(gang: Gang) -> None:
        lanes = active_lanes(gang)
        for (address, expected), members in groups(
            gang, spread(gang, where(gang), lanes), spread(gang, count(gang), lanes)
        ):
            block, inner = locate(gang, address, space)
            block.shared.check_bounds(np.array([inner]), 8, "initialises an mbarrier of")
            warp = int(gang.warp[members[0]])
            clocks = gang.block.clocks
            old = block.mbarriers.get(inner)
            agent = clocks.new_agent() if old is None else old.agent
            made = SharedBarrier(MBarrier(expected), agent, warp, int(clocks.known[warp, 0, warp]), site)
            if old is not None:
                made.agent_clock, made.issued = old.agent_clock, old.issued
            block.mbarriers[inner] = made

    return run


def _invalidate(program: Program, instruction: Instruction, site: int) -> Execute:
    where = address_reader(program, instruction, instruction.operands[0])
    space = space_of(instruction)

    def run(gang: Gang) -> None:
        for (address,), members in groups(gang, spread(gang, where(gang), active_lanes(gang))):
            barrier = barrier_at(gang, address, space, members)
            if barrier.deliveries:
                raise Trouble("pending", "invalidates an mbarrier that a copy will still report to")
            barrier.machine.invalidate()
            block, inner = locate(gang, address, space)
            del block.mbarriers[inner]

    return run


def _arrive(program: Program, instruction: Instruction, site: int) -> Execute:
    modifiers = instruction.modifiers
    operands = list(instruction.operands)
    target = Sink() if isinstance(operands[0], Address) else operands.pop(0)
    write = writer(program, instruction, target)
    where = address_reader(program, instruction, operands[0])
    expects = "expect_tx" in modifiers
    number: Read = lambda gang: np.ones(1, np.uint32)  # noqa: E731
    if len(operands) > 1:
        number = reader(program, instruction, operands[1], "u32")
    space, drop, complete = space_of(instruction), modifiers[0] == "arrive_drop", "noComplete" not in modifiers

    def run(gang: Gang) -> None:
        active = active_lanes(gang)
        tokens = np.zeros(gang.size, np.uint64)
        for (address, count), members in groups(
            gang, spread(gang, where(gang), active), spread(gang, number(gang), active)
        ):
            barrier = barrier_at(gang, address, space, members)
            locate(gang, address, space)[0].touch(gang.block, gang.warp[members], site)
            lanes = len(members)
            arrivals = lanes if expects else count * lanes
            transactions = count * lanes if expects else 0
            given = knowledge_of(gang, members)
            machine = barrier.machine
            arrive = partial(machine.arrive, arrivals, transactions, drop=drop, complete=complete)
            tokens[members] = barrier.change(arrive, given)
            gang.block.cluster.progress += 1
        write(gang, tokens)

    return run


def _expect(program: Program, instruction: Instruction, site: int) -> Execute:
    where = address_reader(program, instruction, instruction.operands[0])
    number = reader(program, instruction, instruction.operands[1], "u32")
    space, completes = space_of(instruction), instruction.modifiers[0] == "complete_tx"

    def run(gang: Gang) -> None:
        active = active_lanes(gang)
        for (address, count), members in groups(
            gang, spread(gang, where(gang), active), spread(gang, number(gang), active)
        ):
            barrier = barrier_at(gang, address, space, members)
            total, machine = count * len(members), barrier.machine
            barrier.change(partial(machine.complete_tx if completes else machine.expect_tx, total), None)
            gang.block.cluster.progress += 1

    return run


def _wait(program: Program, instruction: Instruction, site: int) -> Execute:
    target, source, state = instruction.operands[:3]
    by_parity = "parity" in instruction.modifiers
    write = writer(program, instruction, target)
    where = address_reader(program, instruction, source)
    read = reader(program, instruction, state, "u32" if by_parity else "u64")
    space = space_of(instruction)

    def run(gang: Gang) -> Signal | None:
        active = active_lanes(gang)
        waits = [
            (barrier_at(gang, address, space, members), wanted, members)
            for (address, wanted), members in groups(
                gang, spread(gang, where(gang), active), spread(gang, read(gang), active)
            )
        ]
        mask = gang.mask

        def is_over(barrier: SharedBarrier, wanted: int) -> bool:
            machine = barrier.machine
            return machine.test_wait_parity(wanted) if by_parity else machine.test_wait(wanted)

        def ready() -> bool:
            return all(is_over(barrier, wanted) for barrier, wanted, _ in waits)

        def finish() -> None:
            result = np.zeros(gang.size, np.bool_)
            for barrier, wanted, members in waits:
                result[members] = is_over(barrier, wanted)
                if result[members[0]] and barrier.ended is not None:
                    for warp in np.unique(gang.warp[members]).tolist():
                        gang.block.clocks.acquire(warp, barrier.ended)
            gang.mask = mask
            write(gang, result)

        if ready():
            finish()
            return None
        machines = "; ".join(str(barrier.machine) for barrier, wanted, _ in waits if not is_over(barrier, wanted))
        what = f"the mbarrier of '{source}' ({machines})"
        return Wait(ready, finish, what, site, give_up=finish, barriers=tuple(barrier for barrier, _, _ in waits))

    return run


def _pending_count(program: Program, instruction: Instruction, site: int) -> Execute:
    raise not_simulated(instruction, "mbarrier.pending_count")


_FORMS: dict[str, Callable[[Program, Instruction, int], Execute]] = {
    "init": _initialise,
    "inval": _invalidate,
    "arrive": _arrive,
    "arrive_drop": _arrive,
    "expect_tx": _expect,
    "complete_tx": _expect,
    "test_wait": _wait,
    "try_wait": _wait,
    "pending_count": _pending_count,
}

RULES: dict[str, Callable[[Program, Instruction, int], Execute]] = {
    "mbarrier": lambda program, instruction, site: _FORMS[instruction.modifiers[0]](program, instruction, site)
}
