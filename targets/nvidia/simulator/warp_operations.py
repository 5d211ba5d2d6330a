"""Operations across the lanes of a warp: shfl, vote, match, redux, elect, activemask.

Level: the simulator's rules. In: decoded instructions. Out: one closure each. Registers of a gang are seen as
[warps, 32]. An instruction whose member mask names lanes that are elsewhere waits for them, and is a fault if they
never come. PTX ISA, "Data Movement: shfl.sync" and "Parallel Synchronization: vote.sync, match.sync, redux.sync,
elect.sync, activemask".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crosstile.targets.nvidia.ptx.module import Instruction, Operand, Pair, Sink
from crosstile.targets.nvidia.simulator.faults import Trouble
from crosstile.targets.nvidia.simulator.gang import LANES, Gang, Wait
from crosstile.targets.nvidia.simulator.operands import DTYPES, Write, reader, writer

if TYPE_CHECKING:
    from crosstile.targets.nvidia.simulator.program import Execute, Program, Signal

Lanes = NDArray[Any]

_LANE = np.arange(LANES)


def rows(gang: Gang, values: Lanes) -> Lanes:
    """``values`` as [warps, 32]."""
    if values.shape[0] != gang.size:
        values = np.broadcast_to(values, (gang.size,))
    return values.reshape(-1, LANES)


def missing_lanes(gang: Gang, members: Lanes, site: int) -> Wait | None:
    """What to wait for if some lanes named by ``members`` ([warps, 32] of masks) are in another strand."""
    if gang.mask is None:
        return None
    elsewhere = np.zeros(gang.size, np.bool_)
    for strand in gang.strands:
        elsewhere |= np.ones(gang.size, np.bool_) if strand.mask is None else strand.mask
    elsewhere &= ~gang.mask
    active = gang.warp_rows()
    named = (members >> _LANE & 1).astype(np.bool_)
    present = active.any(axis=1, keepdims=True)
    lost = named & elsewhere.reshape(-1, LANES) & present
    if not lost.any():
        return None
    warp, lane = np.argwhere(lost)[0]
    what = f"lane {lane} of warp {gang.warps[warp]}, which the member mask names and which is elsewhere"
    return Wait(lambda: False, lambda: None, what, site, meets=True)


def _pair(operand: Operand) -> tuple[Operand, Operand]:
    return (operand.first, operand.second) if isinstance(operand, Pair) else (operand, Sink())


def _collective(
    program: Program, instruction: Instruction, site: int, members: Operand, run: Callable[[Gang], None]
) -> Execute:
    """``run`` once all lanes that ``members`` names are here."""
    read = reader(program, instruction, members, "b32")

    def execute(gang: Gang) -> Signal | None:
        if gang.mask is not None:
            wait = missing_lanes(gang, rows(gang, read(gang)).astype(np.int64), site)
            if wait is not None:
                return wait
        run(gang)
        return None

    return execute


def _shuffle(program: Program, instruction: Instruction, site: int) -> Execute:
    mode = instruction.modifiers[1] if instruction.modifiers[0] == "sync" else instruction.modifiers[0]
    target, source, by, control, members = instruction.operands
    first, second = _pair(target)
    write, write_predicate = writer(program, instruction, first), writer(program, instruction, second)
    read = reader(program, instruction, source, "b32")
    read_by, read_control = (reader(program, instruction, one, "b32") for one in (by, control))

    def run(gang: Gang) -> None:
        values = rows(gang, read(gang))
        offset = (read_by(gang).astype(np.int64) & 31).reshape(-1)
        limits = read_control(gang).astype(np.int64).reshape(-1)
        lane = gang.lane
        segment, clamp = limits >> 8 & 31, limits & 31
        last = lane & segment | clamp & ~segment
        first_lane = lane & segment
        if mode == "up":
            chosen = lane - offset
            inside = chosen >= last
        elif mode == "down":
            chosen = lane + offset
            inside = chosen <= last
        elif mode == "bfly":
            chosen = lane ^ offset
            inside = chosen <= last
        elif mode == "idx":
            chosen = first_lane | offset & ~segment
            inside = chosen <= last
        else:
            raise ValueError(mode)
        chosen = np.where(inside, chosen, lane).reshape(-1, LANES)
        if gang.mask is not None:
            active = gang.warp_rows()
            reached = np.take_along_axis(active, chosen, axis=1)
            if (active & ~reached).any():
                raise Trouble("convergence", "reads a register of a lane that does not take part")
        write(gang, np.take_along_axis(values, chosen, axis=1).reshape(-1))
        write_predicate(gang, inside)

    return _collective(program, instruction, site, members, run)


def _ballot(gang: Gang, votes: Lanes) -> Lanes:
    """The bits of the active lanes that vote yes, [warps, 1]."""
    bits = (votes & gang.warp_rows()).astype(np.int64) << _LANE
    return bits.sum(axis=1, keepdims=True)


def _vote(program: Program, instruction: Instruction, site: int) -> Execute:
    mode = instruction.modifiers[1] if instruction.modifiers[0] == "sync" else instruction.modifiers[0]
    target, source, members = instruction.operands
    write = writer(program, instruction, target)
    read = reader(program, instruction, source, "pred")
    read_members = reader(program, instruction, members, "b32")

    def run(gang: Gang) -> None:
        named = (rows(gang, read_members(gang)).astype(np.int64) >> _LANE & 1).astype(np.bool_)
        yes = rows(gang, read(gang))
        ballot = _ballot(gang, yes & named)
        everybody = _ballot(gang, named)
        results = {
            "ballot": lambda: ballot.astype(np.uint32),
            "any": lambda: ballot != 0,
            "all": lambda: ballot == everybody,
            "uni": lambda: (ballot == 0) | (ballot == everybody),
        }
        write(gang, np.repeat(results[mode]().reshape(-1), LANES))

    return _collective(program, instruction, site, members, run)


def _match(program: Program, instruction: Instruction, site: int) -> Execute:
    mode, kind = instruction.modifiers[0], instruction.modifiers[-1]
    mode = next(one for one in instruction.modifiers if one in ("any", "all"))
    target, source, members = instruction.operands
    first, second = _pair(target)
    write, write_predicate = writer(program, instruction, first), writer(program, instruction, second)
    read = reader(program, instruction, source, kind)

    def run(gang: Gang) -> None:
        values = rows(gang, read(gang))
        active = gang.warp_rows()
        same = (values[:, :, np.newaxis] == values[:, np.newaxis, :]) & active[:, np.newaxis, :]
        bits = (same.astype(np.int64) << _LANE).sum(axis=2)
        if mode == "all":
            everybody = (active.astype(np.int64) << _LANE).sum(axis=1, keepdims=True)
            agree = bits == everybody
            bits = np.where(agree, everybody, 0)
            write_predicate(gang, agree.reshape(-1))
        write(gang, bits.reshape(-1).astype(np.uint32))

    return _collective(program, instruction, site, members, run)


_REDUCTIONS: dict[str, tuple[Any, Any]] = {
    "add": (np.add, 0),
    "min": (np.minimum, None),
    "max": (np.maximum, None),
    "and": (np.bitwise_and, -1),
    "or": (np.bitwise_or, 0),
    "xor": (np.bitwise_xor, 0),
}


def _reduce(program: Program, instruction: Instruction, site: int) -> Execute:
    kind = instruction.modifiers[-1]
    operation, _ = _REDUCTIONS[instruction.modifiers[1]]
    dtype = DTYPES[kind]
    target, source, members = instruction.operands
    write = writer(program, instruction, target)
    read = reader(program, instruction, source, kind)

    def run(gang: Gang) -> None:
        values, active = rows(gang, read(gang)), gang.warp_rows()
        result = np.zeros(len(values), dtype)
        for row in np.flatnonzero(active.any(axis=1)):
            result[row] = operation.reduce(values[row][active[row]])
        write(gang, np.repeat(result, LANES))

    return _collective(program, instruction, site, members, run)


def _elect(program: Program, instruction: Instruction, site: int) -> Execute:
    target, members = instruction.operands
    first, second = _pair(target)
    write, write_predicate = writer(program, instruction, first), writer(program, instruction, second)
    read = reader(program, instruction, members, "b32")

    def run(gang: Gang) -> None:
        named = (rows(gang, read(gang)).astype(np.int64) >> _LANE & 1).astype(np.bool_) & gang.warp_rows()
        leader = named.argmax(axis=1)
        write(gang, np.repeat(leader, LANES).astype(np.uint32))
        write_predicate(gang, (leader[:, np.newaxis] == _LANE).reshape(-1))

    return _collective(program, instruction, site, members, run)


def _active_mask(program: Program, instruction: Instruction, site: int) -> Execute:
    write: Write = writer(program, instruction, instruction.operands[0])

    def run(gang: Gang) -> None:
        bits = (gang.warp_rows().astype(np.int64) << _LANE).sum(axis=1)
        write(gang, np.repeat(bits, LANES).astype(np.uint32))

    return run


RULES: dict[str, Callable[[Program, Instruction, int], Execute]] = {
    "shfl": _shuffle,
    "vote": _vote,
    "match": _match,
    "redux": _reduce,
    "elect": _elect,
    "activemask": _active_mask,
}
