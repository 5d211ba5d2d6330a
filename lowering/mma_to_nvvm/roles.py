"""Rule for roles: parts of the program that run on warps of their own, by a branch on the number of the warp.

mma.roles { role @load warps(4) registers(40) { ... } role @compute warps(8) registers(232) { ... } }
==>
scf.if %thread < 128 { nvvm.setmaxregister decrease 40 ... }   scf.if %thread >= 128 { ... }

Registers are traded by whole groups of four warps. Roles of fewer warps that make up a group branch once more, behind
the trade, and so ask for the same number.

In a persistent grid each role has the loop over the block's instances for itself: the copying one is ahead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from xdsl.ir import Block, SSAValue

from crosstile.dialects import mma
from crosstile.dialects.mma.roles import Role
from crosstile.dialects.nvvm.synchronisation import SetMaxRegisterOp
from crosstile.lowering.loops import run_if
from crosstile.lowering.mma_to_nvvm.clusters import meet_at_end
from crosstile.lowering.mma_to_nvvm.fragments import LANES
from crosstile.lowering.mma_to_nvvm.grid import lower_body, lower_instances
from crosstile.lowering.mma_to_nvvm.kernel import launch_registers
from crosstile.lowering.mma_to_nvvm.kernel_state import Program
from crosstile.lowering.mma_to_nvvm.rings import finish_barriers
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering

GROUP = 4
"""Warps that trade registers together (PTX ISA, setmaxnreg)."""


def lower_roles(op: mma.RolesOp, lowering: NvvmLowering) -> None:
    """A branch by the number of the warp; a role whose work is tensor copies runs on one thread."""
    finish_barriers(lowering)
    outer = lowering.program
    for group in _groups(op, lowering):
        lowering.program = outer
        run_if(lowering, _is_among(_together(group), lowering), lambda group=group: _run_group(op, group, lowering))
    lowering.program = outer
    if lowering.kernel.cluster:
        meet_at_end(lowering)


Group = list[tuple[Role, Program]]
"""Roles whose warps trade registers together, and the warps of each."""


def _groups(op: mma.RolesOp, lowering: NvvmLowering) -> Iterator[Group]:
    first, group = lowering.program.first_warp, Group()
    for number, role in enumerate(op.roles):
        single = _is_single(role.body.block, lowering)
        group.append((role, Program(first, role.warps, number + 1, single=single)))
        first += role.warps
        start = group[0][0]
        if role.registers != start.registers:
            raise lowering.error(
                f"roles @{start.name} and @{role.name} share {GROUP} warps, which have one number of registers, but "
                f"ask for {start.registers} and {role.registers}"
            )
        if not role.registers or _together(group).warps % GROUP == 0:
            yield group
            group = Group()
    if group:
        yield group


def _together(group: Group) -> Program:
    """All warps of a group."""
    return replace(group[0][1], warps=sum(program.warps for _, program in group))


def _run_group(op: mma.RolesOp, group: Group, lowering: NvvmLowering) -> None:
    start, registers = launch_registers(lowering.kernel.warps), group[0][0].registers
    if registers:
        lowering.insert(SetMaxRegisterOp("increase" if registers > start else "decrease", registers))
    for role, program in group:
        lowering.program = _together(group)
        here = _is_among(program, lowering)
        run_if(lowering, here, lambda role=role, program=program: _run(op, role, program, lowering))


def _run(op: mma.RolesOp, role: Role, program: Program, lowering: NvvmLowering) -> None:
    parallel, block = op.parent_op(), role.body.block

    def instances() -> None:
        if isinstance(parallel, mma.ParallelOp) and parallel.order.persistent is not None:
            lower_instances(parallel, block, lowering)
        else:
            lower_body(block, lowering)

    lowering.program = program
    saved = dict(lowering.kernel.cursors)
    run_if(lowering, lowering.compare("eq", lowering.thread(), 0) if program.single else True, instances)
    lowering.kernel.cursors = saved


def _is_among(program: Program, lowering: NvvmLowering) -> SSAValue | bool:
    """Whether this thread, of the program at hand, is one of a part of its warps."""
    outer, first = lowering.program, program.first_warp - lowering.program.first_warp
    end = first + program.warps
    return lowering.both(
        lowering.compare("sge", lowering.thread(), first * LANES) if first else True,
        lowering.less(lowering.thread(), end * LANES) if end < outer.warps else True,
    )


def _is_single(block: Block, lowering: NvvmLowering) -> bool:
    """Whether a role does nothing but fill rings with tensor copies."""
    copies = False
    for op in block.walk():
        if isinstance(op, mma.CopyAsyncOp):
            copies = True
            if op not in lowering.kernel.tensor_copies:
                return False
        elif isinstance(op, mma.AcquireOp | mma.CommitOp | mma.YieldOp) or op.name.split(".")[0] in ("scf", "arith"):
            continue
        else:
            return False
    return copies
