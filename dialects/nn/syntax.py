"""The common form of ``nn`` operations in text, and what their classes share.

    nn.<name> <operands and words of the operation> [fastmath<flags>] [{attributes}] : <types> [-> <result type>]

The result type is printed where it differs from the first operand's type. In the input it may be left out wherever the
operands determine it: ``nn.reshape``, ``nn.broadcast`` and ``nn.cast`` always have it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar, cast

from xdsl.dialects.arith import FastMathFlagsAttr
from xdsl.dialects.builtin import StringAttr, TensorType
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import IRDLOperation
from xdsl.parser import Parser, UnresolvedOperand
from xdsl.printer import Printer

from crosstile.dialects.nn.shapes import AnyTensor, require_type
from crosstile.dialects.precision import parse_precision

NO_FLAGS = FastMathFlagsAttr("none")
"""The flags of elementwise operations and contractions that state none."""
REASSOC = FastMathFlagsAttr((FastMathFlag.REASSOC,))
"""The flags of row reductions that state none: their order of summation is the compiler's."""

OpT = TypeVar("OpT", bound="NnOp")


class NnOp(IRDLOperation, ABC):
    """An operation of this level: one result, pure, its type inferred by ``inferred_type``."""

    DEFAULT_FASTMATH: ClassVar[FastMathFlagsAttr] = NO_FLAGS

    @abstractmethod
    def inferred_type(self) -> AnyTensor:
        """The result type that operands and properties give; a VerifyException if they do not fit together."""

    def verify_(self) -> None:
        require_type(self.inferred_type(), self.results[0].type)

    def print_end(self, printer: Printer, operands: Sequence[SSAValue], always_result: bool = False) -> None:
        """Print flags, attributes, the types of ``operands``, and the result's if it differs or ``always_result``."""
        flags = self.properties.get("fastmath")
        if isinstance(flags, FastMathFlagsAttr) and flags != self.DEFAULT_FASTMATH:
            printer.print_string(" fastmath")
            flags.print_parameter(printer)
        printer.print_op_attributes(self.attributes)
        printer.print_string(" : ")
        printer.print_list([operand.type for operand in operands], printer.print_attribute)
        if always_result or self.results[0].type != operands[0].type:
            printer.print_string(" -> ")
            printer.print_attribute(self.results[0].type)


class Parsed:
    """The parts of an operation's text that all of them have, read in order from ``parser``."""

    def __init__(self, parser: Parser, op: type[NnOp]):
        self.parser = parser
        self.op = op
        self.fastmath = op.DEFAULT_FASTMATH
        self.attributes: dict[str, Attribute] = {}
        self.precision: StringAttr | None = None
        self.result: AnyTensor | None = None

    def operand_list(self) -> list[UnresolvedOperand]:
        """Operands separated by commas."""
        return self.parser.parse_comma_separated_list(
            self.parser.Delimiter.NONE, self.parser.parse_unresolved_operand, " for the operands"
        )

    def operands(self, count: int) -> list[UnresolvedOperand]:
        """Exactly ``count`` operands separated by commas."""
        position = self.parser.pos
        found = self.operand_list()
        if len(found) != count:
            plural = "" if count == 1 else "s"
            self.parser.raise_error(
                f"'{self.op.name}' takes {count} operand{plural}, found {len(found)}", position, self.parser.pos
            )
        return found

    def integers(self) -> list[int]:
        """A list of integers in brackets."""
        return self.parser.parse_comma_separated_list(self.parser.Delimiter.SQUARE, self.parser.parse_integer)

    def integers_after(self, keyword: str) -> list[int]:
        """``keyword [1, 2]``."""
        self.parser.parse_keyword(keyword)
        return self.integers()

    def size_operands(self) -> list[UnresolvedOperand]:
        """``sizes [%n, %m]``, or nothing."""
        if not self.word("sizes"):
            return []
        return self.parser.parse_comma_separated_list(
            self.parser.Delimiter.SQUARE, self.parser.parse_unresolved_operand
        )

    def word(self, word: str) -> bool:
        """Whether ``word`` stands here."""
        return self.parser.parse_optional_keyword(word) is not None

    def flags_and_attributes(self) -> None:
        """``precision tf32`` and ``fastmath<...>``, if the operation has them, and ``{...}``, all optional."""
        if "precision" in self.op.get_irdl_definition().properties:
            self.precision = parse_precision(self.parser)
        if "fastmath" in self.op.get_irdl_definition().properties and self.word("fastmath"):
            self.fastmath = FastMathFlagsAttr(FastMathFlagsAttr.parse_parameter(self.parser))
        self.attributes = self.attributes | self.parser.parse_optional_attr_dict()

    def take(self, name: str) -> Any:
        """The attribute ``name`` of the dictionary, which is a property of the operation; None if it is not there."""
        return self.attributes.pop(name, None)

    def types(self, operands: Sequence[UnresolvedOperand]) -> list[SSAValue]:
        """``: types [-> type]``; the operands resolved."""
        self.parser.parse_punctuation(":", " before the types of the operands")
        position = self.parser.pos
        types = self.parser.parse_comma_separated_list(self.parser.Delimiter.NONE, self._tensor)
        values = self.parser.resolve_operands(operands, types, position)
        if self.parser.parse_optional_punctuation("->"):
            self.result = self._tensor()
        return list(values)

    def explicit_result(self) -> AnyTensor:
        """The result type, for operations whose operands do not determine it."""
        if self.result is None:
            self.parser.raise_error(f"expected '->' and the result type, which '{self.op.name}' cannot infer")
        return self.result

    def finish(self, op: OpT) -> OpT:
        """``op`` with the attributes of the text; its type must be the one that was written, if one was."""
        if self.result is not None:
            require_type(cast(AnyTensor, op.results[0].type), self.result)
        op.attributes |= self.attributes
        return op

    def _tensor(self) -> AnyTensor:
        position = self.parser.pos
        type_ = self.parser.parse_type()
        if not isinstance(type_, TensorType):
            self.parser.raise_error(f"expected a ranked tensor type, found {type_}", position, self.parser.pos)
        return cast(AnyTensor, type_)


def decimal(value: float) -> str:
    """The shortest decimal that reads back as ``value``, with the point that MLIR's floats must have."""
    mantissa, exponent, power = repr(value).partition("e")
    return (mantissa if "." in mantissa else f"{mantissa}.0") + exponent + power
