"""The reductions of the ``tile`` and ``mma`` levels on arrays: how two values combine, and what changes nothing.

``COMBINE["max"](x, y)`` is ``arith.maximumf`` of floats (NaN wins, -0 is below +0) and the larger of integers.
``maxnum`` takes what is greater than all before it, which one instruction of most machines does: NaN is greater than
nothing, and of zeros of both signs either may remain. In which order values combine is each level's own matter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from crosstile.dialects.arith_meaning import float_maximum, float_minimum
from crosstile.dialects.element_types import Array, is_float


def _greater(lhs: Array, rhs: Array) -> Array:
    return np.where(rhs > lhs, rhs, lhs)


COMBINE: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda lhs, rhs: lhs + rhs,
    "mul": lambda lhs, rhs: lhs * rhs,
    "max": float_maximum,
    "min": float_minimum,
    "maxnum": _greater,
}
"""By the kind of a reduction, the operation on two arrays of one element type."""


LARGEST = ("max", "maxnum")
"""The reductions to a largest element."""


def elements(kind: str, values: Array) -> Array:
    """The elements of ``values`` that a reduction of ``kind`` takes; others as what changes nothing."""
    if kind != "maxnum" or not is_float(values.dtype):
        return values
    return np.where(np.isnan(values), identity(kind, values.dtype), values)


def identity(kind: str, dtype: np.dtype[Any]) -> Any:
    """What a reduction of no elements gives."""
    if kind in ("add", "mul"):
        return dtype.type(kind == "mul")
    if is_float(dtype):
        return dtype.type(-np.inf if kind in LARGEST else np.inf)
    limits = np.iinfo(dtype)
    return dtype.type(limits.min if kind in LARGEST else limits.max)
