"""Blocks of an image: near ones where what a register tile reads exceeds L1, else larger ones."""

from __future__ import annotations

import pytest

from crosstile.ir.printing import print_module
from crosstile.tools.program import Program

CONVOLUTION = """func.func @main(%x: tensor<1x{channels}x{size}x{size}xf32>, %w: tensor<{filters}x{channels}x3x3xf32>)
    -> tensor<1x{filters}x{size}x{size}xf32> {{
  %y = nn.conv2d %x, %w nchw strides [1, 1] padding [1, 1, 1, 1] accumulate f32
      : tensor<1x{channels}x{size}x{size}xf32>, tensor<{filters}x{channels}x3x3xf32>
  func.return %y : tensor<1x{filters}x{size}x{size}xf32>
}}
"""


@pytest.mark.parametrize(
    ("channels", "filters", "size", "rows"),
    [
        pytest.param(64, 64, 28, 5, id="channels that exceed L1: a sixteenth of L2"),
        pytest.param(8, 64, 28, 28, id="channels that fit in L1: the whole image"),
        pytest.param(256, 256, 7, 7, id="filters that come from L3: the whole image"),
    ],
)
def test_rows_of_a_block(channels: int, filters: int, size: int, rows: int):
    text = CONVOLUTION.format(channels=channels, filters=filters, size=size)
    printed = print_module(Program.load(text, "x86-64-avx512").at("tile"))
    assert f"tile.for %h, %h_extent = %c0 to %1 step {rows} " in printed
