"""mma.sync and wgmma against exact rational arithmetic, on random and on adversarial operands."""

from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from exact_sums import MIN_EXPONENT, chained_sum
from numpy.typing import NDArray

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.simulator.elements import element
from crosstile.targets.nvidia.simulator.fragments import (
    MMA_SHAPES,
    WGMMA_K,
    gather,
    mma_fragment,
    scatter,
    wgmma_fragment,
)
from crosstile.targets.nvidia.simulator.matrix_units import ACCUMULATORS, arithmetic, mma_sync, wgmma

Array = NDArray[Any]


def operands(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    """Finite values of widely and of narrowly spread exponents, among them zeros, subnormals and the largest."""
    kind = element(name)
    if kind.dtype.kind in "iu":
        limits = np.iinfo(kind.dtype)
        return rng.integers(limits.min, limits.max, shape, endpoint=True).astype(kind.dtype)
    spread = {"f16": 10, "bf16": 50, "tf32": 50, "e4m3": 5, "e5m2": 10, "f32": 50, "f64": 300}[name]
    values = rng.standard_normal(shape) * np.ldexp(1.0, rng.integers(-spread, spread, shape))
    values = np.where(rng.random(shape) < 0.6, rng.standard_normal(shape), values)
    values = np.where(rng.random(shape) < 0.1, 0, values)
    tiny = 2.0 ** (MIN_EXPONENT.get(kind.model, -1022) - 1) * rng.random(shape)
    return np.where(rng.random(shape) < 0.1, tiny, values).astype(kind.dtype)


def cancelling(rng: np.random.Generator, a: Array, b: Array, name: str) -> Array:
    """Accumulators of which a third nearly cancel the first product."""
    c = operands(rng, name, (len(a), b.shape[1]))
    product = -np.outer(a[:, 0].astype(np.float64), b[0].astype(np.float64))
    with np.errstate(over="ignore"):
        c = np.where(rng.random(c.shape) < 0.3, product, c.astype(np.float64)).astype(c.dtype)
    return np.where(np.isfinite(c), c, np.zeros_like(c))


def exact(a: Array, b: Array, c: Array, types: tuple[str, str], architecture: str) -> Array:
    numerics = arithmetic(architecture, types[0], types[1])
    models = element(types[0]).model, element(types[1]).model
    want = np.empty_like(c)
    with np.errstate(over="ignore"):
        for i, j in np.ndindex(c.shape):
            want[i, j] = chained_sum(a[i], b[:, j], float(c[i, j]), numerics, models)
    return want


def same(found: Array, want: Array) -> None:
    bits = np.dtype(f"u{want.itemsize}")
    np.testing.assert_array_equal(found.view(bits), np.ascontiguousarray(want).view(bits))


CASES = [
    *(
        (architecture, shape, name, accumulator)
        for name in ("f16", "bf16", "tf32")
        for shape in sorted(MMA_SHAPES[name])
        for accumulator in ACCUMULATORS[name]
        for architecture in ("sm_80", "sm_90a")
    ),
    ("sm_75", (16, 8, 8), "f16", "f32"),
    ("sm_89", (16, 8, 32), "e4m3", "f32"),
    ("sm_89", (16, 8, 16), "e5m2", "f16"),
]


def run_mma(a: Array, b: Array, c: Array, types: tuple[str, str, str], architecture: str, **flags: Any) -> Array:
    d_type, a_type, b_type = types
    shape = (len(a), b.shape[1], len(b))
    left = scatter(a, mma_fragment("a", shape, a_type), a_type)
    right = scatter(b, mma_fragment("b", shape, a_type), b_type)
    addend = scatter(c, mma_fragment("d", shape, a_type), d_type)
    found = mma_sync(shape, (d_type, a_type, b_type, d_type), left, right, addend, architecture, **flags)
    return gather(found, mma_fragment("d", shape, a_type), d_type)


@pytest.mark.parametrize(("architecture", "shape", "name", "accumulator"), CASES)
def test_mma_sync_equals_exact_arithmetic(
    architecture: str, shape: tuple[int, int, int], name: str, accumulator: str
) -> None:
    rng = np.random.default_rng(len(name) + shape[2])
    m, n, k = shape
    for _ in range(3):
        a, b = operands(rng, name, (m, k)), operands(rng, name, (k, n))
        c = cancelling(rng, a, b, accumulator)
        want = exact(a, b, c, (name, accumulator), architecture)
        same(run_mma(a, b, c, (accumulator, name, name), architecture) + 0, want + 0)


@pytest.mark.parametrize("name", ["f16", "bf16", "tf32", "e4m3", "e5m2"])
def test_wgmma_equals_exact_arithmetic(name: str) -> None:
    rng = np.random.default_rng(len(name))
    k, n = WGMMA_K[name], 24
    for accumulator in ACCUMULATORS[name]:
        a, b = operands(rng, name, (64, k)), operands(rng, name, (k, n))
        c = cancelling(rng, a, b, accumulator)
        layout = wgmma_fragment("d", n, name)
        d = scatter(c, layout, accumulator)
        types = (accumulator, name, name)
        want = exact(a, b, c, (name, accumulator), "sm_90a")
        found = wgmma(n, types, a, b.T, d, "sm_90a")
        same(gather(found, layout, accumulator), want)
        in_registers = scatter(a, wgmma_fragment("a", n, name), name)
        same(wgmma(n, types, in_registers, b.T, d, "sm_90a"), found)
        same(wgmma(n, types, a, b.T, d, "sm_90a", negate_a=True, negate_b=True), found)
        want = exact(-a, b, np.zeros_like(c), (name, accumulator), "sm_90a")
        d[:] = 0x7FC07E00  # NaN that must not be read
        found = wgmma(n, types, a, b.T, d, "sm_90a", scale_d=False, negate_a=True)
        same(gather(found, layout, accumulator), want)


@pytest.mark.parametrize("shape", sorted(MMA_SHAPES["f64"]))
def test_f64_is_a_fma_per_product(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(5)
    m, n, k = shape
    a, b, c = rng.standard_normal((m, k)), rng.standard_normal((k, n)), rng.standard_normal((m, n))
    c[0] = -(a[0, 0] * b[0])  # what remains of the product after it was rounded
    want = c.copy()
    for i, j in np.ndindex(m, n):
        for step in range(k):
            want[i, j] = float(Fraction(float(a[i, step])) * Fraction(float(b[step, j])) + Fraction(float(want[i, j])))
    same(run_mma(a, b, c, ("f64", "f64", "f64"), "sm_90a"), want)


@pytest.mark.parametrize(("left", "right"), [("s8", "s8"), ("u8", "s8"), ("s8", "u8"), ("u8", "u8")])
def test_integers_wrap_or_saturate(left: str, right: str) -> None:
    rng = np.random.default_rng(6)
    for shape in MMA_SHAPES["s8"]:
        m, n, k = shape
        a, b = operands(rng, left, (m, k)), operands(rng, right, (k, n))
        c = rng.choice(np.array([0, 5, 2**31 - 1, -(2**31)]), (m, n)).astype(np.int32)
        total = a.astype(np.int64) @ b.astype(np.int64) + c
        types = ("s32", left, right)
        same(run_mma(a, b, c, types, "sm_80"), total.astype(np.int32))
        same(run_mma(a, b, c, types, "sm_80", saturate=True), total.clip(-(2**31), 2**31 - 1).astype(np.int32))
    layout = wgmma_fragment("d", 16, left)
    a, b = operands(rng, left, (64, 32)), operands(rng, right, (32, 16))
    zero = np.zeros((8, 128), np.uint32)
    found = wgmma(16, ("s32", left, right), a, b.T, zero, "sm_90a")
    same(gather(found, layout, "s32"), (a.astype(np.int32) @ b.astype(np.int32)))


def test_hopper_adds_eight_bit_floats_of_mma_as_halves() -> None:
    """ptxas: F2FP.F16.E4M3.UNPACK_B of the low and of the high halves, HMMA twice from zero, FADD of C."""
    rng = np.random.default_rng(7)
    a, b = operands(rng, "e4m3", (16, 32)), operands(rng, "e5m2", (32, 8))
    c = operands(rng, "f32", (16, 8))
    low = [k for k in range(32) if k % 4 in (0, 1)]
    high = [k for k in range(32) if k % 4 in (2, 3)]
    halves = [(a[:, part].astype(np.float16), b[part].astype(np.float16)) for part in (low, high)]
    first = run_mma(*halves[0], np.zeros_like(c), ("f32", "f16", "f16"), "sm_90a")
    second = run_mma(*halves[1], first, ("f32", "f16", "f16"), "sm_90a")
    same(run_mma(a, b, c, ("f32", "e4m3", "e5m2"), "sm_90a"), second + c)


def test_ampere_and_hopper_differ_and_so_does_eight_bit_float() -> None:
    a, b = np.zeros((64, 16), ml_dtypes.bfloat16), np.zeros((16, 8), ml_dtypes.bfloat16)
    a[:, :4] = [1, 2.0**-12, 2.0**-13, -1]
    b[:4] = np.array([1, 2.0**-12, 2.0**-12, 1])[:, np.newaxis]
    c = np.zeros((16, 8), np.float32)
    assert np.all(run_mma(a[:16], b, c, ("f32", "bf16", "bf16"), "sm_80") == 2.0**-24)
    assert np.all(run_mma(a[:16], b, c, ("f32", "bf16", "bf16"), "sm_90a") == 2.0**-24 + 2.0**-25)
    one = np.zeros((64, 32), element("e4m3").dtype)
    one[:, 0] = 1
    d = scatter(np.full((64, 8), 2.0**-14, np.float32), wgmma_fragment("d", 8, "e4m3"), "f32")
    found = wgmma(8, ("f32", "e4m3", "e4m3"), one, one[:8], d, "sm_90a")
    assert np.all(gather(found, wgmma_fragment("d", 8, "e4m3"), "f32") == 1)  # 13 bits: the accumulator is lost


def test_infinities_and_nans() -> None:
    a, b, c = np.zeros((16, 16), np.float16), np.ones((16, 8), np.float16), np.zeros((16, 8), np.float32)
    a[0, 3], a[1, 0], a[1, 9], a[2, 0] = np.inf, np.inf, -np.inf, np.nan
    b[3, 7] = 0
    found = run_mma(a, b, c, ("f32", "f16", "f16"), "sm_90a")
    assert np.all(found[0, :7] == np.inf)
    assert {found.view(np.uint32)[row, 7] for row in range(3)} == {0x7FFFFFFF}
    assert np.all(found[1:3].view(np.uint32) == 0x7FFFFFFF)
    assert np.all(found[3:] == 0)
    half = run_mma(a, b, c.astype(np.float16), ("f16", "f16", "f16"), "sm_90a")
    assert np.all(half[1:3].view(np.uint16) == 0x7FFF)


def test_what_does_not_exist_is_refused() -> None:
    r = np.zeros((4, 32), np.uint32)
    with pytest.raises(CrosstileError, match=r"products of .bf16 are added to .f32, not to .f16"):
        mma_sync((16, 8, 16), ("f16", "bf16", "bf16", "f16"), r, r[:2], r[:2], "sm_80")
    with pytest.raises(CrosstileError, match=r"no instruction multiplies .f16 by .bf16"):
        mma_sync((16, 8, 16), ("f32", "f16", "bf16", "f32"), r, r[:2], r, "sm_80")
    with pytest.raises(CrosstileError, match=r"D of .f32 and C of .f16 must have one type"):
        mma_sync((16, 8, 16), ("f32", "f16", "f16", "f16"), r, r[:2], r, "sm_80")
    with pytest.raises(CrosstileError, match=r"arithmetic of sm_100a's tensor cores is not known; known are sm_75"):
        mma_sync((16, 8, 16), ("f32", "f16", "f16", "f32"), r, r[:2], r, "sm_100a")
    with pytest.raises(CrosstileError, match=r"tensor cores of sm_80 have no .e4m3"):
        mma_sync((16, 8, 32), ("f32", "e4m3", "e4m3", "f32"), r, r[:2], r, "sm_80")
    with pytest.raises(CrosstileError, match=r"wgmma.mma_async has no .f64"):
        wgmma(8, ("f64", "f64", "f64"), r, r, r, "sm_90a")
    with pytest.raises(CrosstileError, match=r"A is 64x16 and B 8x16 \(columns by k\), not \(64, 16\) and \(16, 8\)"):
        wgmma(8, ("f32", "f16", "f16"), np.zeros((64, 16), np.float16), np.zeros((16, 8), np.float16), r, "sm_90a")
