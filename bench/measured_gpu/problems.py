"""What is computed and measured on a GPU: programs, sizes, and what the answer is, in float64.

In: nothing. Out: ``checks``, kernels of small and awkward sizes whose every number is compared with NumPy's float64,
and ``speeds``, large ones whose operations and bytes are counted. ``tiny`` makes sizes that the simulator gets through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import erf, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstile.dialects.nn.error_bound import bound_program
from crosstile.tools.arguments import Parameters, random_inputs
from crosstile.tools.program import Program

Array = NDArray[Any]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NUMPY_NAMES = {
    "f64": "float64",
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "i8": "int8",
    "i32": "int32",
    "f8E4M3FN": "float8_e4m3fn",
    "f8E5M2": "float8_e5m2",
}
BYTES = {"f64": 8, "f32": 4, "f16": 2, "bf16": 2, "i8": 1, "i32": 4, "f8E4M3FN": 1, "f8E5M2": 1}


@dataclass(frozen=True)
class Problem:
    """A program with its arguments' types and shapes; ``answer`` computes the results in float64.

    ``operations`` and ``moved`` (bytes read and written at least once) are of one call. ``kind`` and ``sizes`` choose
    the contenders. ``fill`` changes random arguments where they are compared with the answer; ``loses`` is the error,
    of the largest number of the answer, that the program allows.
    """

    name: str
    kind: str
    text: str
    arguments: tuple[tuple[str, tuple[int, ...]], ...]
    answer: Callable[..., Array]
    sizes: tuple[int, ...] = ()
    operations: int = 0
    moved: int = 0
    entry: str = "main"
    fill: Callable[[list[Array]], None] | None = None
    loses: float = 0.0


def product(a: Array, b: Array) -> Array:
    """``a @ b`` for stacks of matrices."""
    return a @ b


def product_text(element: str, result: str = "f32") -> str:
    """A matrix product of any sizes."""
    a, c = f"tensor<?x?x{element}>", f"tensor<?x?x{result}>"
    return (
        f"func.func @main(%a: {a}, %b: {a}) -> {c} {{\n"
        f"  %c = nn.matmul %a, %b accumulate {result} : {a}, {a} -> {c}\n  func.return %c : {c}\n}}\n"
    )


def matmul(element: str, m: int, n: int, k: int, result: str = "f32") -> Problem:
    """A product of m x k and k x n."""
    moved = (m * k + k * n) * BYTES[element] + m * n * BYTES[result]
    shapes = (element, (m, k)), (element, (k, n))
    name = f"matmul {element} {m}x{n}x{k}"
    return Problem(name, "matmul", product_text(element, result), shapes, product, (m, n, k), 2 * m * n * k, moved)


def transposed(element: str, m: int, n: int, k: int, a: bool, b: bool) -> Problem:
    """A product whose left factor lies as k x m (``a``), or its right one as n x k (``b``)."""
    x = f"tensor<?x?x{element}>"
    flags = ", ".join(name for name, is_set in (("transpose_a", a), ("transpose_b", b)) if is_set)
    text = (
        f"func.func @main(%a: {x}, %b: {x}) -> tensor<?x?xf32> {{\n"
        f"  %c = nn.matmul %a, %b {{{flags}}} accumulate f32 : {x}, {x} -> tensor<?x?xf32>\n"
        "  func.return %c : tensor<?x?xf32>\n}\n"
    )
    shapes = (element, (k, m) if a else (m, k)), (element, (n, k) if b else (k, n))

    def answer(lhs: Array, rhs: Array) -> Array:
        return (lhs.T if a else lhs) @ (rhs.T if b else rhs)

    moved = (m * k + k * n) * BYTES[element] + 4 * m * n
    return Problem(f"{flags} {element} {m}x{n}x{k}", "matmul", text, shapes, answer, (m, n, k), 2 * m * n * k, moved)


def fast_float8(element: str, m: int, n: int, k: int) -> Problem:
    """A product of 8-bit floats, k contiguous in both factors, whose sums may keep 13 bits: what tensor cores do."""
    plain = transposed(element, m, n, k, False, True)
    text = plain.text.replace("accumulate f32", "accumulate f32 precision fast_accumulation")
    return replace(plain, name=f"fast accumulation {element} {m}x{n}x{k}", text=text, loses=2.0**-8)


def batch_matmul(element: str, batch: int, m: int, n: int, k: int) -> Problem:
    """A stack of products."""
    x, y = f"tensor<?x?x?x{element}>", "tensor<?x?x?xf32>"
    text = (
        f"func.func @main(%a: {x}, %b: {x}) -> {y} {{\n"
        f"  %c = nn.batch_matmul %a, %b accumulate f32 : {x}, {x} -> {y}\n  func.return %c : {y}\n}}\n"
    )
    shapes = (element, (batch, m, k)), (element, (batch, k, n))
    moved = batch * ((m * k + k * n) * BYTES[element] + 4 * m * n)
    name = f"batch_matmul {element} {batch}x{m}x{n}x{k}"
    return Problem(name, "matmul", text, shapes, product, (batch, m, n, k), 2 * batch * m * n * k, moved)


def attend(causal: bool) -> Callable[[Array, Array, Array], Array]:
    """Attention in float64, heads shared among queries."""

    def answer(q: Array, k: Array, v: Array) -> Array:
        k, v = (np.repeat(one, q.shape[1] // one.shape[1], axis=1) for one in (k, v))
        scores = q @ k.swapaxes(2, 3) / np.sqrt(q.shape[3])
        if causal:
            visible = np.tril(np.ones(scores.shape[2:], bool), scores.shape[3] - scores.shape[2])
            scores = np.where(visible, scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=3, keepdims=True))
        return weights / weights.sum(axis=3, keepdims=True) @ v

    return answer


def attention(
    batch: int, heads: int, keys: int, length: int, depth: int, causal: bool, element: str, queries: int | None = None
) -> Problem:
    """Attention of ``heads`` query heads over ``keys`` key heads; ``length`` queries and keys, or so many queries."""
    queries = length if queries is None else queries
    q, k = (f"tensor<?x{count}x?x{depth}x{element}>" for count in (heads, keys))
    mask = " causal" if causal else ""
    text = (
        f"func.func @main(%q: {q}, %k: {k}, %v: {k}) -> {q} {{\n"
        f"  %y = nn.attention %q, %k, %v{mask} accumulate f32 : {q}, {k}, {k}\n  func.return %y : {q}\n}}\n"
    )
    sizes = (heads, queries), (keys, length), (keys, length)
    shapes = tuple((element, (batch, count, size, depth)) for count, size in sizes)
    operations = 4 * batch * heads * queries * length * depth // (2 if causal else 1)
    moved = sum(prod(shape) * BYTES[element] for _, shape in (*shapes, shapes[0]))
    name = f"attention {element} D{depth} S{length}{mask}"
    return Problem(
        name, "causal" if causal else "attention", text, shapes, attend(causal), (length,), operations, moved
    )


def biased(element: str, heads: int, length: int, keys: int, depth: int, hides: bool) -> Problem:
    """Attention with a bias for each query and key, which heads share; ``hides``: it hides the keys after a query."""
    q, b = f"tensor<?x{heads}x?x{depth}x{element}>", f"tensor<?x?x{element}>"
    text = (
        f"func.func @main(%q: {q}, %k: {q}, %v: {q}, %b: {b}) -> {q} {{\n"
        f"  %y = nn.attention %q, %k, %v bias %b accumulate f32 : {q}, {q}, {q}, {b}\n  func.return %y : {q}\n}}\n"
    )
    shapes = (*((element, (1, heads, count, depth)) for count in (length, keys, keys)), (element, (length, keys)))

    def fill(given: list[Array]) -> None:
        if hides:
            given[3][np.triu_indices(length, keys - length + 1, keys)] = -np.inf

    def answer(q: Array, k: Array, v: Array, b: Array) -> Array:
        scores = q @ k.swapaxes(2, 3) / np.sqrt(depth) + b
        weights = np.exp(scores - scores.max(axis=3, keepdims=True))
        return weights / weights.sum(axis=3, keepdims=True) @ v

    name = f"attention {element} D{depth} S{length}x{keys} {'mask' if hides else 'bias'}"
    operations = 4 * heads * length * keys * depth
    return Problem(name, "biased", text, shapes, answer, (length, keys), operations, fill=fill)


def long_k(element: str, m: int, n: int, k: int) -> Problem:
    """A product of sizes in its type, whose sums may be split: few blocks and a long k."""
    a, b, c = f"tensor<{m}x{k}x{element}>", f"tensor<{k}x{n}x{element}>", f"tensor<{m}x{n}xf32>"
    text = (
        f"func.func @main(%a: {a}, %b: {b}) -> {c} {{\n"
        f"  %c = nn.matmul %a, %b accumulate f32 fastmath<reassoc> : {a}, {b} -> {c}\n  func.return %c : {c}\n}}\n"
    )
    return replace(matmul(element, m, n, k), name=f"any order {element} {m}x{n}x{k}", text=text)


def softmax(x: Array) -> Array:
    """Along rows."""
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def layer_norm(x: Array, gamma: Array, beta: Array) -> Array:
    """Of rows."""
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5) * gamma + beta


def rms_norm(x: Array, residual: Array, gamma: Array) -> Array:
    """Of rows of a sum."""
    total = x + residual
    return total / np.sqrt((total**2).mean(axis=1, keepdims=True) + 1e-5) * gamma


def gelu(x: Array) -> Array:
    """The exact one."""
    return x * (1 + np.vectorize(erf, otypes=[np.float64])(x / np.sqrt(2))) / 2


def convolution(x: Array, w: Array) -> Array:
    """A 3x3 filter over an image with channels last, edges padded with zeros."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    return sum(
        (padded[:, i : i + height, j : j + width] @ w[i, j] for i in range(3) for j in range(3)),
        np.zeros((*x.shape[:3], w.shape[3])),
    )


