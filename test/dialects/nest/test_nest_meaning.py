"""Nests in NumPy against loops over points, combiners against their definitions, and the order of the chains."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.nest import meaning
from crosstile.dialects.nest.combiners import COMBINERS
from crosstile.dialects.upstream_meaning import MEANINGS as UPSTREAM
from crosstile.ir.context import make_context
from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.parsing import parse_module
from crosstile.ir.verification import verify_module

RNG = np.random.default_rng(0)


def run(text: str, *arguments: Any) -> tuple[Any, ...]:
    module = parse_module(text, "test.mlir", make_context())
    verify_module(module)
    return Interpreter(module, UPSTREAM, meaning.MEANINGS).call("f", arguments)


def normal(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


MATMUL = """
func.func @f(%a: tensor<?x?xf32>, %b: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
      ins(%a (m, k), %b (k, n) : tensor<?x?xf32>, tensor<?x?xf32>) -> (m, n) : tensor<?x?xf32> {
  ^bb0(%p: f32, %q: f32):
    %t = arith.mulf %p, %q : f32
    nest.yield %t : f32
  }
  func.return %c : tensor<?x?xf32>
}
"""


def sequential_matmul(a: Any, b: Any) -> Any:
    c = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for k in range(a.shape[1]):
        c = c + a[:, k : k + 1] * b[k]
    return c


@pytest.mark.parametrize("m,n,k", [(5, 7, 11), (1, 1, 300), (0, 3, 4), (3, 0, 4), (3, 4, 0), (300, 2, 5)])
def test_matmul_is_the_sequential_chain(m: int, n: int, k: int):
    a, b = normal(m, k), normal(k, n)
    (c,) = run(MATMUL, a, b)
    assert c.dtype == np.float32
    np.testing.assert_array_equal(c, sequential_matmul(a, b))


def test_results_do_not_depend_on_how_much_runs_at_once(monkeypatch: pytest.MonkeyPatch):
    a, b = normal(4, 50), normal(50, 6)
    (whole,) = run(MATMUL, a, b)
    monkeypatch.setattr(meaning, "ELEMENTS_AT_ONCE", 24 * 7)
    np.testing.assert_array_equal(run(MATMUL, a, b)[0], whole)
    monkeypatch.setattr(meaning, "FEW_CHAINS", 0)
    np.testing.assert_array_equal(run(MATMUL, a, b)[0], whole)


def test_accumulator_type_is_wider_than_operands_and_result():
    text = """
    func.func @f(%a: tensor<?xf16>) -> tensor<f16> {
      %c = nest.generic [k : reduction] combiner<add> accumulate f32 ins(%a (k) : tensor<?xf16>) -> () : tensor<f16> {
      ^bb0(%p: f16):
        %t = arith.extf %p : f16 to f32
        nest.yield %t : f32
      }
      func.return %c : tensor<f16>
    }
    """
    # In f16 the sum would stop growing at 2048.
    (total,) = run(text, np.ones(4000, np.float16))
    assert total.dtype == np.float16 and total == 4000


def test_convolution_by_loops():
    text = """
    func.func @f(%x: tensor<?x?x3xf32>, %w: tensor<3x2x3x4xf32>, %size: tensor<?x?xf32>) -> tensor<?x?x4xf32> {
      %y = nest.generic [h : parallel, w : parallel, o : parallel, r : reduction, s : reduction, c : reduction]
          combiner<add> accumulate f32
          ins(%x (h * 2 + r, w + s, c), %w (r, s, c, o), %size (h, w)
              : tensor<?x?x3xf32>, tensor<3x2x3x4xf32>, tensor<?x?xf32>)
          -> (h, w, o) : tensor<?x?x4xf32> {
      ^bb0(%p: f32, %q: f32, %unused: f32):
        %t = arith.mulf %p, %q : f32
        nest.yield %t : f32
      }
      func.return %y : tensor<?x?x4xf32>
    }
    """
    x, w = normal(9, 6, 3), normal(3, 2, 3, 4)
    expected = np.zeros((4, 5, 4), np.float32)
    for i, j in product(range(4), range(5)):
        for r, s, c in product(range(3), range(2), range(3)):
            expected[i, j] += x[2 * i + r, j + s, c] * w[r, s, c]
    np.testing.assert_array_equal(run(text, x, w, np.empty((4, 5), np.float32))[0], expected)
    with pytest.raises(CrosstileError, match=r"index h \* 2 \+ r is 9 in dimension 0 of size 9"):
        run(text, x, w, np.empty((5, 5), np.float32))


def test_sizes_that_differ_are_an_error():
    with pytest.raises(CrosstileError, match="'k' has size 3, but 4 in dimension 0 of input 1"):
        run(MATMUL, normal(2, 3), normal(4, 2))


def test_broadcast_transpose_and_kept_dimension():
    text = """
    func.func @f(%x: tensor<?x1xf32>, %y: tensor<4x?xf32>) -> (tensor<4x?xf32>, tensor<?x1x4xf32>) {
      %a, %b = nest.generic [i : parallel, j : parallel] ins(%x (i, 0), %y (j, i) : tensor<?x1xf32>, tensor<4x?xf32>)
          -> (j, i) : tensor<4x?xf32>, (i, 0, j) : tensor<?x1x4xf32> {
      ^bb0(%p: f32, %q: f32):
        %s = arith.subf %p, %q : f32
        %i = nest.index j
        %n = arith.index_cast %i : index to i32
        %g = arith.sitofp %n : i32 to f32
        nest.yield %s, %g : f32, f32
      }
      func.return %a, %b : tensor<4x?xf32>, tensor<?x1x4xf32>
    }
    """
    x, y = normal(3, 1), normal(4, 3)
    difference, steps = run(text, x, y)
    np.testing.assert_array_equal(difference, (x - y.T).T)
    np.testing.assert_array_equal(steps, np.broadcast_to(np.arange(4, dtype=np.float32), (3, 1, 4)))


def fold(name: str, arguments: int, results: int, scan: bool = False, payload: bool = False) -> str:
    """A function @f that folds rows of tensors %a (m, k)[, %b (m, k) or (k, d)] with a combiner."""
    kind, place = ("scan", "(m, k)") if scan else ("reduction", "(m)")
    loops = f"m : parallel, {'d : payload, ' if payload else ''}k : {kind}"
    last = "(k, d)" if payload else "(m, k)"
    inputs = ", ".join(["%a (m, k)", f"%b {last}"][:arguments])
    places = [place] * results
    types = ["tensor<?x?xf32>" if scan else "tensor<?xf32>"] * results
    if payload:
        places[-1], types[-1] = "(m, d)", "tensor<?x?xf32>"
    signature = ", ".join(["%a: tensor<?x?xf32>", "%b: tensor<?x?xf32>"][:arguments])
    operands = ", ".join(["tensor<?x?xf32>"] * arguments)
    values = ", ".join(["%p", "%q"][:arguments])
    return f"""
    func.func @f({signature}) -> ({", ".join(types)}) {{
      {", ".join(f"%r{i}" for i in range(results))} = nest.generic [{loops}] combiner<{name}> accumulate f32
          ins({inputs} : {operands}) -> {", ".join(f"{p} : {t}" for p, t in zip(places, types, strict=True))} {{
      ^bb0({", ".join(f"{v} : f32" for v in ["%p", "%q"][:arguments])}):
        nest.yield {values} : {", ".join(["f32"] * arguments)}
      }}
      func.return {", ".join(f"%r{i}" for i in range(results))} : {", ".join(types)}
    }}
    """


@pytest.mark.parametrize("rows", [3, 400])
@pytest.mark.parametrize("name,reference", [("add", np.sum), ("mul", np.prod), ("max", np.max), ("min", np.min)])
def test_single_value_combiners(name: str, reference: Any, rows: int):
    a = normal(rows, 9)
    (result,) = run(fold(name, 1, 1), a)
    np.testing.assert_allclose(result, reference(a.astype(np.float64), 1), rtol=1e-5, atol=1e-6)
    (empty,) = run(fold(name, 1, 1), normal(rows, 0))
    np.testing.assert_array_equal(empty, np.full(rows, COMBINERS[name].components[0].identity, np.float32))


@pytest.mark.parametrize("rows", [3, 400])
@pytest.mark.parametrize("name,accumulate", [("add", np.cumsum), ("max", np.maximum.accumulate)])
def test_scans_keep_every_prefix(name: str, accumulate: Any, rows: int):
    a = normal(rows, 9)
    (result,) = run(fold(name, 1, 1, scan=True), a)
    np.testing.assert_array_equal(result, accumulate(a, 1))


def test_maximum_and_argmax_of_special_values():
    a = np.array([[1, np.nan, 3], [-np.inf, -np.inf, -np.inf], [2, 5, 5]], np.float32)
    np.testing.assert_array_equal(run(fold("max", 1, 1), a)[0], np.array([np.nan, -np.inf, 5], np.float32))
    state = COMBINERS["argmax"]
    values = (np.full(3, -np.inf), np.full(3, -1))
    for k in range(3):
        values = state.combine(np, values, (a[:, k], np.full(3, k)))
    assert values[1].tolist()[1:] == [0, 1]


def test_welford():
    a = normal(5, 40) * 3 + 1000
    count, mean, squares = run(fold("welford", 1, 3), a)
    np.testing.assert_array_equal(count, np.full(5, 40, np.float32))
    np.testing.assert_allclose(mean, a.astype(np.float64).mean(1), rtol=1e-6)
    np.testing.assert_allclose(squares / count, a.astype(np.float64).var(1), rtol=1e-3)


def test_logsumexp_and_its_empty_and_infinite_rows():
    a = normal(4, 30) * 50
    a[1] = -np.inf
    maximum, total = run(fold("logsumexp", 1, 2), a)
    wide = a.astype(np.float64)
    np.testing.assert_array_equal(maximum, a.max(1))
    np.testing.assert_allclose(
        maximum[[0, 2, 3]] + np.log(total[[0, 2, 3]]), np.logaddexp.reduce(wide, 1)[[0, 2, 3]], rtol=1e-6
    )
    assert total[1] == 0


def test_softmax_weighted_sum_is_attention():
    scores, values = normal(4, 30) * 5, normal(30, 8)
    maximum, total, weighted = run(fold("softmax_weighted_sum", 2, 3, payload=True), scores, values)
    wide = np.exp(scores.astype(np.float64) - scores.max(1, keepdims=True))
    assert maximum.shape == total.shape == (4,)
    np.testing.assert_allclose(
        weighted / total[:, None], wide @ values / wide.sum(1, keepdims=True), rtol=2e-5, atol=1e-6
    )


def test_affine_scan_is_a_linear_recurrence():
    factor, offset = normal(3, 20), normal(3, 20)
    _, state = run(fold("affine", 2, 2, scan=True), factor, offset)
    h = np.zeros(3, np.float32)
    for k in range(20):
        h = factor[:, k] * h + offset[:, k]
        np.testing.assert_array_equal(state[:, k], h)


@pytest.mark.parametrize("name", COMBINERS)
def test_combining_is_associative_with_an_identity(name: str):
    row = COMBINERS[name]
    wide = np.random.default_rng(1)

    def state() -> Any:
        return row.lift(np, [np.full(3, 2) if value.integer else wide.standard_normal(3) for value in row.yields])

    one, two, three = state(), state(), state()
    left = row.combine(np, row.combine(np, one, two), three)
    right = row.combine(np, one, row.combine(np, two, three))
    identity = tuple(np.full(3, component.identity) for component in row.components)
    for a, b, c, d, e in zip(
        left, right, row.combine(np, identity, one), row.combine(np, one, identity), one, strict=True
    ):
        np.testing.assert_allclose(a, b)
        np.testing.assert_allclose(c, e)
        np.testing.assert_allclose(d, e)


def test_commutative_says_whether_steps_may_be_swapped():
    for row in COMBINERS.values():
        one, two = ([np.float64(value + i) for i in range(len(row.yields))] for value in (0.25, -1.5))
        ab = row.combine(np, row.lift(np, one), row.lift(np, two))
        ba = row.combine(np, row.lift(np, two), row.lift(np, one))
        assert np.allclose(ab, ba) == row.commutative, row.name
