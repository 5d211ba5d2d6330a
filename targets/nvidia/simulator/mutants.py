"""Mutants of a kernel: what happens without each wait, barrier, arrive and fence.

Level: tests of synchronisation. In: a parsed kernel and a way to run it. Out: one :class:`Mutant` for every instruction
that synchronises, with what its absence led to: a fault, a wrong result, or nothing. A kernel whose mutants are all
caught has no synchronisation too much, and the simulator has seen the need for each::

    for mutant in mutants(module, "gemm", run):
        assert mutant.caught, mutant

``run`` takes a module, simulates it and gives its results as bytes, which are compared with those of the original.
A wait_group that leaves groups in flight is mutated a second time to leave one more, and a barrier-and-arrive count is
left alone: to take one away is a deadlock or an error of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.ptx.module import Immediate, Instruction, Kernel, Module
from crosstile.targets.nvidia.simulator.faults import SimulatedFault

Outcome = Literal["fault", "wrong", "same"]

WAITS = ("wait_group", "wait_all", "wait", "try_wait", "test_wait")


@dataclass(frozen=True)
class Mutant:
    """One instruction left out or weakened, and what followed; ``kind`` says of what sort it is."""

    instruction: Instruction
    change: str
    kind: Literal["wait", "barrier", "arrive", "fence"]
    outcome: Outcome
    fault: CrosstileError | None = None

    @property
    def caught(self) -> bool:
        """Whether the change was noticed."""
        return self.outcome != "same"

    def __str__(self) -> str:
        why = "" if self.fault is None else f": {self.fault.message}"
        return f"PTX line {self.instruction.line}: {self.instruction} {self.change} -> {self.outcome}{why}"


def synchronisation(instruction: Instruction) -> Literal["wait", "barrier", "arrive", "fence"] | None:
    """What sort of synchronisation an instruction is, None for all others."""
    opcode, modifiers = instruction.opcode, instruction.modifiers
    if opcode in ("bar", "barrier"):
        return "arrive" if "arrive" in modifiers else "barrier"
    if opcode in ("fence", "membar") or (opcode == "wgmma" and modifiers[0] == "fence"):
        return "fence"
    if opcode == "mbarrier" and modifiers[0] in ("arrive", "arrive_drop"):
        return "arrive"
    if opcode == "mbarrier" and modifiers[0] in ("try_wait", "test_wait"):
        return "wait"
    if opcode in ("cp", "wgmma") and any(one in WAITS for one in modifiers):
        return "wait"
    if opcode == "cp" and "mbarrier" in modifiers and "arrive" in modifiers:
        return "arrive"
    return None


def mutants(
    module: Module, kernel: str, run: Callable[[Module], bytes], skip: Callable[[Instruction], bool] | None = None
) -> Iterator[Mutant]:
    """Every mutant of ``kernel`` in turn; instructions for which ``skip`` holds are left alone.

    Raises whatever ``run`` raises for the kernel as it is.
    """
    original = module.functions[kernel]
    expected = run(module)
    for index, instruction in enumerate(original.body):
        kind = synchronisation(instruction)
        if kind is None or (skip is not None and skip(instruction)):
            continue
        for change, body in _changes(original, index):
            changed = replace(module, functions={**module.functions, kernel: replace(original, body=body)})
            try:
                found = run(changed)
            except SimulatedFault as fault:
                yield Mutant(instruction, change, kind, "fault", fault)
            else:
                yield Mutant(instruction, change, kind, "same" if found == expected else "wrong")


def _changes(kernel: Kernel, index: int) -> Iterator[tuple[str, tuple[Instruction, ...]]]:
    instruction = kernel.body[index]

    def with_instead(*instead: Instruction) -> tuple[Instruction, ...]:
        return (*kernel.body[:index], *instead, *kernel.body[index + 1 :])

    yield "left out", with_instead(_nothing(instruction))
    if instruction.opcode in ("cp", "wgmma") and "wait_group" in instruction.modifiers:
        (count,) = instruction.operands
        if isinstance(count, Immediate):
            more = replace(instruction, operands=(Immediate(count.value + 1),))
            yield f"waiting until {count.value + 1} are left", with_instead(more)


def _nothing(instruction: Instruction) -> Instruction:
    """An instruction in its place, so that labels stay where they are: a wait on an mbarrier answers yes at once."""
    if instruction.opcode == "mbarrier" and instruction.modifiers[0] in ("try_wait", "test_wait"):
        yes = replace(instruction, opcode="setp", modifiers=("eq", "u32"))
        return replace(yes, operands=(instruction.operands[0], Immediate(0), Immediate(0)))
    return replace(instruction, opcode="pmevent", modifiers=(), operands=(Immediate(0),))
