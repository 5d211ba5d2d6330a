"""Tiles that exceed the registers, on ragged sizes: the tile level, the mma level and machine code must agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpu_kernels import check_kernel

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "tile"
AVX512 = "x86-64-avx512"
TARGETS = (AVX512, "x86-64-avx2")

Array = np.ndarray[Any, np.dtype[np.float32]]


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def unwritten(*shape: int) -> Array:
    return np.full(shape, np.nan, np.float32)


# Attention: queries as columns (the example) and as rows, whose maxima and sums are tiles of 32x1


@pytest.mark.parametrize(
    ("queries", "lengths"), [(1, [1]), (7, [7, 9, 130]), (48, [64]), (53, [40, 0, 131]), (0, [4]), (97, [101])]
)
def test_attention(queries: int, lengths: list[int]):
    sequences, keys = len(lengths), max(lengths)
    q, k, v = normal(1, sequences, queries, 64), normal(2, sequences, keys, 64), normal(3, sequences, keys, 64)
    for sequence, length in enumerate(lengths):
        k[sequence, length:] = v[sequence, length:] = np.inf  # what must not be read
    arguments = [q, k, v, np.array(lengths), unwritten(*q.shape), np.float32(0.125)]
    text = (EXAMPLES / "flash_attention_cpu.mlir").read_text(encoding="utf-8")
    check_kernel(text, "attention", AVX512, arguments, reassociates=True, has_math=True)


QUERIES_AS_ROWS = """
tile.kernel @attention(%Q : memref<?x32xf32>, %K : memref<?x32xf32>, %V : memref<?x32xf32>, %O : memref<?x32xf32>) {
  %zero = arith.constant 0 : index
  %f0 = arith.constant 0.0 : f32
  %minus_infinity = arith.constant 0xFF800000 : f32
  %queries = tile.dim %Q, 0 : memref<?x32xf32>
  %keys = tile.dim %K, 0 : memref<?x32xf32>
  tile.parallel (%i), (%mc) = (%zero) to (%queries) step (24) {
    %qw = tile.window %Q[%i, 0] extent [%mc, _] : memref<?x32xf32> -> !tile.window<24x32xf32>
    %m0 = tile.splat %minus_infinity : f32 -> !tile.tile<24x1xf32>
    %l0 = tile.splat %f0 : f32 -> !tile.tile<24x1xf32>
    %none = tile.splat %f0 : f32 -> !tile.tile<24x32xf32>
    %m, %l, %acc = tile.for %j, %jc = %zero to %keys step 32 iter_args(%m1 = %m0, %l1 = %l0, %acc1 = %none)
        -> (!tile.tile<24x1xf32>, !tile.tile<24x1xf32>, !tile.tile<24x32xf32>) {
      %kw = tile.window %K by affine_map<(d0, d1)[s0] -> (s0 + d1, d0)> [%j] extent [_, %jc]
          : memref<?x32xf32> -> !tile.window<32x32xf32>
      %k = tile.stage %kw : !tile.window<32x32xf32> -> !tile.buffer<32x32xf32>
      %s = tile.contract %qw, %k, %none
          : !tile.window<24x32xf32>, !tile.buffer<32x32xf32> -> !tile.tile<24x32xf32>
      %m2 = tile.reduce max %s into %m1 dims [1] extent [%jc] : !tile.tile<24x32xf32> -> !tile.tile<24x1xf32>
      %alpha = tile.map (%m1, %m2 : !tile.tile<24x1xf32>, !tile.tile<24x1xf32>) -> !tile.tile<24x1xf32> {
      ^bb0(%x : f32, %b : f32):
        %d = arith.subf %x, %b : f32
        %y = math.exp %d : f32
        tile.yield %y : f32
      }
      %p = tile.map (%s, %m2 : !tile.tile<24x32xf32>, !tile.tile<24x1xf32>) -> !tile.tile<24x32xf32> {
      ^bb0(%x : f32, %b : f32):
        %d = arith.subf %x, %b : f32
        %y = math.exp %d : f32
        tile.yield %y : f32
      }
      %l2 = tile.map (%l1, %alpha : !tile.tile<24x1xf32>, !tile.tile<24x1xf32>) -> !tile.tile<24x1xf32> {
      ^bb0(%x : f32, %a : f32):
        %y = arith.mulf %x, %a : f32
        tile.yield %y : f32
      }
      %l3 = tile.reduce add %p into %l2 dims [1] extent [%jc] : !tile.tile<24x32xf32> -> !tile.tile<24x1xf32>
      %acc2 = tile.map (%acc1, %alpha : !tile.tile<24x32xf32>, !tile.tile<24x1xf32>) -> !tile.tile<24x32xf32> {
      ^bb0(%x : f32, %a : f32):
        %y = arith.mulf %x, %a : f32
        tile.yield %y : f32
      }
      %vw = tile.window %V[%j, 0] extent [%jc, _] : memref<?x32xf32> -> !tile.window<32x32xf32>
      %acc3 = tile.contract %p, %vw, %acc2 extent %jc
          : !tile.tile<24x32xf32>, !tile.window<32x32xf32> -> !tile.tile<24x32xf32>
      tile.yield %m2, %l3, %acc3 : !tile.tile<24x1xf32>, !tile.tile<24x1xf32>, !tile.tile<24x32xf32>
    }
    %o = tile.map (%acc, %l : !tile.tile<24x32xf32>, !tile.tile<24x1xf32>) -> !tile.tile<24x32xf32> {
    ^bb0(%x : f32, %total : f32):
      %y = arith.divf %x, %total : f32
      tile.yield %y : f32
    }
    %ow = tile.window %O[%i, 0] extent [%mc, _] : memref<?x32xf32> -> !tile.window<24x32xf32>
    tile.store %o, %ow : !tile.tile<24x32xf32>, !tile.window<24x32xf32>
  }
}
"""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (31, 67), (24, 32)])
def test_attention_with_queries_as_rows(target: str, queries: int, keys: int):
    q, k, v = normal(1, queries, 32), normal(2, keys, 32), normal(3, keys, 32)
    o = check_kernel(
        QUERIES_AS_ROWS, "attention", target, [q, k, v, unwritten(*q.shape)], reassociates=True, has_math=True
    )[3]
    weights = np.exp(q.astype(float) @ k.astype(float).T)
    np.testing.assert_allclose(o, weights @ v / weights.sum(1, keepdims=True), atol=2e-5)


# One product, then whatever is made of it: rows beyond the extent, columns in several panels, stores both ways

PRODUCT = """
tile.kernel @product(%A : memref<?x?xf32>, %B : memref<?x?xf32>, %C : memref<?x?xf32>, %sums : memref<?xf32>) {
  %zero = arith.constant 0 : index
  %f0 = arith.constant 0.0 : f32
  %M = tile.dim %A, 0 : memref<?x?xf32>
  %K = tile.dim %A, 1 : memref<?x?xf32>
  %N = tile.dim %B, 1 : memref<?x?xf32>
  %none = tile.splat %f0 : f32 -> !tile.tile<40x96xf32>
  tile.parallel (%i), (%mc) = (%zero) to (%M) step (40) {
    tile.for %j, %nc = %zero to %N step 96 {
      %c = tile.for %k, %kc = %zero to %K step 24 iter_args(%c1 = %none) -> (!tile.tile<40x96xf32>) {
        %aw = tile.window %A[%i, %k] extent [%mc, %kc] : memref<?x?xf32> -> !tile.window<40x24xf32>
        %bw = tile.window %B[%k, %j] extent [%kc, %nc] : memref<?x?xf32> -> !tile.window<24x96xf32>
        %b = tile.stage %bw : !tile.window<24x96xf32> -> !tile.buffer<24x96xf32>
        %c2 = tile.contract %aw, %b, %c1 extent %kc
          : !tile.window<40x24xf32>, !tile.buffer<24x96xf32> -> !tile.tile<40x96xf32>
        tile.yield %c2 : !tile.tile<40x96xf32>
      }
      %i32 = arith.index_cast %i : index to i32
      %j32 = arith.index_cast %j : index to i32
      %row = tile.iota dim 0 start %i32 : !tile.tile<40x1xi32>
      %column = tile.iota dim 1 start %j32 : !tile.tile<1x96xi32>
      %d = tile.map (%c, %row, %column : !tile.tile<40x96xf32>, !tile.tile<40x1xi32>, !tile.tile<1x96xi32>)
          -> !tile.tile<40x96xf32> {
      ^bb0(%x : f32, %r : i32, %s : i32):
        %lower = arith.cmpi sle, %s, %r : i32
        %y = arith.select %lower, %x, %f0 : f32
        tile.yield %y : f32
      }
      %cw = tile.window %C by affine_map<(d0, d1)[s0, s1] -> (s0 + d1, s1 + d0)> [%j, %i] extent [%mc, %nc]
        : memref<?x?xf32> -> !tile.window<40x96xf32>
      tile.store %d, %cw : !tile.tile<40x96xf32>, !tile.window<40x96xf32>
      %masked = tile.mask %d extent [_, %nc] else 0.0 : !tile.tile<40x96xf32>
      %sum = tile.reduce add %masked dims [1] : !tile.tile<40x96xf32> -> !tile.tile<40x1xf32>
      %before = tile.window %sums by affine_map<(d0, d1)[s0] -> (s0 + d0)> [%i] extent [%mc, _]
        : memref<?xf32> -> !tile.window<40x1xf32>
      %later = arith.cmpi sgt, %j, %zero : index
      %so_far = tile.load %before if %later else 0.0 : !tile.window<40x1xf32> -> !tile.tile<40x1xf32>
      %total = tile.map (%so_far, %sum : !tile.tile<40x1xf32>, !tile.tile<40x1xf32>) -> !tile.tile<40x1xf32> {
      ^bb0(%x : f32, %y : f32):
        %z = arith.addf %x, %y : f32
        tile.yield %z : f32
      }
      tile.store %total, %before : !tile.tile<40x1xf32>, !tile.window<40x1xf32>
    }
  }
}
"""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (40, 96, 24), (43, 101, 29), (7, 200, 5), (0, 3, 3), (3, 5, 0)])
def test_product(target: str, m: int, n: int, k: int):
    a, b = normal(1, m, k), normal(2, k, n)
    c, sums = check_kernel(PRODUCT, "product", target, [a, b, unwritten(n, m), unwritten(m)], reassociates=True)[2:]
    expected = np.tril(a.astype(float) @ b.astype(float))
    np.testing.assert_allclose(c.T, expected, atol=1e-4)
    np.testing.assert_allclose(sums, expected.sum(1), atol=1e-3)


# Values that must not overwrite each other: exchanged by a loop, chosen by a branch, read after what replaces them

EXCHANGED = """
tile.kernel @exchange(%X : memref<64x48xf32>, %Y : memref<64x48xf32>, %O : memref<4x64x48xf32>, %n : index) {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %two = arith.constant 2 : index
  %xw = tile.window %X[0, 0] : memref<64x48xf32> -> !tile.window<64x48xf32>
  %yw = tile.window %Y[0, 0] : memref<64x48xf32> -> !tile.window<64x48xf32>
  %x0 = tile.load %xw : !tile.window<64x48xf32> -> !tile.tile<64x48xf32>
  %y0 = tile.load %yw : !tile.window<64x48xf32> -> !tile.tile<64x48xf32>
  %x, %y = tile.for %i, %ic = %zero to %n step 1 iter_args(%x1 = %x0, %y1 = %y0)
      -> (!tile.tile<64x48xf32>, !tile.tile<64x48xf32>) {
    %odd = arith.andi %i, %one : index
    %is_odd = arith.cmpi eq, %odd, %one : index
    %sum = tile.map (%x1, %y1 : !tile.tile<64x48xf32>, !tile.tile<64x48xf32>) -> !tile.tile<64x48xf32> {
    ^bb0(%a : f32, %b : f32):
      %s = arith.addf %a, %b : f32
      tile.yield %s : f32
    }
    %chosen = scf.if %is_odd -> (!tile.tile<64x48xf32>) {
      %twice = tile.map (%sum : !tile.tile<64x48xf32>) -> !tile.tile<64x48xf32> {
      ^bb0(%a : f32):
        %s = arith.addf %a, %a : f32
        tile.yield %s : f32
      }
      scf.yield %twice : !tile.tile<64x48xf32>
    } else {
      scf.yield %x1 : !tile.tile<64x48xf32>
    }
    %next = tile.map (%chosen, %sum : !tile.tile<64x48xf32>, !tile.tile<64x48xf32>) -> !tile.tile<64x48xf32> {
    ^bb0(%a : f32, %b : f32):
      %s = arith.subf %a, %b : f32
      tile.yield %s : f32
    }
    tile.yield %y1, %next : !tile.tile<64x48xf32>, !tile.tile<64x48xf32>
  }
  %staged = tile.stage %y : !tile.tile<64x48xf32> -> !tile.buffer<64x48xf32>
  %again = tile.window %staged[0, 0] : !tile.buffer<64x48xf32> -> !tile.window<64x48xf32>
  %copy = tile.load %again : !tile.window<64x48xf32> -> !tile.tile<64x48xf32>
  %o0 = tile.window %O[0, 0, 0] : memref<4x64x48xf32> -> !tile.window<64x48xf32>
  %o1 = tile.window %O[%one, 0, 0] : memref<4x64x48xf32> -> !tile.window<64x48xf32>
  %o2 = tile.window %O[%two, 0, 0] : memref<4x64x48xf32> -> !tile.window<64x48xf32>
  %o3 = tile.window %O[3, 0, 0] : memref<4x64x48xf32> -> !tile.window<64x48xf32>
  tile.store %x, %o0 : !tile.tile<64x48xf32>, !tile.window<64x48xf32>
  tile.store %y, %o1 : !tile.tile<64x48xf32>, !tile.window<64x48xf32>
  tile.store %x0, %o2 : !tile.tile<64x48xf32>, !tile.window<64x48xf32>
  tile.store %copy, %o3 : !tile.tile<64x48xf32>, !tile.window<64x48xf32>
}
"""


GROWING = """
tile.kernel @grow(%O : memref<4x64x48xf32>) {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %four = arith.constant 4 : index
  %f1 = arith.constant 1.0 : f32
  %ones = tile.splat %f1 : f32 -> !tile.tile<64x48xf32>
  %last = tile.for %i, %ic = %zero to %four step 1 iter_args(%c = %ones) -> (!tile.tile<64x48xf32>) {
    %rows = arith.addi %i, %one : index
    %next = tile.map (%c : !tile.tile<64x48xf32>) -> !tile.tile<64x48xf32> {
    ^bb0(%x : f32):
      %y = arith.addf %x, %f1 : f32
      tile.yield %y : f32
    }
    %w = tile.window %O[%i, 0, 0] extent [%rows, _] : memref<4x64x48xf32> -> !tile.window<64x48xf32>
    tile.store %next, %w : !tile.tile<64x48xf32>, !tile.window<64x48xf32>
    tile.yield %next : !tile.tile<64x48xf32>
  }
}
"""


def test_rows_that_a_later_trip_reads_are_computed():
    o = check_kernel(GROWING, "grow", AVX512, [np.zeros((4, 64, 48), np.float32)])[0]
    for trip in range(4):
        assert np.all(o[trip, : trip + 1] == trip + 2)
        assert np.all(o[trip, trip + 1 :] == 0)


@pytest.mark.parametrize("target", [*TARGETS, "generic"])
@pytest.mark.parametrize("trips", [0, 1, 2, 5])
def test_values_that_follow_each_other(target: str, trips: int):
    x, y = normal(1, 64, 48), normal(2, 64, 48)
    o = check_kernel(EXCHANGED, "exchange", target, [x, y, unwritten(4, 64, 48), trips])[2]
    first = x
    for trip in range(trips):
        total = x + y
        x, y = y, (total + total if trip % 2 else x) - total
    np.testing.assert_array_equal(o, [x, y, first, y])
