"""``arith-emulate-unsupported-floats``: arithmetic of bf16 and f16 is done in f32 and rounded, operation by operation.

In and out: a module at hardware level. Upstream's pass of this name, with its defaults but for f16, which only some
cores compute with: every operation of ``arith``, ``math`` and ``vector`` that computes with such floats gets its
operands extended and its result rounded, so that all machines give the same numbers. ::

    %y = math.exp %x : vector<16xbf16>
    ==>
    %0 = arith.extf %x : vector<16xbf16> to vector<16xf32>
    %1 = math.exp %0 : vector<16xf32>
    %y = arith.truncf %1 : vector<16xf32> to vector<16xbf16>

Sums, products, quotients and roots rounded twice so are the same as rounded once, as f32 has more than twice the digits
and two (Figueroa, When is double rounding innocuous?, SIGNUM Newsletter 30.3, 1995). Operations that only move numbers
stay: constants, ``select``, ``bitcast``, loads, stores, shuffles; so do conversions between floats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import arith, vector
from xdsl.dialects.builtin import BFloat16Type, Float16Type, ModuleOp, f32
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.passes import ModulePass

from crosstile.dialects.arith import element_type, with_element_type

MOVES = (arith.ConstantOp, arith.SelectOp, arith.BitcastOp, arith.ExtFOp, arith.TruncFOp)
"""Operations of ``arith`` that compute nothing with the numbers."""
COMPUTING_VECTORS = (vector.FMAOp, vector.ReductionOp)
"""Operations of ``vector`` that compute."""


@dataclass(frozen=True)
class ArithEmulateUnsupportedFloatsPass(ModulePass):
    """Arithmetic of bf16 and f16 by way of f32."""

    name = "arith-emulate-unsupported-floats"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite every such operation in place."""
        for old in list(op.walk()):
            if computes(type(old)) and any(is_narrow(value.type) for value in (*old.operands, *old.results)):
                emulate(old)


def computes(op: type[Operation]) -> bool:
    """Whether operations of this kind compute with the numbers they are given, rather than moving them."""
    if issubclass(op, COMPUTING_VECTORS):
        return True
    return op.dialect_name() in ("arith", "math") and not issubclass(op, MOVES)


def is_narrow(type_: Attribute) -> bool:
    """Whether ``type_`` is, or has elements of, bf16 or f16."""
    return isinstance(element_type(type_), BFloat16Type | Float16Type)


def emulate(op: Operation) -> None:
    """``op`` on f32, between conversions."""
    operands = [_extended(op, operand) if is_narrow(operand.type) else operand for operand in op.operands]
    types = [with_element_type(type_, f32) if is_narrow(type_) else type_ for type_ in op.result_types]
    wide = type(op).create(
        operands=operands, result_types=types, properties=op.properties.copy(), attributes=op.attributes.copy()
    )
    results: list[Operation] = [
        arith.TruncFOp(new, old.type) for old, new in zip(op.results, wide.results, strict=True) if old.type != new.type
    ]
    _insert(op, [wide, *results])
    rounded = iter(results)
    for old, new in zip(op.results, wide.results, strict=True):
        replacement = new if old.type == new.type else next(rounded).results[0]
        replacement.name_hint = old.name_hint
        old.replace_all_uses_with(replacement)
    block = op.parent
    assert block is not None
    block.erase_op(op)


def _extended(op: Operation, operand: SSAValue) -> SSAValue:
    extension = arith.ExtFOp(operand, with_element_type(operand.type, f32))
    _insert(op, [extension])
    return extension.result


def _insert(before: Operation, new: Sequence[Operation]) -> None:
    block = before.parent
    assert block is not None
    for op in new:
        op.location = before.location
        block.insert_op_before(op, before)
