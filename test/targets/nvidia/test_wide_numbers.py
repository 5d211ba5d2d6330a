"""Numbers of 64 bits on a GPU: lanes exchange them as two words, and roots are rounded, not approximated."""

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
