"""Products with factors that their kernels compute: right at every level, the same bits for any batch and threads."""

from __future__ import annotations

from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp

import crosstile
from crosstile.dialects.nn.error_bound import bound_program, compare
from crosstile.tools.program import Program

Array = np.ndarray[Any, np.dtype[Any]]
MATRIX, ROW = "tensor<?x?xf32>", "tensor<?xf32>"
PRODUCT = f"%y = nn.matmul %a, %b accumulate f32 : {MATRIX}, {MATRIX}"
PROGRAMS: dict[str, tuple[str, dict[str, str]]] = {
    "activation": (
        f"%a = nn.silu %x : {MATRIX} {PRODUCT}",
        {"x": "M K", "b": "K N"},
    ),
    "activation of a transposed factor": (
        f"%a = nn.relu %x : {MATRIX} %y = nn.matmul %a, %b {{transpose_a}} accumulate f32 : {MATRIX}, {MATRIX}",
        {"x": "K M", "b": "K N"},
    ),
    "scale and shift, bias and activation": (
        f"%p = nn.mul %x, %s : {MATRIX}, {ROW} %a = nn.add %p, %t : {MATRIX}, {ROW} "
        f"%c = nn.matmul %a, %b accumulate f32 : {MATRIX}, {MATRIX} %d = nn.add %c, %v : {MATRIX}, {ROW} "
        f"%y = nn.relu %d : {MATRIX}",
        {"x": "M K", "s": "K", "t": "K", "b": "K N", "v": "N"},
    ),
    "rms_norm": (
        f"%a = nn.rms_norm %x, %s epsilon 1.0e-5 : {MATRIX}, {ROW} {PRODUCT}",
        {"x": "M K", "s": "K", "b": "K N"},
    ),
    "layer_norm": (
        f"%a = nn.layer_norm %x, %s, %t epsilon 1.0e-5 : {MATRIX}, {ROW}, {ROW} {PRODUCT}",
        {"x": "M K", "s": "K", "t": "K", "b": "K N"},
    ),
    "softmax": (f"%a = nn.softmax %x dim 1 : {MATRIX} {PRODUCT}", {"x": "M K", "b": "K N"}),
    "scaled weights": (
        f"%b = nn.mul %w, %s : {MATRIX}, {ROW} %y = nn.matmul %x, %b accumulate f32 : {MATRIX}, {MATRIX}",
        {"x": "M K", "w": "K N", "s": "N"},
    ),
    "scaled weights, transposed": (
        f"%b = nn.mul %w, %s : {MATRIX}, {ROW} "
        f"%y = nn.matmul %x, %b {{transpose_b}} accumulate f32 : {MATRIX}, {MATRIX}",
        {"x": "M K", "w": "N K", "s": "K"},
    ),
    "both factors": (
        f"%a = nn.relu %x : {MATRIX} %b = nn.abs %w : {MATRIX} {PRODUCT}",
        {"x": "M K", "w": "K N"},
    ),
}
SIZES = [
    {"M": 1, "N": 1, "K": 1},
    {"M": 0, "N": 5, "K": 3},
    {"M": 5, "N": 3, "K": 0},
    {"M": 7, "N": 13, "K": 17},
    {"M": 1, "N": 100, "K": 70},
    {"M": 33, "N": 67, "K": 131},
    {"M": 65, "N": 11, "K": 1100},
]


def text(name: str) -> str:
    body, arguments = PROGRAMS[name]
    types = {symbol: MATRIX if " " in sizes else ROW for symbol, sizes in arguments.items()}
    declared = ", ".join(f"%{symbol}: {type_}" for symbol, type_ in types.items())
    return f"func.func @main({declared}) -> {MATRIX} {{ {body} func.return %y : {MATRIX} }}"


def arguments(name: str, sizes: dict[str, int]) -> list[Array]:
    random = np.random.default_rng(sum(sizes.values()))
    shapes = [[sizes[size] for size in along.split()] for along in PROGRAMS[name][1].values()]
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


@cache
def compiled(name: str, target: str) -> Any:
    function = crosstile.compile(text(name), target=target)
    assert "_matmul" in function.kernels[0]
    return function


@cache
def reference(name: str) -> ModuleOp:
    return Program.load(text(name)).at("nn")


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("target", ["host", "x86-64-avx2"])
def test_inside_the_bound(name: str, sizes: dict[str, int], target: str):
    function, given = compiled(name, target), arguments(name, sizes)
    result = function(*given)
    ((expected, bound),) = bound_program(reference(name), "main", given)
    assert compare(result, expected, bound).right
    np.testing.assert_array_equal(function(*given, threads=3), result)


@pytest.mark.parametrize("name", ["activation", "rms_norm", "layer_norm", "softmax", "both factors"])
def test_a_row_does_not_depend_on_the_others(name: str):
    """Few rows have schedules of their own, whose blocks of k are others."""
    given = arguments(name, {"M": 70, "N": 130, "K": 1500})
    all_rows = compiled(name, "host")(*given)
    for rows in (1, 6, 32, 33):
        np.testing.assert_array_equal(compiled(name, "host")(given[0][:rows], *given[1:]), all_rows[:rows])


NARROW = [("f16", "x86-64-avx512"), ("bf16", "x86-64-avx2"), ("bf16", "x86-64-avx512-bf16")]
"""Widened where they are staged, and multiplied as words of two."""
LEFT = [
    "activation",
    "activation of a transposed factor",
    "scale and shift, bias and activation",
    "rms_norm",
    "softmax",
]
RIGHT = ["scaled weights", "scaled weights, transposed", "both factors"]


