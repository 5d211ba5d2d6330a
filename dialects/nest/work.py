"""How much a nest computes: operations per point, from which the number of workers that share a call is chosen.

Level: nest. It need not be exact: an elementary function stands for the instructions of its polynomial, constants,
conversions and selections for none::

    ^bb0(%p : f32, %q : f32):              combiner<add>: 1
      %t = arith.mulf %p, %q : f32         1                        => 2 per point, so 2 M N K for a product
"""

from __future__ import annotations

from xdsl.dialects import arith, math
from xdsl.ir import Operation

from crosstile.dialects.nest.generic import GenericOp

ELEMENTARY = 20
"""Operations for one exponential or error function, about what its formula has."""
_CHEAP = (math.AbsFOp, math.FmaOp, math.CopySignOp, math.FloorOp, math.CeilOp)
_FREE = (arith.ConstantOp, arith.SelectOp, arith.ExtFOp, arith.TruncFOp, arith.SIToFPOp, arith.UIToFPOp)


def operations_per_point(nest: GenericOp) -> int:
    """About how many operations one point of ``nest`` takes; at least 1, which moves it."""
    return max(1, sum(map(_weight, nest.body.block.ops)) + (nest.combiner is not None))


def _weight(op: Operation) -> int:
    if not op.results or isinstance(op, _FREE):
        return 0
    return ELEMENTARY if op.dialect_name() == math.Math.name and not isinstance(op, _CHEAP) else 1
