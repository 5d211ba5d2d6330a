"""TileLang's kernels for the static comparison: products as its examples write them, compiled without a GPU.

TileLang makes CUDA source, from which nvcc (of the wheels nvidia-cuda-nvcc, -cccl and -runtime) makes the PTX that
ptxas reads like everybody else's. Rows that are no product are not compared.
"""

# pyright: basic, reportMissingImports=false, reportInvalidTypeForm=false
from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tilelang
import tilelang.language as T  # noqa: N812 - as all of TileLang's code calls it
from tvm.target import Target

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.ptx.parser import parse_ptx
from crosstile.targets.nvidia.ptxas import find_tool
from crosstile.targets.nvidia.simulate import GlobalMemory, TensorMap, simulate
from crosstile.targets.nvidia.simulator.report import Report
from static_gpu.problems import COMPILATIONS, arrays_of

COLUMNS, DEPTH = 256, 1024
"""Sizes that the kernels are made for: products of [m, 1024] and [1024, 256]."""
BLOCKS = {"gemm-sm80": (128, 128, 32, 128, 4), "gemm-sm90": (128, 256, 64, 256, 3)}
"""Rows, columns and depth of a block, threads that compute, slots."""
ARCHITECTURES = {"gemm-sm80": "sm_80", "gemm-sm90": "sm_90a"}


@dataclass(frozen=True)
class Compiled:
    """What TileLang and nvcc make of a kernel, and the seconds both took; ``run`` simulates it."""

    ptx: str
    shared: int
    threads: int
    seconds: float
    run: Callable[[], Report]


def matmul(rows: int, columns: int, depth: int, threads: int, stages: int) -> Any:
    """C = A B, as TileLang's first example."""
    m = T.dynamic("m")

    @T.prim_func
    def product(
        a: T.Tensor((m, DEPTH), "bfloat16"),
        b: T.Tensor((DEPTH, COLUMNS), "bfloat16"),
        c: T.Tensor((m, COLUMNS), "float32"),
    ):
        with T.Kernel(T.ceildiv(COLUMNS, columns), T.ceildiv(m, rows), threads=threads) as (x, y):
            staged_a = T.alloc_shared((rows, depth), "bfloat16")
            staged_b = T.alloc_shared((depth, columns), "bfloat16")
            total = T.alloc_fragment((rows, columns), "float32")
            T.clear(total)
            for k in T.Pipelined(T.ceildiv(DEPTH, depth), num_stages=stages):
                T.copy(a[y * rows, k * depth], staged_a)
                T.copy(b[k * depth, x * columns], staged_b)
                T.gemm(staged_a, staged_b, total)
            T.copy(total, c[y * rows, x * columns])

    return product


def compile_kernel(row: str) -> Compiled:
    """Compile the kernel of a row of the table; a CrosstileError for one that is no product."""
    if row not in BLOCKS:
        raise CrosstileError("only products are compared with TileLang")
    target = Target({"kind": "cuda", "arch": ARCHITECTURES[row]})
    seconds: list[float] = []
    for _ in range(COMPILATIONS):
        begin = time.perf_counter()
        with target:
            lowered = tilelang.lower(matmul(*BLOCKS[row]), target=target)
        ptx = _ptx(lowered.kernel_source, ARCHITECTURES[row])
        seconds.append(time.perf_counter() - begin)
    launch = re.search(r'call_packed\("product_kernel", .*, (\d+), 1, 1, (\d+)\)', str(lowered.host_mod))
    assert launch is not None, "the host code launches the kernel"
    threads, shared = int(launch[1]), int(launch[2])
    static = sum(variable.bytes for variable in parse_ptx(ptx).functions["product_kernel"].shared)
    return Compiled(ptx, shared + static, threads, min(seconds), lambda: _run(row, ptx, threads, shared))


def _ptx(source: str, architecture: str) -> str:
    """What nvcc makes of CUDA source."""
    package = Path(tilelang.__path__[0])
    tool = find_tool("nvcc")
    folders = [package / "src", package / "3rdparty" / "cutlass" / "include", tool.parent.parent / "include"]
    with tempfile.TemporaryDirectory(prefix="crosstile-") as folder:
        file, result = Path(folder, "kernel.cu"), Path(folder, "kernel.ptx")
        file.write_text(source, encoding="utf-8")
        command = [tool, "-ptx", "-O3", "-std=c++17", f"-arch={architecture}", *(f"-I{one}" for one in folders)]
        done = subprocess.run([*command, str(file), "-o", str(result)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise CrosstileError(f"nvcc refused TileLang's source: {(done.stderr.splitlines() or [''])[-1]}")
        return result.read_text(encoding="utf-8")


def _run(row: str, ptx: str, threads: int, shared: int) -> Report:
    memory = GlobalMemory()
    a, b, c = arrays_of(row, memory)
    rows, columns, depth, *_ = BLOCKS[row]
    given: list[Any] = [a.address, b.address]
    if row == "gemm-sm90":
        boxes = ((a, (rows, depth)), (b, (depth, 64)))
        given = [
            TensorMap.row_major("bf16", one.address, one.shape, one.strides, box, swizzle=128) for one, box in boxes
        ]
    grid = (-(-COLUMNS // columns), -(-a.shape[0] // rows))
    return simulate(ptx, "product_kernel", grid, (threads,), [*given, c.address, a.shape[0]], memory, shared)
