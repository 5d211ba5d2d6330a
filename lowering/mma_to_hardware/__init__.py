"""``mma-to-hardware``: fragments become registers, kernels become functions of upstream operations.

Level: ``mma`` to hardware, for cores with vector registers. In: kernels of the ``mma`` level with loads, stores,
products, arithmetic on fragments and scratch buffers, ``scf`` and ``arith`` around them. Out: ``func``, ``scf``,
``arith``, ``math``, ``memref``, ``vector``. A fragment becomes the values of its registers::

    %n = scf.for %k = %zero to %K step %one iter_args(%c = %c0) -> (!mma.fragment<4x64xf32, ...>) {
      %a = mma.load %A[%i, %k] extent [%rows, _] clamp [0] : memref<?x?xf32> -> !mma.fragment<4x1xf32, ...>
      %b = mma.load %panel[%k, %j] : !mma.buffer<512x4096xf32, ...> -> !mma.fragment<1x64xf32, ...>
      %d = mma.mma %a, %b, %c {intrinsic = "x86.avx512.fma.1x16x1.f32"} : ...
    ==>
      %n:16 = scf.for %k = ... iter_args(%c_0 = ..., 16 of vector<16xf32>) {
        4 x memref.load + vector.broadcast, 4 x vector.load, 16 x vector.fma

Files: ``state`` (what rules share), ``access`` (addresses and masks), and rules by subject: ``control``, ``memory``,
``arithmetic``, ``product``, ``transposition``, ``host``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from xdsl.dialects import affine, func, memref, scf
from xdsl.ir import Operation

from crosstile.dialects import mma, tile
from crosstile.dialects.arith import Arith
from crosstile.dialects.memref import PrefetchOp
from crosstile.lowering.driver import Lowering, LoweringPass, Rule
from crosstile.lowering.mma_to_hardware import arithmetic, control, host, product
from crosstile.lowering.mma_to_hardware.memory import lower_load, lower_prefetch, lower_store
from crosstile.lowering.mma_to_hardware.state import HardwareLowering
from crosstile.lowering.mma_to_hardware.transposition import lower_transpose

RULES: Mapping[type[Operation], Rule] = {
    func.FuncOp: host.lower_function,
    tile.LaunchOp: host.lower_launch,
    memref.CopyOp: host.lower_copy,
    mma.KernelOp: control.lower_kernel,
    mma.ReturnOp: control.lower_return,
    mma.ParallelOp: control.lower_parallel,
    mma.AllocOp: control.lower_alloc,
    memref.DimOp: control.lower_dim,
    affine.ApplyOp: control.lower_apply,
    scf.IfOp: control.lower_if,
    mma.LoadOp: lower_load,
    mma.StoreOp: lower_store,
    PrefetchOp: lower_prefetch,
    mma.MmaOp: product.lower_product,
    mma.MapOp: arithmetic.lower_map,
    mma.ReduceOp: arithmetic.lower_reduce,
    mma.MaskOp: arithmetic.lower_mask,
    mma.SplatOp: arithmetic.lower_splat,
    mma.IotaOp: arithmetic.lower_iota,
    mma.RelayoutOp: arithmetic.lower_relayout,
    mma.TransposeOp: lower_transpose,
    **dict.fromkeys(Arith.operations, arithmetic.lower_scalar),
}


class MmaToHardwarePass(LoweringPass):
    """Fragments to vector registers, kernels to functions."""

    name = "mma-to-hardware"
    rules: ClassVar[Mapping[type[Operation], Rule]] = RULES
    kept_dialects: ClassVar[frozenset[str]] = frozenset(("arith", "math", "scf", "func", "memref"))

    def make_lowering(self, kept_dialects: frozenset[str]) -> Lowering:
        """The driver with the state of this lowering."""
        return HardwareLowering(self.name, self.rules, kept_dialects)
