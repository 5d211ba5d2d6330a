"""Intrinsic rows executed on arrays: tensor cores against exact arithmetic, chains, shapes and errors."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from exact_sums import MIN_EXPONENT, chained_sum
from numpy.typing import NDArray

from crosstile.targets.execute import execute
from crosstile.targets.fma import fma
from crosstile.targets.layout import Layout
from crosstile.targets.model import MmaIntrinsic, Operand, intrinsic
from crosstile.targets.numerics import Numerics, Rounding, TruncatedSum

Array = NDArray[Any]

DTYPES: dict[str, Any] = {
    "f32": np.float32,
    "tf32": np.float32,
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "f8E4M3FN": ml_dtypes.float8_e4m3fn,
}


def dot_row(element: str, accumulator: str, k: int, numerics: Numerics) -> MmaIntrinsic:
    """A row of one dot product."""
    return MmaIntrinsic(
        name=".".join(dict.fromkeys(("test.dot", f"1x1x{k}", accumulator, element))),
        m=1,
        n=1,
        k=k,
        lhs=Operand(element, Layout.of((1, k), register=[(k, 1)])),
        rhs=Operand(element, Layout.of((k, 1), register=[(k, 1)])),
        accumulator=Operand(accumulator, Layout.of((1, 1))),
        numerics=numerics,
        rate=1,
        latency=1,
        feature="",
        document="none: made for this test",
    )


def operands(rng: np.random.Generator, element: str, shape: tuple[int, ...]) -> Array:
    """Finite values of widely and of narrowly spread exponents, among them zeros and subnormals."""
    spread = {"f16": 12, "bf16": 60, "tf32": 60, "f8E4M3FN": 6, "f32": 60}[element]
    values = rng.standard_normal(shape) * np.ldexp(1.0, rng.integers(-spread, spread, shape))
    values = np.where(rng.random(shape) < 0.5, rng.standard_normal(shape), values)
    values = np.where(rng.random(shape) < 0.1, 0, values)
    values = np.where(rng.random(shape) < 0.1, 2.0 ** (MIN_EXPONENT[element] - 1) * rng.random(shape), values)
    return values.astype(DTYPES[element])


TENSOR_CORES = {
    "Volta f16": ("f16", "f32", 4, TruncatedSum(23, 4)),
    "Volta f16, f16 result": ("f16", "f16", 4, TruncatedSum(23, 4, Rounding.NEAREST_EVEN, 10)),
    "Turing f16": ("f16", "f32", 8, TruncatedSum(24, 8)),
    "Ampere bf16": ("bf16", "f32", 16, TruncatedSum(24, 8)),
    "Ampere tf32": ("tf32", "f32", 8, TruncatedSum(24, 4)),
    "Hopper f16": ("f16", "f32", 16, TruncatedSum(25, 16)),
    "Hopper bf16": ("bf16", "f32", 16, TruncatedSum(25, 16)),
    "Hopper f8": ("f8E4M3FN", "f32", 32, TruncatedSum(13, 32, result_fraction_bits=13)),
}


@pytest.mark.parametrize("name", TENSOR_CORES)
def test_truncated_sum_equals_exact_arithmetic(name: str) -> None:
    element, accumulator, k, numerics = TENSOR_CORES[name]
    row = dot_row(element, accumulator, k, numerics)
    rng = np.random.default_rng(len(name))
    a, b = (operands(rng, element, (400, k)) for _ in range(2))
    c = operands(rng, accumulator, (400,))
    cancelling = -(a[:, :1].astype(np.float64) * b[:, :1].astype(np.float64)).sum(axis=1)
    with np.errstate(all="ignore"):
        c = np.where(rng.random(400) < 0.3, cancelling, c.astype(np.float64)).astype(c.dtype)
    c = np.where(np.isfinite(c), c, np.zeros_like(c))
    got = execute(row, a[:, np.newaxis, :], b[:, :, np.newaxis], c[:, np.newaxis, np.newaxis])[:, 0, 0]
    for i in range(400):
        want = chained_sum(a[i], b[i], float(c[i]), numerics, (element, accumulator))
        with np.errstate(over="ignore"):
            assert float(got[i]) == float(c.dtype.type(want)), (a[i], b[i], c[i])


def test_ampere_and_hopper_differ() -> None:
    """Eight and eight products, or sixteen at once: 2**-24 survives next to 1 only with Hopper's 25 bits."""
    a = np.zeros((64, 16), ml_dtypes.bfloat16)
    b = np.zeros((16, 8), ml_dtypes.bfloat16)
    a[:, :3] = [1, 2.0**-12, 2.0**-13]
    b[:3] = np.array([1, 2.0**-12, 2.0**-12])[:, np.newaxis]
    a[:, 3], b[3] = -1, 1
    zero = np.zeros((64, 8), np.float32)
    ampere = execute(intrinsic("nvidia.mma.m16n8k16.f32.bf16"), a, b, zero)
    hopper = execute(intrinsic("nvidia.wgmma.m64n8k16.f32.bf16"), a, b, zero)
    assert np.all(ampere == 2.0**-24)
    assert np.all(hopper == 2.0**-24 + 2.0**-25)


