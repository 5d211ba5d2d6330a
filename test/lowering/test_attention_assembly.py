"""The machine code of attention whose products take words of bf16: which factors are packed, and the loops over k."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command import call
from inner_loops import inner_loops

from crosstile.targets.cpu_pipeline import LEVELS, steps
from crosstile.tools.opt import main as optimize
from crosstile.tools.translate import main as translate

TARGET = "x86-64-avx512-bf16"


def program(folder: Path, d: int | str, transposed: bool = False) -> Path:
    """Heads of queries and keys of ``d`` and values of 64, keys as rows or as columns."""
    name = "D" if d == "?" else "_"
    keys, key_names = (f"{d}x?", f'"{name}", "N"') if transposed else (f"?x{d}", f'"N", "{name}"')
    q, k, v, s = f"tensor<4x?x{d}xbf16>", f"tensor<4x{keys}xbf16>", "tensor<4x?x64xbf16>", "tensor<4x?x?xf32>"
    path = folder / "attention.mlir"
    path.write_text(f"""func.func @main(%q : {q} {{nn.dims = ["_", "M", "{name}"]}},
        %k : {k} {{nn.dims = ["_", {key_names}]}}, %v : {v} {{nn.dims = ["_", "N", "_"]}}) -> {v} {{
      %s = nn.batch_matmul %q, %k {"" if transposed else "{transpose_b}"} accumulate f32 : {q}, {k} -> {s}
      %w = nn.softmax %s dim 2 : {s}
      %n = nn.cast %w : {s} -> tensor<4x?x?xbf16>
      %y = nn.batch_matmul %n, %v accumulate f32 : tensor<4x?x?xbf16>, {v} -> {v}
      func.return %y : {v}
    }}""")
    return path


@pytest.mark.parametrize(
    ("d", "transposed", "staged"),
    [(64, False, "0, 2"), (65, False, "0, 1, 2"), ("?", False, "0, 1, 2"), (64, True, "0, 1, 2")],
)
def test_keys_are_packed_only_where_they_do_not_lie_in_words(
    d: int | str, transposed: bool, staged: str, tmp_path: Path
):
    """Among many queries; an odd head ends in half a word, and so may one of unknown size."""
    passes = [step for level in LEVELS[1:3] for step in steps(TARGET, level)]
    result = call(optimize, program(tmp_path, d, transposed), "--pass-pipeline", ",".join(passes[:-1]))
    assert result.code == 0, result.err
    found = re.findall(r"m : 64, n : 64.*?lane = m, stage = \[([0-9, ]*)\]", result.out, re.IGNORECASE)
    assert found and set(found) == {staged}, result.out


def test_loops_over_k_do_not_spill_and_the_rows_of_a_panel_have_one_address(tmp_path: Path):
    """4x64: sixteen products, four registers of words, and four broadcasts; of the values, from one place."""
    result = call(translate, program(tmp_path, 64), "--to", "asm", "--target", TARGET)
    assert result.code == 0, result.err
    loops = [
        loop for loop in inner_loops(result.out) if loop.counts["vdpbf16ps"] == 4 * loop.counts["vbroadcastss"] > 0
    ]
    assert not [line for loop in loops for line in loop.spills if line.startswith("v")]
    places = [
        {line[line.index("(") : line.index(")")] for line in loop.lines if line.startswith("vbroadcastss")}
        for loop in loops
        if loop.counts["vdpbf16ps"] == 16
    ]
    assert [place for place in places if len(place) == 1], places


def test_weights_are_rounded_two_registers_at_a_time(tmp_path: Path):
    """By one instruction and one that makes words of them."""
    result = call(translate, program(tmp_path, 64), "--to", "asm", "--target", TARGET)
    assert result.code == 0, result.err
    rounding = [loop for loop in inner_loops(result.out) if loop.counts["vcvtne2ps2bf16"]]
    assert rounding
    for loop in rounding:
        assert loop.counts["vscalefps"] == 2 * loop.counts["vcvtne2ps2bf16"]
        assert loop.counts["vpermw"] == loop.counts["vcvtne2ps2bf16"]
