"""How reductions combine two numbers, and what leaves every number as it is: shared by lowerings to cores and GPUs."""

from __future__ import annotations

from collections.abc import Callable

from xdsl.dialects import arith
from xdsl.dialects.builtin import AnyFloat, IntegerType
from xdsl.ir import Attribute, Operation, SSAValue

Combine = Callable[[SSAValue, SSAValue], Operation]

COMBINE_FLOATS: dict[str, Combine] = {
    "add": arith.AddfOp,
    "mul": arith.MulfOp,
    "max": arith.MaximumfOp,
    "min": arith.MinimumfOp,
}
COMBINE_INTEGERS: dict[str, Combine] = {
    "add": arith.AddiOp,
    "mul": arith.MuliOp,
    "max": arith.MaxSIOp,
    "min": arith.MinSIOp,
}


def identity(kind: str, element: Attribute, index_bits: int) -> float | int:
    """What leaves every number as it is under a reduction of ``kind``; an index has ``index_bits``."""
    if kind in ("add", "mul"):
        return int(kind == "mul")
    if isinstance(element, AnyFloat):
        return float("-inf") if kind == "max" else float("inf")
    width = element.bitwidth if isinstance(element, IntegerType) else index_bits
    return -(1 << width - 1) if kind == "max" else (1 << width - 1) - 1
