"""PTX of the hand-written kernels: ptxas accepts it, spills nothing, and every line knows where it comes from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.ir.passes import run_passes
from crosstile.ir.pipeline import make_pass, parse_pipeline
from crosstile.targets.nvidia.emit import emit
from crosstile.targets.nvidia.ptxas import assemble

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "mma"
KERNELS = {
    "gemm_sm80_ring": "sm_80",
    "gemm_sm90a_roles": "sm_90a",
    "flash_attention_sm90a": "sm_90a",
    "grouped_matmul_sm80": "sm_80",
}


def compiled(name: str, alignment: int) -> str:
    path = EXAMPLES / f"{name}.mlir"
    context = make_context()
    module = parse_module(path.read_text(), path.name, context)
    passes = [make_pass(spec) for spec in parse_pipeline(f"mma-to-nvvm{{alignment={alignment}}}")]
    run_passes(context, module, passes)
    return emit(module)


@pytest.mark.parametrize("alignment", [16, 4, 1])
@pytest.mark.parametrize("name", KERNELS)
def test_ptxas_accepts_the_kernels(name: str, alignment: int):
    cubin, _ = assemble(compiled(name, alignment), KERNELS[name])
    assert cubin


@pytest.mark.parametrize("name", KERNELS)
def test_instructions_know_their_line(name: str):
    ptx = compiled(name, 16)
    assert f'.file 1 "{name}.mlir"' in ptx
    source = (EXAMPLES / f"{name}.mlir").read_text().splitlines()
    line = 0
    for text in ptx.splitlines():
        if match := re.match(r"\s*\.loc 1 (\d+)", text):
            line = int(match[1])
        if re.search(r"^\s*(mma\.sync|wgmma\.mma_async)", text):
            assert "mma.mma" in source[line - 1]
        if re.search(r"^\s*cp\.async\.(ca|cg|bulk)", text):
            assert "mma.copy_async" in source[line - 1]
