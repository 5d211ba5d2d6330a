"""How fast kernels run on one core: products as a share of the measured peak, the rest next to NumPy, in one process.

    python bench/cpu_smoke.py            # a table
    python bench/cpu_smoke.py --json     # the same numbers for programs

Everything is the best of several runs on one thread, ours and NumPy's in turns, so that a neighbour or a change of the
clock meets both. NumPy's own products use its BLAS, on one thread as well; softmax, layer norm and gelu are what a
person would write in NumPy, in float32, without temporaries that can be avoided.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import crosstile
from crosstile.targets.host import default_target, host_machine
from crosstile.targets.x86.peak import measured_peak
from crosstile.tools.targets import find_machine

SETTINGS = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "CROSSTILE_CACHE": "0"}
"""One thread for NumPy's BLAS, which reads this when it is loaded, and no compiled programs from earlier runs."""
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
GELU = """func.func @main(%x: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %y = nn.gelu %x : tensor<?x?xf32>
  func.return %y : tensor<?x?xf32>
}
"""
PRODUCTS = ((1024, 1024, 1024), (1797, 64, 10), (1000, 999, 1001))
"""M, K and N."""
ROWS, COLUMNS = 1024, 1024


@dataclass(frozen=True)
class Row:
    """One problem: our seconds, NumPy's, and for products the share of the measured peak."""

    name: str
    seconds: float
    numpy_seconds: float
    share_of_peak: float | None = None

    @property
    def ratio(self) -> float:
        """How many times faster than NumPy."""
        return self.numpy_seconds / self.seconds


def best(ours: Callable[[], object], numpys: Callable[[], object], repeat: int) -> tuple[float, float]:
    """The least seconds of each, called in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeat + 1):
        for call, found in zip((ours, numpys), times, strict=True):
            begin = perf_counter()
            call()
            found.append(perf_counter() - begin)
    return min(times[0][1:]), min(times[1][1:])


def numbers(seed: int, *shape: int) -> Any:
    """Standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def softmax(x: Any) -> Any:
    """The softmax of every row, in place where NumPy can."""
    y = x - x.max(axis=1, keepdims=True)
    np.exp(y, out=y)
    y /= y.sum(axis=1, keepdims=True)
    return y


def layer_norm(x: Any, gamma: Any, beta: Any) -> Any:
    """Layer norm of every row."""
    y = x - x.mean(axis=1, keepdims=True)
    y *= 1 / np.sqrt((y * y).mean(axis=1, keepdims=True) + np.float32(1e-5))
    y *= gamma
    y += beta
    return y


def gelu(x: Any) -> Any:
    """The gelu by its approximation with tanh: NumPy has no error function."""
    y = x * x
    y *= np.float32(0.044715)
    y += 1
    y *= x
    y *= np.float32(math.sqrt(2 / math.pi))
    np.tanh(y, out=y)
    y += 1
    y *= x
    y *= np.float32(0.5)
    return y


def measure(repeat: int) -> list[Row]:
    """All rows."""
    rows: list[Row] = []
    matmul = crosstile.compile(EXAMPLES / "matmul.mlir")
    for m, k, n in PRODUCTS:
        a, b, out, numpy_out = numbers(0, m, k), numbers(1, k, n), np.empty((m, n), "f4"), np.empty((m, n), "f4")
        ours, numpys = best(
            lambda a=a, b=b, out=out: matmul(a, b, out=out, threads=1),
            lambda a=a, b=b, out=numpy_out: np.matmul(a, b, out=out),
            repeat,
        )
        share = 2 * m * n * k / ours / measured_peak(host_machine())
        rows.append(Row(f"matmul {m}x{k}x{n}", ours, numpys, share))
    x, gamma, beta = numbers(0, ROWS, COLUMNS), numbers(1, COLUMNS), numbers(2, COLUMNS)
    problems = (
        ("softmax", EXAMPLES / "softmax.mlir", softmax, (x,)),
        ("layer_norm", EXAMPLES / "layer_norm.mlir", layer_norm, (x, gamma, beta)),
        ("gelu", GELU, gelu, (x,)),
    )
    for name, source, in_numpy, arguments in problems:
        function = crosstile.compile(source)
        out = np.empty_like(x)
        ours, numpys = best(
            lambda function=function, arguments=arguments, out=out: function(*arguments, out=out, threads=1),
            lambda in_numpy=in_numpy, arguments=arguments: in_numpy(*arguments),
            repeat,
        )
        np.testing.assert_allclose(out, in_numpy(*arguments), atol=2e-3)
        rows.append(Row(f"{name} {ROWS}x{COLUMNS}", ours, numpys))
    return rows


def tile_over_nn(repeat: int) -> float:
    """The time of the hand-written tile program over that of the path from nn, for 1024 x 1024 x 1024."""
    from_nn = crosstile.compile(EXAMPLES / "matmul.mlir")
    row = find_machine(default_target()).choose("f32", "f32", "f32")
    text = (EXAMPLES / "tile" / "gemm_cpu.mlir").read_text().replace("x86.avx512.fma.1x16x1.f32", row.name)
    from_tile = crosstile.compile(text, start="tile")
    a, b, out = numbers(0, 1024, 1024), numbers(1, 1024, 1024), np.empty((1024, 1024), "f4")
    tile, nn = best(lambda: from_tile(a, b, out=out, threads=1), lambda: from_nn(a, b, out=out, threads=1), repeat)
    return tile / nn


def compile_seconds() -> float:
    """The least time it takes to compile the digits classifier, of three."""
    times: list[float] = []
    for _ in range(3):
        begin = perf_counter()
        crosstile.compile(EXAMPLES / "digits" / "digits.mlir")
        times.append(perf_counter() - begin)
    return min(times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="kernels on one core, next to the measured peak and to NumPy")
    parser.add_argument("--repeat", type=int, default=10, help="timed runs of each problem")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in SETTINGS.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | SETTINGS)
    rows, peak = measure(arguments.repeat), measured_peak(host_machine())
    by_hand, digits = tile_over_nn(arguments.repeat), compile_seconds()
    if arguments.json:
        found = [{**vars(row), "times_faster_than_numpy": row.ratio} for row in rows]
        report = {"machine": host_machine().name, "peak_gflops": peak / 1e9, "rows": found}
        report |= {"tile_over_nn": by_hand, "digits_compile_seconds": digits}
        print(json.dumps(report, indent=2))
        return
    print(f"{host_machine().name}, one thread, measured peak {peak / 1e9:.0f} GFLOP/s in f32")
    print(f"{'problem':<24} {'ms':>9} {'NumPy ms':>9} {'x NumPy':>8} {'of peak':>8}")
    for row in rows:
        share = "" if row.share_of_peak is None else f"{100 * row.share_of_peak:.1f} %"
        times = f"{1e3 * row.seconds:>9.3f} {1e3 * row.numpy_seconds:>9.3f} {row.ratio:>8.2f}"
        print(f"{row.name:<24} {times} {share:>8}".rstrip())
    print(f"examples/tile/gemm_cpu.mlir takes {by_hand:.3f} times as long as examples/matmul.mlir for 1024x1024x1024")
    print(f"compiling examples/digits/digits.mlir takes {digits:.2f} s")


if __name__ == "__main__":
    main()