def rows(name: str, m: int, n: int) -> Problem:
    """One of the examples that work on rows of f32."""
    answer, extra, reads = {
        "softmax": (softmax, (), 1),
        "layer_norm": (layer_norm, ((n,), (n,)), 1),
        "rms_norm": (rms_norm, ((m, n), (n,)), 2),
    }[name]
    text = (EXAMPLES / f"{name}.mlir").read_text(encoding="utf-8")
    shapes = tuple(("f32", shape) for shape in ((m, n), *extra))
    return Problem(f"{name} {m}x{n}", name, text, shapes, answer, (m, n), 0, 4 * m * n * (reads + 1))


def total(dimension: int, m: int, n: int) -> Problem:
    """Sums of rows (1) or columns (0) of f32."""
    text = (
        "func.func @main(%x: tensor<?x?xf32>) -> tensor<?xf32> {\n"
        f"  %y = nn.reduce add %x dims [{dimension}] : tensor<?x?xf32> -> tensor<?xf32>\n"
        "  func.return %y : tensor<?xf32>\n}\n"
    )
    name = f"sum of {'rows' if dimension else 'columns'} {m}x{n}"
    kept = m if dimension else n

    def answer(x: Array) -> Array:
        return x.sum(axis=dimension)

    return Problem(name, "sum", text, (("f32", (m, n)),), answer, (m, n), 0, 4 * (m * n + kept))


