"""Kernels as people write them in Triton, compiled to PTX without a GPU: code that the simulator was not made for."""
# ruff: noqa: N803 - Triton's constants are written in capitals
# pyright: basic, reportMissingImports=false, reportGeneralTypeIssues=false, reportOptionalOperand=false

import functools

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit
def matmul(a, b, c, m, n, k, stride_a, stride_b, stride_c, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    inner = tl.arange(0, BK)
    a += rows[:, None] * stride_a + inner[None, :]
    b += inner[:, None] * stride_b + columns[None, :]
    total = tl.zeros((BM, BN), tl.float32)
    for start in range(tl.cdiv(k, BK)):
        left = k - start * BK
        x = tl.load(a, mask=(rows[:, None] < m) & (inner[None, :] < left), other=0.0)
        y = tl.load(b, mask=(inner[:, None] < left) & (columns[None, :] < n), other=0.0)
        total = tl.dot(x, y, total)
        a += BK
        b += BK * stride_b
    mask = (rows[:, None] < m) & (columns[None, :] < n)
    tl.store(c + rows[:, None] * stride_c + columns[None, :], total, mask=mask)


@triton.jit
def matmul_tma(a, b, c, m, n, k, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    row, column = tl.program_id(0) * BM, tl.program_id(1) * BN
    total = tl.zeros((BM, BN), tl.float32)
    for start in range(tl.cdiv(k, BK)):
        total = tl.dot(a.load([row, start * BK]), b.load([start * BK, column]), total)
    c.store([row, column], total.to(tl.bfloat16))


@triton.jit
def softmax(x, y, n, stride, SIZE: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, SIZE)
    values = tl.load(x + row * stride + columns, mask=columns < n, other=-float("inf"))
    powers = tl.exp(values - tl.max(values, 0))
    tl.store(y + row * stride + columns, powers / tl.sum(powers, 0), mask=columns < n)


@triton.jit
def layer_norm(x, y, weight, bias, n, stride, epsilon, SIZE: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, SIZE)
    mask = columns < n
    values = tl.load(x + row * stride + columns, mask=mask, other=0.0)
    centred = tl.where(mask, values - tl.sum(values, 0) / n, 0.0)
    scale = 1 / tl.sqrt(tl.sum(centred * centred, 0) / n + epsilon)
    result = centred * scale * tl.load(weight + columns, mask=mask) + tl.load(bias + columns, mask=mask)
    tl.store(y + row * stride + columns, result, mask=mask)


@triton.jit
def attention(q, k, v, out, length, scale, CAUSAL: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr):
    offset = tl.program_id(1) * length * D
    q, k, v, out = q + offset, k + offset, v + offset, out + offset
    rows, keys, inner = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, BN), tl.arange(0, D)
    queries = tl.load(q + rows[:, None] * D + inner[None, :], mask=rows[:, None] < length, other=0.0)
    largest = tl.full((BM,), -float("inf"), tl.float32)
    total = tl.zeros((BM,), tl.float32)
    result = tl.zeros((BM, D), tl.float32)
    last = (tl.program_id(0) + 1) * BM if CAUSAL else length
    for start in range(0, last, BN):
        here = start + keys
        block = tl.load(k + here[None, :] * D + inner[:, None], mask=here[None, :] < length, other=0.0)
        scores = tl.dot(queries, block) * scale
        seen = here[None, :] < length
        if CAUSAL:
            seen = seen & (here[None, :] <= rows[:, None])
        scores = tl.where(seen, scores, -float("inf"))
        larger = tl.maximum(largest, tl.max(scores, 1))
        weights = tl.exp2(scores - larger[:, None])
        rescale = tl.exp2(largest - larger)
        total = total * rescale + tl.sum(weights, 1)
        block = tl.load(v + here[:, None] * D + inner[None, :], mask=here[:, None] < length, other=0.0)
        result = tl.dot(weights.to(tl.bfloat16), block, result * rescale[:, None])
        largest = larger
    tl.store(
        out + rows[:, None] * D + inner[None, :], (result / total[:, None]).to(tl.bfloat16), rows[:, None] < length
    )


POINTER, FLOAT = "*bf16", "*fp32"
SIZES = dict.fromkeys(("m", "n", "k", "stride_a", "stride_b", "stride_c"), "i32")
KERNELS = {
    "matmul": (
        matmul,
        {
            "a": POINTER,
            "b": POINTER,
            "c": FLOAT,
            **SIZES,
        },
        {"BM": 64, "BN": 64, "BK": 32},
        {"num_warps": 4, "num_stages": 3},
    ),
    "matmul_aligned": (
        matmul,
        {
            "a": POINTER,
            "b": POINTER,
            "c": FLOAT,
            **SIZES,
        },
        {"BM": 64, "BN": 128, "BK": 32},
        {"num_warps": 4, "num_stages": 3},
    ),
    "matmul_tma": (
        matmul_tma,
        {
            "a": "tensordesc<bf16[128,64]>",
            "b": "tensordesc<bf16[64,128]>",
            "c": "tensordesc<bf16[128,128]>",
            **dict.fromkeys(("m", "n", "k"), "i32"),
        },
        {"BM": 128, "BN": 128, "BK": 64},
        {"num_warps": 4, "num_stages": 3},
    ),
    "softmax": (softmax, {"x": FLOAT, "y": FLOAT, "n": "i32", "stride": "i32"}, {"SIZE": 1024}, {"num_warps": 4}),
    "layer_norm": (
        layer_norm,
        {**dict.fromkeys(("x", "y", "weight", "bias"), FLOAT), "n": "i32", "stride": "i32", "epsilon": "fp32"},
        {"SIZE": 1024},
        {"num_warps": 4},
    ),
    "attention": (
        attention,
        {**dict.fromkeys(("q", "k", "v", "out"), POINTER), "length": "i32", "scale": "fp32"},
        {"CAUSAL": True, "BM": 64, "BN": 32, "D": 64},
        {"num_warps": 4, "num_stages": 2},
    ),
}
ALIGNED = ("matmul_aligned",)
"""Kernels whose pointers and sizes are promised to be multiples of 16, so that copies are asynchronous."""


@functools.cache
def compiled(name: str, capability: int) -> tuple[str, str, int]:
    """The PTX text, the kernel's name and its dynamic shared memory in bytes."""
    function, signature, constants, options = KERNELS[name]
    attributes = {}
    if name in ALIGNED:
        attributes = {(place,): [["tt.divisibility", 16]] for place in range(len(signature))}
    source = ASTSource(
        fn=function,
        signature={**signature, **dict.fromkeys(constants, "constexpr")},
        constexprs=constants,
        attrs=attributes,
    )
    kernel = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    return kernel.asm["ptx"], kernel.metadata.name, kernel.metadata.shared
