"""Kernels of integers, alone and beside floats: the schedule's lanes are those that tiles are placed on."""

from __future__ import annotations

import numpy as np
import pytest

import crosstile
from crosstile.dialects.element_types import Array

ADD = """func.func @main(%x: tensor<?x37xTYPE>) -> tensor<?x37xTYPE> {
  %y = nn.add %x, %x : tensor<?x37xTYPE>, tensor<?x37xTYPE>
  func.return %y : tensor<?x37xTYPE>
}
"""
MIXED = """func.func @main(%x: tensor<5x37xi64>, %z: tensor<5x37xf32>) -> tensor<5x37xf32> {
  %y = nn.cast %x : tensor<5x37xi64> -> tensor<5x37xf32>
  %w = nn.mul %y, %z : tensor<5x37xf32>, tensor<5x37xf32>
  func.return %w : tensor<5x37xf32>
}
"""


def integers(dtype: str) -> Array:
    return np.random.default_rng(0).integers(-8, 9, (5, 37)).astype(dtype)


@pytest.mark.parametrize("target", ["host", "generic"])
@pytest.mark.parametrize(
    ("element", "dtype"), [("i8", "i1"), ("i16", "i2"), ("i32", "i4"), ("i64", "i8"), ("index", "i8")]
)
def test_sums_of_every_integer_type(element: str, dtype: str, target: str):
    add = crosstile.compile(ADD.replace("TYPE", element), target=target)
    np.testing.assert_array_equal(add(integers(dtype)), 2 * integers(dtype))


def test_wide_integers_beside_floats():
    x, z = integers("i8"), np.linspace(-1, 1, 5 * 37, dtype=np.float32).reshape(5, 37)
    np.testing.assert_array_equal(crosstile.compile(MIXED)(x, z), x.astype(np.float32) * z)
