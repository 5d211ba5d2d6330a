"""Rules for ``arith``: one ``llvm`` operation for nearly every operation, on scalars and rank-1 vectors alike.

Flags are carried over as written and none is added: the rules introduce no poison that the operation did not have. ::

    %r = arith.mulf %x, %y fastmath<contract> : vector<16xf32>
    ==> %r = llvm.fmul %x, %y {fastmathFlags = #llvm.fastmath<contract>} : vector<16xf32>

``maximumf`` and ``minimumf`` propagate NaN and order -0 before +0; ``maxnumf`` and ``minnumf`` give the other operand.
Divisions rounding down or up become the truncating one and a correction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from xdsl.dialects import arith
from xdsl.dialects import llvm as xllvm
from xdsl.dialects.builtin import (
    BFloat16Type,
    DenseIntOrFPElementsAttr,
    Float32Type,
    FloatAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    TensorType,
    VectorType,
    f32,
    i8,
    i16,
    i32,
    i64,
)
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.utils.hints import isa

from crosstile.dialects import arith as our_arith
from crosstile.dialects import llvm
from crosstile.dialects.arith import element_type, with_element_type
from crosstile.lowering.driver import Lowering, Rule
from crosstile.lowering.llvm_types import FLOAT8, literal, scalar_or_vector

_OVERFLOW_BITS = {"nsw": 1, "nuw": 2}
_NO_OVERFLOW = IntegerAttr(0, 32)


def fastmath(op: Any) -> xllvm.FastMathAttr:
    """The ``llvm`` form of the fastmath flags of an ``arith`` or ``math`` operation."""
    flags = op.fastmath.data
    return xllvm.FastMathAttr(flags) if flags else llvm.NO_FASTMATH


def convert_elements(value: Attribute) -> Attribute:
    """A constant's value with ``index`` elements as ``i64`` and those of bf16 and 8-bit floats as their bits."""
    if isa(value, FloatAttr) and isinstance(value.type, FLOAT8):
        return IntegerAttr(_byte(value.value.data, value.type), i8)
    if isa(value, DenseIntOrFPElementsAttr) and isinstance(value.get_element_type(), FLOAT8):
        bits = [_byte(number, value.get_element_type()) for number in value.get_values()]
        return DenseIntOrFPElementsAttr.from_list(VectorType(i8, value.get_shape()), bits)
    if isa(value, FloatAttr) and isinstance(value.type, BFloat16Type):
        return IntegerAttr(int.from_bytes(value.type.pack((value.value.data,)), "little", signed=True), i16)
    if isa(value, DenseIntOrFPElementsAttr) and isinstance(value.get_element_type(), BFloat16Type):
        shape = value.get_shape()
        words = VectorType(i16, shape) if isa(value.type, VectorType) else TensorType(i16, shape)
        return DenseIntOrFPElementsAttr(words, value.data)
    if isa(value, IntegerAttr) and isinstance(value.type, IndexType):
        return IntegerAttr(value.value.data, i64)
    if isa(value, DenseIntOrFPElementsAttr) and isinstance(value.get_element_type(), IndexType):
        vector_type = scalar_or_vector(value.type)
        assert isa(vector_type, VectorType[IntegerType])
        return DenseIntOrFPElementsAttr(vector_type, value.data)
    return value


def _byte(number: Any, type_: Attribute) -> int:
    """The bits of an 8-bit float as a signed byte."""
    import numpy as np

    from crosstile.dialects.element_types import dtype_of

    return int(np.array(number, dtype_of(type_)).view(np.int8))


def splat(lowering: Lowering, value: int, type_: Attribute) -> SSAValue:
    """An integer constant of a scalar or vector type, the same in every element."""
    element = element_type(type_)
    if isa(type_, VectorType[IntegerType]):
        attribute: Attribute = DenseIntOrFPElementsAttr.from_list(type_, [value] * type_.get_shape()[0])
    else:
        assert isa(element, IntegerType)
        attribute = IntegerAttr(value, element)
    return literal(lowering, attribute, type_)


def lower_constant(op: arith.ConstantOp, lowering: Lowering) -> None:
    """``arith.constant``: the same value, in the type it is of now."""
    type_ = scalar_or_vector(op.result.type)
    lowering.replace(op, lowering.insert(xllvm.ConstantOp(convert_elements(op.value), type_)).result)


def binary(new: Callable[[SSAValue, SSAValue], Operation]) -> Rule:
    """A rule for an operation of two operands without flags."""

    def rule(op: Any, lowering: Lowering) -> None:
        lowering.replace(op, lowering.insert(new(lowering.value(op.lhs), lowering.value(op.rhs))).results[0])

    return rule


