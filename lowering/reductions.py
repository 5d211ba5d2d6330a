"""How reductions combine two numbers, and what leaves every number as it is: shared by lowerings to cores and GPUs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce

from xdsl.dialects import arith
from xdsl.dialects.builtin import AnyFloat, IntegerType
from xdsl.ir import Attribute, Operation, SSAValue

from crosstile.dialects.arith import CmpfOp, SelectOp
from crosstile.dialects.mma.reduction import IN_PAIRS, in_pairs
from crosstile.dialects.reductions import LARGEST
from crosstile.lowering.driver import Lowering

Combine = Callable[[SSAValue, SSAValue], Sequence[Operation]]
"""Makes the operations that combine two numbers, the last of which has the result."""


def _greater(first: SSAValue, second: SSAValue) -> Sequence[Operation]:
    """``second`` where it is greater; one instruction on x86 (Intel SDM vol. 2, MAXPS), as no other maximum is."""
    return (greater := CmpfOp(second, first, "ogt"), SelectOp(greater.result, second, first))


COMBINE_FLOATS: dict[str, Combine] = {
    "add": lambda a, b: [arith.AddfOp(a, b)],
    "mul": lambda a, b: [arith.MulfOp(a, b)],
    "max": lambda a, b: [arith.MaximumfOp(a, b)],
    "min": lambda a, b: [arith.MinimumfOp(a, b)],
    "maxnum": _greater,
}
COMBINE_INTEGERS: dict[str, Combine] = {
    "add": lambda a, b: [arith.AddiOp(a, b)],
    "mul": lambda a, b: [arith.MuliOp(a, b)],
    "max": lambda a, b: [arith.MaxSIOp(a, b)],
    "min": lambda a, b: [arith.MinSIOp(a, b)],
    "maxnum": lambda a, b: [arith.MaxSIOp(a, b)],
}


def combined(lowering: Lowering, combine: Combine, first: SSAValue, second: SSAValue) -> SSAValue:
    """The result of combining two numbers, inserted."""
    return [lowering.insert(op).results[0] for op in combine(first, second)][-1]


def folded(
    lowering: Lowering, combine: Combine, kind: str, parts: Mapping[int, Sequence[SSAValue]], crosses_lanes: bool
) -> dict[int, SSAValue]:
    """What each of ``parts``, the registers of one lane by the result they are of, comes to, as ``mma.reduce`` says."""
    both = partial(combined, lowering, combine)
    fold = in_pairs if crosses_lanes and len(parts) == 1 and kind in IN_PAIRS else reduce
    return {result: fold(both, values) for result, values in parts.items()}


def identity(kind: str, element: Attribute, index_bits: int) -> float | int:
    """What leaves every number as it is under a reduction of ``kind``; an index has ``index_bits``."""
    if kind in ("add", "mul"):
        return int(kind == "mul")
    if isinstance(element, AnyFloat):
        return float("-inf") if kind in LARGEST else float("inf")
    width = element.bitwidth if isinstance(element, IntegerType) else index_bits
    return -(1 << width - 1) if kind in LARGEST else (1 << width - 1) - 1
