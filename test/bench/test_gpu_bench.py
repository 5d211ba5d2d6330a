"""The GPU benchmark runs in the simulator as it would on a GPU, and says so where it cannot run."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gpu as bench
import numpy as np
import pytest
from fake_cuda import FakeCuda
from measured_gpu import problems
from measured_gpu.bits import differing

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.driver import CudaDevice
from crosstile.targets.nvidia.run import SimulatedDevice


def missing() -> None:
    raise CrosstileError("no NVIDIA driver")


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_all_of_it_runs_in_the_simulator(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("crosstile.tools.device.gpu", missing)
    found, picture = tmp_path / "gpu.json", tmp_path / "gpu.svg"
    flags = ["--simulate", "--target", target, "--json", str(found), "--svg", str(picture)]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *flags])
    assert bench.main() == 0
    rows = json.loads(found.read_text())["rows"]
    assert {row["part"] for row in rows} == {"right", "bits", "fast"}
    assert all(row["right"] for row in rows if "right" in row) and all(row["equal"] for row in rows if "equal" in row)
    assert not [row["name"] for row in rows if "not supported" in row]
    assert picture.read_text().startswith("<svg") and "right" in capsys.readouterr().out


def test_without_a_gpu_it_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(bench, "gpu", missing)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    assert bench.main() == 2
    assert capsys.readouterr().err == ("bench/gpu.py: no NVIDIA driver; --simulate runs tiny sizes in the simulator\n")


def test_other_arithmetic_is_noticed():
    """Ampere adds eight products at a time and Hopper sixteen, and the operands show it."""
    wrong, total = differing(SimulatedDevice("sm_80"), "mma", "bf16", "sm_80", 2)
    assert (wrong, total) == (0, 256)
    wrong, _ = differing(CudaDevice(library=FakeCuda((9, 0))), "mma", "bf16", "sm_80", 2)
    assert wrong > 0


def test_problems_of_the_gpu_are_described():
    for problem in [*problems.checks(False), *problems.speeds(False)]:
        assert problem.arguments and (problem.moved or problem.operations) and problem.text.count("func.func") == 1
    x = np.random.default_rng(0).standard_normal((1, 5, 6, 3))
    w = np.zeros((3, 3, 3, 3))
    w[1, 1] = np.eye(3)
    np.testing.assert_array_equal(problems.convolution(x, w), x)
