"""Collapsed kernels compute the same on every size, write where they are to, and still compare sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import crosstile
from crosstile.ir.diagnostics import CrosstileError

Array = np.ndarray[Any, np.dtype[Any]]
SHAPES = [(0, 3, 5), (1, 3, 5), (2, 3, 5), (37, 3, 5)]


def numbers(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).standard_normal(shape, np.float32)


@pytest.mark.parametrize("target", ["host", "x86-64-avx2", "generic"])
def test_sums(target: str):
    type_ = "tensor<?x3x5xf32>"
    add = crosstile.compile(
        f"""func.func @main(%x: {type_}, %z: {type_}) -> ({type_}, {type_}) {{
          %y = nn.add %x, %z : {type_}, {type_}
          %u = nn.mul %y, %y : {type_}, {type_}
          func.return %y, %u : {type_}, {type_}
        }}""",
        target=target,
    )
    for shape in SHAPES:
        x, z = numbers(*shape), numbers(*shape)
        y, u = add(x, z)
        np.testing.assert_array_equal(y, x + z)
        np.testing.assert_array_equal(u, (x + z) * (x + z))
        out = np.empty(shape, np.float32), np.empty(shape, np.float32)
        add(x, z, out=out, threads=3)
        np.testing.assert_array_equal(out[0], y)
    with pytest.raises(CrosstileError, match="dimension 0 of argument"):
        add(numbers(2, 3, 5), numbers(3, 3, 5))


def test_what_follows_reads_the_collapsed_result():
    type_ = "tensor<?x6xf32>"
    both = crosstile.compile(f"""func.func @main(%x: {type_}, %w: tensor<6x4xf32>) -> ({type_}, tensor<?x4xf32>) {{
      %y = nn.relu %x : {type_}
      %z = nn.matmul %y, %w accumulate f32 : {type_}, tensor<6x4xf32>
      func.return %y, %z : {type_}, tensor<?x4xf32>
    }}""")
    for rows in (0, 1, 9):
        x, w = np.rint(4 * numbers(rows, 6)), np.rint(4 * numbers(6, 4))
        y, z = both(x, w)
        np.testing.assert_array_equal(y, np.maximum(x, 0))
        np.testing.assert_array_equal(z, np.maximum(x, 0) @ w)


def test_a_transposition_of_channels_and_places():
    transpose = crosstile.compile("""func.func @main(%x: tensor<?x5x7x3xf32>) -> tensor<?x7x3x5xf32> {
      %y = nn.transpose %x [0, 2, 3, 1] : tensor<?x5x7x3xf32> -> tensor<?x7x3x5xf32>
      func.return %y : tensor<?x7x3x5xf32>
    }""")
    for images in (0, 1, 4):
        x = numbers(images, 5, 7, 3)
        np.testing.assert_array_equal(transpose(x), x.transpose(0, 2, 3, 1))
