"""Elementwise operations: one value of the result from one value of each operand, which broadcast as in NumPy.

%h = nn.gelu %x approximate tanh : tensor<?x64xf32>
%y = nn.add %h, %b : tensor<?x64xf32>, tensor<64xf32>
%z = nn.cast %y : tensor<?x64xf32> -> tensor<?x64xf64>
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import ClassVar, Self, cast

from xdsl.dialects.arith import FastMathFlagsAttr
from xdsl.dialects.builtin import AnyFloat, DenseIntOrFPElementsAttr, StringAttr, TensorType
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.irdl import irdl_op_definition, operand_def, prop_def, result_def, traits_def
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import Commutative, ConstantLike, Pure
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.hints import isa

from crosstile.dialects.nn.canonicalization import CastPatterns
from crosstile.dialects.nn.shapes import (
    AnyTensor,
    broadcast_shapes,
    is_float,
    is_float8,
    require_element,
    require_float,
    require_number,
    require_same_elements,
    tensor_of,
)
from crosstile.dialects.nn.syntax import NO_FLAGS, NnOp, Parsed


@irdl_op_definition
class ConstantOp(NnOp):
    """A constant tensor: ``nn.constant dense<0.5> : tensor<f32>``. One of rank 0 broadcasts to every shape."""

    name = "nn.constant"

    value = prop_def(DenseIntOrFPElementsAttr)
    result = result_def(TensorType)

    traits = traits_def(Pure(), ConstantLike())

    def __init__(self, value: DenseIntOrFPElementsAttr):
        super().__init__(properties={"value": value}, result_types=[value.type])

    @classmethod
    def splat(cls, value: float, element: Attribute) -> ConstantOp:
        """The constant of rank 0 that holds ``value`` as an ``element``, a float or integer type."""
        # Any element type that a tensor of this level may have can be spelled densely.
        type_ = cast("TensorType[AnyFloat]", TensorType(element, []))
        return cls(DenseIntOrFPElementsAttr.from_list(type_, [value if is_float(element) else int(value)]))

    def inferred_type(self) -> AnyTensor:
        if not isa(self.value.type, AnyTensor):
            raise VerifyException(f"expects the elements of a tensor, got {self.value.type}")
        require_element("a constant", self.value.type)
        return self.value.type

    @classmethod
    def parse(cls, parser: Parser) -> ConstantOp:
        attributes = parser.parse_optional_attr_dict()
        position = parser.pos
        value = parser.parse_attribute()
        if not isa(value, DenseIntOrFPElementsAttr):
            parser.raise_error("expected dense<...> : tensor<...>", position, parser.pos)
        op = cls(value)
        op.attributes |= attributes
        return op

    def print(self, printer: Printer) -> None:
        printer.print_op_attributes(self.attributes)
        printer.print_string(" ")
        printer.print_attribute(self.value)


class UnaryOp(NnOp, ABC):
    """An operation on each element of one tensor of floats."""

    operand = operand_def(TensorType)
    fastmath = prop_def(FastMathFlagsAttr, default_value=NO_FLAGS)
    result = result_def(TensorType)

    traits = traits_def(Pure())

    TAKES_INTEGERS: ClassVar[bool] = False

    def __init__(self, operand: SSAValue | Operation, fastmath: FastMathFlagsAttr = NO_FLAGS):
        value = SSAValue.get(operand)
        super().__init__(operands=[value], result_types=[self.infer(value)], properties={"fastmath": fastmath})

    @classmethod
    def infer(cls, operand: SSAValue) -> AnyTensor:
        """The type of the operand."""
        type_ = tensor_of(operand)
        (require_number if cls.TAKES_INTEGERS else require_float)("an operand", type_)
        return type_

    def inferred_type(self) -> AnyTensor:
        return self.infer(self.operand)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        parsed = Parsed(parser, cls)
        operands = parsed.operands(1)
        parsed.flags_and_attributes()
        (operand,) = parsed.types(operands)
        return parsed.finish(cls(operand, parsed.fastmath))

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.operand)
        self.print_end(printer, [self.operand])


@irdl_op_definition
class NegOp(UnaryOp):
    """``-x``, the sign bit flipped."""

    name = "nn.neg"
    TAKES_INTEGERS: ClassVar[bool] = True


@irdl_op_definition
class AbsOp(UnaryOp):
    """``|x|``, the sign bit cleared."""

    name = "nn.abs"


@irdl_op_definition
class ExpOp(UnaryOp):
    """``e ** x``."""

    name = "nn.exp"


@irdl_op_definition
class LogOp(UnaryOp):
    """The natural logarithm; minus infinity at zero, NaN below."""

    name = "nn.log"


@irdl_op_definition
class TanhOp(UnaryOp):
    """The hyperbolic tangent."""

    name = "nn.tanh"


@irdl_op_definition
class ErfOp(UnaryOp):
    """The error function."""

    name = "nn.erf"


@irdl_op_definition
class SqrtOp(UnaryOp):
    """The square root; NaN below zero."""

    name = "nn.sqrt"


@irdl_op_definition
class RsqrtOp(UnaryOp):
    """``1 / sqrt(x)``; infinite at zero, NaN below."""

    name = "nn.rsqrt"


@irdl_op_definition
class ReluOp(UnaryOp):
    """``max(x, 0)``; NaN stays NaN."""

    name = "nn.relu"
    TAKES_INTEGERS: ClassVar[bool] = True


@irdl_op_definition
class SigmoidOp(UnaryOp):
    """``1 / (1 + exp(-x))``."""

    name = "nn.sigmoid"


@irdl_op_definition
class SiluOp(UnaryOp):
    """``x / (1 + exp(-x))``, also called swish."""

    name = "nn.silu"


@irdl_op_definition
class GeluOp(UnaryOp):
    """``x/2 * (1 + erf(x / sqrt(2)))``; with ``approximate tanh``, ``x/2 * (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))``.

    Source: Hendrycks and Gimpel, Gaussian Error Linear Units, arXiv 1606.08415.
    """

    name = "nn.gelu"

    approximate = prop_def(StringAttr, default_value=StringAttr("none"))

    def __init__(
        self,
        operand: SSAValue | Operation,
        approximate: StringAttr | str = "none",
        fastmath: FastMathFlagsAttr = NO_FLAGS,
    ):
        super().__init__(operand, fastmath)
        self.approximate = StringAttr(approximate) if isinstance(approximate, str) else approximate

    def verify_(self) -> None:
        super().verify_()
        if self.approximate.data not in ("none", "tanh"):
            raise VerifyException(f"approximate is none or tanh, got '{self.approximate.data}'")

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        parsed = Parsed(parser, cls)
        operands = parsed.operands(1)
        approximate = parser.parse_identifier(" none or tanh") if parsed.word("approximate") else "none"
        parsed.flags_and_attributes()
        (operand,) = parsed.types(operands)
        return parsed.finish(cls(operand, approximate, parsed.fastmath))

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.operand)
        if self.approximate.data != "none":
            printer.print_string(f" approximate {self.approximate.data}")
        self.print_end(printer, [self.operand])


class BinaryOp(NnOp, ABC):
    """An operation on the elements of two tensors of one element type, which broadcast."""

    lhs = operand_def(TensorType)
    rhs = operand_def(TensorType)
    fastmath = prop_def(FastMathFlagsAttr, default_value=NO_FLAGS)
    result = result_def(TensorType)

    traits = traits_def(Pure())

    TAKES_INTEGERS: ClassVar[bool] = True

    def __init__(self, lhs: SSAValue | Operation, rhs: SSAValue | Operation, fastmath: FastMathFlagsAttr = NO_FLAGS):
        values = SSAValue.get(lhs), SSAValue.get(rhs)
        super().__init__(operands=values, result_types=[self.infer(*values)], properties={"fastmath": fastmath})

    @classmethod
    def infer(cls, lhs: SSAValue, rhs: SSAValue) -> AnyTensor:
        """The operands' element type and the shape they broadcast to."""
        types = [tensor_of(lhs), tensor_of(rhs)]
        for type_ in types:
            (require_number if cls.TAKES_INTEGERS else require_float)("operands", type_)
        return TensorType(require_same_elements(types), broadcast_shapes(types))

    def inferred_type(self) -> AnyTensor:
        return self.infer(self.lhs, self.rhs)

    @classmethod
    def parse(cls, parser: Parser) -> Self:
        parsed = Parsed(parser, cls)
        operands = parsed.operands(2)
        parsed.flags_and_attributes()
        lhs, rhs = parsed.types(operands)
        return parsed.finish(cls(lhs, rhs, parsed.fastmath))

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_list(self.operands, printer.print_operand)
        self.print_end(printer, self.operands)


