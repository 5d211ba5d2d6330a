"""Matrix products at the mma level: one generic operation, made particular by the name of a hardware intrinsic.

    %c1 = mma.mma %a, %b, %c0 {intrinsic = "x86.avx512.fma.1x16x1.f32"} : !a, !b, !c
    %p1 = mma.mma_async %s, %t, %p0 {intrinsic = "nvidia.wgmma.m64n256k16.f32.bf16"} : !slot, !slot, !mma.pending<!c>
    %c  = mma.await %p1 : !mma.pending<!c> -> !c

The intrinsic's row (``targets/*/machine.py``) says which shapes, types, homes and layouts are legal and how it
computes; a product may be many instructions: its sizes are multiples of the intrinsic's. Sums run over k in increasing
order, from the accumulator, instruction by instruction.
"""

from __future__ import annotations

from xdsl.dialects.builtin import IntegerAttr, StringAttr
from xdsl.ir import Attribute, Operation, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import NoMemoryEffect
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.mma.access import verify_readable
from crosstile.dialects.mma.intrinsics import verify_product
from crosstile.dialects.mma.kernel import integer
from crosstile.dialects.mma.types import FragmentType, PendingType, type_of


def fragment_of(type_: Attribute) -> FragmentType:
    """The fragment that an accumulator is, or will be."""
    if isinstance(type_, PendingType):
        return type_.fragment
    if isinstance(type_, FragmentType):
        return type_
    raise VerifyException(f"accumulates into {type_}; an accumulator is a fragment")


def used_once(value: SSAValue) -> bool:
    """Whether at most one use of ``value`` is ever executed: several must stand in different branches of an ``if``."""
    paths = [_path(use.operation) for use in value.uses]
    return all(_exclude(one, other) for number, one in enumerate(paths) for other in paths[:number])


def _path(op: Operation) -> list[tuple[Operation, Region]]:
    """The operations around ``op`` and the region of each in which it stands, outermost first."""
    path: list[tuple[Operation, Region]] = []
    region = op.parent_region()
    while region is not None and (parent := region.parent_op()) is not None:
        path.insert(0, (parent, region))
        region = parent.parent_region()
    return path


def _exclude(one: list[tuple[Operation, Region]], other: list[tuple[Operation, Region]]) -> bool:
    for (op, region), (other_op, other_region) in zip(one, other, strict=False):
        if op is not other_op:
            return False
        if region is not other_region:
            return op.name == "scf.if"
    return False


def verify_operand(name: str, type_: Attribute) -> None:
    """``type_`` is one that a product can read."""
    if isinstance(type_, PendingType):
        raise VerifyException(f"{name} is pending: its registers are still being written; mma.await makes it readable")
    if not isinstance(type_, FragmentType):
        verify_readable(type_)


@irdl_op_definition
class MmaOp(IRDLOperation):
    """``%r = mma.mma %a, %b, %c {intrinsic = "..."} : A, B, C``: C [m, n] += A [m, k] * B [k, n], at once.

    A and B are fragments, or scratch where the intrinsic reads scratch; C and the result are fragments of one type.
    """

    name = "mma.mma"

    lhs = operand_def()
    rhs = operand_def()
    accumulator = operand_def(FragmentType)
    intrinsic = prop_def(StringAttr)
    result = result_def(FragmentType)

    traits = traits_def(NoMemoryEffect())

    def __init__(
        self,
        lhs: SSAValue | Operation,
        rhs: SSAValue | Operation,
        accumulator: SSAValue | Operation,
        intrinsic: str,
    ):
        accumulator = SSAValue.get(accumulator)
        super().__init__(
            operands=[lhs, rhs, accumulator],
            properties={"intrinsic": StringAttr(intrinsic)},
            result_types=[accumulator.type],
        )

    @classmethod
    def parse(cls, parser: Parser) -> MmaOp:
        """Parse the custom syntax."""
        operands, intrinsic, attributes = _parse_product(parser)
        op = cls(operands[0], operands[1], operands[2], intrinsic)
        op.attributes.update(attributes)
        return op

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        _print_product(printer, self, self.intrinsic)

    def verify_(self) -> None:
        """The operands are readable, and what the intrinsic takes."""
        verify_operand("lhs", self.lhs.type)
        verify_operand("rhs", self.rhs.type)
        if self.result.type != self.accumulator.type:
            raise VerifyException(f"gives {self.result.type}; expects the type of the accumulator")
        verify_product(self.intrinsic.data, self.lhs.type, self.rhs.type, type_of(self.accumulator, FragmentType))


