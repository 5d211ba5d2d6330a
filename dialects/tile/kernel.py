"""Kernels of the tile level: the function, its grid or workers, the sizes of its arguments.

tile.kernel @scale(%x : memref<?xf32>, %factor : f32) {
  %zero = arith.constant 0 : index
  %n = tile.dim %x, 0 : memref<?xf32>
  tile.parallel (%i), (%ic) = (%zero) to (%n) step (64) {
    %w = tile.window %x[%i] extent [%ic] : memref<?xf32> -> !tile.window<64xf32>
    ...
  }
  tile.return
}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from xdsl.dialects.builtin import (
    DenseArrayBase,
    IndexType,
    IntegerAttr,
    MemRefType,
    StringAttr,
    UnitAttr,
    i64,
)
from xdsl.ir import Block, BlockArgument, Region, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import (
    HasParent,
    IsolatedFromAbove,
    IsTerminator,
    Pure,
    RecursiveMemoryEffect,
    SingleBlockImplicitTerminator,
    SymbolOpInterface,
)
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.assembly import dense_values, parse_attributes, parse_index
from crosstile.dialects.grid_order import ANY_ORDER, GridOrder
from crosstile.dialects.tile.loops import YieldOp, add_terminator, verify_block_arguments
from crosstile.dialects.tile.types import is_element_type


@irdl_op_definition
class ReturnOp(IRDLOperation):
    """Ends a kernel."""

    name = "tile.return"
    traits = traits_def(IsTerminator(), Pure())
    assembly_format = "attr-dict"

    def __init__(self):
        super().__init__()


@irdl_op_definition
class KernelOp(IRDLOperation):
    """One launch: a function of memrefs, indices and scalars that returns nothing and holds at most one parallel.

    A memref argument is contiguous unless its type states strides, and overlaps no other that is written.
    """

    name = "tile.kernel"
    sym_name = prop_def(StringAttr)
    body = region_def("single_block")
    traits = traits_def(IsolatedFromAbove(), SymbolOpInterface(), SingleBlockImplicitTerminator(ReturnOp))

    def __init__(self, name: str, body: Region | Block):
        region = Region(body) if isinstance(body, Block) else body
        super().__init__(properties={"sym_name": StringAttr(name)}, regions=[region])

    @property
    def parallel(self) -> ParallelOp | None:
        """The kernel's one parallel loop."""
        return next((op for op in self.body.block.ops if isinstance(op, ParallelOp)), None)

    def verify_(self) -> None:
        for position, argument in enumerate(self.body.block.args):
            if not isinstance(argument.type, MemRefType) and not is_element_type(argument.type):
                raise VerifyException(
                    f"argument {position} is a {argument.type}; a kernel takes memrefs, indices and scalars"
                )
        loops = [op for op in self.body.walk() if isinstance(op, ParallelOp)]
        if len(loops) > 1:
            raise VerifyException(
                f"has {len(loops)} 'tile.parallel'; a kernel has at most one, because nothing synchronises the "
                "workers between two: make it two kernels"
            )
        if loops and any(op.name == "tile.store" for op in self.body.block.ops):
            raise VerifyException(
                "stores outside its 'tile.parallel', where every worker would write the same elements"
            )

    @classmethod
    def parse(cls, parser: Parser) -> KernelOp:
        """Parse the form of the module docstring."""
        name = parser.parse_symbol_name()
        arguments = parser.parse_comma_separated_list(parser.Delimiter.PAREN, parser.parse_argument)
        attributes = parser.parse_optional_attr_dict_with_keyword()
        op = cls(name.data, parser.parse_region(arguments))
        if attributes is not None:
            op.attributes |= attributes.data
        add_terminator(op)
        return op

    def print(self, printer: Printer) -> None:
        """Print the form of the module docstring."""
        printer.print_string(" ")
        printer.print_symbol_name(self.sym_name.data)
        printer.print_string("(")
        printer.print_list(self.body.block.args, lambda argument: _print_argument(printer, argument))
        printer.print_string(")")
        if self.attributes:
            printer.print_op_attributes(self.attributes, print_keyword=True)
        printer.print_string(" ")
        printer.print_region(self.body, print_entry_block_args=False)