@cache
def narrow(name: str, element: str, target: str) -> tuple[Any, Program]:
    program = text(name).replace("f32>", f"{element}>")
    return crosstile.compile(program, target=target), Program.load(program)


@pytest.mark.parametrize("name", [*LEFT, *RIGHT])
@pytest.mark.parametrize(("element", "target"), NARROW)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_narrow_factors_are_inside_the_bound(name: str, element: str, target: str, sizes: dict[str, int]):
    function, program = narrow(name, element, target)
    assert "_matmul" in function.kernels[0]
    dtype = np.dtype(ml_dtypes.bfloat16 if element == "bf16" else np.float16)
    given = [array.astype(dtype) for array in arguments(name, sizes)]
    result = function(*given)
    ((expected, bound),) = bound_program(program.at("nn"), "main", given)
    assert compare(result, expected, bound).right
    np.testing.assert_array_equal(function(*given, threads=3), result)


@pytest.mark.parametrize("name", ["activation", "rms_norm", "softmax", *RIGHT])
@pytest.mark.parametrize(("element", "target"), NARROW)
def test_a_row_of_narrow_factors_does_not_depend_on_the_others(name: str, element: str, target: str):
    function, _ = narrow(name, element, target)
    dtype = np.dtype(ml_dtypes.bfloat16 if element == "bf16" else np.float16)
    given = [array.astype(dtype) for array in arguments(name, {"M": 70, "N": 130, "K": 1501})]
    all_rows = function(*given)
    for rows in (1, 6, 32, 33):
        np.testing.assert_array_equal(function(given[0][:rows], *given[1:]), all_rows[:rows])


def test_weights_of_bytes():
    """Widened and scaled in panels; small integers are exact, so the product can be compared with NumPy's."""
    function = crosstile.compile("""func.func @main(%x: tensor<?x?xf32>, %w: tensor<?x?xi8>, %s: tensor<?x1xf32>)
        -> tensor<?x?xf32> {
      %c = nn.cast %w : tensor<?x?xi8> -> tensor<?x?xf32>
      %v = nn.mul %c, %s : tensor<?x?xf32>, tensor<?x1xf32>
      %y = nn.matmul %x, %v {transpose_b} accumulate f32 : tensor<?x?xf32>, tensor<?x?xf32>
      func.return %y : tensor<?x?xf32>
    }""")
    assert function.kernels[0] == "mul_matmul"
    random = np.random.default_rng(0)
    for m, n, k in [(1, 70, 33), (3, 1, 5), (20, 100, 300), (50, 3, 64)]:
        x, w = random.integers(-4, 5, (m, k)).astype(np.float32), random.integers(-8, 9, (n, k)).astype(np.int8)
        s = np.float32(2.0) ** random.integers(-2, 3, (n, 1)).astype(np.float32)
        np.testing.assert_array_equal(function(x, w, s), x @ (w * s).T)


def test_weights_packed_ahead_beside_a_computed_factor():
    layer = crosstile.compile(f"""func.func @main(%x: {MATRIX}, %s: {ROW}, %w: {MATRIX} {{nn.weight}}) -> {MATRIX} {{
      %a = nn.rms_norm %x, %s epsilon 1.0e-5 : {MATRIX}, {ROW}
      %y = nn.matmul %a, %w accumulate f32 : {MATRIX}, {MATRIX}
      func.return %y : {MATRIX}
    }}""")
    for rows in (1, 5, 40):
        x, w, s = (np.random.default_rng(0).standard_normal(shape, np.float32) for shape in ((rows, 90), (90, 70), 90))
        np.testing.assert_array_equal(layer.bind(w=w)(x, s), layer(x, s, w))


@pytest.mark.parametrize(("element", "target"), NARROW)
def test_narrow_weights_packed_ahead_beside_a_computed_factor(element: str, target: str):
    layer = crosstile.compile(
        f"""func.func @main(%x: {MATRIX}, %s: {ROW}, %w: {MATRIX} {{nn.weight}}) -> {MATRIX} {{
      %a = nn.rms_norm %x, %s epsilon 1.0e-5 : {MATRIX}, {ROW}
      %y = nn.matmul %a, %w accumulate f32 : {MATRIX}, {MATRIX}
      func.return %y : {MATRIX}
    }}""".replace("f32>", f"{element}>"),
        target=target,
    )
    dtype = np.dtype(ml_dtypes.bfloat16 if element == "bf16" else np.float16)
    random = np.random.default_rng(0)
    for rows in (1, 5, 40):
        x, w, s = (random.standard_normal(shape).astype(dtype) for shape in ((rows, 91), (91, 70), 91))
        np.testing.assert_array_equal(layer.bind(w=w)(x, s), layer(x, s, w))


def test_batches():
    function = crosstile.compile("""func.func @main(%x: tensor<?x?x?xf32>, %w: tensor<?x?x?xf32>) -> tensor<?x?x?xf32> {
      %a = nn.relu %x : tensor<?x?x?xf32>
      %y = nn.batch_matmul %a, %w accumulate f32 : tensor<?x?x?xf32>, tensor<?x?x?xf32>
      func.return %y : tensor<?x?x?xf32>
    }""")
    assert function.kernels[0] == "relu_matmul"
    random = np.random.default_rng(0)
    for b, m, n, k in [(1, 1, 1, 1), (3, 5, 17, 9), (2, 40, 70, 33), (0, 2, 3, 4)]:
        x, w = (random.integers(-4, 5, shape).astype(np.float32) for shape in ((b, m, k), (b, k, n)))
        np.testing.assert_array_equal(function(x, w), np.maximum(x, 0) @ w)
