"""How many rows of the blocks of a convolution are pixels of its result: what docs/nvidia.md says."""

from __future__ import annotations

from math import ceil, prod

import pytest

from crosstile.dialects.nest.kernel import KernelOp
from crosstile.tools.program import Program

IMAGE = "tensor<{images}x{size}x{size}x{channels}xbf16>"
CONVOLUTION = """func.func @main(%x: {image}, %w: tensor<3x3x{channels}x{channels}xbf16>) -> {image} {{
  %y = nn.conv2d %x, %w nhwc padding [1, 1, 1, 1] accumulate f32 : {image}, tensor<3x3x{channels}x{channels}xbf16>
  func.return %y : {image}
}}
"""


def blocks(target: str, images: int, size: int, channels: int) -> dict[str, int]:
    """The sides of the only variant's blocks."""
    image = IMAGE.format(images=images, size=size, channels=channels)
    program = Program.of_text(
        "conv.mlir", CONVOLUTION.format(image=image, channels=channels), f"nvidia-{target}", entry="main"
    )
    module = next(module for name, module in program.trace("tile") if name.startswith("choose-schedule"))
    (kernel,) = (op for op in module.walk() if isinstance(op, KernelOp))
    assert kernel.schedules is not None
    (guarded,) = kernel.schedules
    return {loop.iterator: loop.step for loop in guarded.schedule.data.loops}


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize(
    ("size", "channels", "of_many", "of_one"),
    [(112, 64, 100, 100), (56, 64, 100, 100), (28, 128, 100, 88), (14, 256, 100, 77), (7, 512, 88, 77)],
)
def test_most_rows_are_pixels(size: int, channels: int, of_many: int, of_one: int, target: str):
    for images, percent in ((32, of_many), (1, of_one)):
        sides = blocks(target, images, size, channels)
        extents = {"n": images, "h": size, "w": size}
        rows = prod(ceil(extent / sides.get(name, 1)) * sides.get(name, 1) for name, extent in extents.items())
        assert round(100 * prod(extents.values()) / rows + 1e-9) == percent
