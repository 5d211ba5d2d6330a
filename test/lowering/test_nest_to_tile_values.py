"""What nests compute and what the tile kernels made of them compute, on ragged sizes."""

from collections.abc import Sequence

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp

from crosstile.dialects.host import host_functions, host_signature
from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.nest.meaning import MEANINGS as NEST
from crosstile.dialects.tile.meaning import MEANINGS as TILE
from crosstile.dialects.upstream_meaning import MEANINGS as UPSTREAM
from crosstile.ir.context import make_context
from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.parsing import parse_module
from crosstile.ir.passes import run_passes
from crosstile.ir.pipeline import make_pass, parse_pipeline
from crosstile.ir.printing import print_module

CONTEXT = make_context()


def kernel(name: str, inputs: dict[str, str], nests: str, result: str, schedules: str = "") -> str:
    """A function of one kernel; ``inputs`` are named tensor types, ``nests`` end in %r of type ``result``."""
    arguments = ", ".join(f"%{name}_in : {type_}" for name, type_ in inputs.items())
    bound = ", ".join(f"%{name} = %{name}_in : {type_}" for name, type_ in inputs.items())
    return f"""func.func @main({arguments}) -> {result} {{
      %y = nest.kernel @{name} ({bound}) -> ({result}) {schedules} {{
        {nests}
        nest.yield %r : {result}
      }}
      func.return %y : {result}
    }}"""


PRODUCT_BODY = "{ ^bb0(%p : f32, %q : f32): %t = arith.mulf %p, %q : f32 nest.yield %t : f32 }"


def matmul(lhs: str, rhs: str, result: str, types: tuple[str, str, str], schedules: str = "") -> str:
    nests = f"""%r = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
      ins(%a {lhs}, %b {rhs} : {types[0]}, {types[1]}) -> {result} : {types[2]} {PRODUCT_BODY}"""
    return kernel("product", {"a": types[0], "b": types[1]}, nests, types[2], schedules)


DYNAMIC = ("tensor<?x?xf32>", "tensor<?x?xf32>", "tensor<?x?xf32>")

EPILOGUE = kernel(
    "product_bias_relu",
    {"a": "tensor<?x?xf32>", "b": "tensor<?x?xf32>", "v": "tensor<?xf32>"},
    f"""%c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
          ins(%a (m, k), %b (k, n) : tensor<?x?xf32>, tensor<?x?xf32>) -> (m, n) : tensor<?x?xf32> {PRODUCT_BODY}
        %r = nest.generic [m : parallel, n : parallel]
          ins(%c (m, n), %v (n) : tensor<?x?xf32>, tensor<?xf32>) -> (m, n) : tensor<?x?xf32> {{
        ^bb0(%p : f32, %q : f32):
          %zero = arith.constant 0.0 : f32
          %s = arith.addf %p, %q : f32
          %t = arith.maximumf %s, %zero : f32
          nest.yield %t : f32
        }}""",
    "tensor<?x?xf32>",
)

SMALL_BLOCKS = (
    "schedules [#nest.schedule<loops = [n : 8, k : 4 balanced 2, m : 6, n : 4, m : 2], parallel = m grain 2, lane = n, "
    'stage = [0, 1], intrinsic = "x86.avx512.fma.1x16x1.f32">]'
)

SOFTMAX = kernel(
    "softmax",
    {"a": "tensor<?x?xf32>"},
    """%max = nest.generic [m : parallel, n : reduction] combiner<max> accumulate f32
          ins(%a (m, n) : tensor<?x?xf32>) -> (m, 0) : tensor<?x1xf32> { ^bb0(%p : f32): nest.yield %p : f32 }
        %exp = nest.generic [m : parallel, n : parallel]
          ins(%a (m, n), %max (m, 0) : tensor<?x?xf32>, tensor<?x1xf32>) -> (m, n) : tensor<?x?xf32> {
        ^bb0(%p : f32, %q : f32):
          %d = arith.subf %p, %q : f32
          %t = math.exp %d : f32
          nest.yield %t : f32
        }
        %sum = nest.generic [m : parallel, n : reduction] combiner<add> accumulate f32 fastmath<reassoc>
          ins(%exp (m, n) : tensor<?x?xf32>) -> (m, 0) : tensor<?x1xf32> { ^bb0(%p : f32): nest.yield %p : f32 }
        %r = nest.generic [m : parallel, n : parallel]
          ins(%exp (m, n), %sum (m, 0) : tensor<?x?xf32>, tensor<?x1xf32>) -> (m, n) : tensor<?x?xf32> {
        ^bb0(%p : f32, %q : f32):
          %t = arith.divf %p, %q : f32
          nest.yield %t : f32
        }""",
    "tensor<?x?xf32>",
)

TRANSPOSED_SUM = kernel(
    "transposed_sum",
    {"a": "tensor<?x?xf32>", "b": "tensor<?x?xf32>"},
    """%r = nest.generic [m : parallel, n : parallel]
          ins(%a (m, n), %b (n, m) : tensor<?x?xf32>, tensor<?x?xf32>) -> (m, n) : tensor<?x?xf32> {
        ^bb0(%p : f32, %q : f32):
          %i = nest.index n
          %j = arith.index_cast %i : index to i32
          %f = arith.sitofp %j : i32 to f32
          %s = arith.addf %p, %q : f32
          %t = arith.addf %s, %f : f32
          nest.yield %t : f32
        }""",
    "tensor<?x?xf32>",
)