def binary_overflow(new: Callable[..., Operation]) -> Rule:
    """A rule for an integer operation with overflow flags."""

    def rule(op: Any, lowering: Lowering) -> None:
        flags = op.overflow_flags.data if op.overflow_flags is not None else ()
        overflow = IntegerAttr(sum(_OVERFLOW_BITS[str(flag)] for flag in flags), 32) if flags else _NO_OVERFLOW
        new_op = new(lowering.value(op.lhs), lowering.value(op.rhs), overflow=overflow)
        lowering.replace(op, lowering.insert(new_op).results[0])

    return rule


def binary_float(new: Callable[[SSAValue, SSAValue, Any], Operation]) -> Rule:
    """A rule for a float operation of two operands with fastmath flags."""

    def rule(op: Any, lowering: Lowering) -> None:
        new_op = new(lowering.value(op.lhs), lowering.value(op.rhs), fastmath(op))
        lowering.replace(op, lowering.insert(new_op).results[0])

    return rule


def cast(new: Callable[[SSAValue, Attribute], Operation]) -> Rule:
    """A rule for a conversion to the result type."""

    def rule(op: Any, lowering: Lowering) -> None:
        new_op = new(lowering.value(op.input), scalar_or_vector(op.result.type))
        lowering.replace(op, lowering.insert(new_op).results[0])

    return rule


def index_cast(widen: Callable[[SSAValue, Attribute], Operation]) -> Rule:
    """A rule for a conversion between ``index`` and an integer type; nothing between equal widths."""

    def rule(op: our_arith.IndexCastOp | our_arith.IndexCastUIOp, lowering: Lowering) -> None:
        lowering.replace(op, resize(lowering, lowering.value(op.input), scalar_or_vector(op.result.type), widen))

    return rule


def resize(
    lowering: Lowering, value: SSAValue, type_: Attribute, widen: Callable[[SSAValue, Attribute], Operation]
) -> SSAValue:
    """``value`` as the integer type ``type_``: truncated, widened by ``widen``, or itself."""
    source, result = element_type(value.type), element_type(type_)
    assert isinstance(source, IntegerType) and isinstance(result, IntegerType)
    if source.bitwidth == result.bitwidth:
        return value
    if source.bitwidth > result.bitwidth:
        return lowering.insert(xllvm.TruncOp(value, type_)).res
    return lowering.insert(widen(value, type_)).results[0]


def lower_bitcast(op: arith.BitcastOp, lowering: Lowering) -> None:
    """A bitcast; memrefs and values whose type stays are passed on as they are."""
    if len(lowering.values(op.input)) != 1:
        lowering.map_value(op.result, *lowering.values(op.input))
        return
    value, type_ = lowering.value(op.input), scalar_or_vector(op.result.type)
    if value.type != type_:
        value = lowering.insert(xllvm.BitcastOp(value, type_)).result
    lowering.replace(op, value)


def lower_extf(op: arith.ExtFOp, lowering: Lowering) -> None:
    """``arith.extf``: the instruction, but for bf16, which is the upper half of an f32."""
    value, type_ = lowering.value(op.input), scalar_or_vector(op.result.type)
    if isinstance(element_type(op.input.type), BFloat16Type):
        words, single = with_element_type(type_, i32), with_element_type(type_, f32)
        wide = lowering.insert(xllvm.ZExtOp(value, words)).res
        shifted = lowering.insert(xllvm.ShlOp(wide, splat(lowering, 16, words))).res
        value = lowering.insert(xllvm.BitcastOp(shifted, single)).result
        if type_ == single:
            lowering.replace(op, value)
            return
    lowering.replace(op, lowering.insert(xllvm.FPExtOp(value, type_)).results[0])


def lower_truncf(op: arith.TruncFOp, lowering: Lowering) -> None:
    """``arith.truncf``: the instruction, but for bf16, where x86's takes subnormal numbers for zero.

    Rounding to nearest even in integers instead: half of what is cut off is added, less one where the last bit kept is
    0, and a carry moves on into the exponent, up to infinity. A NaN keeps its high bits and gets a quiet one.
    (Intel SDM, volume 2, VCVTNEPS2BF16: "denormal inputs are treated as zeros".)
    """
    value, type_ = lowering.value(op.input), scalar_or_vector(op.result.type)
    if not isinstance(element_type(op.result.type), BFloat16Type):
        lowering.replace(op, lowering.insert(xllvm.FPTruncOp(value, type_)).result)
        return
    if not isinstance(element_type(value.type), Float32Type):
        raise lowering.error(f"only f32 is rounded to bf16 here, not {element_type(value.type)}; round to f32 first")
    words = with_element_type(type_, i32)
    bits = lowering.insert(xllvm.BitcastOp(value, words)).result
    high = lowering.insert(xllvm.LShrOp(bits, splat(lowering, 16, words))).res
    odd = lowering.insert(xllvm.AndOp(high, splat(lowering, 1, words))).res
    half = lowering.insert(xllvm.AddOp(odd, splat(lowering, 0x7FFF, words))).res
    total = lowering.insert(xllvm.AddOp(bits, half)).res
    rounded = lowering.insert(xllvm.LShrOp(total, splat(lowering, 16, words))).res
    quiet = lowering.insert(xllvm.OrOp(high, splat(lowering, 0x40, words))).res
    nan = lowering.insert(llvm.FCmpOp(value, value, "uno")).res
    chosen = lowering.insert(llvm.SelectOp(nan, quiet, rounded)).res
    lowering.replace(op, lowering.insert(xllvm.TruncOp(chosen, type_)).res)


