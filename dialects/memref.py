"""The ``memref`` dialect: xDSL's operations, and upstream's ``memref.prefetch``, which it lacks.

The dialect is registered under ``memref`` in place of xDSL's::

    memref.prefetch %x[%i, %j], read, locality<3>, data : memref<?x?xf32>
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from xdsl.dialects import memref
from xdsl.dialects.builtin import BoolAttr, IndexType, IntegerAttr, MemRefType, i32
from xdsl.ir import Attribute, Dialect, SSAValue
from xdsl.irdl import IRDLOperation, irdl_op_definition, operand_def, prop_def, traits_def, var_operand_def
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import MemoryReadEffect
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.assembly import parse_index

NEAREST = 3
"""The ``locality`` of data that is used soon and often: into the nearest cache."""


@irdl_op_definition
class PrefetchOp(IRDLOperation):
    """A hint that the cache line of an element will be used soon: read, or written.

    It changes no value and may point anywhere, even outside of the memref: what lies there is not touched. ``locality``
    is 0 for data that is used once up to 3 for data that should stay in the nearest cache.
    """

    name = "memref.prefetch"

    memref = operand_def(MemRefType)
    indices = var_operand_def(IndexType)
    isWrite = prop_def(BoolAttr)  # noqa: N815 - upstream's property name
    localityHint = prop_def(IntegerAttr.constr(i32))  # noqa: N815 - upstream's property name
    isDataCache = prop_def(BoolAttr)  # noqa: N815 - upstream's property name
    traits = traits_def(MemoryReadEffect())

    def __init__(
        self,
        source: SSAValue,
        indices: Sequence[SSAValue],
        write: bool = False,
        locality: int = NEAREST,
        data: bool = True,
    ):
        super().__init__(
            operands=[source, indices],
            properties={
                "isWrite": BoolAttr.from_bool(write),
                "localityHint": IntegerAttr(locality, i32),
                "isDataCache": BoolAttr.from_bool(data),
            },
        )

    def verify_(self) -> None:
        rank = cast("MemRefType[Attribute]", self.memref.type).get_num_dims()
        if len(self.indices) != rank:
            raise VerifyException(
                f"'memref.prefetch' of {self.memref.type} takes {rank} indices, not {len(self.indices)}"
            )
        if not 0 <= self.localityHint.value.data <= NEAREST:
            raise VerifyException(f"'memref.prefetch' has a locality from 0 to 3, not {self.localityHint.value.data}")

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_ssa_value(self.memref)
        with printer.in_square_brackets():
            printer.print_list(self.indices, printer.print_ssa_value)
        access = "write" if self.isWrite.value.data else "read"
        cache = "data" if self.isDataCache.value.data else "instr"
        printer.print_string(f", {access}, locality<{self.localityHint.value.data}>, {cache}")
        printer.print_op_attributes(self.attributes)
        printer.print_string(" : ")
        printer.print_attribute(self.memref.type)

    @classmethod
    def parse(cls, parser: Parser) -> PrefetchOp:
        source = parser.parse_unresolved_operand()
        indices = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, lambda: parse_index(parser))
        parser.parse_punctuation(",")
        write = parser.parse_optional_keyword("write") is not None
        if not write:
            parser.parse_keyword("read")
        parser.parse_punctuation(",")
        parser.parse_keyword("locality")
        with parser.in_angle_brackets():
            locality = parser.parse_integer(allow_boolean=False)
        parser.parse_punctuation(",")
        instructions = parser.parse_optional_keyword("instr") is not None
        if not instructions:
            parser.parse_keyword("data")
        attributes = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        op = cls(parser.resolve_operand(source, parser.parse_type()), indices, write, locality, not instructions)
        op.attributes |= attributes
        return op


MemRef = Dialect("memref", [*memref.MemRef.operations, PrefetchOp], list(memref.MemRef.attributes))
