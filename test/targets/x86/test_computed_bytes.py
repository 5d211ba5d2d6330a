"""Products of bytes with factors that their kernels compute: exact, whatever the signs, for any batch and threads."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import crosstile

Array = np.ndarray[Any, np.dtype[Any]]
BYTES, FLOATS = "tensor<?x?xi8>", "tensor<?x?xf32>"
SIZES = [(1, 1, 1), (0, 5, 3), (5, 3, 0), (7, 13, 17), (1, 100, 70), (33, 67, 131), (65, 11, 2300), (600, 40, 3)]
"""Rows, columns and the length of the sums."""
SIGNS = [
    *(("x86-64-avx512-vnni", signs) for signs in ("", "unsigned_a", "unsigned_b", "unsigned_a, unsigned_b")),
    *((target, signs) for target in ("host", "x86-64-avx2-vnni") for signs in ("", "unsigned_a")),
]
QUANTISED = f"""%s = nn.constant dense<12.5> : tensor<f32>
  %hi = nn.constant dense<127.0> : tensor<f32>
  %lo = nn.constant dense<-127.0> : tensor<f32>
  %m = nn.mul %x, %s : {FLOATS}, tensor<f32>
  %n = nn.min %m, %hi : {FLOATS}, tensor<f32>
  %o = nn.max %n, %lo : {FLOATS}, tensor<f32>
  %a = nn.cast %o : {FLOATS} -> {BYTES}"""
LEFT = {"as it is": (BYTES, ""), "relu": (BYTES, f"%a = nn.relu %x : {BYTES}"), "quantised": (FLOATS, QUANTISED)}


@cache
def compiled(name: str, target: str, attributes: str = "") -> Any:
    type_, body = LEFT[name]
    marks = f"{{{attributes}}} " if attributes else ""
    return crosstile.compile(
        f"""func.func @main(%x: {type_}, %w: {BYTES}) -> tensor<?x?xi32> {{
  {body}
  %y = nn.matmul {"%a" if body else "%x"}, %w {marks}accumulate i32 : {BYTES}, {BYTES} -> tensor<?x?xi32>
  func.return %y : tensor<?x?xi32>
}}""",
        target=target,
    )


def arguments(name: str, rows: int, columns: int, depth: int) -> list[Array]:
    random = np.random.default_rng(rows + columns + depth)
    if name == "quantised":
        left = 6 * random.standard_normal((rows, depth)).astype(np.float32)
    else:
        left = random.integers(-128, 128, (rows, depth)).astype(np.int8)
    return [left, random.integers(-128, 128, (depth, columns)).astype(np.int8)]


def factor(name: str, x: Array) -> Array:
    """What the program computes from ``x`` before the product."""
    if name == "quantised":
        return np.clip(x * np.float32(12.5), -127, 127).astype(np.int8)
    return np.maximum(x, 0) if name == "relu" else x


def product(left: Array, right: Array, attributes: str = "") -> Array:
    wide = [
        (array.view(np.uint8) if f"unsigned_{name}" in attributes else array).astype(np.int32)
        for name, array in (("a", left), ("b", right))
    ]
    return wide[0] @ wide[1]


@pytest.mark.parametrize("name", LEFT)
@pytest.mark.parametrize(("target", "attributes"), SIGNS)
def test_exact(name: str, target: str, attributes: str):
    function = compiled(name, target, attributes)
    for sizes in SIZES:
        x, w = arguments(name, *sizes)
        expected = product(factor(name, x), w, attributes)
        np.testing.assert_array_equal(function(x, w), expected)
        np.testing.assert_array_equal(function(x, w, threads=3), expected)


@pytest.mark.parametrize("name", ["relu", "quantised"])
@pytest.mark.parametrize("attributes", ["", "transpose_a"])
def test_one_kernel(name: str, attributes: str):
    """Nothing but the sums of the right factor's columns comes before the product, also where it is read across."""
    function = compiled(name, "x86-64-avx512-vnni", attributes)
    assert all(kernel.startswith("column_sums") or "_matmul" in kernel for kernel in function.kernels)
    for sizes in SIZES:
        x, w = arguments(name, *sizes)
        given = np.ascontiguousarray(x.T) if attributes else x
        np.testing.assert_array_equal(function(given, w), product(factor(name, x), w))


RIGHT = {
    "relu": (BYTES, f"%b = nn.relu %w : {BYTES}"),
    "quantised": (FLOATS, QUANTISED.replace("%x", "%w").replace("%a", "%b")),
}


