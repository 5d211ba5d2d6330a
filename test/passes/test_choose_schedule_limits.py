"""Schedules that a machine cannot run: refused with the limit, the value, the nearest that is legal, and the place."""

from __future__ import annotations

import pytest

from crosstile.ir.diagnostics import CrosstileError
from crosstile.tools.program import Program

PROGRAM = """func.func @main(%x : tensor<?x?xf32>, %w : tensor<?x?xf32>) -> tensor<?x?xf32> {{
  %y = nest.kernel @product (%a = %x : tensor<?x?xf32>, %b = %w : tensor<?x?xf32>) -> (tensor<?x?xf32>)
      schedules [#nest.schedule<loops = [{loops}], parallel = m, lane = n, stage = [1],
                                intrinsic = "{intrinsic}">] {{
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (m, k), %b (k, n) : tensor<?x?xf32>, tensor<?x?xf32>) -> (m, n) : tensor<?x?xf32> {{
    ^bb0(%p : f32, %q : f32):
      %t = arith.mulf %p, %q : f32
      nest.yield %t : f32
    }}
    nest.yield %c : tensor<?x?xf32>
  }}
  func.return %y : tensor<?x?xf32>
}}"""
AVX512, AVX2 = "x86.avx512.fma.1x16x1.f32", "x86.avx2.fma.1x8x1.f32"
PREFIX = "p.mlir:2:3: choose-schedule: the schedule of @product does not fit: "
CASES = {
    "too many rows for 32 registers": (
        "x86-64-avx512",
        "n : 64, k : 512, m : 14",
        "the register tile m : 14, n : 64 takes 61 registers, 14*4 of them accumulators; x86-64-avx512 has 32: the "
        "nearest that fits is m : 6, n : 64 or m : 14, n : 32",
    ),
    "too wide for 16 registers": (
        "x86-64-avx2",
        "n : 128, k : 512, m : 1",
        "the register tile m : 1, n : 128 takes 33 registers, 1*16 of them accumulators; x86-64-avx2 has 16: the "
        "nearest that fits is m : 1, n : 56",
    ),
    "a packed block beyond the last cache": (
        "x86-64-avx512",
        "n : 4096, k : 2048, m : 64, n : 64, m : 4",
        "input 1 is packed in blocks of n : 4096, k : 2048, 33554432 bytes; L3 of x86-64-avx512 holds 16777216: the "
        "nearest that fits is n : 2048 or k : 1024",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_is_refused_with_what_would(case: str):
    target, loops, message = CASES[case]
    text = PROGRAM.format(loops=loops, intrinsic=AVX512 if "512" in target else AVX2)
    program = Program.of_text("p.mlir", text, target, "nest")
    with pytest.raises(CrosstileError) as caught:
        program.at("tile")
    assert str(caught.value).splitlines()[0] == PREFIX + message


@pytest.mark.parametrize(
    "loops", ["n : 64, k : 512, m : 6", "n : 64, k : 512, m : 14, n : 32", "n : 2048, k : 2048, m : 4"]
)
def test_what_is_advised_is_taken(loops: str):
    tiles = {"n : 2048, k : 2048, m : 4": "n : 2048, k : 2048, n : 64, m : 4"}
    text = PROGRAM.format(loops=tiles.get(loops, loops), intrinsic=AVX512)
    assert Program.of_text("p.mlir", text, "x86-64-avx512", "nest").at("mma").body.ops


@pytest.mark.parametrize(("columns", "nearest"), [(24, "16 or 32"), (8, "1 or 16")])
def test_a_tile_that_does_not_fill_the_lanes_is_refused(columns: int, nearest: str):
    text = PROGRAM.format(loops=f"n : 96, k : 512, n : {columns}, m : 4", intrinsic=AVX512)
    message = rf"p.mlir:2:3: .* does not fill vector registers of 16 lanes: .* the nearest legal size is {nearest}"
    with pytest.raises(CrosstileError, match=message):
        Program.of_text("p.mlir", text, "x86-64-avx512", "nest").at("mma")


def test_tf32_needs_permission():
    text = PROGRAM.format(loops="m : 128, n : 128, k : 16", intrinsic="nvidia.mma.m16n8k8.f32.tf32")
    with pytest.raises(CrosstileError) as caught:
        Program.of_text("p.mlir", text, "nvidia-sm_80", "nest").at("tile")
    message = "nvidia.mma.m16n8k8.f32.tf32 cuts factors off to tf32, which the product does not allow: precision tf32"
    assert str(caught.value).splitlines()[0] == PREFIX + message
