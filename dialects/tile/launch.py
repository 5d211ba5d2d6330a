"""What a host function says about kernels: launch this one on these memrefs, in this stage."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    IndexType,
    IntegerAttr,
    IntegerType,
    MemRefType,
    SymbolRefAttr,
    i64,
)
from xdsl.ir import Attribute, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    opt_prop_def,
    prop_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import (
    SymbolTable,
)
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.hints import isa

ALIGNMENT = "crosstile.alignment"
"""The attribute of a kernel whose arguments begin at multiples of so many bytes, and whose rows do."""

KERNELS = ("tile.kernel", "mma.kernel")
"""What can be launched: a launch stays as it is while its kernel goes down the levels."""

DEVICE_KERNEL = "nvvm.kernel"
"""What marks a function that is a kernel of a device."""


@irdl_op_definition
class LaunchOp(IRDLOperation):
    """On the host: run a kernel, ``tile.launch @matmul(%a, %b, %c : memref<...>, ...) {stage = 0}``.

    ``stage`` orders the launches of a host function; all workers finish one stage before the next begins.
    """

    name = "tile.launch"
    kernel = prop_def(SymbolRefAttr)
    arguments = var_operand_def()
    stage = opt_prop_def(IntegerAttr)

    def __init__(self, kernel: str | SymbolRefAttr, arguments: Sequence[SSAValue], stage: int | None = None):
        super().__init__(
            operands=[arguments],
            properties={
                "kernel": SymbolRefAttr(kernel) if isinstance(kernel, str) else kernel,
                "stage": None if stage is None else IntegerAttr(stage, IndexType()),
            },
        )

    def verify_(self) -> None:
        if self.stage is not None and self.stage.value.data < 0:
            raise VerifyException(f"stage must not be negative, found {self.stage.value.data}")
        kernel = SymbolTable.lookup_symbol(self, self.kernel)
        if kernel is not None and DEVICE_KERNEL in kernel.attributes:
            return  # it takes pointers and sizes, which its own attributes explain
        if kernel is None or kernel.name not in KERNELS:
            found = "nothing" if kernel is None else f"a '{kernel.name}'"
            raise VerifyException(f"{self.kernel} must name a {' or '.join(map(repr, KERNELS))}, found {found}")
        parameters = list(kernel.regions[0].block.arg_types)
        if len(parameters) != len(self.arguments):
            raise VerifyException(f"{self.kernel} takes {len(parameters)} arguments, found {len(self.arguments)}")
        for position, (expected, argument) in enumerate(zip(parameters, self.arguments, strict=True)):
            if not compatible(argument.type, expected):
                raise VerifyException(
                    f"argument {position} of {self.kernel} is a {expected}, found an incompatible {argument.type}"
                )

    @classmethod
    def parse(cls, parser: Parser) -> LaunchOp:
        """Parse the form of the class docstring."""
        name = parser.parse_symbol_name()
        arguments: list[SSAValue] = []
        with parser.in_parens():
            position = parser.pos
            if (first := parser.parse_optional_unresolved_operand()) is not None:
                operands = [first]
                while parser.parse_optional_punctuation(","):
                    operands.append(parser.parse_unresolved_operand())
                parser.parse_punctuation(":")
                types = parser.parse_comma_separated_list(parser.Delimiter.NONE, parser.parse_type)
                arguments = list(parser.resolve_operands(operands, types, position))
        op = cls(name.data, arguments)
        attributes = parser.parse_optional_attr_dict()
        stage = attributes.pop("stage", None)
        if isa(stage, IntegerAttr[IntegerType] | IntegerAttr[IndexType]):
            op.stage = IntegerAttr(stage.value.data, IndexType())
        elif stage is not None:
            parser.raise_error(f"expected an integer stage, found {stage}")
        op.attributes |= attributes
        return op

    def print(self, printer: Printer) -> None:
        """Print the form of the class docstring."""
        printer.print_string(" ")
        printer.print_attribute(self.kernel)
        printer.print_string("(")
        if self.arguments:
            printer.print_list(self.arguments, printer.print_operand)
            printer.print_string(" : ")
            printer.print_list([argument.type for argument in self.arguments], printer.print_attribute)
        printer.print_string(")")
        stage = {} if self.stage is None else {"stage": IntegerAttr(self.stage.value.data, i64)}
        printer.print_op_attributes(stage | self.attributes)


def compatible(found: Attribute, expected: Attribute) -> bool:
    """Whether a value of type ``found`` may be passed for ``expected``: equal, or memrefs that differ only in ``?``."""
    if found == expected:
        return True
    if not isa(found, MemRefType) or not isa(expected, MemRefType):
        return False
    shapes = zip(found.get_shape(), expected.get_shape(), strict=False)
    return (
        found.element_type == expected.element_type
        and found.get_num_dims() == expected.get_num_dims()
        and found.layout == expected.layout
        and all(DYNAMIC_INDEX in pair or pair[0] == pair[1] for pair in shapes)
    )
