"""Correctly rounded fma against exact rational arithmetic."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from crosstile.targets.fma import fma, fma_chain

Array = NDArray[Any]

# type -> (bits of the significand, exponent of the smallest normal number, exponent of the largest number)
FORMATS: dict[Any, tuple[int, int, int]] = {
    np.float64: (53, -1022, 1023),
    np.float32: (24, -126, 127),
    np.float16: (11, -14, 15),
    ml_dtypes.bfloat16: (8, -126, 127),
}


def round_exactly(exact: Fraction, dtype: Any) -> float:
    """A nonzero rational, rounded once to nearest even."""
    bits, lowest, highest = FORMATS[dtype]
    size = abs(exact)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if Fraction(2) ** exponent > size:
        exponent -= 1
    unit = Fraction(2) ** (max(exponent, lowest) - bits + 1)
    rounded = round(size / unit) * unit  # round() of a Fraction is to nearest even
    magnitude = float("inf") if rounded >= Fraction(2) ** (highest + 1) else float(rounded)
    return -magnitude if exact < 0 else magnitude


def exact_fma(a: Any, b: Any, c: Any, dtype: Any) -> float:
    """The reference for finite operands."""
    product = Fraction(float(a)) * Fraction(float(b))
    exact = product + Fraction(float(c))
    if exact != 0:
        return round_exactly(exact, dtype)
    negative = product == 0 and c == 0 and np.signbit(a) != np.signbit(b) and np.signbit(c)
    return -0.0 if negative else 0.0


def check(a: Array, b: Array, c: Array) -> None:
    """fma of three arrays of one type against the reference, bit for bit."""
    dtype: Any = a.dtype.type
    want = np.array([exact_fma(x, y, z, dtype) for x, y, z in zip(a, b, c, strict=True)]).astype(dtype)
    got = fma(a, b, c)
    assert got.dtype == dtype
    unsigned = f"u{got.itemsize}"
    wrong = np.nonzero(got.view(unsigned) != want.view(unsigned))[0]
    assert not wrong.size, [(a[i], b[i], c[i], got[i], want[i]) for i in wrong[:3]]


def bit_patterns(rng: np.random.Generator, dtype: Any, count: int) -> Array:
    """Every exponent equally likely; finite."""
    values = rng.integers(0, 256, (count, np.dtype(dtype).itemsize), np.uint8).view(dtype)[:, 0]
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(values), values, np.ones(count, dtype))


def few_bits(rng: np.random.Generator, dtype: Any, count: int) -> Array:
    """Small integers times powers of two: sums hit ties and cancel."""
    reach = min(60, FORMATS[dtype][2] - 4)
    return np.ldexp(rng.integers(-8, 9, count).astype(np.float64), rng.integers(-reach, reach, count)).astype(dtype)


def around_one(rng: np.random.Generator, dtype: Any, count: int) -> Array:
    bits = FORMATS[dtype][0]
    return (1 + rng.integers(-4, 5, count) * 2.0 ** (1 - bits)).astype(dtype)


def subnormal(rng: np.random.Generator, dtype: Any, count: int) -> Array:
    bits, lowest, _ = FORMATS[dtype]
    return np.ldexp(rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), count).astype(float), lowest - bits + 1).astype(
        dtype
    )


def extremes(rng: np.random.Generator, dtype: Any, count: int) -> Array:
    bits, lowest, highest = FORMATS[dtype]
    values = [0.0, -0.0, 1.0, 2.0**lowest, 2.0 ** (lowest - bits + 1), 2.0**highest * (2 - 2.0 ** (1 - bits))]
    return rng.choice(np.array(values + [-value for value in values]), count).astype(dtype)


KINDS: tuple[Callable[[np.random.Generator, Any, int], Array], ...] = (
    bit_patterns,
    few_bits,
    around_one,
    subnormal,
    extremes,
)


@pytest.mark.parametrize("dtype", FORMATS, ids=lambda dtype: np.dtype(dtype).name)
def test_all_kinds_of_operands(dtype: Any) -> None:
    rng = np.random.default_rng(1)
    triples = [(x, y, z) for x in KINDS for y in KINDS for z in KINDS]
    parts = [tuple(kind(rng, dtype, 60) for kind in triple) for triple in triples]
    a, b, c = (np.concatenate(operand) for operand in zip(*parts, strict=True))
    check(a, b, c)


@pytest.mark.parametrize("dtype", FORMATS, ids=lambda dtype: np.dtype(dtype).name)
def test_sums_that_nearly_cancel(dtype: Any) -> None:
    rng = np.random.default_rng(2)
    a, b = (np.concatenate([kind(rng, dtype, 300) for kind in KINDS]) for _ in range(2))
    rng.shuffle(b)
    with np.errstate(all="ignore"):
        product = a * b
    c = np.where(np.isfinite(product), -product, np.ones_like(product))
    check(a, b, c)
    check(a, b, np.nextafter(c, np.zeros_like(c)))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_products_at_the_smallest_numbers(dtype: Any) -> None:
    """Exponents chosen so that products and sums lie around the smallest subnormal and the smallest normal number."""
    rng = np.random.default_rng(3)
    bits, lowest, _ = FORMATS[dtype]
    count = 3000
    exponent = rng.integers(lowest // 2 - 20, lowest // 2 + 20, count)
    significands = rng.integers(2 ** (bits - 1), 2**bits, (2, count)).astype(np.float64)
    below = rng.integers(-bits - 3, 4, count)
    a = np.ldexp(significands[0], exponent - bits).astype(dtype)
    b = np.ldexp(significands[1], lowest + below - exponent - bits).astype(dtype)
    c = subnormal(rng, dtype, count) * rng.integers(0, 3, count).astype(dtype)
    check(a, b, c)


@settings(max_examples=300)
@given(*[st.floats(allow_nan=False, allow_infinity=False)] * 3)
def test_any_finite_f64(a: float, b: float, c: float) -> None:
    check(np.array([a]), np.array([b]), np.array([c]))


@settings(max_examples=300)
@given(st.integers(0, 2**24 - 1), st.integers(0, 2**24 - 1), st.integers(-60, 60))
def test_f32_at_ties(a: int, b: int, shift: int) -> None:
    """The addend is far below or above the product, whose last bit is set: only the sticky bit breaks the tie."""
    check(*(np.array([x], np.float32) for x in (a, b | 1, np.ldexp(1.5, shift))))


@pytest.mark.parametrize("dtype", FORMATS, ids=lambda dtype: np.dtype(dtype).name)
def test_infinities_and_nans(dtype: Any) -> None:
    bits, _, highest = FORMATS[dtype]
    inf, nan, largest = np.inf, np.nan, 2.0**highest * (2 - 2.0 ** (1 - bits))
    cases = [
        (inf, 2, 1, inf),
        (inf, -2, 1, -inf),
        (inf, 0, 1, nan),
        (inf, 1, -inf, nan),
        (2, 3, -inf, -inf),
        (largest, largest, -inf, -inf),  # the product alone would be infinite
        (largest, 2, -largest, largest),
        (largest, largest, 0, inf),
        (nan, 0, 0, nan),
        (0, 0, nan, nan),
    ]
    a, b, c, want = (np.array(column, np.float64).astype(dtype) for column in zip(*cases, strict=True))
    np.testing.assert_array_equal(fma(a, b, c).astype(np.float64), want.astype(np.float64))


def test_operands_broadcast_and_scalars_stay_scalars() -> None:
    assert fma(np.ones((2, 1)), np.ones(3), np.zeros((4, 1, 1))).shape == (4, 2, 3)
    result = fma(np.float32(3), np.float32(5), np.float32(1))
    assert type(result) is np.float32
    assert result == 16


def test_types_do_not_mix() -> None:
    with pytest.raises(TypeError, match="one type, not float32, float64 and float32"):
        fma(np.float32(1), np.float64(1), np.float32(1))


@pytest.mark.parametrize("exponent", [*range(-1070, -940, 3), *range(960, 1020, 3)])
def test_f64_one_unit_beside_a_tie(exponent: int) -> None:
    """A product of 105 bits one unit above the middle of two numbers, alone or with a term that is far too small."""
    a, b = np.ldexp(float(2**52 + 3), 430), np.ldexp(float(2**52 + 750599937895083), exponent - 430 - 104)
    tiny = 2.0**-1074
    check(np.full(3, a), np.full(3, b), np.array([0.0, tiny, -tiny]))


def test_f32_chain_beside_subnormal_ties() -> None:
    """The sum is 2**-190 below the middle of two subnormal numbers, too close for float64 to tell."""
    column, row = (np.full((1, 1, 1), 2.0**-75 * (1 + 2.0**-20)), np.full((1, 1, 1), 2.0**-75 * (1 - 2.0**-20)))
    chained = np.array([[(2**22 + 1) * 2.0**-149]], np.float32)
    fma_chain(column, row, chained)
    assert chained[0, 0] == np.float32((2**22 + 1) * 2.0**-149)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kinds", [(bit_patterns, few_bits), (few_bits, around_one), (subnormal, around_one)])
def test_a_chain_is_its_steps(dtype: Any, kinds: tuple[Callable[..., Array], Callable[..., Array]]) -> None:
    """The chain's fast paths are taken and left as the data demands, and never show."""
    rng = np.random.default_rng(4)
    k, m, n = 40, 7, 33
    columns = kinds[0](rng, dtype, k * m).reshape(k, m, 1)
    rows = kinds[1](rng, dtype, k * n).reshape(k, 1, n)
    chained = kinds[1](rng, dtype, m * n).reshape(m, n)
    stepped = chained.copy()
    fma_chain(columns.astype(np.float64), rows.astype(np.float64), chained)
    for column, row in zip(columns, rows, strict=True):
        stepped = fma(column, row, stepped)
    np.testing.assert_array_equal(chained, stepped)
