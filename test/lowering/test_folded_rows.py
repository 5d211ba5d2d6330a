"""Tiles that walk two dimensions of memory as one, on every kind of core."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cpu_kernels import TARGETS, check_kernel, resolve_machine

from crosstile.lowering.vector_registers import lanes_of

FOLDED = """tile.kernel @fold(%x : memref<?x?xWIDTHxf32>, %y : memref<?x?xWIDTHxf32>) {
  %zero = arith.constant 0 : index
  %pitch = arith.constant PITCH : index
  %m = tile.dim %x, 0 : memref<?x?xWIDTHxf32>
  %rows = tile.dim %x, 1 : memref<?x?xWIDTHxf32>
  %places = arith.muli %rows, %pitch : index
  tile.parallel (%i, %p), (%mc, %pc) = (%zero, %zero) to (%m, %places) step (2, LANES) {
    %xw = tile.window %x by affine_map<(d0, d1)[i, p] -> (i + d0, (p + d1) floordiv PITCH, (p + d1) mod PITCH)> [%i, %p]
      extent [%mc, %pc] clip : memref<?x?xWIDTHxf32> -> !tile.window<2xLANESxf32>
    %t = tile.load %xw pad 5.0 : !tile.window<2xLANESxf32> -> !tile.tile<2xLANESxf32>
    %u = tile.map (%t : !tile.tile<2xLANESxf32>) -> !tile.tile<2xLANESxf32> {
    ^bb0(%a : f32):
      %b = arith.addf %a, %a : f32
      tile.yield %b : f32
    }
    %yw = tile.window %y by affine_map<(d0, d1)[i, p] -> (i + d0, (p + d1) floordiv PITCH, (p + d1) mod PITCH)> [%i, %p]
      extent [%mc, %pc] clip : memref<?x?xWIDTHxf32> -> !tile.window<2xLANESxf32>
    tile.store %u, %yw : !tile.tile<2xLANESxf32>, !tile.window<2xLANESxf32>
  }
}"""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("width", "pitch"), [(56, 57), (7, 8), (3, 3), (1, 2), (16, 16), (33, 40)])
def test_rows_with_gaps_between_them(target: str, width: int, pitch: int):
    """Places that stand for no element are neither read nor written."""
    lanes = 2 * lanes_of(resolve_machine(target), "f32")
    text = FOLDED.replace("WIDTH", str(width)).replace("PITCH", str(pitch)).replace("LANES", str(lanes))
    for m, rows in [(1, 1), (2, 5), (3, 17), (1, 0)]:
        x: Any = np.random.default_rng(width + rows).standard_normal((m, rows, width)).astype(np.float32)
        _, found = check_kernel(text, "fold", target, [x, np.full_like(x, np.nan)])
        np.testing.assert_array_equal(found, 2 * x)


STAGED = """tile.kernel @stage(%x : memref<?x?x9xf32>, %y : memref<?x70xf32>) {
  %zero = arith.constant 0 : index
  %last = arith.constant 70 : index
  %m = tile.dim %x, 0 : memref<?x?x9xf32>
  tile.parallel %b to %e = %zero to %m grain 1 {
    tile.for %i, %mc = %b to %e step 4 {
      %xw = tile.window %x by affine_map<(d0, d1, d2)[i] -> (i + d0, d1 - 1, d2 - 1)> [%i] extent [%mc, _, _] clip
        : memref<?x?x9xf32> -> !tile.window<4x8x10xf32>
      %s = tile.stage %xw : !tile.window<4x8x10xf32> -> !tile.buffer<4x8x10xf32>
      tile.for %r, %rc = %zero to %mc step 1 {
        tile.for %p, %pc = %zero to %last step 16 {
          %sw = tile.window %s by affine_map<(d0, d1)[r, p] -> (r + d0, (p + d1 + 5) floordiv 10, (p + d1 + 5) mod 10)>
            [%r, %p] extent [_, %pc] : !tile.buffer<4x8x10xf32> -> !tile.window<1x16xf32>
          %t = tile.load %sw : !tile.window<1x16xf32> -> !tile.tile<1x16xf32>
          %yw = tile.window %y[%i + %r, %p] extent [_, %pc] : memref<?x70xf32> -> !tile.window<1x16xf32>
          tile.store %t, %yw : !tile.tile<1x16xf32>, !tile.window<1x16xf32>
        }
      }
    }
  }
}"""


@pytest.mark.parametrize("target", TARGETS)
def test_planes_are_staged_with_their_border_and_read_as_one_row(target: str):
    """A buffer of three dimensions, of which the last two are one for whoever reads on beyond the end of a row."""
    for m, rows in [(1, 6), (5, 4), (4, 9), (0, 3), (2, 0)]:
        x: Any = np.random.default_rng(m + rows).standard_normal((m, rows, 9)).astype(np.float32)
        _, found = check_kernel(STAGED, "stage", target, [x, np.full((m, 70), np.nan, np.float32)])
        planes = np.zeros((m, 8, 10), np.float32)
        planes[:, 1 : 1 + min(rows, 7), 1:] = x[:, :7]
        np.testing.assert_array_equal(found, planes.reshape(m, 80)[:, 5:75])
