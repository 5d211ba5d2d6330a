"""GPUs' programs on disk: found again, without the compiler; made again where anything differs or is damaged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crosstile
from crosstile.ir.context import make_context
from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.parsing import parse_module
from crosstile.targets.nvidia.call_plan import Buffer, CallPlan, CopyStep, FillStep, KernelStep, View
from crosstile.targets.nvidia.kept_plan import plan_from_json, plan_to_json
from crosstile.targets.nvidia.launch import GridDimension, KernelPlan, TensorMapRecipe
from crosstile.tools.cache import main
from crosstile.tools.device_code import DeviceCode
from crosstile.tools.object_cache import ObjectCache

ROOT = Path(__file__).resolve().parents[2]
ADD = """func.func @main(%x: tensor<?x4xf32>, %row: tensor<4xf32>) -> tensor<?x4xf32> {
  %c = arith.constant dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf32>
  %y = nn.add %x, %row : tensor<?x4xf32>, tensor<4xf32>
  %z = nn.mul %y, %c : tensor<?x4xf32>, tensor<4xf32>
  func.return %z : tensor<?x4xf32>
}
"""
X, ROW = np.arange(12, dtype=np.float32).reshape(3, 4), np.ones(4, np.float32)
EXPECTED = (X + ROW) * np.arange(1, 5, dtype=np.float32)
TARGET = "sm_80"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CROSSTILE_CACHE", "1")
    monkeypatch.setenv("CROSSTILE_CACHE_DIR", str(tmp_path / "kept"))

    def no_gpu() -> None:
        raise CrosstileError("no NVIDIA driver")

    monkeypatch.setattr("crosstile.tools.device.gpu", no_gpu)
    return tmp_path / "kept"


def is_cached(function: crosstile.GpuFunction) -> bool:
    return list(function.compile_seconds) == ["cache"]


def objects(directory: Path) -> list[Path]:
    return sorted(directory.glob("*/*.object"))


def test_what_calls_need_is_kept_when_they_need_it(directory: Path):
    first = crosstile.compile(ADD, TARGET)
    assert len(objects(directory)) == 1, "what a caller must know of it"
    np.testing.assert_array_equal(first(X, ROW), EXPECTED)
    count = len(objects(directory))
    assert count >= 3, "a plan for these shapes, a kernel"
    second = crosstile.compile(ADD, TARGET)
    for _ in range(2):
        np.testing.assert_array_equal(second(X, ROW), EXPECTED)
        assert is_cached(second) and second.kernels == first.kernels and len(objects(directory)) == count
    np.testing.assert_array_equal(second(X[:2], ROW), EXPECTED[:2])
    assert not is_cached(second) and len(objects(directory)) == count + 1, "a plan for others"
    third = crosstile.compile(ADD, TARGET)
    np.testing.assert_array_equal(third(X[:2], ROW), EXPECTED[:2])
    assert is_cached(third)


def test_all_that_decides_is_in_the_key(directory: Path):
    crosstile.compile(ADD, TARGET)
    others = (
        crosstile.compile(ADD + " ", TARGET),
        crosstile.compile(ADD, "sm_90a"),
        crosstile.compile(ADD, TARGET, "main"),
    )
    assert not any(map(is_cached, others))
    assert is_cached(crosstile.compile(ADD, TARGET)) and len(objects(directory)) == 4


def test_a_path_and_a_module_are_kept(directory: Path):
    (directory.parent / "add.mlir").write_text(ADD)
    path = directory.parent / "add.mlir"
    np.testing.assert_array_equal(crosstile.compile(path, TARGET)(X, ROW), EXPECTED)
    again = crosstile.compile(path, TARGET)
    np.testing.assert_array_equal(again(X, ROW), EXPECTED)
    assert is_cached(again)
    module = parse_module(ADD, "add.mlir", make_context())
    np.testing.assert_array_equal(crosstile.compile(module, TARGET)(X, ROW), EXPECTED)
    kept = crosstile.compile(module, TARGET)
    np.testing.assert_array_equal(kept(X, ROW), EXPECTED)
    assert is_cached(kept)


def test_ptx_names_the_file_that_it_is_of(directory: Path):
    (directory.parent / "add.mlir").write_text(ADD)
    for source in (ADD, directory.parent / "add.mlir"):
        code = DeviceCode.of_source(source, TARGET)
        (name,) = code
        assert ("add.mlir" in code[name].ptx) == isinstance(source, Path)


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other"])
def test_damaged_objects_are_made_again(directory: Path, damage: str):
    crosstile.compile(ADD, TARGET)(X, ROW)
    for path in objects(directory):
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        path.write_bytes({"empty": b"", "cut": whole[:-1], "flipped": bytes(flipped), "other": b"no\n{}\n"}[damage])
    function = crosstile.compile(ADD, TARGET)
    np.testing.assert_array_equal(function(X, ROW), EXPECTED)
    assert not is_cached(function)
    again = crosstile.compile(ADD, TARGET)
    np.testing.assert_array_equal(again(X, ROW), EXPECTED)
    assert is_cached(again), "the damaged files were replaced"


@pytest.mark.parametrize(
    "description",
    [{}, {"signature": {}, "kernels": []}, {"workspace": 0, "buffers": [], "steps": [["jump", 1]]}, {"name": "k"}],
)
def test_objects_of_another_form_are_made_again(directory: Path, description: dict[str, Any]):
    crosstile.compile(ADD, TARGET)(X, ROW)
    for path in objects(directory):
        ObjectCache(directory).store(path.stem, description, b"")
    np.testing.assert_array_equal(crosstile.compile(ADD, TARGET)(X, ROW), EXPECTED)


def test_constants_are_kept_once(directory: Path):
    data = ", ".join(f"{value}.0" for value in range(64))
    text = f"""func.func @main(%x: tensor<?x64xf32>) -> tensor<?x64xf32> {{
  %c = arith.constant dense<[{data}]> : tensor<64xf32>
  %y = nn.add %x, %c : tensor<?x64xf32>, tensor<64xf32>
  func.return %y : tensor<?x64xf32>
}}"""
    zeros = np.zeros((3, 64), np.float32)
    first = crosstile.compile(text, TARGET)
    counts: list[int] = []
    for rows in (1, 2, 3):
        np.testing.assert_array_equal(first(zeros[:rows])[0], np.arange(64))
        counts.append(len(objects(directory)))
    second = crosstile.compile(text, TARGET)
    for rows in (3, 1):
        np.testing.assert_array_equal(second(zeros[:rows])[0], np.arange(64))
    assert is_cached(second) and counts[2] == counts[0] + 2
    (constant,) = (path for path in objects(directory) if "-" in path.stem and b'"dtype"' in path.read_bytes())
    constant.unlink()
    np.testing.assert_array_equal(crosstile.compile(text, TARGET)(zeros)[0], np.arange(64))
    assert constant.exists()


def test_shapes_that_are_refused_are_refused_again():
    for _ in range(2):
        function = crosstile.compile(ROOT / "examples" / "matmul.mlir", TARGET)
        with pytest.raises(CrosstileError, match=r"dimension 0 of argument 1 \('b'\) must be"):
            function(np.ones((2, 3), np.float32), np.ones((4, 5), np.float32))


def test_switched_off(directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CROSSTILE_CACHE", "0")
    function = crosstile.compile(ADD, TARGET)
    np.testing.assert_array_equal(function(X, ROW), EXPECTED)
    assert "cache" not in function.compile_seconds and not directory.exists()


def test_the_command_counts_and_clears_them(directory: Path, capsys: pytest.CaptureFixture[str]):
    crosstile.compile(ADD, TARGET)(X, ROW)
    assert main(["info"]) == 0
    assert capsys.readouterr().out.startswith(f"{directory}\n  1 compiled program, 0.0")
    assert main(["clear"]) == 0
    assert capsys.readouterr().out == f"1 compiled program deleted from {directory}\n" and not objects(directory)


NO_COMPILER = """
import sys
from crosstile.tools.main import main
code = main(["run", sys.argv[1], "--target", "sm_90a", "--dim", "M=5", "--dim", "K=8", "--dim", "N=7", "--json"])
print(sorted(name for name in sys.modules if name.partition(".")[0] == "xdsl"), file=sys.stderr)
sys.exit(code)
"""


def test_a_program_that_ran_before_runs_without_the_compiler():
    command = [sys.executable, "-c", NO_COMPILER, str(ROOT / "examples" / "matmul_bf16.mlir")]
    for cached in (False, True):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ)
        assert done.returncode == 0, done.stderr
        assert done.stderr.endswith("[]\n") == cached


def test_plans_survive():
    view = View(1, 16, (3, 4), (4, 1), 4)
    data = np.arange(4, dtype=np.float32)
    plan = CallPlan(
        (Buffer("input", 0, (3, 4), np.dtype(np.float32), "x"), Buffer("constant", 0, (4,), data.dtype, "c", data)),
        (KernelStep("norm", (view, 7, 0.1, float("inf"))), FillStep(view, b"\0\1"), CopyStep(view, view)),
        512,
    )
    found = plan_from_json(plan_to_json(plan), {"c": data}.__getitem__)
    assert (found.steps, found.workspace) == (plan.steps, plan.workspace)
    assert [vars(one) for one in found.buffers] == [vars(one) for one in plan.buffers]
    kernel = KernelPlan(
        "gemm",
        "sm_90a",
        384,
        1024,
        16,
        (GridDimension(0, (1, 1), 256),),
        ((0, "pointer", 0), (0, "size", 1)),
        ("ptr", "i32"),
        (TensorMapRecipe(0, "bf16", ((0, 0), 64), (128, 64), 128),),
        1,
    )
    assert KernelPlan.from_json(kernel.to_json()) == kernel
    with pytest.raises(TypeError):
        KernelPlan.from_json({**kernel.to_json(), "colour": 1})
