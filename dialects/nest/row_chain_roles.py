"""Which axes of a kernel with two products play which part, if the second one multiplies what is made of rows of the
first: whatever is folded along a row is in the order that the nests say.

    scores    [outer.., m, n | d]    query (outer.., m, d), key (outer.., n, d)
    folds     [outer.., m | n]       maxima, sums, ... of what is computed from the scores, element by element
    product   [outer.., m, e | n]    weights, computed from scores and folds, and value (outer.., n, e)

A softmax between two products is such a chain, and so is a norm. The parts are those of attention
(``attention_roles``), where ``weighted`` is the second product.
"""

from __future__ import annotations

from xdsl.dialects.builtin import Float32Type
from xdsl.ir import BlockArgument, SSAValue

from crosstile.dialects.nest.analysis import element_type, is_contraction, is_elementwise
from crosstile.dialects.nest.attention_roles import AttentionRoles
from crosstile.dialects.nest.attributes import IteratorKind
from crosstile.dialects.nest.axes import Axis, KernelAxes, axes_among
from crosstile.dialects.nest.generic import GenericOp

COMBINERS = ("add", "max", "min")
"""What may be folded along a row."""


def row_chain_roles(axes: KernelAxes) -> AttentionRoles | None:
    """The roles of the axes of a kernel that is a chain of two products; None if it is none.

    Everything in it is f32. The factors of the first product and the values come from inputs of the kernel.
    """
    folding = [nest for nest in axes.nests if not is_elementwise(nest)]
    if len(folding) < 2 or not is_contraction(folding[0]) or not is_contraction(folding[-1]):
        return None
    scores, *folds, product = folding
    computed = [at for at in (0, 1) if isinstance(product.inputs[at].owner, GenericOp)]
    if len(computed) != 1 or any(len(nest.inputs) != 2 for nest in (scores, product)):
        return None
    value = 1 - computed[0]
    if not all(isinstance(operand, BlockArgument) for operand in scores.inputs) or not _is_float32(axes):
        return None
    if len(axes.reduced(scores)) != 1 or len(axes.reduced(product)) != 1:
        return None
    (d,), (n,) = axes.reduced(scores), axes.reduced(product)
    factors = [axes_among(axes.of_operand(scores, position)) for position in (0, 1)]
    weights, values = (axes_among(axes.of_operand(product, position)) for position in (computed[0], value))
    if (n in factors[0]) == (n in factors[1]):
        return None
    key = 1 if n in factors[1] else 0
    payload = [axis for axis in values if axis not in weights]
    rows = [axis for axis in weights if axis not in factors[key] and axis not in values]
    if len(payload) != 1 or not rows or any(axis not in factors[1 - key] for axis in rows):
        return None
    outer = tuple(axis for axis in weights if axis not in (rows[-1], n))
    roles = AttentionRoles(scores, product, 1 - key, key, value, rows[-1], n, d, payload[0], outer, tuple(rows))
    inside = _before(product.inputs[computed[0]], scores)
    whole = set(axes.of_nest(scores)) == {*outer, rows[-1], n, d}
    if not whole or inside is None or not all(fold in inside for fold in folds):
        return None
    return roles if all(_fits(axes, nest, roles) for nest in inside) else None


def _is_float32(axes: KernelAxes) -> bool:
    """Whether all numbers that are folded, multiplied or stored are f32."""
    values = (value for nest in axes.nests for value in (*nest.inputs, *nest.results))
    floats = {type_ for value in values if not str(type_ := element_type(value)).startswith(("i", "index"))}
    folded = {nest.accumulator_type for nest in axes.nests if nest.accumulator_type is not None}
    return floats | folded == {Float32Type()}


def _before(value: SSAValue, scores: GenericOp) -> list[GenericOp] | None:
    """The nests that compute ``value`` from the scores; None if it does not depend on them."""
    found, pending, reached = list[GenericOp](), [value], False
    while pending:
        nest = pending.pop().owner
        if nest is scores:
            reached = True
        elif isinstance(nest, GenericOp) and nest not in found:
            found.append(nest)
            pending += nest.inputs
    return found if reached else None


def _fits(axes: KernelAxes, nest: GenericOp, roles: AttentionRoles) -> bool:
    """Whether ``nest`` goes element by element over rows or their elements, or folds rows along n."""
    along = axes.of_nest(nest)
    legal: set[Axis] = {*roles.outer, *roles.rows, roles.n}
    if len(nest.results) != 1 or not set(along) <= legal or nest.positions(IteratorKind.SCAN, IteratorKind.PAYLOAD):
        return False
    if nest.combiner is None:
        return True
    return nest.combiner.data in COMBINERS and axes.reduced(nest) == [roles.n]
