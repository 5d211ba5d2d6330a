"""Composite operators written once in primitives, for whatever the primitives mean.

``decompose`` runs these formulas on a builder of operations, ``error_bound`` on values with their bounds. (``meaning``
does not: it is the other definition, which they are tested against.)

softmax(x) along a dimension::

    %m = nn.reduce max %x     %d = nn.sub %x, %m     %e = nn.exp %d     %s = nn.reduce add %e     nn.div %e, %s
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Protocol, TypeVar

ValueT = TypeVar("ValueT")

ORIGIN = "nn.origin"
"""The attribute of a primitive that names the composite it is part of; kernels are named after it."""


class Primitives(Protocol[ValueT]):
    """The primitives that the formulas are made of, on values of one floating-point type that broadcast."""

    def constant(self, value: float) -> ValueT:
        """``value`` in the type of the computation, rounded."""
        ...

    def size(self, x: ValueT, dim: int) -> ValueT:
        """The number of elements of ``x`` along ``dim``, rounded."""
        ...

    def unary(self, name: str, x: ValueT) -> ValueT:
        """``nn.<name>`` of one operand."""
        ...

    def binary(self, name: str, lhs: ValueT, rhs: ValueT) -> ValueT:
        """``nn.<name>`` of two operands."""
        ...

    def reduce(self, kind: str, x: ValueT, dim: int) -> ValueT:
        """``nn.reduce <kind>`` along ``dim``, which is kept with size 1."""
        ...

    def shift(self, x: ValueT) -> ValueT:
        """``x``, subtracted where the result does not depend on it, so that an error of it does not count."""
        ...


def relu(on: Primitives[ValueT], x: ValueT) -> ValueT:
    """``max(x, 0)``."""
    return on.binary("max", x, on.constant(0.0))


def sigmoid(on: Primitives[ValueT], x: ValueT) -> ValueT:
    """``1 / (1 + exp(-x))``: where the exponential overflows the quotient is the zero it should be."""
    return on.binary("div", on.constant(1.0), on.binary("add", on.unary("exp", on.unary("neg", x)), on.constant(1.0)))


def silu(on: Primitives[ValueT], x: ValueT) -> ValueT:
    """``x / (1 + exp(-x))``: where the exponential overflows the quotient is the zero it should be."""
    return on.binary("div", x, on.binary("add", on.unary("exp", on.unary("neg", x)), on.constant(1.0)))


def gelu(on: Primitives[ValueT], x: ValueT, approximate: str) -> ValueT:
    """``x/2 * (1 + erf(x / sqrt(2)))``, or for ``approximate`` tanh ``x/2 * (1 + tanh(sqrt(2/pi) (x + c x^3)))``."""
    if approximate == "tanh":
        cube = on.binary("mul", on.binary("mul", x, x), on.binary("mul", x, on.constant(0.044715)))
        inner = on.unary("tanh", on.binary("mul", on.binary("add", x, cube), on.constant(sqrt(2 / pi))))
    else:
        inner = on.unary("erf", on.binary("mul", x, on.constant(sqrt(0.5))))
    half = on.binary("mul", x, on.constant(0.5))
    return on.binary("mul", half, on.binary("add", inner, on.constant(1.0)))


def softmax(on: Primitives[ValueT], x: ValueT, dim: int) -> ValueT:
    """Exponentials of the distance to the maximum, which cannot overflow, divided by their sum."""
    exponential = on.unary("exp", on.binary("sub", x, on.shift(on.reduce("max", x, dim))))
    return on.binary("div", exponential, on.reduce("add", exponential, dim))


def layer_norm(on: Primitives[ValueT], x: ValueT, gamma: ValueT, beta: ValueT, dim: int, epsilon: float) -> ValueT:
    """Two passes: the squares are of the centred values, so a large mean costs no accuracy."""
    count = on.size(x, dim)
    centred = on.binary("sub", x, on.binary("div", on.reduce("add", x, dim), count))
    variance = on.binary("div", on.reduce("add", on.binary("mul", centred, centred), dim), count)
    scale = on.unary("rsqrt", on.binary("add", variance, on.constant(epsilon)))
    return on.binary("add", on.binary("mul", on.binary("mul", centred, scale), gamma), beta)


def rms_norm(on: Primitives[ValueT], x: ValueT, gamma: ValueT, dim: int, epsilon: float) -> ValueT:
    """One over the root of the mean square, times ``gamma``."""
    square = on.binary("div", on.reduce("add", on.binary("mul", x, x), dim), on.size(x, dim))
    scale = on.unary("rsqrt", on.binary("add", square, on.constant(epsilon)))
    return on.binary("mul", on.binary("mul", x, scale), gamma)
