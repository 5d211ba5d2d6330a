"""Where the coefficients of ``passes/math_coefficients.py`` come from: minimax polynomials by Remez's algorithm.

``python test/support/fit_polynomials.py`` prints them. Numbers have 140 bits here, so that the last rounding, to f32 or
f64, is the only one that matters. A fit minimises the largest weighted error; the weight turns an error of the
polynomial into a relative error of the function that is computed from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mpmath  # pyright: ignore[reportMissingTypeStubs]
import numpy as np

mp: Any = mpmath.mp.clone()
mp.prec = 140

Function = Callable[[Any], Any]

POINTS = 4001
"""Of the grid that errors are looked for on; odd, so that no first reference point lies where a weight is zero."""
LEAST_WEIGHT = mp.mpf(10) ** -20


@dataclass(frozen=True)
class Fit:
    """A polynomial of ``degree`` for ``target`` between ``low`` and ``high``."""

    target: Function
    weight: Function
    low: Any
    high: Any
    degree: int

    def coefficients(self, kind: type[np.floating[Any]]) -> tuple[float, ...]:
        """Constant term first, rounded to ``kind``; the exchange stops when the extrema no longer move."""
        middle, half = (self.low + self.high) / mp.mpf(2), (self.high - self.low) / mp.mpf(2)
        grid = [middle - half * mp.cos(mp.pi * point / POINTS) for point in range(POINTS + 1)]
        values = [self.target(x) for x in grid]
        weights = [max(self.weight(x), LEAST_WEIGHT) for x in grid]
        count = self.degree + 1
        reference = [round(POINTS * point / count) for point in range(count + 1)]
        while True:
            rows = [[*powers(grid[at], count), (-1) ** row / weights[at]] for row, at in enumerate(reference)]
            result = list(mp.lu_solve(mp.matrix(rows), mp.matrix([values[at] for at in reference])))[:-1]
            errors = [
                weight * (polynomial(result, x) - value) for x, value, weight in zip(grid, values, weights, strict=True)
            ]
            extrema = alternating_extrema(errors, count + 1)
            if extrema == reference:
                return tuple(float(kind(mp.nstr(value, 40))) for value in result)
            reference = extrema


def powers(x: Any, count: int) -> list[Any]:
    """1, x, x^2, ..."""
    return [x**power for power in range(count)]


def polynomial(coefficients: Sequence[Any], x: Any) -> Any:
    """Its value by Horner's rule, constant term first."""
    result = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        result = result * x + coefficient
    return result


def alternating_extrema(errors: Sequence[Any], count: int) -> list[int]:
    """Where the largest errors of ``count`` stretches of one sign are, which follow each other."""
    starts = [at for at in range(1, len(errors)) if (errors[at] < 0) != (errors[at - 1] < 0)]
    bounds = zip([0, *starts], [*starts, len(errors)], strict=True)
    extrema = [max(range(start, stop), key=lambda at: abs(errors[at])) for start, stop in bounds]
    assert len(extrema) >= count, "a fit of this degree has no such alternation on this grid"
    while len(extrema) > count:
        extrema = extrema[1:] if abs(errors[extrema[0]]) < abs(errors[extrema[-1]]) else extrema[:-1]
    return extrema


def _log1p_tail(f: Any) -> Any:
    return (mp.log1p(f) - f) / f**2


def _tanh_tail(z: Any) -> Any:
    x = mp.sqrt(z)
    return (mp.tanh(x) - x) / x**3 if z else -mp.mpf(1) / 3


def _erf_exponent(a: Any) -> Any:
    return -mp.log(mp.erfc(a)) / a - 1 if a else 2 / mp.sqrt(mp.pi) - 1


def _units(r: Any) -> Any:
    """In units in the last place of 1 + r * P(r), which double at 1."""
    return 2 * -r if r < 0 else r


_LN2 = mp.log(2)
_EDGE = mp.mpf("1.0001")  # a reduced argument is a little further than half a step, which is rounded

_SINGLE: dict[str, Fit] = {
    # e^r = 1 + r * P(r)
    "exp": Fit(lambda r: mp.expm1(r) / r, _units, -_LN2 / 2 * _EDGE, _LN2 / 2 * _EDGE, 5),
    # 2^r = 1 + r * P(r)
    "exp2": Fit(lambda r: mp.expm1(r * _LN2) / r, _units, -mp.mpf(1) / 2, mp.mpf(1) / 2, 5),
    # e^r - 1 = r + r^2 * P(r), relative to e^r
    "expm1": Fit(
        lambda r: (mp.expm1(r) - r) / r**2, lambda r: r * r / mp.exp(r), -_LN2 / 2 * _EDGE, _LN2 / 2 * _EDGE, 4
    ),
    # log(1 + f) = f + f^2 * P(f)
    "log": Fit(
        _log1p_tail,
        lambda f: f * f / abs(mp.log1p(f)),
        (mp.sqrt(mp.mpf(1) / 2) - 1) * _EDGE,
        (mp.sqrt(2) - 1) * _EDGE,
        7,
    ),
    # tanh(x) = x + x^3 * P(x^2)
    "tanh": Fit(_tanh_tail, lambda z: z * mp.sqrt(z) / mp.tanh(mp.sqrt(z)) if z else z, mp.mpf(0), mp.mpf(36) / 100, 4),
    # -log(1 - erf(a)) = a + a * P(a), relative to erf(a)
    "erf": Fit(
        _erf_exponent,
        lambda a: mp.erfc(a) * a / mp.erf(a) if a else mp.sqrt(mp.pi) / 2,
        mp.mpf(0),
        mp.mpf(393) / 100,
        8,
    ),
}
_DOUBLE_DEGREES = {"exp": 10, "exp2": 10, "expm1": 9, "log": 20, "tanh": 10, "erf": 25}

FITS: dict[tuple[str, type[np.floating[Any]]], Fit] = {
    **{(name, np.float32): fit for name, fit in _SINGLE.items()},
    **{(name, np.float64): replace(fit, degree=_DOUBLE_DEGREES[name]) for name, fit in _SINGLE.items()},
}
FITS["erf", np.float64] = replace(FITS["erf", np.float64], high=mp.mpf(593) / 100)


if __name__ == "__main__":
    for (function, kind), fit in FITS.items():
        print(f"{kind.__name__} {function} = {fit.coefficients(kind)}")