COLUMN_SUM = kernel(
    "column_sum",
    {"a": "tensor<?x?xf32>"},
    """%r = nest.generic [m : reduction, n : parallel] combiner<add> accumulate f64
          ins(%a (m, n) : tensor<?x?xf32>) -> (n) : tensor<?xf32> {
        ^bb0(%p : f32):
          %t = arith.extf %p : f32 to f64
          nest.yield %t : f64
        }""",
    "tensor<?xf32>",
)

TOTAL = kernel(
    "total",
    {"a": "tensor<?x?xf32>"},
    """%r = nest.generic [m : reduction, n : reduction] combiner<max> accumulate f32
          ins(%a (m, n) : tensor<?x?xf32>) -> () : tensor<f32> { ^bb0(%p : f32): nest.yield %p : f32 }""",
    "tensor<f32>",
)

BATCHED = kernel(
    "batched",
    {"a": "tensor<?x?x?xf32>", "b": "tensor<?x?x?xf32>"},
    f"""%r = nest.generic [b : parallel, m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
          ins(%a (b, m, k), %b (b, k, n) : tensor<?x?x?xf32>, tensor<?x?x?xf32>) -> (b, m, n) : tensor<?x?x?xf32>
          {PRODUCT_BODY}""",
    "tensor<?x?x?xf32>",
)


def at_levels(text: str) -> tuple[ModuleOp, ModuleOp]:
    """The module as it is, and lowered to the tile level."""
    nests = parse_module(text, "input.mlir", CONTEXT)
    tiles = nests.clone()
    run_passes(
        CONTEXT,
        tiles,
        [make_pass(spec) for spec in parse_pipeline("choose-schedule{target=x86-64-avx512},nest-to-tile")],
    )
    return nests, tiles


def run_both(text: str, inputs: Sequence[np.ndarray], workers: int) -> tuple[np.ndarray, np.ndarray]:
    nests, tiles = at_levels(text)
    (expected,) = Interpreter(nests, UPSTREAM, NEST).call("main", inputs)
    (host,) = host_functions(tiles)
    (shape,) = host_signature(host).shapes_of_results([array.shape for array in inputs])
    result = np.full(shape, np.nan, np.float32)
    Interpreter(tiles, UPSTREAM, TILE, workers=workers).call("main", [*inputs, result])
    return expected, result


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("m, n, k", [(0, 3, 4), (1, 1, 1), (5, 7, 0), (7, 1, 11), (1, 67, 13), (13, 70, 9), (17, 5, 3)])
@pytest.mark.parametrize("schedules", ["", SMALL_BLOCKS], ids=["chosen", "small blocks"])
def test_a_product_is_one_chain_over_k_whatever_the_blocks(m: int, n: int, k: int, schedules: str):
    expected, result = run_both(
        matmul("(m, k)", "(k, n)", "(m, n)", DYNAMIC, schedules), [random(m, k), random(k, n)], workers=3
    )
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lhs", ["(m, k)", "(k, m)"])
@pytest.mark.parametrize("rhs", ["(k, n)", "(n, k)"])
@pytest.mark.parametrize("result", ["(m, n)", "(n, m)"])
def test_every_transposition_of_a_product(lhs: str, rhs: str, result: str):
    a = random(5, 9) if lhs == "(m, k)" else random(9, 5)
    b = random(9, 19) if rhs == "(k, n)" else random(19, 9)
    expected, found = run_both(matmul(lhs, rhs, result, DYNAMIC), [a, b], workers=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("m, n, k", [(0, 0, 0), (3, 5, 0), (19, 21, 8), (4, 64, 600)])
def test_an_epilogue_runs_once_after_the_last_block(m: int, n: int, k: int):
    expected, result = run_both(EPILOGUE, [random(m, k), random(k, n), random(n)], workers=2)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("m, n", [(0, 5), (1, 1), (3, 64), (2, 65), (5, 130)])
@pytest.mark.parametrize("text", [SOFTMAX, COLUMN_SUM], ids=["softmax", "column sum"])
def test_rows_and_columns(text: str, m: int, n: int):
    expected, result = run_both(text, [random(m, n)], workers=2)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("m, n", [(1, 1), (3, 5), (9, 70)])
def test_transposed_reads_and_indices(m: int, n: int):
    expected, result = run_both(TRANSPOSED_SUM, [random(m, n), random(n, m)], workers=2)
    np.testing.assert_array_equal(result, expected)


def test_a_reduction_of_everything_has_no_parallel_axis():
    expected, result = run_both(TOTAL, [random(7, 70)], workers=3)
    np.testing.assert_array_equal(result, expected)
    assert run_both(TOTAL, [random(0, 4)], workers=1)[1] == -np.inf


@pytest.mark.parametrize("sizes", [(0, 2, 3, 4), (2, 5, 17, 3), (3, 1, 1, 1)])
def test_batches(sizes: tuple[int, int, int, int]):
    b, m, n, k = sizes
    expected, result = run_both(BATCHED, [random(b, m, k), random(b, k, n)], workers=2)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_sizes_that_must_agree_are_compared_first():
    _, tiles = at_levels(matmul("(m, k)", "(k, n)", "(m, n)", DYNAMIC))
    arrays = [random(3, 4), random(5, 6), np.zeros((3, 6), np.float32)]
    with pytest.raises(CrosstileError, match=r"dimension 0 of argument 1 \('b_in'\) must be dimension 1 of argument 0"):
        Interpreter(tiles, UPSTREAM, TILE).call("main", arrays)


@pytest.mark.parametrize("text", [EPILOGUE, SOFTMAX, TRANSPOSED_SUM, COLUMN_SUM, TOTAL, BATCHED])
def test_what_is_made_reads_back_the_same(text: str):
    _, tiles = at_levels(text)
    again = parse_module(print_module(tiles), "printed.mlir", CONTEXT)
    assert again.is_structurally_equivalent(tiles)
