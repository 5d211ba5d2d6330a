"""Products in parts of k: right on any sizes, exact for integers, added in order to the last bit, or refused."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from crosstile.ir.diagnostics import CrosstileError
from crosstile.passes.schedules.parts import legal_parts
from crosstile.tools.api import compile
from crosstile.tools.judge import Judge
from crosstile.tools.program import Program

Array = NDArray[Any]
BF16 = ml_dtypes.bfloat16
CORE = "x86-64-avx512"
GPUS = ["nvidia-sm_80", "nvidia-sm_90a"]


def product(
    split: int | None,
    factors: tuple[str, str],
    lhs: str,
    rhs: str,
    element: str,
    flags: str = "fastmath<reassoc>",
    last: str = "1",
) -> str:
    """A kernel at the nest level: a product of factors that lie as ``lhs`` and ``rhs`` say, plus ``last``.

    ``split`` is in a schedule that says nothing else.
    """
    total = "i32" if element == "i8" else "f32"
    schedule = "" if split is None else f"schedules [#nest.schedule<split = {split}>]"
    letters = "i" if element == "i8" else "f"
    extend = "extsi" if element == "i8" else "extf"
    one = last if element == "i8" else f"{last}.0"
    sizes = dict(
        zip([*lhs.split(", "), *rhs.split(", ")], [*factors[0].split("x"), *factors[1].split("x")], strict=True)
    )
    axes = [axis for axis in ("b", "m", "n") if axis in sizes]
    result = f"tensor<{'x'.join(sizes[axis] for axis in axes)}x{total}>"
    parallel = ", ".join(f"{axis} : parallel" for axis in axes)
    a, b = (f"tensor<{shape}x{element}>" for shape in factors)
    widened = (
        ""
        if element == "f32"
        else f"""
      %u = arith.{extend} %p : {element} to {total}
      %v = arith.{extend} %q : {element} to {total}"""
    )
    names = "%p, %q" if element == "f32" else "%u, %v"
    return f"""func.func @main(%x : {a}, %w : {b}) -> {result} {{
  %y = nest.kernel @product (%a = %x : {a}, %b = %w : {b}) -> ({result}) {schedule} {{
    %c = nest.generic [{parallel}, k : reduction] combiner<add> accumulate {total} {flags}
        ins(%a ({lhs}), %b ({rhs}) : {a}, {b}) -> ({", ".join(axes)}) : {result} {{
    ^bb0(%p : {element}, %q : {element}):{widened}
      %t = arith.mul{letters} {names} : {total}
      nest.yield %t : {total}
    }}
    %d = nest.generic [{parallel}] ins(%c ({", ".join(axes)}) : {result}) -> ({", ".join(axes)}) : {result} {{
    ^bb0(%p : {total}):
      %one = arith.constant {one} : {total}
      %t = arith.add{letters} %p, %one : {total}
      nest.yield %t : {total}
    }}
    nest.yield %d : {result}
  }}
  func.return %y : {result}
}}"""


def numbers(shape: tuple[int, ...], element: str, seed: int = 0) -> Array:
    random = np.random.default_rng(seed)
    if element == "i8":
        return random.integers(-128, 128, shape).astype(np.int8)
    return random.standard_normal(shape).astype(BF16 if element == "bf16" else np.float32)


@pytest.mark.parametrize("target", GPUS)
@pytest.mark.parametrize(
    ("factors", "lhs", "rhs"),
    [
        (("40x4096", "4096x24"), "m, k", "k, n"),
        (("4096x16", "24x4096"), "k, m", "n, k"),
        (("2x17x4096", "2x4096x8"), "b, m, k", "b, k, n"),
        (("5x4096", "4096x13"), "m, k", "k, n"),
    ],
)
def test_gpus_split_by_themselves_and_are_right(target: str, factors: tuple[str, str], lhs: str, rhs: str) -> None:
    text = product(None, factors, lhs, rhs, "bf16")
    function = compile(text, target=target, start="nest")  # pyright: ignore[reportCallIssue] - the target is a variable
    shapes = [tuple(map(int, shape.split("x"))) for shape in factors]
    given = [numbers(shape, "bf16", seed) for seed, shape in enumerate(shapes)]
    found = function(*given)
    assert function.kernels == ["product_parts", "product"]
    wide = [array.astype(np.float64) for array in given]
    letters = [axes.replace(", ", "") for axes in (lhs, rhs)]
    expected = np.einsum(f"{letters[0]},{letters[1]}->{'b' if 'b' in lhs else ''}mn", *wide) + 1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-3)
    np.testing.assert_array_equal(found, function(*given))


@pytest.mark.parametrize("target", GPUS)
def test_a_vector_times_a_matrix_is_split_where_its_columns_are_read(target: str) -> None:
    x, y = "tensor<1x2048xbf16>", "tensor<1x40xf32>"
    text = f"""func.func @main(%a: {x}, %b: tensor<BxCxbf16>) -> {y} {{
  %c = nn.matmul %a, %b FLAGSaccumulate f32 fastmath<reassoc> : {x}, tensor<BxCxbf16> -> {y}
  func.return %c : {y}
}}"""
    a, b = numbers((1, 2048), "bf16"), numbers((2048, 40), "bf16", 1)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    columns = compile(text.replace("BxC", "2048x40").replace("FLAGS", ""), target=target)  # pyright: ignore[reportCallIssue]
    np.testing.assert_allclose(columns(a, b), expected, rtol=1e-4, atol=2e-3)
    assert columns.kernels == ["matmul_parts", "matmul"]
    flags = text.replace("BxC", "40x2048").replace("FLAGS", "{transpose_b} ")
    rows = compile(flags, target=target)  # pyright: ignore[reportCallIssue]
    np.testing.assert_allclose(rows(a, np.ascontiguousarray(b.T)), expected, rtol=1e-4, atol=2e-3)
    assert rows.kernels == ["matmul"], "lanes share a row"


def test_a_vector_of_integers_times_a_matrix_is_exact() -> None:
    text = """func.func @main(%a: tensor<1x4096xi32>, %b: tensor<4096x33xi32>) -> tensor<1x33xi32> {
  %c = nn.matmul %a, %b accumulate i32 : tensor<1x4096xi32>, tensor<4096x33xi32> -> tensor<1x33xi32>
  func.return %c : tensor<1x33xi32>
}"""
    function = compile(text, target="nvidia-sm_80")
    a, b = numbers((1, 4096), "i8").astype(np.int32), numbers((4096, 33), "i8", 1).astype(np.int32)
    np.testing.assert_array_equal(function(a, b), a @ b)
    assert function.kernels == ["matmul_parts", "matmul"]


@pytest.mark.parametrize("target", GPUS)
def test_integers_are_exact_in_any_number_of_parts(target: str) -> None:
    text = product(None, ("20x8192", "12x8192"), "m, k", "n, k", "i8")
    function = compile(text, target=target, start="nest")  # pyright: ignore[reportCallIssue]
    a, b = numbers((20, 8192), "i8"), numbers((12, 8192), "i8", 1)
    np.testing.assert_array_equal(function(a, b), a.astype(np.int32) @ b.astype(np.int32).T + 1)
    assert "product_parts" in function.kernels


@pytest.mark.parametrize("parts", [2, 7])
def test_parts_are_products_of_their_own_added_in_order(parts: int) -> None:
    k = 7 * 64
    split = compile(product(parts, (f"9x{k}", f"{k}x16"), "m, k", "k, n", "bf16"), target="nvidia-sm_80", start="nest")
    alone = compile(
        product(None, (f"9x{k // parts}", f"{k // parts}x16"), "m, k", "k, n", "bf16", "", "0"),
        target="nvidia-sm_80",
        start="nest",
    )
    a, b = numbers((9, k), "bf16"), numbers((k, 16), "bf16", 1)
    total = np.zeros((9, 16), np.float32)
    for at in range(parts):
        steps = slice(at * k // parts, (at + 1) * k // parts)
        total += alone(np.ascontiguousarray(a[:, steps]), np.ascontiguousarray(b[steps]))
    np.testing.assert_array_equal(split(a, b), total + np.float32(1))


@pytest.mark.parametrize("rows", [0, 1, 3, 37])
@pytest.mark.parametrize(("k", "parts"), [(4096, 8), (1001, 7), (6, 6), (0, 1)])
def test_a_core_does_what_a_schedule_says(rows: int, k: int, parts: int) -> None:
    text = product(parts, (f"?x{k}", f"{k}x19"), "m, k", "k, n", "f32")
    program = Program.load(text, "host", "nest")
    function = compile(text, start="nest")
    a, b = numbers((rows, k), "f32"), numbers((k, 19), "f32", 1)
    found = function(a, b)
    np.testing.assert_allclose(found, a.astype(np.float64) @ b + 1, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(found, function(a, b, threads=3))
    assert Judge(program, [a, b]).run().right


def test_legal_numbers_of_parts() -> None:
    assert legal_parts(64, 16) == [1, 2, 4, 8]
    assert legal_parts(63, 16) == [1, 3, 7, 9, 21, 63]
    assert legal_parts(7, 32) == [1, 7]
    assert legal_parts(0, 16) == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            product(7, ("16x4096", "4096x16"), "m, k", "k, n", "bf16"),
            "'k' has 4096 steps, which are no such number of equal parts of whole 16 bytes: the nearest number that is "
            "legal is 8",
        ),
        (product(4, ("16x?", "?x16"), "m, k", "k, n", "bf16"), "the size of 'k' is only known at run time"),
        (product(4, ("16x64", "64x16"), "m, k", "k, n", "bf16", ""), "which the program does not allow"),
    ],
)
@pytest.mark.parametrize("target", ["host", *GPUS])
def test_splits_that_cannot_be_served_are_refused(text: str, message: str, target: str) -> None:
    with pytest.raises(CrosstileError, match="split-contraction: the schedule of @product has split = ") as error:
        Program.load(text, target, "nest").at("tile")
    assert message in error.value.message


def test_schedules_that_split_differently_are_refused() -> None:
    text = product(4, ("16x64", "64x16"), "m, k", "k, n", "f32")
    text = text.replace("schedules [", "schedules [m <= 4 : #nest.schedule<split = 2>, ")
    with pytest.raises(CrosstileError, match="have the splits 2 and 4: expects one for all of them"):
        Program.load(text, CORE, "nest").at("tile")
