"""Results written past the caches: the same bits as in them, on every size and wherever the result begins."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

import crosstile
from crosstile.targets.x86.launch import ALIGNMENT

Array = np.ndarray[Any, np.dtype[Any]]

PROGRAM = """func.func @main(%x : tensor<?x?x{type}>) -> tensor<?x?x{type}> {{
  %y = nest.kernel @double (%a = %x : tensor<?x?x{type}>) -> (tensor<?x?x{type}>)
      schedules [#nest.schedule<loops = [m : 1, n : 64], parallel = m, lane = n, prefetch = 4096{stream}>] {{
    %r = nest.generic [m : parallel, n : parallel] ins(%a (m, n) : tensor<?x?x{type}>) -> (m, n) : tensor<?x?x{type}> {{
    ^bb0(%p : {type}):
      %t = arith.addf %p, %p : {type}
      nest.yield %t : {type}
    }}
    nest.yield %r : tensor<?x?x{type}>
  }}
  func.return %y : tensor<?x?x{type}>
}}"""


@cache
def function(type_: str, stream: str) -> Callable[..., Any]:
    return crosstile.compile(PROGRAM.format(type=type_, stream=stream))


def placed(shape: tuple[int, int], dtype: np.dtype[Any], offset: int) -> Array:
    """An array that begins ``offset`` bytes behind a cache line."""
    size = shape[0] * shape[1] * dtype.itemsize
    raw = np.full(size + 4 * ALIGNMENT, 0x5A, np.uint8)
    start = ALIGNMENT - raw.ctypes.data % ALIGNMENT + offset
    return raw[start : start + size].view(dtype).reshape(shape)


@pytest.mark.parametrize("type_", ["f32", "f64"])
@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (1, 1), (5, 64), (3, 67), (2, 128), (7, 131)])
@pytest.mark.parametrize("offset", [0, 16, 32])
def test_same_bits_wherever_it_begins(type_: str, shape: tuple[int, int], offset: int):
    dtype: np.dtype[Any] = np.dtype({"f32": "float32", "f64": "float64"}[type_])
    x: Array = np.random.default_rng(shape[1]).standard_normal(shape).astype(dtype)
    out = placed(shape, dtype, offset)
    function(type_, ", stream = 1")(x, out=out)
    np.testing.assert_array_equal(out, x + x)
    np.testing.assert_array_equal(function(type_, "")(x), out)


def test_threads_write_the_same():
    """More than one worker, each with rows of its own."""
    x = np.random.default_rng(0).standard_normal((37, 320)).astype(np.float32)
    for threads in (1, 2, 3):
        np.testing.assert_array_equal(function("f32", ", stream = 1")(x, threads=threads), x + x)
