"""Matrix instructions of a warp: products, moving 8x8 matrices between shared memory and registers, and their bytes.

%d = nvvm.mma.sync A[%a0, %a1, %a2, %a3] B[%b0, %b1] C[%c0, %c1, %c2, %c3] {layoutA = #nvvm.mma_layout<row>,
       layoutB = #nvvm.mma_layout<col>, multiplicandAPtxType = #nvvm.mma_type<bf16>, ...,
       shape = #nvvm.shape<m = 16, n = 8, k = 16>} : (i32, i32, f32) -> !llvm.struct<(f32, f32, f32, f32)>
%r = nvvm.ldmatrix %p {num = 4 : i32, layout = #nvvm.mma_layout<col>} : (!llvm.ptr<3>)
       -> !llvm.struct<(i32, i32, i32, i32)>
%b = nvvm.prmt #nvvm.permute_mode<default> %selector, %lo, %hi : i32
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import I32, IntegerAttr, StringAttr, i32
from xdsl.dialects.llvm import LLVMPointerType, LLVMStructType
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import Parser, UnresolvedOperand
from xdsl.printer import Printer
from xdsl.traits import NoMemoryEffect, Pure
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.nvvm.attributes import MmaLayoutAttr, MmaShape, MmaTypeAttr, PermuteModeAttr, ShapeAttr


@irdl_op_definition
class MmaSyncOp(IRDLOperation):
    """``nvvm.mma.sync A[...] B[...] C[...]``: d = a b + c by all lanes of a warp (PTX ISA, mma)."""

    name = "nvvm.mma.sync"

    operand_a = var_operand_def()
    operand_b = var_operand_def()
    operand_c = var_operand_def()
    shape = prop_def(ShapeAttr)
    layout_a = prop_def(MmaLayoutAttr, prop_name="layoutA")
    layout_b = prop_def(MmaLayoutAttr, prop_name="layoutB")
    type_a = opt_prop_def(MmaTypeAttr, prop_name="multiplicandAPtxType")
    type_b = opt_prop_def(MmaTypeAttr, prop_name="multiplicandBPtxType")
    overflow = opt_prop_def(StringAttr, prop_name="intOverflowBehavior")
    res = result_def(LLVMStructType)

    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    traits = traits_def(NoMemoryEffect())

    def __init__(
        self,
        a: Sequence[SSAValue],
        b: Sequence[SSAValue],
        c: Sequence[SSAValue],
        shape: MmaShape,
        types: tuple[str, str],
        result_type: LLVMStructType,
    ):
        super().__init__(
            operands=[a, b, c],
            properties={
                "shape": ShapeAttr(shape),
                "layoutA": MmaLayoutAttr("row"),
                "layoutB": MmaLayoutAttr("col"),
                "multiplicandAPtxType": MmaTypeAttr(types[0]),
                "multiplicandBPtxType": MmaTypeAttr(types[1]),
            },
            result_types=[result_type],
        )

    @classmethod
    def parse(cls, parser: Parser) -> MmaSyncOp:
        """Parse the custom syntax."""
        names: list[list[UnresolvedOperand]] = []
        for letter in "ABC":
            parser.parse_keyword(letter)
            names.append(parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_unresolved_operand))
        properties = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        types = parser.parse_comma_separated_list(parser.Delimiter.PAREN, parser.parse_type)
        parser.parse_punctuation("->")
        result = parser.parse_type()
        operands = [
            [parser.resolve_operand(name, type_) for name in group] for group, type_ in zip(names, types, strict=True)
        ]
        return cls.build(operands=operands, result_types=[result], properties=properties)

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        groups = (self.operand_a, self.operand_b, self.operand_c)
        for letter, group in zip("ABC", groups, strict=True):
            printer.print_string(f" {letter}[")
            printer.print_list(group, printer.print_ssa_value)
            printer.print_string("]")
        shown = {name: value for name, value in sorted(self.properties.items()) if name != "operandSegmentSizes"}
        printer.print_string(" ")
        printer.print_attr_dict(shown)
        printer.print_string(" : (")
        printer.print_list([group[0].type for group in groups], printer.print_attribute)
        printer.print_string(") -> ")
        printer.print_attribute(self.res.type)

    def verify_(self) -> None:
        """The result has as many numbers as the accumulator, of the same types."""
        if not self.operand_a or not self.operand_b or not self.operand_c:
            raise VerifyException("a factor or the accumulator has no registers")
        given = [value.type for value in self.operand_c]
        if list(self.res.type.types) != given:
            raise VerifyException(f"the accumulator is {_types(given)}, the result {_types(list(self.res.type.types))}")


def _types(types: Sequence[Attribute]) -> str:
    return "(" + ", ".join(map(str, types)) + ")"


def words(count: int) -> LLVMStructType:
    """A struct of so many words of 32 bits."""
    return LLVMStructType.from_type_list([i32] * count)


@irdl_op_definition
class LdmatrixOp(IRDLOperation):
    """``nvvm.ldmatrix %p {num = 4 : i32, layout = #nvvm.mma_layout<row>}``: up to four 8x8 matrices of 16 bits.

    Lane l gives the address of row l mod 8 of matrix l div 8; ``col`` transposes each matrix.
    """

    name = "nvvm.ldmatrix"

    ptr = operand_def(LLVMPointerType)
    num = prop_def(IntegerAttr[I32])
    layout = prop_def(MmaLayoutAttr)
    res = result_def()

    def __init__(self, ptr: SSAValue, num: int, layout: str):
        super().__init__(
            operands=[ptr],
            properties={"num": IntegerAttr(num, i32), "layout": MmaLayoutAttr(layout)},
            result_types=[words(num) if num > 1 else i32],
        )

    @classmethod
    def parse(cls, parser: Parser) -> LdmatrixOp:
        """Parse the custom syntax."""
        pointer = parser.parse_unresolved_operand()
        properties = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        with parser.in_parens():
            type_ = parser.parse_type()
        parser.parse_punctuation("->")
        result = parser.parse_type()
        return cls.build(
            operands=[parser.resolve_operand(pointer, type_)], result_types=[result], properties=properties
        )

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        printer.print_string(" ")
        printer.print_ssa_value(self.ptr)
        printer.print_string(" ")
        printer.print_attr_dict(dict(sorted(self.properties.items())))
        printer.print_string(" : (")
        printer.print_attribute(self.ptr.type)
        printer.print_string(") -> ")
        printer.print_attribute(self.res.type)

    def verify_(self) -> None:
        """One, two or four matrices, a word of each per lane."""
        num = self.num.value.data
        if num not in (1, 2, 4):
            raise VerifyException(f"loads {num} matrices; expects 1, 2 or 4")
        if self.res.type != (expected := words(num) if num > 1 else i32):
            raise VerifyException(f"{num} matrices give {expected}, not {self.res.type}")


@irdl_op_definition
class StmatrixOp(IRDLOperation):
    """``nvvm.stmatrix %p, %r0, %r1 {layout = #nvvm.mma_layout<row>} : !llvm.ptr<3>, i32, i32``."""

    name = "nvvm.stmatrix"

    ptr = operand_def(LLVMPointerType)
    sources = var_operand_def(i32)
    layout = prop_def(MmaLayoutAttr)

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$ptr `,` $sources attr-dict `:` type($ptr) `,` type($sources)"

    def __init__(self, ptr: SSAValue, sources: Sequence[SSAValue], layout: str):
        super().__init__(operands=[ptr, sources], properties={"layout": MmaLayoutAttr(layout)})

    def verify_(self) -> None:
        """One, two or four matrices."""
        if len(self.sources) not in (1, 2, 4):
            raise VerifyException(f"stores {len(self.sources)} matrices; expects 1, 2 or 4")


@irdl_op_definition
class PermuteOp(IRDLOperation):
    """``nvvm.prmt #nvvm.permute_mode<default> %selector, %lo, %hi : i32``: four of the eight bytes of two words.

    Byte i of the result is the one that bits 4 i to 4 i + 2 of the selector number, 0 to 3 of ``lo``, 4 to 7 of ``hi``
    (PTX ISA, prmt).
    """

    name = "nvvm.prmt"

    mode = prop_def(PermuteModeAttr)
    selector = operand_def(i32)
    lo = operand_def(i32)
    hi = operand_def(i32)
    res = result_def(i32)

    traits = traits_def(Pure())

    def __init__(self, selector: SSAValue, lo: SSAValue, hi: SSAValue):
        super().__init__(
            operands=[selector, lo, hi], properties={"mode": PermuteModeAttr("default")}, result_types=[i32]
        )

    @classmethod
    def parse(cls, parser: Parser) -> PermuteOp:
        """Parse the custom syntax."""
        position = parser.pos
        mode = parser.parse_attribute()
        if not isinstance(mode, PermuteModeAttr):
            parser.raise_error(f"expected #nvvm.permute_mode<...>, got {mode}", position, parser.pos)
        operands = [parser.parse_operand(i32)]
        for _ in range(2):
            parser.parse_punctuation(",")
            operands.append(parser.parse_operand(i32))
        parser.parse_punctuation(":")
        parser.parse_type()
        return cls(*operands)

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        printer.print_string(" ")
        printer.print_attribute(self.mode)
        printer.print_string(" ")
        printer.print_list(self.operands, printer.print_ssa_value)
        printer.print_string(" : ")
        printer.print_attribute(i32)


MATRICES: tuple[type[Operation], ...] = (MmaSyncOp, LdmatrixOp, StmatrixOp, PermuteOp)
