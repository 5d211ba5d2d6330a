"""Mutants of a kernel: what happens without each wait, commit, barrier, arrive and fence, or with a weaker one.

Level: tests of synchronisation. In: a parsed kernel and a way to run it. Out: one :class:`Mutant` for every change of
an instruction that synchronises, with what it led to: a fault, a wrong result, or nothing. A kernel whose mutants are
all caught has no synchronisation too much, and the simulator has seen the need for each::

    for mutant in mutants(module, "gemm", run):
        assert mutant.caught, mutant

``run`` takes a module, simulates it and gives its results as bytes, which are compared with those of the original.

| instruction | changes |
|---|---|
| barriers (``bar``, ``bar.warp.sync``, ``barrier.cluster``), fences, arrivals | left out |
| ``commit_group`` of cp.async, bulk copies and wgmma | left out |
| ``wait_group N`` of the same | left out; waiting until N + 1 are left |
| ``mbarrier.try_wait`` | left out: it answers yes at once; by parity also for the other phase |
| ``mbarrier.arrive.expect_tx`` | left out; arriving without the bytes |
| ``mbarrier.init`` of N | for N - 1 and N + 1 arrivals |

:func:`stricter` is the control: kernels that wait for more than they must do what they did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.ptx.module import Immediate, Instruction, Kernel, Module, Register
from crosstile.targets.nvidia.simulator.faults import SimulatedFault

Outcome = Literal["fault", "wrong", "same"]
Kind = Literal["wait", "commit", "barrier", "arrive", "fence", "init"]

WAITS = ("wait_group", "wait_all", "wait", "try_wait", "test_wait")
MBARRIER_KINDS: dict[str, Kind] = {
    "init": "init",
    "arrive": "arrive",
    "arrive_drop": "arrive",
    "expect_tx": "arrive",
    "try_wait": "wait",
    "test_wait": "wait",
}
PARITY = "%parity_of_mutant"


@dataclass(frozen=True)
class Mutant:
    """One instruction left out or weakened, and what followed; ``kind`` says of what sort it is."""

    instruction: Instruction
    change: str
    kind: Kind
    outcome: Outcome
    fault: CrosstileError | None = None

    @property
    def caught(self) -> bool:
        """Whether the change was noticed."""
        return self.outcome != "same"

    def __str__(self) -> str:
        why = "" if self.fault is None else f": {self.fault.message}"
        return f"PTX line {self.instruction.line}: {self.instruction} {self.change} -> {self.outcome}{why}"


@dataclass(frozen=True)
class Change:
    """Instruction ``index`` of a kernel and what stands in its place."""

    index: int
    kind: Kind
    what: str
    instead: tuple[Instruction, ...]

    def applied(self, kernel: Kernel) -> Kernel:
        """``kernel`` with the change; its labels mark the instructions that they did."""
        more = len(self.instead) - 1
        labels = {name: at + more if at > self.index else at for name, at in kernel.labels.items()}
        body = (*kernel.body[: self.index], *self.instead, *kernel.body[self.index + 1 :])
        return replace(kernel, body=body, labels=labels, registers={**kernel.registers, PARITY: "b32"})


def synchronisation(instruction: Instruction) -> Kind | None:
    """What sort of synchronisation an instruction is, None for all others."""
    opcode, modifiers = instruction.opcode, instruction.modifiers
    if opcode in ("bar", "barrier"):
        return "arrive" if "arrive" in modifiers else "barrier"
    if opcode in ("fence", "membar") or (opcode == "wgmma" and modifiers[0] == "fence"):
        return "fence"
    if opcode == "mbarrier":
        return MBARRIER_KINDS.get(modifiers[0])
    if opcode not in ("cp", "wgmma"):
        return None
    if "commit_group" in modifiers:
        return "commit"
    if any(one in WAITS for one in modifiers):
        return "wait"
    return "arrive" if opcode == "cp" and "mbarrier" in modifiers and "arrive" in modifiers else None


def mutants(
    module: Module, kernel: str, run: Callable[[Module], bytes], skip: Callable[[Instruction], bool] | None = None
) -> Iterator[Mutant]:
    """Every mutant of ``kernel`` in turn; instructions for which ``skip`` holds are left alone.

    Raises whatever ``run`` raises for the kernel as it is.
    """
    original = module.functions[kernel]
    expected = run(module)
    for change in changes(original):
        if skip is None or not skip(original.body[change.index]):
            yield judged(module, kernel, change, run, expected)


def stricter(module: Module, kernel: str, run: Callable[[Module], bytes]) -> Iterator[Mutant]:
    """The controls of ``kernel``: each ``wait_group N`` that waits until fewer are left; none is to be caught."""
    original = module.functions[kernel]
    expected = run(module)
    for index, instruction in enumerate(original.body):
        count = _groups_left(instruction)
        if count is not None and count > 0:
            fewer = replace(instruction, operands=(Immediate(count - 1),))
            change = Change(index, "wait", f"waiting until {count - 1} are left", (fewer,))
            yield judged(module, kernel, change, run, expected)


def judged(
    module: Module, kernel: str, change: Change, run: Callable[[Module], bytes], expected: bytes, *others: Change
) -> Mutant:
    """What ``change`` leads to, where ``others`` of other instructions are made as well."""
    changed = original = module.functions[kernel]
    for one in sorted((change, *others), key=lambda one: -one.index):
        changed = one.applied(changed)
    instruction = original.body[change.index]
    try:
        found = run(replace(module, functions={**module.functions, kernel: changed}))
    except SimulatedFault as fault:
        return Mutant(instruction, change.what, change.kind, "fault", fault)
    return Mutant(instruction, change.what, change.kind, "same" if found == expected else "wrong")


def changes(kernel: Kernel) -> Iterator[Change]:
    """Everything that is changed in ``kernel``, one at a time, in the order of its instructions."""
    for index, instruction in enumerate(kernel.body):
        kind = synchronisation(instruction)
        if kind is not None:
            for what, *instead in _weakened(instruction, kind):
                yield Change(index, kind, what, tuple(instead))


def _weakened(instruction: Instruction, kind: Kind) -> Iterator[tuple[str, *tuple[Instruction, ...]]]:
    operands = instruction.operands
    if kind == "init":
        *place, count = operands
        if isinstance(count, Immediate):
            for number in (count.value - 1, count.value + 1):
                if number:
                    yield f"for {number} arrivals", replace(instruction, operands=(*place, Immediate(number)))
        return
    yield "left out", _nothing(instruction)
    if (count := _groups_left(instruction)) is not None:
        more = replace(instruction, operands=(Immediate(count + 1),))
        yield f"waiting until {count + 1} are left", more
    elif instruction.opcode == "mbarrier" and "parity" in instruction.modifiers:
        target, place, parity, *rest = operands
        other = replace(instruction, operands=(target, place, Register(PARITY), *rest))
        flip = replace(instruction, opcode="xor", modifiers=("b32",), operands=(Register(PARITY), parity, Immediate(1)))
        yield "for the other phase", flip, other
    elif instruction.opcode == "mbarrier" and instruction.modifiers[:2] == ("arrive", "expect_tx"):
        modifiers = tuple(one for one in instruction.modifiers if one != "expect_tx")
        yield "without the bytes", replace(instruction, modifiers=modifiers, operands=operands[:-1])


def _groups_left(instruction: Instruction) -> int | None:
    if instruction.opcode in ("cp", "wgmma") and "wait_group" in instruction.modifiers:
        (count,) = instruction.operands
        if isinstance(count, Immediate):
            return count.value
    return None


def _nothing(instruction: Instruction) -> Instruction:
    """An instruction in its place: a wait on an mbarrier answers yes at once."""
    if instruction.opcode == "mbarrier" and instruction.modifiers[0] in ("try_wait", "test_wait"):
        yes = replace(instruction, opcode="setp", modifiers=("eq", "u32"))
        return replace(yes, operands=(instruction.operands[0], Immediate(0), Immediate(0)))
    return replace(instruction, opcode="pmevent", modifiers=(), operands=(Immediate(0),))
