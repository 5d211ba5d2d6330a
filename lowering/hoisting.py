"""Building pure operations outside the loops they do not depend on, and only once.

A lowering that fills blocks from the outside in knows the blocks that are still open: the function's, the loop's in it,
and so on. A pure operation may stand at the end of the innermost of them that defines one of its operands, since the
operations that enclose the blocks further in are inserted after it. So address arithmetic leaves the loops it does not
depend on while it is built, and an equal operation is built only once as long as its block is open::

    %row = arith.muli %i, %stride : index     // built while the body of the k loop was being filled
    scf.for %k = ... {
      %at = arith.addi %row, %k : index
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager
from typing import TypeVar

from xdsl.dialects import arith
from xdsl.dialects.builtin import IndexType, UnknownLoc
from xdsl.ir import Attribute, Block, Operation, SSAValue

from crosstile.ir.index_math import BinaryOp, Index, IndexBuilder
from crosstile.lowering.driver import Lowering

OperationT = TypeVar("OperationT", bound=Operation)
Key = tuple[type[Operation], tuple[SSAValue, ...], tuple[tuple[str, Attribute], ...], tuple[Attribute, ...]]


def _key(op: Operation) -> Key:
    return (type(op), tuple(op.operands), tuple(op.properties.items()), tuple(op.result_types))


def defining_block(value: SSAValue) -> Block | None:
    """The block in which ``value`` is defined."""
    owner = value.owner
    return owner if isinstance(owner, Block) else owner.parent


class Hoister(IndexBuilder):
    """Index arithmetic and other pure operations, each at the outermost place its operands allow.

    Nothing leaves the block given to ``function``. Only operations that may run although their place in the program
    would not have been reached are to be built here: no division by a number that may be zero, no access to memory.
    What is sound under a condition only is ``guarded``, and does not leave the branch.
    """

    def __init__(self, lowering: Lowering):
        super().__init__(self._unused_insert)
        self.lowering = lowering
        self._known: dict[Key, Operation] = {}
        self._values: dict[Hashable, SSAValue] = {}
        self._outermost: int | None = None
        self._branch = 0

    @contextmanager
    def branches(self) -> Generator[None]:
        """Build the branches of a condition: guarded operations stay in the blocks opened from here on."""
        saved, self._branch = self._branch, len(self.lowering.open_blocks)
        try:
            yield
        finally:
            self._branch = saved

    @contextmanager
    def staying(self) -> Generator[None]:
        """What is built stays in the current block: further out, it would occupy registers until it is used once."""
        saved, self._outermost = self._outermost, len(self.lowering.open_blocks) - 1
        try:
            yield
        finally:
            self._outermost = saved

    @contextmanager
    def function(self, entry: Block) -> Generator[None]:
        """Build inside the function whose first block ``entry`` is: operations stay in it."""
        saved = self._outermost, self._known, self._values
        self._outermost, self._known, self._values = len(self.lowering.open_blocks), {}, {}
        try:
            with self.lowering.at(entry):
                yield
        finally:
            self._outermost, self._known, self._values = saved

    def build(self, op: OperationT, guarded: bool = False) -> OperationT:
        """``op`` inserted, or an equal operation that already is; outside of a function always inserted, in place.

        ``guarded``: it does not leave the branch of a condition.
        """
        if self._outermost is None:
            return self.lowering.insert(op)
        if (known := self.known(op)) is not None:
            op.erase()
            return known
        blocks = self.lowering.open_blocks
        block = self._block_for(op, blocks[max(self._outermost, self._branch if guarded else 0) :])
        if isinstance(op.location, UnknownLoc) and self.lowering.current_op is not None:
            op.location = self.lowering.current_op.location
        block.add_op(op)
        self._known[_key(op)] = op
        return op

    def known(self, op: OperationT) -> OperationT | None:
        """An operation equal to ``op``, which is not inserted, that was built and whose block is open; None without."""
        known = self._known.get(_key(op))
        if known is None or known.parent_block() not in self.lowering.open_blocks:
            return None
        assert isinstance(known, type(op))
        return known

    def once(self, key: Hashable, build: Callable[[], SSAValue]) -> SSAValue:
        """The value for ``key`` while the block it is defined in is open; else a new one that ``build`` makes."""
        known = self._values.get(key)
        if known is not None and defining_block(known) in self.lowering.open_blocks:
            return known
        value = build()
        if self._outermost is not None:
            self._values[key] = value
        return value

    def bounds(self, lower: Index, upper: Index, step: Index) -> tuple[SSAValue, SSAValue, SSAValue]:
        """The bounds and the step of a loop as SSA values."""
        return self.value(lower), self.value(upper), self.value(step)

    def depth(self, value: SSAValue) -> int:
        """How many blocks enclose the definition of ``value`` and are still open; 0 outside the function."""
        block = defining_block(value)
        blocks = self.lowering.open_blocks
        return blocks.index(block) if block is not None and block in blocks else 0

    def is_innermost(self, value: SSAValue) -> bool:
        """Whether ``value`` is defined in the block that is being filled, so that it may change in every trip."""
        return defining_block(value) is self.lowering.block

    def _block_for(self, op: Operation, blocks: list[Block]) -> Block:
        """The innermost open block that defines an operand of ``op``."""
        defining = {
            operand.owner if isinstance(operand.owner, Block) else operand.owner.parent for operand in op.operands
        }
        return next((block for block in reversed(blocks) if block in defining), blocks[0])

    def _constant(self, value: int) -> SSAValue:
        def build() -> SSAValue:
            result = self.build(arith.ConstantOp.from_int_and_width(value, IndexType())).result
            if result.name_hint is None:
                result.name_hint = f"c{value}".replace("-", "m")
            return result

        return self.once(value, build)

    def _binary(self, kind: BinaryOp, lhs: Index, rhs: Index) -> SSAValue:
        operands = self.value(lhs), self.value(rhs)
        return self.once((kind, *operands), lambda: self.build(kind(*operands)).result)

    def _unused_insert(self, op: Operation) -> None:
        raise AssertionError("a Hoister places every operation itself")
