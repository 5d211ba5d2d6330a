"""Our kernels for the static comparison: from programs of the nn and tile levels to PTX, and what that took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp

from crosstile.dialects import mma
from crosstile.dialects.tile.launch import ALIGNMENT
from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.emit import emit
from crosstile.targets.nvidia.launch import DeviceArray, KernelPlan, plan_of
from crosstile.targets.nvidia.simulate import GlobalMemory, simulate
from crosstile.targets.nvidia.simulator.report import Report
from crosstile.tools.program import Program
from static_gpu.problems import COMPILATIONS, arrays

MATMUL = """
func.func @main(%a: tensor<?x?xbf16> {nn.dims = ["M", "K"]}, %b: tensor<?x?xbf16> {nn.dims = ["K", "N"]})
    -> tensor<?x?xf32> {
  %c = nn.matmul %a, %b accumulate f32 : tensor<?x?xbf16>, tensor<?x?xbf16> -> tensor<?x?xf32>
  func.return %c : tensor<?x?xf32>
}
"""
SOFTMAX = """
func.func @main(%x: tensor<?x4096xf32> {nn.dims = ["M", "_"]}) -> tensor<?x4096xf32> {
  %y = nn.softmax %x dim 1 : tensor<?x4096xf32>
  func.return %y : tensor<?x4096xf32>
}
"""
ATTENTION = """
func.func @main(%q: tensor<?x8x?x64xbf16> {nn.dims = ["B", "_", "M", "_"]},
    %k: tensor<?x8x?x64xbf16> {nn.dims = ["B", "_", "N", "_"]},
    %v: tensor<?x8x?x64xbf16> {nn.dims = ["B", "_", "N", "_"]}) -> tensor<?x8x?x64xbf16> {
  %y = nn.attention %q, %k, %v accumulate f32
      : tensor<?x8x?x64xbf16>, tensor<?x8x?x64xbf16>, tensor<?x8x?x64xbf16>
  func.return %y : tensor<?x8x?x64xbf16>
}
"""
SOURCES = {"gemm": MATMUL, "softmax": SOFTMAX, "attention": ATTENTION}
NAMES = {"gemm": "matmul", "softmax": "softmax", "attention": "attention"}
"""How the kernel that is meant is called."""


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
    kind, _, architecture = row.partition("-")
    target = {"sm80": "nvidia-sm_80", "sm90": "nvidia-sm_90a"}[architecture]
    compiled = [_compiled(row, kind, target) for _ in range(COMPILATIONS)]
    lowered, ptx, _ = compiled[0]
    (function,) = (op for op in lowered.ops if "nvvm.kernel" in op.attributes)
    plan = plan_of(function)  # pyright: ignore[reportArgumentType]
    return Compiled(
        ptx, plan.shared_bytes, plan.threads, min(seconds for _, _, seconds in compiled), lambda: _run(row, ptx, plan)
    )


def _run(row: str, ptx: str, plan: KernelPlan) -> Report:
    memory = GlobalMemory()
    given = [DeviceArray(one.address, one.shape, one.strides, one.element_bytes) for one in arrays(row, memory)]
    launch = plan.launch(given, 1)
    assert launch is not None
    shared = launch.shared_bytes
    return simulate(ptx, launch.kernel, launch.grid, launch.block, list(launch.arguments), memory, shared)


def _compiled(row: str, kind: str, target: str) -> tuple[ModuleOp, str, float]:
    begin = time.perf_counter()
    program = Program.of_text(f"{row}.mlir", SOURCES[kind], target)
    _, kernels = program.kernel_modules()
    named = {name: module for name, module in kernels.items() if name.startswith(NAMES[kind])}
    if not named:
        raise CrosstileError(f"not one kernel yet: {', '.join(kernels)}")
    aligned = [name for name, module in named.items() if any(_is_aligned(op) for op in module.ops)]
    with_roles = [name for name in aligned if any(isinstance(op, mma.RolesOp) for op in named[name].walk())]
    lowered = program.lower_kernel(named[(with_roles or aligned or list(named))[-1]])
    ptx = emit(lowered)
    return lowered, ptx, time.perf_counter() - begin


def _is_aligned(op: object) -> bool:
    attribute = getattr(op, "attributes", {}).get(ALIGNMENT)
    return attribute is not None and attribute.value.data > 1
