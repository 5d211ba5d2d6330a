"""Kernels of the mma level: the program of one launch, its grid or its workers, and its scratch.

    mma.kernel @scale(%A : memref<?x64xf32>, %M : index) target "x86-64-avx512" {
      %zero = arith.constant 0 : index
      mma.parallel %begin to %end = %zero to %M grain 8 { ... }          one contiguous range of rows per worker
    }
    mma.kernel @gemm(...) target "sm_90a" warps(12) {
      mma.parallel (%i, %j), (%mc, %nc) = (%zero, %zero) to (%M, %N) step (128, 256) { ... }     one block per tile
    }

``warps`` is how many warps run each instance of the program together; a core's thread is one warp.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import DenseArrayBase, IndexType, IntegerAttr, StringAttr, UnitAttr, i64
from xdsl.ir import Operation, Region, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    irdl_op_definition,
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
    IsolatedFromAbove,
    IsTerminator,
    SingleBlockImplicitTerminator,
    SymbolOpInterface,
    ensure_terminator,
)
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.assembly import INDEX, dense_values
from crosstile.dialects.grid_order import ANY_ORDER, GridOrder
from crosstile.dialects.mma.types import BufferType


def integers(values: Sequence[int]) -> DenseArrayBase:
    """A property that is a list of integers."""
    return DenseArrayBase.from_list(i64, list(values))


def integer_list(attribute: DenseArrayBase | None) -> list[int]:
    """The integers of such a property; none if it is absent."""
    return [] if attribute is None else dense_values(attribute)


def integer(value: int) -> IntegerAttr:
    """A property that is one integer."""
    return IntegerAttr(value, i64)


@irdl_op_definition
class ReturnOp(IRDLOperation):
    """``mma.return``: the end of a kernel."""

    name = "mma.return"

    assembly_format = "attr-dict"

    traits = traits_def(IsTerminator())


@irdl_op_definition
class YieldOp(IRDLOperation):
    """``mma.yield %x : f32``: the results of a body; without operands the end of an instance or of a role."""

    name = "mma.yield"

    values = var_operand_def()

    assembly_format = "attr-dict ($values^ `:` type($values))?"

    traits = traits_def(IsTerminator())

    def __init__(self, *values: SSAValue):
        super().__init__(operands=[values])


@irdl_op_definition
class KernelOp(IRDLOperation):
    """``mma.kernel @name(%A : memref<?x?xf32>, ...) target "x86-64-avx512" warps(1) { ... }``.

    Arguments are memrefs (global memory), indices and scalars. ``target`` names a row of the machine descriptions,
    ``warps`` how many warps run one instance.
    """

    name = "mma.kernel"

    sym_name = prop_def(StringAttr)
    target = opt_prop_def(StringAttr)
    warps = opt_prop_def(IntegerAttr)
    body = region_def("single_block")

    traits = traits_def(IsolatedFromAbove(), SymbolOpInterface(), SingleBlockImplicitTerminator(ReturnOp))

    def __init__(self, name: str, body: Region, target: str | None = None, warps: int | None = None):
        super().__init__(
            properties={
                "sym_name": StringAttr(name),
                "target": None if target is None else StringAttr(target),
                "warps": None if warps is None else integer(warps),
            },
            regions=[body],
        )
        ensure_terminator(self, SingleBlockImplicitTerminator(ReturnOp))

    @property
    def warp_count(self) -> int:
        """How many warps run one instance; 1 if the kernel does not say."""
        return 1 if self.warps is None else self.warps.value.data

    @classmethod
    def parse(cls, parser: Parser) -> KernelOp:
        """Parse the custom syntax."""
        name = parser.parse_symbol_name()
        arguments = parser.parse_comma_separated_list(parser.Delimiter.PAREN, parser.parse_argument, " for arguments")
        target = parser.parse_str_literal() if parser.parse_optional_keyword("target") is not None else None
        warps = parse_parenthesised(parser) if parser.parse_optional_keyword("warps") is not None else None
        attributes = parser.parse_optional_attr_dict_with_keyword(("sym_name", "target", "warps"))
        op = cls(name.data, parser.parse_region(arguments), target, warps)
        if attributes is not None:
            op.attributes.update(attributes.data)
        return op

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        printer.print_string(" ")
        printer.print_symbol_name(self.sym_name.data)
        with printer.in_parens():
            printer.print_list(self.body.block.args, printer.print_block_argument)
        if self.target is not None:
            printer.print_string(" target ")
            printer.print_string_literal(self.target.data)
        if self.warps is not None:
            printer.print_string(f" warps({self.warps.value.data})")
        printer.print_op_attributes(self.attributes, print_keyword=True)
        printer.print_string(" ")
        printer.print_region(self.body, print_entry_block_args=False, print_block_terminators=False)

    def verify_(self) -> None:
        """The target is known, and fragments are spread over as many warps as run the program."""
        if self.warp_count < 1:
            raise VerifyException(f"'{self.sym_name.data}' has warps({self.warp_count}); expects at least 1")
        parallels = [op for op in self.body.walk() if isinstance(op, ParallelOp)]
        if len(parallels) > 1:
            raise VerifyException(
                f"'{self.sym_name.data}' has {len(parallels)} mma.parallel; expects at most one, since what needs all "
                "instances to meet is two kernels"
            )
        for op in self.body.block.ops:
            if parallels and op.name in ("mma.alloc", "mma.ring"):
                raise VerifyException(
                    f"'{self.sym_name.data}' has {op.name} outside its mma.parallel; scratch belongs to one instance"
                )
        if self.target is not None:
            from crosstile.targets.model import UnknownNameError, machine

            try:
                machine(self.target.data)
            except UnknownNameError as error:
                raise VerifyException(f"target: {error}") from error
        from crosstile.dialects.mma.warps import verify_warps

        verify_warps(self.body, self.warp_count, f"the kernel '{self.sym_name.data}'")


def parse_parenthesised(parser: Parser) -> int:
    """Parse ``(4)``."""
    with parser.in_parens():
        return parser.parse_integer(allow_negative=False)


@irdl_op_definition
class ParallelOp(IRDLOperation):
    """The grid or the workers of a kernel, in one of two forms.

    ``mma.parallel %begin to %end = %lb to %ub grain 8 { ... }`` gives each worker one contiguous range whose ends are
    multiples of ``grain`` from the lower bound (or the upper bound). ``mma.parallel (%i, %j), (%mc, %nc) = (%l0, %l1)
    to (%u0, %u1) step (128, 256) { ... }`` runs one instance per tile of the box: block arguments are where it starts
    and how far it extends. Instances run in any order and do not wait for each other. What may follow the steps,
    their order, is explained in ``dialects/grid_order.py``; with ``cluster`` or ``persistent`` the body is scratch,
    rings, index arithmetic and one ``mma.roles``, each of which goes on to its next instance by itself.
    """

    name = "mma.parallel"

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

    traits = traits_def(SingleBlockImplicitTerminator(YieldOp))

    def __init__(
        self,
        lower_bounds: Sequence[SSAValue | Operation],
        upper_bounds: Sequence[SSAValue | Operation],
        body: Region,
        steps: Sequence[int] | None = None,
        grain: int | None = None,
        order: GridOrder = ANY_ORDER,
    ):
        super().__init__(
            operands=[lower_bounds, upper_bounds],
            properties={
                "steps": None if steps is None else integers(steps),
                "grain": None if grain is None else integer(grain),
                **order.properties(),
            },
            regions=[body],
        )
        ensure_terminator(self, SingleBlockImplicitTerminator(YieldOp))

    @property
    def is_grid(self) -> bool:
        """Whether this is the form with tiles; the other form gives ranges to workers."""
        return self.steps is not None

    @property
    def order(self) -> GridOrder:
        """In which order the instances of a grid are run."""
        return GridOrder.of_properties(self.properties)

    @classmethod
    def parse(cls, parser: Parser) -> ParallelOp:
        """Parse the custom syntax of either form."""

        def index_argument() -> Parser.Argument:
            return parser.parse_argument(expect_type=False).resolve(INDEX)

        def bounds() -> list[SSAValue]:
            return parser.parse_comma_separated_list(parser.Delimiter.PAREN, lambda: parser.parse_operand(INDEX))

        order = ANY_ORDER
        starts = parser.parse_optional_comma_separated_list(parser.Delimiter.PAREN, index_argument)
        if starts is None:
            arguments = [index_argument()]
            parser.parse_keyword("to", " between the ends of a worker's range")
            arguments.append(index_argument())
            parser.parse_punctuation("=")
            lower = [parser.parse_operand(INDEX)]
            parser.parse_keyword("to")
            upper = [parser.parse_operand(INDEX)]
            steps = None
            grain = parser.parse_integer() if parser.parse_optional_keyword("grain") is not None else 1
        else:
            parser.parse_punctuation(",", " between the starts and the extents of a tile")
            arguments = starts + parser.parse_comma_separated_list(parser.Delimiter.PAREN, index_argument)
            parser.parse_punctuation("=")
            lower = bounds()
            parser.parse_keyword("to")
            upper = bounds()
            parser.parse_keyword("step")
            steps = parser.parse_comma_separated_list(parser.Delimiter.PAREN, parser.parse_integer)
            grain = None
            order = GridOrder.parse(parser)
        attributes = parser.parse_optional_attr_dict_with_keyword()
        op = cls(lower, upper, parser.parse_region(arguments), steps, grain, order)
        if attributes is not None:
            op.attributes.update(attributes.data)
        return op

    def print(self, printer: Printer) -> None:
        """Print the custom syntax of this form."""
        arguments = self.body.block.args
        printer.print_string(" ")
        if self.is_grid:
            rank = len(self.lower_bounds)
            _print_tuple(printer, arguments[:rank])
            printer.print_string(", ")
            _print_tuple(printer, arguments[rank:])
            printer.print_string(" = ")
            _print_tuple(printer, self.lower_bounds)
            printer.print_string(" to ")
            _print_tuple(printer, self.upper_bounds)
            printer.print_string(f" step ({', '.join(map(str, integer_list(self.steps)))}){self.order}")
        else:
            printer.print_list(arguments, printer.print_ssa_value, " to ")
            printer.print_string(" = ")
            printer.print_ssa_value(self.lower_bounds[0])
            printer.print_string(" to ")
            printer.print_ssa_value(self.upper_bounds[0])
            if self.grain is not None and self.grain.value.data != 1:
                printer.print_string(f" grain {self.grain.value.data}")
        printer.print_op_attributes(self.attributes, print_keyword=True)
        printer.print_string(" ")
        printer.print_region(self.body, print_entry_block_args=False, print_block_terminators=False)

    def verify_(self) -> None:
        """The form's bounds, steps, grain and block arguments agree."""
        if (self.steps is None) == (self.grain is None):
            raise VerifyException("expects either 'step' (a grid of tiles) or 'grain' (ranges of workers)")
        steps = integer_list(self.steps)
        rank = len(steps) if self.is_grid else 1
        if rank < 1 or len(self.lower_bounds) != rank or len(self.upper_bounds) != rank:
            found = f"{len(self.lower_bounds)} lower and {len(self.upper_bounds)} upper bounds"
            raise VerifyException(f"has {found}; expects {max(rank, 1)} of each, one per dimension")
        if any(step < 1 for step in steps) or (self.grain is not None and self.grain.value.data < 1):
            raise VerifyException("a step or grain is below 1")
        self.order.verify(len(steps))
        if self.order.persistent is not None or self.order.cluster:
            self._verify_roles("persistent" if self.order.persistent is not None else "run by clusters")
        types = [argument.type for argument in self.body.block.args]
        if types != [INDEX] * (2 * rank):
            raise VerifyException(f"its body takes {len(types)} arguments; expects {2 * rank} of type index")

    def _verify_roles(self, order: str) -> None:
        """Roles alone can be at different instances, or copy for each other, and all that they share are rings."""
        inner = [op for op in self.body.block.ops if not isinstance(op, YieldOp)]
        roles = [op for op in inner if op.name == "mma.roles"]
        for op in inner:
            scratch = op.name in ("mma.alloc", "mma.ring")
            if op not in roles[:1] and not scratch and (op.regions or {one.type for one in op.results} != {INDEX}):
                raise VerifyException(
                    f"is {order} and has {op.name} in its body; expects mma.ring, mma.alloc, index arithmetic and "
                    "one mma.roles, whose roles go on to the next instance by themselves"
                )
        if not roles:
            raise VerifyException(f"is {order} and has no mma.roles in its body, which alone gains from it")


def _print_tuple(printer: Printer, values: Sequence[SSAValue]) -> None:
    with printer.in_parens():
        printer.print_list(values, printer.print_ssa_value)


@irdl_op_definition
class AllocOp(IRDLOperation):
    """``%b = mma.alloc : !mma.buffer<512x4096xf32>``: scratch that lives until the end of the enclosing body."""

    name = "mma.alloc"

    result = result_def(BufferType)

    assembly_format = "attr-dict `:` type($result)"

    def __init__(self, type: BufferType):
        super().__init__(result_types=[type])
