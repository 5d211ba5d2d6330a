"""Programs placed on blocks of warps: every level down to mma is right, for whole, ragged, tiny and empty sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import crosstile
from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.mma.meaning import MEANINGS as MMA
from crosstile.dialects.nn.error_bound import bound_program, compare
from crosstile.dialects.upstream_meaning import MEANINGS as UPSTREAM
from crosstile.ir.context import make_context
from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.parsing import parse_module
from crosstile.ir.passes import run_passes
from crosstile.ir.pipeline import make_pass, parse_pipeline
from crosstile.tools.evaluate import evaluate

EXAMPLES = Path(crosstile.__path__[0]) / "examples"
PASSES = (
    "decompose,canonicalize,nn-to-nest,fuse,fuse-attention,choose-schedule{{target={0}}},nest-to-tile,"
    "tile-to-mma{{target={0}}}"
)
CASES = [
    ("matmul_bf16.mlir", [(5, 7), (7, 9)]),
    ("matmul_bf16.mlir", [(130, 67), (67, 300)]),
    ("matmul_bf16.mlir", [(3, 0), (0, 5)]),
    ("matmul_bf16.mlir", [(70, 136), (136, 264)]),
    ("matmul_bf16.mlir", [(3, 0), (0, 8)]),
    ("softmax.mlir", [(3, 131)]),
    ("layer_norm.mlir", [(2, 257), (257,), (257,)]),
    ("gelu.mlir", [(1, 1)]),
    ("digits/digits.mlir", [(7, 64), (64, 96), (96,), (96,), (96,), (96, 10), (10,)]),
]


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize(("name", "shapes"), CASES)
def test_examples_are_right_on_a_block_of_warps(name: str, shapes: list[tuple[int, ...]], target: str):
    import ml_dtypes

    context = make_context()
    module = parse_module((EXAMPLES / name).read_text(), name, context)
    rng = np.random.default_rng(0)
    dtype = ml_dtypes.bfloat16 if "bf16" in name else np.float32
    inputs = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    reference = bound_program(module.clone(), "main", inputs)
    run_passes(context, module, [make_pass(spec) for spec in parse_pipeline(PASSES.format(target))])
    results = evaluate(module, "main", inputs, workers=3).results
    for result, (expected, bound) in zip(results, reference, strict=True):
        assert compare(result, expected, bound).right


def test_a_tile_kernel_computes_the_same_on_both_levels():
    import ml_dtypes

    text = (EXAMPLES / "tile" / "gemm_gpu_block.mlir").read_text()
    context = make_context()
    module = parse_module(text, "gemm_gpu_block.mlir", context)
    run_passes(context, module, [make_pass(spec) for spec in parse_pipeline("tile-to-mma{target=sm_90a}")])
    rng = np.random.default_rng(1)
    for m, n, k in ((1, 1, 1), (130, 259, 129), (3, 5, 0)):
        a, b = (rng.standard_normal(shape).astype(ml_dtypes.bfloat16) for shape in ((m, k), (k, n)))
        c = np.full((m, n), np.nan, np.float32)
        Interpreter(module, UPSTREAM, MMA).call("gemm", [a, b, c])
        np.testing.assert_allclose(c, a.astype(float) @ b.astype(float), atol=1e-3)


def test_an_instruction_of_another_machine_is_refused():
    text = (EXAMPLES / "tile" / "gemm_gpu_block.mlir").read_text()
    context = make_context()
    module = parse_module(text, "gemm_gpu_block.mlir", context)
    with pytest.raises(CrosstileError, match=r"nvidia\.wgmma.* is no instruction of sm_80"):
        run_passes(context, module, [make_pass(spec) for spec in parse_pipeline("tile-to-mma{target=sm_80}")])
