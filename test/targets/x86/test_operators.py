"""Operators as machine code of this machine: inside their error bounds on empty, ragged and large sizes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

from crosstile.dialects.nn.error_bound import bound_program, compare
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
}


def tensor_text(shape: Shape) -> str:
    return f"tensor<{''.join('?x' if isinstance(size, str) else f'{size}x' for size in shape)}f32>"


@cache
def compiled(name: str) -> tuple[Program, HostFunction]:
    operation, shapes = PROGRAMS[name]
    arguments = ", ".join(f"%{name} : {tensor_text(shape)}" for name, shape in zip("xyzu", shapes, strict=False))
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
    sizes = {"M": size, "N": min(3 * size, 150), "K": 2 * size + 1, "B": min(size, 3)}
    random = np.random.default_rng(size)
    inputs: list[Any] = [
        random.standard_normal([sizes[dim] if isinstance(dim, str) else dim for dim in shape]).astype(np.float32)
        for shape in PROGRAMS[name][1]
    ]
    results = function.new_outputs(inputs)
    for workers in (1, 3):
        for result in results:
            result.fill(np.nan)
        function(inputs, results, workers)
        for found, (expected, bound) in zip(results, bound_program(program.at("nn"), "main", inputs), strict=True):
            assert compare(found, expected, bound).right
