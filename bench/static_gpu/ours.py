"""Our kernels for the static comparison: from programs of the nn and tile levels to PTX, and what that took."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import MemRefType, ModuleOp
from xdsl.ir import Attribute
from xdsl.utils.hints import isa

from crosstile.dialects import mma
from crosstile.dialects.tile.launch import ALIGNMENT
from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.emit import emit
from crosstile.targets.nvidia.launch import DeviceArray, KernelPlan, plan_of
from crosstile.targets.nvidia.simulate import GlobalMemory, simulate
from crosstile.targets.nvidia.simulator.report import Report
from crosstile.tools.program import Program
from static_gpu.problems import ANY, COMPILATIONS, Array, arrays_of, kind_of

MATMUL = """
func.func @main(%a: tensor<?x?xbf16> {nn.dims = ["M", "K"]}, %b: tensor<?x?xbf16> {nn.dims = ["K", "N"]})
    -> tensor<?x?xf32> {
  %c = nn.matmul %a, %b accumulate f32 : tensor<?x?xbf16>, tensor<?x?xbf16> -> tensor<?x?xf32>
  func.return %c : tensor<?x?xf32>
}
"""
SOFTMAX = """
func.func @main(%x: tensor<?x4096xf32> {nn.dims = ["M", "N"]}) -> tensor<?x4096xf32> {
  %y = nn.softmax %x dim 1 : tensor<?x4096xf32>
  func.return %y : tensor<?x4096xf32>
}
"""
LAYER_NORM = """
func.func @main(%x: tensor<?x4096xf32> {nn.dims = ["M", "N"]}, %gamma: tensor<4096xf32> {nn.dims = ["N"]},
    %beta: tensor<4096xf32> {nn.dims = ["N"]}) -> tensor<?x4096xf32> {
  %y = nn.layer_norm %x, %gamma, %beta epsilon 1.0e-05 : tensor<?x4096xf32>, tensor<4096xf32>, tensor<4096xf32>
  func.return %y : tensor<?x4096xf32>
}
"""
RMS_NORM = """
func.func @main(%x: tensor<?x4096xf32> {nn.dims = ["M", "N"]}, %gamma: tensor<4096xf32> {nn.dims = ["N"]})
    -> tensor<?x4096xf32> {
  %y = nn.rms_norm %x, %gamma epsilon 1.0e-05 : tensor<?x4096xf32>, tensor<4096xf32>
  func.return %y : tensor<?x4096xf32>
}
"""
COLUMNS = 4096
"""Elements of a row in the kernels that fold rows."""
ATTENTION = """
func.func @main(%q: tensor<?x8x?x64xbf16> {nn.dims = ["B", "_", "M", "_"]},
    %k: tensor<?x8x?x64xbf16> {nn.dims = ["B", "_", "N", "_"]},
    %v: tensor<?x8x?x64xbf16> {nn.dims = ["B", "_", "N", "_"]}) -> tensor<?x8x?x64xbf16> {
  %y = nn.attention %q, %k, %v accumulate f32
      : tensor<?x8x?x64xbf16>, tensor<?x8x?x64xbf16>, tensor<?x8x?x64xbf16>
  func.return %y : tensor<?x8x?x64xbf16>
}
"""
CONV2D = """
func.func @main(%x: tensor<?x?x?x128xbf16> {nn.dims = ["N", "H", "W", "_"]}, %w: tensor<3x3x128x128xbf16>)
    -> tensor<?x?x?x128xbf16> {
  %y = nn.conv2d %x, %w nhwc padding [1, 1, 1, 1] accumulate f32 : tensor<?x?x?x128xbf16>, tensor<3x3x128x128xbf16>
  func.return %y : tensor<?x?x?x128xbf16>
}
"""
SOURCES = {
    "gemm": MATMUL,
    "attention": ATTENTION,
    "conv2d": CONV2D,
    "softmax": SOFTMAX,
    "layer_norm": LAYER_NORM,
    "rms_norm": RMS_NORM,
}
NAMES = {"gemm": "matmul"}
"""How the kernel that is meant is called, where that is not as its kind."""


@dataclass(frozen=True)
class Compiled:
    """The PTX of one kernel, the threads and shared bytes of a block, and the seconds from text to PTX.

    ``run`` executes it in the simulator.
    """

    ptx: str
    shared: int
    threads: int
    seconds: float
    run: Callable[[], Report]


def compile_kernel(row: str) -> Compiled:
    """The kernel of a row of the table that large aligned arrays are run by."""
    architecture = row.rpartition("-")[2]
    target = {"sm80": "nvidia-sm_80", "sm90": "nvidia-sm_90a"}[architecture]
    compiled = [_compiled(row, target) for _ in range(COMPILATIONS)]
    types, lowered, ptx, _ = compiled[0]
    (function,) = (op for op in lowered.ops if "nvvm.kernel" in op.attributes)
    plan = plan_of(function)  # pyright: ignore[reportArgumentType]
    seconds = min(seconds for *_, seconds in compiled)
    return Compiled(ptx, plan.shared_bytes, plan.threads, seconds, lambda: _run(row, types, ptx, plan))


def _run(row: str, types: Sequence[Attribute], ptx: str, plan: KernelPlan) -> Report:
    memory = GlobalMemory()
    arrays = iter(arrays_of(row, memory))
    given = [_length(memory) if _is_number(type_) else _device_array(next(arrays)) for type_ in types]
    launch = plan.launch(given, 1)
    assert launch is not None
    shared = launch.shared_bytes
    return simulate(ptx, launch.kernel, launch.grid, launch.block, list(launch.arguments), memory, shared)


def _is_number(type_: Attribute) -> bool:
    """Whether an argument is one number: the length of rows that is known at run time, which the host writes."""
    return isa(type_, MemRefType) and type_.get_num_dims() == 0


def _length(memory: GlobalMemory) -> DeviceArray:
    return DeviceArray(memory.allocate(np.array(COLUMNS, np.float32)), (), (), 4)


def _device_array(array: Array) -> DeviceArray:
    return DeviceArray(array.address, array.shape, array.strides, array.element_bytes)


def _compiled(row: str, target: str) -> tuple[list[Attribute], ModuleOp, str, float]:
    """The types of the kernel's arguments, the lowered kernel, its PTX, and the seconds from text to PTX."""
    kind = kind_of(row)
    source = SOURCES[kind].replace(str(COLUMNS), "?") if row.startswith(ANY) else SOURCES[kind]
    begin = time.perf_counter()
    program = Program.of_text(f"{row}.mlir", source, target)
    _, kernels = program.kernel_modules()
    named = {name: module for name, module in kernels.items() if name.startswith(NAMES.get(kind, kind))}
    if not named:
        raise CrosstileError(f"not one kernel yet: {', '.join(kernels)}")
    aligned = [module for module in named.values() if any(_is_aligned(op) for op in module.ops)] or [*named.values()]
    with_roles = [module for module in aligned if any(isinstance(op, mma.RolesOp) for op in module.walk())]
    holding = [module for module in aligned if _holds_rows(module)]
    kernel = holding[0] if holding else (with_roles or aligned)[-1]
    types = [argument.type for op in kernel.ops if isinstance(op, mma.KernelOp) for argument in op.body.block.args]
    lowered = program.lower_kernel(kernel)
    ptx = emit(lowered)
    return types, lowered, ptx, time.perf_counter() - begin


def _holds_rows(module: ModuleOp) -> bool:
    """Whether the registers of a block hold a row of the table."""
    loads = (op for op in module.walk() if isinstance(op, mma.LoadOp))
    return any(load.result.type.get_shape()[-1] == COLUMNS for load in loads)


def _is_aligned(op: object) -> bool:
    attribute = getattr(op, "attributes", {}).get(ALIGNMENT)
    return attribute is not None and attribute.value.data > 1