def lower_cmpi(op: arith.CmpiOp, lowering: Lowering) -> None:
    """``arith.cmpi``: the predicates have upstream's numbers on both sides."""
    new_op = xllvm.ICmpOp(lowering.value(op.lhs), lowering.value(op.rhs), IntegerAttr(op.predicate.value.data, i64))
    lowering.replace(op, lowering.insert(new_op).res)


def lower_cmpf(op: arith.CmpfOp, lowering: Lowering) -> None:
    """``arith.cmpf``: the predicates have upstream's numbers on both sides."""
    new_op = llvm.FCmpOp(lowering.value(op.lhs), lowering.value(op.rhs), IntegerAttr(op.predicate.value.data, i64))
    new_op.properties["fastmathFlags"] = fastmath(op)
    lowering.replace(op, lowering.insert(new_op).res)


def lower_select(op: arith.SelectOp, lowering: Lowering) -> None:
    """``arith.select``; a value that became several is selected value by value."""
    condition = lowering.value(op.cond)
    pairs = zip(lowering.values(op.lhs), lowering.values(op.rhs), strict=True)
    results = [lowering.insert(llvm.SelectOp(condition, lhs, rhs)).res for lhs, rhs in pairs]
    lowering.map_value(op.result, *results)


def lower_negf(op: arith.NegfOp, lowering: Lowering) -> None:
    """``arith.negf``: flips the sign, also of NaN and zero."""
    lowering.replace(op, lowering.insert(xllvm.FNegOp(lowering.value(op.operand), fastmath(op))).res)


def lower_rounding_division(op: arith.FloorDivSIOp | arith.CeilDivSIOp, lowering: Lowering) -> None:
    """The truncating quotient, moved by one where there is a remainder and truncation went the wrong way.

    Truncation rounds a negative quotient up, so the floor is one less where the remainder's and the divisor's signs
    differ; it rounds a positive quotient down, so the ceiling is one more where they agree.
    """
    floor = isinstance(op, arith.FloorDivSIOp)
    lhs, rhs = lowering.value(op.lhs), lowering.value(op.rhs)
    quotient = lowering.insert(xllvm.SDivOp(lhs, rhs)).res
    product = lowering.insert(xllvm.MulOp(quotient, rhs)).res
    remainder = lowering.insert(xllvm.SubOp(lhs, product)).res
    zero = splat(lowering, 0, lhs.type)
    inexact = _icmp(lowering, "ne", remainder, zero)
    signs = lowering.insert(xllvm.XOrOp(remainder, rhs)).res
    wrong_way = _icmp(lowering, "slt" if floor else "sge", signs, zero)
    moves = lowering.insert(xllvm.AndOp(inexact, wrong_way)).res
    step = splat(lowering, -1 if floor else 1, lhs.type)
    moved = lowering.insert(xllvm.AddOp(quotient, step)).res
    lowering.replace(op, lowering.insert(llvm.SelectOp(moves, moved, quotient)).res)


def lower_ceildivui(op: arith.CeilDivUIOp, lowering: Lowering) -> None:
    """The truncating quotient, and one more where there is a remainder."""
    lhs, rhs = lowering.value(op.lhs), lowering.value(op.rhs)
    quotient = lowering.insert(xllvm.UDivOp(lhs, rhs)).res
    product = lowering.insert(xllvm.MulOp(quotient, rhs)).res
    inexact = _icmp(lowering, "ne", lhs, product)
    one = lowering.insert(xllvm.ZExtOp(inexact, lhs.type)).res
    lowering.replace(op, lowering.insert(xllvm.AddOp(quotient, one)).res)


def lower_addui_extended(op: arith.AddUIExtendedOp, lowering: Lowering) -> None:
    """The wrapped sum; it overflowed if it is less than an operand."""
    lhs, rhs = lowering.value(op.lhs), lowering.value(op.rhs)
    total = lowering.insert(xllvm.AddOp(lhs, rhs)).res
    lowering.replace(op, total, _icmp(lowering, "ult", total, lhs))