def test_the_smallest_products_are_truncated_at_the_accumulators_exponent() -> None:
    """A zero accumulator counts as 2**-126: products of 2**-152 vanish one by one, though eight make 2**-149."""
    row = dot_row("bf16", "f32", 8, TruncatedSum(24, 8))
    a, b = np.full((1, 8), 2.0**-76).astype(ml_dtypes.bfloat16), np.full((8, 1), 2.0**-76).astype(ml_dtypes.bfloat16)
    assert execute(row, a, b, np.zeros((1, 1), np.float32))[0, 0] == 0


def test_a_zero_sum_is_positive() -> None:
    row = dot_row("bf16", "f32", 2, TruncatedSum(24, 8))
    a, b = np.full((1, 2), -0.0).astype(ml_dtypes.bfloat16), np.ones((2, 1)).astype(ml_dtypes.bfloat16)
    assert not np.signbit(execute(row, a, b, np.full((1, 1), -0.0, np.float32)))[0, 0]


def test_tensor_cores_overflow_and_nan() -> None:
    row = dot_row("bf16", "f32", 2, TruncatedSum(24, 8))
    big = 1.5 * 2.0**127
    cases = [
        ((np.inf, 1), (1, 1), 0, np.float32(np.inf)),
        ((np.inf, 1), (0, 1), 0, None),
        ((np.inf, -np.inf), (1, 1), 0, None),
        ((1, 1), (1, 1), np.nan, None),
        ((big, big), (1, 1), 0, np.float32(np.inf)),
        ((big, -big), (2, 2), 1, np.float32(0)),  # 1 is below the last bit of the products
    ]
    for a, b, c, want in cases:
        lhs = np.array([a]).astype(ml_dtypes.bfloat16)
        rhs = np.array([b]).astype(ml_dtypes.bfloat16).T
        got = execute(row, lhs, rhs, np.array([[c]], np.float32))
        bits = 0x7FFFFFFF if want is None else want.view(np.uint32)
        assert got.view(np.uint32)[0, 0] == bits, (a, b, c)


@pytest.mark.parametrize(
    "name",
    ["x86.avx512.fma.1x16x1.f32", "x86.avx2.fma.1x4x1.f64", "generic.muladd.1x1x1.f32", "generic.muladd.1x1x1.f64"],
)
def test_scalar_chains(name: str) -> None:
    """Each accumulator is the chain of its own products in order of k, for any shape and leading dimensions."""
    row = intrinsic(name)
    dtype = np.float64 if row.lhs.element == "f64" else np.float32
    rng = np.random.default_rng(7)
    a = rng.standard_normal((3, 1, 5, 30)).astype(dtype)
    b = rng.standard_normal((2, 30, 17)).astype(dtype)
    c = rng.standard_normal((5, 17)).astype(dtype)
    want = np.array(np.broadcast_to(c, (3, 2, 5, 17)))
    for k in range(30):
        column, line = a[..., k, np.newaxis], b[:, k, np.newaxis, :]
        want = fma(column, line, want) if "fma" in name else column * line + want
    before = c.copy()
    got = execute(row, a, b, c)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(c, before)
    assert got.dtype == dtype


def test_large_tiles_are_computed_in_blocks() -> None:
    row = intrinsic("x86.avx512.fma.1x16x1.f32")
    rng = np.random.default_rng(8)
    a, b = rng.standard_normal((300, 3)).astype(np.float32), rng.standard_normal((3, 200)).astype(np.float32)
    c = np.zeros((300, 200), np.float32)
    whole = execute(row, a, b, c)
    for i in (0, 81, 82, 299):
        np.testing.assert_array_equal(whole[i : i + 1], execute(row, a[i : i + 1], b, c[i : i + 1]))


def test_empty_operands() -> None:
    row = intrinsic("x86.avx512.fma.1x16x1.f32")
    c = np.ones((4, 16), np.float32)
    np.testing.assert_array_equal(execute(row, np.ones((4, 0), np.float32), np.ones((0, 16), np.float32), c), c)
    assert execute(row, np.ones((0, 2), np.float32), np.ones((2, 16), np.float32), c[:0]).shape == (0, 16)


def test_errors_name_the_operand() -> None:
    row, half = intrinsic("x86.avx512.fma.1x16x1.f32"), intrinsic("nvidia.mma.m16n8k16.f32.f16")
    one = np.ones((1, 1), np.float32)
    with pytest.raises(TypeError, match=r"rhs has elements of float64, the row says f32 \(float32\)"):
        execute(row, one, one.astype(np.float64), one)
    with pytest.raises(ValueError, match=r"\(1, 1\) x \(2, 1\) \+ \(1, 1\) do not fit"):
        execute(row, one, np.ones((2, 1), np.float32), one)
    with pytest.raises(ValueError, match=r"lhs of shape \(1,\) is not a matrix"):
        execute(row, one[0], one, one)
    with pytest.raises(ValueError, match="sum over 8 is not a multiple of the intrinsic's k, 16"):
        execute(half, np.ones((16, 8), np.float16), np.ones((8, 8), np.float16), np.ones((16, 8), np.float32))
