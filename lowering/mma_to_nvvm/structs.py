"""Structs of registers: how the operations of ``nvvm`` take and give several at once."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import llvm
from xdsl.dialects.builtin import DenseArrayBase, i64
from xdsl.dialects.llvm import LLVMStructType
from xdsl.ir import SSAValue

from crosstile.lowering.mma_to_nvvm.state import NvvmLowering


def extract(lowering: NvvmLowering, struct: SSAValue, place: int) -> SSAValue:
    """One member of a struct."""
    assert isinstance(struct.type, LLVMStructType)
    position = DenseArrayBase.from_list(i64, [place])
    return lowering.insert(llvm.ExtractValueOp(position, struct, struct.type.types.data[place])).res


def make_struct(lowering: NvvmLowering, members: Sequence[SSAValue]) -> SSAValue:
    """A struct of these members."""
    struct = lowering.insert(llvm.UndefOp(LLVMStructType.from_type_list([member.type for member in members]))).res
    for place, member in enumerate(members):
        position = DenseArrayBase.from_list(i64, [place])
        struct = lowering.insert(llvm.InsertValueOp(position, struct, member)).res
    return struct