def example(path: str, **sizes: int) -> Problem:
    """A program of the examples as a whole; its answer is the float64 reference that ``crosstile check`` compares with.

    ``sizes`` are those of the dimensions that ``nn.dims`` names.
    """
    program = Program.load(str(EXAMPLES / path))
    inputs = random_inputs(Parameters.of(program), sizes, seed=0)

    def answer(*given: Array) -> Array:
        typed = [one.astype(like.dtype) for one, like in zip(given, inputs, strict=True)]
        return bound_program(program.at("nn"), program.entry, typed)[0][0]

    elements = {name: element for element, name in NUMPY_NAMES.items()}
    shapes = tuple((elements[one.dtype.name], one.shape) for one in inputs)
    text = (EXAMPLES / path).read_text(encoding="utf-8")
    said = " ".join(f"{name}={size}" for name, size in sizes.items())
    moved = sum(one.nbytes for one in inputs)
    return Problem(f"{Path(path).stem} {said}", "example", text, shapes, answer, tuple(sizes.values()), 0, moved)


def elementwise(m: int, n: int) -> Problem:
    """Gelu of f32."""
    x = "tensor<?x?xf32>"
    text = f"func.func @main(%x: {x}) -> {x} {{\n  %y = nn.gelu %x : {x}\n  func.return %y : {x}\n}}\n"
    return Problem(f"gelu {m}x{n}", "gelu", text, (("f32", (m, n)),), gelu, (m, n), 0, 8 * m * n)


def transpose(m: int, n: int) -> Problem:
    """A transpose of f32."""
    x = "tensor<?x?xf32>"
    text = (
        f"func.func @main(%x: {x}) -> {x} {{\n  %y = nn.transpose %x [1, 0] : {x} -> {x}\n  func.return %y : {x}\n}}\n"
    )
    return Problem(f"transpose {m}x{n}", "transpose", text, (("f32", (m, n)),), np.transpose, (m, n), 0, 8 * m * n)


