"""Special registers: who a thread is.

%t = nvvm.read.ptx.sreg.tid.x : i32
"""

from __future__ import annotations

from xdsl.dialects.builtin import i32
from xdsl.irdl import IRDLOperation, irdl_op_definition, result_def, traits_def
from xdsl.traits import Pure


class SpecialRegisterOp(IRDLOperation):
    """A special register of PTX; the operation's name ends in the register's."""

    result = result_def(i32)
    traits = traits_def(Pure())
    assembly_format = "attr-dict `:` type($result)"

    def __init__(self):
        super().__init__(result_types=[i32])


@irdl_op_definition
class ThreadIdXOp(SpecialRegisterOp):
    """The number of the thread in its block."""

    name = "nvvm.read.ptx.sreg.tid.x"


@irdl_op_definition
class BlockDimXOp(SpecialRegisterOp):
    """The number of threads of a block."""

    name = "nvvm.read.ptx.sreg.ntid.x"


@irdl_op_definition
class BlockIdXOp(SpecialRegisterOp):
    """The first coordinate of the block in the grid."""

    name = "nvvm.read.ptx.sreg.ctaid.x"


@irdl_op_definition
class BlockIdYOp(SpecialRegisterOp):
    """The second coordinate of the block in the grid."""

    name = "nvvm.read.ptx.sreg.ctaid.y"


@irdl_op_definition
class BlockIdZOp(SpecialRegisterOp):
    """The third coordinate of the block in the grid."""

    name = "nvvm.read.ptx.sreg.ctaid.z"


@irdl_op_definition
class GridDimXOp(SpecialRegisterOp):
    """The first size of the grid."""

    name = "nvvm.read.ptx.sreg.nctaid.x"


@irdl_op_definition
class GridDimYOp(SpecialRegisterOp):
    """The second size of the grid."""

    name = "nvvm.read.ptx.sreg.nctaid.y"


@irdl_op_definition
class GridDimZOp(SpecialRegisterOp):
    """The third size of the grid."""

    name = "nvvm.read.ptx.sreg.nctaid.z"


@irdl_op_definition
class LaneIdOp(SpecialRegisterOp):
    """The number of the thread in its warp."""

    name = "nvvm.read.ptx.sreg.laneid"


SPECIAL = (
    *(ThreadIdXOp, BlockDimXOp, BlockIdXOp, BlockIdYOp, BlockIdZOp),
    *(GridDimXOp, GridDimYOp, GridDimZOp, LaneIdOp),
)
