"""Programs give the same numbers as operators, as nests and as fused kernels, on ragged and empty sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdsl.dialects import math
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp

from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.nest import meaning as nest
from crosstile.dialects.nest.kernel import KernelOp
from crosstile.dialects.nn import meaning as nn
from crosstile.dialects.nn.dims import argument_shapes, dim_names
from crosstile.dialects.upstream_meaning import MEANINGS as UPSTREAM
from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.ir.verification import verify_module
from crosstile.lowering.nn_to_nest import NnToNestPass
from crosstile.passes.decompose import DecomposePass
from crosstile.passes.fuse import FusePass

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS: dict[str, tuple[str, list[tuple[int | str, ...]], int]] = {
    "digits": (
        """
        func.func @f(%x: tensor<?x64xf32>, %w: tensor<64x32xf32>, %b: tensor<32xf32>, %gamma: tensor<32xf32>,
                     %beta: tensor<32xf32>, %v: tensor<10x32xf32>, %c: tensor<10xf32>) -> tensor<?x10xf32> {
          %0 = nn.matmul %x, %w accumulate f32 : tensor<?x64xf32>, tensor<64x32xf32> -> tensor<?x32xf32>
          %1 = nn.add %0, %b : tensor<?x32xf32>, tensor<32xf32>
          %2 = nn.gelu %1 : tensor<?x32xf32>
          %3 = nn.layer_norm %2, %gamma, %beta epsilon 1.0e-5 : tensor<?x32xf32>, tensor<32xf32>, tensor<32xf32>
          %4 = nn.matmul %3, %v {transpose_b} accumulate f32 : tensor<?x32xf32>, tensor<10x32xf32> -> tensor<?x10xf32>
          %5 = nn.add %4, %c : tensor<?x10xf32>, tensor<10xf32>
          %6 = nn.softmax %5 dim 1 : tensor<?x10xf32>
          func.return %6 : tensor<?x10xf32>
        }
        """,
        [("N", 64), (64, 32), (32,), (32,), (32,), (10, 32), (10,)],
        4,
    ),
    "matmul": (
        """
        func.func @f(%a: tensor<?x?xf32>, %b: tensor<?x?xf32>) -> tensor<?x?xf32> {
          %0 = nn.transpose %a [1, 0] : tensor<?x?xf32>
          %1 = nn.matmul %0, %b {transpose_a} accumulate f32 : tensor<?x?xf32>, tensor<?x?xf32> -> tensor<?x?xf32>
          %2 = nn.transpose %1 [1, 0] : tensor<?x?xf32>
          func.return %2 : tensor<?x?xf32>
        }
        """,
        [("N", 9), (9, 5)],
        1,
    ),
    "columns": (
        """
        func.func @f(%x: tensor<?x7xf32>) -> tensor<?x7xf32> {
          %0 = nn.softmax %x dim 0 : tensor<?x7xf32>
          func.return %0 : tensor<?x7xf32>
        }
        """,
        [("N", 7)],
        1,
    ),
    "rows of any length": (
        """
        func.func @f(%x: tensor<3x?xf32>, %gamma: tensor<?xf32>, %beta: tensor<?xf32>) -> tensor<3x?xf32> {
          %0 = nn.layer_norm %x, %gamma, %beta epsilon 1.0e-5 : tensor<3x?xf32>, tensor<?xf32>, tensor<?xf32>
          func.return %0 : tensor<3x?xf32>
        }
        """,
        [(3, "N"), ("N",), ("N",)],
        1,
    ),
    "one row": (
        """
        func.func @f(%x: tensor<?xf32>) -> tensor<?xf32> {
          %0 = nn.softmax %x dim 0 : tensor<?xf32>
          func.return %0 : tensor<?xf32>
        }
        """,
        [("N",)],
        1,
    ),
    "residual": (
        """
        func.func @f(%x: tensor<?x16xf32>, %w: tensor<16x16xf32>, %gamma: tensor<16xf32>)
            -> (tensor<?x16xf32>, tensor<?x16xf32>) {
          %0 = nn.matmul %x, %w accumulate f32 : tensor<?x16xf32>, tensor<16x16xf32> -> tensor<?x16xf32>
          %1 = nn.silu %0 : tensor<?x16xf32>
          %2 = nn.add %1, %x : tensor<?x16xf32>, tensor<?x16xf32>
          %3 = nn.layer_norm %2, %gamma, %gamma epsilon 1.0e-5 : tensor<?x16xf32>, tensor<16xf32>, tensor<16xf32>
          func.return %2, %3 : tensor<?x16xf32>, tensor<?x16xf32>
        }
        """,
        [("N", 16), (16, 16), (16,)],
        2,
    ),
    "shapes": (
        """
        func.func @f(%x: tensor<?x6xf32>, %v: tensor<3xf32>) -> tensor<?x2x3xf32> {
          %c0 = arith.constant 0 : index
          %n = tensor.dim %x, %c0 : tensor<?x6xf32>
          %0 = nn.reshape %x : tensor<?x6xf32> -> tensor<?x2x3xf32>
          %1 = nn.broadcast %v dims [2] sizes [%n] : tensor<3xf32> -> tensor<?x2x3xf32>
          %2 = nn.mul %0, %1 : tensor<?x2x3xf32>, tensor<?x2x3xf32>
          %3 = nn.gelu %2 approximate tanh : tensor<?x2x3xf32>
          func.return %3 : tensor<?x2x3xf32>
        }
        """,
        [("N", 6), (3,)],
        1,
    ),
    "every reshape": (
        """
        func.func @f(%x: tensor<?x1xf32>, %s: tensor<f32>)
            -> (tensor<?xf32>, tensor<4x?xf32>, tensor<1x1xf32>, tensor<f32>) {
          %0 = nn.reshape %x : tensor<?x1xf32> -> tensor<?xf32>
          %1 = nn.constant dense<2.0> : tensor<8xf32>
          %2 = nn.reshape %1 : tensor<8xf32> -> tensor<4x?xf32>
          %3 = nn.reshape %s : tensor<f32> -> tensor<1x1xf32>
          %4 = nn.reshape %3 : tensor<1x1xf32> -> tensor<f32>
          func.return %0, %2, %3, %4 : tensor<?xf32>, tensor<4x?xf32>, tensor<1x1xf32>, tensor<f32>
        }
        """,
        [("N", 1), ()],
        2,
    ),
    "integers and casts": (
        """
        func.func @f(%x: tensor<?x5xf32>) -> (tensor<?xi32>, tensor<?x5xf16>) {
          %0 = nn.cast %x : tensor<?x5xf32> -> tensor<?x5xi32>
          %1 = nn.neg %0 : tensor<?x5xi32>
          %2 = nn.reduce max %1 dims [1] : tensor<?x5xi32> -> tensor<?xi32>
          %3 = nn.cast %x : tensor<?x5xf32> -> tensor<?x5xbf16>
          %4 = nn.cast %3 : tensor<?x5xbf16> -> tensor<?x5xf16>
          func.return %2, %4 : tensor<?xi32>, tensor<?x5xf16>
        }
        """,
        [("N", 5)],
        2,
    ),
}


def evaluate(module: ModuleOp, arguments: list[Any]) -> tuple[Any, ...]:
    return Interpreter(module, UPSTREAM, nn.MEANINGS, nest.MEANINGS).call("f", arguments)


@pytest.mark.parametrize("size", [0, 1, 2, 13])
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_level_gives_the_same_numbers(name: str, size: int):
    text, shapes, kernels = PROGRAMS[name]
    if name == "every reshape" and size == 0:
        size = 3
    rng = np.random.default_rng(1)
    arguments: list[Any] = []
    for shape in shapes:
        sizes = [size if isinstance(dim, str) else dim for dim in shape]
        arguments.append(rng.standard_normal(sizes).astype(np.float32))
    module = parse_module(text, "test.mlir", make_context())
    verify_module(module)
    expected = evaluate(module, arguments)
    found: list[tuple[Any, ...]] = []
    for pass_type in (DecomposePass, NnToNestPass, FusePass):
        pass_type().apply(make_context(), module)
        verify_module(module)
        found.append(evaluate(module, arguments))
    assert sum(isinstance(op, KernelOp) for op in module.walk()) == kernels
    for level, values in enumerate(found):
        for value, reference in zip(values, expected, strict=True):
            assert value.dtype == reference.dtype and value.shape == reference.shape
            np.testing.assert_allclose(value, reference, rtol=2e-5, atol=2e-6, err_msg=f"{name} after pass {level}")
    # Only where fusion may contract a product with a sum are its results not the same to the bit.
    off = 1e-5 if any(isinstance(op, math.FmaOp) for op in module.walk()) else 0.0
    for nested, fused in zip(found[1], found[2], strict=True):
        np.testing.assert_allclose(nested, fused, rtol=off, atol=off)


EXAMPLES = sorted([*(ROOT / "examples").glob("*.mlir"), ROOT / "examples" / "digits" / "digits.mlir"])


@pytest.mark.parametrize("size", [0, 1, 5, 18])
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_give_the_same_numbers(path: Path, size: int):
    rng = np.random.default_rng(2)
    module = parse_module(path.read_text(), str(path), make_context())
    cases: list[tuple[str, list[Any], tuple[Any, ...]]] = []
    for function in module.ops:
        assert isinstance(function, FuncOp)
        names = dim_names(function)
        shapes = argument_shapes(function, dict.fromkeys(names, size))
        elements = [str(type_).rpartition("x")[2] for type_ in function.function_type.inputs]
        arguments = [
            rng.integers(-128, 128, shapes[position]).astype(np.int8)
            if elements[position] == "i8>"
            else rng.standard_normal(shapes[position]).astype(np.float32)
            for position in sorted(shapes)
        ]
        name = function.sym_name.data
        cases.append((name, arguments, Interpreter(module, UPSTREAM, nn.MEANINGS).call(name, arguments)))
    for pass_type in (DecomposePass, NnToNestPass, FusePass):
        pass_type().apply(make_context(), module)
        verify_module(module)
        for name, arguments, expected in cases:
            found = Interpreter(module, UPSTREAM, nn.MEANINGS, nest.MEANINGS).call(name, arguments)
            for value, reference in zip(found, expected, strict=True):
                np.testing.assert_allclose(value, reference, rtol=1e-4, atol=1e-4, err_msg=f"{name}, {pass_type.name}")
