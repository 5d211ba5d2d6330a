"""Every pass on the way of every example leaves a module that verifies, with none of it printed and parsed between."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import call

from crosstile.tools import opt

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PROGRAMS = sorted(EXAMPLES.glob("*.mlir"))
BYTES = EXAMPLES / "matmul_int8.mlir"
CASES = [
    *((program, "x86-64-avx512-bf16") for program in PROGRAMS),
    *((EXAMPLES / f"{name}.mlir", "nvidia-sm_90a") for name in ("matmul_bf16", "attention", "conv2d", "layer_norm")),
    *((BYTES, target) for target in ("x86-64-avx2", "x86-64-avx512", "x86-64-amx", "nvidia-sm_80", "nvidia-sm_90a")),
]


@pytest.mark.parametrize(("program", "target"), CASES, ids=lambda value: getattr(value, "stem", value))
def test_every_pass_leaves_what_verifies(program: Path, target: str, tmp_path: Path):
    result = call(opt.main, str(program), "--target", target, "-o", str(tmp_path / "out.mlir"))
    assert (result.code, result.err) == (0, "")
