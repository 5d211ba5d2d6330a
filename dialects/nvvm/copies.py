"""Asynchronous copies between global and shared memory: of a few bytes a thread, or of a box of a tensor at once.

nvvm.cp.async.shared.global %to, %from, 16, cache = cg, %valid : !llvm.ptr<3>, !llvm.ptr<1>, i32
nvvm.cp.async.commit.group
nvvm.cp.async.wait.group 2
nvvm.cp.async.bulk.tensor.shared.cluster.global %to, %map, %bar, box[%x, %y] multicast_mask = %m predicate = %p
    : !llvm.ptr<3>, !llvm.ptr
nvvm.cp.async.bulk.tensor.global.shared.cta %map, %from, box[%x, %y] predicate = %p : !llvm.ptr, !llvm.ptr<3>
nvvm.cp.async.bulk.commit.group
nvvm.cp.async.bulk.wait_group 0 {read}
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import I32, IntegerAttr, IntegerType, UnitAttr, i1, i32
from xdsl.dialects.llvm import LLVMPointerType
from xdsl.ir import Operation, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.nvvm.attributes import CacheAttr

i16 = IntegerType(16)


@irdl_op_definition
class CpAsyncOp(IRDLOperation):
    """``nvvm.cp.async.shared.global %to, %from, 16, cache = cg, %valid``: ``size`` bytes, zeros beyond ``valid``."""

    name = "nvvm.cp.async.shared.global"

    dst = operand_def(LLVMPointerType)
    src = operand_def(LLVMPointerType)
    cp_size = opt_operand_def(i32)
    size = prop_def(IntegerAttr[I32])
    modifier = prop_def(CacheAttr)

    def __init__(self, dst: SSAValue, src: SSAValue, size: int, modifier: str, cp_size: SSAValue | None = None):
        super().__init__(
            operands=[dst, src, cp_size],
            properties={"size": IntegerAttr(size, i32), "modifier": CacheAttr(modifier)},
        )

    @classmethod
    def parse(cls, parser: Parser) -> CpAsyncOp:
        """Parse the custom syntax."""
        operands = [parser.parse_unresolved_operand()]
        parser.parse_punctuation(",")
        operands.append(parser.parse_unresolved_operand())
        parser.parse_punctuation(",")
        size = parser.parse_integer()
        parser.parse_punctuation(",")
        parser.parse_keyword("cache")
        parser.parse_punctuation("=")
        modifier = parser.parse_identifier()
        if parser.parse_optional_punctuation(",") is not None:
            operands.append(parser.parse_unresolved_operand())
        parser.parse_punctuation(":")
        types = parser.parse_comma_separated_list(parser.Delimiter.NONE, parser.parse_type)
        dst, src, *valid = parser.resolve_operands(operands, types, parser.pos)
        return cls(dst, src, size, modifier, valid[0] if valid else None)

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        printer.print_string(" ")
        printer.print_list((self.dst, self.src), printer.print_ssa_value)
        printer.print_string(f", {self.size.value.data}, cache = {self.modifier.data}")
        if self.cp_size is not None:
            printer.print_string(", ")
            printer.print_ssa_value(self.cp_size)
        printer.print_string(" : ")
        printer.print_list(self.operand_types, printer.print_attribute)

    def verify_(self) -> None:
        """PTX ISA, cp.async: 4, 8 or 16 bytes, past L1 only 16."""
        size = self.size.value.data
        if size not in (4, 8, 16) or (self.modifier.data == "cg" and size != 16):
            raise VerifyException(
                f"copies {size} bytes with cache = {self.modifier.data}; expects 4, 8 or 16, and 16 with cg"
            )


@irdl_op_definition
class CpAsyncCommitGroupOp(IRDLOperation):
    """``nvvm.cp.async.commit.group``: the copies of this thread since the last group are one group."""

    name = "nvvm.cp.async.commit.group"
    assembly_format = "attr-dict"


def _verify_groups(count: IntegerAttr[I32]) -> None:
    if count.value.data < 0:
        raise VerifyException(f"waits for {count.value.data} groups; expects at least 0")


class CountOp(IRDLOperation):
    """An operation with one number."""

    n = prop_def(IntegerAttr[I32])

    def __init__(self, n: int):
        super().__init__(properties={"n": IntegerAttr(n, i32)})

    @classmethod
    def parse(cls, parser: Parser) -> CountOp:
        """Parse the number."""
        return cls(parser.parse_integer())

    def print(self, printer: Printer) -> None:
        """Print the number."""
        printer.print_string(f" {self.n.value.data}")

    def verify_(self) -> None:
        """A number of groups is not negative."""
        _verify_groups(self.n)


@irdl_op_definition
class CpAsyncWaitGroupOp(CountOp):
    """``nvvm.cp.async.wait.group 2``: waits until at most 2 of this thread's youngest groups are on their way."""

    name = "nvvm.cp.async.wait.group"


