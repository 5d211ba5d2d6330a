"""What tile operations mean where it is easy to get wrong: blocks, chains, reductions, races, samples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from round_trip import parse
from tile_kernels import F32, ramp, run_kernel

from crosstile.dialects.element_types import Array, is_poison, poisoned
from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.tile.blocks import blocks, sample_positions, worker_ranges
from crosstile.dialects.tile.coverage import Coverage
from crosstile.dialects.tile.meaning import MEANINGS as TILE
from crosstile.dialects.upstream_meaning import MEANINGS as UPSTREAM
from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.fma import fma

# Blocks


@settings(deadline=None)
@given(st.integers(0, 3000), st.integers(0, 50), st.integers(1, 64), st.integers(1, 8))
def test_balanced_blocks_cover_the_range_evenly(count: int, lower: int, multiple: int, factor: int):
    step = multiple * factor
    found = blocks(lower, lower + count, step, balanced=multiple)
    assert [index for start, extent in found for index in range(start, start + extent)] == list(
        range(lower, lower + count)
    )
    assert len(found) <= -(-count // step)
    assert all(extent <= step for _, extent in found)
    assert len({extent for _, extent in found[:-1]}) <= 1
    assert all(extent % multiple == 0 for _, extent in found[:-1])


def test_blocks_as_documented():
    assert blocks(0, 520, 512) == [(0, 512), (512, 8)]
    assert blocks(0, 520, 512, balanced=8) == [(0, 264), (264, 256)]
    assert blocks(3, 3, 4) == blocks(5, 3, 4, balanced=2) == []


@settings(deadline=None)
@given(st.integers(-5, 500), st.integers(1, 17), st.integers(1, 9))
def test_workers_get_whole_grains_in_order(count: int, grain: int, workers: int):
    ranges = worker_ranges(2, 2 + count, grain, workers)
    assert [index for begin, end in ranges for index in range(begin, end)] == list(range(2, 2 + max(0, count)))
    assert all((begin - 2) % grain == 0 for begin, _ in ranges)
    sizes = [-(-(end - begin) // grain) for begin, end in ranges]
    assert len(ranges) <= workers and (not sizes or max(sizes) - min(sizes) <= 1)


def test_samples_hold_the_corners():
    assert sample_positions([2, 3], 10) == [0, 1, 2, 3, 4, 5]
    chosen = sample_positions([10, 20], 12)
    assert len(chosen) == 12
    assert {0, 19, 180, 199} <= set(chosen)


# Contractions


def contract(lhs: Array, rhs: Array, start: Array, extent: int, types: str = "f32 f32", intrinsic: str = "") -> Array:
    operand, accumulator = types.split()
    (m, k), n = lhs.shape, rhs.shape[1]
    result = poisoned((m, n), start.dtype)
    shapes = [f"{m}x{k}x{operand}", f"{k}x{n}x{operand}", f"{m}x{n}x{accumulator}"]
    windows = "\n".join(
        f"%{name}w = tile.window %{name}[0, 0] : memref<{shape}> -> !tile.window<{shape}>"
        for name, shape in zip("abcd", [*shapes, shapes[2]], strict=True)
    )
    run_kernel(
        ", ".join(f"%{name} : memref<{shape}>" for name, shape in zip("abcd", [*shapes, shapes[2]], strict=True))
        + ", %n : index",
        f"""{windows}
      %s = tile.load %cw : !tile.window<{shapes[2]}> -> !tile.tile<{shapes[2]}>
      %r = tile.contract %aw, %bw, %s extent %n {f'intrinsic "{intrinsic}"' if intrinsic else ""}
          : !tile.window<{shapes[0]}>, !tile.window<{shapes[1]}> -> !tile.tile<{shapes[2]}>
      tile.store %r, %dw : !tile.tile<{shapes[2]}>, !tile.window<{shapes[2]}>""",
        lhs,
        rhs,
        start,
        result,
        extent,
    )
    return result


def random(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_a_contraction_is_one_chain_into_the_accumulator():
    lhs, rhs, start = random(1, 3, 40), random(2, 40, 5), random(3, 3, 5)
    plain, fused = start.copy(), start.copy()
    for k in range(37):
        plain += lhs[:, k : k + 1] * rhs[k]
        fused = fma(np.broadcast_to(lhs[:, k : k + 1], (3, 5)), np.broadcast_to(rhs[k], (3, 5)), fused)
    np.testing.assert_array_equal(contract(lhs, rhs, start, 37), plain)
    intrinsic = "x86.avx512.fma.1x16x1.f32"
    np.testing.assert_array_equal(contract(lhs, rhs, start, 37, intrinsic=intrinsic), fused)
    assert (plain != fused).any()


def test_a_contraction_reads_nothing_beyond_its_extent():
    lhs, rhs = random(1, 2, 8), random(2, 8, 3)
    expected = contract(lhs, rhs, np.zeros((2, 3), np.float32), 5)
    lhs[:, 5:], rhs[5:] = np.inf, 0
    np.testing.assert_array_equal(contract(lhs, rhs, np.zeros((2, 3), np.float32), 5), expected)
    np.testing.assert_array_equal(contract(lhs, rhs, ramp(2, 3), 0), ramp(2, 3))


def test_a_contraction_is_padded_with_zeros_to_the_intrinsic():
    lhs, rhs = random(1, 4, 200), random(2, 200, 3)
    lhs, rhs = lhs.astype(ml_dtypes.bfloat16), rhs.astype(ml_dtypes.bfloat16)
    start = np.zeros((4, 3), np.float32)
    found = contract(lhs, rhs, start, 195, "bf16 f32", "nvidia.wgmma.m64n8k16.f32.bf16")
    exact = lhs[:, :195].astype(np.float64) @ rhs[:195].astype(np.float64)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-4)
    plain = contract(lhs, rhs, start, 195, "bf16 f32")
    assert (plain != found).any()


def test_integers_are_summed_in_the_accumulator():
    lhs, rhs = np.full((2, 30), 127, np.int8), np.full((30, 2), -128, np.int8)
    found = contract(lhs, rhs, np.zeros((2, 2), np.int32), 30, "i8 i32")
    np.testing.assert_array_equal(found, np.full((2, 2), -127 * 128 * 30))


def test_an_intrinsic_must_exist_and_fit():
    lhs, rhs, start = random(1, 2, 4), random(2, 4, 3), np.zeros((2, 3), np.float32)
    with pytest.raises(CrosstileError, match=r"x86\.avx512\.fma\.1x16x1\.f32"):
        contract(lhs, rhs, start, 4, intrinsic="x86.avx512.fma.1x16x1.f16")
    with pytest.raises(CrosstileError, match="lhs has elements of float32, the row says f64"):
        contract(lhs, rhs, start, 4, intrinsic="x86.avx512.fma.1x8x1.f64")


# Maps, reductions, shapes


def value_of(body: str, shape: str, *arguments: Any, parameters: str = "") -> Array:
    """The tile %r that ``body`` computes, of type ``shape``."""
    sizes, element = re.fullmatch(r"([\dx]+)x([a-z]\w*)", shape).groups()  # pyright: ignore[reportOptionalMemberAccess]
    dtype = {"f32": np.float32, "index": np.int64, "i32": np.int32, "bf16": ml_dtypes.bfloat16}[element]
    result = poisoned(tuple(map(int, sizes.split("x"))), np.dtype(dtype))
    zeros = ", ".join("0" for _ in sizes.split("x"))
    store = f"%out = tile.window %y[{zeros}] : memref<{shape}> -> !tile.window<{shape}>\n"
    store += f"tile.store %r, %out : !tile.tile<{shape}>, !tile.window<{shape}>"
    run_kernel(
        f"%y : memref<{shape}>" + (f", {parameters}" if parameters else ""), body + "\n" + store, result, *arguments
    )
    return result


def test_maps_repeat_dimensions_of_size_one():
    body = """
      %i = tile.iota dim 0 : !tile.tile<2x1xindex>
      %j = tile.iota dim 1 start %1 : !tile.tile<1x3xindex>
      %r = tile.map (%i, %j : !tile.tile<2x1xindex>, !tile.tile<1x3xindex>) -> !tile.tile<2x3xindex> {
      ^bb0(%a : index, %b : index):
        %c = arith.muli %a, %b : index
        %d = arith.addi %c, %n : index
        tile.yield %d : index
      }"""
    np.testing.assert_array_equal(
        value_of(body, "2x3xindex", 10, parameters="%n : index"), [[10, 10, 10], [11, 12, 13]]
    )


def test_a_map_of_nothing_is_a_constant():
    body = """%r = tile.map () -> !tile.tile<2x2xf32> {
      %c = arith.constant 1.5 : f32
      tile.yield %c : f32
    }"""
    np.testing.assert_array_equal(value_of(body, "2x2xf32"), np.full((2, 2), 1.5))


def reduce(kind: str, row: Sequence[float], extent: int, into: str = "") -> float:
    x = np.array([row], np.float32)
    body = f"""
      %w = tile.window %x[0, 0] : memref<1x{len(row)}xf32> -> !tile.window<1x{len(row)}xf32>
      %t = tile.load %w : !tile.window<1x{len(row)}xf32> -> !tile.tile<1x{len(row)}xf32>
      %two = arith.constant 2.0 : f32
      %start = tile.splat %two : f32 -> !tile.tile<1x1xf32>
      %r = tile.reduce {kind} %t {into} dims [1] extent [%n] : !tile.tile<1x{len(row)}xf32> -> !tile.tile<1x1xf32>"""
    (found,) = value_of(body, "1x1xf32", x, extent, parameters=f"%x : memref<1x{len(row)}xf32>, %n : index").ravel()
    return float(found)


@pytest.mark.parametrize(
    ("kind", "nothing"), [("add", 0.0), ("mul", 1.0), ("max", -np.inf), ("min", np.inf), ("maxnum", -np.inf)]
)
def test_a_reduction_of_nothing_is_the_identity(kind: str, nothing: float):
    assert reduce(kind, [5, 6, 7], 0) == nothing
    assert reduce(kind, [5, 6, 7], 1) == 5
    assert reduce(kind, [5, 6, 7], 3) == {"add": 18, "mul": 210, "max": 7, "min": 5, "maxnum": 7}[kind]
    assert reduce(kind, [5, 6, 7], 3, "into %start") == {"add": 20, "mul": 420, "max": 7, "min": 2, "maxnum": 7}[kind]


def test_maxnum_skips_what_is_no_number():
    nan = np.nan
    assert reduce("maxnum", [nan, 1, nan, 3, 2], 5) == 3
    assert reduce("maxnum", [nan, nan], 2) == -np.inf
    assert reduce("maxnum", [nan, 1], 2, "into %start") == 2


def test_max_gives_nan_if_any_element_is():
    assert np.isnan(reduce("max", [1, np.nan, 3], 3))
    assert reduce("max", [1, 3, np.nan], 2) == 3


def test_reductions_over_several_dimensions():
    body = """
      %i = tile.iota dim 0 : !tile.tile<3x4xindex>
      %j = tile.iota dim 1 : !tile.tile<3x4xindex>
      %t = tile.map (%i, %j : !tile.tile<3x4xindex>, !tile.tile<3x4xindex>) -> !tile.tile<3x4xindex> {
      ^bb0(%a : index, %b : index):
        %c = arith.addi %a, %b : index
        tile.yield %c : index
      }
      %r = tile.reduce add %t dims [0, 1] extent [_, %n] : !tile.tile<3x4xindex> -> !tile.tile<1x1xindex>"""
    assert value_of(body, "1x1xindex", 2, parameters="%n : index")[0, 0] == 9


def test_mask_transpose_and_reshape():
    body = """
      %t = tile.iota dim 1 start %1 : !tile.tile<2x3xindex>
      %m = tile.mask %t extent [%1, %n] else -1 : !tile.tile<2x3xindex>
      %u = tile.transpose %m [1, 0] : !tile.tile<2x3xindex> -> !tile.tile<3x2xindex>
      %r = tile.reshape %u : !tile.tile<3x2xindex> -> !tile.tile<6xindex>"""
    np.testing.assert_array_equal(value_of(body, "6xindex", 2, parameters="%n : index"), [1, -1, 2, -1, -1, -1])


def test_elements_of_bfloat16():
    body = """%c = arith.constant 1.0 : bf16
      %t = tile.splat %c : bf16 -> !tile.tile<1x9xbf16>
      %r = tile.reduce add %t dims [1] : !tile.tile<1x9xbf16> -> !tile.tile<1x1xbf16>"""
    assert value_of(body, "1x1xbf16")[0, 0] == 9


# Loops and instances


def test_a_loop_without_trips_gives_its_initial_values():
    body = """
      %s = tile.iota dim 0 : !tile.tile<3xindex>
      %r = tile.for %k, %kc = %n to %1 step 4 iter_args(%a = %s) -> (!tile.tile<3xindex>) {
        %z = tile.splat %kc : index -> !tile.tile<3xindex>
        tile.yield %z : !tile.tile<3xindex>
      }"""
    np.testing.assert_array_equal(value_of(body, "3xindex", 5, parameters="%n : index"), [0, 1, 2])
    np.testing.assert_array_equal(value_of(body, "3xindex", -5, parameters="%n : index"), [2, 2, 2])


FILL = """
  tile.parallel %b to %e = %0 to %n grain 4 {
    tile.for %i, %ic = %b to %e step 4 {
      %t = tile.iota dim 0 start %i : !tile.tile<4xindex>
      %w = tile.window %y[%i] extent [%ic] : memref<?xindex> -> !tile.window<4xindex>
      tile.store %t, %w : !tile.tile<4xindex>, !tile.window<4xindex>
    }
  }"""


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_any_number_of_workers_computes_the_same(workers: int):
    y = np.full(18, -1)
    interpreter = run_kernel("%y : memref<?xindex>, %n : index", FILL, y, 18, workers=workers)
    np.testing.assert_array_equal(y, np.arange(18))
    assert interpreter.state(Coverage).mask(y).all()
    assert interpreter.state(Coverage).describe() == f"all {min(workers, 5)} instances were run"


def test_instances_that_write_one_element_are_an_error():
    overlapping = FILL.replace("%y[%i] extent [%ic]", "%y[%i]")
    run_kernel("%y : memref<?xindex>, %n : index", overlapping, np.full(20, -1), 17)
    unaligned = overlapping.replace("start %i", "start %b").replace("%y[%i]", "%y[%b]")
    with pytest.raises(CrosstileError, match=r"instance 1 of the kernel writes too \(this is instance 2\)"):
        shifted = unaligned.replace("%y[%b]", "%y[0]")
        run_kernel("%y : memref<?xindex>, %n : index", shifted, np.full(20, -1), 17, workers=2)


GRID_PARAMETERS = "%x : memref<?x?xf32>, %y : memref<?x?xf32>, %m : index, %n : index"


def copy_in_blocks(rows: int, columns: int, source: str = "%x[%i, %j]") -> str:
    """A grid that copies %x to %y, block by block."""
    block = f"{rows}x{columns}xf32"
    return f"""
  tile.parallel (%i, %j), (%ic, %jc) = (%0, %0) to (%m, %n) step ({rows}, {columns}) {{
    %v = tile.window {source} extent [%ic, %jc] : memref<?x?xf32> -> !tile.window<{block}>
    %t = tile.load %v : !tile.window<{block}> -> !tile.tile<{block}>
    %w = tile.window %y[%i, %j] extent [%ic, %jc] : memref<?x?xf32> -> !tile.window<{block}>
    tile.store %t, %w : !tile.tile<{block}>, !tile.window<{block}>
  }}"""


@pytest.mark.parametrize(("m", "n"), [(0, 5), (1, 1), (2, 3), (7, 11)])
def test_a_grid_covers_everything_once(m: int, n: int):
    x, y = ramp(m, n), poisoned((m, n), F32)
    run_kernel(GRID_PARAMETERS, copy_in_blocks(2, 3), x, y, m, n)
    np.testing.assert_array_equal(x, y)


def sampled_twice(first: str, second: str, x: Array) -> tuple[Coverage, Array]:
    """Two kernels one after the other through a temporary, a sample of each; the coverage and the result."""
    kernels = [
        f"tile.kernel @{name}({GRID_PARAMETERS}) {{ %0 = arith.constant 0 : index {body} tile.return }}"
        for name, body in (("first", first), ("second", second))
    ]
    memrefs = "memref<?x?xf32>, memref<?x?xf32>, index, index"
    text = f"""{kernels[0]} {kernels[1]}
      func.func @main(%x: memref<?x?xf32>, %t: memref<?x?xf32>, %y: memref<?x?xf32>, %m: index, %n: index) {{
        tile.launch @first(%x, %t, %m, %n : {memrefs}) {{stage = 0}}
        tile.launch @second(%t, %y, %m, %n : {memrefs}) {{stage = 1}}
        func.return
      }}"""
    y = poisoned(x.shape, F32)
    interpreter = Interpreter(parse(text), UPSTREAM, TILE, sample=9)
    interpreter.call("main", [x, poisoned(x.shape, F32), y, *x.shape])
    return interpreter.state(Coverage), y


def test_a_sample_says_what_it_computed():
    x = ramp(21, 31)
    coverage, y = sampled_twice(copy_in_blocks(2, 3), copy_in_blocks(2, 3), x)
    assert coverage.describe() == "a sample of 18 of 242 instances was run"
    mask = coverage.mask(y)
    assert mask[[0, 0, -1, -1], [0, -1, 0, -1]].all() and not mask.all()
    np.testing.assert_array_equal(y[mask], x[mask])
    assert is_poison(y[~mask]).all()


def test_a_sample_drops_instances_that_lack_their_inputs():
    """The second kernel reads its input transposed: it finds the corners, and little else."""
    x = ramp(30, 30)
    turned = copy_in_blocks(3, 3, "%x by affine_map<(d0, d1)[s0, s1] -> (s1 + d1, s0 + d0)> [%i, %j]")
    coverage, y = sampled_twice(copy_in_blocks(3, 3), turned, x)
    assert coverage.instances_dropped > 0
    assert coverage.describe().endswith(f"was run, {coverage.instances_dropped} of them dropped for missing inputs")
    mask = coverage.mask(y)
    assert mask[[0, 0, -1, -1], [0, -1, 0, -1]].all() and not mask.all()
    np.testing.assert_array_equal(y[mask], x.T[mask])
    assert is_poison(y[~mask]).all()


def test_an_array_of_another_type_is_an_error():
    with pytest.raises(CrosstileError, match="elements of float64, its type says float32"):
        run_kernel(GRID_PARAMETERS, copy_in_blocks(2, 3), np.zeros((2, 2)), np.zeros((2, 2)), 2, 2)
