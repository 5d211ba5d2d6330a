"""Attention of bf16, f16 and f32 in one kernel, with heads of any size: right at every level on every machine."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from command import call

import crosstile
from crosstile.targets.host import missing_features
from crosstile.targets.model import machine
from crosstile.tools.check import main
from crosstile.tools.translate import main as translate

TARGETS = ("x86-64-avx2", "x86-64-avx512", "x86-64-avx512-bf16", "x86-64-amx")
DTYPES = {"bf16": ml_dtypes.bfloat16, "f16": np.float16}


def program(element: str, d: int | str, e: int | str, words: str = "") -> str:
    """Two heads that share keys and values; ``d`` and ``e`` are their sizes or ``?``."""
    q, kv = f"tensor<?x2x?x{d}x{element}>", f"tensor<?x1x?x{d}x{element}>"
    v, y = f"tensor<?x1x?x{e}x{element}>", f"tensor<?x2x?x{e}x{element}>"
    head, payload = ("D" if d == "?" else "_"), ("E" if e == "?" else "_")
    return f"""func.func @main(%q : {q} {{nn.dims = ["B", "_", "M", "{head}"]}},
        %k : {kv} {{nn.dims = ["B", "_", "N", "{head}"]}},
        %v : {v} {{nn.dims = ["B", "_", "N", "{payload}"]}}) -> {y} {{
      %y = nn.attention %q, %k, %v {words} scale 0.3 accumulate f32 : {q}, {kv}, {v}
      func.return %y : {y}
    }}"""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("element", "sizes", "words"),
    [
        ("bf16", (2, 67, 131, 64, 64), "causal"),
        ("bf16", (1, 1, 1, 5, 7), ""),
        ("bf16", (1, 70, 130, 48, 40), ""),
        ("bf16", (1, 65, 66, 33, 100), "causal"),
        ("bf16", (1, 3, 0, 8, 8), ""),
        ("f16", (1, 70, 65, 80, 33), ""),
        ("f16", (0, 1, 1, 8, 8), "causal"),
    ],
    ids=str,
)
def test_narrow_factors_are_right_at_every_level(
    element: str, sizes: tuple[int, ...], words: str, target: str, tmp_path: Path
):
    b, m, n, d, e = sizes
    check(program(element, d, e, words), {"B": b, "M": m, "N": n}, target, tmp_path)


@pytest.mark.parametrize(
    ("element", "target", "sizes"),
    [
        ("f32", "x86-64-avx512", (19, 70, 20, 33)),
        ("f32", "x86-64-avx2", (3, 5, 0, 1)),
        ("f32", "x86-64-avx2", (5, 3, 521, 523)),
        ("bf16", "x86-64-amx", (19, 70, 20, 33)),
        ("bf16", "x86-64-amx", (3, 67, 521, 523)),
        ("bf16", "x86-64-amx", (5, 400, 20, 33)),
        ("bf16", "x86-64-avx512-bf16", (1, 1, 1, 1)),
        ("bf16", "x86-64-avx512-bf16", (65, 131, 20, 33)),
        ("f16", "x86-64-avx512", (17, 65, 97, 0)),
    ],
    ids=str,
)
def test_heads_of_any_size_known_at_run_time(element: str, target: str, sizes: tuple[int, ...], tmp_path: Path):
    """Up to 512 a head is one block; larger ones are summed, and their results computed, in blocks of that."""
    m, n, d, e = sizes
    check(program(element, "?", "?", "causal"), {"B": 1, "M": m, "N": n, "D": d, "E": e}, target, tmp_path)


@pytest.mark.parametrize(("d", "e"), [(320, 320), (100, 7), (521, 80), (96, 530)])
def test_large_and_odd_heads_known_ahead(d: int, e: int, tmp_path: Path):
    check(program("f32", d, e), {"B": 1, "M": 5, "N": 66}, "x86-64-avx512", tmp_path)


def written_out(element: str, scores: str) -> str:
    """Products, scale, soft cap, bias and softmax, with scores of type ``scores``: no ``nn.attention``."""
    q, kv, v = f"tensor<?x?x20x{element}>", f"tensor<?x?x20x{element}>", f"tensor<?x?x33x{element}>"
    s, w = f"tensor<?x?x?x{scores}>", f"tensor<?x?x?x{element}>"
    cast = "" if scores == element else f"%n = nn.cast %w : {s} -> {w}"
    return f"""func.func @main(%q : {q} {{nn.dims = ["H", "M", "_"]}}, %k : {kv} {{nn.dims = ["H", "N", "_"]}},
        %v : {v} {{nn.dims = ["H", "N", "_"]}}, %b : tensor<?x?x{scores}> {{nn.dims = ["M", "N"]}})
        -> tensor<?x?x33x{element}> {{
      %scale = nn.constant dense<0.25> : tensor<{scores}>
      %cap = nn.constant dense<4.0> : tensor<{scores}>
      %s = nn.batch_matmul %q, %k {{transpose_b}} accumulate f32 : {q}, {kv} -> {s}
      %scaled = nn.mul %s, %scale : {s}, tensor<{scores}>
      %capped = nn.tanh %scaled : {s}
      %stretched = nn.mul %capped, %cap : {s}, tensor<{scores}>
      %d = nn.add %stretched, %b : {s}, tensor<?x?x{scores}>
      %w = nn.softmax %d dim 2 : {s}
      {cast}
      %y = nn.batch_matmul %{"n" if cast else "w"}, %v accumulate f32 : {w}, {v} -> tensor<?x?x33x{element}>
      func.return %y : tensor<?x?x33x{element}>
    }}"""


@pytest.mark.parametrize("target", ["x86-64-avx512-bf16", "x86-64-amx"])
@pytest.mark.parametrize(("element", "scores"), [("bf16", "f32"), ("bf16", "bf16"), ("f16", "f32"), ("f16", "f16")])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 67, 131), (1, 3, 0)], ids=str)
def test_written_out_in_narrow_types_it_is_right_at_every_level(
    sizes: tuple[int, ...], element: str, scores: str, target: str, tmp_path: Path
):
    """Scores may be rounded as well: the kernel rounds them where the program does."""
    check(written_out(element, scores), dict(zip("HMN", sizes, strict=True)), target, tmp_path)


def check(text: str, dims: dict[str, int], target: str, folder: Path) -> None:
    """``crosstile check`` finds the program right; code that this machine cannot run is assembled at least."""
    path = folder / "attention.mlir"
    path.write_text(text)
    flags = [flag for name, size in dims.items() for flag in ("--dim", f"{name}={size}")]
    result = call(main, path, *flags, "--target", target, "--json")
    report = json.loads(result.out)
    *levels, code = report["levels"]
    assert all(level["right"] for level in levels), result.out
    if lacking := missing_features(machine(target)):
        assert f"which lacks {', '.join(lacking)};" in code["error"]
        result = call(translate, path, "--target", target, "--to", "obj", "-o", folder / "attention.o")
    assert result.code == 0, result.out + result.err


def test_a_head_of_a_size_known_at_run_time_has_the_bits_of_one_known_ahead():
    random = np.random.default_rng(1)
    q, k, v = (random.standard_normal((1, heads, 70, 72), np.float32) for heads in (2, 1, 1))
    known, unknown = (crosstile.compile(program("f32", *size)) for size in ((72, 72), ("?", "?")))
    np.testing.assert_array_equal(known(q, k, v), unknown(q, k, v))


@pytest.mark.parametrize("element", DTYPES)
def test_results_of_narrow_factors_depend_neither_on_other_queries_nor_on_threads(element: str):
    random = np.random.default_rng(0)
    q = random.standard_normal((2, 2, 131, 16)).astype(DTYPES[element])
    k, v = (random.standard_normal((2, 1, 259, 16)).astype(DTYPES[element]) for _ in range(2))
    function = crosstile.compile(program(element, 16, 16))
    whole = function(q, k, v, threads=1)
    np.testing.assert_array_equal(whole, function(q, k, v, threads=3))
    for count in (1, 7, 64):
        np.testing.assert_array_equal(whole[:, :, :count], function(np.ascontiguousarray(q[:, :, :count]), k, v))
    np.testing.assert_array_equal(whole[1:], function(q[1:], k[1:], v[1:]))
