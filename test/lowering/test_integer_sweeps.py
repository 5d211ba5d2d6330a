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


PRODUCT = """func.func @main(%a: tensor<?x?xi8>, %b: tensor<?x?xi8>) -> tensor<?x?xSUM> {
  %c = nn.matmul %a, %b {unsigned_bMARK} accumulate SUM : tensor<?x?xi8>, tensor<?x?xi8> -> tensor<?x?xSUM>
  func.return %c : tensor<?x?xSUM>
}
"""
ROW_SUM = """func.func @main(%x: tensor<?x?xi32>) -> tensor<?xi32> {
  %y = nn.reduce add %x dims [1] : tensor<?x?xi32> -> tensor<?xi32>
  func.return %y : tensor<?xi32>
}
"""


@pytest.mark.parametrize("target", ["host", "x86-64-avx2", "generic"])
@pytest.mark.parametrize(("sums", "dtype"), [("i32", "i4"), ("i64", "i8")])
@pytest.mark.parametrize("both", [False, True], ids=["s x u", "u x u"])
def test_products_of_bytes_are_exact_on_every_machine(target: str, sums: str, dtype: str, both: bool):
    text = PRODUCT.replace("SUM", sums).replace("MARK", ", unsigned_a" if both else "")
    product = crosstile.compile(text, target=target)
    random = np.random.default_rng(1)
    for m, n, k in [(1, 1, 1), (0, 2, 3), (2, 3, 0), (5, 37, 67)]:
        a, b = (random.integers(-128, 128, shape).astype("i1") for shape in ((m, k), (k, n)))
        left = (a.view("u1") if both else a).astype(dtype)
        np.testing.assert_array_equal(product(a, b), left @ b.view("u1").astype(dtype))


@pytest.mark.parametrize("target", ["host", "generic"])
def test_row_sums_of_integers_wrap(target: str):
    row_sum = crosstile.compile(ROW_SUM, target=target)
    for shape in [(3, 1), (2, 0), (5, 37)]:
        x = np.random.default_rng(2).integers(-(1 << 31), 1 << 31, shape).astype("i4")
        np.testing.assert_array_equal(row_sum(x), x.sum(axis=1, dtype="i4"))


MAXIMUM = """func.func @main(%x: tensor<?x?xTYPE>) -> tensor<?xTYPE> {
  %y = nn.reduce max %x dims [DIM] : tensor<?x?xTYPE> -> tensor<?xTYPE>
  func.return %y : tensor<?xTYPE>
}
"""
MINIMUM = """func.func @main(%x: tensor<?x?xTYPE>) -> tensor<?xTYPE> {
  %y = nest.kernel @minimum (%a = %x : tensor<?x?xTYPE>) -> (tensor<?xTYPE>) {
    %r = nest.generic [m : parallel, n : reduction] combiner<min> accumulate TYPE
        ins(%a (INDICES) : tensor<?x?xTYPE>) -> (m) : tensor<?xTYPE> {
    ^bb0(%p: TYPE):
      nest.yield %p : TYPE
    }
    nest.yield %r : tensor<?xTYPE>
  }
  func.return %y : tensor<?xTYPE>
}
"""


@pytest.mark.parametrize("target", ["host", "generic"])
@pytest.mark.parametrize(("element", "dtype"), [("i8", "i1"), ("i32", "i4"), ("i64", "i8")])
@pytest.mark.parametrize("dim", [0, 1])
def test_maxima_and_minima_have_a_sign(element: str, dtype: str, dim: int, target: str):
    text = MAXIMUM.replace("TYPE", element).replace("DIM", str(dim))
    maximum = crosstile.compile(text, target=target)
    text = MINIMUM.replace("TYPE", element).replace("INDICES", "m, n" if dim else "n, m")
    minimum = crosstile.compile(text, target=target, start="nest")
    for shape in [(1, 1), (5, 37), (13, 130)]:
        x = np.random.default_rng(2).integers(-128, 0, shape).astype(dtype)
        np.testing.assert_array_equal(maximum(x), x.max(axis=dim))
        np.testing.assert_array_equal(minimum(-1 - x), (-1 - x).min(axis=dim))
    nothing = np.empty((3, 0) if dim else (0, 3), dtype)
    np.testing.assert_array_equal(maximum(nothing), np.full(3, np.iinfo(dtype).min))
    np.testing.assert_array_equal(minimum(nothing), np.full(3, np.iinfo(dtype).max))