@irdl_op_definition
class AddOp(BinaryOp):
    """``lhs + rhs``."""

    name = "nn.add"
    traits = traits_def(Commutative())


@irdl_op_definition
class SubOp(BinaryOp):
    """``lhs - rhs``."""

    name = "nn.sub"


@irdl_op_definition
class MulOp(BinaryOp):
    """``lhs * rhs``."""

    name = "nn.mul"
    traits = traits_def(Commutative())


@irdl_op_definition
class DivOp(BinaryOp):
    """``lhs / rhs``, of floats."""

    name = "nn.div"
    TAKES_INTEGERS: ClassVar[bool] = False


@irdl_op_definition
class MaxOp(BinaryOp):
    """The larger of two; NaN if either is, and 0.0 is larger than -0.0 (IEEE 754-2019 maximum)."""

    name = "nn.max"
    traits = traits_def(Commutative())


@irdl_op_definition
class MinOp(BinaryOp):
    """The smaller of two; NaN if either is, and -0.0 is smaller than 0.0 (IEEE 754-2019 minimum)."""

    name = "nn.min"
    traits = traits_def(Commutative())


@irdl_op_definition
class CastOp(NnOp):
    """The same tensor in another element type: ``nn.cast %x : tensor<?xf32> -> tensor<?xf64>``.

    To a narrower float rounds to nearest even, to an integer toward zero; i1 is 0 or 1.
    """

    name = "nn.cast"

    operand = operand_def(TensorType)
    result = result_def(TensorType)

    traits = traits_def(Pure(), CastPatterns())

    def __init__(self, operand: SSAValue | Operation, element: Attribute):
        value = SSAValue.get(operand)
        super().__init__(operands=[value], result_types=[self.infer(value, element)])

    @staticmethod
    def infer(operand: SSAValue, element: Attribute) -> AnyTensor:
        """The operand's shape with elements of type ``element``."""
        type_ = tensor_of(operand)
        result = TensorType(element, type_.get_shape())
        if not is_float8(type_.element_type):
            require_element("an operand", type_)
        elif not is_float(element):
            raise VerifyException(f"expects a result of f16, bf16, f32 or f64 elements from {type_}, got {element}")
        require_element("a result", result)
        return result

    def inferred_type(self) -> AnyTensor:
        return self.infer(self.operand, tensor_of(self.result).element_type)

    @classmethod
    def parse(cls, parser: Parser) -> CastOp:
        parsed = Parsed(parser, cls)
        operands = parsed.operands(1)
        parsed.flags_and_attributes()
        (operand,) = parsed.types(operands)
        return parsed.finish(cls(operand, parsed.explicit_result().element_type))

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_operand(self.operand)
        self.print_end(printer, [self.operand], always_result=True)


UNARY: Sequence[type[UnaryOp]] = (
    NegOp,
    AbsOp,
    ExpOp,
    LogOp,
    TanhOp,
    ErfOp,
    SqrtOp,
    RsqrtOp,
    ReluOp,
    SigmoidOp,
    SiluOp,
    GeluOp,
)
BINARY: Sequence[type[BinaryOp]] = (AddOp, SubOp, MulOp, DivOp, MaxOp, MinOp)
