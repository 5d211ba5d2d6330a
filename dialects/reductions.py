"""The four reductions of the ``tile`` and ``mma`` levels on arrays: how two values combine, and what changes nothing.

``COMBINE["max"](x, y)`` is ``arith.maximumf`` of floats (NaN wins, -0 is below +0) and the larger of integers. In which
order values combine is each level's own matter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from crosstile.dialects.arith_meaning import float_maximum, float_minimum
from crosstile.dialects.element_types import is_float

COMBINE: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda lhs, rhs: lhs + rhs,
    "mul": lambda lhs, rhs: lhs * rhs,
    "max": float_maximum,
    "min": float_minimum,
}
"""By the kind of a reduction, the operation on two arrays of one element type."""


def identity(kind: str, dtype: np.dtype[Any]) -> Any:
    """What a reduction of no elements gives."""
    if kind in ("add", "mul"):
        return dtype.type(kind == "mul")
    if is_float(dtype):
        return dtype.type(-np.inf if kind == "max" else np.inf)
    limits = np.iinfo(dtype)
    return dtype.type(limits.min if kind == "max" else limits.max)
