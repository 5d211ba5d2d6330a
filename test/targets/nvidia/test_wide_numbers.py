"""Numbers of 64 bits on a GPU: lanes exchange them as two words, functions are formulas, roots are rounded."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import call

from crosstile.targets.nvidia.emit import emit
from crosstile.tools.check import main as check
from crosstile.tools.program import Program

MATRIX = 'tensor<?x?x{0}> {{nn.dims = ["M", "N"]}}'
PROGRAMS = {
    "sum": ("i64", "%y = nn.reduce add %x dims [1] : tensor<?x?xi64> -> tensor<?xi64>", "tensor<?xi64>"),
    "largest": ("f64", "%y = nn.reduce max %x dims [1] : tensor<?x?xf64> -> tensor<?xf64>", "tensor<?xf64>"),
    "norm": (
        "f64",
        "%y = nn.layer_norm %x, %s, %s epsilon 1.0e-5 : tensor<?x?xf64>, tensor<?xf64>, tensor<?xf64>",
        "tensor<?x?xf64>",
    ),
    "softmax": ("f64", "%y = nn.softmax %x dim 1 : tensor<?x?xf64>", "tensor<?x?xf64>"),
    "gelu": ("f64", "%y = nn.gelu %x : tensor<?x?xf64>", "tensor<?x?xf64>"),
    "activations": (
        "f64",
        "%a = nn.tanh %x : tensor<?x?xf64> %b = nn.abs %a : tensor<?x?xf64> %y = nn.log %b : tensor<?x?xf64>",
        "tensor<?x?xf64>",
    ),
    "root": (
        "f64",
        "%a = nn.abs %x : tensor<?x?xf64> %y = nn.rsqrt %a : tensor<?x?xf64>",
        "tensor<?x?xf64>",
    ),
}


def program(name: str) -> str:
    element, body, result = PROGRAMS[name]
    scale = ', %s: tensor<?xf64> {nn.dims = ["N"]}' if "%s" in body else ""
    return f"""func.func @main(%x: {MATRIX.format(element)}{scale}) -> {result} {{
  {body}
  func.return %y : {result}
}}"""


@pytest.mark.parametrize("columns", [1, 70, 5000])
@pytest.mark.parametrize("target", ["nvidia-sm_80", "nvidia-sm_90a"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_right(name: str, target: str, columns: int, tmp_path: Path):
    (path := tmp_path / "wide.mlir").write_text(program(name))
    result = call(check, path, "--target", target, "--dim", "M=3", "--dim", f"N={columns}")
    assert result.code == 0, result.out + result.err


def test_instructions():
    compiled = Program.of_text("wide.mlir", program("norm"), "nvidia-sm_90a")
    for module in compiled.kernel_modules()[1].values():
        ptx = emit(compiled.lower_kernel(module))
        assert ptx.count("shfl.sync") % 2 == 0 and "shfl.sync" in ptx
        assert "rcp.rn.f64" in ptx and "rsqrt" not in ptx


ATTENTION = """func.func @main(%q: tensor<1x2x70x32xf64>, %k: tensor<1x2x90x32xf64>, %v: tensor<1x2x90x32xf64>)
    -> tensor<1x2x70x32xf64> {
  %y = nn.attention %q, %k, %v causal accumulate f64
      : tensor<1x2x70x32xf64>, tensor<1x2x90x32xf64>, tensor<1x2x90x32xf64>
  func.return %y : tensor<1x2x70x32xf64>
}"""


@pytest.mark.parametrize("target", ["nvidia-sm_80", "nvidia-sm_90a"])
def test_products_of_attention_are_on_matrix_units(target: str, tmp_path: Path):
    (path := tmp_path / "attention.mlir").write_text(ATTENTION)
    result = call(check, path, "--target", target)
    assert result.code == 0, result.out + result.err
    compiled = Program.of_text("attention.mlir", ATTENTION, target)
    ptx = [emit(compiled.lower_kernel(module)) for module in compiled.kernel_modules()[1].values()]
    assert sum(".f64.f64.f64.f64" in text for text in ptx) == 2
