"""The meaning of dot-product instructions at the hardware level: what their rows say, lane by lane."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from machine_code import assert_same_bits, compare

from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.upstream_meaning import MEANINGS
from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.targets.host import host_features

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
func.func @round(%a : vector<16xf32>, %b : vector<16xf32>) -> (vector<16xbf16>, vector<32xbf16>) {
  %c = llvm.call_intrinsic "llvm.x86.avx512bf16.cvtneps2bf16.512"(%a) : (vector<16xf32>) -> vector<16xbf16>
  %d = llvm.call_intrinsic "llvm.x86.avx512bf16.cvtne2ps2bf16.512"(%b, %a)
    : (vector<16xf32>, vector<16xf32>) -> vector<32xbf16>
  func.return %c, %d : vector<16xbf16>, vector<32xbf16>
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


def test_rounding_is_to_the_nearest_even_and_flushes_subnormal_numbers() -> None:
    smallest = float(np.finfo(np.float32).smallest_normal)
    numbers = [1, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 3.4e38, -np.inf, smallest, smallest * 0.999, -1e-40]
    rounded = [1, 1, 1 + 2.0**-6, np.inf, -np.inf, smallest, 0, -0.0]
    a, rounded = np.array(numbers * 2, np.float32), np.array(rounded * 2, np.float32)
    b = np.full(16, np.nan, np.float32)
    single, pair = interpreter().call("round", [a, b])
    assert_same_bits([single.astype(np.float32)], [rounded])
    np.testing.assert_array_equal(pair[:16], single)
    assert np.isnan(pair[16:].astype(np.float32)).all()


@pytest.mark.skipif("avx512bf16" not in host_features(), reason="this processor does not round to bf16")
def test_machine_code_rounds_like_the_meaning() -> None:
    text = """func.func @f(%x: memref<?xf32>, %y: memref<?xbf16>) attributes {crosstile.entry} {
      %c0 = arith.constant 0 : index
      %c16 = arith.constant 16 : index
      %c48 = arith.constant 48 : index
      %a = vector.load %x[%c0] : memref<?xf32>, vector<16xf32>
      %b = vector.load %x[%c16] : memref<?xf32>, vector<16xf32>
      %s = llvm.call_intrinsic "llvm.x86.avx512bf16.cvtneps2bf16.512"(%b) : (vector<16xf32>) -> vector<16xbf16>
      %p = llvm.call_intrinsic "llvm.x86.avx512bf16.cvtne2ps2bf16.512"(%b, %a)
        : (vector<16xf32>, vector<16xf32>) -> vector<32xbf16>
      vector.store %p, %y[%c0] : memref<?xbf16>, vector<32xbf16>
      %c32 = arith.constant 32 : index
      vector.store %s, %y[%c32] : memref<?xbf16>, vector<16xbf16>
      func.return
    }"""
    bits = np.random.default_rng(0).integers(0, 1 << 32, 32, dtype=np.uint32)
    bits[:8] = [0, 1 << 31, 1, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x3F808000, 0x3F818000]
    x = bits.view(np.float32)
    compare(text, x, np.zeros(48, ml_dtypes.bfloat16))
