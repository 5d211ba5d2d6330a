"""The quick way into a function takes what it may take, and leaves everything else, undone, to the general way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import crosstile
from crosstile.targets.x86.quick_call import SMALL_ELEMENTS, QuickCall, quick_call

ADD = """func.func @main(%x: tensor<?xf32>, %y: tensor<?xf32>) -> tensor<?xf32> {
  %z = nn.add %x, %y : tensor<?xf32>, tensor<?xf32>
  func.return %z : tensor<?xf32>
}
"""
SOFTMAX = """func.func @main(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %y = nn.softmax %x dim 1 : tensor<?x8xf32>
  func.return %y : tensor<?x8xf32>
}
"""
TWO = """func.func @main(%x: tensor<?xf32>) -> (tensor<?xf32>, tensor<?xf32>) {
  %y = nn.exp %x : tensor<?xf32>
  %z = nn.tanh %x : tensor<?xf32>
  func.return %y, %z : tensor<?xf32>, tensor<?xf32>
}
"""
X, Y, Z = (np.arange(9, dtype=np.float32) + start for start in range(3))


@pytest.fixture
def add() -> crosstile.CompiledFunction:
    function = crosstile.compile(ADD)
    function(X, Y)
    return function


@pytest.fixture
def quick(add: crosstile.CompiledFunction) -> QuickCall:
    return quick_call(add.host_function)


def test_it_adds(quick: QuickCall):
    np.testing.assert_array_equal(quick((X, Y), None), X + Y)
    out = np.zeros_like(X)
    assert quick((X, Y), out) is out
    np.testing.assert_array_equal(out, X + Y)
    np.testing.assert_array_equal(quick((X, X), None), X + X)


READ_ONLY = np.zeros(9, np.float32)
READ_ONLY.flags.writeable = False
UNALIGNED: Any = np.zeros(37, np.uint8)[1:].view(np.float32)


OTHERS: list[tuple[object, ...]] = [
    (X,),
    (X, Y, Z),
    (X, Y.tolist()),
    (X, 3.0),
    (X, Y[:-1]),
    (X, Y[::-1]),
    (X, Y.astype(np.float64)),
    (X, Y.astype(">f4")),
    (X, UNALIGNED),
    (X[:4], Y[:4]),
    (np.ma.masked_array(X), Y),
    (X.reshape(3, 3), Y.reshape(3, 3)),
]


@pytest.mark.parametrize("arguments", OTHERS, ids=str)
def test_other_arguments_are_left(quick: QuickCall, arguments: tuple[object, ...]):
    assert quick(arguments, None) is None


@pytest.mark.parametrize(
    "out", [X[::-1], np.zeros(9), np.zeros(8, np.float32), READ_ONLY, UNALIGNED, [X], (X,), X, "x"], ids=str
)
def test_other_outputs_are_left(quick: QuickCall, out: object):
    before = X.copy()
    assert quick((X, Y), out) is None
    np.testing.assert_array_equal(X, before)


def test_what_is_left_is_done_or_refused(add: crosstile.CompiledFunction):
    x = X.copy()
    assert add(x, Y, out=x) is x
    np.testing.assert_array_equal(x, X + Y)
    np.testing.assert_array_equal(add(X, Y[::-1]), X + Y[::-1])
    with pytest.raises(crosstile.CrosstileError, match="read-only"):
        add(X, Y, out=READ_ONLY)
    with pytest.raises(crosstile.CrosstileError, match="takes 2 arguments"):
        add(X)
    with pytest.raises(crosstile.CrosstileError):
        add(X, Y[:-1])


def test_large_calls_and_several_results_are_left(add: crosstile.CompiledFunction, quick: QuickCall):
    large = np.zeros(SMALL_ELEMENTS, np.float32)
    add(large, large)
    assert quick((large, large), None) is None
    two = crosstile.compile(TWO)
    two(X)
    assert quick_call(two.host_function)((X,), None) is None


def test_one_argument_and_scratch(quick: QuickCall):
    softmax = crosstile.compile(SOFTMAX)
    x = np.linspace(0, 1, 40, dtype=np.float32).reshape(5, 8)
    expected = softmax(x)
    np.testing.assert_array_equal(quick_call(softmax.host_function)((x,), None), expected)
    np.testing.assert_array_equal(softmax(x), expected)