def conv2d(element: str, batch: int, size: int, channels: int) -> Problem:
    """A 3x3 convolution, channels last, as many channels out as in."""
    x, w = f"tensor<?x?x?x{channels}x{element}>", f"tensor<3x3x{channels}x{channels}x{element}>"
    y = f"tensor<?x?x?x{channels}xf32>"
    text = (
        f"func.func @main(%x: {x}, %w: {w}) -> {y} {{\n"
        f"  %y = nn.conv2d %x, %w nhwc padding [1, 1, 1, 1] accumulate f32 : {x}, {w} -> {y}\n"
        f"  func.return %y : {y}\n}}\n"
    )
    shapes = (element, (batch, size, size, channels)), (element, (3, 3, channels, channels))
    pixels = batch * size * size
    operations = 18 * pixels * channels * channels
    moved = (pixels + 9 * channels) * channels * BYTES[element] + 4 * pixels * channels
    name = f"conv2d {element} {batch}x{size}x{size}x{channels}"
    return Problem(name, "conv2d", text, shapes, convolution, (size,), operations, moved)


def checks(tiny: bool) -> Sequence[Problem]:
    """Every kind of kernel on sizes that fit no block."""
    m, n, k = (20, 24, 40) if tiny else (333, 520, 1000)
    length = 20 if tiny else 300
    return [
        *(matmul(element, m, n, k) for element in ("bf16", "f16", "f8E4M3FN")),
        *(fast_float8(element, m, n, k // 16 * 16) for element in ("f8E4M3FN", "f8E5M2")),
        matmul("f32", m, n, k),
        matmul("f64", m, n, k, "f64"),
        matmul("i8", m, n, k, "i32"),
        matmul("bf16", m + 1, n + 1, k + 1),
        *(
            transposed(element, m, n, k, a, b)
            for element in ("bf16", "f16", "f32")
            for a, b in ((True, False), (False, True), (True, True))
        ),
        *(batch_matmul(element, 3, m, n, k) for element in ("bf16", "f32")),
        long_k("bf16", 16, 24, 4096 if tiny else 1 << 16),
        *(attention(1, 4, 2, length, 64, causal, "bf16") for causal in (False, True)),
        *(attention(1, 2, 1, length, 128, causal, element) for causal in (False, True) for element in ("bf16", "f16")),
        *(
            biased(element, 2, length, length + 3, depth, hides)
            for element, depth in (("bf16", 64), ("f16", 128))
            for hides in (False, True)
        ),
        attention(1, 2, 2, length, 32, True, "f32"),
        *(rows(name, 5, k) for name in ("softmax", "layer_norm", "rms_norm")),
        elementwise(m, n),
        transpose(m, n),
        *(total(dimension, m, n) for dimension in (0, 1)),
        conv2d("bf16", 1, 6 if tiny else 30, 16 if tiny else 64),
        example("matmul_bias_gelu.mlir", M=m, N=n, K=k),
        example("digits/digits.mlir", N=m),
        example("encoder.mlir", S=length),
    ]


def speeds(tiny: bool) -> Sequence[Problem]:
    """Large problems, most important first."""
    if tiny:
        return [matmul("bf16", 16, 16, 16), rows("softmax", 2, 128), attention(1, 2, 2, 16, 64, False, "bf16")]
    found = [matmul("bf16", size, size, size) for size in (512, 1024, 2048, 4096, 8192, 16384)]
    found += [matmul("f16", 4096, 4096, 4096), fast_float8("f8E4M3FN", 4096, 4096, 4096)]
    found += [
        matmul("bf16", *sizes) for sizes in ((4000, 4104, 4040), (4001, 4103, 4099), (16, 4096, 4096), (4096, 16, 4096))
    ]
    found += [long_k("bf16", *sizes) for sizes in ((256, 256, 16384), (16, 4096, 4096), (512, 512, 8192))]
    found += [
        attention(max(1, 16384 // length), 16, 16, length, depth, causal, "bf16")
        for depth in (64, 128)
        for length in (1024, 4096, 16384)
        for causal in (False, True)
    ]
    found += [rows(name, 8192, 4096) for name in ("softmax", "layer_norm", "rms_norm")]
    return [
        *found,
        elementwise(8192, 8192),
        transpose(8192, 8192),
        conv2d("bf16", 32, 56, 64),
        conv2d("bf16", 32, 28, 256),
    ]
