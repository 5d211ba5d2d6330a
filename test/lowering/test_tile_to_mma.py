"""Tile kernels lowered to machine code, against the interpreters of the tile and the mma level, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from cpu_kernels import TARGETS, check_kernel, lowered

GEMM = """
tile.kernel @gemm(%A : memref<?x?xELEMENT>, %B : memref<?x?xELEMENT>, %C : memref<?x?xELEMENT>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %M = tile.dim %A, 0 : memref<?x?xELEMENT>
  %K = tile.dim %A, 1 : memref<?x?xELEMENT>
  %N = tile.dim %B, 1 : memref<?x?xELEMENT>
  %K_end = arith.maxsi %K, %c1 : index
  tile.parallel %i0 to %i1 = %c0 to %M grain ROWS {
    tile.for %j, %nc = %c0 to %N step 128 {
      tile.for %k, %kblock = %c0 to %K_end step 24 balanced(8) {
        %k_rest = arith.subi %K, %k : index
        %kc = arith.minsi %kblock, %k_rest : index
        %bw = tile.window %B[%k, %j] extent [%kc, %nc] : memref<?x?xELEMENT> -> !tile.window<24x128xELEMENT>
        %b = tile.stage %bw : !tile.window<24x128xELEMENT> -> !tile.buffer<24x128xELEMENT>
        %later = arith.cmpi sgt, %k, %c0 : index
        tile.for %i, %mc = %i0 to %i1 step 8 {
          tile.for %jr, %nr = %c0 to %nc step COLUMNS {
            tile.for %ir, %mr = %c0 to %mc step ROWS {
              %cw = tile.window %C[%i + %ir, %j + %jr] extent [%mr, %nr]
                : memref<?x?xELEMENT> -> !tile.window<ROWSxCOLUMNSxELEMENT>
              %acc = tile.load %cw if %later else 0.0
                : !tile.window<ROWSxCOLUMNSxELEMENT> -> !tile.tile<ROWSxCOLUMNSxELEMENT>
              %aw = tile.window %A[%i + %ir, %k] extent [%mr, %kc]
                : memref<?x?xELEMENT> -> !tile.window<ROWSx24xELEMENT>
              %bp = tile.window %b[0, %jr] extent [%kc, %nr]
                : !tile.buffer<24x128xELEMENT> -> !tile.window<24xCOLUMNSxELEMENT>
              %r = tile.contract %aw, %bp, %acc extent %kc intrinsic "INTRINSIC"
                : !tile.window<ROWSx24xELEMENT>, !tile.window<24xCOLUMNSxELEMENT> -> !tile.tile<ROWSxCOLUMNSxELEMENT>
              tile.store %r, %cw : !tile.tile<ROWSxCOLUMNSxELEMENT>, !tile.window<ROWSxCOLUMNSxELEMENT>
            }
          }
        }
      }
    }
  }
}
"""

SHAPES = {
    ("x86-64-avx512", "f32"): (4, 64, "x86.avx512.fma.1x16x1.f32"),
    ("x86-64-avx512", "f64"): (8, 16, "x86.avx512.fma.1x8x1.f64"),
    ("x86-64-avx2", "f32"): (4, 16, "x86.avx2.fma.1x8x1.f32"),
    ("x86-64-avx2", "f64"): (4, 8, "x86.avx2.fma.1x4x1.f64"),
    ("generic", "f32"): (2, 4, "generic.muladd.1x1x1.f32"),
    ("generic", "f64"): (4, 2, "generic.muladd.1x1x1.f64"),
}
SIZES = [(1, 1, 1), (4, 64, 24), (5, 65, 25), (13, 131, 50), (3, 7, 0), (0, 5, 3), (8, 129, 7)]


def gemm(target: str, element: str = "f32", register_tile: tuple[int, int] | None = None) -> str:
    rows, columns, intrinsic = SHAPES[target, element]
    rows, columns = register_tile or (rows, columns)
    text = GEMM.replace("ROWS", str(rows)).replace("COLUMNS", str(columns))
    return text.replace("INTRINSIC", intrinsic).replace("ELEMENT", element)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("element", ["f32", "f64"])
def test_gemm_computes_the_same_bits_on_every_level(target: str, element: str):
    for m, n, k in SIZES:
        rng = np.random.default_rng(m + n + k)
        dtype = {"f32": np.float32, "f64": np.float64}[element]
        a, b = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
        c = check_kernel(gemm(target, element), "gemm", target, [a, b, np.full((m, n), np.nan, dtype)])[2]
        np.testing.assert_allclose(c, a.astype(float) @ b.astype(float), atol=1e-4)


def test_workers_share_the_rows():
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((37, 20), (20, 70)))
    target = TARGETS[1]
    for parts in (1, 3, 64):
        check_kernel(gemm(target), "gemm", target, [a, b, np.full((37, 70), np.nan, np.float32)], parts)


@pytest.mark.parametrize(("rows", "columns"), [(4, 64), (8, 32), (14, 32), (2, 16)])
def test_the_register_tile_in_the_text_is_the_inner_loop(rows: int, columns: int):
    text = gemm("x86-64-avx512", register_tile=(rows, columns))
    module = lowered(text, "tile-to-mma{target=x86-64-avx512},mma-to-hardware")
    assert sum(op.name == "vector.fma" for op in module.walk()) == rows * columns // 16
