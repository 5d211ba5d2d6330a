"""The ``mma`` dialect: kernels as fragments in registers, scratch, rings and roles, products by named intrinsics.

A register tile of a matrix product on an AVX-512 core; ``!a``, ``!b``, ``!c`` are fragments of 4x1, 1x64 and 4x64::

    %c = scf.for %k = %zero to %K step %one iter_args(%sum = %start) -> (!c) {
      %a = mma.load %A[%i, %k] extent [%rows, _] clamp [0] : memref<?x?xf32> -> !a
      %b = mma.load %panel[%k, %j] : !mma.buffer<512x4096xf32> -> !b
      %next = mma.mma %a, %b, %sum {intrinsic = "x86.avx512.fma.1x16x1.f32"} : !a, !b, !c
      scf.yield %next : !c
    }
    mma.store %c, %C[%i, %j] extent [%rows, %columns] : !c, memref<?x?xf32>

Files: ``attributes`` and ``types``; the operations ``kernel``, ``access`` (loads, stores, views) with ``place`` (their
text), ``fragments`` (arithmetic), ``rearrangement``, ``products``, ``rings``, ``roles``; what verifiers rest on:
``intrinsics`` (is a product legal), ``projection`` (is an operand where it is used), ``warps`` (does a fragment live on
the right warps), ``pending`` (may a slot be released); what it all computes, in NumPy: ``meaning`` with
``ring_meaning``, ``memory`` and ``place_meaning``, ``reduction`` (in its defined order), on the machine of
``asynchrony`` and ``contexts``.
"""

from xdsl.ir import Dialect

from crosstile.dialects.mma.access import LoadOp, StoreOp, ViewOp
from crosstile.dialects.mma.attributes import LayoutAttr, MemoryAttr, SwizzleAttr
from crosstile.dialects.mma.fragments import IotaOp, MapOp, MaskOp, ReduceOp, SplatOp
from crosstile.dialects.mma.kernel import AllocOp, KernelOp, ParallelOp, ReturnOp, YieldOp
from crosstile.dialects.mma.products import AwaitOp, MmaAsyncOp, MmaOp
from crosstile.dialects.mma.rearrangement import CopyTransposedOp, RelayoutOp, TransposeOp
from crosstile.dialects.mma.rings import AcquireOp, BarrierOp, CommitOp, CopyAsyncOp, ReleaseOp, RingOp, WaitOp
from crosstile.dialects.mma.roles import RolesOp
from crosstile.dialects.mma.types import BufferType, FragmentType, PendingType, RingType, SlotType

Mma = Dialect(
    "mma",
    [
        *(KernelOp, ReturnOp, ParallelOp, YieldOp, AllocOp),
        *(LoadOp, StoreOp, ViewOp),
        *(MapOp, ReduceOp, MaskOp, SplatOp, IotaOp, RelayoutOp, TransposeOp),
        *(MmaOp, MmaAsyncOp, AwaitOp),
        *(RingOp, AcquireOp, CopyAsyncOp, CopyTransposedOp, CommitOp, WaitOp, ReleaseOp, BarrierOp),
        RolesOp,
    ],
    [LayoutAttr, SwizzleAttr, MemoryAttr, BufferType, FragmentType, RingType, SlotType, PendingType],
)
