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


PRODUCTS = [("f16", "f32", ""), ("f32", "f32", "precision tf32 "), ("f32", "f32", ""), ("f64", "f64", "")]


def check(program: Program, target: str) -> None:
    _, kernels = program.kernel_modules()
    assert kernels
    for kernel, module in kernels.items():
        _, remarks = assemble(emit(program.lower_kernel(module)), target)
        found = SPILLED.findall(remarks)
        assert found == [("0", "0")], f"{kernel}: {remarks}"


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_spilled(name: str, target: str):
    check(Program.load(str(EXAMPLES / f"{name}.mlir"), f"nvidia-{target}"), target)


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize(("element", "sums", "precision"), PRODUCTS)
@pytest.mark.parametrize("transposed", ["", "{transpose_b} "])
def test_products_with_a_bias_spill_nothing(element: str, sums: str, precision: str, transposed: str, target: str):
    """Aligned or not, for any number of rows: elements of 32 bits that are copied one by one have narrower blocks."""
    factor, result = f"tensor<?x?x{element}>", f"tensor<?x?x{sums}>"
    program = f"""func.func @main(%a: {factor}, %b: {factor}, %v: tensor<?x{sums}>) -> {result} {{
  %c = nn.matmul %a, %b {transposed}accumulate {sums} {precision}: {factor}, {factor} -> {result}
  %d = nn.add %c, %v : {result}, tensor<?x{sums}>
  func.return %d : {result}
}}"""
    check(Program.load(program, f"nvidia-{target}"), target)
