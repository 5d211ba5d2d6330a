"""The meaning of dot-product instructions at the hardware level: what their rows say, lane by lane."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.upstream_meaning import MEANINGS
from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module

PROGRAM = """
func.func @pairs(%c : vector<4xf32>, %a : vector<8xbf16>, %b : vector<8xbf16>) -> vector<4xf32> {
  %d = x86vector.avx512.dot %c, %a, %b : vector<8xbf16> -> vector<4xf32>
  func.return %d : vector<4xf32>
}
func.func @bytes(%c : vector<8xi32>, %u : vector<32xi8>, %s : vector<32xi8>) -> vector<8xi32> {
  %d = llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.256"(%c, %u, %s)
    : (vector<8xi32>, vector<32xi8>, vector<32xi8>) -> vector<8xi32>
  func.return %d : vector<8xi32>
}
"""


def interpreter() -> Interpreter:
    return Interpreter(parse_module(PROGRAM, "program.mlir", make_context()), MEANINGS)


def test_pairs_add_the_odd_element_first_and_flush_subnormal_numbers() -> None:
    a = np.array([1, 2.0**30, 1e-40, 1, 3, 0, 1, 1], ml_dtypes.bfloat16)
    b = np.array([1, 1, 1e30, 2, 5, 7, 1, 1], ml_dtypes.bfloat16)
    c = np.array([-(2.0**30), 0, 1, np.inf], np.float32)
    (found,) = interpreter().call("pairs", [c, a, b])
    # -2^30 + 2^30 comes before + 1, which would be lost the other way round
    np.testing.assert_array_equal(found, np.array([1, 2, 16, np.inf], np.float32))


def test_bytes_of_the_first_factor_are_unsigned() -> None:
    unsigned = np.full(32, 0xFF, np.uint8).view(np.int8)
    signed = np.tile(np.array([1, 2, 3, -128], np.int8), 8)
    (found,) = interpreter().call("bytes", [np.full(8, 5, np.int32), unsigned, signed])
    np.testing.assert_array_equal(found, np.full(8, 5 + 255 * (1 + 2 + 3 - 128), np.int32))
