"""The rows of the table: what is computed, on which sizes, how much work that is, and what the result must be.

A row is data. ``kind`` is what contenders know how to compute, ``sizes`` its dimensions, ``program`` ours (text, or the
path of an example), ``weights`` which argument is constant when weights may be packed ahead.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DTYPES = {"f32": np.dtype(np.float32), "bf16": np.dtype(ml_dtypes.bfloat16), "int8": np.dtype(np.int8)}
EPSILON = 1e-5
LINE = 64
"""Bytes of a cache line."""
Function = (
    Callable[[Any], Any]
    | Callable[[Any, Any], Any]
    | Callable[[Any, Any, Any], Any]
    | Callable[[Any, Any, Any, Any], Any]
)
"""What computes a row from its arguments."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    ``operations`` counts a multiply-add as two and an elementary function as one; ``bytes`` counts every argument and
    result once; ``traffic`` says whether that is mostly reading or as much writing. ``aim`` is the share of the limit
    that is wanted.
    """

    name: str
    kind: str
    sizes: dict[str, int]
    program: str
    operations: int
    bytes: int
    aim: float
    element: str = "f32"
    traffic: str = "copy"
    weights: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """The program's text."""
        return (EXAMPLES / self.program).read_text() if self.program.endswith(".mlir") else self.program

    def inputs(self) -> list[Array]:
        """The arguments: the same numbers in every process."""
        generator = np.random.default_rng(len(self.name))
        dtype = DTYPES[self.element]
        shapes = SHAPES[self.kind](self.sizes)
        if self.element == "int8":
            return [aligned(generator.integers(-128, 128, shape).astype(dtype)) for shape in shapes]
        scale = self.sizes["K"] ** -0.5 if self.kind == "conv2d" else 1.0
        return [
            aligned(
                (generator.standard_normal(shape, np.float32) * (scale if at in self.weights else 1.0)).astype(dtype)
            )
            for at, shape in enumerate(shapes)
        ]

    def reference(self, inputs: list[Array]) -> Array:
        """The result in float64 (exact for integers)."""
        function: Any = REFERENCES[self.kind]
        return function(*[array.astype(np.float64) for array in inputs])

    def error(self, found: Array, expected: Array) -> float:
        """The largest error, as a multiple of what is allowed: above 1 the result is wrong.

        Allowed is ``tolerance * (|expected| + the root mean square of what is expected)``: 2e-5 where sums are f32,
        2 ** -7 where a result may be rounded to bf16 and 2 ** -4 where weights are before (the few of a row that sees
        few keys are large), nothing for integers.
        """
        if found.shape != expected.shape:
            return math.inf
        rounded = 2.0**-4 if self.kind.endswith("attention") else 2.0**-7
        tolerance = {"f32": 2e-5, "bf16": rounded, "int8": 1e-9}[self.element]
        allowed = tolerance * (np.abs(expected) + math.sqrt(float(np.mean(np.square(expected)))))
        worst = float(np.max(np.abs(found.astype(np.float64) - expected) / allowed))
        return math.inf if math.isnan(worst) else worst


