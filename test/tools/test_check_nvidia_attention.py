"""Attention of bf16 and f16 on tensor cores: right at every level and as PTX, whatever the sizes and the mask."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import call

from crosstile.tools.check import main


def program(element: str, d: int, e: int, words: str = "") -> str:
    """Two heads that share keys and values."""
    q, kv = f"tensor<?x2x?x{d}x{element}>", f"tensor<?x1x?x{d}x{element}>"
    v, y = f"tensor<?x1x?x{e}x{element}>", f"tensor<?x2x?x{e}x{element}>"
    return f"""func.func @main(%q : {q} {{nn.dims = ["B", "_", "M", "_"]}},
        %k : {kv} {{nn.dims = ["B", "_", "N", "_"]}}, %v : {v} {{nn.dims = ["B", "_", "N", "_"]}}) -> {y} {{
      %y = nn.attention %q, %k, %v {words} scale 0.3 accumulate f32 : {q}, {kv}, {v}
      func.return %y : {y}
    }}"""


@pytest.mark.parametrize("target", ["nvidia-sm_80", "nvidia-sm_90a"])
@pytest.mark.parametrize(
    ("element", "sizes", "words"),
    [
        ("bf16", (1, 5, 131, 64, 64), ""),
        ("bf16", (1, 66, 131, 32, 32), "causal"),
        ("f16", (1, 1, 259, 128, 128), ""),
        ("bf16", (1, 3, 61, 256, 16), "causal"),
        ("f16", (1, 5, 65, 80, 40), ""),
        ("bf16", (1, 2, 7, 5, 7), "causal"),
        ("bf16", (2, 1, 1, 8, 8), ""),
        ("bf16", (1, 3, 0, 8, 8), ""),
        ("f16", (0, 1, 1, 8, 8), "causal"),
        ("f16", (1, 0, 5, 8, 8), ""),
    ],
    ids=str,
)
def test_attention_is_right_as_ptx(element: str, sizes: tuple[int, ...], words: str, target: str, tmp_path: Path):
    b, m, n, d, e = sizes
    path = tmp_path / "attention.mlir"
    path.write_text(program(element, d, e, words))
    dims = ("--dim", f"B={b}", "--dim", f"M={m}", "--dim", f"N={n}")
    result = call(main, path, *dims, "--target", target, "--json")
    assert result.code == 0, result.out + result.err
    report = json.loads(result.out)
    assert [level["level"] for level in report["levels"]] == ["nn", "nest", "tile", "mma", "PTX"]
    assert report["right"] and all(level["right"] for level in report["levels"])
