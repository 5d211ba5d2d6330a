"""Error bounds: float32 executions in every allowed order lie inside, wrong ones do not, and there is little room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from float32_programs import Execution, run_float32
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from round_trip import parse
from xdsl.dialects.builtin import ModuleOp, ShapedType
from xdsl.dialects.func import FuncOp

from crosstile.dialects.nn import bounded
from crosstile.dialects.nn.bounded import Bounded, format_of_dtype
from crosstile.dialects.nn.dims import argument_shapes, dim_names
from crosstile.dialects.nn.error_bound import Comparison, bound_program, compare

Array = NDArray[Any]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NAMES = sorted(
    path.relative_to(EXAMPLES).as_posix()
    for path in [*EXAMPLES.glob("*.mlir"), *EXAMPLES.glob("digits/*.mlir")]
    if "xi8>" not in path.read_text()
)
"""Products of integers are exact: there is no order and no bound that could be too loose."""

EXECUTIONS = [
    Execution(),
    Execution(fused=True),
    Execution(order="interleaved"),
    Execution(order="numpy"),
]
LEAST_SIZES = [1, 2, 7]
LARGE_SIZES = [101, 2000]
LOOSEST = {"attention.mlir": 1000, "digits/digits.mlir": 600, "encoder.mlir": 1e7, "matmul_long_k.mlir": 1e6}
"""The largest bound / error; 500 where none is given. In the bound of attention the errors of all weights of a row add
up, while those that are made mostly cancel: 627 where NumPy adds up 2000 products in an order of its own. The worst
case of many layers one after the other, as in the encoder, never happens in all of them at once, nor does that of 8192
products that may be added up in any order."""


def function_of(module: ModuleOp) -> FuncOp:
    (function,) = (op for op in module.ops if isinstance(op, FuncOp))
    return function


def random_inputs(module: ModuleOp, seed: int, **sizes: int) -> list[Array]:
    """Normal numbers in the shapes that the sizes of named dimensions give; those without a size have 2."""
    random = np.random.default_rng(seed)
    function = function_of(module)
    names = dim_names(function)
    shapes = argument_shapes(function, {name: sizes.get(name, 2) for name in names})
    dtypes = [
        np.float64 if isinstance(type_, ShapedType) and "f64" in str(type_) else np.float32
        for type_ in function.function_type.inputs
    ]
    return [random.standard_normal(shapes[i]).astype(dtypes[i]) for i in range(len(dtypes))]


def check(module: ModuleOp, inputs: list[Array], results: tuple[Array, ...]) -> list[Comparison]:
    symbol = function_of(module).sym_name.data
    return [
        compare(found, expected, bound)
        for found, (expected, bound) in zip(results, bound_program(module, symbol, inputs), strict=True)
    ]


@pytest.mark.parametrize("execution", EXECUTIONS, ids=str)
@pytest.mark.parametrize("size", LEAST_SIZES + LARGE_SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_examples_are_accepted_in_every_order_and_tightly(name: str, size: int, execution: Execution):
    module = parse((EXAMPLES / name).read_text())
    inputs = random_inputs(module, size, M=min(size, 33), N=size if "matmul" not in name else min(size, 33), K=size)
    for comparison in check(module, inputs, run_float32(module, "main", inputs, execution)):
        assert comparison.right, f"{comparison}"
        assert comparison.undetermined == 0
        assert comparison.tightness < LOOSEST.get(name, 500) or comparison.error == 0, f"{comparison}"


_MATRIX, _ROW = "tensor<?x?xf32>", "tensor<?xf32>"
OPERATORS: dict[str, str] = {
    # Each on matrices %a and %b and a vector %v as long as a row.
    "matmul": f"nn.matmul %a, %b accumulate f32 : {_MATRIX}, {_MATRIX}",
    "matmul_transposed": f"nn.matmul %a, %b {{transpose_b}} accumulate f32 : {_MATRIX}, {_MATRIX}",
    "contract": f"nn.contract [m, n, k] %a (k, m), %b (k, n) -> (m, n) accumulate f32 : {_MATRIX}, {_MATRIX}",
    "softmax": f"nn.softmax %a dim 1 : {_MATRIX}",
    "layer_norm": f"nn.layer_norm %a, %v, %v epsilon 1.0e-5 : {_MATRIX}, {_ROW}, {_ROW}",
    "rms_norm": f"nn.rms_norm %a, %v epsilon 1.0e-5 : {_MATRIX}, {_ROW}",
    "reduce": f"nn.reduce add %a dims [1] keep_dims : {_MATRIX} -> tensor<?x1xf32>",
    **{
        name: f"nn.{name} %a : {_MATRIX}"
        for name in ("neg", "abs", "exp", "tanh", "erf", "gelu", "silu", "sigmoid", "relu")
    },
    **{name: f"nn.{name} %a, %v : {_MATRIX}, {_ROW}" for name in ("add", "sub", "mul", "div")},
    **{name: f"nn.{name} %a, %b : {_MATRIX}, {_MATRIX}" for name in ("max", "min")},
}
SUMS = ("matmul", "matmul_transposed", "contract", "softmax", "layer_norm", "rms_norm", "reduce")


def operator_program(name: str, epilogue: str = "") -> ModuleOp:
    operation = OPERATORS[name]
    result = operation.rpartition("-> ")[2] if "->" in operation and name == "reduce" else "tensor<?x?xf32>"
    return parse(f"""func.func @f(%a: tensor<?x?xf32>, %b: tensor<?x?xf32>, %v: tensor<?xf32>) -> {result} {{
      %0 = {operation}
      {epilogue}
      func.return %{1 if epilogue else 0} : {result}
    }}""")


def operator_inputs(size: int) -> list[Array]:
    random = np.random.default_rng(size)
    return [random.standard_normal(shape).astype(np.float32) for shape in ((size, size), (size, size), (size,))]


@pytest.mark.parametrize("size", [2, 33, 300])
@pytest.mark.parametrize("name", SUMS)
def test_a_sum_without_its_last_step_is_rejected(name: str, size: int):
    module, inputs = operator_program(name), operator_inputs(size)
    (comparison,) = check(module, inputs, run_float32(module, "f", inputs, Execution(drop_last=True)))
    assert not comparison.right


@pytest.mark.parametrize("size", [9, 33, 300])
@pytest.mark.parametrize("name", SUMS)
def test_sums_in_bfloat16_are_rejected(name: str, size: int):
    module, inputs = operator_program(name), operator_inputs(size)
    (comparison,) = check(module, inputs, run_float32(module, "f", inputs, Execution(bfloat16=True)))
    assert not comparison.right


@pytest.mark.parametrize("size", [2, 33, 300])
@pytest.mark.parametrize("name", OPERATORS)
def test_wrong_places_and_types_of_results_are_rejected(name: str, size: int):
    module, inputs = operator_program(name), operator_inputs(size)
    (right,) = run_float32(module, "f", inputs, Execution())
    assert check(module, inputs, (right,))[0].right

    unwritten = right.copy()
    unwritten[-1] = 0
    assert not check(module, inputs, (unwritten,))[0].right or not right[-1].any()

    if right.shape[1] > 1:
        swapped = right.copy()
        swapped[:, [0, 1]] = swapped[:, [1, 0]]
        assert not check(module, inputs, (swapped,))[0].right

    narrow = right.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert not check(module, inputs, (narrow,))[0].right


@pytest.mark.parametrize("size", [2, 33, 300])
@pytest.mark.parametrize("epilogue", ["bias", "gelu", "relu_scale"])
@pytest.mark.parametrize("name", ["matmul", "softmax", "layer_norm"])
def test_an_epilogue_applied_twice_is_rejected(name: str, epilogue: str, size: int):
    texts = {
        "bias": "{0} = nn.add {1}, %v : tensor<?x?xf32>, tensor<?xf32>",
        "gelu": "{0} = nn.gelu {1} : tensor<?x?xf32>",
        "relu_scale": "%s{2} = nn.mul {1}, %v : tensor<?x?xf32>, tensor<?xf32> {0} = nn.relu %s{2} : tensor<?x?xf32>",
    }
    once = texts[epilogue].format("%1", "%0", 0)
    twice = texts[epilogue].format("%h", "%0", 0) + texts[epilogue].format("%1", "%h", 1)
    inputs = operator_inputs(size)
    wrong = run_float32(operator_program(name, twice), "f", inputs, Execution())
    assert not check(operator_program(name, once), inputs, wrong)[0].right


def test_float64_programs_have_bounds_of_their_own():
    module = parse("""func.func @f(%a: tensor<?x?xf64>) -> tensor<?x?xf64> {
      %0 = nn.matmul %a, %a accumulate f64 : tensor<?x?xf64>, tensor<?x?xf64>
      %1 = nn.softmax %0 dim 1 : tensor<?x?xf64>
      func.return %1 : tensor<?x?xf64>
    }""")
    inputs = [np.random.default_rng(1).standard_normal((50, 50))]
    (comparison,) = check(module, inputs, run_float32(module, "f", inputs, Execution()))
    assert comparison.right and comparison.tightness < 200
    (in_single,) = run_float32(module, "f", [inputs[0].astype(np.float32)], Execution())
    assert not check(module, inputs, (in_single.astype(np.float64),))[0].right


@pytest.mark.parametrize(
    "op",
    ["nn.matmul %a, %b accumulate f32{}", "nn.contract [m, n, k] %a (m, k), %b (k, n) -> (m, n) accumulate f32{}"],
)
@pytest.mark.parametrize("size", [1, 7, 101])
def test_tf32_may_cut_factors_off_where_the_program_says_so(op: str, size: int):
    def product(precision: str) -> ModuleOp:
        types = "tensor<?x?xf32>, tensor<?x?xf32>"
        return parse(f"""func.func @f(%a: tensor<?x?xf32>, %b: tensor<?x?xf32>) -> tensor<?x?xf32> {{
          %0 = {op.format(precision)} : {types}
          func.return %0 : tensor<?x?xf32>
        }}""")

    def cut(array: Array, digits: int) -> Array:
        return (array.view(np.uint32) & np.uint32(-1 << (23 - digits) & 0xFFFFFFFF)).view(np.float32)

    generator = np.random.default_rng(size)
    inputs = [generator.standard_normal((size, size)).astype(np.float32) for _ in range(2)]
    in_tf32, in_bf16 = ((cut(inputs[0], digits) @ cut(inputs[1], digits)).astype(np.float32) for digits in (10, 7))
    allowed = product(" precision tf32")
    assert check(allowed, inputs, (in_tf32,))[0].right
    assert not check(product(""), inputs, (in_tf32,))[0].right
    assert not check(allowed, inputs, (in_bf16,))[0].right


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("name", OPERATORS)
def test_empty_arrays_have_empty_or_exact_bounds(name: str, shape: tuple[int, int]):
    module = operator_program(name)
    other = shape[::-1] if name == "matmul" else shape
    inputs = [np.ones(shape, np.float32), np.ones(other, np.float32), np.ones(shape[1], np.float32)]
    (result,) = run_float32(module, "f", inputs, Execution())
    (comparison,) = check(module, inputs, (result,))
    assert comparison.right and comparison.error == 0


def test_infinities_and_nan_must_be_where_the_reference_has_them():
    module = operator_program("exp")
    x = np.array([[np.inf, -np.inf, np.nan, 89.0, -200.0, 1.0]], np.float32)
    inputs = [x, x, x[0]]
    right = np.array([[np.inf, 0.0, np.nan, np.inf, 0.0, np.exp(1.0)]], np.float32)
    assert check(module, inputs, (right,))[0].right
    for place, wrong in [(0, 1e38), (1, 1.0), (2, 0.0), (3, 3e38), (3, -np.inf), (4, 1e-30), (5, np.nan)]:
        mutant = right.copy()
        mutant[0, place] = wrong
        comparison = check(module, inputs, (mutant,))[0]
        assert not comparison.right and comparison.worst_element == (0, place)


@pytest.mark.parametrize("name", ["silu", "gelu"])
def test_an_overflow_on_the_way_does_not_hide_a_small_result(name: str):
    module = operator_program(name)
    x = np.array([[-100.0, -1000.0, -3e38, 3e38, 0.0, -0.0, 1e-40]], np.float32)
    inputs = [x, x, x[0]]
    with np.errstate(over="ignore"):
        (found,) = run_float32(module, "f", inputs, Execution())
    (comparison,) = check(module, inputs, (found,))
    assert comparison.right and comparison.undetermined == 0
    found[0, 0] = 1e-6
    assert name == "gelu" or not check(module, inputs, (found,))[0].right


def test_a_quotient_by_what_may_be_zero_is_left_open():
    module = parse("""func.func @f(%a: tensor<?xf32>, %b: tensor<?xf32>, %c: tensor<?xf32>) -> tensor<?xf32> {
      %0 = nn.mul %a, %b : tensor<?xf32>, tensor<?xf32>
      %1 = nn.sub %0, %c : tensor<?xf32>, tensor<?xf32>
      %2 = nn.div %a, %1 : tensor<?xf32>, tensor<?xf32>
      func.return %2 : tensor<?xf32>
    }""")
    a, b = np.array([1.1, 1.1, 1.0], np.float32), np.array([1.3, 1.3, 0.0], np.float32)
    c = np.array([a[0] * b[0], 1.0, 0.0], np.float32)
    with np.errstate(divide="ignore"):
        found = a / (a * b - c)
    assert np.isinf(found[0]) and np.isinf(found[2])
    (comparison,) = check(module, [a, b, c], (found,))
    assert comparison.right and comparison.undetermined >= 1
    ((expected, bound),) = bound_program(module, "f", [a, b, c])
    assert np.isinf(bound[0]) and np.isfinite(expected[0]) and bound[1] < 1e-5


def test_cancellation_loses_digits_and_the_bound_follows():
    module = parse("""func.func @f(%a: tensor<?xf32>, %b: tensor<?xf32>) -> tensor<?xf32> {
      %0 = nn.mul %a, %b : tensor<?xf32>, tensor<?xf32>
      %1 = nn.sub %0, %a : tensor<?xf32>, tensor<?xf32>
      func.return %1 : tensor<?xf32>
    }""")
    a = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    b = (1 + np.random.default_rng(1).standard_normal(1000) * 1e-6).astype(np.float32)
    (comparison,) = check(module, [a, b], (a * b - a,))
    assert comparison.right and comparison.tightness < 10
    assert comparison.ulps > 1000


FLOATS = st.floats(-8, 8, width=32).map(lambda value: value + 0.0)
"""Without -0.0, whose sign the arithmetic on errors below would lose."""


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["add", "subtract", "multiply", "divide", "maximum", "minimum"]),
    st.tuples(FLOATS, FLOATS),
    st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)),
    st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
)
def test_binary_rules_cover_every_value_inside_the_operands_bounds(
    name: str, values: tuple[float, float], errors: tuple[float, float], places: tuple[float, float]
):
    format_ = format_of_dtype(np.dtype(np.float32))
    x, y = (Bounded(np.array(value), np.array(error)) for value, error in zip(values, errors, strict=True))
    numpy_function: Callable[[Any, Any], Any] = getattr(np, name)
    with np.errstate(all="ignore"):
        result: Bounded = getattr(bounded, name)(format_, x, y)
        a, b = (value + error * place for value, error, place in zip(values, errors, places, strict=True))
        exact = numpy_function(np.float64(a), np.float64(b))
        # The larger and the smaller of two are one of them and are not rounded.
        found = float(exact if name in ("maximum", "minimum") else np.float32(exact))
        slack = 4e-16 * (abs(found) + 1)
        covered = np.isinf(result.error) or abs(found - result.value) <= result.error + slack
    assert covered or (np.isnan(result.value) and np.isnan(found)) or found == result.value


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["exp", "log", "tanh", "erf", "square_root", "reciprocal_root"]),
    FLOATS,
    st.floats(0, 0.5),
    st.floats(-1, 1),
)
def test_unary_rules_cover_every_value_inside_the_operands_bounds(name: str, value: float, error: float, place: float):
    exact: dict[str, Callable[[Any], Any]] = {
        "exp": np.exp,
        "log": np.log,
        "tanh": np.tanh,
        "erf": bounded.erf_of,
        "square_root": np.sqrt,
        "reciprocal_root": lambda x: 1 / np.sqrt(x),
    }
    format_ = format_of_dtype(np.dtype(np.float32))
    with np.errstate(all="ignore"):
        result: Bounded = getattr(bounded, name)(format_, Bounded(np.array(value), np.array(error)))
        found = float(np.float32(exact[name](np.float64(value + error * place))))
        slack = 4e-16 * (abs(found) + 1)
        covered = np.isinf(result.error) or abs(found - result.value) <= result.error + slack
    assert covered or (np.isnan(result.value) and np.isnan(found)) or found == result.value


@settings(max_examples=200, deadline=None)
@given(st.floats(-120, 100, width=32))
def test_the_bound_of_an_approximate_exponential_covers_two_to_a_rounded_product(value: float):
    """As ``expand-math`` makes it where 2^t is one instruction: 2 units off, and nothing below normal numbers."""
    format_ = format_of_dtype(np.dtype(np.float32))
    with np.errstate(all="ignore"):
        result = bounded.approximate_exp(format_, Bounded(np.array(value), np.array(0.0)))
        power = np.exp2(np.float64(np.float32(value) * np.float32(1.4426950408889634)))
        for off in (-1, 1):
            found = float(np.float32(power * (1 + off * 2.0**-23)))
            found = 0.0 if abs(found) < 2.0**-126 else found
            assert abs(found - result.value) <= result.error or found == result.value or np.isinf(result.error)
