"""Convolutions of bf16 and f16 on tensor cores: windows of the image gathered into shared memory, place by place."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import call

from crosstile.targets.nvidia.emit import emit
from crosstile.tools.check import main as check
from crosstile.tools.program import Program

INSTRUCTIONS = {"sm_80": "mma.sync.aligned.m16n8k16", "sm_90a": "wgmma.mma_async"}


def program(image: str, filter_: str, result: str, layout: str, options: str, names: str) -> str:
    """A convolution and what follows it, fused."""
    x, w, y = (f"tensor<{shape}>" for shape in (image, filter_, result))
    return f"""func.func @main(%x: {x} {{nn.dims = [{names}]}}, %w: {w}) -> {y} {{
      %c = nn.conv2d %x, %w {layout} {options} accumulate f32 : {x}, {w}
      %y = nn.relu %c : {y}
      func.return %y : {y}
    }}"""


def run_check(text: str, target: str, sizes: dict[str, int], folder: Path) -> None:
    path = folder / "convolution.mlir"
    path.write_text(text)
    dims = [word for name, size in sizes.items() for word in ("--dim", f"{name}={size}")]
    result = call(check, path, "--target", f"nvidia-{target}", *dims)
    assert result.code == 0, result.out + result.err


LAST = '"N", "H", "W", "_"'
CASES = {
    "padding": ("?x?x?x16xbf16", "3x3x16x24xbf16", "?x?x?x24xbf16", "padding [1, 1, 1, 1]"),
    "stride": ("?x?x?x20xf16", "3x3x20x40xf16", "?x?x?x40xf16", "strides [2, 2] padding [1, 1, 1, 1]"),
    "dilation": ("?x?x?x7xbf16", "2x3x7x9xbf16", "?x?x?x9xbf16", "padding [1, 2, 2, 2] dilations [1, 2]"),
    "places alone": ("?x?x?x8xbf16", "1x1x8x8xbf16", "?x?x?x8xbf16", ""),
}


@pytest.mark.parametrize("target", INSTRUCTIONS)
@pytest.mark.parametrize("case", CASES)
def test_channels_last(case: str, target: str, tmp_path: Path) -> None:
    image, filter_, result, options = CASES[case]
    text = program(image, filter_, result, "nhwc", options, LAST)
    compiled = Program.of_text("convolution.mlir", text, f"nvidia-{target}")
    for module in compiled.kernel_modules()[1].values():
        assert INSTRUCTIONS[target] in emit(compiled.lower_kernel(module))
    run_check(text, target, {"N": 2, "H": 3, "W": 5}, tmp_path)


@pytest.mark.parametrize("target", INSTRUCTIONS)
def test_channels_first(target: str, tmp_path: Path) -> None:
    text = program("1x4x4x5xbf16", "8x4x3x3xbf16", "1x8x4x5xbf16", "nchw", "padding [1, 1, 1, 1]", '"_", "_", "_", "_"')
    run_check(text, target, {}, tmp_path)


def test_groups(tmp_path: Path) -> None:
    shapes = ("1x3x4x8xf16", "1x3x4x16xf16", "1x3x4x16xf16")
    text = program(*shapes, "nhwc", "padding [0, 0, 1, 1] groups 2", '"_", "_", "_", "_"')
    run_check(text, "sm_80", {}, tmp_path)
