"""The hand-written kernels, executed in the simulator: right for any sizes, aligned or not, and free of races."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from xdsl.dialects import llvm

from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.ir.passes import run_passes
from crosstile.ir.pipeline import make_pass, parse_pipeline
from crosstile.targets.nvidia.emit import emit
from crosstile.targets.nvidia.launch import Argument, DeviceArray, plan_of
from crosstile.targets.nvidia.simulate import GlobalMemory, simulate

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "mma"
Array = NDArray[Any]
BF16 = ml_dtypes.bfloat16


def run(text: str, name: str, arguments: list[Array | float], alignment: int) -> list[Array]:
    """The arrays as the program's only kernel leaves them."""
    context = make_context()
    module = parse_module(text, name, context)
    run_passes(context, module, [make_pass(spec) for spec in parse_pipeline(f"mma-to-nvvm{{alignment={alignment}}}")])
    (function,) = [op for op in module.body.block.ops if isinstance(op, llvm.FuncOp)]
    memory = GlobalMemory()
    given: list[Argument] = []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            shape = argument.shape
            strides = tuple(int(np.prod(shape[dim + 1 :])) for dim in range(len(shape)))
            given.append(DeviceArray(memory.allocate(argument), shape, strides, argument.itemsize))
        else:
            given.append(argument)
    launch = plan_of(function).launch(given, 3)
    if launch is not None:
        simulate(
            emit(module),
            launch.kernel,
            launch.grid,
            launch.block,
            list(launch.arguments),
            memory,
            shared_bytes=launch.shared_bytes,
        )
    arrays = zip(arguments, given, strict=True)
    return [
        memory.read(where.address) if isinstance(where, DeviceArray) and array.size else array
        for array, where in arrays
        if isinstance(array, np.ndarray)
    ]


def example(name: str) -> str:
    return (EXAMPLES / f"{name}.mlir").read_text()


def normal(*shape: int) -> Array:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(BF16)


@pytest.mark.parametrize(
    ("m", "n", "k", "alignment"),
    [
        *((128, 128, 64, 16), (40, 72, 96, 16), (130, 264, 200, 16), (8, 8, 0, 16), (0, 8, 8, 16)),
        *((33, 17, 5, 2), (1, 1, 1, 2), (16, 6, 34, 4), (7, 13, 37, 2)),
    ],
)
@pytest.mark.parametrize("name", ["gemm_sm80_ring", "gemm_sm90a_roles"])
def test_product(name: str, m: int, n: int, k: int, alignment: int):
    a, b = normal(m, k), normal(k, n)
    *_, c = run(example(name), name, [a, b, np.full((m, n), np.nan, np.float32)], alignment)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(c, expected, rtol=0, atol=1e-6 * (k + 1))


@pytest.mark.parametrize(("keys", "alignment"), [(200, 16), (1, 16), (131, 2)])
def test_attention(keys: int, alignment: int):
    q, k, v = normal(2, 40, 128), normal(2, keys, 128), normal(2, keys, 128) * 2
    scale = float(np.log2(np.e) / np.sqrt(128))
    text = example("flash_attention_sm90a")
    *_, o = run(text, "attention", [q, k, v, np.full(q.shape, np.nan, np.float32), scale], alignment)
    wide = [x.astype(np.float64) for x in (q, k, v)]
    scores = wide[0] @ wide[1].transpose(0, 2, 1) * scale
    weights = 2 ** (scores - scores.max(-1, keepdims=True))
    expected = weights / weights.sum(-1, keepdims=True) @ wide[2]
    np.testing.assert_allclose(o, expected, rtol=0, atol=2**-7 * np.abs(wide[2]).max())


@pytest.mark.parametrize("alignment", [16, 2])
def test_gathered_rows(alignment: int):
    x, w = normal(50, 40), normal(3, 40, 24)
    offsets = np.array([0, 20, 20, 75], np.int64)
    rows = np.random.default_rng(1).integers(0, 50, 75).astype(np.int64)
    y = np.full((75, 24), np.nan, np.float32)
    *_, y = run(example("grouped_matmul_sm80"), "grouped", [x, w, rows, offsets, y], alignment)
    expert = np.searchsorted(offsets, np.arange(75), "right") - 1
    expected = np.einsum("sk,skn->sn", x[rows].astype(np.float64), w[expert].astype(np.float64))
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("m", "n", "alignment"), [(13, 100, 16), (5, 37, 4), (1, 1, 4)])
def test_rows_on_lanes(m: int, n: int, alignment: int):
    """The kernel written for a core, with each row on the lanes of a warp."""
    text = example("layer_norm").replace('target "x86-64-avx512"', 'target "sm_80" warps(4)')
    for old, new in {
        "tile(4, 64) register(4:64, 4:16) lane(16:1)": "tile(4, 64) warp(4:64) register(2:32) lane(32:1)",
        "tile(4, 1) register(4:1) lane(16:0)": "tile(4, 1) warp(4:1) lane(32:0)",
        "tile(1, 64) register(4:16) lane(16:1)": "tile(1, 64) warp(4:0) register(2:32) lane(32:1)",
    }.items():
        assert old in text
        text = text.replace(old, new)
    random = np.random.default_rng(m)
    x = random.standard_normal((m, n)).astype(np.float32)
    gamma, beta = random.standard_normal((2, n)).astype(np.float32)
    *_, y = run(text, "layer_norm", [x, gamma, beta, np.full((m, n), np.nan, np.float32), 1e-5], alignment)
    wide = x.astype(np.float64)
    centred = wide - wide.mean(1, keepdims=True)
    expected = centred / np.sqrt(wide.var(1, keepdims=True) + 1e-5) * gamma + beta
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)


