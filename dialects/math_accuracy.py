"""How accurate elementary functions are in machine code: rows that error bounds are made from.

A row says by how many units in the last place of the exact result's f32 or f64 a computed result may be off. Rows of
f32 functions with a formula are measured (``test/passes/test_expand_math.py`` tests a dense sample of all f32, and the
number is the largest found over all 2^32 inputs, rounded up); results below the smallest normal number
are off by at most that many units of 2^-149. Rows of the C library are those of the GNU C Library manual, section
"Known Maximum Errors in Math Functions", for x86_64.
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
_LIBRARY = "C library"
_CORRECT = "correctly rounded instruction"

ROWS: tuple[AccuracyRow, ...] = (
    AccuracyRow("exp", "f32", 1.25, _FORMULA),
    AccuracyRow("exp", "f32", 2.0, "ex2.approx (PTX ISA 8.7); its argument is rounded before", approximate=True),
    AccuracyRow("exp2", "f32", 1.0, _FORMULA),
    AccuracyRow("log", "f32", 1.2, _FORMULA),
    AccuracyRow("tanh", "f32", 1.55, _FORMULA),
    AccuracyRow("erf", "f32", 1.85, _FORMULA),
    AccuracyRow("rsqrt", "f32", 1.5, _FORMULA),
    AccuracyRow("rsqrt", "f32", 2.15, "rsqrt.approx.ftz (PTX ISA 8.7): 2^-22.9 of the result", approximate=True),
    AccuracyRow("sqrt", "f32", 0.5, _CORRECT),
    AccuracyRow("exp", "f64", 1.0, _LIBRARY),
    AccuracyRow("exp2", "f64", 1.0, _LIBRARY),
    AccuracyRow("log", "f64", 1.0, _LIBRARY),
    AccuracyRow("tanh", "f64", 2.0, _LIBRARY),
    AccuracyRow("erf", "f64", 1.0, _LIBRARY),
    AccuracyRow("rsqrt", "f64", 1.5, "two correctly rounded instructions"),
    AccuracyRow("sqrt", "f64", 0.5, _CORRECT),
)

_ULP = {(row.function, row.element, row.approximate): row.ulp for row in ROWS}


def max_ulp(function: str, element: str, approximate: bool = False) -> float:
    """The largest error of ``math.<function>`` on ``element``; a KeyError for a function without a row.

    ``approximate`` asks for that of ``fastmath<afn>``.
    """
    return _ULP[function, element, approximate]
