"""Rule for roles: parts of the program that run on warps of their own, by a branch on the number of the warp.

mma.roles { role @load warps(4) registers(40) { ... } role @compute warps(8) registers(232) { ... } }
==>
scf.if %thread < 128 { nvvm.setmaxregister decrease 40 ... }   scf.if %thread >= 128 { ... }

In a persistent grid each role has the loop over the block's instances for itself: the copying one is ahead.
"""

from __future__ import annotations

from xdsl.ir import Block

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


def lower_roles(op: mma.RolesOp, lowering: NvvmLowering) -> None:
    """A branch by the number of the warp; a role whose work is tensor copies runs on one thread."""
    finish_barriers(lowering)
    outer, parallel = lowering.program, op.parent_op()

    def instances(role: Role) -> None:
        if isinstance(parallel, mma.ParallelOp) and parallel.order.persistent is not None:
            lower_instances(parallel, role.body.block, lowering)
        else:
            lower_body(role.body.block, lowering)

    first = outer.first_warp
    start = launch_registers(lowering.kernel.warps)
    for number, role in enumerate(op.roles):
        lowering.program = outer
        thread = lowering.thread()
        here = lowering.both(
            lowering.compare("sge", thread, (first - outer.first_warp) * LANES) if first > outer.first_warp else True,
            lowering.less(thread, (first - outer.first_warp + role.warps) * LANES)
            if first + role.warps < outer.first_warp + outer.warps
            else True,
        )
        lowering.program = Program(first, role.warps, number + 1, single=_is_single(role.body.block, lowering))

        def body(role: Role = role) -> None:
            if role.registers:
                action = "increase" if role.registers > start else "decrease"
                lowering.insert(SetMaxRegisterOp(action, role.registers))
            if lowering.program.single:
                run_if(lowering, lowering.compare("eq", lowering.thread(), 0), lambda: instances(role))
            else:
                instances(role)

        saved = dict(lowering.kernel.cursors)
        run_if(lowering, here, body)
        lowering.kernel.cursors = saved
        first += role.warps
    lowering.program = outer
    if lowering.kernel.cluster:
        meet_at_end(lowering)


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
