"""Every operator of the table of one core gives the same bits for any number of workers, in any call, in any batch.

Sizes are odd, so that shares of the workers are ragged, tiles are cut, and some workers have nothing to do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import crosstile
from crosstile.targets.x86 import workers

Array = np.ndarray[Any, np.dtype[Any]]
Shapes = Callable[[int], list[tuple[int, ...]]]
THREADS = (2, 3, 4, 7, 16)
BATCHES = (0, 1, 2, 5, 13, 37, 131)


def program(arguments: str, result: str, line: str) -> str:
    """A function of one operation."""
    return f"func.func @main({arguments}) -> {result} {{\n  %y = {line}\n  func.return %y : {result}\n}}"


def product(element: str, total: str, options: str = "") -> str:
    """A matrix product with sums of the type ``total``."""
    type_, result = f"tensor<?x?x{element}>", f"tensor<?x?x{total}>"
    return program(
        f"%a: {type_}, %b: {type_}",
        result,
        f"nn.matmul %a, %b {options} accumulate {total} : {type_}, {type_} -> {result}",
    )


def attention(options: str) -> str:
    """Queries, keys and values of heads of 32."""
    type_ = "tensor<?x3x?x32xf32>"
    arguments = ", ".join(f"%{name}: {type_}" for name in "qkv")
    return program(arguments, type_, f"nn.attention %q, %k, %v {options} accumulate f32 : {type_}, {type_}, {type_}")


ROWS, VECTOR = "tensor<?x?xf32>", "tensor<?xf32>"
LINEAR_GELU = f"""func.func @main(%x: {ROWS}, %w: {ROWS}, %b: {VECTOR}) -> {ROWS} {{
  %product = nn.matmul %x, %w accumulate f32 : {ROWS}, {ROWS}
  %biased = nn.add %product, %b : {ROWS}, {VECTOR}
  %y = nn.gelu %biased : {ROWS}
  func.return %y : {ROWS}
}}"""
CONVOLUTION = program(
    "%x: tensor<?x5x?x?xf32>, %w: tensor<?x5x3x3xf32>",
    "tensor<?x?x?x?xf32>",
    "nn.conv2d %x, %w nchw strides [1, 1] padding [1, 1, 1, 1] accumulate f32\n"
    "      : tensor<?x5x?x?xf32>, tensor<?x5x3x3xf32>",
)


def rows(n: int) -> list[tuple[int, ...]]:
    """One matrix."""
    return [(n, 203)]


def factors(n: int) -> list[tuple[int, ...]]:
    """Two matrices."""
    return [(n, 203), (203, 97)]


OPERATORS: dict[str, tuple[str, Any, Shapes]] = {
    "matmul f32": (product("f32", "f32"), np.float32, factors),
    "matmul f32, B transposed": (
        product("f32", "f32", "{transpose_b}"),
        np.float32,
        lambda n: [(n, 203), (97, 203)],
    ),
    "matmul bf16": (product("bf16", "f32"), ml_dtypes.bfloat16, factors),
    "matmul int8": (product("i8", "i32"), np.int8, factors),
    "matmul, bias, gelu": (LINEAR_GELU, np.float32, lambda n: [*factors(n), (97,)]),
    "softmax": (program(f"%x: {ROWS}", ROWS, f"nn.softmax %x dim 1 : {ROWS}"), np.float32, rows),
    "layer norm": (
        program(
            f"%x: {ROWS}, %g: {VECTOR}, %b: {VECTOR}",
            ROWS,
            f"nn.layer_norm %x, %g, %b epsilon 1.0e-05 : {ROWS}, {VECTOR}, {VECTOR}",
        ),
        np.float32,
        lambda n: [(n, 203), (203,), (203,)],
    ),
    "rms norm": (
        program(f"%x: {ROWS}, %g: {VECTOR}", ROWS, f"nn.rms_norm %x, %g epsilon 1.0e-05 : {ROWS}, {VECTOR}"),
        np.float32,
        lambda n: [(n, 203), (203,)],
    ),
    "gelu": (program(f"%x: {ROWS}", ROWS, f"nn.gelu %x : {ROWS}"), np.float32, rows),
    "row sum": (
        program(f"%x: {ROWS}", VECTOR, f"nn.reduce add %x dims [1] : {ROWS} -> {VECTOR}"),
        np.float32,
        rows,
    ),
    "attention": (attention(""), np.float32, lambda n: [(n, 3, 37, 32)] * 3),
    "causal attention": (attention("causal"), np.float32, lambda n: [(n, 3, 37, 32)] * 3),
    "conv2d": (CONVOLUTION, np.float32, lambda n: [(n, 5, 9, 7), (11, 5, 3, 3)]),
}
"""By name: the program, its elements, and the shapes of its arguments; only those as long as the batch have it."""
FEW = {"attention": 7, "causal attention": 7, "conv2d": 13}
"""How large a batch is where an element of it is large."""


@cache
def compiled(name: str) -> crosstile.CompiledFunction:
    return crosstile.compile(OPERATORS[name][0])


def arguments(name: str, batch: int) -> list[Array]:
    """Arguments of a batch: its first argument begins with those of every smaller one."""
    _, dtype, shapes = OPERATORS[name]
    found: list[Array] = []
    for at, shape in enumerate(shapes(batch)):
        generator = np.random.default_rng(at)
        found.append((generator.standard_normal(shape) * (20 if dtype is np.int8 else 1)).astype(dtype))
    return found


def bits(array: Array) -> bytes:
    return array.tobytes()


@pytest.mark.parametrize("name", OPERATORS)
def test_a_result_has_the_same_bits_for_any_workers_batch_and_call(name: str):
    function, most = compiled(name), FEW.get(name, BATCHES[-1])
    given = arguments(name, most)
    whole = function(*given, threads=1)
    assert bits(function(*given, threads=1)) == bits(whole)
    for threads in THREADS:
        assert bits(function(*given, threads=threads)) == bits(whole), threads
    for batch in (size for size in BATCHES if size <= most):
        part = arguments(name, batch)
        for threads in (1, 3):
            assert bits(function(*part, threads=threads)) == bits(whole[:batch]), (batch, threads)


@pytest.mark.parametrize("name", ["matmul f32", "attention", "softmax"])
def test_calls_of_several_python_threads_share_the_processors(name: str, monkeypatch: pytest.MonkeyPatch):
    """Each call may want all processors; no more threads are at work than there are callers and processors."""
    monkeypatch.setenv("CROSSTILE_NUM_THREADS", "3")
    monkeypatch.setattr(workers, "_pool", pool := workers.Pool())
    function, given = compiled(name), arguments(name, FEW.get(name, BATCHES[-1]))
    expected, callers, seen, wrong = bits(function(*given, threads=1)), 4, list[int](), list[str]()
    start = threading.Barrier(callers)

    def call() -> None:
        start.wait()
        for _ in range(20):
            if bits(function(*given, threads=3)) != expected:
                wrong.append(name)
            seen.append(pool.busy)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong and len(seen) == callers * 20
    assert pool.busy == 0 and pool.made <= 2, "helpers besides the callers: one less than processors"
    assert max(seen) <= callers + 2


def test_more_work_on_as_many_elements_is_worth_more_workers():
    sums = compiled("row sum").host_function.keep_plan([np.zeros((400, 400), np.float32)])
    products = compiled("matmul f32").host_function.keep_plan([np.zeros((230, 230), np.float32)] * 2)
    assert sums.elements > products.elements
    assert sums.workers == 1 < products.workers
