"""No variant of a product, of attention or of softmax spills registers, and none exceeds what a thread may have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import crosstile
from crosstile.targets.nvidia.emit import emit
from crosstile.targets.nvidia.ptxas import assemble
from crosstile.tools.program import Program

EXAMPLES = Path(crosstile.__path__[0]) / "examples"
NAMES = ("matmul_bf16", "matmul_int8", "matmul_transposed", "softmax", "attention")
SPILLED = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_spilled(name: str, target: str):
    program = Program.load(str(EXAMPLES / f"{name}.mlir"), f"nvidia-{target}")
    _, kernels = program.kernel_modules()
    assert kernels
    for kernel, module in kernels.items():
        _, remarks = assemble(emit(program.lower_kernel(module)), target)
        found = SPILLED.findall(remarks)
        assert found == [("0", "0")], f"{kernel}: {remarks}"
