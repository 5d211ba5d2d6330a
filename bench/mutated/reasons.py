"""Why a change of a kernel's synchronisation may go unnoticed in a correct kernel, each with a check of the kernel.

In: a kernel and a change that nothing noticed. Out: the first reason whose check holds, or None: then either the kernel
has synchronisation too much, or no call needs it, or the simulator does not see the need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from crosstile.targets.nvidia.ptx.module import Immediate, Instruction
from crosstile.targets.nvidia.simulator.faults import SimulatedFault
from crosstile.targets.nvidia.simulator.mutants import Change, Mutant
from mutated.launches import KernelRuns

MANY = 1 << 19
"""More arrivals than any kernel makes: a phase that expects so many does not end."""

PRODUCTS = ("wgmma.commit_group", "wgmma.wait_group")
"""What ends products: before their slots are free, or their sums are read."""


@dataclass(frozen=True)
class Reason:
    """``applies`` looks at the instruction, ``holds`` checks the kernel; ``text`` is what the table says."""

    text: str
    applies: Callable[[Mutant], bool]
    holds: Callable[[KernelRuns, Change, Sequence[Mutant]], bool]


def _body(runs: KernelRuns) -> tuple[Instruction, ...]:
    return runs.module.functions[runs.kernel].body


def _is_group(mutant: Mutant) -> bool:
    name = mutant.instruction.name
    return name.startswith(("cp.async.commit_group", "cp.async.wait_group"))


def _has_no_copies(runs: KernelRuns, change: Change, found: Sequence[Mutant]) -> bool:
    """No cp.async is in the kernel: its copies are ordinary loads and stores."""
    return not any(one.opcode == "cp" and one.modifiers[1] in ("ca", "cg") for one in _body(runs))


def _waits_for_all(runs: KernelRuns, change: Change, found: Sequence[Mutant]) -> bool:
    """All waits are for all groups: one without copies is not missed, and one with copies would be."""
    waits = [one for one in _body(runs) if one.name == "cp.async.wait_group"]
    return all(one.operands == (Immediate(0),) for one in waits)


def _is_not_reached(runs: KernelRuns, change: Change, found: Sequence[Mutant]) -> bool:
    """No launch runs the instruction."""
    return not runs.reaching(change.index)


def _is_joined(runs: KernelRuns, change: Change, found: Sequence[Mutant]) -> bool:
    """The next of the kernel's groups is closed before anything waits, by a commit that is missed: it has all."""
    groups = ("cp.async.bulk.commit_group", "cp.async.bulk.wait_group")
    following = next((one for one in _body(runs)[change.index + 1 :] if one.name.startswith(groups)), None)
    return any(one.caught and one.kind == "commit" and one.instruction is following for one in found)


def _is_one_block(runs: KernelRuns, change: Change, found: Sequence[Mutant]) -> bool:
    """The kernel has no cluster, so that all who use its mbarriers meet at a barrier behind their initialisation."""
    body = _body(runs)
    inits = [at for at, one in enumerate(body) if one.name.startswith("mbarrier.init")]
    uses = [at for at, one in enumerate(body) if one.opcode == "mbarrier" and at not in inits]
    barriers = [at for at, one in enumerate(body) if one.name.startswith(("bar.sync", "barrier.sync"))]
    has_cluster = "reqnctapercluster" in runs.module.functions[runs.kernel].directives
    return not has_cluster and any(max(inits) < at < min(uses, default=len(body)) for at in barriers)


def _is_fenced_before(runs: KernelRuns, change: Change, found: Sequence[Mutant]) -> bool:
    """Another wgmma.fence is missed: the one behind which ordinary instructions last wrote registers of wgmma."""
    return any(one.caught and one.instruction.name.startswith("wgmma.fence") for one in found)


def _never_awaited(runs: KernelRuns, change: Change, found: Sequence[Mutant]) -> bool:
    """A barrier of the kernel (for a change of an ``init`` that very one) never ends a phase, and nobody hangs."""
    body = _body(runs)
    places = [change.index]
    if change.kind != "init":
        places = [at for at, one in enumerate(body) if one.name.startswith("mbarrier.init")]
    return any(_runs_without(runs, at) for at in places)


def _runs_without(runs: KernelRuns, index: int) -> bool:
    kernel = runs.module.functions[runs.kernel]
    init = kernel.body[index]
    never = replace(init, operands=(init.operands[0], Immediate(MANY)))
    changed = Change(index, "init", "for ever", (never,)).applied(kernel)
    module = replace(runs.module, functions={**runs.module.functions, runs.kernel: changed})
    try:
        return runs.run(module) == runs.run(runs.module)
    except SimulatedFault:
        return False


REASONS = {
    "no copies": Reason(
        "groups of a kernel whose copies are ordinary loads and stores are empty", _is_group, _has_no_copies
    ),
    "not reached": Reason(
        "copies of later steps in a kernel whose k, which the program fixes, has none", _is_group, _is_not_reached
    ),
    "empty group": Reason(
        "a commit behind which no copy is missed, in a kernel whose waits are all for all groups",
        lambda one: one.kind == "commit" and _is_group(one),
        _waits_for_all,
    ),
    "joined": Reason(
        "a commit of a bulk store, behind which the next one's commit closes the group of both",
        lambda one: one.instruction.name.startswith("cp.async.bulk.commit_group"),
        _is_joined,
    ),
    "one block": Reason(
        "`fence.mbarrier_init` is for clusters; within a block the barrier behind it orders initialisation",
        lambda one: one.instruction.name.startswith("fence.mbarrier_init"),
        _is_one_block,
    ),
    "fenced before": Reason(
        "a `wgmma.fence` behind which wgmma alone has written its registers since the last one",
        lambda one: one.instruction.name.startswith("wgmma.fence"),
        _is_fenced_before,
    ),
    "not awaited": Reason(
        "an mbarrier of a slot that a block fills once, or products to end before: nobody waits until it is free",
        lambda one: one.instruction.opcode == "mbarrier" or one.instruction.name.startswith(PRODUCTS),
        _never_awaited,
    ),
}


def reason(runs: KernelRuns, change: Change, survivor: Mutant, found: Sequence[Mutant]) -> str | None:
    """The name of the first reason that applies to ``survivor`` and holds; ``found`` are all mutants of the kernel."""
    for name, one in REASONS.items():
        if one.applies(survivor) and one.holds(runs, change, found):
            return name
    return None
