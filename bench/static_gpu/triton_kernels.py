"""Triton's kernels for the static comparison: what its tutorials and its users write, compiled without a GPU.

``@triton.jit`` reads the source of a function, so these stand in a file. ``compile_kernel`` gives PTX, cubin and the
bytes of shared memory for an architecture.
"""

# pyright: basic, reportMissingImports=false
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler import compile as triton_compile

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.simulate import GlobalMemory, TensorMap, simulate
from crosstile.targets.nvidia.simulator.report import Report
from static_gpu.problems import ANY, COMPILATIONS, arrays_of, kind_of


@dataclass(frozen=True)
class Compiled:
    """What Triton makes of a kernel, the threads of a block, and the seconds it took; ``run`` simulates it."""

    ptx: str
    cubin: bytes
    shared: int
    threads: int
    seconds: float
    run: Callable[[], Report]


@triton.jit
def matmul(a, b, c, m, n, k, stride_a, stride_b, stride_c, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """C = A B, whole blocks, pointers."""
    program = tl.program_id(0)
    columns = tl.cdiv(n, BN)
    rm = program // columns * BM + tl.arange(0, BM)
    rn = program % columns * BN + tl.arange(0, BN)
    rk = tl.arange(0, BK)
    pa = a + rm[:, None] * stride_a + rk[None, :]
    pb = b + rk[:, None] * stride_b + rn[None, :]
    total = tl.zeros((BM, BN), tl.float32)
    for _ in range(tl.cdiv(k, BK)):
        total = tl.dot(tl.load(pa), tl.load(pb), total)
        pa += BK
        pb += BK * stride_b
    tl.store(c + rm[:, None] * stride_c + rn[None, :], total)


@triton.jit
def matmul_tma(a, b, c, m, n, k, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """C = A B, tensor descriptors."""
    program = tl.program_id(0)
    columns = tl.cdiv(n, BN)
    i = program // columns * BM
    j = program % columns * BN
    total = tl.zeros((BM, BN), tl.float32)
    for step in range(tl.cdiv(k, BK)):
        total = tl.dot(a.load([i, step * BK]), b.load([step * BK, j]), total)
    c.store([i, j], total)


@triton.jit
def softmax(x, y, stride, BLOCK: tl.constexpr):
    """Rows of BLOCK elements."""
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    values = tl.load(x + row * stride + at)
    weights = tl.exp(values - tl.max(values, axis=0))
    tl.store(y + row * stride + at, weights / tl.sum(weights, axis=0))


@triton.jit
def any_softmax(x, y, n, stride, BLOCK: tl.constexpr):
    """Rows of n elements, up to BLOCK."""
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    values = tl.load(x + row * stride + at, mask=at < n, other=-float("inf"))
    weights = tl.exp(values - tl.max(values, axis=0))
    tl.store(y + row * stride + at, weights / tl.sum(weights, axis=0), mask=at < n)


@triton.jit
def layer_norm(x, weight, bias, y, stride, epsilon, BLOCK: tl.constexpr):
    """Rows of BLOCK elements."""
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    values = tl.load(x + row * stride + at)
    centred = values - tl.sum(values, axis=0) / BLOCK
    scale = 1 / tl.sqrt(tl.sum(centred * centred, axis=0) / BLOCK + epsilon)
    tl.store(y + row * stride + at, centred * scale * tl.load(weight + at) + tl.load(bias + at))


@triton.jit
def any_layer_norm(x, weight, bias, y, n, stride, epsilon, BLOCK: tl.constexpr):
    """Rows of n elements, up to BLOCK."""
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    mask = at < n
    values = tl.load(x + row * stride + at, mask=mask, other=0.0)
    centred = tl.where(mask, values - tl.sum(values, axis=0) / n, 0.0)
    scale = 1 / tl.sqrt(tl.sum(centred * centred, axis=0) / n + epsilon)
    result = centred * scale * tl.load(weight + at, mask=mask) + tl.load(bias + at, mask=mask)
    tl.store(y + row * stride + at, result, mask=mask)


@triton.jit
def rms_norm(x, weight, y, stride, epsilon, BLOCK: tl.constexpr):
    """Rows of BLOCK elements."""
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    values = tl.load(x + row * stride + at)
    scale = 1 / tl.sqrt(tl.sum(values * values, axis=0) / BLOCK + epsilon)
    tl.store(y + row * stride + at, values * scale * tl.load(weight + at))


@triton.jit
def any_rms_norm(x, weight, y, n, stride, epsilon, BLOCK: tl.constexpr):
    """Rows of n elements, up to BLOCK."""
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    mask = at < n
    values = tl.load(x + row * stride + at, mask=mask, other=0.0)
    scale = 1 / tl.sqrt(tl.sum(values * values, axis=0) / n + epsilon)
    tl.store(y + row * stride + at, values * scale * tl.load(weight + at, mask=mask), mask=mask)


ROWS = {
    "softmax": (softmax, any_softmax),
    "layer_norm": (layer_norm, any_layer_norm),
    "rms_norm": (rms_norm, any_rms_norm),
}
"""The kernels that fold rows: of one length, and of any."""
EPSILON = 1e-5


@triton.jit
def attention(q, k, v, o, length, scale, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr):
    """One block of queries of one head of [heads, length, D], whole blocks of keys."""
    head = tl.program_id(1) * length * D
    rm = tl.program_id(0) * BM + tl.arange(0, BM)
    rn = tl.arange(0, BN)
    rd = tl.arange(0, D)
    query = tl.load(q + head + rm[:, None] * D + rd[None, :])
    pk = k + head + rn[None, :] * D + rd[:, None]
    pv = v + head + rn[:, None] * D + rd[None, :]
    most = tl.full((BM,), -float("inf"), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    sums = tl.zeros((BM, D), tl.float32)
    for _ in range(0, length, BN):
        scores = tl.dot(query, tl.load(pk)) * scale
        largest = tl.maximum(most, tl.max(scores, 1))
        weights = tl.exp2(scores - largest[:, None])
        rescale = tl.exp2(most - largest)
        total = total * rescale + tl.sum(weights, 1)
        sums = tl.dot(weights.to(tl.bfloat16), tl.load(pv), sums * rescale[:, None])
        most = largest
        pk += BN * D
        pv += BN * D
    tl.store(o + head + rm[:, None] * D + rd[None, :], sums / total[:, None])


def _of(function: Any, types: dict[str, str], constants: dict[str, int]) -> Any:
    signature = {**types, **dict.fromkeys(constants, "constexpr")}
    attributes = {
        (place,): [["tt.divisibility", 16]]
        for place, type_ in enumerate(types.values())
        if type_.startswith("*") or type_ == "i32"
    }
    return ASTSource(fn=function, signature=signature, constexprs=constants, attrs=attributes)


def source(row: str) -> tuple[Any, dict[str, Any], int]:
    """The source of a row of the table, Triton's options for it, and the architecture's number."""
    sizes = {"m": "i32", "n": "i32", "k": "i32"}
    match row:
        case "gemm-sm80":
            types = {"a": "*bf16", "b": "*bf16", "c": "*fp32", **sizes}
            types |= {"stride_a": "i32", "stride_b": "i32", "stride_c": "i32"}
            return _of(matmul, types, {"BM": 128, "BN": 128, "BK": 32}), {"num_warps": 4, "num_stages": 4}, 80
        case "gemm-sm90":
            types = {"a": "tensordesc<bf16[128, 64]>", "b": "tensordesc<bf16[64, 256]>"}
            types |= {"c": "tensordesc<fp32[128, 256]>", **sizes}
            return _of(matmul_tma, types, {"BM": 128, "BN": 256, "BK": 64}), {"num_warps": 8, "num_stages": 3}, 90
        case "attention-sm80" | "attention-sm90":
            types = {**dict.fromkeys("qkv", "*bf16"), "o": "*fp32", "length": "i32", "scale": "fp32"}
            options = {"num_warps": 4 if row.endswith("80") else 8, "num_stages": 2}
            return _of(attention, types, {"BM": 128, "BN": 64, "D": 64}), options, int(row[-2:])
        case "conv2d-sm80" | "conv2d-sm90":
            raise CrosstileError("convolutions are not compared with Triton")
        case _:
            function = ROWS[kind_of(row)][row.startswith(ANY)]
            scalars = {"n": "i32", "stride": "i32", "epsilon": "fp32"}
            arguments = function.arg_names[:-1]
            types = {name: scalars.get(name, "*fp32") for name in arguments}
            return _of(function, types, {"BLOCK": 4096}), {"num_warps": 8}, int(row[-2:])


def compile_kernel(row: str) -> Compiled:
    """Compile the kernel of a row of the table."""
    written, options, number = source(row)
    seconds: list[float] = []

    def note(times: Any, **rest: Any) -> None:
        del rest
        stages = dict(times.lowering_stages)
        seconds.append(1e-6 * (times.total_lowering - stages.get("cubin", 0) + times.ir_initialization))

    knobs: Any = import_module("triton.knobs")  # whose types checkers do not see
    with knobs.compilation.scope():
        knobs.compilation.always_compile = True
        knobs.compilation.listener = note
        for _ in range(COMPILATIONS):
            kernel = triton_compile(written, target=GPUTarget("cuda", number, 32), options=options)
    threads = kernel.metadata.num_warps * 32
    ptx, shared = kernel.asm["ptx"], kernel.metadata.shared
    return Compiled(
        ptx,
        kernel.asm["cubin"],
        shared,
        threads,
        min(seconds),
        lambda: _run(row, ptx, kernel.metadata.name, threads, shared),
    )


def _run(row: str, ptx: str, name: str, threads: int, shared: int) -> Report:
    """One launch in the simulator; the last two parameters are scratch memory that these kernels do not use."""
    memory = GlobalMemory()
    given = arrays_of(row, memory, "f32")
    addresses: list[Any] = [one.address for one in given]
    m, n = given[-1].shape[-2:]
    k, grid = given[0].shape[-1], (1,)
    match row:
        case "gemm-sm80":
            arguments, grid = [*addresses, m, n, k, k, n, n], (n // 128,)
        case "gemm-sm90":
            boxes, arguments = ((128, 64), (64, 64), (128, 32)), []
            for one, box in zip(given, boxes, strict=True):
                map_ = TensorMap.row_major(one.element, one.address, one.shape, one.strides, box, swizzle=128)
                arguments += [map_, *one.shape, *one.strides]
            arguments += [m, n, k]
        case "attention-sm80" | "attention-sm90":
            arguments, grid = [*addresses, m, 0.18], (m // 128, given[0].shape[1])
        case _:
            sizes = [n, n] if row.startswith(ANY) else [n]
            arguments, grid = [*addresses, *sizes, *([] if "softmax" in row else [EPSILON])], (m,)
    return simulate(ptx, name, grid, (threads,), [*arguments, 0, 0], memory, shared)
