"""The hand-written tile kernels that fit a core's registers, as machine code against the interpreters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpu_kernels import check_kernel

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "tile"
AVX512 = "x86-64-avx512"
"""The machine whose instructions the examples name."""

Array = np.ndarray[Any, np.dtype[np.float32]]


def example(name: str) -> str:
    return (EXAMPLES / f"{name}.mlir").read_text(encoding="utf-8")


def normal(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def unwritten(*shape: int) -> Array:
    return np.full(shape, np.nan, np.float32)


@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (9, 130, 7), (5, 3, 530), (0, 4, 4)])
def test_gemm(m: int, n: int, k: int):
    a, b = normal(m, k), normal(k, n)
    c = check_kernel(example("gemm_cpu"), "gemm", AVX512, [a, b, unwritten(m, n)])[2]
    np.testing.assert_allclose(c, a.astype(float) @ b.astype(float), atol=1e-3)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 63), (4, 200)])
def test_layer_norm(rows: int, columns: int):
    x, gamma, beta = normal(rows, columns), normal(columns), normal(columns)
    arguments = [x, gamma, beta, unwritten(rows, columns), np.float32(1e-5)]
    check_kernel(example("layer_norm"), "layer_norm", AVX512, arguments, reassociates=True, has_math=True)


@pytest.mark.parametrize(("images", "channels", "filters", "height", "width"), [(1, 1, 1, 1, 1), (2, 9, 11, 6, 75)])
def test_conv2d(images: int, channels: int, filters: int, height: int, width: int):
    x, w = normal(images, channels, height, width), normal(filters, channels, 3, 3)
    y = unwritten(images, filters, (height + 1) // 2, (width + 1) // 2)
    check_kernel(example("conv2d"), "conv2d", AVX512, [x, w, y])


@pytest.mark.parametrize(("sequences", "length", "channels"), [(1, 1, 1), (2, 5, 33)])
def test_selective_scan(sequences: int, length: int, channels: int):
    x, delta = normal(sequences, length, channels), np.abs(normal(sequences, length, channels))
    a, b, c = -np.abs(normal(channels, 16)), normal(sequences, length, 16), normal(sequences, length, 16)
    arguments = [x, delta, a, b, c, unwritten(sequences, length, channels)]
    check_kernel(example("selective_scan"), "selective_scan", AVX512, arguments, reassociates=True, has_math=True)
