"""``nest.kernel``: the nests that become one launch, and the schedules to choose from; ``nest.call``: a kernel by name.

%y = nest.kernel @relu (%a = %x : tensor<?x64xf32>) -> (tensor<?x64xf32>)
    schedules [M <= 4 : #nest.schedule<loops = [m : 4]>, #nest.schedule<loops = [m : 8]>] {
  ...
  nest.yield %r : tensor<?x64xf32>
}
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import ArrayAttr, StringAttr, SymbolRefAttr, TensorType
from xdsl.ir import Attribute, Block, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    opt_prop_def,
    prop_def,
    region_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import IsolatedFromAbove, Pure
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.nest.generic import GenericOp, YieldOp
from crosstile.dialects.nest.schedule import GuardedScheduleAttr


@irdl_op_definition
class KernelOp(IRDLOperation):
    """Nests that are fused into one launch. The block arguments stand for the inputs; the body ends in a yield.

    ``schedules`` (if chosen yet) is tried in order; the names in it are iterators of the *root* nest: the first
    contraction, or else the first reduction or scan, or else the first nest with the most iterators.
    """

    name = "nest.kernel"

    inputs = var_operand_def(TensorType)
    kernel_name = prop_def(StringAttr)
    schedules = opt_prop_def(ArrayAttr[GuardedScheduleAttr])
    body = region_def("single_block")
    results_ = var_result_def(TensorType)

    traits = traits_def(IsolatedFromAbove(), Pure())

    def __init__(
        self,
        kernel_name: str,
        inputs: Sequence[SSAValue],
        result_types: Sequence[Attribute],
        body: Region | Block,
        schedules: Sequence[GuardedScheduleAttr] | None = None,
    ):
        super().__init__(
            operands=[inputs],
            result_types=[result_types],
            properties={
                "kernel_name": StringAttr(kernel_name),
                "schedules": ArrayAttr(schedules) if schedules else None,
            },
            regions=[Region(body) if isinstance(body, Block) else body],
        )

    @property
    def generics(self) -> tuple[GenericOp, ...]:
        """The nests of the kernel, in order."""
        return tuple(op for op in self.body.block.ops if isinstance(op, GenericOp))

    @property
    def yield_op(self) -> YieldOp:
        """The terminator of the body."""
        terminator = self.body.block.last_op
        assert isinstance(terminator, YieldOp)
        return terminator

    def verify_(self) -> None:
        """See ``nest.verification``, which holds the rules."""
        from crosstile.dialects.nest.verification import verify_kernel

        verify_kernel(self)

    @classmethod
    def parse(cls, parser: Parser) -> KernelOp:
        """Parse the custom form of the module docstring."""
        name = parser.parse_symbol_name()

        def parse_input():
            argument = parser.parse_argument(expect_type=False)
            parser.parse_punctuation("=", " between a kernel's argument and the value it stands for")
            operand = parser.parse_unresolved_operand()
            parser.parse_punctuation(":", " between an input and its type")
            type_ = parser.parse_type()
            return argument.resolve(type_), parser.resolve_operand(operand, type_)

        inputs = parser.parse_comma_separated_list(parser.Delimiter.PAREN, parse_input, " for the inputs")
        parser.parse_punctuation("->", " before the types of the results")
        results = parser.parse_comma_separated_list(parser.Delimiter.PAREN, parser.parse_type)
        schedules: list[GuardedScheduleAttr] | None = None
        if parser.parse_optional_keyword("schedules"):
            schedules = parser.parse_comma_separated_list(
                parser.Delimiter.SQUARE, lambda: GuardedScheduleAttr.parse_body(parser)
            )
        attributes = parser.parse_optional_attr_dict_with_keyword()
        body = parser.parse_region([argument for argument, _ in inputs])
        op = cls(name.data, [value for _, value in inputs], results, body, schedules)
        if schedules is not None:
            op.schedules = ArrayAttr(schedules)
        if attributes is not None:
            op.attributes |= attributes.data
        return op

    def print(self, printer: Printer) -> None:
        """Print the custom form of the module docstring."""
        printer.print_string(" ")
        printer.print_symbol_name(self.kernel_name.data)
        printer.print_string(" (")
        for position, (argument, value) in enumerate(zip(self.body.block.args, self.inputs, strict=True)):
            printer.print_string(", " if position else "")
            printer.print_ssa_value(argument)
            printer.print_string(" = ")
            printer.print_operand(value)
            printer.print_string(" : ")
            printer.print_attribute(value.type)
        printer.print_string(") -> (")
        printer.print_list(self.result_types, printer.print_attribute)
        printer.print_string(")")
        if self.schedules is not None:
            printer.print_string(" schedules [")
            printer.print_list(self.schedules.data, lambda schedule: schedule.print_body(printer))
            printer.print_string("]")
        if self.attributes:
            printer.print_op_attributes(self.attributes, print_keyword=True)
        printer.print_string(" ")
        printer.print_region(self.body, print_entry_block_args=False)


@irdl_op_definition
class CallOp(IRDLOperation):
    """A tile kernel kept as text, called on tensors: ``%y = nest.call @top_k(%x) : (tensor<?xf32>) -> tensor<8xf32>``.

    The kernel takes the inputs, then the results, as memrefs; it is a ``tile.kernel`` of the module.
    """

    name = "nest.call"

    inputs = var_operand_def(TensorType)
    kernel = prop_def(SymbolRefAttr)
    results_ = var_result_def(TensorType)

    traits = traits_def(Pure())

    assembly_format = "$kernel `(` $inputs `)` attr-dict `:` functional-type($inputs, $results_)"

    def __init__(self, kernel: str | SymbolRefAttr, inputs: Sequence[SSAValue], result_types: Sequence[Attribute]):
        symbol = SymbolRefAttr(kernel) if isinstance(kernel, str) else kernel
        super().__init__(operands=[inputs], result_types=[result_types], properties={"kernel": symbol})

    def verify_(self) -> None:
        """The symbol is a plain name, and something is computed."""
        if self.kernel.nested_references.data:
            raise VerifyException(
                f"expects the name of a kernel of this module, got the nested reference {self.kernel}"
            )
        if not self.results_:
            raise VerifyException("expects at least one result: a kernel without results computes nothing")
