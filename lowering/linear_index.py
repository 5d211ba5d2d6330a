"""Indices as sums ``constant + factor * value + ...``, for addresses built from parts that change at different rates.

An address in a kernel is a sum over loop indices times strides plus the place in the tile. Kept as a sum until it is
needed, its parts can be added from the outermost loop's to the innermost's, each where it is defined, and the constant
last of all, where the code generator folds it into the addressing mode. Divisions and remainders by a panel's width
cancel against parts that are known to be multiples of it::

    (%j + 16) floordiv 64   with %j a multiple of 64   ->   %j / 64
    (%j + 16) mod 64                                   ->   16
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import NamedTuple

from xdsl.dialects import affine, arith
from xdsl.dialects.builtin import IndexType
from xdsl.ir import SSAValue
from xdsl.ir.affine import (
    AffineBinaryOpExpr,
    AffineBinaryOpKind,
    AffineConstantExpr,
    AffineDimExpr,
    AffineExpr,
    AffineSymExpr,
)

from crosstile.ir.index_math import Index
from crosstile.lowering.divisibility import constant_value, known_end, known_multiple
from crosstile.lowering.hoisting import Hoister


class Term(NamedTuple):
    """``factor * value``; ``multiple`` divides ``value`` (0: it is 0)."""

    value: SSAValue
    factor: int
    multiple: int


@dataclass(frozen=True)
class Linear:
    """``constant + sum of terms``."""

    constant: int = 0
    terms: tuple[Term, ...] = ()

    def __add__(self, other: Linear | int) -> Linear:
        if isinstance(other, int):
            return Linear(self.constant + other, self.terms)
        return Linear(self.constant + other.constant, self.terms + other.terms)

    def scale(self, factor: int) -> Linear:
        """``factor * self``."""
        if factor == 0:
            return Linear()
        return Linear(self.constant * factor, tuple(Term(v, f * factor, m) for v, f, m in self.terms))

    @property
    def multiple(self) -> int:
        """A number that divides the value; 0 if the value is 0."""
        return gcd(self.constant, *(term.factor * term.multiple for term in self.terms))


class LinearBuilder:
    """Builds linear indices from old values and affine maps, and indices from linear ones."""

    def __init__(self, index: Hoister):
        self.index = index
        self.below: dict[SSAValue, int] = {}
        """Values known to be at least 0 and below a number: the digits of a thread's number."""
        self.ends: dict[SSAValue, int] = {}
        """The same for indices of loops whose bounds are known; divisions and bits of a swizzle go by digits."""

    def largest(self, terms: Sequence[Term]) -> int | None:
        """The largest value of a sum of terms that is never negative, None where that is not known."""
        total = 0
        for value, factor, _ in terms:
            if value not in self.below or factor < 0:
                return None
            total += factor * (self.below[value] - 1)
        return total

    def lies_in(self, linear: Linear, low: int | None, high: Index | None) -> tuple[bool, bool]:
        """Whether a sum is known to be at least ``low``, and whether below ``high``; None is no bound."""
        least = most = linear.constant
        for value, factor, _ in linear.terms:
            end = self.ends.get(value, self.below.get(value))
            if end is None:
                return low is None, high is None
            least, most = least + min(factor * (end - 1), 0), most + max(factor * (end - 1), 0)
        return low is None or least >= low, high is None or (isinstance(high, int) and most < high)

    def of(self, old: SSAValue) -> Linear:
        """The new value of ``old``, an index on the level being lowered, taken apart as far as it is a sum."""
        if (constant := constant_value(old)) is not None:
            return Linear(constant)
        op = old.owner
        if isinstance(op, arith.AddiOp):
            return self.of(op.lhs) + self.of(op.rhs)
        if isinstance(op, arith.SubiOp):
            return self.of(op.lhs) + self.of(op.rhs).scale(-1)
        if isinstance(op, arith.MuliOp) and (factor := constant_value(op.rhs)) is not None:
            return self.of(op.lhs).scale(factor)
        if isinstance(op, affine.ApplyOp):
            return self.apply(op)
        value = self.index.lowering.value(old)
        if (end := known_end(old)) is not None:
            self.ends[value] = end
        return Linear(0, (Term(value, 1, known_multiple(old)),))

    def apply(self, op: affine.ApplyOp) -> Linear:
        """The result of an ``affine.apply``."""
        operands = [self.of(operand) for operand in op.mapOperands]
        dims = op.map.data.num_dims
        return self.evaluate(op.map.data.results[0], operands[:dims], operands[dims:])

    def of_new(self, value: Index, multiple: int = 1) -> Linear:
        """A value of the new level."""
        return Linear(value) if isinstance(value, int) else Linear(0, (Term(value, 1, multiple),))

    def value(self, linear: Linear) -> Index:
        """The sum, its parts added from the outermost loop's to the innermost's."""
        return self.index.add(self.sum_of_terms(linear), linear.constant)

    def sum_of_terms(self, linear: Linear) -> Index:
        """The sum without the constant."""
        terms = sorted(linear.terms, key=lambda term: self.index.depth(term.value))
        return self.index.sum([self.index.mul(term.value, term.factor) for term in terms])

    def evaluate(self, expression: AffineExpr, dims: Sequence[Linear], symbols: Sequence[Linear]) -> Linear:
        """``expression`` for dimensions and symbols of the given values."""
        match expression:
            case AffineConstantExpr():
                return Linear(expression.value)
            case AffineDimExpr():
                return dims[expression.position]
            case AffineSymExpr():
                return symbols[expression.position]
            case AffineBinaryOpExpr():
                lhs = self.evaluate(expression.lhs, dims, symbols)
                rhs = self.evaluate(expression.rhs, dims, symbols)
                return self._binary(expression.kind, lhs, rhs)
            case _:
                raise AssertionError(f"unknown affine expression {expression}")

    def _binary(self, kind: AffineBinaryOpKind, lhs: Linear, rhs: Linear) -> Linear:
        match kind:
            case AffineBinaryOpKind.Add:
                return lhs + rhs
            case AffineBinaryOpKind.Mul if not rhs.terms:
                return lhs.scale(rhs.constant)
            case AffineBinaryOpKind.Mul if not lhs.terms:
                return rhs.scale(lhs.constant)
            case AffineBinaryOpKind.Mul:
                return self.of_new(self.index.mul(self.value(lhs), self.value(rhs)))
            case AffineBinaryOpKind.FloorDiv if not rhs.terms:
                return self.floor_div(lhs, rhs.constant)
            case AffineBinaryOpKind.CeilDiv if not rhs.terms:
                return self.floor_div(lhs + (rhs.constant - 1), rhs.constant)
            case AffineBinaryOpKind.Mod if not rhs.terms:
                return self.modulo(lhs, rhs.constant)
            case _:
                raise self.index.lowering.error("an index map divides by an index; the divisor must be a constant")

    def floor_div(self, linear: Linear, divisor: int) -> Linear:
        """``linear floordiv divisor``, rounding down, parts that are multiples of the divisor divided exactly."""
        exact, rest = _split(linear, divisor)
        result = Linear()
        for value, factor, multiple in exact:
            if factor % divisor == 0:
                result += Linear(0, (Term(value, factor // divisor, multiple),))
            else:
                quotient = self._floor_div_value(self.index.value(self.index.mul(value, factor)), divisor)
                result += Linear(0, (Term(quotient, 1, factor * multiple // divisor),))
        largest = self.largest(rest)
        if largest is not None and linear.constant % divisor + largest < divisor:
            return result + linear.constant // divisor
        # What the constant is more than a multiple of a number that divides the rest and the divisor never carries.
        step = gcd(divisor, *(factor * multiple for _, factor, multiple in rest))
        constant = linear.constant - linear.constant % step
        remaining = self.index.value(self.value(Linear(constant, tuple(rest))))
        return result + Linear(0, (Term(self._floor_div_value(remaining, divisor), 1, 1),))

    def modulo(self, linear: Linear, divisor: int) -> Linear:
        """``linear mod divisor``, not negative; parts that are multiples of the divisor do not count."""
        _, rest = _split(linear, divisor)
        if not rest:
            return Linear(linear.constant % divisor)
        remaining = Linear(linear.constant, tuple(rest))
        return remaining + self.floor_div(remaining, divisor).scale(-divisor)

    def _floor_div_value(self, value: SSAValue, divisor: int) -> SSAValue:
        if divisor & (divisor - 1) == 0:
            shift = self.index.value(divisor.bit_length() - 1)
            return self.index.build(arith.ShRSIOp(value, shift, IndexType())).result
        return self.index.build(arith.FloorDivSIOp(value, self.index.value(divisor))).result


def _split(linear: Linear, divisor: int) -> tuple[list[Term], list[Term]]:
    """The terms that are multiples of ``divisor``, and the others."""
    exact = [term for term in linear.terms if (term.factor * term.multiple) % divisor == 0]
    return exact, [term for term in linear.terms if (term.factor * term.multiple) % divisor]
