"""The unchanged examples are right on NVIDIA's GPUs, at every level and as the PTX that the simulator executes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command import call

import crosstile
from crosstile.tools.check import main
from crosstile.tools.run import main as run
from crosstile.tools.translate import main as translate

Tool = Callable[[list[str]], int]
EXAMPLES = Path(crosstile.__path__[0]) / "examples"
ROWS = ("--dim", "M=5", "--dim", "N=9")
SIZES = (*ROWS, "--dim", "K=7")
ALIGNED = ("--dim", "M=66", "--dim", "N=16", "--dim", "K=72")
CASES = [
    ("attention.mlir", ("--dim", "B=1", *ROWS)),
    ("batch_matmul.mlir", ("--dim", "B=2", *ROWS)),
    ("broadcast_chain.mlir", ROWS),
    ("conv2d.mlir", ("--dim", "N=1", "--dim", "H=1", "--dim", "W=2")),
    ("digits/digits.mlir", ("--dim", "N=3")),
    ("encoder.mlir", ("--dim", "S=5")),
    ("gelu.mlir", ROWS),
    ("layer_norm.mlir", ROWS),
    ("matmul.mlir", SIZES),
    ("matmul_bf16.mlir", SIZES),
    ("matmul_bf16.mlir", ALIGNED),
    ("matmul_bf16.mlir", ("--dim", "M=3", "--dim", "N=8", "--dim", "K=0")),
    ("matmul_bias_gelu.mlir", SIZES),
    ("matmul_int8.mlir", SIZES),
    ("matmul_int8.mlir", ALIGNED),
    ("matmul_long_k.mlir", ()),
    ("matmul_transposed.mlir", SIZES),
    ("mlp.mlir", ("--dim", "N=3")),
    ("rms_norm.mlir", ROWS),
    ("row_sum.mlir", ROWS),
    ("softmax.mlir", ROWS),
]


def test_every_example_is_checked():
    found = {str(path.relative_to(EXAMPLES)) for path in [*EXAMPLES.glob("*.mlir"), *EXAMPLES.glob("digits/*.mlir")]}
    assert found == {name for name, _ in CASES}


@pytest.mark.parametrize("target", ["nvidia-sm_80", "nvidia-sm_90a"])
@pytest.mark.parametrize(("name", "dims"), CASES)
def test_examples_are_right_as_ptx(name: str, dims: tuple[str, ...], target: str):
    result = call(main, EXAMPLES / name, *dims, "--target", target, "--json")
    assert result.code == 0, result.out + result.err
    report = json.loads(result.out)
    assert [level["level"] for level in report["levels"]] == ["nn", "nest", "tile", "mma", "PTX"]
    assert report["right"] and all(level["right"] for level in report["levels"])


def test_what_the_simulator_would_take_hours_for_is_refused():
    sizes = ("--dim", "M=4096", "--dim", "N=4096", "--dim", "K=4096")
    result = call(run, EXAMPLES / "matmul_bf16.mlir", *sizes, "--target", "nvidia-sm_90a")
    assert result.code == 1 and "too many for the simulator" in result.err and "Traceback" not in result.err


KERNEL = EXAMPLES / "mma" / "gemm_sm80_ring.mlir"
SIZES_GIVEN = ("--dim", "M=4", "--dim", "N=4", "--dim", "K=4", "--target", "nvidia-sm_80")
REFUSED = [
    (run, (KERNEL, "--from", "mma", "--target", "nvidia-sm_80"), "kernels only, and no function that launches them"),
    (run, (EXAMPLES / "matmul_bf16.mlir", *SIZES_GIVEN, "--level", "hardware"), "without --level its PTX runs"),
    (
        translate,
        (EXAMPLES / "mma" / "gemm_cpu.mlir", "--from", "mma", "--target", "nvidia-sm_80", "--to", "ptx"),
        "is placed on x86-64-avx512 and does not run on sm_80",
    ),
]


@pytest.mark.parametrize(("tool", "flags", "message"), REFUSED)
def test_what_no_gpu_runs_is_refused(tool: Tool, flags: tuple[str | Path, ...], message: str):
    result = call(tool, *flags)
    assert result.code == 1 and message in result.err and "Traceback" not in result.err, result.err


@pytest.mark.parametrize("dims", [("M=0", "N=8", "K=8"), ("M=3", "N=0", "K=8"), ("M=67", "N=1", "K=1")])
def test_empty_and_thin_results(dims: tuple[str, ...]):
    flags = [flag for dim in dims for flag in ("--dim", dim)]
    result = call(main, EXAMPLES / "matmul_bf16.mlir", *flags, "--target", "nvidia-sm_90a")
    assert result.code == 0, result.out + result.err


NARROW_ROWS = """
func.func @main(%x: tensor<?x?xbf16> {nn.dims = ["M", "N"]}, %g: tensor<?xbf16> {nn.dims = ["N"]},
    %b: tensor<?xbf16> {nn.dims = ["N"]}) -> tensor<?x?xbf16> {
  %n = nn.layer_norm %x, %g, %b epsilon 1.0e-5 : tensor<?x?xbf16>, tensor<?xbf16>, tensor<?xbf16>
  %s = nn.softmax %n dim 1 : tensor<?x?xbf16>
  %y = nn.gelu %s : tensor<?x?xbf16>
  func.return %y : tensor<?x?xbf16>
}
"""


@pytest.mark.parametrize("target", ["host", "nvidia-sm_80", "nvidia-sm_90a"])
@pytest.mark.parametrize("dims", [("M=0", "N=5"), ("M=3", "N=0"), ("M=1", "N=1"), ("M=7", "N=13")])
def test_rows_of_narrow_floats_are_computed_in_f32(dims: tuple[str, ...], target: str, tmp_path: Path):
    """Composites widen once, round once, and what widens joins its readers, on every machine alike."""
    path = tmp_path / "rows.mlir"
    path.write_text(NARROW_ROWS)
    flags = [flag for dim in dims for flag in ("--dim", dim)]
    result = call(main, path, *flags, "--target", target)
    assert result.code == 0, result.out + result.err