@irdl_op_definition
class MmaAsyncOp(IRDLOperation):
    """``%p = mma.mma_async %a, %b, %c {intrinsic = "..."} : A, B, C``: the same product, started and not waited for.

    C is a fragment, or the pending result of an earlier product, whose registers go on being accumulated into (that
    result can then not be awaited any more). Scratch that the product reads must stay as it is until the product is
    covered by an ``mma.await``. Each operation is one group for the counts of ``in_flight``.
    """

    name = "mma.mma_async"

    lhs = operand_def()
    rhs = operand_def()
    accumulator = operand_def(FragmentType | PendingType)
    intrinsic = prop_def(StringAttr)
    result = result_def(PendingType)

    def __init__(
        self,
        lhs: SSAValue | Operation,
        rhs: SSAValue | Operation,
        accumulator: SSAValue | Operation,
        intrinsic: str,
    ):
        accumulator = SSAValue.get(accumulator)
        super().__init__(
            operands=[lhs, rhs, accumulator],
            properties={"intrinsic": StringAttr(intrinsic)},
            result_types=[PendingType(fragment_of(accumulator.type))],
        )

    @classmethod
    def parse(cls, parser: Parser) -> MmaAsyncOp:
        """Parse the custom syntax."""
        operands, intrinsic, attributes = _parse_product(parser)
        op = cls(operands[0], operands[1], operands[2], intrinsic)
        op.attributes.update(attributes)
        return op

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        _print_product(printer, self, self.intrinsic)

    def verify_(self) -> None:
        """The operands are readable, what the intrinsic takes, and the accumulator is not awaited elsewhere."""
        verify_operand("lhs", self.lhs.type)
        verify_operand("rhs", self.rhs.type)
        fragment = fragment_of(self.accumulator.type)
        if self.result.type != PendingType(fragment):
            raise VerifyException(f"gives {self.result.type}; expects {PendingType(fragment)}")
        if isinstance(self.accumulator.type, PendingType) and not used_once(self.accumulator):
            raise VerifyException(
                "accumulates into a pending fragment that is used elsewhere too; its registers are overwritten here"
            )
        verify_product(self.intrinsic.data, self.lhs.type, self.rhs.type, fragment)


def _parse_product(parser: Parser) -> tuple[list[SSAValue], str, dict[str, Attribute]]:
    names = parser.parse_comma_separated_list(parser.Delimiter.NONE, parser.parse_unresolved_operand)
    if len(names) != 3:
        parser.raise_error(f"expected three operands (lhs, rhs, accumulator), got {len(names)}")
    attributes = parser.parse_optional_attr_dict()
    intrinsic = attributes.pop("intrinsic", None)
    if not isinstance(intrinsic, StringAttr):
        parser.raise_error('expected the name of an intrinsic, as in {intrinsic = "x86.avx512.fma.1x16x1.f32"}')
    parser.parse_punctuation(":")
    position = parser.pos
    types = parser.parse_comma_separated_list(parser.Delimiter.NONE, parser.parse_type)
    return list(parser.resolve_operands(names, types, position)), intrinsic.data, attributes


def _print_product(printer: Printer, op: MmaOp | MmaAsyncOp, intrinsic: StringAttr) -> None:
    printer.print_string(" ")
    printer.print_list(op.operands, printer.print_ssa_value)
    printer.print_op_attributes({"intrinsic": intrinsic, **op.attributes})
    printer.print_string(" : ")
    printer.print_list(op.operand_types, printer.print_attribute)


@irdl_op_definition
class AwaitOp(IRDLOperation):
    """``%f = mma.await %p in_flight 1 : !mma.pending<F> -> F``: waits until at most the youngest n products run on.

    With result type ``F`` the pending fragment must then be complete, and is readable. With a result of the pending
    type it stays pending, and what is gained is that older products no longer read their slots. Without ``in_flight``
    nothing runs on.
    """

    name = "mma.await"

    pending = operand_def(PendingType)
    in_flight = opt_prop_def(IntegerAttr)
    result = result_def(FragmentType | PendingType)

    def __init__(self, pending: SSAValue | Operation, in_flight: int | None = None, stays_pending: bool = False):
        pending = SSAValue.get(pending, type=PendingType)
        super().__init__(
            operands=[pending],
            properties={"in_flight": None if in_flight is None else integer(in_flight)},
            result_types=[pending.type if stays_pending else pending.type.fragment],
        )

    @property
    def count(self) -> int:
        """How many of the youngest products may run on."""
        return 0 if self.in_flight is None else self.in_flight.value.data

    @classmethod
    def parse(cls, parser: Parser) -> AwaitOp:
        """Parse the custom syntax."""
        name = parser.parse_unresolved_operand("expected a pending fragment")
        in_flight = parser.parse_integer() if parser.parse_optional_keyword("in_flight") is not None else None
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        position = parser.pos
        type_ = parser.parse_type()
        if not isinstance(type_, PendingType):
            parser.raise_error(f"expected a pending fragment, !mma.pending<...>, got {type_}", position, parser.pos)
        parser.parse_punctuation("->")
        position = parser.pos
        result = parser.parse_type()
        if result not in (type_, type_.fragment):
            parser.raise_error(f"expected {type_.fragment} or {type_}, got {result}", position, parser.pos)
        op = cls(parser.resolve_operand(name, type_), in_flight, result == type_)
        op.attributes.update(attributes)
        return op

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        printer.print_string(" ")
        printer.print_ssa_value(self.pending)
        if self.in_flight is not None:
            printer.print_string(f" in_flight {self.in_flight.value.data}")
        printer.print_op_attributes(self.attributes)
        printer.print_string(" : ")
        printer.print_attribute(self.pending.type)
        printer.print_string(" -> ")
        printer.print_attribute(self.result.type)

    def verify_(self) -> None:
        """The result is the fragment, or the same pending; the pending value is not used again."""
        pending = type_of(self.pending, PendingType)
        if self.result.type not in (pending, pending.fragment):
            raise VerifyException(f"gives {self.result.type}; expects {pending.fragment} or {pending}")
        if self.count < 0:
            raise VerifyException(f"in_flight is {self.count}; expects at least 0")
        if not used_once(self.pending):
            raise VerifyException(
                "awaits a pending fragment that is used elsewhere too; use the result of this operation there"
            )
