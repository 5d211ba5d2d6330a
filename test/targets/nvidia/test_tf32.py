"""Factors of tf32 are rounded on their way into ``mma.sync``: the bits of the PTX are those of the intrinsic's row."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numpy.typing import NDArray

from crosstile.targets.execute import execute
from crosstile.targets.model import intrinsic
from crosstile.targets.nvidia.run import DeviceProgram, HostModule, SimulatedDevice, call_with_arrays
from crosstile.targets.truncated_sum import round_to_tf32
from crosstile.tools.device import DeviceKernels
from crosstile.tools.program import Program

Float32 = NDArray[np.float32]

TEXT = """
    func.func @main(%a: tensor<?x?xf32> {nn.dims = ["M", "K"]}, %b: tensor<?x?xf32> {nn.dims = ["K", "N"]})
        -> tensor<?x?xf32> {
      %c = nn.matmul %a, %b accumulate f32 precision tf32 : tensor<?x?xf32>, tensor<?x?xf32> -> tensor<?x?xf32>
      func.return %c : tensor<?x?xf32>
    }
"""
ROWS = {"sm_80": "nvidia.mma.m16n8k8.f32.tf32", "sm_90a": "nvidia.mma_sm90.m16n8k8.f32.tf32"}


def product(target: str, a: Float32, b: Float32) -> Float32:
    program = Program.of_text("product.mlir", TEXT, f"nvidia-{target}")
    kernels = DeviceKernels(program)
    host = HostModule(kernels.host, program.entry)
    return call_with_arrays(DeviceProgram(host, kernels, SimulatedDevice(target)), [a, b])[0]


def row_by_row(target: str, a: Float32, b: Float32) -> Float32:
    """The same by the row, k filled up with zeros."""
    row, missing = intrinsic(ROWS[target]), -a.shape[1] % 8
    lhs, rhs = np.pad(a, ((0, 0), (0, missing))), np.pad(b, ((0, missing), (0, 0)))
    return execute(row, lhs, rhs, np.zeros((a.shape[0], b.shape[1]), np.float32))


def factors(m: int, n: int, k: int) -> tuple[Float32, Float32]:
    random = np.random.default_rng(m + n + k)
    a, b = random.standard_normal((m, k)).astype(np.float32), random.standard_normal((k, n)).astype(np.float32)
    half = a.view(np.uint32)[::2]  # every other row has ties
    half[...] = half & np.uint32(0xFFFFE000) | np.uint32(0x1000)
    return a, b


# The first goes through wide copies and a rotated loop, the second element by element.
@pytest.mark.parametrize(("m", "n", "k"), [(80, 72, 100), (37, 19, 43), (1, 1, 1), (3, 5, 0)])
@pytest.mark.parametrize("target", ROWS)
def test_the_bits_of_the_row(target: str, m: int, n: int, k: int) -> None:
    a, b = factors(m, n, k)
    np.testing.assert_array_equal(product(target, a, b), row_by_row(target, a, b))


@pytest.mark.parametrize("target", ROWS)
def test_what_is_no_number_stays_none(target: str) -> None:
    """Added to the integer, half a place would make -0 of the NaN that GPUs compute."""
    a, b = factors(16, 8, 8)
    a.view(np.uint32)[:4, 3] = [0x7FFFFFFF, 0xFFFFFFFF, 0x7F800000, 0xFF800000]
    found = product(target, a, np.abs(b))
    assert np.isnan(found[:2]).all() and (found[2] == np.inf).all() and (found[3] == -np.inf).all()
    assert np.isfinite(found[4:]).all()


def test_rounding_is_that_of_cvt_rna() -> None:
    """Half a place added to the bits and cut off, for all exponents; subnormal numbers are cut off alone."""
    bits = np.random.default_rng(0).integers(0, 1 << 32, 1 << 16, np.uint32)
    bits[: 1 << 12] |= 0x1FFF  # carries
    bits[1 << 12 : 1 << 13] = bits[1 << 12 : 1 << 13] & 0xFFFFE000 | 0x1000  # ties
    values = bits.view(np.float32)
    normal = np.isfinite(values) & (np.abs(values) >= np.finfo(np.float32).tiny)
    found = round_to_tf32(values).view(np.uint32) & np.uint32(0xFFFFE000)
    np.testing.assert_array_equal(found[normal], (bits + np.uint32(0x1000) & np.uint32(0xFFFFE000))[normal])
    small = np.abs(values) < np.finfo(np.float32).tiny
    np.testing.assert_array_equal(found[small], bits[small] & np.uint32(0xFFFFE000))


def test_the_error_of_random_factors_is_no_longer_biased() -> None:
    """Cut off, a sum of positive products loses 2^-10 or so of itself; rounded, far less."""
    random = np.random.default_rng(1)
    a, b = random.random((16, 512), np.float32), random.random((512, 8), np.float32)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    lost = np.abs(product("sm_80", a, b) / exact - 1).max()
    cut = [(one.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64) for one in (a, b)]
    assert lost < np.abs(cut[0] @ cut[1] / exact - 1).min() / 5


def test_factors_are_rounded_where_they_are_loaded() -> None:
    """One rounding for each word that is loaded, not for each product that reads it."""
    program = Program.of_text("product.mlir", TEXT, "nvidia-sm_80")
    kernels = DeviceKernels(program)
    for name in program.kernel_modules()[1]:
        ptx = kernels[name].ptx
        words = 4 * len(re.findall(r"ldmatrix\S*x4", ptx)) + len(re.findall(r"ld\.shared\.b32", ptx))
        assert 0 < len(re.findall(r"fma\.rn\.f32", ptx)) <= words
