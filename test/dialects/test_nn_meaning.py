"""What nn operations compute, against NumPy and the standard library written out another way."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from round_trip import parse

from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.nn.meaning import MEANINGS as NN
from crosstile.dialects.nn.meaning import reference
from crosstile.dialects.upstream_meaning import MEANINGS as UPSTREAM
from crosstile.ir.diagnostics import CrosstileError

Array = NDArray[Any]
RANDOM = np.random.default_rng(7)


def run(arguments: str, body: str, result: str, *values: Any) -> Array:
    module = parse(f"func.func @f({arguments}) -> {result} {{ {body} func.return %r : {result} }}")
    (found,) = Interpreter(module, UPSTREAM, NN).call("f", values)
    return found


def unary(operation: str, x: Array, element: str = "f32") -> Array:
    type_ = f"tensor<{'?x' * x.ndim}{element}>"
    return run(f"%x: {type_}", f"%r = {operation.format('%x')} : {type_}", type_, x)


def elementwise(function: Any, x: Array) -> Array:
    return np.array([function(float(value)) for value in x.flat], np.float64).reshape(x.shape)


SCALAR: dict[str, Callable[[float], float]] = {
    "nn.neg {}": lambda x: -x,
    "nn.abs {}": abs,
    "nn.exp {}": math.exp,
    "nn.tanh {}": math.tanh,
    "nn.erf {}": math.erf,
    "nn.relu {}": lambda x: x if x > 0 else 0.0,
    "nn.sigmoid {}": lambda x: 0.5 + 0.5 * math.tanh(x / 2),
    "nn.silu {}": lambda x: x * (0.5 + 0.5 * math.tanh(x / 2)),
    "nn.gelu {}": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    "nn.gelu {} approximate tanh": lambda x: (
        0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    ),
}


@pytest.mark.parametrize("operation", SCALAR)
def test_unary_operations_are_rounded_once(operation: str):
    x = (RANDOM.standard_normal((17, 5)) * 3).astype(np.float32)
    exact = elementwise(SCALAR[operation], x)
    found = unary(operation, x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, rtol=2.0**-24 + 1e-12, atol=1e-12)
    np.testing.assert_allclose(unary(operation, x.astype(np.float64), "f64"), exact, rtol=1e-13, atol=1e-15)


def test_roots_and_their_special_values():
    x = np.array([4.0, 0.0, -0.0, -1.0, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(
        unary("nn.sqrt {}", x), np.array([2.0, 0.0, -0.0, np.nan, np.inf, np.nan], np.float32)
    )
    np.testing.assert_array_equal(
        unary("nn.rsqrt {}", x), np.array([0.5, np.inf, -np.inf, np.nan, 0.0, np.nan], np.float32)
    )


def test_logarithms_and_their_special_values():
    x = np.array([1.0, np.e, 0.0, -0.0, -1.0, np.inf, np.nan])
    expected = [0.0, 1.0, -np.inf, -np.inf, np.nan, np.inf, np.nan]
    np.testing.assert_array_equal(unary("nn.log {}", x, "f64"), expected)


def test_maximum_and_minimum_follow_ieee_2019():
    type_ = "tensor<?xf32>"
    x, y = np.array([0.0, -0.0, np.nan, 1.0], np.float32), np.array([-0.0, 0.0, 1.0, 2.0], np.float32)
    for name, sign in (("max", False), ("min", True)):
        found = run(f"%x: {type_}, %y: {type_}", f"%r = nn.{name} %x, %y : {type_}, {type_}", type_, x, y)
        assert (np.signbit(found[:2]) == sign).all() and np.isnan(found[2])
        assert found[3] == (1.0 if sign else 2.0)


def test_broadcasting_is_numpys_but_for_dynamic_sizes():
    x, row, column = RANDOM.standard_normal((3, 4)), RANDOM.standard_normal(4), RANDOM.standard_normal((3, 1))
    arguments = "%x: tensor<?x4xf64>, %row: tensor<?xf64>, %column: tensor<?x1xf64>"
    body = """%0 = nn.sub %x, %row : tensor<?x4xf64>, tensor<?xf64>
      %r = nn.mul %column, %0 : tensor<?x1xf64>, tensor<?x4xf64>"""
    found = run(arguments, body, "tensor<?x4xf64>", x, row, column)
    np.testing.assert_array_equal(found, column * (x - row))
    with pytest.raises(CrosstileError, match="dimension -1 has size 4 in one operand and 1 in another; only a 1 that"):
        run(arguments, body, "tensor<?x4xf64>", x, row[:1], column)


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("k", [0, 1, 5])
def test_matrix_products(transpose_a: bool, transpose_b: bool, k: int):
    lhs, rhs = RANDOM.standard_normal((3, k)), RANDOM.standard_normal((k, 4))
    flags = ", ".join(name for name, on in (("transpose_a", transpose_a), ("transpose_b", transpose_b)) if on)
    type_ = "tensor<?x?xf64>"
    found = run(
        f"%a: {type_}, %b: {type_}",
        f"%r = nn.matmul %a, %b {{{flags}}} accumulate f64 : {type_}, {type_}",
        type_,
        lhs.T if transpose_a else lhs,
        rhs.T if transpose_b else rhs,
    )
    expected = [[math.fsum(lhs[m] * rhs[:, n]) for n in range(4)] for m in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-15)


def test_a_product_of_matrices_that_do_not_fit_is_an_error():
    type_ = "tensor<?x?xf32>"
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(CrosstileError, match=r"the summed dimension \(K\) has size 3 in lhs and 2 in rhs"):
        run(f"%a: {type_}", f"%r = nn.matmul %a, %a accumulate f32 : {type_}, {type_}", type_, x)


def test_products_of_batches():
    type_ = "tensor<?x?x?x?xf64>"
    lhs, rhs = RANDOM.standard_normal((2, 3, 5, 4)), RANDOM.standard_normal((2, 3, 6, 5))
    body = f"%r = nn.batch_matmul %a, %b {{transpose_a, transpose_b}} accumulate f64 : {type_}, {type_}"
    found = run(f"%a: {type_}, %b: {type_}", body, type_, lhs, rhs)
    expected = np.zeros((2, 3, 4, 6))
    for i, j, m, n, k in np.ndindex(2, 3, 4, 6, 5):
        expected[i, j, m, n] += lhs[i, j, k, m] * rhs[i, j, n, k]
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    with pytest.raises(
        CrosstileError, match="the batches have the sizes 2x3 in lhs and 2x1 in rhs; they must be equal"
    ):
        run(f"%a: {type_}, %b: {type_}", body, type_, lhs, rhs[:, :1])


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize(
    "strides, padding, dilations, groups",
    [((1, 1), (0, 0, 0, 0), (1, 1), 1), ((2, 1), (1, 0, 2, 3), (1, 2), 2), ((3, 2), (4, 4, 0, 0), (2, 1), 4)],
)
def test_convolutions(
    layout: str, strides: tuple[int, ...], padding: tuple[int, ...], dilations: tuple[int, ...], groups: int
):
    image, filter_ = RANDOM.standard_normal((2, 4, 6, 7)), RANDOM.standard_normal((8, 4 // groups, 3, 2))
    top, bottom, left, right = padding
    padded = np.pad(image, ((0, 0), (0, 0), (top, bottom), (left, right)))
    height = (6 + top + bottom - dilations[0] * 2 - 1) // strides[0] + 1
    width = (7 + left + right - dilations[1] - 1) // strides[1] + 1
    expected = np.zeros((2, 8, height, width))
    for n, o, h, w, c, r, s in np.ndindex(*expected.shape, *filter_.shape[1:]):
        channel = o // (8 // groups) * (4 // groups) + c
        place = strides[0] * h + dilations[0] * r, strides[1] * w + dilations[1] * s
        expected[n, o, h, w] += padded[n, channel, *place] * filter_[o, c, r, s]
    if layout == "nhwc":
        image, expected = image.transpose(0, 2, 3, 1), expected.transpose(0, 2, 3, 1)
        filter_ = filter_.transpose(2, 3, 1, 0)
    type_ = f"tensor<{'x'.join(map(str, filter_.shape))}xf64>"
    written = f"strides {list(strides)} padding {list(padding)} dilations {list(dilations)} groups {groups}"
    image_type = f"tensor<{'x'.join(map(str, image.shape))}xf64>"
    result = f"tensor<{'x'.join(map(str, expected.shape))}xf64>"
    body = f"%r = nn.conv2d %x, %w {layout} {written} accumulate f64 : {image_type}, {type_}"
    found = run(f"%x: {image_type}, %w: {type_}", body, result, image, filter_)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


def test_a_filter_that_does_not_fit_is_an_error():
    type_ = "tensor<?x?x?x?xf64>, tensor<?x?x3x3xf64>"
    body = f"%r = nn.conv2d %x, %w nchw accumulate f64 : {type_}"
    arguments = "%x: tensor<?x?x?x?xf64>, %w: tensor<?x?x3x3xf64>"
    image, filter_ = np.ones((1, 2, 1, 5)), np.ones((1, 2, 3, 3))
    with pytest.raises(CrosstileError, match="a filter of 3 with dilation 1 does not fit into an image of 1"):
        run(arguments, body, "tensor<?x?x?x?xf64>", image, filter_)
    with pytest.raises(CrosstileError, match="the image has 1 channels, the filter 2 in each of 1 groups"):
        run(arguments, body, "tensor<?x?x?x?xf64>", image[:, :1], filter_)


def test_contractions_with_batches_and_two_summed_iterators():
    p, q = RANDOM.standard_normal((2, 3, 4, 5)), RANDOM.standard_normal((5, 2, 6, 4))
    found = run(
        "%p: tensor<2x3x4x5xf64>, %q: tensor<5x2x6x4xf64>",
        "%r = nn.contract [b, m, n, j, k] %p (b, m, j, k), %q (k, b, n, j) -> (n, b, m) accumulate f64 "
        ": tensor<2x3x4x5xf64>, tensor<5x2x6x4xf64>",
        "tensor<6x2x3xf64>",
        p,
        q,
    )
    expected = np.zeros((6, 2, 3))
    for b, m, n, j, k in np.ndindex(2, 3, 6, 4, 5):
        expected[n, b, m] += p[b, m, j, k] * q[k, b, n, j]
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("shape", [(4, 6), (0, 6), (4, 0), (1, 1)])
def test_reductions_and_their_identities(shape: tuple[int, int]):
    x = RANDOM.standard_normal(shape)
    type_ = "tensor<?x?xf64>"
    total = run(f"%x: {type_}", f"%r = nn.reduce add %x dims [1] : {type_} -> tensor<?xf64>", "tensor<?xf64>", x)
    np.testing.assert_allclose(total, [math.fsum(row) for row in x], rtol=1e-14, atol=1e-15)
    text = f"%r = nn.reduce max %x dims [0, 1] keep_dims : {type_} -> tensor<1x1xf64>"
    largest = run(f"%x: {type_}", text, "tensor<1x1xf64>", x)
    assert largest == [[max(x.flat, default=-math.inf)]]


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("shape", [(4, 6), (0, 6), (4, 0)])
def test_softmax_of_large_numbers(dim: int, shape: tuple[int, int]):
    x = RANDOM.standard_normal(shape) * 500
    found = unary(f"nn.softmax {{}} dim {dim}", x, "f64")
    assert found.shape == shape
    for row, result in zip(np.moveaxis(x, dim, -1), np.moveaxis(found, dim, -1), strict=True):
        weights = [math.exp(value - max(row)) for value in row]
        np.testing.assert_allclose(result, [weight / math.fsum(weights) for weight in weights], rtol=1e-13)


def test_layer_norm_of_numbers_with_a_large_mean():
    x = RANDOM.standard_normal((5, 7)) + 1e6
    gamma, beta = RANDOM.standard_normal(7), RANDOM.standard_normal(7)
    types = "tensor<?x?xf64>, tensor<?xf64>, tensor<?xf64>"
    body = f"%r = nn.layer_norm %x, %g, %b epsilon 0.001 : {types}"
    arguments = "%x: tensor<?x?xf64>, %g: tensor<?xf64>, %b: tensor<?xf64>"
    found = run(arguments, body, "tensor<?x?xf64>", x, gamma, beta)
    for row, result in zip(x, found, strict=True):
        mean = math.fsum(row) / 7
        variance = math.fsum((row - mean) ** 2) / 7
        np.testing.assert_allclose(
            result, (row - mean) / math.sqrt(variance + 1e-3) * gamma + beta, rtol=1e-9, atol=1e-9
        )
    assert run(arguments, body, "tensor<?x?xf64>", x[:, :0], gamma[:0], beta[:0]).shape == (5, 0)
    with pytest.raises(CrosstileError, match="the last dimension has size 7, gamma has 6 and beta 7"):
        run(arguments, body, "tensor<?x?xf64>", x, gamma[:6], beta)


def test_rms_norm():
    x, gamma = RANDOM.standard_normal((5, 7)), RANDOM.standard_normal(7)
    arguments, types = "%x: tensor<?x?xf64>, %g: tensor<?xf64>", "tensor<?x?xf64>, tensor<?xf64>"
    body = f"%r = nn.rms_norm %x, %g epsilon 0.001 : {types}"
    found = run(arguments, body, "tensor<?x?xf64>", x, gamma)
    for row, result in zip(x, found, strict=True):
        scale = math.sqrt(math.fsum(row * row) / 7 + 1e-3)
        np.testing.assert_allclose(result, row / scale * gamma, rtol=1e-13)
    assert run(arguments, body, "tensor<?x?xf64>", x[:, :0], gamma[:0]).shape == (5, 0)
    with pytest.raises(CrosstileError, match="the last dimension has size 7, and gamma has 6"):
        run(arguments, body, "tensor<?x?xf64>", x, gamma[:6])


@pytest.mark.parametrize(("queries", "keys", "heads"), [(3, 5, 2), (5, 3, 4), (4, 4, 2), (1, 7, 4), (2, 0, 2)])
@pytest.mark.parametrize("causal", [True, False])
def test_attention(queries: int, keys: int, heads: int, causal: bool):
    query = RANDOM.standard_normal((2, heads, queries, 4))
    key, value = RANDOM.standard_normal((2, 2, keys, 4)), RANDOM.standard_normal((2, 2, keys, 3))
    bias = RANDOM.standard_normal((1, queries, keys))
    bias[0, 0, : keys // 2] = -np.inf
    types = [f"tensor<?x{heads}x?x4xf64>", "tensor<?x2x?x4xf64>", "tensor<?x2x?x3xf64>", "tensor<1x?x?xf64>"]
    arguments = ", ".join(f"%{name}: {type_}" for name, type_ in zip("qkvb", types, strict=True))
    word = "causal" if causal else ""
    body = f"%r = nn.attention %q, %k, %v bias %b {word} scale 0.3 accumulate f64 : {', '.join(types)}"
    found = run(arguments, body, f"tensor<?x{heads}x?x3xf64>", query, key, value, bias)
    for batch, head, row in np.ndindex(2, heads, queries):
        shared = head * 2 // heads
        # Queries are the last positions: the last one sees the last key.
        last = keys - (queries - 1 - row) if causal else keys
        weights = [
            math.exp(0.3 * math.fsum(query[batch, head, row] * key[batch, shared, n]) + bias[0, row, n])
            for n in range(max(last, 0))
        ]
        total = math.fsum(weights)
        expected = [
            math.fsum(weight * x for weight, x in zip(weights, column, strict=False)) / total if total else 0.0
            for column in value[batch, shared].T
        ]
        np.testing.assert_allclose(found[batch, head, row], expected, rtol=1e-12, atol=1e-14)


def test_attention_checks_sizes():
    type_ = "tensor<?x?x?x4xf64>"
    body = f"%r = nn.attention %q, %k, %k accumulate f64 : {type_}, {type_}, {type_}"
    x = np.zeros((1, 2, 3, 4))
    with pytest.raises(CrosstileError, match="a query of 1x2x3x4, a key of 2x2x3x4 and a value of 2x2x3x4 do not fit"):
        run(f"%q: {type_}, %k: {type_}", body, type_, x, np.zeros((2, 2, 3, 4)))
    with pytest.raises(CrosstileError, match="the query has 2 heads and the key 3, each for 1"):
        run(f"%q: {type_}, %k: {type_}", body, type_, x, np.zeros((1, 3, 3, 4)))


def test_shapes_move_elements_without_computing():
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    body = """%0 = nn.transpose %x [2, 0, 1] : tensor<2x?x4xf32> -> tensor<4x2x?xf32>
      %1 = nn.reshape %0 sizes [%n, %m] : tensor<4x2x?xf32> -> tensor<?x?xf32>
      %2 = nn.reshape %1 : tensor<?x?xf32> -> tensor<?x1xf32>
      %r = nn.broadcast %2 dims [1, 2] sizes [%m, %n] : tensor<?x1xf32> -> tensor<?x?x?xf32>"""
    found = run("%x: tensor<2x?x4xf32>, %n: index, %m: index", body, "tensor<?x?x?xf32>", x, 6, 4)
    np.testing.assert_array_equal(found, np.broadcast_to(x.transpose(2, 0, 1).reshape(24, 1), (4, 24, 6)))
    with pytest.raises(CrosstileError, match=r"cannot give 24 elements \(shape 4x2x3\) the shape 5x4"):
        run("%x: tensor<2x?x4xf32>, %n: index, %m: index", body, "tensor<?x?x?xf32>", x, 5, 4)


def test_casts_round_once_and_truncate():
    x = np.array([1.00390625, -2.75, 3.5, 0.0], np.float32)
    narrow = run("%x: tensor<4xf32>", "%r = nn.cast %x : tensor<4xf32> -> tensor<4xbf16>", "tensor<4xbf16>", x)
    np.testing.assert_array_equal(narrow, x.astype(ml_dtypes.bfloat16))
    whole = run("%x: tensor<4xf32>", "%r = nn.cast %x : tensor<4xf32> -> tensor<4xi32>", "tensor<4xi32>", x)
    np.testing.assert_array_equal(whole, [1, -2, 3, 0])
    bits = run("%x: tensor<4xf32>", "%r = nn.cast %x : tensor<4xf32> -> tensor<4xi1>", "tensor<4xi1>", x)
    np.testing.assert_array_equal(bits, [True, True, True, False])


def test_the_reference_is_not_rounded_to_the_types_of_the_program():
    module = parse("""func.func @f(%x: tensor<?xf32>) -> tensor<?xf32> {
      %third = nn.constant dense<3.0> : tensor<f32>
      %0 = nn.div %x, %third : tensor<?xf32>, tensor<f32>
      %1 = nn.cast %0 : tensor<?xf32> -> tensor<?xbf16>
      %2 = nn.cast %1 : tensor<?xbf16> -> tensor<?xf32>
      func.return %2 : tensor<?xf32>
    }""")
    x = np.array([1.0, 2.0], np.float32)
    (found,) = reference(module, "f", [x])
    np.testing.assert_array_equal(found, np.array([1.0, 2.0]) / 3.0)
    (wide,) = Interpreter(module, UPSTREAM, NN).call("f", [x.astype(np.float64)])
    np.testing.assert_array_equal(found, wide)
