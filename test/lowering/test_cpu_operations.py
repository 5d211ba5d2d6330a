"""Each operation of the tile level as machine code, against the interpreters, on every kind of core.

``W`` in a kernel's text is two vectors of the target's lanes, ``V`` one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cpu_kernels import TARGETS, check_kernel, resolve_machine

from crosstile.lowering.vector_registers import lanes_of

Array = np.ndarray[Any, np.dtype[Any]]


def text_for(target: str, text: str) -> str:
    lanes = lanes_of(resolve_machine(target), "f32")
    return text.replace("W", str(2 * lanes)).replace("V", str(lanes))


def run(target: str, text: str, *arguments: Any, **options: Any) -> list[Any]:
    return list(check_kernel(text_for(target, text), "k", target, arguments, **options))


def width(target: str) -> int:
    return 2 * lanes_of(resolve_machine(target), "f32")


def normal(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def unwritten(*shape: int) -> Array:
    return np.full(shape, np.nan, np.float32)


pytestmark = pytest.mark.parametrize("target", TARGETS)


def test_transposed_window_and_transposed_tile(target: str):
    """Both give the transposed block; the window reads lanes that are not next to each other."""
    w = width(target)
    text = """tile.kernel @k(%x : memref<?x?xf32>, %y : memref<?x?xf32>, %z : memref<?x?xf32>, %m : index, %n : index) {
      %zero = arith.constant 0 : index
      %by_window = tile.window %x by affine_map<(d0, d1)[s0, s1] -> (s0 + d1, s1 + d0)> [%zero, %zero] extent [%n, %m]
        : memref<?x?xf32> -> !tile.window<VxVxf32>
      %t = tile.load %by_window pad 7.0 : !tile.window<VxVxf32> -> !tile.tile<VxVxf32>
      %out = tile.window %y[%zero, %zero] : memref<?x?xf32> -> !tile.window<VxVxf32>
      tile.store %t, %out : !tile.tile<VxVxf32>, !tile.window<VxVxf32>
      %block = tile.window %x[%zero, %zero] extent [%m, %n] : memref<?x?xf32> -> !tile.window<VxVxf32>
      %u = tile.load %block pad 7.0 : !tile.window<VxVxf32> -> !tile.tile<VxVxf32>
      %v = tile.transpose %u [1, 0] : !tile.tile<VxVxf32> -> !tile.tile<VxVxf32>
      %out2 = tile.window %z[%zero, %zero] : memref<?x?xf32> -> !tile.window<VxVxf32>
      tile.store %v, %out2 : !tile.tile<VxVxf32>, !tile.window<VxVxf32>
    }"""
    v = w // 2
    m, n = max(1, v - 1), max(1, v - 3)
    x = normal(m, n)
    y, z = run(target, text, x, unwritten(v, v), unwritten(v, v), m, n)[1:3]
    np.testing.assert_array_equal(y, z)
    np.testing.assert_array_equal(y[:n, :m], x.T)


def test_gather_and_scatter(target: str):
    """Rows by a tile of indices; a negative index reads padding and writes nothing."""
    w = width(target)
    text = """tile.kernel @k(%x : memref<?xWxf32>, %rows : memref<4x1xindex>, %y : memref<4xWxf32>,
                   %z : memref<?xWxf32>) {
      %zero = arith.constant 0 : index
      %rw = tile.window %rows[%zero, %zero] : memref<4x1xindex> -> !tile.window<4x1xindex>
      %r = tile.load %rw : !tile.window<4x1xindex> -> !tile.tile<4x1xindex>
      %xw = tile.window %x[%r : !tile.tile<4x1xindex>, %zero] : memref<?xWxf32> -> !tile.window<4xWxf32>
      %t = tile.load %xw pad 3.0 : !tile.window<4xWxf32> -> !tile.tile<4xWxf32>
      %yw = tile.window %y[%zero, %zero] : memref<4xWxf32> -> !tile.window<4xWxf32>
      tile.store %t, %yw : !tile.tile<4xWxf32>, !tile.window<4xWxf32>
      %zw = tile.window %z[%r : !tile.tile<4x1xindex>, %zero] : memref<?xWxf32> -> !tile.window<4xWxf32>
      tile.store %t, %zw : !tile.tile<4xWxf32>, !tile.window<4xWxf32>
    }"""
    x, rows = normal(5, w), np.array([[3], [-1], [0], [4]], np.int64)
    y, z = run(target, text, x, rows, unwritten(4, w), np.zeros((5, w), np.float32))[2:4]
    np.testing.assert_array_equal(y, np.where(rows >= 0, x[rows[:, 0]], np.float32(3)))
    np.testing.assert_array_equal(z, x * np.array([[1], [0], [0], [1], [1]], np.float32))


def test_gather_of_single_elements(target: str):
    w = width(target)
    text = """tile.kernel @k(%x : memref<?xf32>, %at : memref<1xWxindex>, %y : memref<1xWxf32>) {
      %zero = arith.constant 0 : index
      %aw = tile.window %at[%zero, %zero] : memref<1xWxindex> -> !tile.window<1xWxindex>
      %a = tile.load %aw : !tile.window<1xWxindex> -> !tile.tile<1xWxindex>
      %xw = tile.window %x by affine_map<(d0, d1)[s0] -> (s0)> [%a : !tile.tile<1xWxindex>]
        : memref<?xf32> -> !tile.window<1xWxf32>
      %t = tile.load %xw pad 3.0 : !tile.window<1xWxf32> -> !tile.tile<1xWxf32>
      %yw = tile.window %y[%zero, %zero] : memref<1xWxf32> -> !tile.window<1xWxf32>
      tile.store %t, %yw : !tile.tile<1xWxf32>, !tile.window<1xWxf32>
    }"""
    x = normal(50)
    at = np.random.default_rng(0).integers(-10, 50, (1, w))
    y = run(target, text, x, at, unwritten(1, w))[2]
    np.testing.assert_array_equal(y[0], np.where(at[0] >= 0, x[at[0]], np.float32(3)))


@pytest.mark.parametrize("kind", ["add", "mul", "max", "min", "maxnum"])
def test_reductions(target: str, kind: str):
    """Along rows, along columns and along both, into an accumulator, as far as the extents say."""
    w = width(target)
    text = """tile.kernel @k(%x : memref<3xWxf32>, %r : memref<3x1xf32>, %c : memref<1xWxf32>, %n : index, %m : index) {
      %zero = arith.constant 0 : index
      %xw = tile.window %x[%zero, %zero] : memref<3xWxf32> -> !tile.window<3xWxf32>
      %t = tile.load %xw : !tile.window<3xWxf32> -> !tile.tile<3xWxf32>
      %rw = tile.window %r[%zero, %zero] : memref<3x1xf32> -> !tile.window<3x1xf32>
      %old = tile.load %rw : !tile.window<3x1xf32> -> !tile.tile<3x1xf32>
      %row = tile.reduce KIND %t into %old dims [1] extent [%n] : !tile.tile<3xWxf32> -> !tile.tile<3x1xf32>
      tile.store %row, %rw : !tile.tile<3x1xf32>, !tile.window<3x1xf32>
      %column = tile.reduce KIND %t dims [0] extent [%m] : !tile.tile<3xWxf32> -> !tile.tile<1xWxf32>
      %cw = tile.window %c[%zero, %zero] : memref<1xWxf32> -> !tile.window<1xWxf32>
      tile.store %column, %cw : !tile.tile<1xWxf32>, !tile.window<1xWxf32>
    }""".replace("KIND", kind)
    x, old = normal(3, w), normal(3, 1)
    for n, m in [(w, 3), (max(1, w - 3), 2), (0, 0)]:
        result = run(target, text, x, old, unwritten(1, w), n, m, reassociates=kind in ("add", "mul"))[2]
        if kind in ("max", "maxnum") and m:
            np.testing.assert_array_equal(result[0], x[:m].max(axis=0))
    if kind == "maxnum":
        x[0], x[:, 0] = np.nan, np.nan
        column = run(target, text, x, old, unwritten(1, w), w, 3)[2]
        np.testing.assert_array_equal(column[0], [-np.inf, *x[1:, 1:].max(axis=0)][:w])


def test_masks_numbers_and_choices(target: str):
    """Mask, iota, splat, a map with a captured scalar and integer operands, and tiles chosen by a condition."""
    w = width(target)
    text = """tile.kernel @k(%y : memref<2xWxf32>, %n : index, %f : f32, %start : index) {
      %zero = arith.constant 0 : index
      %one = arith.constant 1 : index
      %a = tile.splat %f : f32 -> !tile.tile<2xWxf32>
      %b = tile.mask %a extent [%one, %n] else -1.5 : !tile.tile<2xWxf32>
      %i = tile.iota dim 1 start %start : !tile.tile<1xWxindex>
      %j = tile.iota dim 0 : !tile.tile<2x1xindex>
      %c = tile.map (%b, %i, %j : !tile.tile<2xWxf32>, !tile.tile<1xWxindex>, !tile.tile<2x1xindex>)
          -> !tile.tile<2xWxf32> {
      ^bb0(%p : f32, %q : index, %r : index):
        %s = arith.addi %q, %r : index
        %u = arith.index_cast %s : index to i32
        %v = arith.sitofp %u : i32 to f32
        %few = arith.cmpi ult, %q, %n : index
        %g = arith.mulf %v, %f : f32
        %h = arith.select %few, %g, %p : f32
        tile.yield %h : f32
      }
      %many = arith.cmpi sgt, %n, %one : index
      %d = scf.if %many -> (!tile.tile<2xWxf32>) {
        scf.yield %c : !tile.tile<2xWxf32>
      } else {
        scf.yield %b : !tile.tile<2xWxf32>
      }
      %yw = tile.window %y[%zero, %zero] : memref<2xWxf32> -> !tile.window<2xWxf32>
      tile.store %d, %yw : !tile.tile<2xWxf32>, !tile.window<2xWxf32>
    }"""
    for n in (0, 1, w - 1, w, w + 5):
        run(target, text, unwritten(2, w), n, np.float32(1.25), 3)


def test_reshape_keeps_the_order_of_elements(target: str):
    w = width(target)
    text = """tile.kernel @k(%x : memref<4xVxf32>, %y : memref<2xWxf32>) {
      %zero = arith.constant 0 : index
      %xw = tile.window %x[%zero, %zero] : memref<4xVxf32> -> !tile.window<4xVxf32>
      %t = tile.load %xw : !tile.window<4xVxf32> -> !tile.tile<4xVxf32>
      %u = tile.reshape %t : !tile.tile<4xVxf32> -> !tile.tile<2xWxf32>
      %yw = tile.window %y[%zero, %zero] : memref<2xWxf32> -> !tile.window<2xWxf32>
      tile.store %u, %yw : !tile.tile<2xWxf32>, !tile.window<2xWxf32>
    }"""
    x = normal(4, w // 2)
    np.testing.assert_array_equal(run(target, text, x, unwritten(2, w))[1], x.reshape(2, w))


CONTRACT = """tile.kernel @k(%A : memref<?x?xf32>, %B : memref<?x?xf32>, %C : memref<?x?xf32>) {
  %zero = arith.constant 0 : index
  %m = tile.dim %C, 0 : memref<?x?xf32>
  %n = tile.dim %C, 1 : memref<?x?xf32>
  %k = tile.dim %A, KDIM : memref<?x?xf32>
  %aw = tile.window %A LHS [%zero, %zero] extent [%m, %k] : memref<?x?xf32> -> !tile.window<3x5xf32>
  %bw = tile.window %B RHS [%zero, %zero] extent [%k, %n] : memref<?x?xf32> -> !tile.window<5xWxf32>
  %cw = tile.window %C[%zero, %zero] extent [%m, %n] : memref<?x?xf32> -> !tile.window<3xWxf32>
  %start = tile.load %cw : !tile.window<3xWxf32> -> !tile.tile<3xWxf32>
  STAGES
  %sum = tile.contract %a, %b, %start extent %k : ATYPE, BTYPE -> !tile.tile<3xWxf32>
  tile.store %sum, %cw : !tile.tile<3xWxf32>, !tile.window<3xWxf32>
}"""
STRAIGHT = "by affine_map<(d0, d1)[s0, s1] -> (s0 + d0, s1 + d1)>"
TRANSPOSED = "by affine_map<(d0, d1)[s0, s1] -> (s0 + d1, s1 + d0)>"


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("staged", [False, True])
def test_contractions_of_windows_and_stages(target: str, transpose_a: bool, transpose_b: bool, staged: bool):
    """Any orientation of the factors, read in place or packed first, sums in the same order."""
    text = CONTRACT.replace("KDIM", str(int(not transpose_a)))
    text = text.replace("LHS", TRANSPOSED if transpose_a else STRAIGHT)
    text = text.replace("RHS", TRANSPOSED if transpose_b else STRAIGHT)
    intrinsic = resolve_machine(target).choose("f32", "f32", "f32").name
    text = text.replace("extent %k :", f'extent %k intrinsic "{intrinsic}" :')
    if staged:
        stages = """%a = tile.stage %aw : !tile.window<3x5xf32> -> !tile.buffer<3x5xf32>
          %b = tile.stage %bw : !tile.window<5xWxf32> -> !tile.buffer<5xWxf32>"""
        text = text.replace("STAGES", stages).replace("ATYPE", "!tile.buffer<3x5xf32>")
        text = text.replace("BTYPE", "!tile.buffer<5xWxf32>")
    else:
        text = text.replace("STAGES", "").replace("%a,", "%aw,").replace("%b,", "%bw,")
        text = text.replace("ATYPE", "!tile.window<3x5xf32>").replace("BTYPE", "!tile.window<5xWxf32>")
    w = width(target)
    for m, n, k in [(3, w, 5), (2, max(1, w - 1), 4), (1, 1, 1), (3, w, 0)]:
        a, b, c = normal(m, k), normal(k, n), normal(m, n)
        given_a = np.ascontiguousarray(a.T) if transpose_a else a
        given_b = np.ascontiguousarray(b.T) if transpose_b else b
        result = run(target, text, given_a, given_b, c)[2]
        np.testing.assert_allclose(result, c + a.astype(float) @ b.astype(float), rtol=1e-4, atol=1e-4)


def test_contraction_of_a_tile_computed_on_the_way(target: str):
    intrinsic = resolve_machine(target).choose("f32", "f32", "f32").name
    text = f"""tile.kernel @k(%A : memref<2xVxf32>, %B : memref<VxWxf32>, %C : memref<2xWxf32>) {{
      %zero = arith.constant 0 : index
      %aw = tile.window %A[%zero, %zero] : memref<2xVxf32> -> !tile.window<2xVxf32>
      %bw = tile.window %B[%zero, %zero] : memref<VxWxf32> -> !tile.window<VxWxf32>
      %cw = tile.window %C[%zero, %zero] : memref<2xWxf32> -> !tile.window<2xWxf32>
      %a = tile.load %aw : !tile.window<2xVxf32> -> !tile.tile<2xVxf32>
      %twice = tile.map (%a : !tile.tile<2xVxf32>) -> !tile.tile<2xVxf32> {{
      ^bb0(%x : f32):
        %y = arith.addf %x, %x : f32
        tile.yield %y : f32
      }}
      %f0 = arith.constant 0.0 : f32
      %start = tile.splat %f0 : f32 -> !tile.tile<2xWxf32>
      %sum = tile.contract %twice, %bw, %start intrinsic "{intrinsic}"
        : !tile.tile<2xVxf32>, !tile.window<VxWxf32> -> !tile.tile<2xWxf32>
      tile.store %sum, %cw : !tile.tile<2xWxf32>, !tile.window<2xWxf32>
    }}"""
    w = width(target)
    a, b = normal(2, w // 2), normal(w // 2, w)
    c = run(target, text, a, b, unwritten(2, w))[2]
    np.testing.assert_allclose(c, 2 * a.astype(float) @ b.astype(float), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_grid_of_blocks(target: str, parts: int):
    """Every worker runs a contiguous share of the grid; blocks at the edges are cut."""
    text = """tile.kernel @k(%x : memref<?x?xf32>, %y : memref<?x?xf32>) {
      %zero = arith.constant 0 : index
      %m = tile.dim %x, 0 : memref<?x?xf32>
      %n = tile.dim %x, 1 : memref<?x?xf32>
      tile.parallel (%i, %j), (%mc, %nc) = (%zero, %zero) to (%m, %n) step (2, W) {
        %xw = tile.window %x[%i, %j] extent [%mc, %nc] : memref<?x?xf32> -> !tile.window<2xWxf32>
        %t = tile.load %xw : !tile.window<2xWxf32> -> !tile.tile<2xWxf32>
        %u = tile.map (%t : !tile.tile<2xWxf32>) -> !tile.tile<2xWxf32> {
        ^bb0(%e : f32):
          %r = arith.mulf %e, %e : f32
          tile.yield %r : f32
        }
        %yw = tile.window %y[%i, %j] extent [%mc, %nc] : memref<?x?xf32> -> !tile.window<2xWxf32>
        tile.store %u, %yw : !tile.tile<2xWxf32>, !tile.window<2xWxf32>
      }
    }"""
    for m, n in [(5, 3 * width(target) - 1), (1, 1), (0, 7)]:
        x = normal(m, n)
        y = run(target, text, x, unwritten(m, n), parts=parts)[1]
        np.testing.assert_array_equal(y, x * x)


def test_padding_takes_part_where_something_depends_on_it(target: str):
    """The product goes beyond what is valid of both factors and is stored whole: padding is zero, not what is there."""
    intrinsic = resolve_machine(target).choose("f32", "f32", "f32").name
    text = f"""tile.kernel @k(%A : memref<3x5xf32>, %B : memref<5xWxf32>, %C : memref<3xWxf32>,
                    %m : index, %n : index) {{
      %zero = arith.constant 0 : index
      %aw = tile.window %A[%zero, %zero] extent [%m, _] : memref<3x5xf32> -> !tile.window<3x5xf32>
      %bw = tile.window %B[%zero, %zero] extent [%m, %n] : memref<5xWxf32> -> !tile.window<5xWxf32>
      %cw = tile.window %C[%zero, %zero] : memref<3xWxf32> -> !tile.window<3xWxf32>
      %start = tile.load %cw : !tile.window<3xWxf32> -> !tile.tile<3xWxf32>
      %b = tile.stage %bw : !tile.window<5xWxf32> -> !tile.buffer<5xWxf32>
      %sum = tile.contract %aw, %b, %start intrinsic "{intrinsic}"
        : !tile.window<3x5xf32>, !tile.buffer<5xWxf32> -> !tile.tile<3xWxf32>
      tile.store %sum, %cw : !tile.tile<3xWxf32>, !tile.window<3xWxf32>
    }}"""
    w = width(target)
    a, b, c = normal(3, 5), normal(5, w), normal(3, w)
    for m, n in [(1, max(1, w - 1)), (2, 1), (0, w), (3, 0)]:
        result = run(target, text, a, b, c, m, n)[2]
        valid_a, valid_b = a.astype(float), b.astype(float)
        valid_a[m:], valid_b[m:], valid_b[:, n:] = 0, 0, 0
        np.testing.assert_allclose(result, c + valid_a @ valid_b, rtol=1e-4, atol=1e-4)
