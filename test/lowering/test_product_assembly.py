"""The machine code of matrix products: what the loop over k holds, and what it must not."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from command import call
from inner_loops import InnerLoop, inner_loops

from crosstile.tools.translate import main

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@cache
def loops(example: str, target: str) -> list[InnerLoop]:
    """The innermost loops with vector multiply-adds."""
    result = call(main, EXAMPLES / example, "--to", "asm", "--target", target)
    assert result.code == 0, result.err
    return [loop for loop in inner_loops(result.out) if loop.fma or loop.scalar_fma]


def test_the_loop_over_k_is_multiply_adds_and_loads():
    """6x64: four loads of the panel, six broadcasts, 24 multiply-adds, and a counter, a pointer and a comparison, which
    two steps of whole tiles share; packed or in place."""
    found = [loop for loop in loops("matmul.mlir", "x86-64-avx512") if not loop.masked]
    for steps in (1, 2):
        whole = [loop for loop in found if (loop.fma, loop.counts["vmovups"]) == (24 * steps, 4 * steps)]
        assert whole, f"no loop of the register tile 6x64 with {steps} steps in a trip"
        for loop in whole:
            assert loop.counts["vbroadcastss"] == 6 * steps
            assert len(loop.integers) <= 3, loop.integers


def test_no_variant_spills_in_a_loop_over_k():
    """Neither where tiles are whole nor where an edge cuts them, so that 1000x999x1001 is as fast as 1024x1024x1024.

    An edge's tile of eight vectors has eight masks, and seven registers hold them.
    """
    for loop in loops("matmul.mlir", "x86-64-avx512"):
        assert not [line for line in loop.spills if not (loop.masked and line.startswith("kmovw"))]


@pytest.mark.parametrize("target", ["x86-64-avx512", "x86-64-avx2"])
@pytest.mark.parametrize("example", ["matmul.mlir", "matmul_transposed.mlir"])
def test_every_variant_has_a_loop_without_masks_and_spills_and_none_is_scalar(example: str, target: str):
    """The loop for whole register tiles; packed or in place, whichever factor is transposed."""
    found = loops(example, target)
    assert not [loop for loop in found if loop.scalar_fma]
    plain = {loop.function for loop in found if not loop.spills and not loop.masked}
    assert plain == {loop.function for loop in found}
