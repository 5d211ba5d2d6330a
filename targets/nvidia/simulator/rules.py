"""Every opcode that the simulator knows, and the rule that decodes it.

Level: the simulator. In: nothing. Out: :data:`RULES`; a rule takes the program, one instruction and its index, and
gives the closure that runs it.
"""

from __future__ import annotations

from collections.abc import Callable

from crosstile.ir.registry import did_you_mean
from crosstile.targets.nvidia.ptx.module import Instruction, Kernel, Module
from crosstile.targets.nvidia.simulator import (
    async_copies,
    barriers,
    compare,
    convert,
    floating,
    integer,
    matrix_rules,
    mbarrier_rules,
    memory_rules,
    moves,
    warp_operations,
)
from crosstile.targets.nvidia.simulator.faults import not_simulated
from crosstile.targets.nvidia.simulator.gang import Gang
from crosstile.targets.nvidia.simulator.operands import Read, guard
from crosstile.targets.nvidia.simulator.program import Execute, Program, Signal

Rule = Callable[[Program, Instruction, int], Execute]


def _set_registers(program: Program, instruction: Instruction, site: int) -> Execute:
    """setmaxnreg says how many registers a warp has; the simulator has no such limit."""

    def run(gang: Gang) -> None:
        return None

    return run


RULES: dict[str, Rule] = {
    **integer.RULES,
    **floating.RULES,
    **convert.RULES,
    **compare.RULES,
    **moves.RULES,
    **memory_rules.RULES,
    **warp_operations.RULES,
    **barriers.RULES,
    **mbarrier_rules.RULES,
    **async_copies.RULES,
    **matrix_rules.RULES,
    "setmaxnreg": _set_registers,
}
"""By opcode."""

_GUARD_THEMSELVES = ("bra", "ret", "exit")


def decode(module: Module, kernel: Kernel) -> Program:
    """``kernel`` ready to run. Raises ``NotSimulated`` for what no rule knows, naming the instruction and its line."""
    program = Program(module, kernel)
    program.code = [_decode(program, instruction, site) for site, instruction in enumerate(kernel.body)]
    return program


def _decode(program: Program, instruction: Instruction, site: int) -> Execute:
    opcode = instruction.opcode
    rule = RULES.get(opcode)
    if rule is None:
        raise not_simulated(instruction, f"rule for '{opcode}'{did_you_mean(opcode, list(RULES))}")
    try:
        execute = rule(program, instruction, site)
    except (KeyError, IndexError, ValueError) as error:
        raise not_simulated(instruction, f"form '{instruction.name}' of '{opcode}' ({error})") from error
    if instruction.predicate is None or opcode in _GUARD_THEMSELVES:
        return execute
    return _guarded(guard(program, instruction), execute)


def _guarded(read: Read, execute: Execute) -> Execute:
    def guarded(gang: Gang) -> Signal | int | None:
        chosen = read(gang)
        saved = gang.mask
        mask = chosen if saved is None else saved & chosen
        if saved is None and mask.all():
            return execute(gang)
        if not mask.any():
            return None
        gang.mask = mask
        try:
            return execute(gang)
        finally:
            gang.mask = saved

    return guarded
