"""Clusters: blocks that run together, meet, and reach each other's shared memory.

nvvm.cluster.arrive.relaxed {aligned}
nvvm.cluster.wait {aligned}
%r = nvvm.read.ptx.sreg.cluster.ctarank : i32
%b = nvvm.mapa %a, %r : !llvm.ptr<3> -> !llvm.ptr<7>
nvvm.mbarrier.arrive %b : !llvm.ptr<7>
"""

from __future__ import annotations

from xdsl.dialects.builtin import IntAttr, UnitAttr, i32
from xdsl.dialects.llvm import LLVMPointerType
from xdsl.ir import Operation, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    result_def,
    traits_def,
)
from xdsl.traits import Pure
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.nvvm.special import SpecialRegisterOp

SHARED_CLUSTER = LLVMPointerType(IntAttr(7))
"""Addresses in the shared memory of any block of the cluster (PTX ISA, "shared::cluster")."""


class _ClusterBarrierOp(IRDLOperation):
    """Half of the barrier of all threads of a cluster; ``aligned``: all threads of a warp are here together."""

    aligned = opt_prop_def(UnitAttr)

    irdl_options = (ParsePropInAttrDict(),)
    assembly_format = "attr-dict"

    def __init__(self, aligned: bool = True):
        super().__init__(properties={"aligned": UnitAttr() if aligned else None})


@irdl_op_definition
class ClusterArriveOp(_ClusterBarrierOp):
    """``nvvm.cluster.arrive {aligned}``: tells the cluster that this thread, and what it did so far, is here."""

    name = "nvvm.cluster.arrive"


@irdl_op_definition
class ClusterArriveRelaxedOp(_ClusterBarrierOp):
    """``nvvm.cluster.arrive.relaxed {aligned}``: this thread is here; what it did is for fences to tell."""

    name = "nvvm.cluster.arrive.relaxed"


@irdl_op_definition
class ClusterWaitOp(_ClusterBarrierOp):
    """``nvvm.cluster.wait {aligned}``: waits until all threads of the cluster have arrived."""

    name = "nvvm.cluster.wait"


@irdl_op_definition
class ClusterIdXOp(SpecialRegisterOp):
    """The number of the cluster along x."""

    name = "nvvm.read.ptx.sreg.clusterid.x"


@irdl_op_definition
class ClusterCountXOp(SpecialRegisterOp):
    """How many clusters the grid has along x."""

    name = "nvvm.read.ptx.sreg.nclusterid.x"


@irdl_op_definition
class ClusterRankOp(SpecialRegisterOp):
    """The number of the block in its cluster."""

    name = "nvvm.read.ptx.sreg.cluster.ctarank"


@irdl_op_definition
class MapaOp(IRDLOperation):
    """``nvvm.mapa %a, %rank : !llvm.ptr<3> -> !llvm.ptr<7>``: the same place in the shared memory of another block."""

    name = "nvvm.mapa"

    a = operand_def(LLVMPointerType)
    b = operand_def(i32)
    res = result_def(LLVMPointerType)

    traits = traits_def(Pure())
    assembly_format = "$a `,` $b attr-dict `:` type($a) `->` type($res)"

    def __init__(self, address: SSAValue, rank: SSAValue):
        super().__init__(operands=[address, rank], result_types=[SHARED_CLUSTER])


@irdl_op_definition
class MbarrierArriveRemoteOp(IRDLOperation):
    """``nvvm.mbarrier.arrive %b : !llvm.ptr<7>``: one arrival at a barrier of any block of the cluster.

    It orders what the block sees, upstream's default scope: products have read when they are awaited. For the cluster's
    scope ptxas waits until all that this thread has written is seen by the whole GPU.
    """

    name = "nvvm.mbarrier.arrive"

    addr = operand_def(LLVMPointerType)
    assembly_format = "$addr attr-dict `:` type($addr)"

    def __init__(self, addr: SSAValue):
        super().__init__(operands=[addr])

    def verify_(self) -> None:
        """The address is one of the cluster's."""
        if self.addr.type != SHARED_CLUSTER:
            raise VerifyException(f"arrives at {self.addr.type}; expects {SHARED_CLUSTER}, which nvvm.mapa gives")


CLUSTER_REGISTERS = (ClusterIdXOp, ClusterCountXOp, ClusterRankOp)
CLUSTERS: tuple[type[Operation], ...] = (
    *(ClusterArriveOp, ClusterArriveRelaxedOp, ClusterWaitOp, MapaOp, MbarrierArriveRemoteOp),
    *CLUSTER_REGISTERS,
)