def aligned(array: Array) -> Array:
    """``array`` at the beginning of a cache line, as the tensors of frameworks are; NumPy's own are not."""
    raw = np.empty(array.nbytes + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    placed = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    placed[...] = array
    return placed


def _erf(x: Array) -> Array:
    function: Callable[[Array], Array] = np.vectorize(math.erf, otypes=[np.float64])
    return function(x)


def gelu(x: Array) -> Array:
    """``x * Phi(x)`` in float64, by blocks that fit a cache."""
    flat = x.reshape(-1)
    parts = [part * 0.5 * (1.0 + _erf(part * math.sqrt(0.5))) for part in np.array_split(flat, flat.size // 65536 + 1)]
    return np.concatenate(parts).reshape(x.shape)


def softmax(x: Array) -> Array:
    """Along the last dimension."""
    y = np.exp(x - x.max(-1, keepdims=True))
    return y / y.sum(-1, keepdims=True)


def layer_norm(x: Array, gamma: Array, beta: Array) -> Array:
    """Along the last dimension."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + EPSILON) * gamma + beta


def rms_norm(x: Array, gamma: Array) -> Array:
    """Along the last dimension."""
    return x / np.sqrt(np.square(x).mean(-1, keepdims=True) + EPSILON) * gamma


def attention(q: Array, k: Array, v: Array, causal: bool = False) -> Array:
    """Heads first: (H, S, D)."""
    scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
    if causal:
        scores = np.where(np.tri(*scores.shape[1:], dtype=np.bool_), scores, -np.inf)
    return softmax(scores) @ v


def conv2d(x: Array, w: Array) -> Array:
    """3x3, padding 1, stride 1, NCHW and FCHW."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    return np.tensordot(windows, w, axes=((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)


REFERENCES: dict[str, Function] = {
    "matmul": lambda a, b: a @ b,
    "matmul_transposed": lambda a, b: a @ b.T,
    "linear_gelu": lambda x, w, b: gelu(x @ w + b),
    "softmax": softmax,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "gelu": gelu,
    "row_sum": lambda x: x.sum(1),
    "attention": attention,
    "causal_attention": lambda q, k, v: attention(q, k, v, causal=True),
    "conv2d": conv2d,
}
SHAPES: dict[str, Callable[[dict[str, int]], list[tuple[int, ...]]]] = {
    "matmul": lambda s: [(s["M"], s["K"]), (s["K"], s["N"])],
    "matmul_transposed": lambda s: [(s["M"], s["K"]), (s["N"], s["K"])],
    "linear_gelu": lambda s: [(s["M"], s["K"]), (s["K"], s["N"]), (s["N"],)],
    "softmax": lambda s: [(s["M"], s["N"])],
    "layer_norm": lambda s: [(s["M"], s["N"]), (s["N"],), (s["N"],)],
    "rms_norm": lambda s: [(s["M"], s["N"]), (s["N"],)],
    "gelu": lambda s: [(s["M"], s["N"])],
    "row_sum": lambda s: [(s["M"], s["N"])],
    "attention": lambda s: [(s["H"], s["S"], s["D"])] * 3,
    "causal_attention": lambda s: [(s["H"], s["S"], s["D"])] * 3,
    "conv2d": lambda s: [(1, s["C"], s["Y"], s["X"]), (s["F"], s["C"], 3, 3)],
}


def _product(name: str, aim: float, m: int, k: int, n: int, element: str = "f32", transposed: bool = False) -> Row:
    sums = {"f32": "f32", "bf16": "f32", "int8": "i32"}[element]
    type_ = {"int8": "i8"}.get(element, element)
    names = '["N", "K"]' if transposed else '["K", "N"]'
    accumulate = f"{'{transpose_b} ' if transposed else ''}accumulate {sums}"
    program = f"""func.func @main(
    %a: tensor<?x?x{type_}> {{nn.dims = ["M", "K"]}}, %b: tensor<?x?x{type_}> {{nn.dims = {names}}})
    -> tensor<?x?x{sums}> {{
  %c = nn.matmul %a, %b {accumulate} : tensor<?x?x{type_}>, tensor<?x?x{type_}> -> tensor<?x?x{sums}>
  func.return %c : tensor<?x?x{sums}>
}}"""
    if element == "f32" and not transposed:
        program = "matmul.mlir"
    size = DTYPES[element].itemsize
    return Row(
        name=name,
        kind="matmul_transposed" if transposed else "matmul",
        sizes={"M": m, "K": k, "N": n},
        program=program,
        operations=2 * m * k * n,
        bytes=(m * k + k * n) * size + 4 * m * n,
        aim=aim,
        element=element,
        traffic="read",
        weights=(1,),
    )


def _rows_of(
    name: str, kind: str, program: str, operations: int, aim: float, shape: tuple[int, int] = (4096, 4096)
) -> Row:
    m, n = shape
    written = m if kind == "row_sum" else m * n
    return Row(
        name=name,
        kind=kind,
        sizes={"M": m, "N": n},
        program=program,
        operations=operations * m * n,
        bytes=4 * (m * n + written),
        aim=aim,
        traffic="read" if kind == "row_sum" else "copy",
    )


def _attention(name: str, aim: float, s: int, h: int, d: int, causal: bool = False, element: str = "f32") -> Row:
    type_ = f"tensor<1x{h}x?x{d}x{element}>"
    arguments = ", ".join(f'%{x}: {type_} {{nn.dims = ["_", "_", "S", "_"]}}' for x in "qkv")
    program = f"""func.func @main({arguments}) -> {type_} {{
  %y = nn.attention %q, %k, %v {"causal " if causal else ""}accumulate f32 : {type_}, {type_}, {type_}
  func.return %y : {type_}
}}"""
    pairs = s * (s + 1) // 2 if causal else s * s
    kind = "causal_attention" if causal else "attention"
    sizes = {"S": s, "H": h, "D": d}
    size = DTYPES[element].itemsize
    return Row(name, kind, sizes, program, 4 * h * d * pairs, 4 * size * h * s * d, aim, element)


RMS_NORM = """func.func @main(%x: tensor<?x?xf32> {nn.dims = ["M", "N"]}, %gamma: tensor<?xf32> {nn.dims = ["N"]})
    -> tensor<?x?xf32> {
  %y = nn.rms_norm %x, %gamma epsilon 1.0e-05 : tensor<?x?xf32>, tensor<?xf32>
  func.return %y : tensor<?x?xf32>
}"""
GELU = """func.func @main(%x: tensor<?x?xf32> {nn.dims = ["M", "N"]}) -> tensor<?x?xf32> {
  %y = nn.gelu %x : tensor<?x?xf32>
  func.return %y : tensor<?x?xf32>
}"""
CONV2D = """func.func @main(%x: tensor<1x64x56x56xf32>, %w: tensor<64x64x3x3xf32>) -> tensor<1x64x56x56xf32> {
  %y = nn.conv2d %x, %w nchw strides [1, 1] padding [1, 1, 1, 1] accumulate f32
      : tensor<1x64x56x56xf32>, tensor<64x64x3x3xf32>
  func.return %y : tensor<1x64x56x56xf32>
}"""

ROWS = (
    *(_product(f"matmul-{n}", aim, n, n, n) for n, aim in ((256, 0.97), (512, 0.97), (1024, 0.96), (2048, 0.95))),
    _product("matmul-1000x999x1001", 0.93, 1000, 999, 1001),
    _product("matmul-1024-transposed", 0.94, 1024, 1024, 1024, transposed=True),
    _product("matmul-1x4096x4096", 0.85, 1, 4096, 4096),
    _product("matmul-16x4096x11008", 0.57, 16, 4096, 11008),
    *(_product(f"bf16-{n}", aim, n, n, n, "bf16") for n, aim in ((512, 0.95), (1024, 0.95), (2048, 0.94))),
    _product("int8-1024", 0.95, 1024, 1024, 1024, "int8"),
    _rows_of("softmax", "softmax", "softmax.mlir", 5, 0.80),
    _rows_of("layer-norm", "layer_norm", "layer_norm.mlir", 7, 0.80),
    _rows_of("rms-norm", "rms_norm", RMS_NORM, 4, 0.80),
    _rows_of("gelu", "gelu", GELU, 5, 0.75),
    _rows_of("row-sum", "row_sum", "row_sum.mlir", 1, 0.92),
    Row(
        "matmul-bias-gelu",
        "linear_gelu",
        {"M": 1024, "K": 1024, "N": 4096},
        "matmul_bias_gelu.mlir",
        operations=2 * 1024 * 1024 * 4096,
        bytes=4 * (1024 * 1024 + 1024 * 4096 + 4096 + 1024 * 4096),
        aim=0.93,
        weights=(1, 2),
    ),
    _attention("attention-1024", 0.83, 1024, 8, 64),
    _attention("attention-1024-causal", 0.72, 1024, 8, 64, causal=True),
    _attention("attention-2048", 0.86, 2048, 4, 128),
    _attention("attention-2048-causal", 0.77, 2048, 4, 128, causal=True),
    _attention("attention-bf16-1024", 0.30, 1024, 8, 64, element="bf16"),
    _attention("attention-bf16-1024-causal", 0.25, 1024, 8, 64, causal=True, element="bf16"),
    _attention("attention-bf16-2048", 0.30, 2048, 4, 128, element="bf16"),
    Row(
        "conv2d",
        "conv2d",
        {"C": 64, "F": 64, "Y": 56, "X": 56, "K": 576},
        CONV2D,
        operations=2 * 64 * 56 * 56 * 576,
        bytes=4 * (2 * 64 * 56 * 56 + 64 * 576),
        aim=0.93,
        weights=(1,),
    ),
    _product("matmul-16", 0.10, 16, 16, 16),
)
"""The last row is for trying the script: it takes a moment."""