def test_a_ring_of_three_slots():
    """A ring whose depth is no power of two carries the parity of its round beside the slot."""
    text = example("gemm_sm90a_roles").replace("<4 x ", "<3 x ")
    a, b = normal(40, 504), normal(504, 72)
    *_, c = run(text, "gemm", [a, b, np.full((40, 72), np.nan, np.float32)], 16)
    np.testing.assert_allclose(c, a.astype(np.float64) @ b.astype(np.float64), rtol=0, atol=1e-3)


@pytest.mark.parametrize("depth", [3, 4])
@pytest.mark.parametrize(("m", "n", "k"), [(900, 40, 504), (130, 1032, 64), (300, 264, 0), (0, 8, 8), (1, 8, 200)])
def test_blocks_that_go_on_to_the_next_instance(m: int, n: int, k: int, depth: int):
    """Rings go on where the last instance left them; each element is the same chain of sums."""
    text = example("gemm_sm90a_roles").replace("<4 x ", f"<{depth} x ")
    assert "step (128, 256) {" in text
    a, b = normal(m, k), normal(k, n)
    *_, c = run(text, "gemm", [a, b, np.full((m, n), np.nan, np.float32)], 16)
    text = text.replace("step (128, 256) {", "step (128, 256) raster 2 persistent 1 {")
    *_, again = run(text, "gemm", [a, b, np.full((m, n), np.nan, np.float32)], 16)
    np.testing.assert_array_equal(again, c)
    np.testing.assert_allclose(again, a.astype(np.float64) @ b.astype(np.float64), rtol=0, atol=1e-6 * (k + 1))


@pytest.mark.parametrize("persistent", ["", " persistent 1"])
@pytest.mark.parametrize(("cluster", "shared"), [((2, 1), "b"), ((1, 2), "a"), ((2, 2), "ab"), ((4, 1), "b")])
@pytest.mark.parametrize(("m", "n", "k"), [(400, 40, 504), (130, 1032, 64), (1, 8, 200), (300, 264, 0), (0, 8, 8)])
def test_blocks_that_copy_for_each_other(
    m: int, n: int, k: int, cluster: tuple[int, int], shared: str, persistent: str
):
    """Whole clusters, also where the result's edge cuts one; each element is the same chain of sums."""
    text = example("gemm_sm90a_roles")
    a, b = normal(m, k), normal(k, n)
    *_, c = run(text, "gemm", [a, b, np.full((m, n), np.nan, np.float32)], 16)
    text = text.replace("step (128, 256) {", f"step (128, 256) raster 4 cluster {list(cluster)}{persistent} {{")
    for slot in shared:
        text = text.replace(f"to %{slot} : memref", f"to %{slot} multicast [{'ba'.index(slot)}] : memref")
    *_, again = run(text, "gemm", [a, b, np.full((m, n), np.nan, np.float32)], 16)
    np.testing.assert_array_equal(again, c)


GRID = """
!tile = !mma.fragment<16x8xf32, #mma.layout<tile(16, 8) register(2:64, 2:1) lane(8:8, 4:2)>>
mma.kernel @fill(%C: memref<?x?x?xf32>, %x: f32) target "sm_80" warps(1) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %B = memref.dim %C, %c0 : memref<?x?x?xf32>
  %M = memref.dim %C, %c1 : memref<?x?x?xf32>
  %N = memref.dim %C, %c2 : memref<?x?x?xf32>
  %tile = mma.splat %x : f32 -> !tile
  mma.parallel (%b, %i, %j), (%bc, %mc, %nc) = (%c0, %c0, %c0) to (%B, %M, %N) step (1, 16, 8) ORDER {
    %old = mma.load %C[%b, %i, %j] extent [%mc, %nc] : memref<?x?x?xf32> -> !tile
    %new = mma.map (%old, %tile : !tile, !tile) -> !tile {
    ^bb0(%before: f32, %more: f32):
      %sum = arith.addf %before, %more : f32
      mma.yield %sum : f32
    }
    mma.store %new, %C[%b, %i, %j] extent [%mc, %nc] : !tile, memref<?x?x?xf32>
  }
}
"""


@pytest.mark.parametrize("order", ["raster 1", "raster 2", "raster 3 descending", "raster 100", "descending", ""])
@pytest.mark.parametrize("shape", [(2, 70, 20), (1, 16, 8), (1, 33, 1), (3, 1, 50), (1, 0, 8)])
def test_every_order_covers_each_block_once(shape: tuple[int, int, int], order: str):
    text = GRID.replace("ORDER", order)
    (c,) = run(text, "fill", [np.zeros(shape, np.float32), 1.0], 4)
    np.testing.assert_array_equal(c, np.ones(shape, np.float32))
