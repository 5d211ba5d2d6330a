"""Blocked loops of the tile level, and the terminator that loops and maps share.

%c = tile.for %k, %kc = %zero to %K step 512 balanced(8) iter_args(%acc = %init) -> (!tile.tile<8x32xf32>) {
  ...
  tile.yield %next : !tile.tile<8x32xf32>
}
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import (
    IndexType,
    IntegerAttr,
    UnitAttr,
)
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import (
    IsTerminator,
    Pure,
    RecursiveMemoryEffect,
    SingleBlockImplicitTerminator,
    ensure_terminator,
)
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.assembly import parse_index
from crosstile.dialects.tile.types import TileType, is_element_type


def add_terminator(op: Operation) -> None:
    """Give the body of ``op`` its implicit terminator if the text left it out."""
    for trait in op.get_traits_of_type(SingleBlockImplicitTerminator):
        ensure_terminator(op, trait)


def verify_block_arguments(block: Block, expected: Sequence[Attribute]) -> None:
    """The arguments of ``block`` have the types ``expected``."""
    if tuple(block.arg_types) != tuple(expected):
        found = ", ".join(map(str, block.arg_types))
        raise VerifyException(f"its body takes ({found}), expected ({', '.join(map(str, expected))})")


@irdl_op_definition
class YieldOp(IRDLOperation):
    """Ends the body of a loop or a map and gives its values."""

    name = "tile.yield"
    arguments = var_operand_def()
    traits = traits_def(IsTerminator(), Pure())
    assembly_format = "attr-dict ($arguments^ `:` type($arguments))?"

    def __init__(self, *arguments: SSAValue):
        super().__init__(operands=[list(arguments)])


@irdl_op_definition
class ForOp(IRDLOperation):
    """A loop over blocks; the body gets each block's start and extent, and the loop-carried values.

        %c = tile.for %k, %kc = %lower to %upper step 64 iter_args(%acc = %zero) -> (!tile.tile<8x32xf32>) { ... }

    Without ``balanced`` every block has ``step`` elements and the last one what is left. ``balanced(g)`` cuts n
    elements into ceil(n / step) blocks of the same size, a multiple of g; the last is shorter. With no trip the results
    are the initial values. ``pipeline(n)`` asks for the stages of n trips to be in flight, and ``pipeline(n) role`` for
    warps that do nothing else but copy them, in whole blocks; neither changes a result.
    """

    name = "tile.for"
    lower_bound = operand_def(IndexType)
    upper_bound = operand_def(IndexType)
    iter_args = var_operand_def()
    step = prop_def(IntegerAttr)
    balanced = opt_prop_def(IntegerAttr)
    pipeline = opt_prop_def(IntegerAttr)
    role = opt_prop_def(UnitAttr)
    body = region_def("single_block")
    results_ = var_result_def()
    traits = traits_def(RecursiveMemoryEffect(), SingleBlockImplicitTerminator(YieldOp))

    def __init__(
        self,
        lower_bound: SSAValue,
        upper_bound: SSAValue,
        step: int,
        iter_args: Sequence[SSAValue],
        body: Region | Block,
        balanced: int | None = None,
        pipeline: int | None = None,
        role: bool = False,
    ):
        index = IndexType()
        super().__init__(
            operands=[lower_bound, upper_bound, iter_args],
            properties={
                "step": IntegerAttr(step, index),
                "balanced": None if balanced is None else IntegerAttr(balanced, index),
                "pipeline": None if pipeline is None else IntegerAttr(pipeline, index),
                "role": UnitAttr() if role else None,
            },
            regions=[Region(body) if isinstance(body, Block) else body],
            result_types=[[value.type for value in iter_args]],
        )

    @property
    def yield_op(self) -> YieldOp:
        """The terminator of the body."""
        terminator = self.body.block.last_op
        assert isinstance(terminator, YieldOp)
        return terminator

    def verify_(self) -> None:
        for what, value in (("step", self.step), ("balanced", self.balanced), ("pipeline", self.pipeline)):
            if value is not None and value.value.data <= 0:
                raise VerifyException(f"{what} must be positive, found {value.value.data}")
        if self.role is not None and self.pipeline is None:
            raise VerifyException("'role' says who stages ahead; expects pipeline(n) before it")
        if self.balanced is not None and self.step.value.data % self.balanced.value.data:
            raise VerifyException(
                f"balanced({self.balanced.value.data}) must divide step {self.step.value.data}, "
                "or a block could exceed the step"
            )
        types = [value.type for value in self.iter_args]
        for type_ in types:
            if not isinstance(type_, TileType) and not is_element_type(type_):
                raise VerifyException(f"carries a {type_}; a loop carries tiles and scalars")
        verify_block_arguments(self.body.block, [IndexType(), IndexType(), *types])
        if list(self.result_types) != types:
            raise VerifyException("has results of other types than its initial values")
        yielded = [value.type for value in self.yield_op.arguments]
        if yielded != types:
            raise VerifyException(
                f"yields ({', '.join(map(str, yielded))}), but carries ({', '.join(map(str, types))})"
            )

    @classmethod
    def parse(cls, parser: Parser) -> ForOp:
        """Parse the form of the class docstring."""
        start = parser.parse_argument(expect_type=False)
        parser.parse_punctuation(",", " between the start and the extent of a block")
        extent = parser.parse_argument(expect_type=False)
        parser.parse_punctuation("=")
        lower = parse_index(parser)
        parser.parse_keyword("to")
        upper = parse_index(parser)
        parser.parse_keyword("step")
        step = parser.parse_integer(allow_boolean=False)
        balanced = _parse_option(parser, "balanced")
        arguments = [start.resolve(IndexType()), extent.resolve(IndexType())]
        iter_args: list[SSAValue] = []
        if parser.parse_optional_keyword("iter_args"):
            position = parser.pos
            pairs = parser.parse_comma_separated_list(parser.Delimiter.PAREN, lambda: _parse_assignment(parser))
            parser.parse_punctuation("->", " before the types of the loop-carried values")
            types = parser.parse_comma_separated_list(parser.Delimiter.PAREN, parser.parse_type)
            if len(types) != len(pairs):
                parser.raise_error(f"{len(pairs)} loop-carried values have {len(types)} types", position)
            for (argument, operand), type_ in zip(pairs, types, strict=True):
                arguments.append(argument.resolve(type_))
                iter_args.append(parser.resolve_operand(operand, type_))
        pipeline = _parse_option(parser, "pipeline")
        role = pipeline is not None and parser.parse_optional_keyword("role") is not None
        attributes = parser.parse_optional_attr_dict_with_keyword()
        op = cls(lower, upper, step, iter_args, parser.parse_region(arguments), balanced, pipeline, role)
        if attributes is not None:
            op.attributes |= attributes.data
        if not iter_args:
            add_terminator(op)
        return op

    def print(self, printer: Printer) -> None:
        """Print the form of the class docstring."""
        start, extent, *carried = self.body.block.args
        printer.print_string(" ")
        printer.print_ssa_value(start)
        printer.print_string(", ")
        printer.print_ssa_value(extent)
        printer.print_string(" = ")
        printer.print_operand(self.lower_bound)
        printer.print_string(" to ")
        printer.print_operand(self.upper_bound)
        printer.print_string(f" step {self.step.value.data}")
        if self.balanced is not None:
            printer.print_string(f" balanced({self.balanced.value.data})")
        if carried:
            printer.print_string(" iter_args(")
            for position, (argument, value) in enumerate(zip(carried, self.iter_args, strict=True)):
                printer.print_string(", " if position else "")
                printer.print_ssa_value(argument)
                printer.print_string(" = ")
                printer.print_operand(value)
            printer.print_string(") -> (")
            printer.print_list(self.result_types, printer.print_attribute)
            printer.print_string(")")
        if self.pipeline is not None:
            printer.print_string(f" pipeline({self.pipeline.value.data})")
            printer.print_string(" role" if self.role is not None else "")
        if self.attributes:
            printer.print_op_attributes(self.attributes, print_keyword=True)
        printer.print_string(" ")
        printer.print_region(self.body, print_entry_block_args=False, print_block_terminators=bool(carried))


def _parse_option(parser: Parser, keyword: str) -> int | None:
    if parser.parse_optional_keyword(keyword) is None:
        return None
    with parser.in_parens():
        return parser.parse_integer(allow_boolean=False)


def _parse_assignment(parser: Parser):
    argument = parser.parse_argument(expect_type=False)
    parser.parse_punctuation("=", " between a loop-carried value and its initial value")
    return argument, parser.parse_unresolved_operand()
