"""The scalar code that operators become inside a nest's body: one element of the result from one of each operand.

nn.max of f32    arith.maximumf          nn.cast f16 to bf16    arith.extf to f32, arith.truncf
nn.max of i32    arith.maxsi             nn.cast f32 to i1      arith.cmpf une against 0
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from xdsl.dialects import arith, math
from xdsl.dialects.arith import FastMathFlagsAttr
from xdsl.dialects.builtin import (
    AnyFloat,
    Float8E4M3FNType,
    Float8E5M2Type,
    FloatAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    bf16,
    f32,
    i32,
    i64,
)
from xdsl.ir import Attribute, Block, Operation, SSAValue

from crosstile.dialects.arith import CmpiOp, SelectOp
from crosstile.dialects.nest.generic import YieldOp
from crosstile.dialects.nn import elementwise
from crosstile.dialects.nn.shapes import is_float, is_float8


class ScalarBody:
    """Builds the scalar body of a nest: each method appends operations and returns their value."""

    def __init__(self, *argument_types: Attribute):
        self.block = Block(arg_types=argument_types)

    def add(self, op: Operation) -> SSAValue:
        """Append ``op``, which has one result."""
        self.block.add_op(op)
        return op.results[0]

    def constant(self, value: float, type_: Attribute) -> SSAValue:
        """A scalar constant of a float, integer or index type."""
        if is_float(type_):
            return self.add(arith.ConstantOp(FloatAttr(value, cast(AnyFloat, type_))))
        return self.add(arith.ConstantOp(IntegerAttr(int(value), cast("IntegerType | IndexType", type_))))

    def widen(self, value: SSAValue, type_: Attribute, unsigned: bool = False) -> SSAValue:
        """A float as a float of at least its width, an integer as an integer."""
        if value.type == type_:
            return value
        if isinstance(type_, IntegerType):
            target = cast(IntegerType, type_)
            return self.add(arith.ExtUIOp(value, target) if unsigned else arith.ExtSIOp(value, target))
        return self.add(arith.ExtFOp(value, cast(AnyFloat, type_)))

    def finish(self, *values: SSAValue) -> Block:
        """The body, yielding ``values``."""
        self.block.add_op(YieldOp(*values))
        return self.block


Scalar = Callable[[ScalarBody, Sequence[SSAValue], FastMathFlagsAttr], SSAValue]
"""How an operator computes one element from one element of each operand."""


def _unary(make: Callable[[SSAValue, FastMathFlagsAttr], Operation]) -> Scalar:
    return lambda body, operands, flags: body.add(make(operands[0], flags))


def _binary(
    make_float: Callable[[SSAValue, SSAValue, FastMathFlagsAttr], Operation],
    make_integer: Callable[[SSAValue, SSAValue], Operation],
) -> Scalar:
    def scalar(body: ScalarBody, operands: Sequence[SSAValue], flags: FastMathFlagsAttr) -> SSAValue:
        lhs, rhs = operands
        return body.add(make_float(lhs, rhs, flags) if is_float(lhs.type) else make_integer(lhs, rhs))

    return scalar


def _negate(body: ScalarBody, operands: Sequence[SSAValue], flags: FastMathFlagsAttr) -> SSAValue:
    (value,) = operands
    if is_float(value.type):
        return body.add(arith.NegfOp(value, flags))
    return body.add(arith.SubiOp(body.constant(0, value.type), value))


SCALARS: dict[type[Operation], Scalar] = {
    elementwise.NegOp: _negate,
    elementwise.AbsOp: _unary(math.AbsFOp),
    elementwise.ExpOp: _unary(math.ExpOp),
    elementwise.LogOp: _unary(math.LogOp),
    elementwise.TanhOp: _unary(math.TanhOp),
    elementwise.ErfOp: _unary(math.ErfOp),
    elementwise.SqrtOp: _unary(math.SqrtOp),
    elementwise.RsqrtOp: _unary(math.RsqrtOp),
    elementwise.AddOp: _binary(arith.AddfOp, arith.AddiOp),
    elementwise.SubOp: _binary(arith.SubfOp, arith.SubiOp),
    elementwise.MulOp: _binary(arith.MulfOp, arith.MuliOp),
    elementwise.DivOp: _binary(arith.DivfOp, arith.DivSIOp),
    elementwise.MaxOp: _binary(arith.MaximumfOp, arith.MaxSIOp),
    elementwise.MinOp: _binary(arith.MinimumfOp, arith.MinSIOp),
}
"""The scalar code of each elementwise operator."""


_FLOAT8: dict[Attribute, tuple[int, float, int, int]] = {
    Float8E4M3FNType(): (20, 2.0**120, 0x7F, 0x7FC00000),
    Float8E5M2Type(): (21, 2.0**112, 0x7C, 0x7F800000),
}
"""How far bits move to where f32 has them, what that makes of the exponent, the first magnitude that is no number, and
what is to be set in it: e4m3 has one NaN and no infinity, e5m2 those of f16."""


def _from_float8(body: ScalarBody, value: SSAValue, target: AnyFloat) -> SSAValue:
    """An 8-bit float as another one, exactly; a number that is subnormal becomes normal by a product."""
    shift, scale, first, special = _FLOAT8[value.type]

    def number(bits: int) -> SSAValue:
        return body.constant(bits, i32)

    bits = body.add(arith.ExtUIOp(body.add(arith.BitcastOp(value, IntegerType(8))), i32))
    magnitude = body.add(arith.AndIOp(bits, number(0x7F)))
    moved = body.add(arith.ShLIOp(magnitude, number(shift)))
    scaled = body.add(arith.MulfOp(body.add(arith.BitcastOp(moved, f32)), body.constant(scale, f32)))
    is_number = body.add(CmpiOp(magnitude, number(first), "ult"))
    unsigned = body.add(
        SelectOp(is_number, body.add(arith.BitcastOp(scaled, i32)), body.add(arith.OrIOp(moved, number(special))))
    )
    sign = body.add(arith.ShLIOp(body.add(arith.AndIOp(bits, number(0x80))), number(24)))
    whole = body.add(arith.OrIOp(unsigned, sign))
    if target == bf16:  # its lower half is zero
        upper = body.add(arith.TruncIOp(body.add(arith.ShRUIOp(whole, number(16))), IntegerType(16)))
        return body.add(arith.BitcastOp(upper, bf16))
    return cast_scalar(body, body.add(arith.BitcastOp(whole, f32)), target)


def cast_scalar(body: ScalarBody, value: SSAValue, target: Attribute) -> SSAValue:
    """``value`` as ``target``: rounded to nearest even, to integers toward zero; i1 is 0 or 1, and what is not zero."""
    source = value.type
    if source == target:
        return value
    bit = IntegerType(1)
    if target == bit:
        zero = body.constant(0, source)
        return body.add(arith.CmpfOp(value, zero, "une") if is_float(source) else arith.CmpiOp(value, zero, "ne"))
    if isinstance(source, IndexType) or isinstance(target, IndexType):
        if isinstance(source, IntegerType) and source != bit:
            return body.add(arith.IndexCastOp(value, target))
        if isinstance(source, IndexType):
            return cast_scalar(body, body.add(arith.IndexCastOp(value, i64)), target)
        return body.add(arith.IndexCastOp(cast_scalar(body, value, i64), target))
    if is_float8(source):
        return _from_float8(body, value, cast(AnyFloat, target))
    if is_float(source) and is_float(target):
        return _cast_float(body, value, cast(AnyFloat, target))
    if is_float(source):
        return body.add(arith.FPToSIOp(value, cast(IntegerType, target)))
    if is_float(target):
        number = cast(AnyFloat, target)
        return body.add(arith.UIToFPOp(value, number) if source == bit else arith.SIToFPOp(value, number))
    widths = cast(IntegerType, source).bitwidth, cast(IntegerType, target).bitwidth
    wider = cast(IntegerType, target)
    if widths[0] > widths[1]:
        return body.add(arith.TruncIOp(value, wider))
    return body.add(arith.ExtUIOp(value, wider) if source == bit else arith.ExtSIOp(value, wider))


def _cast_float(body: ScalarBody, value: SSAValue, target: AnyFloat) -> SSAValue:
    width = cast(AnyFloat, value.type).bitwidth
    if width < target.bitwidth:
        return body.add(arith.ExtFOp(value, target))
    if width == target.bitwidth:
        # f16 and bf16 hold different numbers; f32 holds both.
        value = body.add(arith.ExtFOp(value, f32))
    return body.add(arith.TruncFOp(value, target))
