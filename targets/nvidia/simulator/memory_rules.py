"""ld, st, atom and red.

Level: the simulator's rules. In: decoded instructions. Out: one closure each. PTX ISA, "Data Movement and Conversion
Instructions: ld, st" and "Parallel Synchronization and Communication Instructions: atom, red". Cache operators,
eviction hints and prefetch sizes change nothing here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from crosstile.targets.fma import flush
from crosstile.targets.nvidia.ptx.module import Instruction, Operand, Vector, type_bits
from crosstile.targets.nvidia.simulator.access import (
    Access,
    active_lanes,
    address_reader,
    load,
    space_of,
    spread,
    store,
)
from crosstile.targets.nvidia.simulator.faults import not_simulated
from crosstile.targets.nvidia.simulator.operands import DTYPES, reader, writer
from crosstile.targets.nvidia.simulator.rounding import where

if TYPE_CHECKING:
    from crosstile.targets.nvidia.simulator.gang import Gang
    from crosstile.targets.nvidia.simulator.program import Execute, Program

Lanes = NDArray[Any]

_STRONG = {"volatile", "relaxed", "acquire", "release", "mmio"}


def _elements(operand: Operand) -> tuple[Operand, ...]:
    return operand.elements if isinstance(operand, Vector) else (operand,)


def _kind(instruction: Instruction) -> str:
    return next(one for one in reversed(instruction.modifiers) if one in DTYPES)


def _load(program: Program, instruction: Instruction, site: int) -> Execute:
    target, source = instruction.operands[:2]
    space, kind = space_of(instruction), _kind(instruction)
    elements = _elements(target)
    dtype = DTYPES[kind]
    strong = bool(_STRONG & set(instruction.modifiers))
    access = Access(site, type_bits(kind) // 8, len(elements), "reads", strong)
    locate = address_reader(program, instruction, source)
    writes = [writer(program, instruction, one) for one in elements]

    def run(gang: Gang) -> None:
        lanes = active_lanes(gang)
        found = load(gang, space, spread(gang, locate(gang), lanes), lanes, access)
        for place, write in enumerate(writes):
            column = np.ascontiguousarray(found[:, place])
            if lanes is not None:
                full = np.zeros(gang.size, column.dtype)
                full[lanes] = column
                column = full
            write(gang, column.view(dtype))

    return run


def _store(program: Program, instruction: Instruction, site: int) -> Execute:
    target, source = instruction.operands[:2]
    space, kind = space_of(instruction), _kind(instruction)
    bits = type_bits(kind)
    elements = _elements(source)
    strong = bool(_STRONG & set(instruction.modifiers))
    access = Access(site, bits // 8, len(elements), "writes", strong)
    locate = address_reader(program, instruction, target)
    # Bits are moved as they are, only constants need the type.
    reads = [reader(program, instruction, one, kind) for one in elements]

    def run(gang: Gang) -> None:
        lanes = active_lanes(gang)
        columns = [spread(gang, read(gang), lanes).view(f"u{bits // 8}") for read in reads]
        values = columns[0][:, np.newaxis] if len(columns) == 1 else np.stack(columns, axis=1)
        store(gang, space, spread(gang, locate(gang), lanes), lanes, values, access)

    return run


# Atomics: lanes that meet at an address take their turns in order of lanes.


def _increment(old: Any, limit: Any) -> Any:
    return where(old >= limit, 0, old + 1).astype(old.dtype)


def _decrement(old: Any, limit: Any) -> Any:
    return where((old == 0) | (old > limit), limit, old - 1).astype(old.dtype)


_ATOMICS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda old, value: old + value,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "inc": _increment,
    "dec": _decrement,
    "exch": lambda old, value: value,
}
_HALVES = {"f16x2": np.dtype(np.float16), "bf16x2": np.dtype(ml_dtypes.bfloat16)}


def _atomic(program: Program, instruction: Instruction, site: int) -> Execute:
    returns = instruction.opcode == "atom"
    operands = instruction.operands if returns else (None, *instruction.operands)
    target, source = operands[0], operands[1]
    kind = _kind(instruction)
    name = next((one for one in instruction.modifiers if one in (*_ATOMICS, "cas")), None)
    if name is None or source is None:
        raise not_simulated(instruction, f"operation of '{instruction.name}'")
    space, size = space_of(instruction), type_bits(kind) // 8
    values = operands[2:] if name != "cas" else operands[2:4]
    if any(isinstance(one, Vector) for one in values):
        return _vector_reduction(program, instruction, site)
    reads = [reader(program, instruction, one, kind) for one in values[: 2 if name == "cas" else 1] if one is not None]
    write = writer(program, instruction, target) if target is not None else None
    locate = address_reader(program, instruction, source)
    access = Access(site, size, 1, "changes", True)
    half = _HALVES.get(kind)
    dtype = DTYPES[kind]
    ftz = kind == "f32" and "shared" not in space

    def apply(old: Lanes, operands: list[Lanes]) -> Lanes:
        if name == "cas":
            return where(old == operands[0], operands[1], old)
        if half is not None:
            parts = [np.ascontiguousarray(one).view(half) for one in (old, operands[0])]
            return _ATOMICS[name](*parts).astype(half).view(dtype)
        result = _ATOMICS[name](old, operands[0]).astype(dtype)
        return flush(result) if ftz and name == "add" else result

    def run(gang: Gang) -> None:
        lanes = active_lanes(gang)
        addresses = spread(gang, locate(gang), lanes)
        given = [spread(gang, read(gang), lanes) for read in reads]
        number = np.arange(gang.size) if lanes is None else lanes
        before = np.empty(len(addresses), dtype)
        # The first lane at each address, then the second, and so on.
        turn = np.zeros(len(addresses), np.int64)
        order = np.argsort(addresses, kind="stable")
        ordered = addresses[order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        turn[order] = np.arange(len(addresses)) - np.repeat(starts, np.diff([*starts.tolist(), len(addresses)]))
        for now in range(int(turn.max()) + 1):
            rows = np.flatnonzero(turn == now)
            old = load(gang, space, addresses[rows], number[rows], access)[:, 0].view(dtype)
            new = apply(old, [one[rows] for one in given])
            before[rows] = old
            store(gang, space, addresses[rows], number[rows], new.view(f"u{size}")[:, np.newaxis], access)
        if write is not None:
            full = np.zeros(gang.size, dtype)
            full[number] = before
            write(gang, full)

    return run


def _vector_reduction(program: Program, instruction: Instruction, site: int) -> Execute:
    raise not_simulated(instruction, "vector form of atomics")


RULES: dict[str, Callable[[Program, Instruction, int], Execute]] = {
    "ld": _load,
    "ldu": _load,
    "st": _store,
    "atom": _atomic,
    "red": _atomic,
}
