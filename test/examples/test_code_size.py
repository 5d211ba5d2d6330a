"""Code stays small: what is written once at a high level must not be written out a thousand times at a low one.

An operation costs some 100 microseconds on its way to machine code, so these bounds are bounds on the time to compile,
and on the instructions that a kernel brings into a core's cache of 32 KB. They are for ``x86-64-avx512``, whatever the
machine that tests.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.llvm import FuncOp

from crosstile.dialects import mma
from crosstile.lowering.split_kernels import split_kernels
from crosstile.targets.x86.emit import emit
from crosstile.tools.program import Program

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TARGET = "x86-64-avx512"
MOST_AT_MMA = 300
"""Operations of one kernel while a fragment is still one value."""
MOST_AT_LLVM = 2100
MOST_BYTES = 16_000


def count(op: ModuleOp | FuncOp | mma.KernelOp) -> int:
    return sum(1 for _ in op.walk())


@pytest.mark.parametrize(
    "name", ["matmul", "matmul_bf16", "matmul_bias_gelu", "conv2d", "attention", "softmax", "layer_norm", "gelu"]
)
def test_kernels_stay_small(name: str):
    program = Program.load(EXAMPLES / f"{name}.mlir", TARGET)
    kernels = [op for op in program.at("mma").ops if isinstance(op, mma.KernelOp)]
    assert kernels and max(map(count, kernels)) <= MOST_AT_MMA
    lowered = program.lowered()
    functions = [op for op in lowered.ops if isinstance(op, FuncOp)]
    assert max(map(count, functions)) <= MOST_AT_LLVM
    assert len(emit(lowered, program.machine, "obj")) <= MOST_BYTES * len(kernels)


def test_what_comes_before_the_first_kernel_is_small():
    module = Program.load(EXAMPLES / "matmul_bias_gelu.mlir", TARGET).at("mma").clone()
    split_kernels(module)
    assert count(module) < 64, "the host functions, which every process compiles"
