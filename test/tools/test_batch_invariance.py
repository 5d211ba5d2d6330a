"""A row's result does not depend on the rows beside it: a batch of one gives the bits that it has in a batch of many.

Few rows, many rows, narrow and wide results are variants of a kernel with schedules of their own, so this holds only if
all of them add up in the same order with the same instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from crosstile.targets.host import host_machine
from crosstile.tools.api import CompiledFunction, compile

ROWS = 67
BATCHES = (1, 2, 5, 16, 17, 33, ROWS)
TARGETS = (host_machine().name, "x86-64-avx2")
Array = np.ndarray[Any, np.dtype[Any]]


def product(element: str, total: str) -> str:
    """Rows times weights, and a bias where it is of floats."""
    type_, result = f"tensor<?x?x{element}>", f"tensor<?x?x{total}>"
    return f"""func.func @main(%x: {type_}, %w: {type_}) -> {result} {{
  %y = nn.matmul %x, %w accumulate {total} : {type_}, {type_} -> {result}
  func.return %y : {result}
}}"""


ROWWISE = """func.func @main(%x: tensor<?x?xf32>, %w: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %a = nn.softmax %x dim 1 : tensor<?x?xf32>
  %b = nn.matmul %a, %w accumulate f32 : tensor<?x?xf32>, tensor<?x?xf32> -> tensor<?x?xf32>
  %y = nn.gelu %b : tensor<?x?xf32>
  func.return %y : tensor<?x?xf32>
}"""
PROGRAMS: dict[str, tuple[str, Any]] = {
    "f32": (product("f32", "f32"), np.float32),
    "f64": (product("f64", "f64"), np.float64),
    "bf16": (product("bf16", "f32"), ml_dtypes.bfloat16),
    "softmax, product, gelu": (ROWWISE, np.float32),
}


def same_bits(function: CompiledFunction, whole: Array, part: Callable[[int, int], list[Array]]) -> None:
    """Compare every batch, wherever it begins, with the same rows of the whole."""
    for size in BATCHES:
        for begin in (0, ROWS - size):
            alone = function(*part(begin, begin + size))
            np.testing.assert_array_equal(alone.view(np.uint8), whole[begin : begin + size].view(np.uint8))


@pytest.mark.parametrize("name, target", [(name, each) for name in PROGRAMS for each in TARGETS])
@pytest.mark.parametrize("columns, depth", [(1, 40), (10, 700), (129, 61)])
def test_a_row_has_the_same_bits_in_any_batch(name: str, target: str, columns: int, depth: int):
    text, dtype = PROGRAMS[name]
    function = compile(text, target=target)
    random = np.random.default_rng(0)
    x = random.standard_normal((ROWS, depth)).astype(dtype)
    w = random.standard_normal((depth, columns)).astype(dtype)
    same_bits(function, function(x, w), lambda begin, end: [x[begin:end], w])


ATTENTION = """func.func @main(%q: tensor<?x2x?x16xf32>, %k: tensor<?x2x?x16xf32>, %v: tensor<?x2x?x16xf32>)
    -> tensor<?x2x?x16xf32> {
  %y = nn.attention %q, %k, %v accumulate f32 : tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>
  func.return %y : tensor<?x2x?x16xf32>
}"""


@pytest.mark.parametrize("target", TARGETS)
def test_a_query_has_the_same_bits_beside_any_others(target: str):
    function = compile(ATTENTION, target=target)
    random = np.random.default_rng(1)
    q = random.standard_normal((1, 2, ROWS, 16)).astype(np.float32)
    k, v = (random.standard_normal((1, 2, 150, 16)).astype(np.float32) for _ in range(2))
    whole = function(q, k, v)
    for size in BATCHES:
        for begin in (0, ROWS - size):
            alone = function(np.ascontiguousarray(q[:, :, begin : begin + size]), k, v)
            np.testing.assert_array_equal(alone, whole[:, :, begin : begin + size])
    two = function(np.concatenate([q, q]), np.concatenate([k, k]), np.concatenate([v, v]))
    np.testing.assert_array_equal(two, np.concatenate([whole, whole]))
