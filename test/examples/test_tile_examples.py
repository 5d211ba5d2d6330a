"""Every hand-written tile kernel, on ragged sizes, against an independent float64 computation in NumPy.

Outputs start as poison, so an element that a kernel forgets is found, and so is one it reads too early.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from round_trip import assert_round_trips
from xdsl.dialects.builtin import ModuleOp

from crosstile.dialects.element_types import Array, is_poison, poisoned
from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.tile.coverage import Coverage
from crosstile.dialects.tile.meaning import MEANINGS as TILE
from crosstile.dialects.upstream_meaning import MEANINGS as UPSTREAM
from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.ir.verification import verify_module

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "tile"
FILES = sorted(path.name for path in FOLDER.glob("*.mlir"))


@cache
def module_of(name: str) -> ModuleOp:
    module = parse_module((FOLDER / name).read_text(), name, make_context())
    verify_module(module)
    return module


def run(name: str, kernel: str, arguments: Sequence[Any], workers: int = 1) -> Interpreter:
    interpreter = Interpreter(module_of(name), UPSTREAM, TILE, workers=workers)
    interpreter.call(kernel, arguments)
    return interpreter


def output(*shape: int) -> Array:
    return poisoned(shape, np.dtype(np.float32))


def numbers(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def assert_within(result: Array, reference: Array, bound: Array | float):
    assert not is_poison(result).any(), "an element was never written"
    error = np.abs(result.astype(np.float64) - reference)
    assert (error <= bound).all(), f"error {np.max(error / np.maximum(bound, 1e-300)):.3g} times the bound"


def assert_is_product(result: Array, lhs: Array, rhs: Array, terms: int | None = None):
    """Within the forward bound of a chain of fma: k roundings of the sum of magnitudes."""
    lhs, rhs = lhs.astype(np.float64), rhs.astype(np.float64)
    roundings = 1 + (lhs.shape[-1] if terms is None else terms)
    assert_within(result, lhs @ rhs, roundings * 2.0**-24 * (np.abs(lhs) @ np.abs(rhs)))


def test_every_example_is_tested():
    with open(__file__) as source:
        text = source.read()
    assert FILES
    assert [name for name in FILES if f'"{name}"' not in text] == []


@pytest.mark.parametrize("name", FILES)
def test_round_trip(name: str):
    assert_round_trips((FOLDER / name).read_text())


@pytest.mark.parametrize("name", FILES)
def test_header_teaches(name: str):
    header = (FOLDER / name).read_text().split("tile.kernel")[0]
    assert header.count("\n//") >= 10


# Matrix products

GEMM_SIZES = [
    (64, 64, 64),
    (1, 1, 1),
    (0, 5, 3),
    (5, 0, 3),
    (5, 3, 0),
    (7, 13, 11),
    (4, 513, 64),
    (33, 520, 67),
    (17, 1, 131),
]


@pytest.mark.parametrize(("m", "k", "n"), GEMM_SIZES)
def test_gemm_cpu(m: int, k: int, n: int):
    a, b, c = numbers(1, m, k), numbers(2, k, n), output(m, n)
    run("gemm_cpu.mlir", "gemm", [a, b, c], workers=3)
    assert_is_product(c, a, b)


def test_gemm_cpu_does_not_depend_on_workers_or_blocks():
    m, k, n = 37, 600, 70
    a, b = numbers(1, m, k), numbers(2, k, n)
    results = [output(m, n) for _ in range(3)]
    for workers, result in zip((1, 2, 5), results, strict=True):
        run("gemm_cpu.mlir", "gemm", [a, b, result], workers=workers)
    text = (FOLDER / "gemm_cpu.mlir").read_text()
    for before, after in (
        ("step 512 balanced(8)", "step 128"),
        ("6x64x", "8x32x"),
        ("step 64", "step 32"),
        ("step 6 ", "step 8 "),
    ):
        assert before in text
        text = text.replace(before, after)
    text = text.replace("6x512xf32", "8x512xf32").replace("!tile.window<512x64xf32>", "!tile.window<512x32xf32>")
    other = output(m, n)
    Interpreter(parse_module(text, "edited.mlir", make_context()), UPSTREAM, TILE).call("gemm", [a, b, other])
    for result in (*results[1:], other):
        np.testing.assert_array_equal(result, results[0])


def test_gemm_cpu_samples_rows_of_a_large_product():
    m, k, n = 2001, 700, 90
    a, b, c = numbers(1, m, k), numbers(2, k, n), output(m, n)
    interpreter = Interpreter(module_of("gemm_cpu.mlir"), UPSTREAM, TILE, sample=5)
    interpreter.call("gemm", [a, b, c])
    coverage = interpreter.state(Coverage)
    computed = coverage.mask(c)
    assert coverage.describe() == "a sample of 5 of 334 instances was run"
    assert computed[[0, -1]].all()
    assert computed.all(axis=1).sum() == 4 * 6 + 3
    np.testing.assert_array_equal(computed, ~is_poison(c))
    rows = computed.all(axis=1)
    assert_is_product(c[rows], a[rows], b)


@pytest.mark.parametrize(
    ("m", "k", "n"), [(1, 1, 1), (130, 67, 257), (128, 64, 256), (3, 0, 5), (0, 3, 3), (129, 130, 31)]
)
def test_gemm_gpu_block(m: int, k: int, n: int):
    a, b, c = numbers(1, m, k), numbers(2, k, n), output(m, n)
    a, b = a.astype(ml_dtypes.bfloat16), b.astype(ml_dtypes.bfloat16)
    run("gemm_gpu_block.mlir", "gemm", [a, b, c])
    # Truncation toward zero, and one rounding for 16 products: twice the unit, k / 16 times.
    assert_is_product(c, a, b, terms=2 * (k // 16 + 2))


@pytest.mark.parametrize("sizes", [[0, 5, 33, 0, 64], [1], [0, 0, 0], [7, 31, 32]])
@pytest.mark.parametrize(("k", "n"), [(20, 70), (130, 64), (1, 1)])
def test_grouped_matmul(sizes: list[int], k: int, n: int):
    tokens, experts = 50, len(sizes)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    slots = int(offsets[-1])
    rows = np.random.default_rng(3).integers(0, tokens, slots)
    x, w, y = numbers(1, tokens, k), numbers(2, experts, k, n), output(slots, n)
    run("grouped_matmul.mlir", "grouped_matmul", [x, w, rows, offsets, y])
    expert = np.repeat(np.arange(experts), sizes)
    for slot in range(slots):
        assert_is_product(y[slot], x[rows[slot]], w[expert[slot]])


@pytest.mark.parametrize(
    ("images", "channels", "height", "width", "filters"),
    [(1, 1, 1, 1, 1), (2, 3, 7, 9, 5), (1, 9, 6, 70, 11), (0, 2, 4, 4, 2), (1, 0, 5, 5, 3), (1, 17, 3, 2, 8)],
)
def test_conv2d(images: int, channels: int, height: int, width: int, filters: int):
    x, w = numbers(1, images, channels, height, width), numbers(2, filters, channels, 3, 3)
    out_height, out_width = (height + 1) // 2, (width + 1) // 2
    y = output(images, filters, out_height, out_width)
    run("conv2d.mlir", "conv2d", [x, w, y])
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    reference, magnitude = np.zeros(y.shape), np.zeros(y.shape)
    for kh in range(3):
        for kw in range(3):
            pixels = padded[:, :, kh : kh + 2 * out_height : 2, kw : kw + 2 * out_width : 2][
                :, :, :out_height, :out_width
            ]
            reference += np.einsum("fc,nchw->nfhw", w[:, :, kh, kw].astype(np.float64), pixels)
            magnitude += np.einsum("fc,nchw->nfhw", np.abs(w[:, :, kh, kw].astype(np.float64)), np.abs(pixels))
    assert_within(y, reference, (9 * channels + 1) * 2.0**-24 * magnitude)


# Normalisation, attention, recurrence


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 7), (4, 64), (9, 131), (0, 3), (3, 0), (2, 1000)])
def test_layer_norm(rows: int, columns: int):
    x = numbers(1, rows, columns) + np.float32(10)
    gamma, beta, y = numbers(2, columns), numbers(3, columns), output(rows, columns)
    run("layer_norm.mlir", "layer_norm", [x, gamma, beta, y, np.float32(1e-5)], workers=2)
    wide = x.astype(np.float64)
    if rows and columns:
        centred = wide - wide.mean(axis=1, keepdims=True)
        normal = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + float(np.float32(1e-5)))
        # The mean is of numbers near 10, so its error is a few units of 10.
        bound = 2.0**-24 * (60 * np.abs(gamma) * (1 / max(centred.std(), 1e-3) + np.abs(normal)) + 4 * np.abs(beta))
        assert_within(y, normal * gamma + beta, bound)


@pytest.mark.parametrize(
    ("queries", "lengths", "scale"),
    [
        (1, [1], 1.0),
        (7, [7, 9, 130], 0.3),
        (64, [64], 0.125),
        (33, [40, 33], 0.3),
        (1, [200, 3], 0.3),
        (9, [300, 150], 30.0),  # blocks differ by more than exp can bear
        (5, [3, 0, 5], 0.3),
        (0, [4], 0.3),
    ],
)
def test_flash_attention_cpu(queries: int, lengths: list[int], scale: float):
    sequences, keys = len(lengths), max(lengths)
    q, k, v = numbers(1, sequences, queries, 64), numbers(2, sequences, keys, 64), numbers(3, sequences, keys, 64)
    o = output(sequences, queries, 64)
    for sequence, length in enumerate(lengths):
        k[sequence, length:] = v[sequence, length:] = np.inf  # what must not be read
    run("flash_attention_cpu.mlir", "attention", [q, k, v, np.array(lengths), o, np.float32(scale)])
    factor = float(np.float32(scale))
    for sequence, length in enumerate(lengths):
        for query in range(queries):
            seen = max(0, query + 1 + length - queries)
            keys_seen, row = k[sequence, :seen].astype(np.float64), q[sequence, query].astype(np.float64)
            scores = factor * (keys_seen @ row)
            weights = np.exp(scores - scores.max()) if seen else np.zeros(0)
            values = v[sequence, :seen].astype(np.float64)
            total = weights.sum() if seen else 1.0
            size = factor * (np.abs(keys_seen) @ np.abs(row)).max(initial=0)
            # A relative error of each weight from its score, and the sums over the keys.
            bound = 2.0**-24 * (2 * 66 * size + 2 * seen + 20) * (weights @ np.abs(values)) / total
            assert_within(o[sequence, query], weights @ values / total, bound)


@pytest.mark.parametrize(
    ("sequences", "length", "channels"), [(1, 1, 1), (2, 13, 37), (1, 50, 32), (0, 3, 3), (2, 0, 5)]
)
def test_selective_scan(sequences: int, length: int, channels: int):
    x, b, c = (
        numbers(1, sequences, length, channels),
        numbers(2, sequences, length, 16),
        numbers(3, sequences, length, 16),
    )
    delta = np.abs(numbers(4, sequences, length, channels)) * np.float32(0.5)
    a = -np.abs(numbers(5, channels, 16))
    y = output(sequences, length, channels)
    run("selective_scan.mlir", "selective_scan", [x, delta, a, b, c, y])
    state = np.zeros((sequences, channels, 16))
    magnitude = np.zeros_like(state)
    wide_x, wide_a, wide_b, wide_c, wide_delta = (array.astype(np.float64) for array in (x, a, b, c, delta))
    for t in range(length):
        decay = np.exp(wide_delta[:, t, :, None] * wide_a)
        added = (wide_delta * wide_x)[:, t, :, None] * wide_b[:, t, None, :]
        state = decay * state + added
        magnitude = decay * magnitude + np.abs(added)
        reference = np.einsum("sdn,sn->sd", state, wide_c[:, t])
        # Each step rounds the decay, three products and a sum; the exponent's error scales with its size.
        bound = 2.0**-24 * (12 * (t + 1) + 16) * np.einsum("sdn,sn->sd", magnitude, np.abs(wide_c[:, t]))
        assert_within(y[:, t], reference, bound)
