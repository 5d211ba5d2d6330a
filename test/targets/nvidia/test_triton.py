"""Triton's own PTX runs in the simulator and gives right results, for sm_80 and sm_90a, on sizes that fit no block."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from triton_ptx import compiled

from crosstile.targets.nvidia.simulate import GlobalMemory, TensorMap, simulate
from crosstile.targets.nvidia.simulator.report import Report

Array = NDArray[Any]
BF16 = np.dtype(ml_dtypes.bfloat16)
CAPABILITIES = pytest.mark.parametrize("capability", [80, 90])


def random(*shape: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def launch(name: str, capability: int, grid: tuple[int, ...], memory: GlobalMemory, *arguments: Any) -> Report:
    """Runs a Triton kernel; its last two parameters are scratch memory that these kernels do not use."""
    text, kernel, shared = compiled(name, capability)
    return simulate(text, kernel, grid, (128,), [*arguments, 0, 0], memory, shared_bytes=shared)


def blocks(size: int, block: int) -> int:
    return -(-size // block)


@CAPABILITIES
@pytest.mark.parametrize("n", [1, 257, 1000, 1024])
def test_softmax(capability: int, n: int):
    x, memory = random(3, n), GlobalMemory()
    address, result = memory.allocate(x), memory.empty(x.shape, x.dtype)
    launch("softmax", capability, (3,), memory, address, result, n, n)
    powers = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
    np.testing.assert_allclose(memory.read(result), powers / powers.sum(axis=1, keepdims=True), rtol=3e-6)


@CAPABILITIES
@pytest.mark.parametrize("n", [1, 257, 1000])
def test_layer_norm(capability: int, n: int):
    x, weight, bias, memory = random(3, n), random(1, n)[0], random(2, n)[0], GlobalMemory()
    addresses = [memory.allocate(one) for one in (x, weight, bias)]
    result = memory.empty(x.shape, x.dtype)
    launch("layer_norm", capability, (3,), memory, addresses[0], result, addresses[1], addresses[2], n, n, 1e-5)
    wide = x.astype(np.float64)
    scale = 1 / np.sqrt(wide.var(axis=1, keepdims=True) + 1e-5)
    expected = (wide - wide.mean(axis=1, keepdims=True)) * scale * weight + bias
    np.testing.assert_allclose(memory.read(result), expected, atol=1e-5)


@CAPABILITIES
@pytest.mark.parametrize(
    ("name", "m", "n", "k"),
    [
        ("matmul", 1, 1, 1),
        ("matmul", 67, 70, 97),
        ("matmul_aligned", 64, 128, 96),
        ("matmul_aligned", 80, 144, 112),
    ],
)
def test_matmul(capability: int, name: str, m: int, n: int, k: int):
    a, b, memory = random(m, k, dtype=BF16), random(k, n, dtype=BF16), GlobalMemory()
    addresses = [memory.allocate(a), memory.allocate(b), memory.empty((m, n), np.float32)]
    grid = (blocks(m, 64), blocks(n, 64 if name == "matmul" else 128))
    report = launch(name, capability, grid, memory, *addresses, m, n, k, k, n, n)
    np.testing.assert_allclose(memory.read(addresses[2]), a.astype(np.float64) @ b.astype(np.float64), atol=1e-4)
    kinds = report.instructions
    assert kinds["mma" if capability == 80 else "wgmma.mma_async"]
    assert ("cp.async" in kinds) == (name == "matmul_aligned")


@pytest.mark.parametrize(("m", "n", "k"), [(128, 128, 64), (128, 128, 512), (200, 136, 120)])
def test_matmul_with_tensor_copies(m: int, n: int, k: int):
    a, b, memory = random(m, k, dtype=BF16), random(k, n, dtype=BF16), GlobalMemory()
    addresses = [memory.allocate(a), memory.allocate(b), memory.empty((m, n), BF16)]
    arguments: list[Any] = []
    for address, shape, box in zip(addresses, ((m, k), (k, n), (m, n)), ((128, 64), (64, 64), (128, 64)), strict=True):
        strides = (shape[1], 1)
        arguments.append(TensorMap.row_major("bf16", address, shape, strides, box, swizzle=128))
        arguments += [*shape, *strides]
    report = launch("matmul_tma", 90, (blocks(m, 128), blocks(n, 128)), memory, *arguments, m, n, k)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(memory.read(addresses[2]).astype(np.float64), expected, atol=1e-3, rtol=2**-8)
    assert report.worst_ways == 1


@CAPABILITIES
@pytest.mark.parametrize("length", [1, 100])
def test_attention(capability: int, length: int):
    q, k, v = (random(2, length, 64, dtype=BF16) for _ in range(3))
    memory = GlobalMemory()
    addresses = [memory.allocate(one) for one in (q, k, v)]
    result = memory.empty(q.shape, BF16)
    launch("attention", capability, (blocks(length, 64), 2), memory, *addresses, result, length, 0.18)
    scores = 0.18 * q.astype(np.float64) @ k.astype(np.float64).transpose(0, 2, 1)
    scores = np.where(np.tril(np.ones((length, length))) > 0, scores, -np.inf)
    weights = np.exp2(scores - scores.max(axis=-1, keepdims=True))
    expected = weights @ v.astype(np.float64) / weights.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(memory.read(result).astype(np.float64), expected, atol=2e-2)
