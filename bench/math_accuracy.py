"""How far elementary functions are off, in units in the last place: all numbers of f32, a sample of f64.

    python bench/math_accuracy.py [--only FUNCTION ...] [--element f32|f64 ...] [--samples N] [--json FILE]

Every row of ``dialects/math_accuracy.py`` with a formula is measured on machine code of this processor. Functions of
f32 are compared with those of f64, on all 2^32 numbers (a minute each); those of f64 with the C library's on ``long
double``, which has 64 bits on x86, and erf with mpmath (extra ``test``), on a thousandth of the numbers. Fails if an
error is larger than its row says.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mpmath  # pyright: ignore[reportMissingTypeStubs]
import numpy as np

import crosstile
from crosstile.dialects.math_accuracy import ROWS, AccuracyRow

mp: Any = mpmath.mp.clone()
mp.prec = 80
BLOCK = 1 << 20
PROGRAM = """func.func @main(%x: tensor<?x{0}>) -> tensor<?x{0}> {{
  %y = nest.kernel @{1} (%a = %x : tensor<?x{0}>) -> (tensor<?x{0}>) {{
    %b = nest.generic [i : parallel] ins(%a (i) : tensor<?x{0}>) -> (i) : tensor<?x{0}> {{
    ^bb0(%p : {0}):
      %q = math.{1} %p : {0}
      nest.yield %q : {0}
    }}
    nest.yield %b : tensor<?x{0}>
  }}
  func.return %y : tensor<?x{0}>
}}"""
WIDE: dict[str, Callable[[Any], Any]] = {
    "exp": np.exp,
    "exp2": np.exp2,
    "log": np.log,
    "tanh": np.tanh,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "erf": np.frompyfunc(lambda x: np.longdouble(str(mp.erf(mp.mpf(float(x))))), 1, 1),
}
NEAR = {"exp": 800.0, "exp2": 1100.0, "log": 4.0, "tanh": 22.0, "erf": 6.5, "rsqrt": 10.0}
"""Where most is to be seen."""


def compiled(function: str, element: str) -> Any:
    """The function of every element of an array."""
    return crosstile.compile(PROGRAM.format(element, function), start="nest")


def singles() -> Iterator[Any]:
    """All numbers of f32."""
    for start in range(0, 1 << 32, BLOCK):
        yield np.arange(start, start + BLOCK, dtype=np.uint64).astype(np.uint32).view(np.float32)


def doubles(function: str, count: int) -> Iterator[Any]:
    """Numbers of f64: a half of any bits, the others where most is to be seen and close to zero."""
    random = np.random.default_rng(0)
    for start in range(0, count, BLOCK):
        quarter = (min(BLOCK, count - start) + 3) // 4
        bits = random.integers(0, 1 << 64, 2 * quarter, dtype=np.uint64)
        low = -NEAR[function] if function not in ("log", "rsqrt") else 0.0
        near = random.uniform(low, NEAR[function], quarter)
        small = random.uniform(low / NEAR[function], 1, quarter) * np.exp2(random.uniform(-30, 3, quarter))
        yield np.concatenate([bits.view(np.float64), near, small])


def worst(row: AccuracyRow, samples: int) -> tuple[float, float]:
    """The largest error in units in the last place, and where it is."""
    function = compiled(row.function, row.element)
    found = (0.0, 0.0)
    if row.element == "f32":
        blocks, reference, wide = singles(), compiled(row.function, "f64"), np.float64
    else:
        count = samples // 1000 if row.function == "erf" else samples
        blocks, reference, wide = doubles(row.function, count), WIDE[row.function], np.longdouble
    for x in blocks:
        y, exact = function(x), np.asarray(reference(x.astype(wide))).astype(wide)
        rounded = exact.astype(x.dtype)
        errors = np.abs(y - exact) / np.spacing(np.abs(rounded)).astype(wide)
        ends = ~np.isfinite(rounded)
        errors[ends] = np.where((y == rounded) | (np.isnan(y) & np.isnan(rounded)), 0.0, np.inf)[ends]
        at = int(np.argmax(errors))
        found = max(found, (float(errors[at]), float(x[at])))
    return found


def main(arguments: list[str]) -> int:
    """Measure, print a line for each row, and return 1 if an error is larger than it says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(WIDE), default=list(WIDE), metavar="FUNCTION")
    parser.add_argument("--element", nargs="+", choices=["f32", "f64"], default=["f32", "f64"])
    parser.add_argument("--samples", type=int, default=100_000_000, metavar="N", help="numbers of f64 (100 million)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    rows = [
        row for row in ROWS if row.function in options.only and row.element in options.element and not row.approximate
    ]
    measured: list[dict[str, Any]] = []
    with np.errstate(all="ignore"):
        for row in rows:
            error, at = worst(row, options.samples)
            measured.append(
                {"function": row.function, "element": row.element, "ulp": error, "at": at, "stated": row.ulp}
            )
            print(f"{row.function:6} {row.element}  {error:.4f} ulp at {at!r}; stated {row.ulp}", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(measured, indent=1) + "\n")
    return int(any(row["ulp"] > row["stated"] for row in measured))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
