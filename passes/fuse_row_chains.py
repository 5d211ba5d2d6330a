"""``fuse-row-chains``: two products with folds along rows between them become one kernel that never stores the rows.

Level: nest. In: kernels as ``fuse-attention`` leaves them. Out: where a product multiplies what is computed, and folded
row by row, from another product that nothing else reads, one kernel of all their nests::

    %s = nest.kernel @attention { product; scale, mask }              %o = nest.kernel @attention {
    %w = nest.kernel @attention_1 { max; exp; sum; div }        ==>     product; scale, mask
    %o = nest.kernel @attention_2 { product; what follows }             max; exp; sum; div
                                                                        product; what follows }

The nests stay as they are, and with them the order of every sum: this is for attention whose softmax is
``fastmath<none>``, which ``fuse-attention`` must leave. A block of rows of the first product waits in scratch
(``lowering/nest_to_tile/row_chains.py``). Chains without a sum that is to stay in order stay as they are, and so do
those whose other dimensions are large or not known, those without rows, and kernels for which the file has schedules.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from re import sub

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import BlockArgument
from xdsl.passes import ModulePass

from crosstile.dialects.nest.analysis import is_contraction, is_plain_map
from crosstile.dialects.nest.axes import KernelAxes
from crosstile.dialects.nest.kernel import KernelOp
from crosstile.dialects.nest.row_chain_roles import row_chain_roles
from crosstile.ir.diagnostics import op_error
from crosstile.passes.join_kernels import join_kernels, replace_kernels
from crosstile.passes.schedules.row_chains import takes_row_chain
from crosstile.targets.host import resolve_machine
from crosstile.targets.model import Machine, UnknownNameError


@dataclass(frozen=True)
class FuseRowChainsPass(ModulePass):
    """Chains of two products in one kernel, as far as the machine called ``target`` has one."""

    name = "fuse-row-chains"

    target: str = "x86-64-avx512"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Fuse in every function of the module ``op``, in place."""
        try:
            machine = resolve_machine(self.target)
        except UnknownNameError as error:
            raise op_error(op, f"fuse-row-chains: {error}") from error
        for kernel in list(op.walk()):
            if isinstance(kernel, KernelOp) and kernel.parent is not None:
                any(_fuse(kernel, position, machine, op) for position in (0, 1))


def _fuse(kernel: KernelOp, position: int, machine: Machine, module: ModuleOp) -> bool:
    """Fuse ``kernel`` with the kernels behind factor ``position`` of its product, if they are a chain."""
    parts = _parts(kernel, position)
    if len(parts) < 2:
        return False
    joined = join_kernels(parts)
    if joined is None:
        return False
    axes = KernelAxes(joined)
    roles = row_chain_roles(axes)
    if roles is None or not takes_row_chain(axes, roles, machine):
        joined.erase()
        return False
    stems = (sub(r"_\d+$", "", part.kernel_name.data) for part in parts)
    replace_kernels(parts, joined, "_".join(stem for stem, _ in groupby(stems)), module)
    return True


def _parts(kernel: KernelOp, position: int) -> list[KernelOp]:
    """The kernels that compute the factor and nothing else, down to a product, and ``kernel``, in program order."""
    products = [nest for nest in kernel.generics if is_contraction(nest)]
    if len(products) != 1 or not _is_open(kernel):
        return []
    factor = products[0].inputs[position]
    parts, found = [kernel], False
    pending = [kernel.inputs[factor.index]] if isinstance(factor, BlockArgument) else []
    while pending:
        producer = pending.pop().owner
        if not isinstance(producer, KernelOp) or producer in parts or producer.parent is not kernel.parent:
            continue
        alone = all(use.operation in parts for result in producer.results for use in result.uses)
        if not alone or not _is_open(producer):
            continue
        parts.append(producer)
        if any(map(is_contraction, producer.generics)):
            found = True
        else:
            pending += producer.inputs
    assert kernel.parent is not None
    return [op for op in kernel.parent.ops if op in parts and isinstance(op, KernelOp)] if found else []


def _is_open(kernel: KernelOp) -> bool:
    """Whether no schedule is given for ``kernel``, and all its indices are iterators."""
    maps = (map_.data for nest in kernel.generics for map_ in nest.indexing_maps)
    return kernel.schedules is None and all(map(is_plain_map, maps))
