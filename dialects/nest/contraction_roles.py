"""Which axes of a contraction play which part on a matrix unit, and whether the unit's blocked form can hold it.

The lanes of the result are its last dimension, so the roles follow from the result and not from the order of the
inputs: ``n`` is the result's last axis, the input that has it is the right-hand side, and ``m`` is the last axis of the
result that only the other input has. ``[m, k] x [k, n] -> (n, m)`` is thus a product of the second input by the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from xdsl.dialects.arith import ExtUIOp
from xdsl.dialects.builtin import IntegerType, StringAttr
from xdsl.ir import Attribute, SSAValue

from crosstile.dialects.nest.analysis import element_type, is_contraction
from crosstile.dialects.nest.axes import Axis, AxisOrUnit, AxisSum, KernelAxes, axes_among
from crosstile.dialects.nest.generic import GenericOp
from crosstile.dialects.precision import TF32

FLOAT8 = {"f8E4M3FN", "f8E5M2"}
"""Products that lose more than a sum of f32 does, and are for programs that allow it."""
BYTE = 8
"""Bits of the integers whose sign is part of an intrinsic's types."""


@dataclass(frozen=True)
class ContractionRoles:
    """A contraction as ``result[.., m, n] += lhs[.., m, k] * rhs[.., k, n]``; ``lhs`` and ``rhs`` are input positions.

    ``m`` is None for a vector times a matrix. Every other axis of the result is looped over one step at a time,
    unless rows of a block count through it (``row_axes``), and so is every reduced axis but ``k``. ``element`` is the
    type of products, sums and result; ``factors`` are the types of the left and the right factor as intrinsic rows
    name them: bytes with a sign, ``si8`` or ``ui8``, since that is in how the body widens them.
    """

    nest: GenericOp
    lhs: int
    rhs: int
    m: Axis | None
    n: Axis
    k: Axis
    element: Attribute
    factors: tuple[str, str]

    @property
    def instruction_types(self) -> list[tuple[str, str, str]]:
        """The types of factors and sums that an instruction may have, the best first."""
        stated = (*self.factors, str(self.element))
        match self.nest.precision:
            case StringAttr(data="tf32"):
                return [(TF32, TF32, str(self.element)), stated]
            case None if set(self.factors) & FLOAT8:
                return []
            case _:
                return [stated]


def contraction_roles(axes: KernelAxes) -> ContractionRoles | None:
    """The roles of the root nest's axes if it can run on a matrix unit, else None.

    It can if its products, sums and result are of one element type, which the body widens the factors to, and the
    result's last axis belongs to one of its inputs alone. Those come from memory or are computed by nests before it.
    """
    nest = axes.root
    if not is_contraction(nest):
        return None
    (product,) = nest.yield_op.arguments
    element = product.type
    if nest.accumulator_type != element or element_type(nest.results[0]) != element:
        return None
    along = [axes.of_operand(nest, position) for position in (0, 1)]
    result = axes.of_result(nest.results[0])
    n = result[-1] if result else None
    reduced = axes.reduced(nest)
    among = [axes_among(entries) for entries in along]
    if not isinstance(n, Axis) or not reduced or (n in among[0]) == (n in among[1]):
        return None
    rhs = 1 if n in among[1] else 0
    factors = _factor_type(nest, 1 - rhs), _factor_type(nest, rhs)
    roles = ContractionRoles(nest, 1 - rhs, rhs, None, n, _innermost(reduced, along), element, factors)
    return replace(roles, m=next(reversed(row_axes(axes, roles)), None))


def _factor_type(nest: GenericOp, position: int) -> str:
    """The type of an input as intrinsic rows name it."""
    argument = nest.body.block.args[position]
    if argument.type != IntegerType(BYTE):
        return str(argument.type)
    unsigned = any(isinstance(use.operation, ExtUIOp) for use in argument.uses)
    return f"{'ui' if unsigned else 'si'}{BYTE}"


def _innermost(reduced: Sequence[Axis], along: Sequence[Sequence[AxisOrUnit]]) -> Axis:
    """The reduced axis to run the chain over: the one that is last in an input's memory, else the last of all.

    Where an input is read through a window it is the last of all, so that the chain has the order of the nest.
    """
    if any(isinstance(entry, AxisSum) for axes in along for entry in axes):
        return reduced[-1]
    last = {axes[-1] for axes in along if axes}
    return next((axis for axis in reduced if axis in last), reduced[-1])


def row_axes(axes: KernelAxes, roles: ContractionRoles) -> list[Axis]:
    """The axes of the result that only the left factor has, as ``m``: rows of a block may count through all of them."""
    lhs, rhs = (axes_among(axes.of_operand(roles.nest, position)) for position in (roles.lhs, roles.rhs))
    return [axis for axis in axes_among(axes.of_result(roles.nest.results[0])) if axis in lhs and axis not in rhs]


def carrier(axes: KernelAxes, outputs: Sequence[SSAValue], roles: ContractionRoles) -> int | None:
    """The output that can hold the accumulators between blocks of the reduction: same axes, same element type."""
    wanted = axes.of_result(roles.nest.results[0])
    for position, output in enumerate(outputs):
        if isinstance(output.owner, GenericOp) and element_type(output) == roles.element:
            along = axes.of_result(output)
            if len(along) == len(wanted) and set(along) == set(wanted):
                return position
    return None
