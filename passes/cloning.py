"""Parts of a loop's body copied with the arithmetic that they need, for passes that reorder a loop's work.

Level: any with ``scf`` loops. Pure operations of the body are not copied in their order but on demand: a copied
operation brings along what its operands are computed from, for whichever trip the copy stands for::

    trip = Copier(loop, block, {loop.index: next_trip, %carried: %now})
    trip.copy(wait)                 // and the arithmetic on %next_trip that it uses
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from xdsl.dialects import arith, scf
from xdsl.dialects.builtin import IndexType, IntegerAttr
from xdsl.ir import Block, Operation, SSAValue

from crosstile.dialects import mma
from crosstile.dialects.tile.launch import ALIGNMENT

OperationT = TypeVar("OperationT", bound=Operation)
LEAST_COPY = 4
"""Bytes of the smallest asynchronous copy (PTX ISA, "cp.async")."""
PURE_DIALECTS = ("arith", "affine")


def is_pure(op: Operation) -> bool:
    """Whether ``op`` may be copied, moved or left out: index and scalar arithmetic, sizes, views."""
    return not op.regions and (
        op.dialect_name() in PURE_DIALECTS or op.name == "memref.dim" or isinstance(op, mma.ViewOp)
    )


def outside(value: SSAValue, op: Operation) -> bool:
    """Whether ``value`` is defined outside of the regions of ``op``."""
    owner = value.owner
    block = owner if isinstance(owner, Block) else owner.parent
    while block is not None:
        around = block.parent_op()
        if around is op:
            return False
        block = None if around is None else around.parent
    return True


def copies_are_asynchronous(op: Operation) -> bool:
    """Whether the kernel around ``op`` is aligned for copies past the registers; else elements go one by one."""
    kernel = op.parent_op()
    while kernel is not None and not isinstance(kernel, mma.KernelOp):
        kernel = kernel.parent_op()
    aligned = None if kernel is None else kernel.attributes.get(ALIGNMENT)
    return not isinstance(aligned, IntegerAttr) or aligned.value.data >= LEAST_COPY


class Copier:
    """Copies operations from the body of ``loop`` to the end of ``block``.

    ``values`` says what stands for values of the body in this copy; what is copied is added to it.
    """

    def __init__(self, loop: scf.ForOp, block: Block, values: Mapping[SSAValue, SSAValue]):
        self.loop = loop
        self.block = block
        self.values = dict(values)

    def value(self, old: SSAValue) -> SSAValue:
        """What stands for ``old`` here; computed if it is pure arithmetic of the body."""
        if old in self.values or outside(old, self.loop):
            return self.values.get(old, old)
        assert isinstance(old.owner, Operation) and is_pure(old.owner), "only pure operations are copied on demand"
        self.copy(old.owner)
        return self.values[old]

    def list(self, olds: Sequence[SSAValue]) -> list[SSAValue]:
        """What stands for each of ``olds``."""
        return [self.value(old) for old in olds]

    def copy(self, op: Operation) -> Operation:
        """``op`` and what it needs, all its regions included."""
        for inner in op.walk():
            for operand in inner.operands:
                if outside(operand, op):
                    self.values[operand] = self.value(operand)
        copied = op.clone(self.values)
        self.block.add_op(copied)
        return copied

    def add(self, op: OperationT) -> OperationT:
        """A new operation at the end of the block, where the loop is in the program."""
        op.location = self.loop.location
        self.block.add_op(op)
        return op

    def constant(self, number: int) -> SSAValue:
        """A constant index."""
        return self.add(arith.ConstantOp.from_int_and_width(number, IndexType())).result

    def at(self, block: Block, values: Mapping[SSAValue, SSAValue]) -> Copier:
        """Another copier for the same loop; it knows nothing that was copied here."""
        return Copier(self.loop, block, values)


def erase_dead(block: Block) -> None:
    """Erase pure operations of ``block`` and of the blocks in it that nobody uses."""
    for op in reversed(list(block.ops)):
        for region in op.regions:
            for inner in region.blocks:
                erase_dead(inner)
        if is_pure(op) and not any(result.uses for result in op.results):
            op.detach()
            op.erase()
