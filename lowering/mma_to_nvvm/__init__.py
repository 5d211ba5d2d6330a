"""``mma-to-nvvm``: fragments become the registers of threads, kernels become functions of ``nvvm`` and ``llvm``.

Level: ``mma`` to hardware, for NVIDIA's GPUs. In: kernels of the ``mma`` level, one tile a block. Out: an ``llvm.func``
per kernel, with ``scf`` loops, ``arith``, ``llvm`` and ``nvvm``, which ``targets/nvidia/emit.py`` prints as PTX::

    %d = mma.mma %a, %b, %c {intrinsic = "nvidia.mma.m16n8k16.f32.bf16"} : 16x16, 16x8, 16x8 of bf16, bf16, f32
    ==>
    %0 = nvvm.mma.sync A[%a_0, %a_1, %a_2, %a_3] B[%b_0, %b_1] C[%c_0, %c_1, %c_2, %c_3] {...}
    %d_0 = llvm.extractvalue %0[0] : ...

Files: ``fragments`` (registers and digits of a layout), ``kernel_state`` and ``state`` (what rules share), ``access``
(addresses, masks), ``structs``, ``tensor_maps``, and rules by subject: ``kernel``, ``grid``, ``roles``, ``loops``,
``scalars``, ``rings``, ``copies``, ``transposition``, ``memory``, ``box_stores``, ``matrices``, ``product``,
``rounding``, ``arithmetic``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects import affine, arith, func, llvm, memref, scf
from xdsl.dialects.builtin import IntAttr, IntegerType, ModuleOp
from xdsl.ir import Operation

from crosstile.dialects import mma
from crosstile.dialects.arith import Arith
from crosstile.lowering.driver import Lowering, LoweringPass, Rule
from crosstile.lowering.mma_to_nvvm import (
    arithmetic,
    box_stores,
    copies,
    grid,
    kernel,
    loops,
    memory,
    product,
    reductions,
    rings,
    roles,
    scalars,
    transposition,
)
from crosstile.lowering.mma_to_nvvm.kernel_state import SHARED_ALIGNMENT, SHARED_MEMORY
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering

RULES: Mapping[type[Operation], Rule] = {
    **dict.fromkeys((*Arith.operations, arith.CmpiOp), scalars.lower_scalar),
    arith.CeilDivSIOp: scalars.lower_ceildiv,
    func.FuncOp: kernel.lower_host,
    mma.KernelOp: kernel.lower_kernel,
    mma.ReturnOp: kernel.lower_return,
    mma.ParallelOp: grid.lower_parallel,
    mma.RolesOp: roles.lower_roles,
    scf.ForOp: loops.lower_for,
    scf.IfOp: loops.lower_if,
    memref.DimOp: scalars.lower_dim,
    memref.LoadOp: scalars.lower_memref_load,
    affine.ApplyOp: scalars.lower_apply,
    mma.RingOp: rings.lower_ring,
    mma.AcquireOp: rings.lower_acquire,
    mma.WaitOp: rings.lower_wait,
    mma.CommitOp: rings.lower_commit,
    mma.ReleaseOp: rings.lower_release,
    mma.BarrierOp: rings.lower_barrier,
    mma.CopyAsyncOp: copies.lower_copy,
    mma.CopyTransposedOp: transposition.lower_copy_transposed,
    mma.LoadOp: memory.lower_load,
    mma.StoreOp: box_stores.lower_any_store,
    mma.MmaOp: product.lower_product,
    mma.MmaAsyncOp: product.lower_mma_async,
    mma.AwaitOp: product.lower_await,
    mma.MapOp: arithmetic.lower_map,
    mma.ReduceOp: reductions.lower_reduce,
    mma.MaskOp: arithmetic.lower_mask,
    mma.SplatOp: arithmetic.lower_splat,
    mma.IotaOp: arithmetic.lower_iota,
    mma.RelayoutOp: arithmetic.lower_relayout,
    mma.TransposeOp: arithmetic.lower_transpose,
    mma.ViewOp: arithmetic.lower_view,
    mma.AllocOp: arithmetic.lower_alloc,
}


@dataclass(frozen=True)
class MmaToNvvmPass(LoweringPass):
    """Fragments to registers of threads, kernels to functions for NVIDIA's GPUs.

    ``alignment``: bytes that divide every pointer and every stride but that of neighbours; the host checks it.
    """

    name = "mma-to-nvvm"
    rules: ClassVar[Mapping[type[Operation], Rule]] = RULES
    kept_dialects: ClassVar[frozenset[str]] = frozenset(("math",))

    alignment: int = 16

    def make_lowering(self, kept_dialects: frozenset[str]) -> Lowering:
        """The driver with the state that the rules share."""
        return NvvmLowering(self.name, self.rules, kept_dialects, self.alignment)

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Lower ``op`` in place, and declare the shared memory that its kernels use."""
        super().apply(ctx, op)
        shared = llvm.GlobalOp(
            llvm.LLVMArrayType(IntAttr(0), IntegerType(8)),
            SHARED_MEMORY,
            "external",
            addr_space=3,
            alignment=SHARED_ALIGNMENT,
        )
        assert op.body.block.first_op is not None
        op.body.block.insert_op_before(shared, op.body.block.first_op)
