"""The ``arith`` dialect of the hardware level: xDSL's operations, with those that xDSL has for scalars only widened.

Upstream's ``arith`` is elementwise over vectors and tensors; in xDSL 0.74 comparisons, selections, conversions and
casts take and give scalars only. Each class here extends the xDSL class of the same name (so rewrites written for that
class still match) and follows upstream's syntax::

    %m = arith.cmpf olt, %x, %y : vector<16xf32>
    %r = arith.select %m, %x, %y : vector<16xi1>, vector<16xf32>
    %f = arith.sitofp %i : vector<16xi32> to vector<16xf32>

The dialect is registered under ``arith`` in place of xDSL's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

from xdsl.dialect_interfaces.constant_materialization import ConstantMaterializationInterface
from xdsl.dialects import arith
from xdsl.dialects.builtin import (
    AnyFloat,
    AnyFloatConstr,
    IndexType,
    IndexTypeConstr,
    IntegerAttr,
    IntegerType,
    SignlessIntegerConstraint,
    TensorType,
    VectorType,
    i1,
    i64,
)
from xdsl.ir import Attribute, Dialect, Operation, SSAValue
from xdsl.irdl import (
    AnyAttr,
    EqAttrConstraint,
    IRDLOperation,
    VarConstraint,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.hints import isa

FloatLike = AnyFloatConstr | VectorType.constr(AnyFloatConstr) | TensorType.constr(AnyFloatConstr)
IntegerLike = (
    SignlessIntegerConstraint
    | VectorType.constr(SignlessIntegerConstraint)
    | TensorType.constr(SignlessIntegerConstraint)
)
BoolConstr = EqAttrConstraint(i1)
IntegerOrIndexLike = (
    SignlessIntegerConstraint
    | IndexTypeConstr
    | VectorType.constr(SignlessIntegerConstraint | IndexTypeConstr)
    | TensorType.constr(SignlessIntegerConstraint | IndexTypeConstr)
)
BoolLike = BoolConstr | VectorType.constr(BoolConstr) | TensorType.constr(BoolConstr)


def element_type(type_: Attribute) -> Attribute:
    """The element type of a vector or tensor, or a scalar type itself."""
    # Not isa, which looks at type arguments and takes ten times as long: this is asked of every operand.
    return cast("Attribute", type_.element_type) if isinstance(type_, VectorType | TensorType) else type_


def with_element_type(type_: Attribute, element: Attribute) -> Attribute:
    """``type_`` with its element type replaced: ``vector<4xf32>`` and ``i1`` give ``vector<4xi1>``."""
    if isa(type_, VectorType):
        return VectorType(element, type_.shape, type_.scalable_dims)
    if isa(type_, TensorType):
        return TensorType(element, type_.shape, type_.encoding)
    return element


def _bit_width(type_: Attribute) -> int:
    element = element_type(type_)
    assert isinstance(element, IntegerType | AnyFloat)
    return element.bitwidth


# Comparisons and selection


@irdl_op_definition
class CmpiOp(arith.CmpiOp):
    """``arith.cmpi`` on scalars, vectors and tensors."""

    predicate = prop_def(IntegerAttr)
    lhs = operand_def(IntegerOrIndexLike)
    rhs = operand_def(IntegerOrIndexLike)
    result = result_def(AnyAttr())

    def __init__(self, operand1: SSAValue | Operation, operand2: SSAValue | Operation, arg: int | str):
        lhs, rhs = SSAValue.get(operand1), SSAValue.get(operand2)
        predicate = arith.CMPI_COMPARISON_OPERATIONS.index(arg) if isinstance(arg, str) else arg
        IRDLOperation.__init__(
            self,
            operands=[lhs, rhs],
            result_types=[with_element_type(lhs.type, i1)],
            properties={"predicate": IntegerAttr(predicate, i64)},
        )

    def verify_(self) -> None:
        _verify_comparison(self.name, self.lhs.type, self.rhs.type, self.result.type)


@irdl_op_definition
class CmpfOp(arith.CmpfOp):
    """``arith.cmpf`` on scalars, vectors and tensors."""

    predicate = prop_def(IntegerAttr)
    lhs = operand_def(FloatLike)
    rhs = operand_def(FloatLike)
    fastmath = prop_def(arith.FastMathFlagsAttr, default_value=arith.FastMathFlagsAttr("none"))
    result = result_def(AnyAttr())

    def __init__(
        self,
        operand1: SSAValue | Operation,
        operand2: SSAValue | Operation,
        arg: int | str,
        fastmath: arith.FastMathFlagsAttr | None = None,
    ):
        lhs, rhs = SSAValue.get(operand1), SSAValue.get(operand2)
        predicate = arith.CMPF_COMPARISON_OPERATIONS.index(arg) if isinstance(arg, str) else arg
        IRDLOperation.__init__(
            self,
            operands=[lhs, rhs],
            result_types=[with_element_type(lhs.type, i1)],
            properties={
                "predicate": IntegerAttr(predicate, i64),
                "fastmath": fastmath or arith.FastMathFlagsAttr("none"),
            },
        )

    def verify_(self) -> None:
        _verify_comparison(self.name, self.lhs.type, self.rhs.type, self.result.type)


def _verify_comparison(name: str, lhs: Attribute, rhs: Attribute, result: Attribute) -> None:
    if lhs != rhs:
        raise VerifyException(f"'{name}' compares values of one type, found {lhs} and {rhs}")
    if result != (expected := with_element_type(lhs, i1)):
        raise VerifyException(f"'{name}' of {lhs} gives {expected}, not {result}")


@irdl_op_definition
class SelectOp(arith.SelectOp):
    """``arith.select``: one condition for the whole value, or one per element of a vector or tensor."""

    _T: ClassVar = VarConstraint("_T", AnyAttr())
    cond = operand_def(BoolLike)
    lhs = operand_def(_T)
    rhs = operand_def(_T)
    result = result_def(_T)
    assembly_format = None

    def verify_(self) -> None:
        if self.cond.type != i1 and self.cond.type != with_element_type(self.result.type, i1):
            raise VerifyException(
                f"'arith.select' of {self.result.type} takes a condition of type i1 or "
                f"{with_element_type(self.result.type, i1)}, not {self.cond.type}"
            )

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_list(self.operands, printer.print_ssa_value)
        printer.print_op_attributes(self.attributes)
        printer.print_string(" : ")
        if self.cond.type != i1:
            printer.print_attribute(self.cond.type)
            printer.print_string(", ")
        printer.print_attribute(self.result.type)

    @classmethod
    def parse(cls, parser: Parser) -> SelectOp:
        position = parser.pos
        operands = [parser.parse_unresolved_operand()]
        for _ in range(2):
            parser.parse_punctuation(",")
            operands.append(parser.parse_unresolved_operand())
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        types = parser.parse_comma_separated_list(parser.Delimiter.NONE, parser.parse_type)
        condition_type = types[0] if len(types) == 2 else i1
        if len(types) > 2:
            parser.raise_error("expected a result type, or a condition type and a result type")
        operand_types = [condition_type, types[-1], types[-1]]
        op = cls(*parser.resolve_operands(operands, operand_types, position))
        op.attributes |= attributes
        return op


# Conversions


class _Conversion(IRDLOperation):
    """What conversions of elements share; their classes say from what to what."""

    assembly_format = None

    def __init__(self, op: SSAValue | Operation, target_type: Attribute):
        IRDLOperation.__init__(self, operands=[op], result_types=[target_type])

    def verify_(self) -> None:
        source, result = self.operands[0].type, self.results[0].type
        if with_element_type(source, i1) != with_element_type(result, i1):
            raise VerifyException(
                f"'{self.name}' works elementwise, but operand type {source} and result type {result} differ"
            )


class _Extension(_Conversion):
    """To an integer type of more bits."""

    def verify_(self) -> None:
        super().verify_()
        source, result = self.operands[0].type, self.results[0].type
        if _bit_width(source) >= _bit_width(result):
            raise VerifyException(f"'{self.name}' widens, but {result} is no wider than {source}")


class _IndexCast(_Conversion):
    """Between ``index`` and an integer type."""

    def verify_(self) -> None:
        super().verify_()
        source, result = self.operands[0].type, self.results[0].type
        if isinstance(element_type(source), IndexType) == isinstance(element_type(result), IndexType):
            raise VerifyException(
                f"'{self.name}' converts between index and an integer type, found {source} and {result}"
            )


@irdl_op_definition
class FPToSIOp(_Conversion, arith.FPToSIOp):
    """Float to signed integer, rounding toward zero; a value that does not fit gives poison."""

    input = operand_def(FloatLike)
    result = result_def(IntegerLike)


@irdl_op_definition
class FPToUIOp(_Conversion, arith.FPToUIOp):
    """Float to unsigned integer, rounding toward zero; a value that does not fit gives poison."""

    input = operand_def(FloatLike)
    result = result_def(IntegerLike)


@irdl_op_definition
class SIToFPOp(_Conversion, arith.SIToFPOp):
    """Signed integer to float, rounding to nearest even."""

    input = operand_def(IntegerLike)
    result = result_def(FloatLike)


@irdl_op_definition
class UIToFPOp(_Conversion, arith.UIToFPOp):
    """Unsigned integer to float, rounding to nearest even."""

    input = operand_def(IntegerLike)
    result = result_def(FloatLike)


@irdl_op_definition
class TruncIOp(_Conversion, arith.TruncIOp):
    """The low bits of each element."""

    input = operand_def(IntegerLike)
    result = result_def(IntegerLike)

    def verify_(self) -> None:
        super().verify_()
        if _bit_width(self.input.type) <= _bit_width(self.result.type):
            raise VerifyException(f"'{self.name}' narrows, but {self.input.type} is no wider than {self.result.type}")


@irdl_op_definition
class ExtSIOp(_Extension, arith.ExtSIOp):
    """Sign extension of each element."""

    input = operand_def(IntegerLike)
    result = result_def(IntegerLike)


@irdl_op_definition
class ExtUIOp(_Extension, arith.ExtUIOp):
    """Zero extension of each element."""

    input = operand_def(IntegerLike)
    result = result_def(IntegerLike)


@irdl_op_definition
class IndexCastOp(_IndexCast, arith.IndexCastOp):
    """Between ``index`` and an integer type: sign extended or truncated."""

    input = operand_def(IntegerOrIndexLike)
    result = result_def(IntegerOrIndexLike)


@irdl_op_definition
class IndexCastUIOp(_IndexCast):
    """Between ``index`` and an integer type: zero extended or truncated."""

    name = "arith.index_castui"
    input = operand_def(IntegerOrIndexLike)
    result = result_def(IntegerOrIndexLike)
    traits = traits_def(Pure())
    assembly_format = "$input attr-dict `:` type($input) `to` type($result)"


# Arithmetic


@irdl_op_definition
class NegfOp(arith.NegfOp):
    """``arith.negf``; xDSL's constructor loses the fastmath flags."""

    _T: ClassVar = VarConstraint("_T", FloatLike)
    fastmath = prop_def(arith.FastMathFlagsAttr, default_value=arith.FastMathFlagsAttr("none"))
    operand = operand_def(_T)
    result = result_def(_T)
    assembly_format = None

    def __init__(self, operand: Operation | SSAValue, fastmath: arith.FastMathFlagsAttr | None = None):
        operand = SSAValue.get(operand)
        flags = fastmath or arith.FastMathFlagsAttr("none")
        IRDLOperation.__init__(self, operands=[operand], result_types=[operand.type], properties={"fastmath": flags})

    def verify_(self) -> None:
        """Operand and result types agree by construction of the constraint."""


_WIDENED: Sequence[type[Operation]] = (
    CmpfOp,
    CmpiOp,
    ExtSIOp,
    ExtUIOp,
    FPToSIOp,
    FPToUIOp,
    IndexCastOp,
    IndexCastUIOp,
    NegfOp,
    SIToFPOp,
    SelectOp,
    TruncIOp,
    UIToFPOp,
)
_WIDENED_BY_NAME = {op.name: op for op in _WIDENED}


def class_for_vectors(op: Operation) -> type[Operation]:
    """The class of an operation like ``op`` on vectors: this dialect's where ``op`` was built as xDSL's for scalars."""
    return _WIDENED_BY_NAME.get(op.name, type(op))


Arith = Dialect(
    "arith",
    [op for op in arith.Arith.operations if op.name not in _WIDENED_BY_NAME] + list(_WIDENED),
    list(arith.Arith.attributes),
    [interface for interface in [arith.Arith.get_interface(ConstantMaterializationInterface)] if interface],
)
