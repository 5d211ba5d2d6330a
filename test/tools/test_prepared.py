"""Bound weights: packed once, the same bits as without, packed again when asked; constants without asking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import crosstile
from crosstile.tools.evaluate import evaluate_level
from crosstile.tools.program import Program

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def product(element: str, options: str = "") -> str:
    return f"""func.func @main(%x: tensor<?x?x{element}>, %w: tensor<?x?x{element}> {{nn.weight}}) -> tensor<?x?xf32> {{
  %y = nn.matmul %x, %w {options} accumulate f32 : tensor<?x?x{element}>, tensor<?x?x{element}> -> tensor<?x?xf32>
  func.return %y : tensor<?x?xf32>
}}"""


MATMUL = product("f32")
LINEAR = """func.func @main(%x: tensor<?x?xf32>, %w: tensor<?x?xf32> {nn.weight}, %b: tensor<?xf32> {nn.weight})
    -> tensor<?x?xf32> {
  %linear = nn.matmul %x, %w accumulate f32 : tensor<?x?xf32>, tensor<?x?xf32>
  %biased = nn.add %linear, %b : tensor<?x?xf32>, tensor<?xf32>
  %y = nn.gelu %biased : tensor<?x?xf32>
  func.return %y : tensor<?x?xf32>
}"""
CONVOLUTION = """func.func @main(%x: tensor<?x?x?x?xf32>, %w: tensor<?x?x3x3xf32> {nn.weight}) -> tensor<?x?x?x?xf32> {
  %y = nn.conv2d %x, %w nchw strides [STRIDES] padding [1, 1, 1, 1] accumulate f32
      : tensor<?x?x?x?xf32>, tensor<?x?x3x3xf32>
  func.return %y : tensor<?x?x?x?xf32>
}"""
SHAPES = [
    (1, 7, 5),
    (1, 513, 70),
    (16, 100, 130),
    (17, 129, 64),
    (5, 1, 33),
    (40, 600, 12),
    (3, 0, 5),
    (0, 4, 4),
    (4, 4, 0),
]


def numbers(seed: int, *shape: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.fixture(scope="module")
def matmul() -> crosstile.CompiledFunction:
    return crosstile.compile(MATMUL)


@pytest.mark.parametrize(
    ("element", "options"),
    [("f32", ""), ("f32", "{transpose_b}"), ("bf16", ""), ("bf16", "{transpose_b}"), ("f32", "{transpose_a}")],
)
def test_a_bound_product_has_the_same_bits(element: str, options: str):
    function = crosstile.compile(product(element, options))
    dtype = np.float32 if element == "f32" else ml_dtypes.bfloat16
    for m, k, n in SHAPES:
        x = numbers(m, *((k, m) if "_a" in options else (m, k)), dtype=dtype)
        w = numbers(n, *((n, k) if "_b" in options else (k, n)), dtype=dtype)
        bound = function.bind(w=w)
        expected = function(x, w, threads=1)
        for threads in (1, 2, 3):
            assert np.array_equal(bound(x, threads=threads), expected), (m, k, n, threads)


def test_an_infinite_weight_meets_no_padding():
    function = crosstile.compile(product("bf16"))
    x, w = np.ones((3, 5), ml_dtypes.bfloat16), np.full((5, 7), np.inf, ml_dtypes.bfloat16)
    assert (function.bind(w=w)(x) == np.inf).all()


def test_an_epilogue_and_its_bias_are_bound_too():
    function = crosstile.compile(LINEAR)
    for m, k, n in SHAPES:
        x, w, b = numbers(m, m, k), numbers(n, k, n), numbers(k, n)
        assert np.array_equal(function.bind(w=w, b=b)(x), function(x, w, b)), (m, k, n)


@pytest.mark.parametrize("rows", [0, 1, 3, 16, 17, 32, 33])
def test_a_bound_product_of_a_known_number_of_rows_has_the_same_bits(rows: int):
    """Up to 32 rows read an array that is not packed in place: no schedule packs it then."""
    x_type, w_type, y_type = f"tensor<{rows}x300xf32>", "tensor<300x130xf32>", f"tensor<{rows}x130xf32>"
    function = crosstile.compile(f"""func.func @main(%x : {x_type}, %w : {w_type} {{nn.weight}}) -> {y_type} {{
      %y = nn.matmul %x, %w accumulate f32 : {x_type}, {w_type} -> {y_type}
      func.return %y : {y_type}
    }}""")
    x, w = numbers(0, rows, 300), numbers(1, 300, 130)
    np.testing.assert_array_equal(np.asarray(function.bind(w=w)(x)), np.asarray(function(x, w)))


@pytest.mark.parametrize("strides", ["1, 1", "2, 2"])
def test_a_bound_filter_has_the_same_bits(strides: str):
    function = crosstile.compile(CONVOLUTION.replace("STRIDES", strides))
    for n, c, y, x, f in ((1, 3, 5, 5, 7), (2, 17, 9, 19, 13), (1, 1, 1, 1, 1), (1, 4, 6, 33, 24), (1, 0, 3, 3, 2)):
        image, w = numbers(n, n, c, y, x), numbers(f, f, c, 3, 3)
        assert np.array_equal(function.bind(w=w)(image), function(image, w)), (n, c, y, x, f)


@pytest.mark.parametrize("strides", ["1, 1", "2, 2"])
def test_a_bound_filter_of_an_image_with_channels_last_has_the_same_bits(strides: str):
    text = CONVOLUTION.replace("STRIDES", strides).replace("nchw", "nhwc").replace("?x?x3x3x", "3x3x?x?x")
    function = crosstile.compile(text)
    for n, c, y, x, f in ((1, 3, 5, 5, 7), (2, 17, 9, 19, 13), (1, 1, 1, 1, 1), (1, 4, 6, 33, 24), (1, 0, 3, 3, 2)):
        image, w = numbers(n, n, y, x, c), numbers(f, 3, 3, c, f)
        assert np.array_equal(function.bind(w=w)(image), function(image, w)), (n, c, y, x, f)


@pytest.mark.parametrize("level", ["nest", "tile", "mma", "hardware"])
@pytest.mark.parametrize(("m", "k", "n"), [(1, 9, 20), (7, 11, 70), (2, 0, 3)])
def test_every_level_computes_the_same(level: str, m: int, k: int, n: int):
    program = Program.load(MATMUL, "x86-64-avx512", bound=True)
    x, w = numbers(0, m, k), numbers(1, k, n)
    (found,) = evaluate_level(program, level, [x, w]).results
    assert np.allclose(found, x @ w, atol=1e-4)


def test_a_schedule_in_the_file_reads_its_weight_packed():
    text = """func.func @main(%x : tensor<?x?xf32>, %w : tensor<?x?xf32> {nn.weight}) -> tensor<?x?xf32> {
  %y = nest.kernel @product (%a = %x : tensor<?x?xf32>, %b = %w : tensor<?x?xf32>) -> (tensor<?x?xf32>)
      schedules [#nest.schedule<loops = [n : 96, k : 24, m : 64, n : 48, m : 4], parallel = m grain 4, lane = n,
                                stage = [1], intrinsic = "x86.avx512.fma.1x16x1.f32">] {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (m, k), %b (k, n) : tensor<?x?xf32>, tensor<?x?xf32>) -> (m, n) : tensor<?x?xf32> {
    ^bb0(%p : f32, %q : f32):
      %t = arith.mulf %p, %q : f32
      nest.yield %t : f32
    }
    nest.yield %c : tensor<?x?xf32>
  }
  func.return %y : tensor<?x?xf32>
}"""
    program = Program.load(text, "x86-64-avx512", start="nest", bound=True)
    tile = str(program.at("tile"))
    assert "d1 floordiv 48" in tile and "tile.stage" not in tile
    x, w = numbers(0, 9, 50), numbers(1, 50, 101)
    (found,) = evaluate_level(program, "mma", [x, w]).results
    assert np.allclose(found, x @ w, atol=1e-4)


def test_arrays_are_packed_again_only_when_asked(matmul: crosstile.CompiledFunction):
    x, w = numbers(0, 4, 6), numbers(1, 6, 10)
    bound = matmul.bind(w=w)
    before = bound(x)
    w *= 2
    assert np.array_equal(bound(x), before)
    bound.pack()
    assert np.array_equal(bound(x), 2 * before)
    other = numbers(2, 6, 3)
    bound.pack(w=other)
    assert np.array_equal(bound(x), matmul(x, other)) and bound.weights == {"w": other}


def test_functions_bound_to_different_weights_are_independent(matmul: crosstile.CompiledFunction):
    x, first, second = numbers(0, 4, 6), numbers(1, 6, 10), numbers(2, 6, 9)
    one, two = matmul.bind(w=first), matmul.bind(w=second)
    assert np.array_equal(one(x), matmul(x, first)) and np.array_equal(two(x), matmul(x, second))
    out = np.empty((4, 9), np.float32)
    assert two(x, out=out) is out and np.array_equal(out, matmul(x, second))


def test_what_cannot_be_bound_is_named(matmul: crosstile.CompiledFunction):
    with pytest.raises(
        crosstile.CrosstileError, match=r"@main has no weight 'v': arguments marked \{nn.weight\} are 'w'"
    ):
        matmul.bind(v=numbers(0, 2, 2))
    with pytest.raises(crosstile.CrosstileError, match="weights are bound together; 'w' of 'w' is missing"):
        matmul.bind()
    with pytest.raises(crosstile.CrosstileError, match=r"\('w'\): expected float32 of shape \(\?, \?\), found float64"):
        matmul.bind(w=np.zeros((2, 2)))
    bound = matmul.bind(w=numbers(0, 2, 2))
    with pytest.raises(crosstile.CrosstileError, match="dimension 0 of argument 1"):
        bound(numbers(0, 4, 6))
    with pytest.raises(crosstile.CrosstileError, match="@main takes 1 arguments"):
        bound(numbers(0, 4, 2), numbers(0, 2, 2))
    with pytest.raises(crosstile.CrosstileError, match="found float64"):
        bound.pack(w=np.zeros((2, 2)))
    assert bound(numbers(0, 4, 2)).shape == (4, 2)


def test_a_packed_program_is_not_called_without_binding():
    program = Program.load(MATMUL, bound=True).compile()
    with pytest.raises(crosstile.CrosstileError, match=r"argument 1 \('w'\) is read packed: it must be bound"):
        program.function.keep_plan([numbers(0, 2, 2), numbers(0, 2, 2)])


def test_a_constant_is_packed_at_compile_time():
    w = numbers(0, 5, 20)
    text = f"""func.func @main(%x: tensor<?x5xf32>) -> tensor<?x20xf32> {{
  %w = nn.constant dense<{w.tolist()}> : tensor<5x20xf32>
  %y = nn.matmul %x, %w accumulate f32 : tensor<?x5xf32>, tensor<5x20xf32> -> tensor<?x20xf32>
  func.return %y : tensor<?x20xf32>
}}"""
    program = Program.load(text, "host")
    assert "tile.stage" not in str(program.at("tile")) and "memref.global" in str(program.at("tile"))
    unpacked = crosstile.compile(MATMUL)
    for rows in (0, 1, 7, 40):
        x = numbers(rows, rows, 5)
        assert np.array_equal(crosstile.compile(text)(x), unpacked(x, w))
