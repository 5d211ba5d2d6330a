"""Convolutions of bf16 and f16 on every kind of instruction: inside their bounds, the same bits from any call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import crosstile
from crosstile.dialects.nn.error_bound import bound_program
from crosstile.targets.host import host_features
from crosstile.targets.model import machine
from crosstile.tools.judge import compare
from crosstile.tools.program import Program

TARGETS = ("x86-64-avx2", "x86-64-avx512", "x86-64-avx512-bf16", "x86-64-amx")
CASES = {
    "words and a rest": ("nhwc padding [1, 1, 1, 1]", "?x?x?x5", "3x3x5x33", "?x?x?x33"),
    "whole instructions": ("nhwc padding [1, 0, 2, 1]", "?x7x33x32", "2x3x32x40", "?x7x34x40"),
    "channels first, strides and dilations": (
        "nchw strides [2, 3] padding [2, 1, 0, 2] dilations [1, 2]",
        "?x17x?x?",
        "11x17x3x2",
        "?x11x?x?",
    ),
    "one place": ("nchw", "?x3x?x20", "64x3x1x1", "?x64x?x20"),
}


@pytest.mark.parametrize("result", ["f32", "narrow"])
@pytest.mark.parametrize("element", ["bf16", "f16"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", CASES)
def test_convolutions_are_inside_their_bounds(case: str, target: str, element: str, result: str):
    if not set(machine(target).features) <= set(host_features()):
        pytest.skip(f"this machine is no {target}")
    form, image, filter_, image_out = CASES[case]
    x, w = f"tensor<{image}x{element}>", f"tensor<{filter_}x{element}>"
    y = f"tensor<{image_out}x{'f32' if result == 'f32' else element}>"
    text = (
        f"func.func @main(%x: {x}, %w: {w}) -> {y} {{\n %y = nn.conv2d %x, %w {form} accumulate f32 : {x}, {w} -> {y}\n"
        f" func.return %y : {y}\n}}"
    )
    program = Program.load(text, target)
    function = crosstile.compile(text, target)
    dtype: Any = function.host_function.input_rules[0].dtype
    random = np.random.default_rng(3)

    def array(shape: str, unknown: list[int]) -> Any:
        sizes = [unknown.pop(0) if size == "?" else int(size) for size in shape.split("x")]
        return random.standard_normal(sizes).astype(np.float32).astype(dtype)

    for sizes in ([2, 9, 13], [0, 9, 13], [1, 1, 1]):
        inputs = [array(image, list(sizes)), array(filter_, [])]
        if image.count("?") > 2 and sizes[1] == 1 and "strides" in form:
            inputs[0] = array(image, [1, 2, 3])
        found = function(*inputs, threads=1)
        ((expected, bound),) = bound_program(program.at("nn"), "main", inputs)
        assert compare(found, expected, bound).right
        np.testing.assert_array_equal(function(*inputs, threads=3), found)
        if sizes[0] == 2:
            np.testing.assert_array_equal(function(inputs[0][1:], inputs[1], threads=1), found[1:])
