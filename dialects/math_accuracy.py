"""How accurate elementary functions are in machine code: rows that error bounds are made from.

A row says by how many units in the last place of the exact result's f32 or f64 a computed result may be off. Rows of
functions with a formula are measured by ``bench/math_accuracy.py``: the largest error found over all 2^32 numbers of
f32, and over 200 million of f64, rounded up; ``test/passes/test_expand_math.py`` tests a sample of all exponents.
Results below the smallest normal number are off by at most that many units of the smallest number.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AccuracyRow:
    """Function ``math.<function>`` on ``element`` (``f32`` or ``f64``) is off by at most ``ulp`` units.

    With ``approximate`` where it is ``fastmath<afn>``.
    """

    function: str
    element: str
    ulp: float
    source: str
    approximate: bool = False


_FORMULA = "formula of expand-math"
_CORRECT = "correctly rounded instruction"

ROWS: tuple[AccuracyRow, ...] = (
    AccuracyRow("exp", "f32", 1.05, _FORMULA),
    AccuracyRow("exp", "f32", 2.0, "ex2.approx (PTX ISA 8.7); its argument is rounded before", approximate=True),
    AccuracyRow("exp2", "f32", 0.95, _FORMULA),
    AccuracyRow("log", "f32", 1.15, _FORMULA),
    AccuracyRow("tanh", "f32", 1.45, _FORMULA),
    AccuracyRow("erf", "f32", 1.85, _FORMULA),
    AccuracyRow("rsqrt", "f32", 1.5, _FORMULA),
    AccuracyRow("rsqrt", "f32", 2.15, "rsqrt.approx.ftz (PTX ISA 8.7): 2^-22.9 of the result", approximate=True),
    AccuracyRow("sqrt", "f32", 0.5, _CORRECT),
    AccuracyRow("exp", "f64", 1.05, _FORMULA),
    AccuracyRow("exp2", "f64", 1.1, _FORMULA),
    AccuracyRow("log", "f64", 1.35, _FORMULA),
    AccuracyRow("tanh", "f64", 1.65, _FORMULA),
    AccuracyRow("erf", "f64", 2.0, _FORMULA),
    AccuracyRow("rsqrt", "f64", 1.5, "two correctly rounded instructions"),
    AccuracyRow("sqrt", "f64", 0.5, _CORRECT),
)

_ULP = {(row.function, row.element, row.approximate): row.ulp for row in ROWS}


def max_ulp(function: str, element: str, approximate: bool = False) -> float:
    """The largest error of ``math.<function>`` on ``element``; a KeyError for a function without a row.

    ``approximate`` asks for that of ``fastmath<afn>``.
    """
    return _ULP[function, element, approximate]
