"""Products of narrow floats on register tiles: summed in f32, rounded once, whatever blocks the sums are cut into.

Where a machine multiplies them in f32 only, they are widened: while they are packed, or in registers.
"""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from cpu_kernels import lowered

from crosstile.dialects.nn.error_bound import bound_program, compare
from crosstile.targets.host import host_machine, resolve_machine
from crosstile.targets.x86.emit import emit
from crosstile.tools.judge import Judge
from crosstile.tools.program import Program

DTYPES: dict[str, Any] = {"bf16": ml_dtypes.bfloat16, "f16": np.float16, "f32": np.float32}
TARGETS = sorted({host_machine().name, "x86-64-avx512", "x86-64-avx2"})
PRODUCT = """func.func @main(%a: tensor<?x?xIN>, %b: tensor<?x?xIN>) -> tensor<?x?xOUT> {
  %c = nn.matmul %a, %b FLAGSaccumulate f32 : tensor<?x?xIN>, tensor<?x?xIN> -> tensor<?x?xOUT>
  func.return %c : tensor<?x?xOUT>
}"""
EPILOGUE = """func.func @main(%a: tensor<?x?xIN>, %b: tensor<?x?xIN>, %bias: tensor<?xOUT>) -> tensor<?x?xOUT> {
  %c = nn.matmul %a, %b accumulate f32 : tensor<?x?xIN>, tensor<?x?xIN> -> tensor<?x?xOUT>
  %d = nn.add %c, %bias : tensor<?x?xOUT>, tensor<?xOUT>
  %e = nn.relu %d : tensor<?x?xOUT>
  func.return %e : tensor<?x?xOUT>
}"""
SIZES = [(1, 1, 1), (0, 3, 2), (3, 0, 2), (3, 4, 0), (1, 37, 2053), (13, 17, 1031), (37, 131, 50), (97, 101, 3)]


def program(element: str, result: str, target: str, text: str = PRODUCT, flags: str = "") -> Program:
    return Program.load(text.replace("IN", element).replace("OUT", result).replace("FLAGS", flags), target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "element, result, flags",
    [
        ("bf16", "bf16", ""),
        ("bf16", "bf16", "{transpose_a, transpose_b} "),
        ("bf16", "f32", ""),
        ("f16", "f16", ""),
        ("f16", "f32", "{transpose_a, transpose_b} "),
    ],
)
def test_any_size_is_inside_its_bound(element: str, result: str, target: str, flags: str) -> None:
    loaded = program(element, result, target, flags=flags)
    function = loaded.compile().function
    module = lowered(PRODUCT.replace("IN", element).replace("OUT", result).replace("FLAGS", flags), "")
    for m, n, k in SIZES:
        random = np.random.default_rng(m + 3 * n + 7 * k)
        shapes = [(k, m), (n, k)] if flags else [(m, k), (k, n)]
        a, b = (random.standard_normal(shape).astype(DTYPES[element]) for shape in shapes)
        inputs = function.check_inputs([a, b])
        (found,) = results = function.new_outputs(inputs)
        found[...] = np.nan
        function(inputs, results)
        ((expected, bound),) = bound_program(module, "main", [a, b])
        assert compare(found, expected, bound).right, (m, n, k)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("element", ["bf16", "f16"])
@pytest.mark.parametrize("rows", [1, 37])
def test_an_epilogue_follows_the_rounding(target: str, element: str, rows: int) -> None:
    random = np.random.default_rng(5)
    arguments = [random.standard_normal(shape).astype(DTYPES[element]) for shape in ((rows, 67), (67, 19), (19,))]
    report = Judge(program(element, element, target, EPILOGUE), arguments).run()
    assert report.right, [(verdict.level, verdict.share, verdict.error, verdict.remarks) for verdict in report.verdicts]
    assert "the same bits as mma" in report.verdicts[-1].remarks


def test_numbers_are_widened_while_they_are_packed_and_not_in_the_loop() -> None:
    """The inner loop of the general variant is that of a product of f32."""
    passes = (
        "decompose,nn-to-nest,fuse,choose-schedule{target=x86-64-avx512},nest-to-tile,tile-to-mma{target=x86-64-avx512},"
        "plan-buffers,mma-to-hardware,arith-emulate-unsupported-floats,expand-math,convert-scf-to-cf,convert-to-llvm"
    )
    text = PRODUCT.replace("IN", "f16").replace("OUT", "f32").replace("FLAGS", "")
    text = text.replace("tensor<?x?xf16>", "tensor<64x64xf16>").replace("tensor<?x?xf32>", "tensor<64x64xf32>")
    assembly = emit(lowered(text, passes), resolve_machine("x86-64-avx512"), "asm")
    assert isinstance(assembly, str)
    blocks = re.split(r"^\.LBB\d+_\d+:", assembly, flags=re.M)
    loops = [block for block in blocks if block.count("vfmadd231ps") == 24]
    assert loops and not any("vcvtph2ps" in loop for loop in loops)
    assert "vcvtph2ps" in assembly
