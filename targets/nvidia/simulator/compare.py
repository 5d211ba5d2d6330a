"""Comparisons and selections: setp, set, selp, slct.

Level: the simulator's rules. In: decoded instructions. Out: one closure each. PTX ISA, "Comparison and Selection
Instructions": the operators ending in ``u`` are true if an operand is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crosstile.targets.fma import flush
from crosstile.targets.nvidia.ptx.module import Instruction, Pair
from crosstile.targets.nvidia.simulator.integer import elementwise
from crosstile.targets.nvidia.simulator.operands import DTYPES, reader, writer
from crosstile.targets.nvidia.simulator.rounding import where

if TYPE_CHECKING:
    from crosstile.targets.nvidia.simulator.gang import Gang
    from crosstile.targets.nvidia.simulator.program import Execute, Program

Lanes = NDArray[Any]
Function = Callable[[Lanes, Lanes], Lanes]

_OPERATORS: dict[str, Function] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: (a != b) & (a == a) & (b == b),
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "num": lambda a, b: (a == a) & (b == b),
    "nan": lambda a, b: (a != a) | (b != b),
}
_UNSIGNED = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
_BOOLEAN: dict[str, Function] = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


def _operator(name: str, is_float: bool) -> Function:
    if name in _UNSIGNED:
        name = _UNSIGNED[name]
    if name.endswith("u") and name[:-1] in _OPERATORS:
        ordered = _OPERATORS[name[:-1]]
        return lambda a, b: ordered(a, b) | (a != a) | (b != b)
    return _OPERATORS[name] if is_float or name != "ne" else np.not_equal


def _comparison(program: Program, instruction: Instruction, kind: str) -> Callable[[Gang], tuple[Lanes, Lanes | None]]:
    """What compares, and reads the predicate to combine with, if there is one."""
    modifiers = instruction.modifiers
    compare = _operator(modifiers[0], "f" in kind)
    first, second = (reader(program, instruction, one, kind) for one in instruction.operands[1:3])
    flushes = "ftz" in modifiers and kind == "f32"
    combined = len(instruction.operands) == 4
    third = reader(program, instruction, instruction.operands[3], "pred") if combined else None

    def run(gang: Gang) -> tuple[Lanes, Lanes | None]:
        a, b = first(gang), second(gang)
        if flushes:
            a, b = flush(a), flush(b)
        return compare(a, b), None if third is None else third(gang)

    return run


def _set_predicate(program: Program, instruction: Instruction, site: int) -> Execute:
    kind = instruction.modifiers[-1]
    compared = _comparison(program, instruction, kind)
    combine = next((_BOOLEAN[one] for one in instruction.modifiers if one in _BOOLEAN), None)
    target = instruction.operands[0]
    targets = (target.first, target.second) if isinstance(target, Pair) else (target,)
    writes = [writer(program, instruction, one) for one in targets]
    if len(writes) == 1 and combine is None:
        (write,) = writes
        return lambda gang: write(gang, compared(gang)[0])

    def run(gang: Gang) -> None:
        result, other = compared(gang)
        values: list[Any] = [result, ~result]
        if combine is not None and other is not None:
            values = [np.asarray(combine(value, other)) for value in values]
        for write, value in zip(writes, values, strict=False):
            write(gang, value)

    return run


def _set(program: Program, instruction: Instruction, site: int) -> Execute:
    to, kind = instruction.modifiers[-2:]
    compared = _comparison(program, instruction, kind)
    combine = next((_BOOLEAN[one] for one in instruction.modifiers if one in _BOOLEAN), None)
    write = writer(program, instruction, instruction.operands[0])
    dtype = DTYPES[to]
    one = dtype.type(1) if "f" in to else ~dtype.type(0)

    def run(gang: Gang) -> None:
        result, other = compared(gang)
        if combine is not None and other is not None:
            result = combine(result, other)
        write(gang, where(result, one, dtype.type(0)))

    return run


def _select(program: Program, instruction: Instruction, site: int) -> Execute:
    kind = instruction.modifiers[-1]
    return elementwise(program, instruction, lambda a, b, p: where(p, a, b), (kind, kind, "pred"))


def _select_by_sign(program: Program, instruction: Instruction, site: int) -> Execute:
    kind, sign = instruction.modifiers[-2:]
    return elementwise(program, instruction, lambda a, b, c: where(c >= 0, a, b), (kind, kind, sign))


RULES: dict[str, Callable[[Program, Instruction, int], Execute]] = {
    "setp": _set_predicate,
    "set": _set,
    "selp": _select,
    "slct": _select_by_sign,
}
