"""Products on clusters, from schedules down: the same bits, large products by choice, and what cannot be served."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from crosstile.dialects.grid_order import GridOrder
from crosstile.dialects.nest.kernel import KernelOp
from crosstile.ir.context import make_context
from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.parsing import parse_module
from crosstile.ir.passes import run_passes
from crosstile.ir.pipeline import make_pass, parse_pipeline
from crosstile.ir.printing import print_module
from crosstile.targets.nvidia.run import DeviceProgram, HostModule, SimulatedDevice, call_with_arrays
from crosstile.tools.device import DeviceKernels
from crosstile.tools.program import Program

Array = NDArray[Any]
PRODUCT = """
func.func @main(%a: tensor<BxMxKxbf16>, %b: tensor<BxKxNxbf16>, %bias: tensor<Nxf32>) -> tensor<BxMxNxf32> {
  %c = nn.batch_matmul %a, %b accumulate f32 : tensor<BxMxKxbf16>, tensor<BxKxNxbf16> -> tensor<BxMxNxf32>
  %d = nn.add %c, %bias : tensor<BxMxNxf32>, tensor<Nxf32> -> tensor<BxMxNxf32>
  func.return %d : tensor<BxMxNxf32>
}
"""
PASSES = "decompose,nn-to-nest,fuse,choose-schedule{target=nvidia-sm_90a}"


def scheduled(sizes: dict[str, str]) -> str:
    """The product at the nest level, with the schedules that are chosen."""
    text = PRODUCT
    for name, size in sizes.items():
        text = (
            text.replace(f"<{name}x", f"<{size}x").replace(f"x{name}x", f"x{size}x").replace(f"x{name}x", f"x{size}x")
        )
    context = make_context()
    module = parse_module(text, "product.mlir", context)
    run_passes(context, module, [make_pass(spec) for spec in parse_pipeline(PASSES)])
    return print_module(module)


def orders(text: str) -> list[GridOrder]:
    module = parse_module(text, "product.mlir", make_context())
    (kernel,) = (op for op in module.walk() if isinstance(op, KernelOp))
    assert kernel.schedules is not None
    return [one.schedule.data.order for one in kernel.schedules]  # pyright: ignore[reportAttributeAccessIssue]


def result(text: str, inputs: list[Array]) -> Array:
    program = Program.of_text("product.mlir", text, "sm_90a", start="nest")
    kernels = DeviceKernels(program)
    host = HostModule(kernels.host, program.entry)
    return call_with_arrays(DeviceProgram(host, kernels, SimulatedDevice("sm_90a")), inputs)[0]


@pytest.mark.parametrize("cluster", ["[1, 2, 1]", "[1, 1, 2]", "[1, 2, 2]"])
@pytest.mark.parametrize(
    ("batch", "m", "n", "k"), [(2, 300, 264, 136), (2, 129, 8, 328), (3, 1, 520, 64), (0, 128, 8, 64)]
)
def test_a_schedule_in_the_file_wins_and_gives_the_same_bits(batch: int, m: int, n: int, k: int, cluster: str):
    text = scheduled({"B": str(batch), "M": str(m), "N": str(n), "K": str(k)})
    random = np.random.default_rng(m)
    inputs = [random.standard_normal(shape).astype(ml_dtypes.bfloat16) for shape in ((batch, m, k), (batch, k, n))]
    inputs.append(random.standard_normal(n).astype(np.float32))
    changed = text.replace("persistent 1", f"cluster {cluster} persistent 1")
    assert changed != text or m == 1
    np.testing.assert_array_equal(result(changed, inputs), result(text, inputs))


ATTENTION = """
func.func @main(%q: tensor<?x2x?x64xbf16> {nn.dims = ["B", "_", "M", "_"]},
    %k: tensor<?x2x?x64xbf16> {nn.dims = ["B", "_", "N", "_"]},
    %v: tensor<?x2x?x64xbf16> {nn.dims = ["B", "_", "N", "_"]}) -> tensor<?x2x?x64xbf16> {
  %y = nn.attention %q, %k, %v accumulate f32
      : tensor<?x2x?x64xbf16>, tensor<?x2x?x64xbf16>, tensor<?x2x?x64xbf16>
  func.return %y : tensor<?x2x?x64xbf16>
}
"""


@pytest.mark.parametrize("order", ["persistent 1", "cluster [1, 1, 2]", "raster 2 cluster [1, 1, 2] persistent 1"])
def test_blocks_of_queries_copy_keys_and_values_for_each_other(order: str):
    passes = "decompose,canonicalize,nn-to-nest,fuse,fuse-attention{target=nvidia-sm_90a},"
    context = make_context()
    module = parse_module(ATTENTION, "attention.mlir", context)
    run_passes(context, module, [make_pass(spec) for spec in parse_pipeline(passes + PASSES.split(",")[-1])])
    text = print_module(module)
    random = np.random.default_rng(0)
    shapes = ((2, 2, 200, 64), (2, 2, 136, 64), (2, 2, 136, 64))
    inputs = [random.standard_normal(shape).astype(ml_dtypes.bfloat16) for shape in shapes]
    grid = "grid = [b0, b1, m]"
    assert grid in text
    found, expected = result(text.replace(grid, f"{grid} {order}", 1), inputs), result(text, inputs)
    np.testing.assert_array_equal(found.view(np.uint16), expected.view(np.uint16))


@pytest.mark.parametrize(
    ("m", "n", "cluster"),
    [("4096", "4096", (1, 2, 1)), ("4097", "4096", ()), ("4224", "4096", ()), ("1024", "512", ()), ("4096", "128", ())],
)
def test_large_products_of_whole_clusters_choose_them(m: str, n: str, cluster: tuple[int, ...]):
    (order,) = orders(scheduled({"B": "2", "M": m, "N": n, "K": "64"}))
    assert (order.cluster, order.persistent) == (cluster, 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("persistent 1", "cluster [2, 1, 1] persistent 1", "along dimension 0, but nothing that is staged is the same"),
        ("persistent 1", "cluster [1, 4, 4]", "clusters of 16 blocks; sm_90a runs 8 together: the nearest is one of 8"),
        ("pipeline = 4 role", "pipeline = 4", "its grid is persistent, which pays if a role of its own copies ahead"),
    ],
)
def test_orders_that_cannot_be_served(old: str, new: str, message: str):
    text = scheduled({"B": "2", "M": "300", "N": "264", "K": "64"})
    assert old in text
    with pytest.raises(CrosstileError, match=message.replace("[", r"\[")):
        result(text.replace(old, new), [np.zeros((2, 300, 64)), np.zeros((2, 64, 264)), np.zeros(264)])
