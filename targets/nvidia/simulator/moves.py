"""Moves between registers, addresses of variables, and control flow.

Level: the simulator's rules. In: decoded instructions. Out: one closure each. PTX ISA, "Data Movement and Conversion
Instructions: mov, cvta, isspacep" and "Control Flow Instructions".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crosstile.targets.nvidia.ptx.module import Instruction, Register, Symbol, Vector, type_bits
from crosstile.targets.nvidia.simulator.block import RANK_SHIFT
from crosstile.targets.nvidia.simulator.faults import not_simulated
from crosstile.targets.nvidia.simulator.integer import elementwise
from crosstile.targets.nvidia.simulator.operands import RAW, guard, reader, writer
from crosstile.targets.nvidia.simulator.program import (
    LOCAL_WINDOW,
    PARAMETER_WINDOW,
    SHARED_WINDOW,
    WINDOW_SIZE,
    Branch,
    Exit,
)

if TYPE_CHECKING:
    from crosstile.targets.nvidia.simulator.gang import Gang
    from crosstile.targets.nvidia.simulator.program import Execute, Program, Signal

Lanes = NDArray[Any]

WINDOWS = {"shared": SHARED_WINDOW, "local": LOCAL_WINDOW, "param": PARAMETER_WINDOW, "global": 0, "const": 0}


def _move(program: Program, instruction: Instruction, site: int) -> Execute:
    target, source = instruction.operands
    kind = instruction.modifiers[-1]
    if isinstance(source, Vector):
        return _pack(program, instruction, source)
    if isinstance(target, Vector):
        return _unpack(program, instruction, target)
    if isinstance(source, Symbol) and kind in ("b64", "u64", "s64") and program.space_of(source) in ("shared", "local"):
        read = program.symbol_reader(instruction, source)
        write = writer(program, instruction, target)
        return lambda gang: write(gang, read(gang).astype(np.uint64))
    if isinstance(source, Register) and isinstance(target, Register) and source.name in program.register_index:
        return _copy(program, instruction, source, target, kind)
    return elementwise(program, instruction, lambda a: a, (kind,))


def _copy(program: Program, instruction: Instruction, source: Register, target: Register, kind: str) -> Execute:
    """A copy of a register that was never written is one, too: compilers copy values that nobody will use."""
    read = reader(program, instruction, source, kind)
    write = writer(program, instruction, target)
    index = program.register_index[source.name]
    to = program.register_index.get(target.name, -1)

    def run(gang: Gang) -> None:
        found = gang.watched.get(index)
        whole = found is None or isinstance(found, dict) or (gang.mask is not None and not (gang.mask & ~found).any())
        if gang.registers[index] is not None and whole:
            write(gang, read(gang))
            return
        if gang.mask is None and to not in gang.watched:
            gang.registers[to] = gang.registers[index]
            if found is not None:
                gang.watched[to] = found

    return run


def _pack(program: Program, instruction: Instruction, source: Vector) -> Execute:
    total = type_bits(instruction.modifiers[-1])
    each = total // len(source.elements)
    reads = [reader(program, instruction, one, f"b{each}") for one in source.elements]
    write = writer(program, instruction, instruction.operands[0])
    dtype = RAW[total]

    def run(gang: Gang) -> None:
        result: Any = np.zeros(1, dtype)
        for place, read in enumerate(reads):
            result = result | read(gang).astype(dtype) << dtype.type(place * each)
        write(gang, result)

    return run


def _unpack(program: Program, instruction: Instruction, target: Vector) -> Execute:
    total = type_bits(instruction.modifiers[-1])
    each = total // len(target.elements)
    read = reader(program, instruction, instruction.operands[1], f"b{total}")
    writes = [writer(program, instruction, one) for one in target.elements]
    dtype, part = RAW[total], RAW[each]

    def run(gang: Gang) -> None:
        value = read(gang)
        for place, write in enumerate(writes):
            write(gang, (value >> dtype.type(place * each)).astype(part))

    return run


def _to_generic(program: Program, instruction: Instruction, site: int) -> Execute:
    modifiers = instruction.modifiers
    kind = modifiers[-1]
    back = modifiers[0] == "to"
    space = modifiers[1 if back else 0].split("::")[0]
    window = -WINDOWS[space] if back else WINDOWS[space]
    read = reader(program, instruction, instruction.operands[1], kind)
    write = writer(program, instruction, instruction.operands[0])
    return lambda gang: write(gang, (read(gang).astype(np.int64) + window).astype(np.uint64))


def space_masks(addresses: Lanes) -> dict[str, Lanes]:
    """Which generic addresses lie in which state space."""
    masks: dict[str, Lanes] = {}
    rest = np.ones(addresses.shape, np.bool_)
    for space in ("shared", "local", "param"):
        masks[space] = (addresses >= WINDOWS[space]) & (addresses < WINDOWS[space] + WINDOW_SIZE)
        rest &= ~masks[space]
    masks["global"] = rest
    return masks


def _is_in_space(program: Program, instruction: Instruction, site: int) -> Execute:
    space = instruction.modifiers[0].split("::")[0]
    read = reader(program, instruction, instruction.operands[1], "u64")
    write = writer(program, instruction, instruction.operands[0])
    if space == "const":
        return lambda gang: write(gang, np.zeros(1, np.bool_))
    return lambda gang: write(gang, space_masks(read(gang).astype(np.int64))[space])


def _map_to_rank(program: Program, instruction: Instruction, site: int) -> Execute:
    """mapa: the same address in another block of the cluster."""
    kind = instruction.modifiers[-1]
    window = 0 if "shared::cluster" in instruction.modifiers else WINDOWS["shared"]
    read = reader(program, instruction, instruction.operands[1], kind)
    rank = reader(program, instruction, instruction.operands[2], "u32")
    write = writer(program, instruction, instruction.operands[0])
    inner = (1 << RANK_SHIFT) - 1

    def run(gang: Gang) -> None:
        own = read(gang).astype(np.int64) - window & inner
        write(gang, (window + (rank(gang).astype(np.int64) << RANK_SHIFT | own)).astype(RAW[type_bits(kind)]))

    return run


def _rank_of(program: Program, instruction: Instruction, site: int) -> Execute:
    """getctarank: the rank in the cluster of the block that an address lies in."""
    window = 0 if "shared::cluster" in instruction.modifiers else WINDOWS["shared"]
    kind = instruction.modifiers[-1]
    read = reader(program, instruction, instruction.operands[1], kind)
    write = writer(program, instruction, instruction.operands[0])
    return lambda gang: write(gang, (read(gang).astype(np.int64) - window >> RANK_SHIFT).astype(np.uint32))


# Control flow.


def _branch(program: Program, instruction: Instruction, site: int) -> Execute:
    (target,) = instruction.operands
    if not isinstance(target, Symbol):
        raise not_simulated(instruction, "indirect branch")
    label = program.label(instruction, target.name)
    if instruction.predicate is None:
        return lambda gang: label
    read = guard(program, instruction)

    def run(gang: Gang) -> Signal | int | None:
        taken = read(gang)
        if gang.mask is None:
            if taken.all():
                return label
            return Branch(label, taken) if taken.any() else None
        chosen = taken & gang.mask
        if not chosen.any():
            return None
        return label if (chosen == gang.mask).all() else Branch(label, chosen)

    return run


def _exit(program: Program, instruction: Instruction, site: int) -> Execute:
    end = len(program.kernel.body)
    if instruction.predicate is None:
        return lambda gang: Exit()
    read = guard(program, instruction)

    def run(gang: Gang) -> Signal | int | None:
        leaving = read(gang) & gang.active()
        if not leaving.any():
            return None
        return Exit() if (leaving == gang.active()).all() else Branch(end, leaving)

    return run


def _trap(program: Program, instruction: Instruction, site: int) -> Execute:
    from crosstile.targets.nvidia.simulator.faults import Trouble

    def run(gang: Gang) -> None:
        raise Trouble("trap", "reached a trap")

    return run


def _nothing(program: Program, instruction: Instruction, site: int) -> Execute:
    return lambda gang: None


RULES: dict[str, Callable[[Program, Instruction, int], Execute]] = {
    "mov": _move,
    "cvta": _to_generic,
    "isspacep": _is_in_space,
    "mapa": _map_to_rank,
    "getctarank": _rank_of,
    "bra": _branch,
    "ret": _exit,
    "exit": _exit,
    "trap": _trap,
    "brkpt": _trap,
    **dict.fromkeys(
        ("pmevent", "nanosleep", "prefetch", "prefetchu", "griddepcontrol", "discard", "applypriority"), _nothing
    ),
}
