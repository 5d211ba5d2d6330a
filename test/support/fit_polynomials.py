"""Where the coefficients of ``passes/math_formulas.py`` come from: minimax polynomials by Remez's exchange algorithm.

``python test/support/fit_polynomials.py`` prints them. All in float64, which is far more exact than the f32 the
coefficients are rounded to. A fit minimises the largest weighted error; the weight turns an error of the polynomial
into a relative error of the function that is computed from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy

np: Any = numpy  # what its overloads infer for floats of unknown size is less than this

Function = Callable[[Any], Any]

LN2 = math.log(2)


@dataclass(frozen=True)
class Fit:
    """A polynomial of ``degree`` for ``target`` between ``low`` and ``high``."""

    target: Function
    weight: Function
    low: float
    high: float
    degree: int

    def coefficients(self) -> tuple[float, ...]:
        """Constant term first, rounded to f32; the exchange stops when the extrema no longer move."""
        count = self.degree + 1
        angles: Any = np.cos(np.linspace(0, np.pi, 20001))
        grid = (
            np.unique(np.concatenate([np.linspace(0, 1, 20001), (1 + angles) / 2])) * (self.high - self.low) + self.low
        )
        values, weights = self.target(grid), self.weight(grid)
        reference = (self.low + self.high) / 2 - (self.high - self.low) / 2 * np.cos(
            np.pi * np.arange(count + 1) / count
        )
        result: Any = np.zeros(count)
        for _ in range(60):
            signs = (-1.0) ** np.arange(count + 1) / self.weight(reference)
            system = np.column_stack([np.vander(reference, count, increasing=True), signs])
            result = _solved(system, self.target(reference))[:-1]
            errors: Any = weights * (np.polynomial.polynomial.polyval(grid, result) - values)
            extrema = _alternating_extrema(errors, count + 1)
            if extrema is None or np.max(np.abs(grid[extrema] - reference)) < 1e-12:
                break
            reference = grid[extrema]
        return tuple(float(np.float32(value)) for value in result)


def _solved(system: Any, values: Any) -> Any:
    """The solution of a linear system, exact but for the rounding at the end.

    The exchange can turn on the last bit, and a BLAS rounds in an order of its own on each processor.
    """
    rows = [
        [*map(Fraction, map(float, row)), Fraction(float(value))] for row, value in zip(system, values, strict=True)
    ]
    for at in range(len(rows)):
        pivot = max(range(at, len(rows)), key=lambda row: abs(rows[row][at]))
        rows[at], rows[pivot] = rows[pivot], rows[at]
        rows[at] = [entry / rows[at][at] for entry in rows[at]]
        for other in range(len(rows)):
            if other != at and (factor := rows[other][at]):
                rows[other] = [entry - factor * part for entry, part in zip(rows[other], rows[at], strict=True)]
    return np.array([float(row[-1]) for row in rows])


def _alternating_extrema(errors: Any, count: int) -> list[int] | None:
    changes = np.nonzero(np.signbit(errors[1:]) != np.signbit(errors[:-1]))[0] + 1
    stretches = np.split(np.arange(len(errors)), changes)
    extrema = [int(stretch[np.argmax(np.abs(errors[stretch]))]) for stretch in stretches]
    while len(extrema) > count:
        first, last = abs(errors[extrema[0]]), abs(errors[extrema[-1]])
        extrema = extrema[1:] if first < last else extrema[:-1]
    return extrema if len(extrema) == count else None


def _divide(numerator: Any, denominator: Any, limit: Any) -> Any:
    """``numerator / denominator``, and ``limit`` where the denominator is too small for the difference quotient."""
    small: Any = np.abs(denominator) < 1e-6
    return np.where(small, limit, numerator / np.where(small, 1, denominator))


_erf: Any = np.vectorize(math.erf, otypes=[float])
_erfc: Any = np.vectorize(math.erfc, otypes=[float])


def _log1p_tail(f: Any) -> Any:
    small: Any = np.abs(f) < 1e-3
    series: Any = -0.5 + f / 3 - f**2 / 4 + f**3 / 5
    return np.where(small, series, (np.log1p(f) - f) / np.where(small, 1, f) ** 2)


def _expm1_tail(r: Any) -> Any:
    small: Any = np.abs(r) < 1e-3
    series: Any = 0.5 + r / 6 + r**2 / 24 + r**3 / 120
    return np.where(small, series, (np.expm1(r) - r) / np.where(small, 1, r) ** 2)


def _tanh_tail(z: Any) -> Any:
    small = z < 1e-3
    x = np.sqrt(np.where(small, 1, z))
    series: Any = -1 / 3 + 2 * z / 15 - 17 * z**2 / 315 + 62 * z**3 / 2835
    return np.where(small, series, (np.tanh(x) - x) / x**3)


_TINY = 1e-300
_HALF_LN2 = LN2 / 2 * 1.0001

FITS: dict[str, Fit] = {
    # e^r = 1 + r * P(r), in units in the last place of e^r, which double at 1
    "EXP": Fit(
        lambda r: _divide(np.expm1(r), r, 1 + r / 2),
        lambda r: np.abs(r) * np.where(r < 0, 2, 1) + _TINY,
        -_HALF_LN2,
        _HALF_LN2,
        5,
    ),
    # 2^r = 1 + r * P(r), in units in the last place of 2^r, which double at 1
    "EXP2": Fit(
        lambda r: _divide(np.expm1(r * LN2), r, LN2 + r * LN2**2 / 2),
        lambda r: np.abs(r) * np.where(r < 0, 2, 1) + _TINY,
        -0.5,
        0.5,
        5,
    ),
    # e^r - 1 = r + r^2 * P(r), relative to e^r
    "EXPM1": Fit(_expm1_tail, lambda r: r * r / np.exp(r) + _TINY, -_HALF_LN2, _HALF_LN2, 4),
    # log(1 + f) = f + f^2 * P(f)
    "LOG": Fit(
        _log1p_tail,
        lambda f: _divide(f * f, np.abs(np.log1p(f)), np.abs(f)) + _TINY,
        (math.sqrt(0.5) - 1) * 1.0001,
        (math.sqrt(2) - 1) * 1.0001,
        7,
    ),
    # tanh(x) = x + x^3 * P(x^2)
    "TANH": Fit(
        _tanh_tail,
        lambda z: _divide(z * np.sqrt(z), np.tanh(np.sqrt(z)), z) + _TINY,
        0.0,
        0.36,
        4,
    ),
    # -log(1 - erf(a)) = a + a * P(a), relative to erf(a)
    "ERF": Fit(
        lambda a: _divide(-np.log(_erfc(a)), a, 2 / math.sqrt(math.pi) + 2 / math.pi * a) - 1,
        lambda a: _divide(_erfc(a) * a, _erf(a), math.sqrt(math.pi) / 2),
        0.0,
        3.93,
        8,
    ),
}


if __name__ == "__main__":
    for name, fit in FITS.items():
        print(f"{name} = {fit.coefficients()}")
