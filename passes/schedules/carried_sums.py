"""A place for sums between blocks of a reduction where every result of a kernel is of a narrower type.

Level: nest. In: a kernel whose schedules cut the sums of its product into blocks. Out: the same kernel with the sums as
one more result, which nobody reads; it is memory of the accumulator's type in the caller's arena::

    %y = nest.kernel @matmul (...) -> (tensor<?x?xbf16>) {        %y, %sums = nest.kernel @matmul (...)
      %c = nest.generic ... accumulate f32 -> tensor<?x?xf32>           -> (tensor<?x?xbf16>, tensor<?x?xf32>) {
      %r = nest.generic ... arith.truncf                    ==>     ...
      nest.yield %r                                                 nest.yield %r, %c

So each element stays one chain of additions in the accumulator's type, rounded once, whatever the blocks; blocks before
the last write sums only, the last one results only.
"""

from __future__ import annotations

from xdsl.ir import Region, SSAValue
from xdsl.rewriter import Rewriter

from crosstile.dialects.nest.axes import KernelAxes
from crosstile.dialects.nest.contraction_roles import carrier, contraction_roles
from crosstile.dialects.nest.generic import YieldOp
from crosstile.dialects.nest.kernel import KernelOp


def carry_sums(kernel: KernelOp) -> KernelOp:
    """``kernel``, or what replaces it: one that can hold the sums of its product between blocks if they are cut."""
    axes = KernelAxes(kernel)
    roles = contraction_roles(axes)
    if roles is None or carrier(axes, kernel.yield_op.arguments, roles) is not None:
        return kernel
    guarded = () if kernel.schedules is None else kernel.schedules.data
    schedules = [each.schedule.data for each in guarded]
    if any(schedule.grid for schedule in schedules):
        return kernel  # blocks of a grid carry their sums in registers
    summed = [(axis, schedule) for axis in axes.reduced(roles.nest) for schedule in schedules if schedule.intrinsic]
    if all(axis.size is not None and axis.size <= schedule.steps(axis.name)[-1] for axis, schedule in summed):
        return kernel
    sums = roles.nest.results[0]
    old = kernel.yield_op
    kept: list[SSAValue] = [*old.arguments, sums]
    Rewriter.replace_op(old, YieldOp(*kept))
    body = Region()
    kernel.body.move_blocks(body)
    types = [*kernel.result_types, sums.type]
    new = KernelOp(kernel.kernel_name.data, kernel.inputs, types, body, guarded)
    new.attributes |= kernel.attributes
    new.location = kernel.location
    for before, after in zip(kernel.results, new.results, strict=False):
        after.name_hint = before.name_hint
    Rewriter.replace_op(kernel, new, new.results[:-1])
    return new