def _print_argument(printer: Printer, argument: BlockArgument) -> None:
    printer.print_ssa_value(argument)
    printer.print_string(" : ")
    printer.print_attribute(argument.type)


@irdl_op_definition
class ParallelOp(IRDLOperation):
    """The grid or the workers of a kernel. Instances run in any order and concurrently; no two write one element.

    Workers, each with one contiguous range of whole grains; the block arguments are its begin and end::

        tile.parallel %i0 to %i1 = %lower to %upper grain 8 { ... }

    A grid of blocks; the block arguments are the starts, then the extents, which are shorter at the end::

        tile.parallel (%i, %j), (%mc, %nc) = (%l0, %l1) to (%M, %N) step (128, 256) raster 8 { ... }

    What may follow the steps, the order of the instances, is explained in ``dialects/grid_order.py``.
    """

    name = "tile.parallel"
    lower_bounds = var_operand_def(IndexType)
    upper_bounds = var_operand_def(IndexType)
    steps = opt_prop_def(DenseArrayBase)
    grain = opt_prop_def(IntegerAttr)
    raster = opt_prop_def(IntegerAttr)
    descending = opt_prop_def(UnitAttr)
    cluster = opt_prop_def(DenseArrayBase)
    persistent = opt_prop_def(IntegerAttr)
    body = region_def("single_block")
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    traits = traits_def(RecursiveMemoryEffect(), HasParent(KernelOp), SingleBlockImplicitTerminator(YieldOp))

    def __init__(
        self,
        lower_bounds: Sequence[SSAValue],
        upper_bounds: Sequence[SSAValue],
        body: Region | Block,
        steps: Sequence[int] | None = None,
        grain: int | None = None,
        order: GridOrder = ANY_ORDER,
    ):
        region = Region(body) if isinstance(body, Block) else body
        super().__init__(
            operands=[lower_bounds, upper_bounds],
            properties={
                "steps": None if steps is None else DenseArrayBase.from_list(i64, steps),
                "grain": None if grain is None else IntegerAttr(grain, IndexType()),
                **order.properties(),
            },
            regions=[region],
        )

    @property
    def grid_steps(self) -> list[int]:
        """The steps of the grid, empty if the loop is over workers."""
        return [] if self.steps is None else dense_values(self.steps)

    @property
    def order(self) -> GridOrder:
        """In which order the instances of a grid are run."""
        return GridOrder.of_properties(self.properties)

    def verify_(self) -> None:
        rank = len(self.lower_bounds)
        if len(self.upper_bounds) != rank or not rank:
            raise VerifyException(f"has {rank} lower and {len(self.upper_bounds)} upper bounds; it needs one of each")
        if (self.steps is None) == (self.grain is None):
            raise VerifyException("has either steps (a grid of blocks) or a grain (ranges for workers)")
        if self.grain is not None and (rank != 1 or self.grain.value.data <= 0):
            found = f"{rank} and {self.grain.value.data}"
            raise VerifyException(f"ranges for workers have 1 dimension and a positive grain, found {found}")
        steps = self.grid_steps
        if self.steps is not None and (len(steps) != rank or any(step <= 0 for step in steps)):
            raise VerifyException(f"a grid of {rank} dimensions needs {rank} positive steps, found {steps}")
        self.order.verify(len(steps))
        verify_block_arguments(self.body.block, [IndexType()] * (2 * rank))
        if self.body.block.last_op is None or self.body.block.last_op.operands:
            raise VerifyException("yields values, but a parallel loop has no results: store them")

    @classmethod
    def parse(cls, parser: Parser) -> ParallelOp:
        """Parse either form of the class docstring."""
        index = IndexType()
        steps: list[int] | None = None
        grain: int | None = None
        order = ANY_ORDER
        if first := parser.parse_optional_argument(expect_type=False):
            parser.parse_keyword("to", " between the begin and the end of a worker's range")
            arguments = [first.resolve(index), parser.parse_argument(expect_type=False).resolve(index)]
            parser.parse_punctuation("=")
            lower = [parse_index(parser)]
            parser.parse_keyword("to")
            upper = [parse_index(parser)]
            parser.parse_keyword("grain", " after the bounds of ranges for workers")
            grain = parser.parse_integer(allow_boolean=False)
        else:
            paren = parser.Delimiter.PAREN
            parse_name = lambda: parser.parse_argument(expect_type=False).resolve(index)  # noqa: E731
            starts = parser.parse_comma_separated_list(paren, parse_name)
            parser.parse_punctuation(",", " between the starts and the extents of a block")
            arguments = [*starts, *parser.parse_comma_separated_list(paren, parse_name)]
            parser.parse_punctuation("=")
            lower = parser.parse_comma_separated_list(paren, lambda: parse_index(parser))
            parser.parse_keyword("to")
            upper = parser.parse_comma_separated_list(paren, lambda: parse_index(parser))
            parser.parse_keyword("step", " after the bounds of a grid")
            steps = parser.parse_comma_separated_list(paren, lambda: parser.parse_integer(allow_boolean=False))
            order = GridOrder.parse(parser)
        attributes = parser.parse_optional_attr_dict_with_keyword()
        op = cls(lower, upper, parser.parse_region(arguments), steps, grain, order)
        if attributes is not None:
            op.attributes |= attributes.data
        add_terminator(op)
        return op

    def print(self, printer: Printer) -> None:
        """Print the form of the class docstring that applies."""
        arguments = self.body.block.args
        rank = len(self.lower_bounds)
        printer.print_string(" ")
        if self.grain is not None:
            printer.print_ssa_value(arguments[0])
            printer.print_string(" to ")
            printer.print_ssa_value(arguments[1])
            printer.print_string(" = ")
            printer.print_operand(self.lower_bounds[0])
            printer.print_string(" to ")
            printer.print_operand(self.upper_bounds[0])
            printer.print_string(f" grain {self.grain.value.data}")
        else:
            _print_list(printer, arguments[:rank])
            printer.print_string(", ")
            _print_list(printer, arguments[rank:])
            printer.print_string(" = ")
            _print_list(printer, self.lower_bounds)
            printer.print_string(" to ")
            _print_list(printer, self.upper_bounds)
            printer.print_string(f" step ({', '.join(map(str, self.grid_steps))}){self.order}")
        if self.attributes:
            printer.print_op_attributes(self.attributes, print_keyword=True)
        printer.print_string(" ")
        printer.print_region(self.body, print_entry_block_args=False, print_block_terminators=False)


