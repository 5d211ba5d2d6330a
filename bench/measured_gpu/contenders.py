"""Who computes a problem beside us on a GPU: torch (cuBLAS, cuDNN, SDPA) and Triton. Imported where torch is."""

# pyright: basic, reportMissingImports=false
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from measured_gpu.problems import NUMPY_NAMES, Problem


def arrays(problem: Problem) -> list[Any]:
    """Random arguments on the GPU."""
    torch.manual_seed(0)
    found = []
    for element, shape in problem.arguments:
        dtype = getattr(torch, NUMPY_NAMES[element])
        if dtype in (torch.int8, torch.int32):
            found.append(torch.randint(-8, 9, shape, dtype=dtype, device="cuda"))
        else:
            found.append(torch.randn(shape, device="cuda").to(dtype))
    return found


def seconds(call: Callable[[], Any], budget: float = 0.4) -> float:
    """The median of the GPU's own times of a call, between events, after some that warm up."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    times: list[float] = []
    while len(times) < 10 or (sum(times) < budget and len(times) < 100):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return sorted(times)[len(times) // 2]


def by_torch(problem: Problem, given: list[Any]) -> Callable[[], Any]:
    """The call of torch that computes the problem, in types of its choice for the result."""
    match problem.kind:
        case "matmul" if problem.arguments[0][0] == "f8E4M3FN":
            one = torch.ones((), device="cuda")
            return lambda: torch._scaled_mm(given[0], given[1].t(), one, one, out_dtype=torch.bfloat16)
        case "matmul":
            return lambda: torch.matmul(*given)
        case "attention" | "causal":
            causal = problem.kind == "causal"
            return lambda: functional.scaled_dot_product_attention(*given, is_causal=causal)
        case "softmax":
            return lambda: torch.softmax(given[0], 1)
        case "layer_norm":
            return lambda: functional.layer_norm(given[0], given[0].shape[1:], *given[1:], 1e-5)
        case "rms_norm":
            return lambda: functional.rms_norm(given[0] + given[1], given[0].shape[1:], given[2], 1e-5)
        case "gelu":
            return lambda: functional.gelu(given[0])
        case "transpose":
            return lambda: given[0].t().contiguous()
        case "conv2d":
            image, filters = given[0].permute(0, 3, 1, 2), given[1].permute(3, 2, 0, 1)
            filters = filters.contiguous(memory_format=torch.channels_last)
            return lambda: functional.conv2d(image, filters, padding=1)
        case _:
            raise KeyError(problem.kind)


def by_triton(problem: Problem, given: list[Any]) -> Callable[[], Any] | None:
    """The tutorial's kernel, where it fits whole blocks; None where there is none."""
    import triton
    from static_gpu import triton_kernels

    kernels: Any = triton_kernels

    if any(size % 128 for size in problem.sizes):
        return None
    if problem.kind == "matmul" and problem.arguments[0][0] != "f8E4M3FN":
        m, n, k = problem.sizes
        c = torch.empty((m, n), device="cuda")
        blocks = {"BM": 128, "BN": 128, "BK": 32} if torch.cuda.get_device_capability()[0] < 9 else {}
        blocks = blocks or {"BM": 128, "BN": 256 if n % 256 == 0 else 128, "BK": 64}
        grid = ((m // 128) * (n // blocks["BN"]),)
        options = {"num_warps": 8, "num_stages": 3}
        return lambda: kernels.matmul[grid](*given, c, m, n, k, k, n, n, **blocks, **options)
    if problem.kind == "softmax":
        x, y = given[0], torch.empty_like(given[0])
        block = triton.next_power_of_2(x.shape[1])
        return lambda: kernels.softmax[(len(x),)](x, y, x.shape[1], x.shape[1], BLOCK=block, num_warps=8)
    if problem.kind == "attention":
        q, k, v = given
        batch, heads, length, depth = q.shape
        out, scale = torch.empty(q.shape, device="cuda"), 1.4426950408889634 / depth**0.5
        grid = (length // 128, batch * heads)
        blocks = {"BM": 128, "BN": 64, "D": depth}
        return lambda: kernels.attention[grid](q, k, v, out, length, scale, **blocks, num_warps=8, num_stages=2)
    return None


def copy_seconds() -> tuple[float, int]:
    """The time of a copy on the GPU, and the bytes that it reads and writes."""
    x = torch.empty(1 << 28, device="cuda")
    y = torch.empty_like(x)
    return seconds(lambda: y.copy_(x)), 2 * x.nbytes
