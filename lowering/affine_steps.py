"""How affine expressions grow along one of their dimensions."""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd, lcm

from xdsl.ir.affine import (
    AffineBinaryOpExpr,
    AffineBinaryOpKind,
    AffineConstantExpr,
    AffineDimExpr,
    AffineExpr,
    AffineMap,
)


def coefficient(expression: AffineExpr, dim: int) -> int | None:
    """By how much ``expression`` grows when dimension ``dim`` grows by one; None if that is not constant."""
    match expression:
        case AffineDimExpr():
            return int(expression.position == dim)
        case AffineBinaryOpExpr():
            lhs, rhs = coefficient(expression.lhs, dim), coefficient(expression.rhs, dim)
            if lhs == 0 and rhs == 0:
                return 0
            if lhs is None or rhs is None:
                return None
            if expression.kind is AffineBinaryOpKind.Add:
                return lhs + rhs
            if expression.kind is AffineBinaryOpKind.Mul and isinstance(expression.rhs, AffineConstantExpr):
                return lhs * expression.rhs.value
            return None
        case _:
            return 0


def summands(expression: AffineExpr) -> list[AffineExpr]:
    """The terms of a sum."""
    if isinstance(expression, AffineBinaryOpExpr) and expression.kind is AffineBinaryOpKind.Add:
        return summands(expression.lhs) + summands(expression.rhs)
    return [expression]


def period(expressions: Iterable[AffineExpr], dim: int) -> int | None:
    """After how many steps of dimension ``dim`` all ``expressions`` have grown by a constant, wherever they start from
    0 on; 1 if they are linear in it, None if there is no such number or none is known.

    ``d0 floordiv 9`` and ``(d0 floordiv 3) mod 3`` have a period of 9: a step of 9 is one more, and none.
    """
    result = 1
    for expression in expressions:
        if (found := _period(expression, dim)) is None:
            return None
        result = lcm(result, found[0])
    return result


def _period(expression: AffineExpr, dim: int) -> tuple[int, int] | None:
    """The period and the growth in it."""
    match expression:
        case AffineDimExpr():
            return 1, int(expression.position == dim)
        case AffineBinaryOpExpr():
            lhs, rhs = _period(expression.lhs, dim), _period(expression.rhs, dim)
            return None if lhs is None or rhs is None else _combined(expression, lhs, rhs)
        case _:
            return 1, 0


def _combined(expression: AffineBinaryOpExpr, lhs: tuple[int, int], rhs: tuple[int, int]) -> tuple[int, int] | None:
    if expression.kind is AffineBinaryOpKind.Add:
        both = lcm(lhs[0], rhs[0])
        return both, lhs[1] * (both // lhs[0]) + rhs[1] * (both // rhs[0])
    if lhs == (1, 0) and rhs == (1, 0):
        return 1, 0
    if not isinstance(expression.rhs, AffineConstantExpr) or (factor := expression.rhs.value) <= 0:
        return None
    length, growth = lhs
    if expression.kind is AffineBinaryOpKind.Mul:
        return length, growth * factor
    times = factor // gcd(growth, factor)
    if expression.kind is AffineBinaryOpKind.Mod:
        return length * times, 0
    return length * times, growth * times // factor


def runs_along(map_: AffineMap, dim: int) -> bool:
    """Whether neighbours along ``dim`` of a window are neighbours in a row-major source."""
    return [coefficient(result, dim) for result in map_.results] == [0] * (len(map_.results) - 1) + [1]
