"""``choose-schedule``: write schedules from the machine description into kernels that have none.

Level: nest. In: ``nest.kernel`` without ``schedules``. Out: the same kernel with an ordered list of guarded schedules.
A schedule that a person or a tuner wrote stays as it is. For a matrix product on AVX-512::

    schedules [n <= 16 : #nest.schedule<loops = [k : 4096 balanced 8, m : 504, n : 16, m : 12], stage = [1], ...>,
               m <= 1 : #nest.schedule<loops = [k : 8, n : 64, m : 1], parallel = n grain 64, ...>,
               m <= 32 : #nest.schedule<loops = [k : 16, n : 48, m : 8], parallel = n grain 48, ...>,
               #nest.schedule<loops = [k : 1024 balanced 8, m : 2046, n : 64, m : 6], parallel = m grain 6,
                              lane = n, stage = [1], intrinsic = "x86.avx512.fma.1x16x1.f32">]

The register tile follows from the number of vector registers: as many vectors of accumulators as hide the latency of
the unit, plus a row of the right-hand side and one broadcast, must fit. The right-hand side is packed where enough rows
reuse it, a panel of a quarter of L2 at a time, and read in place where not. Attention is blocked so that a block of
scores stays in the nearest cache. Everything else is swept row by row, a few vectors at a time. A product whose results
are narrower than its sums gets memory for those that wait between blocks of the reduction (``schedules/carried_sums``).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from xdsl.context import Context
from xdsl.dialects.builtin import ArrayAttr, ModuleOp
from xdsl.passes import ModulePass

from crosstile.dialects.nest.attention_roles import attention_roles
from crosstile.dialects.nest.axes import KernelAxes
from crosstile.dialects.nest.contraction_roles import contraction_roles
from crosstile.dialects.nest.kernel import KernelOp
from crosstile.dialects.nest.row_chain_roles import row_chain_roles
from crosstile.dialects.nest.schedule import (
    GuardedScheduleAttr,
)
from crosstile.ir.diagnostics import op_error
from crosstile.passes.schedules.alignment import aligned_variants
from crosstile.passes.schedules.attention import attention_schedules
from crosstile.passes.schedules.block_attention import block_attention_schedules
from crosstile.passes.schedules.block_products import block_product_schedules
from crosstile.passes.schedules.block_sweeps import block_sweep_schedules
from crosstile.passes.schedules.carried_sums import carry_sums
from crosstile.passes.schedules.computed import can_compute, computed_positions, computed_schedules
from crosstile.passes.schedules.limits import check_schedules
from crosstile.passes.schedules.packed import packed_positions, packed_schedules
from crosstile.passes.schedules.products import contraction_schedules
from crosstile.passes.schedules.row_chains import row_chain_schedules
from crosstile.passes.schedules.sweeps import sweep_schedules
from crosstile.passes.schedules.windows import is_window, window_schedules
from crosstile.targets.host import default_target, resolve_machine
from crosstile.targets.model import Machine, UnknownNameError


def schedules_for(kernel: KernelOp, machine: Machine) -> list[GuardedScheduleAttr]:
    """The guarded schedules of ``kernel`` on ``machine``."""
    axes = KernelAxes(kernel)
    return _for_core(axes, machine) if machine.warp_lanes is None else _for_blocks(axes, machine)


def _for_core(axes: KernelAxes, machine: Machine) -> list[GuardedScheduleAttr]:
    """Schedules for a core with vector registers and caches."""
    if (attention := attention_roles(axes)) is not None:
        return attention_schedules(attention, machine)
    if (chain := row_chain_roles(axes)) is not None:
        return row_chain_schedules(chain, machine)
    roles = contraction_roles(axes)
    if roles is not None and computed_positions(roles):
        if can_compute(axes, roles, machine):
            return computed_schedules(axes, roles, machine)
    elif roles is not None:
        windowed = any(is_window(axes, roles, position) for position in (roles.lhs, roles.rhs))
        with suppress(UnknownNameError):  # no unit for these types: products are swept like any other reduction
            if base := (window_schedules if windowed else contraction_schedules)(axes, roles, machine):
                return packed_schedules(axes, roles, base) if packed_positions(roles) else base
    return sweep_schedules(axes, machine)


def _for_blocks(axes: KernelAxes, machine: Machine) -> list[GuardedScheduleAttr]:
    """Schedules for blocks of warps that share scratch."""
    if (attention := attention_roles(axes)) is not None:
        return block_attention_schedules(axes, attention, machine)
    if (roles := contraction_roles(axes)) is not None:
        with suppress(UnknownNameError):  # as on a core
            return block_product_schedules(axes, roles, machine)
    return aligned_variants(axes, block_sweep_schedules(axes, machine) or sweep_schedules(axes, machine))


@dataclass(frozen=True)
class ChooseSchedulePass(ModulePass):
    """Schedules from the description of the machine called ``target`` (``host``: this one) for kernels without."""

    name = "choose-schedule"

    target: str = field(default_factory=default_target)

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Write schedules into the kernels of the module ``op`` in place."""
        try:
            chip = resolve_machine(self.target)
        except UnknownNameError as error:
            raise op_error(op, f"choose-schedule: {error}") from error
        for kernel in [each for each in op.walk() if isinstance(each, KernelOp)]:
            if kernel.schedules is None:
                kernel.schedules = ArrayAttr(schedules_for(kernel, chip))
            else:
                check_schedules(kernel, chip)
            carry_sums(kernel)
