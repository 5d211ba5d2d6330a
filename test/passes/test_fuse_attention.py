"""Fused attention computes what its kernels computed one by one, up to the order of sums, however it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp

from crosstile.dialects.element_types import dtype_of
from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.nest.analysis import element_type, shape_of
from crosstile.dialects.nest.generic import GenericOp
from crosstile.dialects.nest.kernel import KernelOp
from crosstile.dialects.nest.meaning import MEANINGS as NEST
from crosstile.dialects.upstream_meaning import MEANINGS as UPSTREAM
from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.ir.passes import run_passes
from crosstile.ir.pipeline import make_pass, parse_pipeline
from crosstile.ir.printing import print_module

CONTEXT = make_context()
EXAMPLES = Path(__file__).with_name("fuse_attention.mlir").read_text(encoding="utf-8").split("// -----")

HEADS_INSIDE = """
func.func @heads_inside(%q: tensor<2x?x3x8xf32>, %k: tensor<2x?x3x8xf32>, %v: tensor<2x?x3x5xf32>)
    -> tensor<2x?x3x5xf32> {
  %s = nn.contract [b, h, m, n, k] %q (b, m, h, k), %k (b, n, h, k) -> (b, h, m, n) accumulate f32
      : tensor<2x?x3x8xf32>, tensor<2x?x3x8xf32> -> tensor<2x3x?x?xf32>
  %w = nn.softmax %s dim 3 : tensor<2x3x?x?xf32>
  %y = nn.contract [b, m, h, e, k] %w (b, h, m, k), %v (b, k, h, e) -> (b, m, h, e) accumulate f32
      : tensor<2x3x?x?xf32>, tensor<2x?x3x5xf32> -> tensor<2x?x3x5xf32>
  func.return %y : tensor<2x?x3x5xf32>
}
"""

TWICE = """
func.func @twice(%x: tensor<?x16xf32>) -> tensor<?x16xf32> {
  %s = nn.matmul %x, %x {transpose_b} accumulate f32 : tensor<?x16xf32>, tensor<?x16xf32> -> tensor<?x?xf32>
  %w = nn.softmax %s dim 1 : tensor<?x?xf32>
  %y = nn.matmul %w, %x accumulate f32 : tensor<?x?xf32>, tensor<?x16xf32> -> tensor<?x16xf32>
  %t = nn.matmul %y, %x {transpose_b} accumulate f32 : tensor<?x16xf32>, tensor<?x16xf32> -> tensor<?x?xf32>
  %u = nn.softmax %t dim 1 : tensor<?x?xf32>
  %z = nn.matmul %u, %y accumulate f32 : tensor<?x?xf32>, tensor<?x16xf32> -> tensor<?x16xf32>
  func.return %z : tensor<?x16xf32>
}
"""

ONE_QUERY = """
func.func @one_query(%q: tensor<1x16xf32>, %k: tensor<?x16xf32>) -> tensor<1x16xf32> {
  %s = nn.matmul %q, %k {transpose_b} accumulate f32 : tensor<1x16xf32>, tensor<?x16xf32> -> tensor<1x?xf32>
  %w = nn.softmax %s dim 1 : tensor<1x?xf32>
  %y = nn.matmul %w, %k accumulate f32 : tensor<1x?xf32>, tensor<?x16xf32> -> tensor<1x16xf32>
  func.return %y : tensor<1x16xf32>
}
"""


def nests(text: str, *more: str) -> ModuleOp:
    module = parse_module(text, "input.mlir", CONTEXT)
    pipeline = ",".join(["decompose,canonicalize,nn-to-nest,fuse", *more])
    run_passes(CONTEXT, module, [make_pass(spec) for spec in parse_pipeline(pipeline)])
    return module


def names(module: ModuleOp) -> list[str]:
    return [op.kernel_name.data for op in module.walk() if isinstance(op, KernelOp)]


def inputs(module: ModuleOp, size: int) -> list[np.ndarray[Any, Any]]:
    function = next(op for op in module.ops if isinstance(op, FuncOp))
    rng = np.random.default_rng(size)
    shapes = [[size if extent < 0 else extent for extent in shape_of(value)] for value in function.body.block.args]
    types = [dtype_of(element_type(value)) for value in function.body.block.args]
    return [rng.standard_normal(shape).astype(dtype) for shape, dtype in zip(shapes, types, strict=True)]


@pytest.mark.parametrize("size", [0, 1, 13])
@pytest.mark.parametrize("text", [*EXAMPLES, HEADS_INSIDE, TWICE, ONE_QUERY])
def test_fusing_changes_no_value(text: str, size: int):
    before, after = nests(text), nests(text, "fuse-attention")
    symbol = next(op.sym_name.data for op in after.ops if isinstance(op, FuncOp))
    arguments = inputs(before, size)
    expected = Interpreter(before, UPSTREAM, NEST).call(symbol, arguments)
    found = Interpreter(after, UPSTREAM, NEST).call(symbol, arguments)
    for one, two in zip(expected, found, strict=True):
        # Weights in bf16 are rounded before one division or after the other.
        tolerance = 1e-5 if one.dtype == np.float32 else 2.0**-6
        np.testing.assert_allclose(two, one, rtol=tolerance, atol=tolerance)
    once = print_module(after)
    run_passes(CONTEXT, after, [make_pass(spec) for spec in parse_pipeline("fuse,fuse-attention")])
    assert print_module(after) == once, "fusing twice changes something"


def test_heads_may_lie_inside_the_sequence():
    assert names(nests(HEADS_INSIDE, "fuse-attention")) == ["attention"]


def test_one_attention_feeds_another():
    assert names(nests(TWICE, "fuse-attention")) == ["attention", "attention_1"]


def test_one_query_is_one_kernel_but_on_blocks_of_warps():
    assert names(nests(ONE_QUERY, "fuse-attention")) == ["attention"]
    assert len(names(nests(ONE_QUERY, "fuse-attention{target=sm_80}"))) == 3


def test_iterators_of_one_loop_have_one_name():
    module = nests(HEADS_INSIDE, "fuse-attention")
    generics = [op for op in module.walk() if isinstance(op, GenericOp)]
    assert [nest.iterator_names for nest in generics] == [
        ("b0", "b1", "m", "n", "k"),
        ("b0", "m", "b1", "e", "n"),
        ("b0", "m", "b1", "e"),
    ]