def mul_extended(widen: Callable[[SSAValue, Attribute], Operation]) -> Rule:
    """A rule for the full product: multiply at twice the width, take the low and the high half."""

    def rule(op: arith.MulSIExtendedOp | arith.MulUIExtendedOp, lowering: Lowering) -> None:
        lhs, rhs = lowering.value(op.lhs), lowering.value(op.rhs)
        element = element_type(lhs.type)
        assert isinstance(element, IntegerType)
        wide = with_element_type(lhs.type, IntegerType(2 * element.bitwidth))
        wide_lhs, wide_rhs = (lowering.insert(widen(value, wide)).results[0] for value in (lhs, rhs))
        product = lowering.insert(xllvm.MulOp(wide_lhs, wide_rhs)).res
        low = lowering.insert(xllvm.TruncOp(product, lhs.type)).res
        shifted = lowering.insert(xllvm.LShrOp(product, splat(lowering, element.bitwidth, wide))).res
        lowering.replace(op, low, lowering.insert(xllvm.TruncOp(shifted, lhs.type)).res)

    return rule


def _icmp(lowering: Lowering, predicate: str, lhs: SSAValue, rhs: SSAValue) -> SSAValue:
    number = IntegerAttr(arith.CMPI_COMPARISON_OPERATIONS.index(predicate), i64)
    return lowering.insert(xllvm.ICmpOp(lhs, rhs, number)).res


RULES: Mapping[type[Operation], Rule] = {
    arith.ConstantOp: lower_constant,
    arith.AddiOp: binary_overflow(xllvm.AddOp),
    arith.SubiOp: binary_overflow(xllvm.SubOp),
    arith.MuliOp: binary_overflow(xllvm.MulOp),
    arith.ShLIOp: binary_overflow(xllvm.ShlOp),
    arith.DivSIOp: binary(xllvm.SDivOp),
    arith.DivUIOp: binary(xllvm.UDivOp),
    arith.RemSIOp: binary(xllvm.SRemOp),
    arith.RemUIOp: binary(xllvm.URemOp),
    arith.FloorDivSIOp: lower_rounding_division,
    arith.CeilDivSIOp: lower_rounding_division,
    arith.CeilDivUIOp: lower_ceildivui,
    arith.AndIOp: binary(xllvm.AndOp),
    arith.OrIOp: binary(xllvm.OrOp),
    arith.XOrIOp: binary(xllvm.XOrOp),
    arith.ShRSIOp: binary(xllvm.AShrOp),
    arith.ShRUIOp: binary(xllvm.LShrOp),
    arith.MaxSIOp: binary(llvm.SMaxOp),
    arith.MaxUIOp: binary(llvm.UMaxOp),
    arith.MinSIOp: binary(llvm.SMinOp),
    arith.MinUIOp: binary(llvm.UMinOp),
    arith.AddUIExtendedOp: lower_addui_extended,
    arith.MulSIExtendedOp: mul_extended(xllvm.SExtOp),
    arith.MulUIExtendedOp: mul_extended(xllvm.ZExtOp),
    arith.AddfOp: binary_float(xllvm.FAddOp),
    arith.SubfOp: binary_float(xllvm.FSubOp),
    arith.MulfOp: binary_float(xllvm.FMulOp),
    arith.DivfOp: binary_float(xllvm.FDivOp),
    arith.MaximumfOp: binary_float(llvm.MaximumOp),
    arith.MinimumfOp: binary_float(llvm.MinimumOp),
    arith.MaxnumfOp: binary_float(xllvm.VectorFMaxOp),
    arith.MinnumfOp: binary_float(xllvm.VectorFMinOp),
    arith.NegfOp: lower_negf,
    arith.CmpiOp: lower_cmpi,
    arith.CmpfOp: lower_cmpf,
    arith.SelectOp: lower_select,
    arith.ExtFOp: lower_extf,
    arith.TruncFOp: lower_truncf,
    arith.ExtSIOp: cast(xllvm.SExtOp),
    arith.ExtUIOp: cast(xllvm.ZExtOp),
    arith.TruncIOp: cast(xllvm.TruncOp),
    arith.SIToFPOp: cast(xllvm.SIToFPOp),
    arith.UIToFPOp: cast(llvm.UIToFPOp),
    arith.FPToSIOp: cast(llvm.FPToSIOp),
    arith.FPToUIOp: cast(llvm.FPToUIOp),
    arith.IndexCastOp: index_cast(xllvm.SExtOp),
    our_arith.IndexCastUIOp: index_cast(xllvm.ZExtOp),
    arith.BitcastOp: lower_bitcast,
}
