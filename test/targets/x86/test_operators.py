"""Operators as machine code of this machine: inside their error bounds on empty, ragged and large sizes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

from crosstile.dialects.nn.error_bound import bound_program, compare
from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.x86.launch import HostFunction
from crosstile.tools.program import Program

Shape = tuple[int | str, ...]
"""A size by name is a ``?``."""

SIZES = [0, 1, 2, 17, 67]
PROGRAMS: dict[str, tuple[str, Sequence[Shape]]] = {
    **{
        name: (f"nn.{name} %x : tensor<?x?xf32>", [("M", "N")])
        for name in ("abs", "exp", "log", "sigmoid", "silu", "tanh")
    },
    "softmax": ("nn.softmax %x dim 1 : tensor<?x?xf32>", [("M", "N")]),
    "softmax of columns": ("nn.softmax %x dim 0 : tensor<?x?xf32>", [("M", "N")]),
    "softmax of the middle": ("nn.softmax %x dim 1 : tensor<3x?x?xf32>", [(3, "M", "N")]),
    "rms_norm": ("nn.rms_norm %x, %y epsilon 1.0e-5 : tensor<?x?xf32>, tensor<?xf32>", [("M", "N"), ("N",)]),
    "rms_norm of 7": ("nn.rms_norm %x, %y epsilon 1.0e-5 : tensor<?x7xf32>, tensor<7xf32>", [("M", 7), (7,)]),
    "batch_matmul": (
        "nn.batch_matmul %x, %y accumulate f32 : tensor<?x?x?xf32>, tensor<?x?x?xf32>",
        [("B", "M", "K"), ("B", "K", "N")],
    ),
    "batch_matmul, both transposed": (
        "nn.batch_matmul %x, %y {transpose_a, transpose_b} accumulate f32 : tensor<?x?x?xf32>, tensor<?x?x?xf32>",
        [("B", "K", "M"), ("B", "N", "K")],
    ),
    "batch_matmul of two batch dimensions": (
        "nn.batch_matmul %x, %y {transpose_b} accumulate f32 : tensor<2x?x?x5xf32>, tensor<2x?x9x5xf32>",
        [(2, "B", "M", 5), (2, "B", 9, 5)],
    ),
    "attention, causal": (
        "nn.attention %x, %y, %z causal accumulate f32 : "
        "tensor<?x2x?x16xf32>, tensor<?x2x?x16xf32>, tensor<?x2x?x8xf32>",
        [("B", 2, "M", 16), ("B", 2, "N", 16), ("B", 2, "N", 8)],
    ),
    "attention, grouped heads, some queries see nothing": (
        "nn.attention %x, %y, %z bias %u causal accumulate f32 : "
        "tensor<1x4x?x16xf32>, tensor<1x2x?x16xf32>, tensor<1x2x?x8xf32>, tensor<4x?x?xf32>",
        [(1, 4, "N", 16), (1, 2, "M", 16), (1, 2, "M", 8), (4, "N", "M")],
    ),
    "conv2d": (
        "nn.conv2d %x, %y nchw padding [1, 1, 1, 1] accumulate f32 : tensor<?x?x?x?xf32>, tensor<?x?x3x3xf32>",
        [("B", "C", "H", "W"), ("O", "C", 3, 3)],
    ),
    "conv2d, nhwc": (
        "nn.conv2d %x, %y nhwc padding [1, 1, 1, 1] accumulate f32 : tensor<?x?x?x?xf32>, tensor<3x3x?x?xf32>",
        [("B", "H", "W", "C"), (3, 3, "C", "O")],
    ),
    "conv2d with strides": (
        "nn.conv2d %x, %y nchw strides [2, 3] padding [2, 1, 0, 2] accumulate f32"
        " : tensor<2x5x?x?xf32>, tensor<7x5x3x2xf32>",
        [(2, 5, "H", "W"), (7, 5, 3, 2)],
    ),
    "conv2d with strides, nhwc": (
        "nn.conv2d %x, %y nhwc strides [3, 2] padding [2, 1, 0, 2] accumulate f32"
        " : tensor<2x?x?x5xf32>, tensor<3x2x5x7xf32>",
        [(2, "H", "W", 5), (3, 2, 5, 7)],
    ),
    "conv2d with dilations": (
        "nn.conv2d %x, %y nchw padding [4, 4, 3, 3] dilations [4, 3] accumulate f32"
        " : tensor<?x3x?x?xf32>, tensor<5x3x3x3xf32>",
        [("B", 3, "H", "W"), (5, 3, 3, 3)],
    ),
    "conv2d in groups": (
        "nn.conv2d %x, %y nchw padding [1, 1, 1, 1] groups 3 accumulate f32 : tensor<?x6x?x?xf32>, tensor<9x2x3x3xf32>",
        [("B", 6, "H", "W"), (9, 2, 3, 3)],
    ),
    "conv2d in groups, nhwc": (
        "nn.conv2d %x, %y nhwc padding [1, 1, 1, 1] groups 3 accumulate f32 : tensor<?x?x?x6xf32>, tensor<3x3x2x9xf32>",
        [("B", "H", "W", 6), (3, 3, 2, 9)],
    ),
    "conv2d by channel": (
        "nn.conv2d %x, %y nchw padding [1, 1, 1, 1] groups 4 accumulate f32 : tensor<?x4x?x?xf32>, tensor<4x1x3x3xf32>",
        [("B", 4, "H", "W"), (4, 1, 3, 3)],
    ),
    "conv2d, nhwc with strides and dilations, of known channels": (
        "nn.conv2d %x, %y nhwc strides [2, 3] padding [2, 1, 5, 4] dilations [1, 2] accumulate f32"
        " : tensor<2x?x?x5xf32>, tensor<2x5x5x11xf32>",
        [(2, "H", "W", 5), (2, 5, 5, 11)],
    ),
    "conv2d, nhwc without padding": (
        "nn.conv2d %x, %y nhwc strides [2, 1] accumulate f32 : tensor<?x9x?x?xf32>, tensor<2x1x?x70xf32>",
        [("B", 9, "W", "C"), (2, 1, "C", 70)],
    ),
    "conv2d, nhwc, of a known size": (
        "nn.conv2d %x, %y nhwc padding [1, 1, 1, 1] accumulate f32 : tensor<?x14x14x24xf32>, tensor<3x3x24x40xf32>",
        [("B", 14, 14, 24), (3, 3, 24, 40)],
    ),
    "conv2d, nhwc, in groups": (
        "nn.conv2d %x, %y nhwc padding [1, 1, 1, 1] groups 2 accumulate f32"
        " : tensor<?x?x?x10xf32>, tensor<3x3x5x34xf32>",
        [("B", "H", "W", 10), (3, 3, 5, 34)],
    ),
    "conv2d of 49 places": (
        "nn.conv2d %x, %y nchw strides [2, 2] padding [3, 3, 3, 3] accumulate f32"
        " : tensor<?x?x?x?xf32>, tensor<?x?x7x7xf32>",
        [("B", "C", "H", "W"), ("O", "C", 7, 7)],
    ),
    "conv2d of 49 places, of rows of a known width": (
        "nn.conv2d %x, %y nchw padding [3, 3, 3, 3] accumulate f32 : tensor<1x5x?x20xf32>, tensor<9x5x7x7xf32>",
        [(1, 5, "H", 20), (9, 5, 7, 7)],
    ),
    "conv2d of 49 places, nhwc": (
        "nn.conv2d %x, %y nhwc strides [2, 2] padding [3, 3, 3, 3] accumulate f32"
        " : tensor<?x?x?x3xf32>, tensor<7x7x3x?xf32>",
        [("B", "H", "W", 3), (7, 7, 3, "O")],
    ),
    "conv2d by channel, nhwc": (
        "nn.conv2d %x, %y nhwc padding [1, 1, 1, 1] groups 20 accumulate f32"
        " : tensor<?x?x?x20xf32>, tensor<3x3x1x20xf32>",
        [("B", "H", "W", 20), (3, 3, 1, 20)],
    ),
    "conv2d of one place": (
        "nn.conv2d %x, %y nchw accumulate f32 : tensor<1x17x?x?xf32>, tensor<20x17x1x1xf32>",
        [(1, 17, "H", "W"), (20, 17, 1, 1)],
    ),
    "conv2d to one place": (
        "nn.conv2d %x, %y nchw accumulate f32 : tensor<?x3x5x5xf32>, tensor<8x3x5x5xf32>",
        [("B", 3, 5, 5), (8, 3, 5, 5)],
    ),
    "conv2d of rows of a known width": (
        "nn.conv2d %x, %y nchw padding [1, 1, 1, 1] accumulate f32 : tensor<?x9x?x14xf32>, tensor<7x9x3x3xf32>",
        [("B", 9, "H", 14), (7, 9, 3, 3)],
    ),
    "conv2d with strides, of rows of a known width": (
        "nn.conv2d %x, %y nchw strides [2, 3] padding [2, 1, 0, 2] dilations [1, 2] accumulate f32"
        " : tensor<2x?x?x23xf32>, tensor<11x?x2x5xf32>",
        [(2, "C", "H", 23), (11, "C", 2, 5)],
    ),
    "conv2d in f64": (
        "nn.conv2d %x, %y nchw padding [1, 1, 1, 1] accumulate f64 : tensor<?x3x?x?xf64>, tensor<5x3x3x3xf64>",
        [("B", 3, "H", "W"), (5, 3, 3, 3)],
    ),
}


def tensor_text(shape: Shape, element: str) -> str:
    return f"tensor<{''.join('?x' if isinstance(size, str) else f'{size}x' for size in shape)}{element}>"


@cache
def compiled(name: str) -> tuple[Program, HostFunction]:
    operation, shapes = PROGRAMS[name]
    element = "f64" if "f64" in operation else "f32"
    arguments = ", ".join(
        f"%{name} : {tensor_text(shape, element)}" for name, shape in zip("xyzu", shapes, strict=False)
    )
    probe = Program.load(f"func.func @main({arguments}) {{\n %r = {operation}\n func.return\n}}")
    (function,) = probe.at("nn").ops
    result = next(op for op in function.walk() if op.results).results[0].type
    program = Program.load(
        f"func.func @main({arguments}) -> {result} {{\n %r = {operation}\n func.return %r : {result}\n}}"
    )
    return program, program.compile().function


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_operators_are_inside_their_bounds(name: str, size: int):
    program, function = compiled(name)
    operation, shapes = PROGRAMS[name]
    sizes = {"M": size, "N": min(3 * size, 150), "K": 2 * size + 1, "B": min(size, 3)}
    sizes |= {"H": min(size, 11), "W": size, "C": min(size, 5), "O": min(size, 23)}
    random = np.random.default_rng(size)
    dtype = np.float64 if "f64" in operation else np.float32
    inputs: list[Any] = [
        random.standard_normal([sizes[dim] if isinstance(dim, str) else dim for dim in shape]).astype(dtype)
        for shape in shapes
    ]
    results = function.new_outputs(inputs)
    for workers in (1, 3):
        for result in results:
            result.fill(np.nan)
        function(inputs, results, workers)
        for found, (expected, bound) in zip(results, bound_program(program.at("nn"), "main", inputs), strict=True):
            assert compare(found, expected, bound).right


CONVOLUTION = """func.func @main(%x : tensor<?x3x?x?xf32>, %w : tensor<4x3x3x3xf32>, %z : tensor<?x4x?x?xf32>)
    -> tensor<?x4x?x?xf32> {
  %c = nn.conv2d %x, %w nchw accumulate f32 : tensor<?x3x?x?xf32>, tensor<4x3x3x3xf32>
  %r = nn.add %c, %z : tensor<?x4x?x?xf32>, tensor<?x4x?x?xf32>
  func.return %r : tensor<?x4x?x?xf32>
}"""


def test_sizes_that_are_computed_are_checked():
    function = Program.load(CONVOLUTION).compile().function
    image, filter_ = np.ones((1, 3, 9, 8), np.float32), np.ones((4, 3, 3, 3), np.float32)
    inputs = [image, filter_, np.ones((1, 4, 7, 6), np.float32)]
    results = function.new_outputs(inputs)
    function(inputs, results, 1)
    np.testing.assert_array_equal(results[0], np.full((1, 4, 7, 6), 28.0))
    with pytest.raises(
        CrosstileError, match=r"dimension 2 of argument 2 \('z_?.*'\) must be \(.*dimension 2 of argument 0"
    ):
        inputs[2] = np.ones((1, 4, 8, 6), np.float32)
        function(inputs, results, 1)
    with pytest.raises(CrosstileError, match="negative"):
        inputs[0], inputs[2] = image[:, :, :1].copy(), np.ones((1, 4, 0, 6), np.float32)
        function(inputs, [np.ones((1, 4, 0, 6), np.float32)], 1)
