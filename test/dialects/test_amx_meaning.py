"""The meaning of tile registers: rows from memory, and products with the arithmetic of their rows."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.upstream_meaning import MEANINGS
from crosstile.ir.context import make_context
from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.parsing import parse_module

PROGRAM = """
func.func @floats(%a : memref<?xbf16>, %b : memref<?x?xbf16>, %c : memref<?x?xf32>, %at : index, %stride : index) {
  %o = arith.constant 0 : index
  %x = amx.tile_load %a[%at], %stride : memref<?xbf16> into !amx.tile<3x4xbf16>
  %y = amx.tile_load %b[%o, %o] : memref<?x?xbf16> into !amx.tile<2x10xbf16>
  %z = amx.tile_load %c[%o, %o] : memref<?x?xf32> into !amx.tile<3x5xf32>
  %r = amx.tile_mulf %x, %y, %z : !amx.tile<3x4xbf16>, !amx.tile<2x10xbf16>, !amx.tile<3x5xf32>
  amx.tile_store %c[%o, %o], %r : memref<?x?xf32>, !amx.tile<3x5xf32>
  func.return
}
func.func @bytes(%a : memref<2x8xi8>, %b : memref<2x12xi8>) -> !amx.tile<2x3xi32> {
  %o = arith.constant 0 : index
  %x = amx.tile_load %a[%o, %o] : memref<2x8xi8> into !amx.tile<2x8xi8>
  %y = amx.tile_load %b[%o, %o] : memref<2x12xi8> into !amx.tile<2x12xi8>
  %z = amx.tile_zero : !amx.tile<2x3xi32>
  %r = amx.tile_muli %x zext, %y, %z : !amx.tile<2x8xi8>, !amx.tile<2x12xi8>, !amx.tile<2x3xi32>
  func.return %r : !amx.tile<2x3xi32>
}
"""


def interpreter() -> Interpreter:
    return Interpreter(parse_module(PROGRAM, "program.mlir", make_context()), MEANINGS)


def test_rows_of_the_right_factor_are_pairs_of_rows_of_k() -> None:
    random = np.random.default_rng(0)
    a, b = (random.integers(-4, 5, shape).astype(ml_dtypes.bfloat16) for shape in ((3, 4), (4, 5)))
    memory = np.full(40, np.nan, ml_dtypes.bfloat16)
    for row in range(3):
        memory[2 + 7 * row : 6 + 7 * row] = a[row]
    c = random.integers(-4, 5, (3, 5)).astype(np.float32)
    pairs = np.ascontiguousarray(b.reshape(2, 2, 5).transpose(0, 2, 1)).reshape(2, 10)
    expected = c + a.astype(np.float32) @ b.astype(np.float32)
    interpreter().call("floats", [memory, pairs, c, 2, 7])
    np.testing.assert_array_equal(c, expected)


def test_bytes_of_a_zero_extended_factor_are_unsigned() -> None:
    random = np.random.default_rng(1)
    a, b = (random.integers(-128, 128, shape).astype(np.int8) for shape in ((2, 8), (8, 3)))
    words = np.ascontiguousarray(b.reshape(2, 4, 3).transpose(0, 2, 1)).reshape(2, 12)
    (found,) = interpreter().call("bytes", [a, words])
    np.testing.assert_array_equal(found, a.view(np.uint8).astype(np.int32) @ b.astype(np.int32))


def test_rows_beyond_the_memory_are_an_error() -> None:
    b, c = np.zeros((2, 10), ml_dtypes.bfloat16), np.zeros((3, 5), np.float32)
    with pytest.raises(CrosstileError, match=r"reads or writes 3 rows of 4 at \[2\], 7 apart, beyond the 19 elements"):
        interpreter().call("floats", [np.zeros(19, ml_dtypes.bfloat16), b, c, 2, 7])