@irdl_op_definition
class CpAsyncMbarrierArriveOp(IRDLOperation):
    """``nvvm.cp.async.mbarrier.arrive.shared %b {noinc = true}``: arrives when this thread's copies so far have."""

    name = "nvvm.cp.async.mbarrier.arrive.shared"

    addr = operand_def(LLVMPointerType)
    noinc = prop_def(IntegerAttr)

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "$addr attr-dict `:` type($addr)"

    def __init__(self, addr: SSAValue, noinc: bool = True):
        super().__init__(operands=[addr], properties={"noinc": IntegerAttr(int(noinc), i1)})


def _parse_box(parser: Parser) -> list[SSAValue]:
    """``, box[%x, %y]``."""
    parser.parse_punctuation(",")
    parser.parse_keyword("box")
    return parser.parse_comma_separated_list(parser.Delimiter.SQUARE, lambda: parser.parse_operand(i32))


def _parse_named(parser: Parser, name: str, type_: IntegerType) -> SSAValue | None:
    """``name = %value``, which may be missing."""
    if parser.parse_optional_keyword(name) is None:
        return None
    parser.parse_punctuation("=")
    return parser.parse_operand(type_)


def _print_box(printer: Printer, coordinates: Sequence[SSAValue], **named: SSAValue | None) -> None:
    """``, box[%x, %y] name = %value`` for what of ``named`` there is."""
    printer.print_string(", box[")
    printer.print_list(coordinates, printer.print_ssa_value)
    printer.print_string("]")
    for name, value in named.items():
        if value is not None:
            printer.print_string(f" {name} = ")
            printer.print_ssa_value(value)


def _verify_box(coordinates: Sequence[SSAValue]) -> None:
    """PTX ISA, cp.async.bulk.tensor: 1 to 5 dimensions."""
    if not 1 <= len(coordinates) <= 5:
        raise VerifyException(f"copies a box of {len(coordinates)} dimensions; expects 1 to 5")


@irdl_op_definition
class TensorCopyOp(IRDLOperation):
    """``nvvm.cp.async.bulk.tensor.shared.cluster.global %to, %map, %bar, box[%x, %y] predicate = %p``.

    The box of the tensor that begins at these coordinates, the contiguous one first; elements outside are filled in.
    The bytes of the box are counted off from the barrier's transactions. With ``multicast_mask = %m``, an i16, it goes
    to the same place of each block of the cluster whose bit is set, and is counted off from the barrier there.
    """

    name = "nvvm.cp.async.bulk.tensor.shared.cluster.global"

    dst_mem = operand_def(LLVMPointerType)
    tma_descriptor = operand_def(LLVMPointerType)
    mbar = operand_def(LLVMPointerType)
    coordinates = var_operand_def(i32)
    multicast_mask = opt_operand_def(i16)
    predicate = opt_operand_def(i1)

    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def __init__(
        self,
        dst: SSAValue,
        descriptor: SSAValue,
        mbar: SSAValue,
        coordinates: Sequence[SSAValue],
        multicast_mask: SSAValue | None = None,
        predicate: SSAValue | None = None,
    ):
        super().__init__(operands=[dst, descriptor, mbar, coordinates, multicast_mask, predicate])

    @classmethod
    def parse(cls, parser: Parser) -> TensorCopyOp:
        """Parse the custom syntax."""
        operands = [parser.parse_unresolved_operand()]
        for _ in range(2):
            parser.parse_punctuation(",")
            operands.append(parser.parse_unresolved_operand())
        box = _parse_box(parser)
        mask = _parse_named(parser, "multicast_mask", i16)
        predicate = _parse_named(parser, "predicate", i1)
        parser.parse_punctuation(":")
        to = parser.parse_type()
        parser.parse_punctuation(",")
        map_type = parser.parse_type()
        dst, descriptor, mbar = parser.resolve_operands(operands, [to, map_type, to], parser.pos)
        return cls(dst, descriptor, mbar, box, mask, predicate)

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        printer.print_string(" ")
        printer.print_list((self.dst_mem, self.tma_descriptor, self.mbar), printer.print_ssa_value)
        _print_box(printer, self.coordinates, multicast_mask=self.multicast_mask, predicate=self.predicate)
        printer.print_string(" : ")
        printer.print_list((self.dst_mem.type, self.tma_descriptor.type), printer.print_attribute)

    def verify_(self) -> None:
        """A box has a legal number of dimensions."""
        _verify_box(self.coordinates)


