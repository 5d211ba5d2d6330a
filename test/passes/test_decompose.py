"""Decomposed programs compute what the composites mean, to float64's last digits, on every size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from round_trip import parse
from xdsl.dialects.func import FuncOp

from crosstile.dialects.nn import Nn
from crosstile.dialects.nn.dims import argument_shapes, dim_names
from crosstile.dialects.nn.meaning import reference
from crosstile.ir.context import make_context
from crosstile.ir.passes import run_passes
from crosstile.passes.decompose import DecomposePass

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PROGRAMS = sorted([*EXAMPLES.glob("*.mlir"), *EXAMPLES.glob("digits/*.mlir")])
COMPOSITES = {
    "nn.matmul",
    "nn.batch_matmul",
    "nn.relu",
    "nn.sigmoid",
    "nn.silu",
    "nn.gelu",
    "nn.softmax",
    "nn.layer_norm",
    "nn.rms_norm",
    "nn.attention",
}


@pytest.mark.parametrize("size", [0, 1, 13])
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_decomposition_preserves_every_example(path: Path, size: int):
    module = parse(path.read_text())
    (function,) = (op for op in module.ops if isinstance(op, FuncOp))
    shapes = argument_shapes(function, dict.fromkeys(dim_names(function), size))
    random = np.random.default_rng(size)
    inputs: list[Any] = [random.standard_normal(shapes[at]) for at in range(len(shapes))]
    expected = reference(module, "main", inputs)
    run_passes(make_context(), module, [DecomposePass()])
    # Constants of the decomposed program are those of its type, f32.
    for found, exact in zip(reference(module, "main", inputs), expected, strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-6)


def test_only_primitives_are_left():
    left = {op.name for op in Nn.operations} - COMPOSITES
    for path in PROGRAMS:
        module = parse(path.read_text())
        run_passes(make_context(), module, [DecomposePass()])
        assert {op.name for op in module.walk() if op.name.startswith("nn.")} <= left


@pytest.mark.parametrize(
    "operation",
    [
        "nn.relu %x",
        "nn.sigmoid %x",
        "nn.silu %x",
        "nn.gelu %x",
        "nn.gelu %x approximate tanh",
        "nn.softmax %x dim 0",
        "nn.softmax %x dim 1",
        "nn.softmax %x dim 2",
    ],
)
def test_float64_composites_agree_to_the_last_digits(operation: str):
    type_ = "tensor<?x5x?xf64>"
    module = parse(f"func.func @f(%x: {type_}) -> {type_} {{ %y = {operation} : {type_} func.return %y : {type_} }}")
    x = np.random.default_rng(3).standard_normal((4, 5, 6)) * 4
    (expected,) = reference(module, "f", [x])
    run_passes(make_context(), module, [DecomposePass()])
    (found,) = reference(module, "f", [x])
    np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)


def test_layer_norm_does_not_lose_digits_to_a_large_mean():
    type_ = "tensor<?x?xf64>, tensor<?xf64>, tensor<?xf64>"
    module = parse(f"""func.func @f(%x: tensor<?x?xf64>, %g: tensor<?xf64>) -> tensor<?x?xf64> {{
      %y = nn.layer_norm %x, %g, %g epsilon 1.0e-5 : {type_}
      func.return %y : tensor<?x?xf64>
    }}""")
    x = np.random.default_rng(3).standard_normal((4, 100))
    run_passes(make_context(), module, [DecomposePass()])
    near, far = (reference(module, "f", [x + mean, np.ones(100)])[0] for mean in (0.0, 1e8))
    np.testing.assert_allclose(near, far, atol=1e-6)
