"""Two dimensions of memory that a map walks as one: ``e floordiv 57`` and ``e mod 57``.

If the second is 57 long, both are one dimension of the memory, and ``e`` a place in it (``unfolded``). If it is shorter
- rows of 56 that stand for 57 places each, so that one row's padding is the next one's - the lanes of a register lie in
a few rows, in each next to each other: one masked access per row (``Access.segments``)::

    lanes    0 .. 11                12 .. 15            of a register that begins at place 45 of a row
    memory   row y, 45 .. 55        row y + 1, 0 .. 2   place 56 of row y is not in memory
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.ir.affine import AffineBinaryOpExpr, AffineBinaryOpKind, AffineConstantExpr, AffineExpr

from crosstile.lowering.affine_steps import summands


@dataclass(frozen=True)
class Fold:
    """``above + place floordiv length`` and ``below + place mod length``: one place, taken apart."""

    place: AffineExpr
    length: int
    above: AffineExpr
    below: AffineExpr

    @property
    def unfolded(self) -> AffineExpr:
        """The coordinate in the one dimension that both are if the second is ``length`` long."""
        return self.place + self.above * self.length + self.below


def find_fold(above: AffineExpr, below: AffineExpr) -> Fold | None:
    """The place that two coordinates take apart, if they do."""
    for quotient in summands(above):
        for remainder in summands(below):
            if not isinstance(quotient, AffineBinaryOpExpr) or not isinstance(remainder, AffineBinaryOpExpr):
                continue
            kinds = quotient.kind, remainder.kind
            if kinds != (AffineBinaryOpKind.FloorDiv, AffineBinaryOpKind.Mod):
                continue
            if quotient.lhs != remainder.lhs or quotient.rhs != remainder.rhs:
                continue
            if isinstance(quotient.rhs, AffineConstantExpr):
                return Fold(quotient.lhs, quotient.rhs.value, _without(above, quotient), _without(below, remainder))
    return None


def _without(expression: AffineExpr, term: AffineExpr) -> AffineExpr:
    result: AffineExpr = AffineExpr.constant(0)
    for other in summands(expression):
        result = result if other is term else result + other
    return result
