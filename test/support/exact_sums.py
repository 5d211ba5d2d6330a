"""The fused sums of tensor cores in rational arithmetic, step by step from their published description."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from crosstile.targets.numerics import Rounding, TruncatedSum

MIN_EXPONENT = {"f32": -126, "tf32": -126, "f16": -14, "bf16": -126, "f8E4M3FN": -6, "f8E5M2": -14}


def exponent_of(value: Fraction, lowest: int) -> int:
    """The exponent of the leading bit, not below ``lowest``; zero counts as 2**-126."""
    if value == 0:
        return -126
    size = abs(value)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    return max(exponent - (Fraction(2) ** exponent > size), lowest)


def toward_zero(value: Fraction, unit: Fraction) -> Fraction:
    """The multiple of ``unit`` next to ``value`` that is not farther from zero."""
    return int(value / unit) * unit


def fused_sum(
    a: Iterable[float], b: Iterable[float], c: float, numerics: TruncatedSum, types: tuple[str, str]
) -> float:
    """c + sum(a * b) as one fused sum; ``types`` are those of the factors and of c. Finite numbers only."""
    element, accumulator = types
    lowest = MIN_EXPONENT[element]
    terms = [(Fraction(c), exponent_of(Fraction(c), MIN_EXPONENT[accumulator]))]
    for x, y in zip(a, b, strict=True):
        x, y = Fraction(float(x)), Fraction(float(y))
        if element == "tf32":
            x, y = (toward_zero(v, Fraction(2) ** (exponent_of(v, -126) - 10)) for v in (x, y))
        exponent = exponent_of(x, lowest) + exponent_of(y, lowest) if x * y else -126
        terms.append((x * y, exponent))
    unit = Fraction(2) ** (max(exponent for _, exponent in terms) - numerics.fraction_bits)
    total = sum((toward_zero(value, unit) for value, _ in terms), Fraction(0))
    if numerics.rounding is Rounding.NEAREST_EVEN:
        unit = Fraction(2) ** (max(exponent_of(total, -14), -14) - 10)
        return float(round(total / unit) * unit)
    unit = Fraction(2) ** (max(exponent_of(total, -126), -126) - numerics.result_fraction_bits)
    return float(toward_zero(total, unit))


def chained_sum(
    a: Iterable[float], b: Iterable[float], c: float, numerics: TruncatedSum, types: tuple[str, str]
) -> float:
    """Fused sums of ``fused_length`` products in order, each the accumulator of the next."""
    a, b, length = list(a), list(b), numerics.fused_length
    for start in range(0, len(a), length):
        c = fused_sum(a[start : start + length], b[start : start + length], c, numerics, types)
    return c
