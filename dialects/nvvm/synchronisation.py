"""Barriers of a block, barriers in memory (mbarrier), fences, and what a warp does as one.

nvvm.barrier id = %one number_of_threads = %n
nvvm.mbarrier.init.shared %bar, %count, predicate = %first : !llvm.ptr<3>, i32, i1
nvvm.mbarrier.try_wait.parity.shared %bar, %phase, %ticks : !llvm.ptr<3>, i32, i32
%x = nvvm.shfl.sync bfly %mask, %v, %distance, %clamp : f32 -> f32
"""

from __future__ import annotations

from typing import ClassVar

from xdsl.dialects.builtin import I32, IntegerAttr, i1, i32, i64
from xdsl.dialects.llvm import LLVMPointerType
from xdsl.ir import Operation, SSAValue
from xdsl.irdl import (
    AnyAttr,
    IRDLOperation,
    VarConstraint,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.nvvm.attributes import (
    ProxyKindAttr,
    RegisterActionAttr,
    SharedSpaceAttr,
    ShuffleKindAttr,
)


@irdl_op_definition
class Barrier0Op(IRDLOperation):
    """``nvvm.barrier0``: all threads of the block meet (PTX ISA, bar.sync 0)."""

    name = "nvvm.barrier0"
    assembly_format = "attr-dict"


@irdl_op_definition
class BarrierOp(IRDLOperation):
    """``nvvm.barrier id = %id number_of_threads = %n``: so many threads meet at one of 16 barriers."""

    name = "nvvm.barrier"

    barrier_id = operand_def(i32)
    number_of_threads = operand_def(i32)

    assembly_format = "`id` `=` $barrier_id `number_of_threads` `=` $number_of_threads attr-dict"

    def __init__(self, barrier_id: SSAValue, number_of_threads: SSAValue):
        super().__init__(operands=[barrier_id, number_of_threads])


@irdl_op_definition
class WarpSyncOp(IRDLOperation):
    """``nvvm.bar.warp.sync %mask : i32``: the lanes of a warp meet."""

    name = "nvvm.bar.warp.sync"

    mask = operand_def(i32)
    assembly_format = "$mask attr-dict `:` type($mask)"

    def __init__(self, mask: SSAValue):
        super().__init__(operands=[mask])


@irdl_op_definition
class MbarrierInitOp(IRDLOperation):
    """``nvvm.mbarrier.init.shared %b, %count, predicate = %p``: ``count`` arrivals complete a phase."""

    name = "nvvm.mbarrier.init.shared"

    addr = operand_def(LLVMPointerType)
    count = operand_def(i32)
    predicate = opt_operand_def(i1)

    assembly_format = (
        "$addr `,` $count (`,` `predicate` `=` $predicate^)? attr-dict "
        "`:` type($addr) `,` type($count) (`,` type($predicate)^)?"
    )

    def __init__(self, addr: SSAValue, count: SSAValue, predicate: SSAValue | None = None):
        super().__init__(operands=[addr, count, predicate])


@irdl_op_definition
class MbarrierArriveOp(IRDLOperation):
    """``nvvm.mbarrier.arrive.shared %b : !llvm.ptr<3> -> i64``: one arrival; the result is the phase before it."""

    name = "nvvm.mbarrier.arrive.shared"

    addr = operand_def(LLVMPointerType)
    state = result_def(i64)

    assembly_format = "$addr attr-dict `:` type($addr) `->` type($state)"

    def __init__(self, addr: SSAValue):
        super().__init__(operands=[addr], result_types=[i64])


@irdl_op_definition
class MbarrierArriveExpectTxOp(IRDLOperation):
    """``nvvm.mbarrier.arrive.expect_tx.shared %b, %bytes``: an arrival that lets the phase wait for ``bytes`` too."""

    name = "nvvm.mbarrier.arrive.expect_tx.shared"

    addr = operand_def(LLVMPointerType)
    txcount = operand_def(i32)
    predicate = opt_operand_def(i1)

    assembly_format = (
        "$addr `,` $txcount (`,` `predicate` `=` $predicate^)? attr-dict "
        "`:` type($addr) `,` type($txcount) (`,` type($predicate)^)?"
    )

    def __init__(self, addr: SSAValue, txcount: SSAValue, predicate: SSAValue | None = None):
        super().__init__(operands=[addr, txcount, predicate])


@irdl_op_definition
class MbarrierTryWaitOp(IRDLOperation):
    """``nvvm.mbarrier.try_wait.parity.shared %b, %phase, %ticks``: waits for a phase of this parity to end."""

    name = "nvvm.mbarrier.try_wait.parity.shared"

    addr = operand_def(LLVMPointerType)
    phase = operand_def(i32)
    ticks = operand_def(i32)

    assembly_format = "$addr `,` $phase `,` $ticks attr-dict `:` type($addr) `,` type($phase) `,` type($ticks)"

    def __init__(self, addr: SSAValue, phase: SSAValue, ticks: SSAValue):
        super().__init__(operands=[addr, phase, ticks])


@irdl_op_definition
class FenceMbarrierInitOp(IRDLOperation):
    """``nvvm.fence.mbarrier.init``: initialised barriers are seen by the other threads and by asynchronous copies."""

    name = "nvvm.fence.mbarrier.init"
    assembly_format = "attr-dict"


@irdl_op_definition
class FenceProxyOp(IRDLOperation):
    """``nvvm.fence.proxy {kind = #nvvm.proxy_kind<async.shared>, space = #nvvm.shared_space<cta>}``.

    What threads wrote to shared memory is seen by tensor copies and warpgroup products that start later.
    """

    name = "nvvm.fence.proxy"

    kind = prop_def(ProxyKindAttr)
    space = opt_prop_def(SharedSpaceAttr)

    def __init__(self, kind: str = "async.shared", space: str = "cta"):
        super().__init__(properties={"kind": ProxyKindAttr(kind), "space": SharedSpaceAttr(space)})

    @classmethod
    def parse(cls, parser: Parser) -> FenceProxyOp:
        """Parse the attribute dictionary."""
        op = cls()
        op.properties = dict(parser.parse_optional_attr_dict())
        return op

    def print(self, printer: Printer) -> None:
        """Print the attribute dictionary."""
        printer.print_string(" ")
        printer.print_attr_dict(self.properties)


@irdl_op_definition
class SetMaxRegisterOp(IRDLOperation):
    """``nvvm.setmaxregister increase 232``: a warpgroup takes registers from, or gives them to, its block's pool."""

    name = "nvvm.setmaxregister"

    reg_count = prop_def(IntegerAttr[I32], prop_name="regCount")
    action = prop_def(RegisterActionAttr)

    def __init__(self, action: str, registers: int):
        super().__init__(properties={"regCount": IntegerAttr(registers, i32), "action": RegisterActionAttr(action)})

    @classmethod
    def parse(cls, parser: Parser) -> SetMaxRegisterOp:
        """Parse ``increase 232``."""
        action = parser.parse_identifier(", increase or decrease")
        return cls(action, parser.parse_integer())

    def print(self, printer: Printer) -> None:
        """Print ``increase 232``."""
        printer.print_string(f" {self.action.data} {self.reg_count.value.data}")

    def verify_(self) -> None:
        """PTX ISA, setmaxnreg: a multiple of 8 from 24 to 256."""
        count = self.reg_count.value.data
        if not 24 <= count <= 256 or count % 8:
            raise VerifyException(f"{count} registers; expects a multiple of 8 from 24 to 256")


@irdl_op_definition
class ShuffleOp(IRDLOperation):
    """``nvvm.shfl.sync bfly %mask, %v, %offset, %clamp : f32 -> f32``: the value of another lane."""

    name = "nvvm.shfl.sync"

    T: ClassVar = VarConstraint("T", AnyAttr())
    thread_mask = operand_def(i32)
    val = operand_def(T)
    offset = operand_def(i32)
    mask_and_clamp = operand_def(i32)
    kind = prop_def(ShuffleKindAttr)
    res = result_def(T)

    traits = traits_def(Pure())

    def __init__(self, kind: str, thread_mask: SSAValue, val: SSAValue, offset: SSAValue, clamp: SSAValue):
        super().__init__(
            operands=[thread_mask, val, offset, clamp],
            properties={"kind": ShuffleKindAttr(kind)},
            result_types=[val.type],
        )

    @classmethod
    def parse(cls, parser: Parser) -> ShuffleOp:
        """Parse the custom syntax."""
        kind = parser.parse_identifier(": bfly, up, down or idx")
        operands = parser.parse_comma_separated_list(parser.Delimiter.NONE, parser.parse_unresolved_operand)
        parser.parse_punctuation(":")
        type_ = parser.parse_type()
        position = parser.pos
        mask, val, offset, clamp = parser.resolve_operands(operands, [i32, type_, i32, i32], position)
        parser.parse_punctuation("->")
        parser.parse_type()
        return cls(kind, mask, val, offset, clamp)

    def print(self, printer: Printer) -> None:
        """Print the custom syntax."""
        printer.print_string(f" {self.kind.data} ")
        printer.print_list(self.operands, printer.print_ssa_value)
        printer.print_string(" : ")
        printer.print_attribute(self.val.type)
        printer.print_string(" -> ")
        printer.print_attribute(self.res.type)


@irdl_op_definition
class ElectSyncOp(IRDLOperation):
    """``%p = nvvm.elect.sync -> i1``: true in one lane of the warp."""

    name = "nvvm.elect.sync"

    pred = result_def(i1)
    assembly_format = "attr-dict `->` type($pred)"

    def __init__(self):
        super().__init__(result_types=[i1])


SYNCHRONISATION: tuple[type[Operation], ...] = (
    *(Barrier0Op, BarrierOp, WarpSyncOp, MbarrierInitOp, MbarrierArriveOp, MbarrierArriveExpectTxOp),
    *(MbarrierTryWaitOp, FenceMbarrierInitOp, FenceProxyOp, SetMaxRegisterOp, ShuffleOp, ElectSyncOp),
)