def _print_list(printer: Printer, values: Sequence[SSAValue]) -> None:
    printer.print_string("(")
    printer.print_list(values, printer.print_ssa_value)
    printer.print_string(")")


@irdl_op_definition
class DimOp(IRDLOperation):
    """The size of a dimension of a memref: ``%m = tile.dim %A, 0 : memref<?x64xf32>``."""

    name = "tile.dim"
    source = operand_def(MemRefType)
    dim = prop_def(IntegerAttr)
    result = result_def(IndexType)
    traits = traits_def(Pure())

    def __init__(self, source: SSAValue, dim: int):
        super().__init__(
            operands=[source], properties={"dim": IntegerAttr(dim, IndexType())}, result_types=[IndexType()]
        )

    def verify_(self) -> None:
        rank = cast(MemRefType, self.source.type).get_num_dims()
        if not 0 <= self.dim.value.data < rank:
            raise VerifyException(
                f"asks for dimension {self.dim.value.data} of {self.source.type}; legal are 0 to {rank - 1}"
            )

    @classmethod
    def parse(cls, parser: Parser) -> DimOp:
        """Parse the form of the class docstring."""
        source = parser.parse_unresolved_operand()
        parser.parse_punctuation(",")
        dim = parser.parse_integer(allow_boolean=False, allow_negative=False)
        parser.parse_punctuation(":")
        op = cls(parser.resolve_operand(source, parser.parse_type()), dim)
        parse_attributes(parser, op)
        return op

    def print(self, printer: Printer) -> None:
        """Print the form of the class docstring."""
        printer.print_string(" ")
        printer.print_operand(self.source)
        printer.print_string(f", {self.dim.value.data} : ")
        printer.print_attribute(self.source.type)
        printer.print_op_attributes(self.attributes)
