"""Index arithmetic that folds constants while it is built.

An index is a Python ``int`` as long as it is known and an SSA value of type ``index`` afterwards, so generated code
holds no ``0 + %i`` and no product of two constants, and needs no clean-up pass::

    index = IndexBuilder(block.add_op)
    size = index.mul(index.add(rows, 7), 4)      # int if rows is one
    operand = index.value(size)                  # an SSA value in any case
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

from xdsl.dialects import arith
from xdsl.dialects.builtin import IndexType, IntegerAttr
from xdsl.ir import Operation, SSAValue

Index = SSAValue | int
BinaryOp = type[arith.SignlessIntegerBinaryOperation]


def constant_index(value: SSAValue) -> int | None:
    """The value of an integer or index that is an ``arith.constant``, else None."""
    op = value.owner
    if isinstance(op, arith.ConstantOp) and isinstance(op.value, IntegerAttr):
        return op.value.value.data
    return None


class IndexBuilder:
    """Builds index arithmetic through ``insert``, a function that places one operation."""

    def __init__(self, insert: Callable[[Operation], object]):
        self._insert = insert

    def value(self, index: Index) -> SSAValue:
        """``index`` as an SSA value; a known one becomes an ``arith.constant``."""
        if isinstance(index, SSAValue):
            return index
        return self._constant(index)

    def values(self, indices: Sequence[Index]) -> list[SSAValue]:
        """Each of ``indices`` as an SSA value."""
        return [self.value(index) for index in indices]

    def add(self, lhs: Index, rhs: Index) -> Index:
        """``lhs + rhs``."""
        if isinstance(lhs, int) and isinstance(rhs, int):
            return lhs + rhs
        if lhs == 0 or rhs == 0:
            return rhs if lhs == 0 else lhs
        return self._binary(arith.AddiOp, lhs, rhs)

    def sub(self, lhs: Index, rhs: Index) -> Index:
        """``lhs - rhs``."""
        if isinstance(lhs, int) and isinstance(rhs, int):
            return lhs - rhs
        if rhs == 0:
            return lhs
        return 0 if lhs is rhs else self._binary(arith.SubiOp, lhs, rhs)

    def mul(self, lhs: Index, rhs: Index) -> Index:
        """``lhs * rhs``."""
        if isinstance(lhs, int) and isinstance(rhs, int):
            return lhs * rhs
        if lhs == 0 or rhs == 0:
            return 0
        if lhs == 1 or rhs == 1:
            return rhs if lhs == 1 else lhs
        return self._binary(arith.MuliOp, lhs, rhs)

    def floor_div(self, lhs: Index, rhs: Index) -> Index:
        """``lhs // rhs`` for ``lhs >= 0`` and ``rhs > 0``."""
        if isinstance(lhs, int) and isinstance(rhs, int):
            return lhs // rhs
        return lhs if rhs == 1 else self._binary(arith.DivUIOp, lhs, rhs)

    def remainder(self, lhs: Index, rhs: Index) -> Index:
        """``lhs % rhs`` for ``lhs >= 0`` and ``rhs > 0``."""
        if isinstance(lhs, int) and isinstance(rhs, int):
            return lhs % rhs
        return 0 if rhs == 1 else self._binary(arith.RemUIOp, lhs, rhs)

    def round_up(self, lhs: Index, multiple: int) -> Index:
        """The least multiple of ``multiple`` that is not below ``lhs``, for ``lhs >= 0``."""
        return self.mul(self.floor_div(self.add(lhs, multiple - 1), multiple), multiple)

    def round_down(self, lhs: Index, multiple: int) -> Index:
        """The greatest multiple of ``multiple`` that is not above ``lhs``, for ``lhs >= 0``."""
        return lhs if multiple == 1 else self.mul(self.floor_div(lhs, multiple), multiple)

    def minimum(self, lhs: Index, rhs: Index) -> Index:
        """The lesser of two."""
        if isinstance(lhs, int) and isinstance(rhs, int):
            return min(lhs, rhs)
        return lhs if lhs is rhs else self._binary(arith.MinSIOp, lhs, rhs)

    def maximum(self, lhs: Index, rhs: Index) -> Index:
        """The greater of two."""
        if isinstance(lhs, int) and isinstance(rhs, int):
            return max(lhs, rhs)
        return lhs if lhs is rhs else self._binary(arith.MaxSIOp, lhs, rhs)

    def sum(self, indices: Sequence[Index]) -> Index:
        """The sum of all ``indices``; 0 for none."""
        return reduce(self.add, indices, 0)

    def product(self, indices: Sequence[Index]) -> Index:
        """The product of all ``indices``; 1 for none."""
        return reduce(self.mul, indices, 1)

    def _constant(self, value: int) -> SSAValue:
        """A new constant."""
        op = arith.ConstantOp.from_int_and_width(value, IndexType())
        self._insert(op)
        return op.result

    def _binary(self, kind: BinaryOp, lhs: Index, rhs: Index) -> SSAValue:
        """A new operation of ``kind`` on two indices."""
        op = kind(self.value(lhs), self.value(rhs))
        self._insert(op)
        return op.result
