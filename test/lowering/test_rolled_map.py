"""Long bodies on many registers become loops over groups of registers, with the same bits; short ones stay unrolled."""

from __future__ import annotations

import numpy as np
import pytest
from xdsl.dialects import math, memref
from xdsl.dialects.func import FuncOp

import crosstile
from crosstile.lowering.mma_to_hardware import rolled_map
from crosstile.tools.program import Program

LAYER = """func.func @main(%x: tensor<?x?xf32>, %w: tensor<?x?xf32>, %b: tensor<?xf32>, %r: tensor<?x?xf32>)
    -> tensor<?x?xf32> {{
  %product = nn.matmul %x, %w accumulate f32 : tensor<?x?xf32>, tensor<?x?xf32>
  %biased = nn.add %product, %b : tensor<?x?xf32>, tensor<?xf32>
  %y = nn.{activation} %biased : tensor<?x?xf32>
  %z = nn.mul %y, %r : tensor<?x?xf32>, tensor<?x?xf32>
  func.return %z : tensor<?x?xf32>
}}
"""
TARGET = "x86-64-avx512"


def functions(activation: str) -> list[FuncOp]:
    """The functions of the layer's kernels at the hardware level."""
    program = Program.load(LAYER.format(activation=activation), TARGET)
    return [op for op in program.at("hardware").ops if isinstance(op, FuncOp) and op.sym_name.data.startswith("matmul")]


@pytest.mark.parametrize(("activation", "rolled"), [("gelu", True), ("tanh", True), ("relu", False)])
def test_long_bodies_are_rolled(activation: str, rolled: bool):
    kernels = functions(activation)
    stacks = [sum(isinstance(op, memref.AllocaOp) for op in kernel.walk()) for kernel in kernels]
    assert (max(stacks) == 1) == rolled and len(kernels) > 1
    for kernel in kernels:
        multiplied = sum(isinstance(op, math.FmaOp) for op in kernel.walk())
        assert multiplied < 500, "a few copies of the formula, not one for each register of the tile"


@pytest.mark.parametrize(("m", "k", "n"), [(0, 3, 5), (1, 1, 1), (7, 0, 65), (37, 19, 131)])
def test_the_bits_are_those_of_unrolled_bodies(monkeypatch: pytest.MonkeyPatch, m: int, k: int, n: int):
    random = np.random.default_rng(0)
    inputs = [random.standard_normal(shape, np.float32) for shape in ((m, k), (k, n), (n,), (m, n))]
    rolled = crosstile.compile(LAYER.format(activation="gelu"))(*inputs)
    monkeypatch.setattr(rolled_map, "MOST_UNROLLED", 1 << 20)
    unrolled = crosstile.compile(LAYER.format(activation="gelu"))(*inputs)
    np.testing.assert_array_equal(rolled.view(np.int32), unrolled.view(np.int32))