@irdl_op_definition
class TensorStoreOp(IRDLOperation):
    """``nvvm.cp.async.bulk.tensor.global.shared.cta %map, %from, box[%x, %y] predicate = %p``.

    The box of the tensor that begins at these coordinates is written from shared memory, elements outside are not. The
    copy belongs to this thread's next bulk group; it reads through the asynchronous proxy, which sees what ordinary
    stores wrote after ``nvvm.fence.proxy``.
    """

    name = "nvvm.cp.async.bulk.tensor.global.shared.cta"

    tma_descriptor = operand_def(LLVMPointerType)
    src_mem = operand_def(LLVMPointerType)
    coordinates = var_operand_def(i32)
    predicate = opt_operand_def(i1)

    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def __init__(
        self, descriptor: SSAValue, src: SSAValue, coordinates: Sequence[SSAValue], predicate: SSAValue | None = None
    ):
        super().__init__(operands=[descriptor, src, coordinates, predicate])

    @classmethod
    def parse(cls, parser: Parser) -> TensorStoreOp:
        """Parse the custom syntax."""
        operands = [parser.parse_unresolved_operand()]
        parser.parse_punctuation(",")
        operands.append(parser.parse_unresolved_operand())
        box = _parse_box(parser)
        predicate = _parse_named(parser, "predicate", i1)
        parser.parse_punctuation(":")
        types = parser.parse_comma_separated_list(parser.Delimiter.NONE, parser.parse_type)
        descriptor, src = parser.resolve_operands(operands, types, parser.pos)
        return cls(descriptor, src, box, predicate)

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        printer.print_string(" ")
        printer.print_list((self.tma_descriptor, self.src_mem), printer.print_ssa_value)
        _print_box(printer, self.coordinates, predicate=self.predicate)
        printer.print_string(" : ")
        printer.print_list((self.tma_descriptor.type, self.src_mem.type), printer.print_attribute)

    def verify_(self) -> None:
        """A box has a legal number of dimensions."""
        _verify_box(self.coordinates)


@irdl_op_definition
class BulkCommitGroupOp(IRDLOperation):
    """``nvvm.cp.async.bulk.commit.group``: the bulk copies of this thread since the last group are one group."""

    name = "nvvm.cp.async.bulk.commit.group"
    assembly_format = "attr-dict"


@irdl_op_definition
class BulkWaitGroupOp(IRDLOperation):
    """``nvvm.cp.async.bulk.wait_group 1 {read}``: waits until at most 1 of this thread's bulk groups is on its way.

    With ``read`` until the others have read their sources, which may then be written again; without it until what they
    wrote is visible to this thread.
    """

    name = "nvvm.cp.async.bulk.wait_group"

    group = prop_def(IntegerAttr[I32])
    read = opt_prop_def(UnitAttr)

    def __init__(self, group: int, read: bool = False):
        super().__init__(properties={"group": IntegerAttr(group, i32), "read": UnitAttr() if read else None})

    @classmethod
    def parse(cls, parser: Parser) -> BulkWaitGroupOp:
        """Parse the number and ``{read}``."""
        group = parser.parse_integer()
        read = parser.parse_optional_punctuation("{") is not None
        if read:
            parser.parse_keyword("read")
            parser.parse_punctuation("}")
        return cls(group, read)

    def print(self, printer: Printer) -> None:
        """Print the number and ``{read}``."""
        printer.print_string(f" {self.group.value.data}{' {read}' if self.read is not None else ''}")

    def verify_(self) -> None:
        """A number of groups is not negative."""
        _verify_groups(self.group)


@irdl_op_definition
class PrefetchTensorMapOp(IRDLOperation):
    """``nvvm.prefetch.tensormap %map : !llvm.ptr``: fetches the descriptor of a tensor before it is needed."""

    name = "nvvm.prefetch.tensormap"

    tma_descriptor = operand_def(LLVMPointerType)
    assembly_format = "$tma_descriptor attr-dict `:` type($tma_descriptor)"

    def __init__(self, descriptor: SSAValue):
        super().__init__(operands=[descriptor])


COPIES: tuple[type[Operation], ...] = (
    *(CpAsyncOp, CpAsyncCommitGroupOp, CpAsyncWaitGroupOp, CpAsyncMbarrierArriveOp),
    *(TensorCopyOp, TensorStoreOp, BulkCommitGroupOp, BulkWaitGroupOp, PrefetchTensorMapOp),
)
