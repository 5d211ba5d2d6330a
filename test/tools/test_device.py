"""Programs for GPUs: compiled to PTX and run in the simulator where there is no GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import call

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.model import machine
from crosstile.targets.nvidia.run import SimulatedDevice
from crosstile.tools import check, run
from crosstile.tools.device import DeviceKernels, open_device
from crosstile.tools.program import Program

MATMUL = str(Path(__file__).resolve().parents[2] / "examples" / "matmul_bf16.mlir")
SIZES = ("--dim", "M=20", "--dim", "N=16", "--dim", "K=24")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch):
    def missing(*_: object):
        raise CrosstileError("no NVIDIA driver")

    monkeypatch.setattr("crosstile.tools.device.gpu", missing)


def test_a_program_is_run_in_the_simulator_which_says_so_in_one_line():
    result = call(run.main, MATMUL, "--target", "sm_80", *SIZES)
    assert result.code == 0
    assert result.out.endswith(", simulated: no NVIDIA driver\n")
    assert "kernels  matmul" in result.out


def test_a_program_is_checked_down_to_its_ptx():
    result = call(check.main, MATMUL, "--target", "sm_80", *SIZES)
    assert (result.code, result.err) == (0, "")
    assert "PTX           right" in result.out and result.out.endswith("right\n")


def test_kernels_are_compiled_when_they_are_asked_for():
    kernels = DeviceKernels(Program.load(MATMUL, "sm_80"))
    assert kernels.compiled == [] and len(kernels) > 1
    name = next(iter(kernels))
    assert f".entry {name}(" in kernels[name].ptx and kernels[name].plan.name == name
    assert kernels.compiled == [name]
    device, where = open_device(machine("sm_80"))
    assert isinstance(device, SimulatedDevice) and where == "simulated: no NVIDIA driver"


def test_flags_that_say_nothing_to_a_gpu_or_to_the_simulator():
    result = call(run.main, MATMUL, "--target", "sm_80", "--threads", "2", *SIZES)
    assert result.code == 1 and "--threads is for cores of a CPU: a kernel for sm_80 says how many" in result.err
    result = call(run.main, MATMUL, "--target", "sm_80", "--repeat", "2", *SIZES)
    assert result.code == 1
    assert "--repeat times the runs of a GPU, and here kernels are simulated: no NVIDIA driver" in result.err


def test_python_says_where_such_code_runs():
    with pytest.raises(CrosstileError, match="code for sm_80 runs on a GPU or in the simulator"):
        Program.load(MATMUL, "sm_80").compile()
