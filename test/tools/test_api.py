"""The Python interface: calling compiled programs with arrays of all kinds."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crosstile
from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.targets import llvm_codegen
from crosstile.tools.api import CompiledFunction

ROOT = Path(__file__).resolve().parents[2]
MATMUL = ROOT / "examples" / "matmul.mlir"
ADD = """func.func @main(%x: tensor<?x4xf32>, %row: tensor<4xf32>) -> tensor<?x4xf32> {
  %y = nn.add %x, %row : tensor<?x4xf32>, tensor<4xf32>
  func.return %y : tensor<?x4xf32>
}
"""
TWO = """func.func @main(%x: tensor<?x?xf32>) -> (tensor<?x?xf32>, tensor<?xf32>) {
  %a = nn.exp %x : tensor<?x?xf32>
  %b = nn.reduce add %a dims [1] : tensor<?x?xf32> -> tensor<?xf32>
  func.return %a, %b : tensor<?x?xf32>, tensor<?xf32>
}
"""
TOTAL = """func.func @main(%x: tensor<?x?xf32>, %scale: tensor<f32>) -> tensor<f32> {
  %sum = nn.reduce add %x dims [0, 1] : tensor<?x?xf32> -> tensor<f32>
  %y = nn.mul %sum, %scale : tensor<f32>, tensor<f32>
  func.return %y : tensor<f32>
}
"""


@pytest.fixture(scope="module")
def matmul() -> CompiledFunction:
    return crosstile.compile(MATMUL)


@pytest.fixture(scope="module")
def add() -> CompiledFunction:
    return crosstile.compile(ADD)


def numbers(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def assert_is_product(c: Any, a: Any, b: Any) -> None:
    expected = a.astype(np.float64) @ b.astype(np.float64)
    bound = (a.shape[1] + 1) * 2.0**-23 * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))
    assert c.dtype == np.float32 and c.shape == expected.shape
    assert (np.abs(c - expected) <= bound).all()


# Sources


def test_source_is_a_path_a_text_or_a_module():
    x, row = numbers(0, 3, 4), numbers(1, 4)
    module = parse_module(ADD, "add.mlir", make_context())
    for source in (ADD, module):
        np.testing.assert_array_equal(crosstile.compile(source)(x, row), x + row)
    assert str(module) == str(parse_module(ADD, "add.mlir", make_context())), "the caller's module is left alone"
    assert_is_product(crosstile.compile(str(MATMUL))(x, x.T), x, x.T)


def test_wrong_sources(tmp_path: Path):
    with pytest.raises(crosstile.CrosstileError, match=r"cannot read 'none\.mlir'"):
        crosstile.compile("none.mlir")
    with pytest.raises(crosstile.CrosstileError, match="undefined value"):
        crosstile.compile("func.func @f() { func.return %x : f32 }")
    with pytest.raises(crosstile.CrosstileError, match="no function is called @g"):
        crosstile.compile(ADD, entry="g")
    with pytest.raises(crosstile.CrosstileError, match="unknown target 'z80'"):
        crosstile.compile(ADD, target="z80")
    with pytest.raises(crosstile.CrosstileError, match="unknown level 'tiel'; did you mean 'tile'"):
        crosstile.compile(ADD, start="tiel")


def test_unknown_names_of_the_package():
    with pytest.raises(AttributeError, match="no attribute 'compute'"):
        getattr(crosstile, "compute")  # noqa: B009 - the type checker knows that there is none


# Shapes


def test_one_compilation_runs_all_shapes(monkeypatch: pytest.MonkeyPatch):
    function = crosstile.compile(MATMUL)
    function.compile_all()

    def refuse(*_: object) -> None:
        raise AssertionError("compiled again")

    for name in ("parse", "object_code"):
        monkeypatch.setattr(llvm_codegen, name, refuse)
    with pytest.raises(AssertionError, match="compiled again"):
        crosstile.compile(MATMUL)
    sizes = [0, 1, 2, 3, 5, 7, 8, 11, 13, 16, 17, 31, 32, 47, 64, 67, 97, 101, 128, 131]
    shapes = [(m, sizes[(3 * i + 1) % 20], sizes[(7 * i + 2) % 20]) for i, m in enumerate(sizes)]
    shapes += [(1, 1, n) for n in sizes[:10]] + [(0, k, 5) for k in sizes[:10]] + [(m, 300, 3) for m in sizes[:10]]
    assert len(set(shapes)) >= 48
    for m, k, n in shapes:
        a, b = numbers(1, m, k), numbers(2, k, n)
        assert_is_product(function(a, b), a, b)


def test_kernels_are_compiled_when_sizes_first_choose_them():
    compiled: list[str] = []
    function = crosstile.compile(MATMUL)
    code = function.host_function.code
    compile_kernel = code.compile_kernel
    code.compile_kernel = lambda name: (compiled.append(name), compile_kernel(name))[1]
    assert code.missing == set(function.kernels) and len(function.kernels) > 1
    for shape, most in (((1, 1, 1), 1), ((1, 2, 1), 1), ((300, 40, 300), 2), ((400, 40, 320), 2), ((1, 1, 1), 2)):
        m, k, n = shape
        a, b = numbers(1, m, k), numbers(2, k, n)
        assert_is_product(function(a, b), a, b)
        assert 1 <= len(compiled) <= most
    function.compile_all()
    function.compile_all()
    assert sorted(compiled) == sorted(function.kernels) and not code.missing
    assert_is_product(function(a, b), a, b)


def test_threads_that_need_a_kernel_at_once_compile_it_once():
    function = crosstile.compile(MATMUL)
    a, b = numbers(1, 70, 33), numbers(2, 33, 80)
    with ThreadPoolExecutor(4) as pool:
        for result in [pool.submit(function, a, b) for _ in range(8)]:
            assert_is_product(result.result(), a, b)
    assert len(function.host_function.code.kernels) == 1


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_no_elements(add: CompiledFunction, rows: int):
    x, row = numbers(0, rows, 4), numbers(1, 4)
    np.testing.assert_array_equal(add(x, row), x + row)


def test_rank_0():
    x = numbers(0, 5, 7)
    function = crosstile.compile(TOTAL)
    y = function(x, np.float32(2.0))
    assert y.shape == () and y.dtype == np.float32
    assert abs(float(y) - 2.0 * x.sum(dtype=np.float64)) < 1e-4
    assert np.array_equal(function(x, np.array(2.0, np.float32)), y)
    out = np.zeros((), np.float32)
    assert function(x, np.float32(2.0), out=out) is out and out == y


def test_several_results():
    x = numbers(0, 5, 7)
    function = crosstile.compile(TWO)
    a, b = function(x)
    np.testing.assert_allclose(a, np.exp(x), rtol=1e-6)
    np.testing.assert_allclose(b, np.exp(x).sum(axis=1), rtol=1e-5)
    outs = np.zeros_like(a), np.zeros_like(b)
    found = function(x, out=outs)
    assert found[0] is outs[0] and found[1] is outs[1]
    np.testing.assert_array_equal(outs[0], a)
    np.testing.assert_array_equal(outs[1], b)


def test_double_precision():
    text = MATMUL.read_text().replace("f32", "f64")
    a, b = np.random.default_rng(0).standard_normal((2, 31, 31))
    np.testing.assert_allclose(crosstile.compile(text)(a, b), a @ b, rtol=1e-12, atol=1e-12)


# Memory


def test_any_strides(matmul: CompiledFunction):
    big = numbers(0, 40, 60)
    views = (big[::2, ::3], big[:, 5:25].T[:, :20], big[::-1, ::-1][:20, :20], np.broadcast_to(big[0, :20], (20, 20)))
    for a in views:
        for b in views:
            assert_is_product(matmul(a, b), a, b)


def test_contiguous_arguments_are_not_copied(matmul: CompiledFunction):
    a = numbers(0, 8, 8)
    checked = matmul.host_function.check_inputs([a, a.T])
    assert checked[0] is a and not np.shares_memory(checked[1], a)


def test_arguments_are_left_alone(matmul: CompiledFunction):
    a, b = numbers(0, 9, 8), numbers(1, 8, 7)
    a.flags.writeable = b.flags.writeable = False
    before = a.copy(), b.copy()
    assert_is_product(matmul(a, b), *before)


def test_misaligned_arguments(matmul: CompiledFunction):
    raw = np.zeros(8 * 8 * 4 + 1, np.uint8)
    a = raw[1:].view(np.float32).reshape(8, 8)
    a[...] = numbers(0, 8, 8)
    assert_is_product(matmul(a, a), a, a)


def test_out(matmul: CompiledFunction):
    a, b = numbers(0, 9, 8), numbers(1, 8, 7)
    expected = matmul(a, b)
    out = np.zeros((9, 7), np.float32)
    assert matmul(a, b, out=out) is out
    np.testing.assert_array_equal(out, expected)
    wide = np.zeros((9, 14), np.float32)
    strided = wide[:, ::2]
    assert matmul(a, b, out=strided) is strided
    np.testing.assert_array_equal(strided, expected)
    assert not wide[:, 1::2].any()


def test_out_may_be_an_argument(matmul: CompiledFunction):
    a = numbers(0, 24, 24)
    expected = matmul(a, a)
    assert matmul(a, a, out=a) is a
    np.testing.assert_array_equal(a, expected)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.zeros((9, 7)), r"out: result 0: expected float32 of shape \(9, 7\), found float64"),
        (np.zeros((9, 8), np.float32), r"expected float32 of shape \(9, 7\), found float32 of shape \(9, 8\)"),
        ([[0.0]], "must be a NumPy array to write to, found a list"),
        ((np.zeros((9, 7), np.float32),) * 2, "expected 1 array, found 2"),
        (np.broadcast_to(np.float32(0), (9, 7)), "read-only"),
    ],
)
def test_wrong_out(matmul: CompiledFunction, out: Any, message: str):
    with pytest.raises(crosstile.CrosstileError, match=message):
        matmul(numbers(0, 9, 8), numbers(1, 8, 7), out=out)


def test_two_results_must_not_share_memory():
    x, shared = numbers(0, 5, 1), np.zeros((5, 1), np.float32)
    with pytest.raises(crosstile.CrosstileError, match="out: results 0 and 1 share memory"):
        crosstile.compile(TWO)(x, out=(shared, shared[:, 0]))


def test_code_is_freed():
    function = crosstile.compile(ADD)
    loaded = weakref.ref(function.host_function.loaded)
    function(numbers(0, 2, 4), numbers(1, 4))
    del function
    gc.collect()
    assert loaded() is None


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), r"@main takes 2 arguments \(argument 0 \('x'\): float32 of shape \(\?, 4\), .*\), found 0"),
        ((np.zeros((3, 4), np.float32),), "takes 2 arguments .* found 1"),
        (
            (np.zeros((3, 4)), np.zeros(4, np.float32)),
            r"argument 0 \('x'\): expected float32 of shape \(\?, 4\), found float64 of shape \(3, 4\)",
        ),
        ((np.zeros(4, np.float32), np.zeros(4, np.float32)), r"argument 0 \('x'\).* found float32 of shape \(4,\)"),
        (
            (np.zeros((3, 5), np.float32), np.zeros(4, np.float32)),
            r"expected float32 of shape \(\?, 4\), found float32 of shape \(3, 5\)",
        ),
        (
            (np.zeros((3, 4), np.float32), np.zeros(5, np.float32)),
            r"argument 1 \('row'\): expected float32 of shape \(4,\), found float32 of shape \(5,\)",
        ),
        ((np.zeros((3, 4), ">f4"), np.zeros(4, np.float32)), "expected float32 .* found >f4"),
        ((np.zeros((3, 4), np.int32), np.zeros(4, np.float32)), "found int32"),
        (("text", np.zeros(4, np.float32)), "found <U4"),
        ((None, np.zeros(4, np.float32)), "found object"),
        (([[1.0], [2.0, 3.0]], np.zeros(4, np.float32)), r"argument 0 \('x'\): .* is not an array"),
    ],
)
def test_wrong_arguments(add: CompiledFunction, arguments: tuple[Any, ...], message: str):
    with pytest.raises(crosstile.CrosstileError, match=message):
        add(*arguments)


def test_sizes_that_must_agree(matmul: CompiledFunction):
    with pytest.raises(crosstile.CrosstileError, match=r"dimension 0 of argument 1 \('b'\).*dimension 1 of argument 0"):
        matmul(numbers(0, 3, 4), numbers(1, 5, 6))


def test_wrong_threads(add: CompiledFunction, monkeypatch: pytest.MonkeyPatch):
    x, row = numbers(0, 3, 4), numbers(1, 4)
    with pytest.raises(crosstile.CrosstileError, match="threads must be a number from 1 to 1024, found 0"):
        add(x, row, threads=0)
    for threads in ("two", 1.5, 100_000):
        with pytest.raises(crosstile.CrosstileError, match="threads must be a number from 1 to 1024"):
            add(x, row, threads=threads)  # pyright: ignore[reportArgumentType]
    monkeypatch.setenv("CROSSTILE_NUM_THREADS", "many")
    with pytest.raises(
        crosstile.CrosstileError, match="CROSSTILE_NUM_THREADS must be a number from 1 to 1024, found 'many'"
    ):
        add(numbers(0, 300000, 4), row)


# Threads


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_results_do_not_depend_on_threads(threads: int):
    for name, shapes in (
        ("matmul.mlir", [(61, 130), (130, 75)]),
        ("softmax.mlir", [(61, 130)]),
        ("layer_norm.mlir", [(61, 130), (130,), (130,)]),
        ("mlp.mlir", [(37, 64), (64, 128), (64, 128), (128, 64)]),
    ):
        function = crosstile.compile(ROOT / "examples" / name)
        arguments = [numbers(seed, *shape) for seed, shape in enumerate(shapes)]
        np.testing.assert_array_equal(function(*arguments, threads=threads), function(*arguments, threads=1))


def test_many_python_threads_call_one_function(matmul: CompiledFunction):
    problems = [(numbers(seed, 20 + 7 * seed, 30), numbers(seed + 50, 30, 10 + seed)) for seed in range(8)]
    expected = [matmul(*problem) for problem in problems]
    failures: list[str] = []

    def call(position: int) -> None:
        for _ in range(30):
            found = matmul(*problems[position], threads=1 + position % 3)
            if not np.array_equal(found, expected[position]):
                failures.append(f"problem {position} differs")

    workers = [threading.Thread(target=call, args=(position,)) for position in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_what_it_became(matmul: CompiledFunction):
    assert matmul.kernels and all(name.startswith("matmul") for name in matmul.kernels)
    assert {"read", "fuse", "codegen"} <= set(matmul.compile_seconds)


def test_attention_in_bf16():
    import ml_dtypes

    type_ = "tensor<?x2x?x8xbf16>"
    names = '{nn.dims = ["B", "_", "S", "_"]}'
    text = f"""func.func @main(%q: {type_} {names}, %k: {type_} {names}, %v: {type_} {names}) -> {type_} {{
      %y = nn.attention %q, %k, %v accumulate f32 : {type_}, {type_}, {type_}
      func.return %y : {type_}
    }}"""
    q, k, v = (numbers(seed, 1, 2, 5, 8).astype(ml_dtypes.bfloat16) for seed in range(3))
    found = crosstile.compile(text)(q, k, v).astype(np.float64)
    scores = np.einsum("bhmd,bhnd->bhmn", q.astype(np.float64), k.astype(np.float64)) / np.sqrt(8)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = np.einsum("bhmn,bhne->bhme", weights / weights.sum(-1, keepdims=True), v.astype(np.float64))
    np.testing.assert_allclose(found, expected, atol=0.03)
