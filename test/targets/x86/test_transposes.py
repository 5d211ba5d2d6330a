"""Transpositions alone and among other operations: blocks transposed in registers, the same bits on every size."""

from __future__ import annotations

from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import crosstile

Array = np.ndarray[Any, np.dtype[Any]]
DTYPES = {
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "i8": np.dtype(np.int8),
}
SHAPES = [(0, 3), (3, 0), (1, 1), (16, 16), (17, 64), (257, 31), (3, 67)]


def program(shape: str, result: str, order: str, element: str = "f32") -> str:
    return f"""func.func @main(%x: tensor<{shape}x{element}>) -> tensor<{result}x{element}> {{
      %y = nn.transpose %x {order} : tensor<{shape}x{element}> -> tensor<{result}x{element}>
      func.return %y : tensor<{result}x{element}>
    }}"""


@cache
def matrices(element: str, target: str) -> Any:
    return crosstile.compile(program("?x?", "?x?", "[1, 0]", element), target=target)


def numbers(shape: tuple[int, ...], dtype: Any) -> Array:
    return np.arange(np.prod(shape, dtype=np.int64)).astype(np.int8).astype(dtype).reshape(shape)


@pytest.mark.parametrize("target", ["host", "x86-64-avx2", "generic"])
@pytest.mark.parametrize("element", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_matrices(shape: tuple[int, int], element: str, target: str):
    x = numbers(shape, DTYPES[element])
    np.testing.assert_array_equal(matrices(element, target)(x), x.T)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads(threads: int):
    x = numbers((97, 300), np.float32)
    np.testing.assert_array_equal(matrices("f32", "host")(x, threads=threads), x.T)


@pytest.mark.parametrize(
    ("shape", "result", "order"),
    [
        ("?x?x?", "?x?x?", [0, 2, 1]),
        ("?x?x?", "?x?x?", [2, 1, 0]),
        ("?x?x?x?", "?x?x?x?", [0, 2, 3, 1]),
        ("?x5x?x2", "?x2x5x?", [0, 3, 1, 2]),
        ("?x3", "3x?", [1, 0]),
        ("4x?", "?x4", [1, 0]),
    ],
)
def test_more_dimensions(shape: str, result: str, order: list[int]):
    transpose = crosstile.compile(program(shape, result, str(order)))
    for sizes in ([1, 1, 1, 1], [2, 3, 5, 7], [3, 17, 2, 33], [2, 0, 3, 4]):
        known = [size if text == "?" else int(text) for text, size in zip(shape.split("x"), sizes, strict=False)]
        x = numbers(tuple(known), np.float32)
        np.testing.assert_array_equal(transpose(x), x.transpose(order))


def test_a_sum_with_a_transposed_matrix():
    add = crosstile.compile("""func.func @main(%x: tensor<?x?xf32>, %z: tensor<?x?xf32>) -> tensor<?x?xf32> {
      %t = nn.transpose %x [1, 0] : tensor<?x?xf32> -> tensor<?x?xf32>
      %y = nn.add %t, %z : tensor<?x?xf32>, tensor<?x?xf32>
      func.return %y : tensor<?x?xf32>
    }""")
    for shape in SHAPES:
        x, z = numbers(shape, np.float32), numbers(shape[::-1], np.float32)
        np.testing.assert_array_equal(add(x, z), x.T + z)


@pytest.mark.parametrize("shape", [(16, 16), (32, 48), (33, 47)])
@pytest.mark.parametrize("offset", [0, 4])
def test_past_the_caches(shape: tuple[int, int], offset: int):
    """Blocks of rows that begin at multiples of a register or not, in results that begin at one or not."""
    schedule = "#nest.schedule<loops = [i : 32, j : 16, i : 16], parallel = i grain 16, lane = j, stream = 1>"
    transpose = crosstile.compile(
        f"""func.func @main(%x: tensor<?x?xf32>) -> tensor<?x?xf32> {{
          %y = nest.kernel @transpose (%a = %x : tensor<?x?xf32>) -> (tensor<?x?xf32>) schedules [{schedule}] {{
            %t = nest.generic [i : parallel, j : parallel]
                ins(%a (j, i) : tensor<?x?xf32>) -> (i, j) : tensor<?x?xf32> {{
            ^bb0(%p: f32):
              nest.yield %p : f32
            }}
            nest.yield %t : tensor<?x?xf32>
          }}
          func.return %y : tensor<?x?xf32>
        }}""",
        start="nest",
    )
    x = numbers(shape, np.float32)
    room = np.empty(x.size + 32, np.float32)
    begin = (-room.ctypes.data % 64) // 4 + offset
    out = room[begin : begin + x.size].reshape(shape[::-1])
    np.testing.assert_array_equal(transpose(x, out=out), x.T)
