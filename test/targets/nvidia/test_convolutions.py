"""Convolutions of bf16 and f16 on tensor cores: rectangles of an image gathered into shared memory, place by place."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import call

from crosstile.targets.nvidia.emit import emit
from crosstile.tools.check import main as check
from crosstile.tools.program import Program

INSTRUCTIONS = {"sm_80": "mma.sync.aligned.m16n8k16", "sm_90a": "wgmma.mma_async"}


def program(image: str, filter_: str, result: str, options: str) -> str:
    """A convolution and what follows it, fused. The image's sizes that are not known are called N, H and W."""
    x, w, y = (f"tensor<{shape}>" for shape in (image, filter_, result))
    letters = "NHWC" if "nhwc" in options else "NCHW"
    names = ", ".join(
        f'"{name if size == "?" else "_"}"' for name, size in zip(letters, image.split("x"), strict=False)
    )
    return f"""func.func @main(%x: {x} {{nn.dims = [{names}]}}, %w: {w}) -> {y} {{
      %c = nn.conv2d %x, %w {options} accumulate f32 : {x}, {w}
      %y = nn.relu %c : {y}
      func.return %y : {y}
    }}"""


def run_check(text: str, target: str, sizes: tuple[int, ...], folder: Path) -> None:
    path = folder / "convolution.mlir"
    path.write_text(text)
    dims = [f"--dim={name}={size}" for name, size in zip("NHW", sizes, strict=True) if f'"{name}"' in text]
    result = call(check, path, "--target", f"nvidia-{target}", *dims)
    assert result.code == 0, result.out + result.err


def kernels(text: str, target: str) -> list[str]:
    """The PTX of all variants."""
    compiled = Program.of_text("convolution.mlir", text, f"nvidia-{target}")
    return [emit(compiled.lower_kernel(module)) for module in compiled.kernel_modules()[1].values()]


ANY = {
    "padding": ("?x?x?x16xbf16", "3x3x16x24xbf16", "?x?x?x24xbf16", "nhwc padding [1, 1, 1, 1]"),
    "stride": ("?x?x?x20xf16", "3x3x20x40xf16", "?x?x?x40xf16", "nhwc strides [2, 2] padding [1, 1, 1, 1]"),
    "dilation": ("?x?x?x7xbf16", "2x3x7x9xbf16", "?x?x?x9xbf16", "nhwc padding [1, 2, 2, 2] dilations [1, 2]"),
    "places alone": ("?x?x?x8xbf16", "1x1x8x8xbf16", "?x?x?x8xbf16", "nhwc"),
    "boxes with steps": ("?x?x?x8xf16", "3x2x8x8xf16", "?x?x?x8xf16", "nhwc strides [3, 2] padding [1, 1, 0, 1]"),
}


@pytest.mark.parametrize("target", INSTRUCTIONS)
@pytest.mark.parametrize("case", ANY)
def test_any_size(case: str, target: str, tmp_path: Path):
    text = program(*ANY[case])
    assert all(INSTRUCTIONS[target] in ptx for ptx in kernels(text, target))
    for sizes in ((2, 3, 5), (1, 19, 25), (9, 3, 4)) if case == "boxes with steps" else ((2, 3, 5),):
        run_check(text, target, sizes, tmp_path)


KNOWN = {
    "lines of one column": ("5x7x1x8xbf16", "3x3x8x16xbf16", "5x6x1x16xbf16", "nhwc padding [0, 1, 2, 0]"),
    "one place": ("70x2x1x8xbf16", "2x1x8x8xbf16", "70x1x1x8xbf16", "nhwc"),
    "squares of several images": ("3x6x5x16xbf16", "3x3x16x8xbf16", "3x6x5x8xbf16", "nhwc padding [1, 1, 1, 1]"),
    "steps of channels": ("1x5x5x72xbf16", "1x2x72x8xbf16", "1x5x4x8xbf16", "nhwc"),
    "far strides": ("1x19x19x8xbf16", "1x1x8x8xbf16", "1x3x3x8xbf16", "nhwc strides [9, 9]"),
    "no images": ("0x4x?x8xf16", "3x3x4x6xf16", "0x2x?x6xf16", "nhwc groups 2"),
    "no channels": ("1x3x3x0xf16", "3x3x0x8xf16", "1x1x1x8xf16", "nhwc"),
    "groups": ("1x3x4x16xf16", "1x3x8x16xf16", "1x3x4x16xf16", "nhwc padding [0, 0, 1, 1] groups 2"),
    "channels put last": ("2x16x5x4xbf16", "8x16x3x2xbf16", "2x8x3x2xbf16", "nchw strides [2, 2] padding [1, 1, 0, 0]"),
    "groups put last": ("1x32x3x3xf16", "16x16x2x1xf16", "1x16x2x3xf16", "nchw groups 2"),
    "few channels first": ("1x4x4x5xbf16", "8x4x3x3xbf16", "1x8x4x5xbf16", "nchw padding [1, 1, 1, 1]"),
}


@pytest.mark.parametrize("target", INSTRUCTIONS)
@pytest.mark.parametrize("case", KNOWN)
def test_known_sizes(case: str, target: str, tmp_path: Path):
    run_check(program(*KNOWN[case]), target, (0, 4, 5), tmp_path)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_of_an_image_is_one_box(stride: int):
    size = 32 // stride
    text = program(
        "2x32x32x64xbf16",
        "3x3x64x64xbf16",
        f"2x{size}x{size}x64xbf16",
        f"nhwc strides [{stride}, {stride}] padding [1, 1, 1, 1]",
    )
    (ptx,) = kernels(text, "sm_90a")
    assert "cp.async.bulk.tensor.4d.shared::cluster.global" in ptx
    assert "cp.async.c" not in ptx


@pytest.mark.parametrize("target", INSTRUCTIONS)
def test_what_follows_knows_its_pixel(target: str, tmp_path: Path):
    """A residual, a factor for each line, and a comparison of column and channel."""
    type_ = "tensor<2x5x9x8xf32>"
    x, w = type_.replace("f32", "bf16"), "tensor<3x3x8x8xbf16>"
    text = f"""func.func @main(%x: {x}, %w: {w}, %r: {type_}, %f: tensor<5x1x1xf32>) -> {type_} {{
      %c = nn.conv2d %x, %w nhwc padding [1, 1, 1, 1] accumulate f32 : {x}, {w} -> {type_}
      %s = nn.add %c, %r : {type_}, {type_}
      %t = nn.mul %s, %f : {type_}, tensor<5x1x1xf32>
      %y = nn.causal_mask %t : {type_}
      func.return %y : {type_}
    }}"""
    assert len(kernels(text, target)) == 1
    run_check(text, target, (0, 0, 0), tmp_path)
