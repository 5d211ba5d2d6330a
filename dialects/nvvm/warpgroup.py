"""Products of a warpgroup, four warps that work as one: started, committed and waited for in groups.

    nvvm.wgmma.fence.aligned
    %d = nvvm.wgmma.mma_async %a, %b, <m = 64, n = 256, k = 16>, D[%c, <one>], A[<bf16>, <one>, <row>],
           B[<bf16>, <one>, <col>] : !llvm.struct<(f32, ...)> -> !llvm.struct<(f32, ...)>
    nvvm.wgmma.commit.group.sync.aligned
    nvvm.wgmma.wait.group.sync.aligned 1

``%a`` and ``%b`` are descriptors of matrices in shared memory. The left factor may also be registers, which upstream
has no syntax for: ``nvvm.wgmma.mma_async [%a0, %a1, %a2, %a3], %b, ...``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from xdsl.dialects.builtin import VectorType, i32, i64
from xdsl.dialects.llvm import LLVMStructType
from xdsl.ir import Operation, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    VarConstraint,
    base,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    var_operand_def,
)
from xdsl.parser import Parser, UnresolvedOperand
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.nvvm.attributes import (
    MmaLayoutAttr,
    MmaShape,
    ScaleInAttr,
    ScaleOutAttr,
    ShapeAttr,
    WgmmaTypeAttr,
    parse_elided,
)
from crosstile.dialects.nvvm.copies import CountOp


@irdl_op_definition
class WgmmaFenceOp(IRDLOperation):
    """``nvvm.wgmma.fence.aligned``: registers written so far are seen by products that start later."""

    name = "nvvm.wgmma.fence.aligned"
    assembly_format = "attr-dict"


@irdl_op_definition
class WgmmaCommitOp(IRDLOperation):
    """``nvvm.wgmma.commit.group.sync.aligned``: the products since the last group are one group."""

    name = "nvvm.wgmma.commit.group.sync.aligned"
    assembly_format = "attr-dict"


@irdl_op_definition
class WgmmaWaitOp(CountOp):
    """``nvvm.wgmma.wait.group.sync.aligned 1``: waits until at most 1 of the youngest groups is running."""

    name = "nvvm.wgmma.wait.group.sync.aligned"


@irdl_op_definition
class WgmmaOp(IRDLOperation):
    """``nvvm.wgmma.mma_async``: starts d = a b + d (PTX ISA, wgmma.mma_async).

    ``layoutA`` and ``layoutB`` say how the factors lie in shared memory: ``row`` and ``col`` have k contiguous.
    """

    name = "nvvm.wgmma.mma_async"

    T: ClassVar = VarConstraint("T", base(LLVMStructType))
    lhs = var_operand_def()
    rhs = operand_def(i64)
    inouts = operand_def(T)
    shape = prop_def(ShapeAttr)
    type_a = prop_def(WgmmaTypeAttr, prop_name="typeA")
    type_b = prop_def(WgmmaTypeAttr, prop_name="typeB")
    scale_d = prop_def(ScaleOutAttr, prop_name="scaleD")
    scale_a = prop_def(ScaleInAttr, prop_name="scaleA")
    scale_b = prop_def(ScaleInAttr, prop_name="scaleB")
    layout_a = prop_def(MmaLayoutAttr, prop_name="layoutA")
    layout_b = prop_def(MmaLayoutAttr, prop_name="layoutB")
    results_ = result_def(T)

    def __init__(
        self,
        lhs: Sequence[SSAValue],
        rhs: SSAValue,
        inouts: SSAValue,
        shape: MmaShape,
        types: tuple[str, str],
        layouts: tuple[str, str] = ("row", "col"),
        scale_d: str = "one",
    ):
        super().__init__(
            operands=[lhs, rhs, inouts],
            properties={
                "shape": ShapeAttr(shape),
                "typeA": WgmmaTypeAttr(types[0]),
                "typeB": WgmmaTypeAttr(types[1]),
                "scaleD": ScaleOutAttr(scale_d),
                "scaleA": ScaleInAttr("one"),
                "scaleB": ScaleInAttr("one"),
                "layoutA": MmaLayoutAttr(layouts[0]),
                "layoutB": MmaLayoutAttr(layouts[1]),
            },
            result_types=[inouts.type],
        )

    @property
    def from_registers(self) -> bool:
        """Whether the left factor is in registers."""
        return self.lhs[0].type != i64

    @classmethod
    def parse(cls, parser: Parser) -> WgmmaOp:
        """Parse the custom syntax."""
        names: list[UnresolvedOperand] | None = parser.parse_optional_comma_separated_list(
            parser.Delimiter.SQUARE, parser.parse_unresolved_operand
        )
        lhs = [parser.parse_operand(i64)] if names is None else [parser.resolve_operand(name, i32) for name in names]
        parser.parse_punctuation(",")
        rhs = parser.parse_operand(i64)
        parser.parse_punctuation(",")
        position = parser.pos
        shape = parser.parse_optional_attribute()
        if shape is None:
            shape = ShapeAttr(ShapeAttr.parse_parameter(parser))
        if not isinstance(shape, ShapeAttr):
            parser.raise_error(f"expected #nvvm.shape<...>, got {shape}", position, parser.pos)
        parser.parse_punctuation(",")
        parser.parse_keyword("D")
        with parser.in_square_brackets():
            inouts = parser.parse_unresolved_operand()
            parser.parse_punctuation(",")
            scale_d = parse_elided(parser, ScaleOutAttr)
        factors = [_parse_factor(parser, letter) for letter in "AB"]
        parser.parse_punctuation(":")
        type_ = parser.parse_type()
        parser.parse_punctuation("->")
        parser.parse_type()
        (type_a, scale_a, layout_a), (type_b, scale_b, layout_b) = factors
        op = cls(
            lhs,
            rhs,
            parser.resolve_operand(inouts, type_),
            shape.data,
            (type_a.data, type_b.data),
            (layout_a.data, layout_b.data),
            scale_d.data,
        )
        op.properties["scaleA"], op.properties["scaleB"] = scale_a, scale_b
        return op

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        printer.print_string(" ")
        if self.from_registers:
            with printer.in_square_brackets():
                printer.print_list(self.lhs, printer.print_ssa_value)
        else:
            printer.print_ssa_value(self.lhs[0])
        printer.print_string(", ")
        printer.print_ssa_value(self.rhs)
        printer.print_string(", ")
        self.shape.print_parameter(printer)
        printer.print_string(", D[")
        printer.print_ssa_value(self.inouts)
        printer.print_string(f", <{self.scale_d.data}>]")
        printer.print_string(f", A[<{self.type_a.data}>, <{self.scale_a.data}>, <{self.layout_a.data}>]")
        printer.print_string(f", B[<{self.type_b.data}>, <{self.scale_b.data}>, <{self.layout_b.data}>] : ")
        printer.print_attribute(self.inouts.type)
        printer.print_string(" -> ")
        printer.print_attribute(self.results_.type)

    def verify_(self) -> None:
        """PTX ISA, wgmma: m is 64, n a multiple of 8 up to 256; the accumulator has a number per lane and element."""
        m, n, _ = self.shape.data
        if m != 64 or not 8 <= n <= 256 or n % 8:
            raise VerifyException(f"shape m = {m}, n = {n}; expects m = 64 and n a multiple of 8 from 8 to 256")
        given = self.results_.type
        assert isinstance(given, LLVMStructType)
        expected = n // 4 if isinstance(given.types.data[0], VectorType) else n // 2
        if len(given.types) != expected:
            raise VerifyException(f"an accumulator of 64x{n} has {expected} registers, not {len(given.types)}")
        if not self.lhs or (self.lhs[0].type == i64) != (len(self.lhs) == 1):
            raise VerifyException("the left factor is one descriptor of type i64, or several registers")


def _parse_factor(parser: Parser, letter: str) -> tuple[WgmmaTypeAttr, ScaleInAttr, MmaLayoutAttr]:
    parser.parse_punctuation(",")
    parser.parse_keyword(letter)
    with parser.in_square_brackets():
        type_ = parse_elided(parser, WgmmaTypeAttr)
        parser.parse_punctuation(",")
        scale = parse_elided(parser, ScaleInAttr)
        parser.parse_punctuation(",")
        return type_, scale, parse_elided(parser, MmaLayoutAttr)


WARPGROUP: tuple[type[Operation], ...] = (WgmmaFenceOp, WgmmaCommitOp, WgmmaWaitOp, WgmmaOp)