@cache
def compiled_right(name: str, target: str, attributes: str) -> Any:
    type_, body = RIGHT[name]
    marks = f"{{{attributes}}} " if attributes else ""
    return crosstile.compile(
        f"""func.func @main(%x: {BYTES}, %w: {type_}) -> tensor<?x?xi32> {{
  {body}
  %y = nn.matmul %x, %b {marks}accumulate i32 : {BYTES}, {BYTES} -> tensor<?x?xi32>
  func.return %y : tensor<?x?xi32>
}}""",
        target=target,
    )


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize(
    ("target", "attributes"), [*SIGNS, ("host", "transpose_b"), ("host", "unsigned_a, transpose_b")]
)
def test_right_factors(name: str, target: str, attributes: str):
    """Computed in words where panels are packed, whatever the signs: flipped there, after the sums of the left rows."""
    function = compiled_right(name, target, attributes)
    if target != "host":
        assert all(kernel.startswith("row_sums") or "_matmul" in kernel for kernel in function.kernels)
    for rows, columns, depth in SIZES:
        x, w = arguments("relu", rows, columns, depth)[0], arguments(name, depth, rows, columns)[0]
        expected = product(x, factor(name, w), attributes)
        given = np.ascontiguousarray(w.T) if "transpose_b" in attributes else w
        np.testing.assert_array_equal(function(x, given), expected)
        np.testing.assert_array_equal(function(x, given, threads=3), expected)


def test_batches():
    types = "tensor<?x?x?xi8>"
    function = crosstile.compile(
        f"""func.func @main(%x: {types}, %w: {types}) -> tensor<?x?x?xi32> {{
  %a = nn.relu %x : {types}
  %y = nn.batch_matmul %a, %w accumulate i32 : {types}, {types} -> tensor<?x?x?xi32>
  func.return %y : tensor<?x?x?xi32>
}}""",
        target="x86-64-avx512-vnni",
    )
    random = np.random.default_rng(0)
    for b, m, n, k in [(1, 1, 1, 1), (3, 5, 17, 9), (2, 40, 70, 33), (0, 2, 3, 4)]:
        x, w = (random.integers(-128, 128, shape).astype(np.int8) for shape in ((b, m, k), (b, k, n)))
        expected = np.maximum(x, 0).astype(np.int32) @ w.astype(np.int32)
        np.testing.assert_array_equal(function(x, w), expected)


@pytest.mark.parametrize("sign", ["", " {unsigned_a}"])
def test_weights_packed_ahead(sign: str):
    function = crosstile.compile(
        f"""func.func @main(%x: {BYTES}, %w: {BYTES} {{nn.weight}}) -> tensor<?x?xi32> {{
  %a = nn.relu %x : {BYTES}
  %y = nn.matmul %a, %w{sign} accumulate i32 : {BYTES}, {BYTES} -> tensor<?x?xi32>
  func.return %y : tensor<?x?xi32>
}}""",
        target="x86-64-avx512-vnni",
    )
    for sizes in SIZES:
        x, w = arguments("relu", *sizes)
        np.testing.assert_array_equal(function.bind(w=w)(x), product(np.maximum(x, 0), w))


@pytest.mark.parametrize("depth", [2048, 2053, 4099])
@pytest.mark.parametrize("attributes", ["", "{unsigned_a} "])
def test_long_rows(depth: int, attributes: str):
    """Rows of bytes longer than a block of k are computed before the product."""
    function = crosstile.compile(
        f"""func.func @main(%x: tensor<?x{depth}xi8>, %w: tensor<{depth}x?xi8>) -> tensor<?x?xi32> {{
  %a = nn.relu %x : tensor<?x{depth}xi8>
  %y = nn.matmul %a, %w {attributes}accumulate i32 : tensor<?x{depth}xi8>, tensor<{depth}x?xi8> -> tensor<?x?xi32>
  func.return %y : tensor<?x?xi32>
}}""",
        target="x86-64-avx512-vnni",
    )
    assert ("relu_matmul" in function.kernels) == (depth <= 2048)
    for rows, columns in [(0, 3), (1, 1), (37, 70), (131, 17)]:
        x, w = arguments("relu", rows, columns, depth)
        expected = product(factor("relu", x), w)
        np.testing.assert_array_equal(function(x, w), expected)
        np.testing.assert_array_equal(function(x, w, threads=3), expected)
