"""Rules for ``math``: what the processor has as instructions, and calls of the C library for the rest.

``sqrt``, ``fma``, ``absf``, ``floor``, ``ceil``, ``trunc``, ``round``, ``roundeven``, ``copysign`` and the integer
functions become intrinsics on scalars and vectors. Every other function becomes a call of the C library's function, one
call per lane of a vector; ``expand-math`` replaces the common ones on f32 by arithmetic first. ::

    %r = math.tanh %x : f64
    ==> %r = llvm.call @tanh(%x) : (f64) -> f64
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xdsl.dialects import llvm as xllvm
from xdsl.dialects import math
from xdsl.dialects.builtin import FloatAttr, VectorType, f32, f64, i1
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.utils.hints import isa

from crosstile.dialects import llvm
from crosstile.dialects.arith import element_type
from crosstile.lowering.arith_to_llvm import fastmath
from crosstile.lowering.driver import Lowering, Rule
from crosstile.lowering.llvm_types import constant, literal
from crosstile.lowering.vector_to_llvm import lanes, splat


def unary(new: Callable[[SSAValue, Any], Operation]) -> Rule:
    """A rule for a function of one float with an intrinsic."""

    def rule(op: Any, lowering: Lowering) -> None:
        lowering.replace(op, lowering.insert(new(lowering.value(op.operand), fastmath(op))).results[0])

    return rule


def _fabs(value: SSAValue, flags: Any) -> Operation:
    return xllvm.FAbsOp(value, value.type, flags)


def lower_copysign(op: math.CopySignOp, lowering: Lowering) -> None:
    """``math.copysign``."""
    new_op = xllvm.FCopySignOp(lowering.value(op.lhs), lowering.value(op.rhs), fastmath(op))
    lowering.replace(op, lowering.insert(new_op).res)


def lower_fma(op: math.FmaOp, lowering: Lowering) -> None:
    """``math.fma``: one rounding."""
    a, b, c = (lowering.value(value) for value in (op.a, op.b, op.c))
    lowering.replace(op, lowering.insert(xllvm.FMAOp(a, b, c, fastmath(op))).res)


def lower_rsqrt(op: math.RsqrtOp, lowering: Lowering) -> None:
    """``math.rsqrt``: one over the square root, two roundings."""
    value, flags = lowering.value(op.operand), fastmath(op)
    root = lowering.insert(xllvm.FSqrtOp(value, flags)).res
    element: Any = element_type(value.type)
    one = literal(lowering, FloatAttr(1.0, element), element)
    if isa(value.type, VectorType):
        one = splat(lowering, one, value.type)
    lowering.replace(op, lowering.insert(xllvm.FDivOp(one, root, flags)).res)


def integer(intrinsic: str, *, flag: bool) -> Rule:
    """A rule for a function of one integer; ``flag``: the intrinsic takes a bit that asks for poison, always clear."""

    def rule(op: Any, lowering: Lowering) -> None:
        value = lowering.value(op.operand)
        name = f"llvm.{intrinsic}.{mangled(value)}"
        arguments = [value, constant(lowering, 0, i1)] if flag else [value]
        (result,) = lowering.insert(xllvm.CallIntrinsicOp(name, arguments, [value.type])).results
        lowering.replace(op, result)

    return rule


def mangled(value: SSAValue) -> str:
    """The suffix that names ``value``'s type in an intrinsic: ``i32``, ``v16i32``."""
    if isa(value.type, VectorType):
        return f"v{lanes(value.type)}{value.type.element_type}"
    return str(value.type)


LIBRARY_SUFFIXES: Mapping[Attribute, str] = {f64: "", f32: "f"}


def library(name: str) -> Rule:
    """A rule for a function of the C library with one or two operands of f64, or of f32 with an ``f`` at its name."""

    def rule(op: Operation, lowering: Lowering) -> None:
        operands = lowering.flatten(op.operands)
        type_ = operands[0].type
        if element_type(type_) not in LIBRARY_SUFFIXES:
            raise lowering.error(
                f"the C library has {name} for f32 and f64 only, not for {element_type(type_)}: run "
                "arith-emulate-unsupported-floats first"
            )
        suffix = LIBRARY_SUFFIXES[element_type(type_)]
        if isa(type_, VectorType):
            result: SSAValue = lowering.insert(llvm.PoisonOp(type_)).res
            for lane in range(lanes(type_)):
                position = constant(lowering, lane)
                elements = [lowering.insert(llvm.ExtractElementOp(value, position)).res for value in operands]
                element = _call(lowering, name + suffix, elements)
                result = lowering.insert(xllvm.InsertElementOp(result, element, position)).res
        else:
            result = _call(lowering, name + suffix, operands)
        lowering.replace(op, result)

    return rule


def _call(lowering: Lowering, name: str, operands: Sequence[SSAValue]) -> SSAValue:
    result = lowering.insert(xllvm.CallOp(name, *operands, return_type=operands[0].type)).returned
    assert result is not None
    return result


LIBRARY_FUNCTIONS: Mapping[type[Operation], str] = {
    math.AcosOp: "acos",
    math.AcoshOp: "acosh",
    math.AsinOp: "asin",
    math.AsinhOp: "asinh",
    math.AtanOp: "atan",
    math.Atan2Op: "atan2",
    math.AtanhOp: "atanh",
    math.CbrtOp: "cbrt",
    math.CosOp: "cos",
    math.CoshOp: "cosh",
    math.ErfOp: "erf",
    math.ExpOp: "exp",
    math.Exp2Op: "exp2",
    math.ExpM1Op: "expm1",
    math.LogOp: "log",
    math.Log10Op: "log10",
    math.Log1pOp: "log1p",
    math.Log2Op: "log2",
    math.PowFOp: "pow",
    math.SinOp: "sin",
    math.SinhOp: "sinh",
    math.TanOp: "tan",
    math.TanhOp: "tanh",
}

RULES: Mapping[type[Operation], Rule] = {
    math.AbsFOp: unary(_fabs),
    math.CeilOp: unary(xllvm.FCeilOp),
    math.FloorOp: unary(xllvm.FFloorOp),
    math.SqrtOp: unary(xllvm.FSqrtOp),
    math.TruncOp: unary(llvm.TruncIntrinsicOp),
    math.RoundOp: unary(llvm.RoundIntrinsicOp),
    math.RoundEvenOp: unary(llvm.RoundEvenIntrinsicOp),
    math.CopySignOp: lower_copysign,
    math.FmaOp: lower_fma,
    math.RsqrtOp: lower_rsqrt,
    math.AbsIOp: integer("abs", flag=True),
    math.CountLeadingZerosOp: integer("ctlz", flag=True),
    math.CountTrailingZerosOp: integer("cttz", flag=True),
    math.CtPopOp: integer("ctpop", flag=False),
    **{op: library(name) for op, name in LIBRARY_FUNCTIONS.items()},
}
