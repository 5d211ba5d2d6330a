"""Several kernels become one, if their nests can share loops.

Level: nest. In: kernels in program order, of which only the last one's results are used by anything but the others.
Out: one kernel with all their nests, whose iterators have one name where they are one loop::

    %a = nest.kernel @relu { max(x, 0) }                 %c = nest.kernel @matmul {
    %c = nest.kernel @matmul { product of %a, %w }  ==>    %a = max(x, 0)
                                                           %c = product of %a and %w }
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.ir import Block, BlockArgument, SSAValue

from crosstile.dialects.nest.axes import KernelAxes
from crosstile.dialects.nest.generic import GenericOp, YieldOp
from crosstile.dialects.nest.kernel import KernelOp
from crosstile.dialects.nest.kernel_names import KernelNames
from crosstile.dialects.nest.merging import rename_iterators
from crosstile.dialects.nest.shared_iterators import SharedIterators
from crosstile.ir.diagnostics import fuse_locations


def join_kernels(parts: Sequence[KernelOp]) -> KernelOp | None:
    """One kernel of the nests of all ``parts``, in no block yet; None if they cannot share loops."""
    block = Block()
    inputs: dict[SSAValue, BlockArgument] = {}
    new: dict[SSAValue, SSAValue] = {}
    nests: list[GenericOp] = []
    for part in parts:
        for argument, value in zip(part.body.block.args, part.inputs, strict=True):
            if isinstance(owner := value.owner, KernelOp) and owner in parts:
                new[argument] = new[owner.yield_op.arguments[owner.results.index(value)]]
                continue
            if value not in inputs:
                inputs[value] = block.insert_arg(argument.type, len(block.args))
                inputs[value].name_hint = argument.name_hint
            new[argument] = inputs[value]
        for nest in part.generics:
            clone = nest.clone(new)
            for old, result in zip(nest.results, clone.results, strict=True):
                result.name_hint = old.name_hint
            block.add_op(clone)
            nests.append(clone)
    yielded = [new[value] for value in parts[-1].yield_op.arguments]
    block.add_op(YieldOp(*yielded))
    joined = KernelOp(parts[-1].kernel_name.data, list(inputs), [value.type for value in yielded], block)
    joined.location = fuse_locations(*(part.location for part in parts))
    shared = SharedIterators(nests)
    if shared.general is not None or shared.conflict is not None:
        joined.erase()
        return None
    axes = KernelAxes(joined)
    for nest in nests:
        rename_iterators(nest, [axis.name for axis in axes.of_nest(nest)])
    return joined


def replace_kernels(parts: Sequence[KernelOp], joined: KernelOp, name: str, module: ModuleOp) -> None:
    """Put ``joined``, called ``name``, in the place of the last of ``parts``, and erase them."""
    names = KernelNames(module)
    for old in parts:
        names.release(old)
    joined.kernel_name = StringAttr(names.unique(name))
    last = parts[-1]
    block = last.parent
    assert block is not None
    block.insert_op_before(joined, last)
    for old, new in zip(last.results, joined.results, strict=True):
        new.name_hint = old.name_hint
        old.replace_all_uses_with(new)
    for old in reversed(parts):
        old.detach()
        old.erase()
