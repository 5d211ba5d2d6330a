"""``fuse-factors``: what computes a factor of a matrix product moves into the product's kernel.

Level: nest. In: kernels as ``fuse`` leaves them. Out: a kernel whose one result only a product reads, as one of its
factors, and that product's kernel become one::

    %a = nest.kernel @relu { max(x, 0) }                 %c = nest.kernel @relu_matmul {
    %c = nest.kernel @matmul { product of %a, %w }  ==>    %a = max(x, 0)
                                                           %c = product of %a and %w }

The kernel computes blocks of the factor while it stages them in scratch, so the whole factor is never in memory. It may
be elementwise (an activation, a scale, weights that are widened), and a left factor may need folds along the rows that
the product sums over: a norm, or a softmax.

A block is staged once for every block of the other side of the result, so a factor may be computed several times. Two
kernels stay two if that costs more than an ``EIGHTH`` of what the product does with an element meanwhile; the blocks
are those of the schedule for the machine called ``target``. So do products on tile units, which pack both factors their
own way, and kernels for which the file has schedules. So do bytes whose rows are known to be longer than a block of k,
each of which passes over the sums again, and few rows of bytes whose signs ``offset-signs`` would have to flip: the
columns of the right factor, all that there is to read, would be summed first, where rows that are in memory are summed
in no time.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import BlockArgument
from xdsl.passes import ModulePass

from crosstile.dialects.nest.analysis import element_type, is_contraction, is_plain_map
from crosstile.dialects.nest.axes import KernelAxes
from crosstile.dialects.nest.contraction_roles import BYTE, ContractionRoles, contraction_roles
from crosstile.dialects.nest.kernel import KernelOp
from crosstile.ir.diagnostics import op_error
from crosstile.passes.join_kernels import join_kernels, replace_kernels
from crosstile.passes.schedules.byte_signs import taken_factors
from crosstile.passes.schedules.computed import (
    BYTES_DEPTH,
    can_compute,
    computed_positions,
    repeats,
    work_per_element,
)
from crosstile.passes.schedules.products import IN_PLACE
from crosstile.passes.schedules.register_tiles import bits
from crosstile.targets.host import resolve_machine
from crosstile.targets.model import Machine, UnknownNameError

EIGHTH = 8
"""What may be computed again takes at most one part of so many of the product's own work."""


@dataclass(frozen=True)
class FuseFactorsPass(ModulePass):
    """Factors computed where they are staged, as far as that pays on the machine called ``target``."""

    name = "fuse-factors"

    target: str = "x86-64-avx512"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Fuse in every function of the module ``op``, in place."""
        try:
            machine = resolve_machine(self.target)
        except UnknownNameError as error:
            raise op_error(op, f"fuse-factors: {error}") from error
        for kernel in list(op.walk()):
            if isinstance(kernel, KernelOp):
                for position in (0, 1):
                    kernel = _fuse(kernel, position, machine, op)


def _fuse(kernel: KernelOp, position: int, machine: Machine, module: ModuleOp) -> KernelOp:
    """``kernel`` with what computes factor ``position`` of its product, if that is to be fused."""
    producer = _producer(kernel, position)
    if producer is None:
        return kernel
    joined = join_kernels((producer, kernel))
    if joined is None or not _pays(joined, machine):
        if joined is not None:
            joined.erase()
        return kernel
    name = f"{producer.kernel_name.data}_{kernel.kernel_name.data}"
    replace_kernels((producer, kernel), joined, name, module)
    return joined


def _producer(kernel: KernelOp, position: int) -> KernelOp | None:
    """The kernel that computes factor ``position`` of the product in ``kernel``, and nothing else that is used."""
    products = [nest for nest in kernel.generics if is_contraction(nest)]
    if len(products) != 1 or kernel.schedules is not None:
        return None
    factor = products[0].inputs[position]
    if not isinstance(factor, BlockArgument) or len(list(factor.uses)) != 1:
        return None
    value = kernel.inputs[factor.index]
    producer = value.owner
    if not isinstance(producer, KernelOp) or producer.schedules is not None or producer.parent is not kernel.parent:
        return None
    alone = len(producer.results) == 1 and len(list(value.uses)) == 1
    plain = all(is_plain_map(map_.data) for nest in producer.generics for map_ in nest.indexing_maps)
    return producer if alone and plain and not any(map(is_contraction, producer.generics)) else None


def _pays(kernel: KernelOp, machine: Machine) -> bool:
    """Whether all computed factors can be staged block by block, and none is computed again for more than it saves."""
    axes = KernelAxes(kernel)
    roles = contraction_roles(axes)
    if roles is None or not can_compute(axes, roles, machine):
        return False
    if _is_apart(roles, machine):
        return False
    for position in computed_positions(roles):
        times, block = repeats(axes, roles, machine, position)
        if times > 1 and work_per_element(axes, roles, position) * EIGHTH > block:
            return False
    return True


def _is_apart(roles: ContractionRoles, machine: Machine) -> bool:
    """Whether a left factor of bytes, staged only for being computed, is better left in memory, as far as is known."""
    if roles.lhs not in computed_positions(roles) or bits(element_type(roles.nest.inputs[roles.lhs])) != BYTE:
        return False
    if roles.k.size is not None and roles.k.size > BYTES_DEPTH:
        return True
    few = roles.m is None or (roles.m.size is not None and roles.m.size <= IN_PLACE[-1].most)
    return few and taken_factors(roles, machine) != roles.factors
