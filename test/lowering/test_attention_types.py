"""Attention of bf16 and f16 in one kernel: right at every level on every machine, whatever the sizes."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from command import call

import crosstile
from crosstile.tools.check import main

TARGETS = ("x86-64-avx2", "x86-64-avx512", "x86-64-avx512-bf16", "x86-64-amx")
DTYPES = {"bf16": ml_dtypes.bfloat16, "f16": np.float16}


def program(element: str, d: int, e: int, words: str = "") -> str:
    """Two heads that share keys and values."""
    q, kv = f"tensor<?x2x?x{d}x{element}>", f"tensor<?x1x?x{d}x{element}>"
    v, y = f"tensor<?x1x?x{e}x{element}>", f"tensor<?x2x?x{e}x{element}>"
    return f"""func.func @main(%q : {q} {{nn.dims = ["B", "_", "M", "_"]}},
        %k : {kv} {{nn.dims = ["B", "_", "N", "_"]}}, %v : {v} {{nn.dims = ["B", "_", "N", "_"]}}) -> {y} {{
      %y = nn.attention %q, %k, %v {words} scale 0.3 accumulate f32 : {q}, {kv}, {v}
      func.return %y : {y}
    }}"""


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("element", "sizes", "words"),
    [
        ("bf16", (2, 67, 131, 64, 64), "causal"),
        ("bf16", (1, 1, 1, 5, 7), ""),
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
    path = tmp_path / "attention.mlir"
    path.write_text(program(element, d, e, words))
    dims = ("--dim", f"B={b}", "--dim", f"M={m}", "--dim", f"N={n}")
    result = call(main, path, *dims, "--target", target, "--json")
    assert result.code == 0, result.out + result.err
    assert json.loads(result.out)["right"]


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
