"""The ``llvm`` dialect of the hardware level: xDSL's operations, with those it lacks or has for scalars only.

Name and syntax are upstream's. ``llvm.fcmp``, ``llvm.select`` and ``llvm.intr.masked.store`` extend the xDSL classes of
the same name so that they take vectors; the rest exists upstream and not in xDSL 0.74::

    %r = llvm.select %m, %x, %y : vector<16xi1>, vector<16xf32>
    %e = llvm.extractelement %v[%i : i32] : vector<16xf32>
    %l = llvm.intr.masked.load %p, %m, %x {alignment = 4 : i32} : (!llvm.ptr, vector<16xi1>, vector<16xf32>)
           -> vector<16xf32>

The dialect is registered under ``llvm`` in place of xDSL's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from xdsl.dialects import llvm
from xdsl.dialects.builtin import (
    AnyFloatConstr,
    IntegerAttr,
    SignlessIntegerConstraint,
    VectorType,
    i1,
    i32,
    i64,
)
from xdsl.ir import Attribute, Dialect, Operation, ParametrizedAttribute, SSAValue, TypeAttribute
from xdsl.irdl import (
    AnyAttr,
    EqAttrConstraint,
    IRDLOperation,
    ParsePropInAttrDict,
    VarConstraint,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.traits import IsolatedFromAbove, NoMemoryEffect, Pure
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.arith import element_type, with_element_type

FloatLike = AnyFloatConstr | VectorType.constr(AnyFloatConstr)
IntegerLike = SignlessIntegerConstraint | VectorType.constr(SignlessIntegerConstraint)
BoolLike = EqAttrConstraint(i1) | VectorType.constr(EqAttrConstraint(i1))

NO_FASTMATH = llvm.FastMathAttr(None)


@irdl_attr_definition
class X86AmxType(ParametrizedAttribute, TypeAttribute):
    """``!llvm.x86_amx``: what a tile register of x86 holds."""

    name = "llvm.x86_amx"


# Operations that xDSL has for scalars only


@irdl_op_definition
class FCmpOp(llvm.FCmpOp):
    """``llvm.fcmp`` on scalars and vectors."""

    T: ClassVar = VarConstraint("T", FloatLike)
    lhs = operand_def(T)
    rhs = operand_def(T)
    res = result_def(BoolLike)
    predicate = prop_def(IntegerAttr)
    fastmathFlags = prop_def(llvm.FastMathAttr, default_value=NO_FASTMATH)  # noqa: N815 - upstream's property name

    def __init__(
        self,
        lhs: Operation | SSAValue,
        rhs: Operation | SSAValue,
        predicate: str | IntegerAttr,
        attributes: dict[str, Attribute] | None = None,
    ):
        if isinstance(predicate, str):
            predicate = IntegerAttr(llvm.FCmpPredicateFlag(predicate).to_int(), i64)
        IRDLOperation.__init__(
            self,
            operands=[lhs, rhs],
            result_types=[with_element_type(SSAValue.get(lhs).type, i1)],
            attributes=attributes or {},
            properties={"predicate": predicate},
        )

    def verify_(self) -> None:
        if self.res.type != (expected := with_element_type(self.lhs.type, i1)):
            raise VerifyException(f"'llvm.fcmp' of {self.lhs.type} gives {expected}, not {self.res.type}")


@irdl_op_definition
class SelectOp(llvm.SelectOp):
    """``llvm.select``: one condition for the whole value, or one per element."""

    T: ClassVar = VarConstraint("T", AnyAttr())
    cond = operand_def(BoolLike)
    lhs = operand_def(T)
    rhs = operand_def(T)
    res = result_def(T)
    fastmathFlags = prop_def(llvm.FastMathAttr, default_value=NO_FASTMATH)  # noqa: N815 - upstream's property name
    assembly_format = None

    def verify_(self) -> None:
        if self.cond.type != i1 and self.cond.type != with_element_type(self.res.type, i1):
            raise VerifyException(
                f"'llvm.select' of {self.res.type} takes a condition of type i1 or "
                f"{with_element_type(self.res.type, i1)}, not {self.cond.type}"
            )


@irdl_op_definition
class MaskedStoreOp(llvm.MaskedStoreOp):
    """``llvm.intr.masked.store`` of vectors of any element type."""

    value = operand_def(VectorType)
    data = operand_def(llvm.LLVMPointerType)
    mask = operand_def(VectorType.constr(EqAttrConstraint(i1)))
    alignment = prop_def(IntegerAttr)
    assembly_format = None

    def verify_(self) -> None:
        _verify_mask(self.name, self.mask.type, self.value.type)


def _verify_mask(name: str, mask: Attribute, value: Attribute) -> None:
    if mask != (expected := with_element_type(value, i1)):
        raise VerifyException(f"'{name}' of {value} takes a mask of type {expected}, not {mask}")


# Operations that upstream has and xDSL lacks


@irdl_op_definition
class MaskedLoadOp(IRDLOperation):
    """Lanes of ``mask`` read memory, the others take the element of ``pass_thru`` and touch no memory."""

    name = "llvm.intr.masked.load"

    data = operand_def(llvm.LLVMPointerType)
    mask = operand_def(VectorType.constr(EqAttrConstraint(i1)))
    pass_thru = operand_def(VectorType)
    res = result_def(VectorType)
    alignment = prop_def(IntegerAttr)

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "operands attr-dict `:` functional-type(operands, results)"

    def __init__(self, data: SSAValue, mask: SSAValue, pass_thru: SSAValue, alignment: int):
        super().__init__(
            operands=[data, mask, pass_thru],
            result_types=[pass_thru.type],
            properties={"alignment": IntegerAttr(alignment, i32)},
        )

    def verify_(self) -> None:
        _verify_mask(self.name, self.mask.type, self.res.type)
        if self.pass_thru.type != self.res.type:
            raise VerifyException(f"'{self.name}' of {self.res.type} takes a pass_thru of that type")


@irdl_op_definition
class ExtractElementOp(IRDLOperation):
    """One element of a vector; an index beyond its length gives poison."""

    name = "llvm.extractelement"

    T: ClassVar = VarConstraint("T", AnyAttr())
    vector = operand_def(VectorType.constr(T))
    position = operand_def(SignlessIntegerConstraint)
    res = result_def(T)
    traits = traits_def(NoMemoryEffect())

    assembly_format = "$vector `[` $position `:` type($position) `]` attr-dict `:` type($vector)"

    def __init__(self, vector: SSAValue, position: SSAValue):
        super().__init__(operands=[vector, position], result_types=[element_type(vector.type)])


@irdl_op_definition
class PoisonOp(IRDLOperation):
    """A poison value: only ever the operand whose elements an insertion or shuffle overwrites."""

    name = "llvm.mlir.poison"

    res = result_def(AnyAttr())
    traits = traits_def(Pure())
    assembly_format = "attr-dict `:` type($res)"

    def __init__(self, result_type: Attribute):
        super().__init__(result_types=[result_type])


@irdl_op_definition
class FreezeOp(IRDLOperation):
    """Its operand, or any one value if that is poison. The code generator does not look through it.

    The first of a row of memory is frozen, so that a loop adds its index to it: unfrozen, the loop strength reduction
    of LLVM finds that rows are a stride apart and computes the ones from the others in every trip.
    """

    name = "llvm.freeze"

    T: ClassVar = VarConstraint("T", AnyAttr())
    val = operand_def(T)
    res = result_def(T)
    traits = traits_def(Pure())
    assembly_format = "$val attr-dict `:` type($val)"

    def __init__(self, value: SSAValue):
        super().__init__(operands=[value], result_types=[value.type])


@irdl_op_definition
class UIToFPOp(llvm.GenericCastOp):
    """Unsigned integer to float."""

    name = "llvm.uitofp"


@irdl_op_definition
class FPToSIOp(llvm.GenericCastOp):
    """Float to signed integer, toward zero; a value that does not fit gives poison."""

    name = "llvm.fptosi"


@irdl_op_definition
class FPToUIOp(llvm.GenericCastOp):
    """Float to unsigned integer, toward zero; a value that does not fit gives poison."""

    name = "llvm.fptoui"


class _UnaryFloatIntrinsic(IRDLOperation):
    """An intrinsic of one float scalar or vector."""

    T: ClassVar = VarConstraint("T", FloatLike)
    arg = operand_def(T)
    res = result_def(T)
    fastmathFlags = prop_def(llvm.FastMathAttr, default_value=NO_FASTMATH)  # noqa: N815 - upstream's property name

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "`(` operands `)` attr-dict `:` functional-type(operands, results)"
    traits = traits_def(Pure())

    def __init__(self, arg: SSAValue, fast_math: llvm.FastMathAttr = NO_FASTMATH):
        super().__init__(operands=[arg], result_types=[arg.type], properties={"fastmathFlags": fast_math})


@irdl_op_definition
class TruncIntrinsicOp(_UnaryFloatIntrinsic):
    """Round toward zero to an integer."""

    name = "llvm.intr.trunc"


@irdl_op_definition
class RoundIntrinsicOp(_UnaryFloatIntrinsic):
    """Round to the nearest integer, halfway cases away from zero."""

    name = "llvm.intr.round"


@irdl_op_definition
class RoundEvenIntrinsicOp(_UnaryFloatIntrinsic):
    """Round to the nearest integer, halfway cases to even."""

    name = "llvm.intr.roundeven"


class _BinaryFloatIntrinsic(IRDLOperation):
    """An intrinsic of two float scalars or vectors."""

    T: ClassVar = VarConstraint("T", FloatLike)
    lhs = operand_def(T)
    rhs = operand_def(T)
    res = result_def(T)
    fastmathFlags = prop_def(llvm.FastMathAttr, default_value=NO_FASTMATH)  # noqa: N815 - upstream's property name

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "`(` operands `)` attr-dict `:` functional-type(operands, results)"
    traits = traits_def(Pure())

    def __init__(self, lhs: SSAValue, rhs: SSAValue, fast_math: llvm.FastMathAttr = NO_FASTMATH):
        super().__init__(operands=[lhs, rhs], result_types=[lhs.type], properties={"fastmathFlags": fast_math})


@irdl_op_definition
class MaximumOp(_BinaryFloatIntrinsic):
    """IEEE 754-2019 maximum: a NaN operand gives NaN, -0 is less than +0."""

    name = "llvm.intr.maximum"


@irdl_op_definition
class MinimumOp(_BinaryFloatIntrinsic):
    """IEEE 754-2019 minimum: a NaN operand gives NaN, -0 is less than +0."""

    name = "llvm.intr.minimum"


class _BinaryIntegerIntrinsic(IRDLOperation):
    """An intrinsic of two integer scalars or vectors."""

    T: ClassVar = VarConstraint("T", IntegerLike)
    lhs = operand_def(T)
    rhs = operand_def(T)
    res = result_def(T)

    assembly_format = "`(` operands `)` attr-dict `:` functional-type(operands, results)"
    traits = traits_def(Pure())

    def __init__(self, lhs: SSAValue, rhs: SSAValue):
        super().__init__(operands=[lhs, rhs], result_types=[lhs.type])


@irdl_op_definition
class SMaxOp(_BinaryIntegerIntrinsic):
    """Signed maximum."""

    name = "llvm.intr.smax"


@irdl_op_definition
class SMinOp(_BinaryIntegerIntrinsic):
    """Signed minimum."""

    name = "llvm.intr.smin"


@irdl_op_definition
class UMaxOp(_BinaryIntegerIntrinsic):
    """Unsigned maximum."""

    name = "llvm.intr.umax"


@irdl_op_definition
class UMinOp(_BinaryIntegerIntrinsic):
    """Unsigned minimum."""

    name = "llvm.intr.umin"


# As upstream; without it xDSL numbers the values of a module's functions as if they were one.
llvm.FuncOp.traits.add_trait(IsolatedFromAbove())

_OURS: Sequence[type[Operation]] = (
    ExtractElementOp,
    FCmpOp,
    FPToSIOp,
    FPToUIOp,
    FreezeOp,
    MaskedLoadOp,
    MaskedStoreOp,
    MaximumOp,
    MinimumOp,
    PoisonOp,
    RoundEvenIntrinsicOp,
    RoundIntrinsicOp,
    SMaxOp,
    SMinOp,
    SelectOp,
    TruncIntrinsicOp,
    UIToFPOp,
    UMaxOp,
    UMinOp,
)
_OUR_NAMES = {op.name for op in _OURS}

Llvm = Dialect(
    "llvm",
    [op for op in llvm.LLVM.operations if op.name not in _OUR_NAMES] + list(_OURS),
    [*llvm.LLVM.attributes, X86AmxType],
)
