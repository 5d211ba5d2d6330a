"""Composite operators written once in primitives, for whatever the primitives mean.

``decompose`` runs these formulas on a builder of operations, ``error_bound`` on values with their bounds. (``meaning``
does not: it is the other definition, which they are tested against.) Floats of fewer than 32 bits are widened to f32 at
the start and rounded once at the end, as their exponentials and sums in between would lose more than the result can
hold.

softmax(x) along a dimension::

    %m = nn.reduce max %x     %d = nn.sub %x, %m     %e = nn.exp %d     %s = nn.reduce add %e     nn.div %e, %s
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi, sqrt
from typing import Protocol, TypeVar

ValueT = TypeVar("ValueT")

ORIGIN = "nn.origin"
"""The attribute of a primitive that names the composite it is part of; kernels are named after it."""


class Primitives(Protocol[ValueT]):
    """The primitives that the formulas are made of, on values of one floating-point type that broadcast.

    Operands and results of a composite are of the operands' type, everything between them is of the computation's.
    """

    def constant(self, value: float) -> ValueT:
        """``value`` in the type of the computation, rounded."""
        ...

    def unary(self, name: str, x: ValueT) -> ValueT:
        """``nn.<name>`` of one operand."""
        ...

    def binary(self, name: str, lhs: ValueT, rhs: ValueT) -> ValueT:
        """``nn.<name>`` of two operands."""
        ...

    def multiply_add(self, x: ValueT, factor: ValueT, summand: ValueT) -> ValueT:
        """``x * factor + summand``, or where sums may be reassociated in one rounding (``fastmath<contract>``)."""
        ...

    def exponential(self, x: ValueT) -> ValueT:
        """``nn.exp``, or where sums may be reassociated an approximation of it (``fastmath<afn>``)."""
        ...

    def quotient(self, lhs: ValueT, rhs: ValueT) -> ValueT:
        """``lhs / rhs``, or where sums may be reassociated ``lhs`` times the rounded reciprocal of ``rhs``."""
        ...

    def reciprocal_root(self, x: ValueT) -> ValueT:
        """``nn.rsqrt``, or where sums may be reassociated an approximation of it (``fastmath<afn>``)."""
        ...

    def mean(self, x: ValueT, dim: int) -> ValueT:
        """The sum along ``dim`` over the number of elements, or where sums may be reassociated times its reciprocal."""
        ...

    def reduce(self, kind: str, x: ValueT, dim: int) -> ValueT:
        """``nn.reduce <kind>`` along ``dim``, which is kept with size 1."""
        ...

    def widen(self, x: ValueT) -> ValueT:
        """``nn.cast`` from the operands' type to the computation's."""
        ...

    def narrow(self, x: ValueT) -> ValueT:
        """``nn.cast`` from the computation's type to the operands'."""
        ...

    def shift(self, x: ValueT) -> ValueT:
        """``x``, subtracted where the result does not depend on it, so that an error of it does not count."""
        ...


class AttentionPrimitives(Primitives[ValueT], Protocol[ValueT]):
    """The primitives of attention, whose computation is of the accumulator type."""

    def contract(self, lhs: ValueT, rhs: ValueT, positions: Sequence[Sequence[int]], over_keys: bool) -> ValueT:
        """``nn.contract``, a chain, along the iterators ``positions`` (lhs, rhs, result).

        The sum ``over_keys`` is rounded to the operands' type, the other stays in the accumulator type.
        """
        ...

    def reshape(self, x: ValueT, shape: Sequence[Size]) -> ValueT:
        """``nn.reshape`` to sizes that are numbers or dimensions of ``x``."""
        ...

    def shape(self, x: ValueT) -> Sequence[int]:
        """The sizes of ``x`` as far as they are known, ``DYNAMIC_INDEX`` for others."""
        ...

    def causal_mask(self, x: ValueT) -> ValueT:
        """``nn.causal_mask``."""
        ...


@dataclass(frozen=True)
class Dim:
    """The size of dimension ``position`` of an operand."""

    position: int


Size = int | Dim


def relu(on: Primitives[ValueT], x: ValueT) -> ValueT:
    """``max(x, 0)``."""
    return on.binary("max", x, on.constant(0.0))


def sigmoid(on: Primitives[ValueT], x: ValueT) -> ValueT:
    """``1 / (1 + exp(-x))``: where the exponential overflows the quotient is the zero it should be."""
    denominator = on.binary("add", on.unary("exp", on.unary("neg", on.widen(x))), on.constant(1.0))
    return on.narrow(on.binary("div", on.constant(1.0), denominator))


def silu(on: Primitives[ValueT], x: ValueT) -> ValueT:
    """``x / (1 + exp(-x))``: where the exponential overflows the quotient is the zero it should be."""
    x = on.widen(x)
    return on.narrow(on.binary("div", x, on.binary("add", on.unary("exp", on.unary("neg", x)), on.constant(1.0))))


def gelu(on: Primitives[ValueT], x: ValueT, approximate: str) -> ValueT:
    """``x/2 * (1 + erf(x / sqrt(2)))``, or for ``approximate`` tanh ``x/2 * (1 + tanh(sqrt(2/pi) (x + c x^3)))``."""
    x = on.widen(x)
    if approximate == "tanh":
        cube = on.binary("mul", on.binary("mul", x, x), on.binary("mul", x, on.constant(0.044715)))
        inner = on.unary("tanh", on.binary("mul", on.binary("add", x, cube), on.constant(sqrt(2 / pi))))
    else:
        inner = on.unary("erf", on.binary("mul", x, on.constant(sqrt(0.5))))
    half = on.binary("mul", x, on.constant(0.5))
    return on.narrow(on.binary("mul", half, on.binary("add", inner, on.constant(1.0))))


def softmax(on: Primitives[ValueT], x: ValueT, dim: int) -> ValueT:
    """Exponentials of the distance to the maximum, which cannot overflow, divided by their sum."""
    x = on.widen(x)
    exponential = on.exponential(on.binary("sub", x, on.shift(on.reduce("max", x, dim))))
    return on.narrow(on.quotient(exponential, on.reduce("add", exponential, dim)))


def layer_norm(on: Primitives[ValueT], x: ValueT, gamma: ValueT, beta: ValueT, dim: int, epsilon: float) -> ValueT:
    """Two passes: the squares are of the centred values, so a large mean costs no accuracy."""
    x, gamma, beta = on.widen(x), on.widen(gamma), on.widen(beta)
    centred = on.binary("sub", x, on.mean(x, dim))
    variance = on.mean(on.binary("mul", centred, centred), dim)
    scale = _scale(on, variance, epsilon)
    return on.narrow(on.multiply_add(on.binary("mul", centred, scale), gamma, beta))


def _scale(on: Primitives[ValueT], square: ValueT, epsilon: float) -> ValueT:
    """One over the root of a mean square; approximated only where no sum with ``epsilon`` is subnormal."""
    total = on.binary("add", square, on.constant(epsilon))
    return on.reciprocal_root(total) if epsilon >= _LEAST_NORMAL else on.unary("rsqrt", total)


def rms_norm(on: Primitives[ValueT], x: ValueT, gamma: ValueT, dim: int, epsilon: float) -> ValueT:
    """One over the root of the mean square, times ``gamma``."""
    x, gamma = on.widen(x), on.widen(gamma)
    square = on.mean(on.binary("mul", x, x), dim)
    scale = _scale(on, square, epsilon)
    return on.narrow(on.binary("mul", on.binary("mul", x, scale), gamma))


_LEAST_NORMAL = 2.0**-126
"""The least f32 that is not subnormal."""
_LEAST_SUM = 2.0**-14
"""Below any sum of the weights of a query that sees a key, of which one is exp(0), and a number of every type."""


def attention(
    on: AttentionPrimitives[ValueT],
    operands: tuple[ValueT, ValueT, ValueT],
    bias: ValueT | None,
    factor: float,
    causal: bool,
    group: tuple[int, int] | None,
    least: float,
) -> ValueT:
    """Scores, their softmax, and the sum of values that it weighs.

    ``least`` is the least finite number of the accumulator type. With ``group`` (key heads, heads of each) there is one
    more dimension, of the heads that share a key head. A query that sees no key has the maximum -inf and the sum 0:
    ``least`` and a small positive number in their place make its weights 0 and change no other query.
    """
    query, key, value = operands
    rank = 4 if group is None else 5
    if group is not None:
        query = on.reshape(query, (Dim(0), *group, Dim(2), Dim(3)))
        bias = bias if bias is None else _grouped_bias(on, bias, group)
    # Iterators: batch, heads [, heads of the group], m, n, d; for the second product d stands for the value's.
    m, n, d = rank - 2, rank - 1, rank
    rows, keys = tuple(range(rank - 1)), (0, 1)
    scores = on.contract(query, key, ((*rows, d), (*keys, n, d), (*rows, n)), over_keys=False)
    scores = on.binary("mul", scores, on.constant(factor))
    if bias is not None:
        scores = on.binary("add", scores, on.widen(bias))
    if causal:
        scores = on.causal_mask(scores)
    maximum = on.binary("max", on.reduce("max", scores, n), on.constant(least))
    exponential = on.unary("exp", on.binary("sub", scores, on.shift(maximum)))
    total = on.binary("max", on.reduce("add", exponential, n), on.constant(_LEAST_SUM))
    weights = on.narrow(on.binary("div", exponential, total))
    # The last two iterators change roles: e, which the result keeps, comes before n, which is summed.
    e, summed = m + 1, m + 2
    result = on.contract(weights, value, ((*rows, summed), (*keys, summed, e), (*rows, e)), over_keys=True)
    return result if group is None else on.reshape(result, (Dim(0), group[0] * group[1], Dim(3), Dim(4)))


def _grouped_bias(on: AttentionPrimitives[ValueT], bias: ValueT, group: tuple[int, int]) -> ValueT:
    """``bias`` with its dimension of heads, if it has one, as key heads and heads of each."""
    shape = on.shape(bias)
    if len(shape) < 3:
        return bias
    heads = len(shape) - 3
    split = (1, 1) if shape[heads] == 1 else group
    return on.reshape(bias, (*map(Dim, range(heads)), *split, Dim(heads + 1), Dim(heads + 2)))
