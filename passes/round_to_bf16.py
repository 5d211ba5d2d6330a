"""``round-to-bf16``: numbers that are approximate anyway are rounded to bf16 by the processor's own instruction.

In and out: a module at hardware level, before functions are expanded. x86's conversions take subnormal numbers for
zero where ``arith.truncf`` rounds them (Intel SDM, volume 2, VCVTNEPS2BF16 and VCVTNE2PS2BF16), so they are for the
result of a function that is ``fastmath<afn>``, of which 2^-126 is no more than it may be off by::

    %p = math.exp2 %x fastmath<afn> : vector<16xf32>
    %w = arith.truncf %p : vector<16xf32> to vector<16xbf16>
    ==>
    %w = llvm.call_intrinsic "llvm.x86.avx512bf16.cvtneps2bf16.512"(%p)

Two registers of which a shuffle makes one are rounded together::

    %r = vector.shuffle %w0, %w1 [0, 16, 1, 17, ...] : vector<16xbf16>, vector<16xbf16>
    ==>
    %w = llvm.call_intrinsic "llvm.x86.avx512bf16.cvtne2ps2bf16.512"(%p1, %p0)
    %r = vector.shuffle %w, %w [0, 16, 1, 17, ...] : vector<32xbf16>, vector<32xbf16>

A machine without the instructions keeps ``arith.truncf``, which takes eight of integers.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import arith, math, vector
from xdsl.dialects.builtin import ModuleOp, VectorType, bf16, f32
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from crosstile.dialects.x86vector import rounded_to_bf16
from crosstile.ir.diagnostics import op_error
from crosstile.passes.expand_math import may_approximate
from crosstile.targets.host import resolve_machine
from crosstile.targets.model import UnknownNameError

FEATURE = "avx512bf16"
"""What a machine has that has these instructions."""


@dataclass(frozen=True)
class RoundToBf16Pass(ModulePass):
    """Rounding of approximate numbers to bf16 by the instructions of ``target``, if it has any."""

    name = "round-to-bf16"

    target: str

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite every such rounding in place."""
        try:
            machine = resolve_machine(self.target)
        except UnknownNameError as error:
            raise op_error(op, f"round-to-bf16: {error}") from error
        if FEATURE not in machine.features:
            return
        for old in list(op.walk()):
            if isinstance(old, vector.ShuffleOp):
                round_together(old)
        for old in list(op.walk()):
            if isinstance(old, arith.TruncFOp) and (source := approximate_source(old.result)) is not None:
                Rewriter.replace_op(old, rounded_to_bf16(source))


def approximate_source(rounded: SSAValue) -> SSAValue | None:
    """The approximate f32 of which ``rounded`` is a register of bf16; None if it is anything else."""
    op = rounded.owner
    if not isinstance(op, arith.TruncFOp) or rounded.type != VectorType(bf16, [16]):
        return None
    function = op.input.owner
    is_approximate = isinstance(function, math.Exp2Op | math.ExpOp) and may_approximate(function)
    return op.input if is_approximate and op.input.type == VectorType(f32, [16]) else None


def round_together(shuffle: vector.ShuffleOp) -> None:
    """Both registers of ``shuffle`` by one instruction, if nothing else reads them."""
    low, high = (approximate_source(value) for value in (shuffle.v1, shuffle.v2))
    if low is None or high is None or not (shuffle.v1.has_one_use() and shuffle.v2.has_one_use()):
        return
    pair = rounded_to_bf16(low, high)
    pair.location = shuffle.location
    Rewriter.insert_op(pair, InsertPoint.before(shuffle))
    new = vector.ShuffleOp(pair.results[0], pair.results[0], shuffle.mask, result_type=shuffle.result.type)
    singles = [shuffle.v1.owner, shuffle.v2.owner]
    Rewriter.replace_op(shuffle, new)
    for single in singles:
        assert isinstance(single, Operation)
        Rewriter.erase_op(single)
