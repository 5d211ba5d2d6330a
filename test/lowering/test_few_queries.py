"""Attention of few queries in machine code: right, and bit for bit what the same queries give among many.

Blocks of few queries have queries, or the heads that share keys, as rows and keys across lanes, blocks of many have
queries across lanes; a program that knows how many there are has a kernel of its own.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import crosstile
from crosstile.targets.host import host_features, resolve_machine
from crosstile.tools.api import CompiledFunction

Array = np.ndarray[Any, np.dtype[Any]]
DTYPES = {"f32": np.float32, "bf16": ml_dtypes.bfloat16, "f16": np.float16}
MANY = 37
KEYS = (0, 1, 17, 64, 131)
HEADS = [(2, 2, 64, 64), (6, 2, 16, 7), (18, 1, 5, 33), (2, 1, 80, 528)]
"""Heads, those of keys, and the dimensions of a key and of a value: rows alone, three and 18 to a key, long ones."""


@cache
def compiled(
    target: str, element: str, heads: tuple[int, int, int, int], queries: int | str, words: str
) -> CompiledFunction:
    """Attention of so many queries, or of any number of them (``?``)."""
    h, shared, d, e = heads
    q, y = f"tensor<?x{h}x{queries}x{d}x{element}>", f"tensor<?x{h}x{queries}x{e}x{element}>"
    k, v = (f"tensor<?x{shared}x?x{size}x{element}>" for size in (d, e))
    text = f"""func.func @main(%q : {q}, %k : {k}, %v : {v}) -> {y} {{
      %y = nn.attention %q, %k, %v {words} scale 0.3 accumulate f32 : {q}, {k}, {v}
      func.return %y : {y}
    }}"""
    return crosstile.compile(text, target=target)


def random(element: str, *shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(DTYPES[element])


def reference(q: Array, k: Array, v: Array, is_causal: bool) -> Array:
    """Attention in float64; a query that sees no key gets zeros."""
    q, k, v = (array.astype(np.float64) for array in (q, k, v))
    k, v = (np.repeat(array, q.shape[1] // array.shape[1], axis=1) for array in (k, v))
    scores: Array = q @ k.swapaxes(-1, -2) * 0.3
    if is_causal:
        m, n = scores.shape[-2:]
        scores = np.where(np.tri(m, n, n - m, bool), scores, -np.inf)
    weights = np.exp(scores - np.max(scores, -1, keepdims=True, initial=-1e300))
    return weights / np.maximum(weights.sum(-1, keepdims=True), 1e-30) @ v


def on(target: str, element: str) -> Any:
    """A case for processors that have all features of ``target``."""
    here = set(resolve_machine(target).features) <= host_features()
    return pytest.param(target, element, marks=pytest.mark.skipif(not here, reason=f"no {target} here"))


@pytest.mark.parametrize(
    ("target", "element"),
    [
        on("x86-64-avx512", "f32"),
        on("x86-64-avx2", "f32"),
        on("x86-64-avx512-bf16", "bf16"),
        on("x86-64-avx2", "f16"),
    ],
)
@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_few_queries_have_the_bits_that_they_have_among_many(
    target: str, element: str, heads: tuple[int, int, int, int]
):
    h, shared, d, e = heads
    tolerance = 1e-5 if element == "f32" else 2.0**-6
    function, alone = (compiled(target, element, heads, queries, "") for queries in ("?", 1))
    for keys in KEYS:
        q, k, v = (random(element, 2, *shape) for shape in ((h, MANY, d), (shared, keys, d), (shared, keys, e)))
        whole = function(q, k, v, threads=1)
        np.testing.assert_allclose(whole.astype(float), reference(q, k, v, False), rtol=tolerance, atol=tolerance)
        for count in (1, 2, 3, 4, 5):
            part = function(np.ascontiguousarray(q[:, :, :count]), k, v, threads=2)
            np.testing.assert_array_equal(part, whole[:, :, :count])
        np.testing.assert_array_equal(alone(np.ascontiguousarray(q[:, :, :1]), k, v, threads=1), whole[:, :, :1])


@pytest.mark.parametrize(("target", "element"), [on("x86-64-avx512", "f32"), on("x86-64-avx2", "f32")])
@pytest.mark.parametrize("queries", [1, 3, 5, 8, "?"])
def test_few_queries_see_the_keys_before_them(target: str, element: str, queries: int | str):
    """Of fewer keys than queries the first see none."""
    heads = (4, 2, 16, 16)
    for count in (queries,) if isinstance(queries, int) else (1, 4, 5):
        for keys in (0, 1, 3, 64, 70, 131):
            q, k, v = (random(element, 1, *shape) for shape in ((4, count, 16), (2, keys, 16), (2, keys, 16)))
            result = compiled(target, element, heads, queries, "causal")(q, k, v)
            np.testing.assert_allclose(result, reference(q, k, v, True), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("element", DTYPES)
@pytest.mark.parametrize("queries", [1, 3, "?"])
def test_keys_that_lie_along_each_other_are_read_in_place(element: str, queries: int | str):
    """Keys kept as a matrix of heads by keys give the bits of keys by heads, which are packed."""
    q, y = (f"tensor<3x{queries}x{size}x{element}>" for size in (20, 9))
    v, s, w = f"tensor<3x?x9x{element}>", f"tensor<3x{queries}x?xf32>", f"tensor<3x{queries}x?x{element}>"
    cast = "" if element == "f32" else f"%r = nn.cast %w : {s} -> {w}"

    def attend(k: str, along: str) -> CompiledFunction:
        return crosstile.compile(f"""func.func @main(%q : {q}, %k : {k}, %v : {v}) -> {y} {{
          %s = nn.contract [h, m, n, d] %q (h, m, d), %k ({along}) -> (h, m, n) accumulate f32 : {q}, {k} -> {s}
          %w = nn.softmax %s dim 2 : {s}
          {cast}
          %y = nn.contract [h, m, e, n] {"%r" if cast else "%w"} (h, m, n), %v (h, n, e) -> (h, m, e) accumulate f32
              : {w}, {v} -> {y}
          func.return %y : {y}
        }}""")

    packed = attend(f"tensor<3x?x20x{element}>", "h, n, d")
    in_place = attend(f"tensor<3x20x?x{element}>", "h, d, n")
    for count in (queries,) if isinstance(queries, int) else (1, 4, 9):
        for keys in (1, 64, 131):
            arrays = [random(element, 3, *shape) for shape in ((count, 20), (keys, 20), (keys, 9))]
            columns = np.ascontiguousarray(arrays[1].swapaxes(1, 2))
            np.testing.assert_array_equal(packed(*arrays), in_place(arrays[0], columns, arrays[2]))


def test_one_query_without_heads():
    """No loop is left but those over keys: a grid of the values' dimension, which one block covers."""
    text = """func.func @main(%q : tensor<1x16xf32>, %k : tensor<?x16xf32>, %b : tensor<1x?xf32>) -> tensor<1x16xf32> {
      %p = nn.matmul %q, %k {transpose_b} accumulate f32 : tensor<1x16xf32>, tensor<?x16xf32> -> tensor<1x?xf32>
      %s = nn.add %p, %b : tensor<1x?xf32>, tensor<1x?xf32>
      %w = nn.softmax %s dim 1 : tensor<1x?xf32>
      %y = nn.matmul %w, %k accumulate f32 : tensor<1x?xf32>, tensor<?x16xf32> -> tensor<1x16xf32>
      func.return %y : tensor<1x16xf32>
    }"""
    function = crosstile.compile(text)
    for keys in (1, 63, 130):
        q, k, b = random("f32", 1, 16), random("f32", keys, 16), random("f32", 1, keys)
        weights = np.exp((q @ k.T + b).astype(np.float64))
        expected = weights @ k / weights.sum()
        np.testing.assert_allclose(function(q, k, b), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(function(q, random("f32", 0, 16), random("f32", 1, 0)), np.zeros((1, 16)))
