"""How to run each kernel of ``examples/mma`` on sizes of one's choice, and how to tell whether its answer is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp

from crosstile.dialects import upstream_meaning
from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.mma import meaning
from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.ir.verification import verify_module

Array = NDArray[Any]
FOLDER = Path(__file__).resolve().parent.parent.parent / "examples" / "mma"
SINGLE, BFLOAT = np.float32, ml_dtypes.bfloat16


@dataclass(frozen=True)
class Problem:
    """Arguments of a kernel, which of them is the output, the exact answer and how far off each element may be."""

    arguments: list[Any]
    output: Array
    exact: Array
    bound: Array

    def is_right(self) -> bool:
        """Every element was written and is as near as it must be."""
        with np.errstate(invalid="ignore"):
            return bool((np.abs(self.output.astype(np.float64) - self.exact) <= self.bound).all())


@dataclass(frozen=True)
class Example:
    """A file with one kernel: its symbol, how to make a problem of some sizes, the sizes worth running."""

    file: str
    kernel: str
    problem: Callable[..., Problem]
    sizes: tuple[tuple[int, ...], ...]
    mutant_sizes: tuple[tuple[int, ...], ...]

    @property
    def path(self) -> Path:
        """Where the file is."""
        return FOLDER / self.file

    def __str__(self) -> str:
        return self.file.removesuffix(".mlir")


def read(example: Example) -> ModuleOp:
    """The parsed and verified module of an example; a fresh copy each time."""
    return _parsed(example.path).clone()


@cache
def _parsed(path: Path) -> ModuleOp:
    module = parse_module(path.read_text(encoding="utf-8"), path.name, make_context())
    verify_module(module)
    return module


def run(module: ModuleOp, kernel: str, problem: Problem, workers: int = 1) -> None:
    """Run a kernel on a problem in the interpreter."""
    interpreter = Interpreter(module, upstream_meaning.MEANINGS, meaning.MEANINGS, workers=workers)
    interpreter.call(kernel, problem.arguments)


def unwritten(*shape: int) -> Array:
    """An output in which an element that nobody writes is NaN."""
    return np.full(shape, np.nan, SINGLE)


def gemm(element: Any, unit: float) -> Callable[..., Problem]:
    """C = A B. ``unit``: the largest relative error of one step of the accumulation (Higham, 2002, section 3.1)."""

    def problem(m: int, n: int, k: int) -> Problem:
        rng = np.random.default_rng(m + n + k)
        a, b = rng.standard_normal((m, k)).astype(element), rng.standard_normal((k, n)).astype(element)
        c = unwritten(m, n)
        wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
        return Problem([a, b, c], c, wide_a @ wide_b, (k + 1) * unit * (np.abs(wide_a) @ np.abs(wide_b)))

    return problem


def attention(heads: int, m: int, n: int) -> Problem:
    """softmax(Q K^T / sqrt(128)) V. Weights are rounded to bf16 (2^-9 each), sums and exponentials are in f32."""
    rng = np.random.default_rng(heads + m + n)
    q, k, v = (rng.standard_normal((heads, rows, 128)).astype(BFLOAT) for rows in (m, n, n))
    output = unwritten(heads, m, 128)
    wide_q, wide_k, wide_v = (array.astype(np.float64) for array in (q, k, v))
    scores = wide_q @ wide_k.transpose(0, 2, 1) / np.sqrt(128)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    arguments = [q, k, v, output, SINGLE(np.log2(np.e) / np.sqrt(128))]
    return Problem(arguments, output, weights @ wide_v, 1.1 * 2.0**-9 * (weights @ np.abs(wide_v)))


def grouped_matmul(k: int, n: int, *tokens: int) -> Problem:
    """Y[s] = X[rows[s]] W[e] for the ``tokens[e]`` slots s of each expert e; rows repeat and are in no order."""
    rng = np.random.default_rng(k + n)
    offsets = np.cumsum([0, *tokens])
    x = rng.standard_normal((40, k)).astype(BFLOAT)
    w = rng.standard_normal((len(tokens), k, n)).astype(BFLOAT)
    rows: Array = rng.integers(0, len(x), sum(tokens))
    y = unwritten(len(rows), n)
    expert = np.repeat(np.arange(len(tokens)), tokens)
    wide_x, wide_w = x.astype(np.float64)[rows], w.astype(np.float64)
    exact = np.einsum("sk,skn->sn", wide_x, wide_w[expert])
    bound = (k + 1) * 2.0**-22 * np.einsum("sk,skn->sn", np.abs(wide_x), np.abs(wide_w)[expert])
    return Problem([x, w, rows, offsets, y], y, exact, bound)


def layer_norm(m: int, n: int) -> Problem:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta; each factor has an error of some roundings of its terms."""
    rng = np.random.default_rng(m + n)
    x = (rng.standard_normal((m, n)) + 3).astype(SINGLE)
    gamma, beta = rng.standard_normal(n).astype(SINGLE), rng.standard_normal(n).astype(SINGLE)
    output = unwritten(m, n)
    wide = x.astype(np.float64)
    centred = wide - wide.mean(1, keepdims=True)
    scale = 1 / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
    exact = centred * scale * gamma + beta
    # The mean is off by at most (adds + 1) units of the mean magnitude, the scale by half as many of itself.
    steps = 8 + n / 16
    size = np.abs(wide).mean(1, keepdims=True)
    bound = 2.0**-24 * (((steps * size + np.abs(wide)) * scale + steps * np.abs(centred) * scale) * np.abs(gamma))
    return Problem([x, gamma, beta, output, SINGLE(1e-5)], output, exact, bound + 2.0**-23 * np.abs(exact))


EXAMPLES = (
    Example(
        "gemm_cpu.mlir",
        "gemm",
        gemm(SINGLE, 2.0**-24),
        ((1, 1, 1), (13, 70, 37), (4, 64, 8), (3, 130, 0), (5, 66, 600), (0, 5, 3), (2, 4100, 3)),
        ((5, 66, 530),),
    ),
    Example(
        "gemm_sm80_ring.mlir",
        "gemm",
        gemm(BFLOAT, 2.0**-22),
        ((1, 1, 1), (130, 137, 20), (128, 128, 64), (97, 260, 230), (5, 7, 0), (0, 3, 2)),
        ((130, 5, 40), (3, 130, 210)),
    ),
    Example(
        "grouped_matmul_sm80.mlir",
        "grouped_matmul",
        grouped_matmul,
        ((1, 1, 1), (40, 130, 3, 0, 70), (128, 5, 64, 129), (0, 3, 2), (70, 9, 0, 0)),
        ((40, 5, 70, 3), (210, 5, 3, 130)),
    ),
    Example(
        "gemm_sm90a_roles.mlir",
        "gemm",
        gemm(BFLOAT, 2.0**-22),
        ((1, 1, 1), (130, 270, 400), (128, 256, 64), (7, 3, 1000), (5, 7, 0), (0, 3, 2)),
        ((130, 5, 40), (3, 260, 400)),
    ),
    Example(
        "flash_attention_sm90a.mlir",
        "attention",
        attention,
        ((1, 1, 1), (1, 5, 3), (2, 130, 300), (1, 128, 128), (1, 3, 517)),
        ((1, 5, 3), (1, 130, 520)),
    ),
    Example(
        "layer_norm.mlir",
        "layer_norm",
        layer_norm,
        ((1, 1), (5, 3), (7, 197), (4, 64), (9, 1000), (0, 5)),
        ((5, 70),),
    ),
)
