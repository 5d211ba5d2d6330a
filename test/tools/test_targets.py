"""``--target`` and ``CROSSTILE_TARGET``: what a program is compiled for, and what runs here."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from command import call

import crosstile
from crosstile.targets import host
from crosstile.targets.host import TARGET, missing_features
from crosstile.targets.model import machine, machines
from crosstile.tools import check, opt, run, translate
from crosstile.tools.program import Program
from crosstile.tools.targets import find_machine

MATMUL = Path(__file__).resolve().parents[2] / "examples" / "matmul.mlir"
CPUS = sorted(name for name, row in machines().items() if row.triple.startswith("x86_64"))


@pytest.fixture
def a_core_with_avx2(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(host, "host_features", lambda: frozenset({"avx2", "fma"}))


@pytest.mark.parametrize("target", CPUS)
def test_every_core_is_compiled_for_wherever_it_runs(target: str, a_core_with_avx2: None):
    assembly = call(translate.main, str(MATMUL), "--target", target, "--to", "asm").out
    assert ("zmm" in assembly) == (machine(target).vector_bits == 512)
    assert Program.load(MATMUL, target).at("tile").body.ops


@pytest.mark.parametrize("tool", [run, check])
def test_what_this_core_lacks_is_named_before_anything_runs(tool: ModuleType, a_core_with_avx2: None):
    arguments = [str(MATMUL), "--target", "x86-64-avx512", "--dim", "M=3", "--dim", "N=3", "--dim", "K=3"]
    result: Any = call(tool.main, *arguments)
    lacking = ", ".join(missing_features(machine("x86-64-avx512")))
    assert "avx512f" in lacking and "avx2" not in lacking
    assert result.code == 1
    assert f"code for x86-64-avx512 does not run on this machine, which lacks {lacking}" in result.out + result.err


def test_python_refuses_it_too(a_core_with_avx2: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CROSSTILE_CACHE", "0")
    with pytest.raises(crosstile.CrosstileError, match="does not run on this machine, which lacks avx512f"):
        crosstile.compile(MATMUL, target="x86-64-avx512")


def test_the_variable_is_the_default_of_everything_that_compiles(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(TARGET, "x86-64-avx2")
    assert Program.load(MATMUL).machine.name == "x86-64-avx2"
    assembly = call(translate.main, str(MATMUL), "--to", "asm").out
    assert "ymm" in assembly and "zmm" not in assembly
    passes = ["--decompose", "--nn-to-nest", "--fuse", "--choose-schedule", "--nest-to-tile", "--tile-to-mma"]
    assert '"x86.avx2.fma' in call(opt.main, str(MATMUL), *passes[:-2]).out
    assert 'target "x86-64-avx2"' in call(opt.main, str(MATMUL), *passes).out
    sizes = ["--dim", "M=3", "--dim", "N=3", "--dim", "K=3"]
    assert "x86-64-avx2" in call(run.main, str(MATMUL), *sizes).out
    assert "x86-64-avx2" in call(check.main, str(MATMUL), *sizes).out
    a, b = np.ones((2, 3), np.float32), np.ones((3, 5), np.float32)
    assert (crosstile.compile(MATMUL)(a, b) == 3).all()
    assert Program.load(MATMUL, "host").machine.name == find_machine("host").name, "what is named counts"


def test_a_misspelt_variable_is_found_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(TARGET, "x86-64-avx3")
    with pytest.raises(
        crosstile.CrosstileError, match="unknown target 'x86-64-avx3' in CROSSTILE_TARGET; did you mean"
    ):
        crosstile.compile(MATMUL)


def test_opt_runs_the_passes_of_each_core():
    for target in CPUS:
        text = call(opt.main, str(MATMUL), "--target", target).out
        assert "llvm.func" in text


@pytest.mark.parametrize(
    ("kernel", "target", "message"),
    [
        ("gemm_sm90a_roles", "nvidia-sm_80", "is placed on sm_90a and does not run on sm_80, which has no sm_90a"),
        ("gemm_sm80_ring", "x86-64-avx2", "is placed on sm_80 and does not run on x86-64-avx2"),
        ("gemm_cpu", "nvidia-sm_90a", "is placed on x86-64-avx512 and does not run on sm_90a"),
    ],
)
def test_a_kernel_for_another_machine_is_refused(kernel: str, target: str, message: str):
    path = MATMUL.parent / "mma" / f"{kernel}.mlir"
    result = call(
        translate.main, str(path), "--from", "mma", "--target", target, "--to", "ptx" if "nvidia" in target else "asm"
    )
    assert (result.code, result.out) == (1, "")
    assert f"error: kernel 'gemm' {message}" in result.err
    assert "note: --target " in result.err


def test_a_gpu_runs_kernels_of_older_ones():
    path = MATMUL.parent / "mma" / "gemm_sm80_ring.mlir"
    text = call(translate.main, str(path), "--from", "mma", "--target", "nvidia-sm_90a", "--to", "ptx").out
    assert ".target sm_80\n" in text
