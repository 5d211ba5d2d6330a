"""What windows show and what loads, stores and stages do with them: edges, clipping, maps, gathers, padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tile_kernels import F32, ramp, run_kernel

from crosstile.dialects.element_types import Array, is_poison, poisoned
from crosstile.ir.diagnostics import CrosstileError, first_file_location


def copy_window(window: str, source: Array, shape: str, *indices: Any, load: str = "") -> Array:
    """What ``tile.load`` of ``tile.window %x<window>`` gives; ``shape`` as in 2x3. Indices are %a, %b, ..."""
    sizes = [int(size) for size in shape.split("x")]
    result = poisoned(tuple(sizes), source.dtype)
    element = {"float32": "f32", "int64": "index", "bfloat16": "bf16"}[source.dtype.name]
    memref = f"memref<{'?x' * source.ndim}{element}>"
    names = ", ".join(f"%{name} : index" for name in "abcdef"[: len(indices)])
    zeros = ", ".join(["0"] * len(sizes))
    body = f"""
      %w = tile.window %x{window} : {memref} -> !tile.window<{shape}x{element}>
      %t = tile.load %w {load} : !tile.window<{shape}x{element}> -> !tile.tile<{shape}x{element}>
      %v = tile.window %y[{zeros}] : memref<{shape}x{element}> -> !tile.window<{shape}x{element}>
      tile.store %t, %v : !tile.tile<{shape}x{element}>, !tile.window<{shape}x{element}>"""
    parameters = f"%x : {memref}, %y : memref<{shape}x{element}>" + (f", {names}" if names else "")
    run_kernel(parameters, body, source, result, *indices)
    return result


def test_a_window_ends_at_its_extent_and_the_rest_is_padding():
    x = ramp(3, 4)
    found = copy_window("[%a, 1] extent [%b, %c]", x, "2x4", 2, 1, 3)
    np.testing.assert_array_equal(found, [[10, 11, 12, 0], [0, 0, 0, 0]])
    found = copy_window("[%a, 1] extent [%b, %c]", x, "2x4", 2, 1, 3, load="pad -inf")
    np.testing.assert_array_equal(found, [[10, 11, 12, -np.inf], [-np.inf] * 4])


def test_clip_cuts_at_both_ends_of_the_source():
    x = ramp(5)
    np.testing.assert_array_equal(copy_window("[%a] clip", x, "4", -2), [0, 0, 1, 2])
    np.testing.assert_array_equal(copy_window("[%a] clip", x, "4", 3), [4, 5, 0, 0])
    np.testing.assert_array_equal(copy_window("[%a] clip", x, "4", 9), [0, 0, 0, 0])
    np.testing.assert_array_equal(copy_window("[%a] clip", x, "4", -9), [0, 0, 0, 0])
    np.testing.assert_array_equal(copy_window("[%a, 0] clip", ramp(2, 3), "3", 7), [0, 0, 0])


def test_a_valid_element_outside_the_source_is_an_error():
    with pytest.raises(
        CrosstileError, match=r"coordinate 5 in dimension 0, whose size is 5; give the window an ext"
    ) as e:
        copy_window("[%a]", ramp(5), "4", 2)
    location = first_file_location(e.value.location)
    assert location is not None and location.line.data == 4
    with pytest.raises(CrosstileError, match="coordinate -1 in dimension 0"):
        copy_window("[%a]", ramp(5), "4", -1)
    with pytest.raises(CrosstileError, match="extent 5 of dimension 0 is not between 0 and the capacity, 4"):
        copy_window("[0] extent [%a]", ramp(5), "4", 5)


X = ramp(5, 6)


@pytest.mark.parametrize(
    ("map_", "expected"),
    [
        ("(d0, d1) -> (d1, d0)", X[:3, :2].T),
        ("(d0, d1) -> (d0 * 2, d1)", X[:4:2, :3]),
        ("(d0, d1) -> (d0 * 2 + 1, d1 * 2)", X[1:4:2, :5:2]),
        ("(d0, d1) -> (d1, 2)", np.broadcast_to(X[:3, 2], (2, 3))),
        ("(d0, d1) -> (d0 + d1, d1)", np.array([[X[i + j, j] for j in range(3)] for i in range(2)])),
        ("(d0, d1) -> (3 - d1, d0)", X[3:0:-1, :2].T),
        ("(d0, d1) -> (d1 floordiv 2, d1 mod 2)", np.array([[X[0, 0], X[0, 1], X[1, 0]]] * 2)),
    ],
)
def test_maps_that_are_slices_and_maps_that_are_not(map_: str, expected: Array):
    np.testing.assert_array_equal(copy_window(f" by affine_map<{map_}> []", X, "2x3"), expected)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_slices_and_gathers_agree(data: st.DataObject):
    """The fast path of strided maps reads and clips exactly what the general path does."""
    stride0, stride1 = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    starts = data.draw(st.tuples(st.integers(-9, 9), st.integers(-9, 9)))
    extents = data.draw(st.tuples(st.integers(0, 4), st.integers(0, 3)))
    swap = data.draw(st.booleans())
    results = [f"d0 * {stride0} + s0", f"d1 * {stride1} + s1"]
    linear = ", ".join(reversed(results) if swap else results)
    # The same map for d0, d1 below 100, but no matter of slices.
    general = linear.replace("d0 *", "(d0 mod 100) *").replace("d1 *", "(d1 mod 100) *")
    found = [
        copy_window(
            f" by affine_map<(d0, d1)[s0, s1] -> ({map_})> [%a, %b] extent [%c, %d] clip",
            ramp(6, 7),
            "4x3",
            *starts,
            *extents,
        )
        for map_ in (linear, general)
    ]
    np.testing.assert_array_equal(found[0], found[1])


def test_windows_of_other_ranks():
    x = ramp(2, 3, 4)
    np.testing.assert_array_equal(copy_window("[1, %a, 0]", x, "4", 2), x[1, 2])
    np.testing.assert_array_equal(copy_window("[%a]", ramp(6), "2x3", 1), [[2, 3, 4]] * 2)


GATHER = """
  %rw = tile.window %rows by affine_map<(d0, d1) -> (d0)> [] : memref<?xindex> -> !tile.window<4x1xindex>
  %r = tile.load %rw : !tile.window<4x1xindex> -> !tile.tile<4x1xindex>"""


def test_gather_reads_padding_at_negative_indices():
    y = poisoned((4, 2), F32)
    run_kernel(
        "%x : memref<?x?xf32>, %rows : memref<?xindex>, %y : memref<4x2xf32>",
        GATHER
        + """
  %w = tile.window %x[%r : !tile.tile<4x1xindex>, %1] : memref<?x?xf32> -> !tile.window<4x2xf32>
  %t = tile.load %w pad 7.0 : !tile.window<4x2xf32> -> !tile.tile<4x2xf32>
  %v = tile.window %y[0, 0] : memref<4x2xf32> -> !tile.window<4x2xf32>
  tile.store %t, %v : !tile.tile<4x2xf32>, !tile.window<4x2xf32>""",
        ramp(5, 3),
        np.array([4, -1, 0, 4]),
        y,
    )
    np.testing.assert_array_equal(y, [[14, 15], [7, 7], [2, 3], [14, 15]])


def scatter(rows: Sequence[int], extent: int = 4) -> Array:
    y = poisoned((5, 2), F32)
    run_kernel(
        "%x : memref<4x2xf32>, %rows : memref<?xindex>, %y : memref<5x2xf32>, %n : index",
        GATHER
        + """
  %v = tile.window %x[0, 0] : memref<4x2xf32> -> !tile.window<4x2xf32>
  %t = tile.load %v : !tile.window<4x2xf32> -> !tile.tile<4x2xf32>
  %w = tile.window %y[%r : !tile.tile<4x1xindex>, 0] extent [%n, _] : memref<5x2xf32> -> !tile.window<4x2xf32>
  tile.store %t, %w : !tile.tile<4x2xf32>, !tile.window<4x2xf32>""",
        ramp(4, 2),
        np.array(rows),
        y,
        extent,
    )
    return y


def test_scatter_writes_nothing_at_negative_indices_and_beyond_the_extent():
    y = scatter([3, -1, 0, 1], extent=3)
    np.testing.assert_array_equal(is_poison(y).any(axis=1), [False, True, True, False, True])
    np.testing.assert_array_equal(y[[0, 3]], [[5, 6], [1, 2]])


def test_scatter_to_one_place_twice_is_an_error():
    with pytest.raises(CrosstileError, match=r"'tile\.store' writes one element twice"):
        scatter([3, 0, 3, 1])


# Loads and stages


def test_a_load_whose_condition_is_false_reads_nothing():
    y, never = poisoned((2,), F32), poisoned((2,), F32)
    body = """
      %w = tile.window %x[%far] : memref<2xf32> -> !tile.window<2xf32>
      %t = tile.load %w if %c else -0.0 : !tile.window<2xf32> -> !tile.tile<2xf32>
      %v = tile.window %y[0] : memref<2xf32> -> !tile.window<2xf32>
      tile.store %t, %v : !tile.tile<2xf32>, !tile.window<2xf32>"""
    parameters = "%x : memref<2xf32>, %y : memref<2xf32>, %c : i1, %far : index"
    run_kernel(parameters, body, never, y, False, 99)
    assert np.signbit(y).all() and (y == 0).all()
    with pytest.raises(CrosstileError, match=r"'tile\.load' reads elements that were never written"):
        run_kernel(parameters, body, never, y, True, 0)


def test_a_staged_buffer_is_a_copy():
    x, y = ramp(3), poisoned((3,), F32)
    run_kernel(
        "%x : memref<3xf32>, %y : memref<3xf32>, %n : index, %f : f32",
        """
      %w = tile.window %x[0] extent [%n] : memref<3xf32> -> !tile.window<3xf32>
      %b = tile.stage %w pad 9.0 : !tile.window<3xf32> -> !tile.buffer<3xf32>
      %f3 = tile.splat %f : f32 -> !tile.tile<3xf32>
      tile.store %f3, %w : !tile.tile<3xf32>, !tile.window<3xf32>
      %bw = tile.window %b[0] : !tile.buffer<3xf32> -> !tile.window<3xf32>
      %t = tile.load %bw : !tile.window<3xf32> -> !tile.tile<3xf32>
      %v = tile.window %y[0] : memref<3xf32> -> !tile.window<3xf32>
      tile.store %t, %v : !tile.tile<3xf32>, !tile.window<3xf32>""",
        x,
        y,
        2,
        5.0,
    )
    np.testing.assert_array_equal(y, [1, 2, 9])
    np.testing.assert_array_equal(x, [5, 5, 3])
