"""Which axes of a kernel with a weighted sum play which part in attention.

    scores    [outer.., m, n | d]   query (outer.., m, d), key (outer.., n, d)
    weighted  [outer.., m | n]      softmax_weighted_sum of the scores and value (outer.., n, e), e as payload

Both products are matrix products for every step of the ``outer`` axes: a block of m by n scores out of a block of
queries and one of keys, and a block of m by e sums out of the scores' exponentials and the values. Several axes may be
of the queries alone, such as the heads that share keys and the queries of each: any of them can be m. There is none
where each head has one query and keys of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from xdsl.ir import BlockArgument

from crosstile.dialects.nest.analysis import is_contraction, is_elementwise
from crosstile.dialects.nest.attributes import IteratorKind
from crosstile.dialects.nest.axes import Axis, KernelAxes, axes_among
from crosstile.dialects.nest.generic import GenericOp

COMBINER = "softmax_weighted_sum"
"""The combiner of the nest that weighs values by a softmax."""


@dataclass(frozen=True)
class AttentionRoles:
    """The nests, the positions of their factors, and the axes, as the module docstring names them."""

    scores: GenericOp
    weighted: GenericOp
    query: int
    key: int
    value: int
    m: Axis | None
    n: Axis
    d: Axis
    e: Axis
    outer: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    """The axes that neither the keys nor the values have: those that m is one of."""

    def along(self, m: Axis) -> AttentionRoles:
        """The same with another of the ``rows`` as m."""
        everything = self.outer if self.m is None else (*self.outer, self.m)
        return replace(self, m=m, outer=tuple(axis for axis in everything if axis != m))

    @property
    def score(self) -> int:
        """The input of the weighted sum that is the scores."""
        return 1 - self.value


def attention_roles(axes: KernelAxes) -> AttentionRoles | None:
    """The roles of the axes of a kernel that computes attention; None if it does not.

    The first nest contracts two inputs of the kernel, all others but the weighted sum are elementwise, the values come
    from an input. Of the axes that the queries alone have the last one is m.
    """
    folds = [nest for nest in axes.nests if not is_elementwise(nest)]
    if len(folds) != 2 or not is_contraction(folds[0]):
        return None
    scores, weighted = folds
    if weighted.combiner is None or weighted.combiner.data != COMBINER or len(weighted.inputs) != 2:
        return None
    if list(weighted.yield_op.arguments) not in (
        list(weighted.body.block.args),
        list(reversed(weighted.body.block.args)),
    ):
        return None
    value = 1 if weighted.yield_op.arguments[1] is weighted.body.block.args[1] else 0
    from_memory = (*scores.inputs, weighted.inputs[value])
    if len(scores.inputs) != 2 or not all(isinstance(operand, BlockArgument) for operand in from_memory):
        return None
    summed, steps = axes.reduced(scores), axes.reduced(weighted)
    payload = [axes.of_nest(weighted)[position] for position in weighted.positions(IteratorKind.PAYLOAD)]
    if (len(summed), len(steps), len(payload)) != (1, 1, 1):
        return None
    (n,) = steps
    factors = [axes_among(axes.of_operand(scores, position)) for position in (0, 1)]
    values = axes_among(axes.of_operand(weighted, value))
    if (n in factors[0]) == (n in factors[1]):
        return None
    key = 1 if n in factors[1] else 0
    rows = [axis for axis in factors[1 - key] if axis not in factors[key] and axis not in values]
    parallel = axes.parallel()
    if any(axis not in parallel for axis in rows):
        return None
    m = rows[-1] if rows else None
    outer = tuple(axis for axis in parallel if axis != m)
    return AttentionRoles(scores, weighted, 1 - key, key, value, m, n, summed[0], payload[0], outer, tuple(rows))
