"""How fast an affine expression grows along one of its dimensions."""

from __future__ import annotations

from xdsl.ir.affine import AffineBinaryOpExpr, AffineBinaryOpKind, AffineConstantExpr, AffineDimExpr, AffineExpr


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
