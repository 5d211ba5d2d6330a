"""Results that leave through shared memory in boxes: right at every edge, and without bank conflicts on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command import call
from numpy.typing import NDArray

from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.ir.passes import run_passes
from crosstile.ir.pipeline import make_pass, parse_pipeline
from crosstile.targets.nvidia.emit import emit
from crosstile.targets.nvidia.ptx.parser import parse_ptx
from crosstile.targets.nvidia.simulate import GlobalMemory, Report, TensorMap, simulate
from crosstile.tools.check import main as check
from crosstile.tools.program import Program

PRODUCT = """
    func.func @main(%a: tensor<{batch}?x?x{type}> {{nn.dims = [{names}"M", "K"]}},
                    %b: tensor<{batch}?x?x{type}> {{nn.dims = [{names}"N", "K"]}}) -> tensor<{batch}?x?x{result}> {{
      %c = nn.{op} %a, %b {{transpose_b}} accumulate {sums} : tensor<{batch}?x?x{type}>, tensor<{batch}?x?x{type}>
          -> tensor<{batch}?x?x{result}>
      func.return %c : tensor<{batch}?x?x{result}>
    }}
"""
TYPES = {"f32": ("bf16", "f32"), "bf16": ("bf16", "f32"), "f16": ("f16", "f16"), "i32": ("i8", "i32")}
"""By the result's element the factors' and the sums'."""


def product(result: str, batch: str = "") -> str:
    """A product of any sizes whose result has elements of type ``result``."""
    element, sums = TYPES[result]
    op, names = ("batch_matmul", '"_", ') if batch else ("matmul", "")
    return PRODUCT.format(type=element, sums=sums, result=result, batch=batch, names=names, op=op)


@pytest.mark.parametrize("size", [(1, 8, 16), (64, 256, 16), (193, 88, 48), (300, 520, 80), (0, 16, 16), (65, 64, 0)])
@pytest.mark.parametrize("result", TYPES)
def test_any_size(result: str, size: tuple[int, int, int], tmp_path: Path):
    (file := tmp_path / "product.mlir").write_text(product(result))
    dims = [f"--dim={name}={value}" for name, value in zip("MNK", size, strict=True)]
    report = call(check, file, "--target", "nvidia-sm_90a", *dims)
    assert report.code == 0, report.out + report.err


def test_batches(tmp_path: Path):
    (file := tmp_path / "product.mlir").write_text(product("bf16", "3x"))
    report = call(check, file, "--target", "nvidia-sm_90a", "--dim=M=70", "--dim=N=72", "--dim=K=24")
    assert report.code == 0, report.out + report.err


@pytest.mark.parametrize("result", TYPES)
def test_large_products_store_nothing_by_threads(result: str):
    program = Program.of_text("product.mlir", product(result), "nvidia-sm_90a")
    kernels = [emit(program.lower_kernel(module)) for module in program.kernel_modules()[1].values()]
    boxes = [text for text in kernels if "cp.async.bulk.tensor.2d.global.shared::cta" in text]
    assert boxes and not any("st.global" in text for text in boxes)
    assert all(("stmatrix" in text) == (result in ("bf16", "f16")) for text in boxes)


STORE = """
#sums = #mma.layout<tile(64, {columns}) warp(4:{warp}) register({count}:8, 2:{half}, 2:1) lane(8:{columns}, 4:2)>
#panels = affine_map<(d0, d1) -> (d1 floordiv {width}, d0, d1 mod {width})>
mma.kernel @k(%C: memref<?x?x{type}>, %A: memref<?x?x{type}>) target "sm_90a" warps(4) {{
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %M = memref.dim %C, %zero : memref<?x?x{type}>
  %N = memref.dim %C, %one : memref<?x?x{type}>
  mma.parallel (%i, %j), (%mc, %nc) = (%zero, %zero) to (%M, %N) step (64, {columns}) {{
    %piece = mma.alloc : !mma.buffer<64x{width}x{type}, #panels, #mma.swizzle<{swizzle}>>
    %c = mma.load %A[%i, %j] extent [%mc, %nc] : memref<?x?x{type}> -> !mma.fragment<64x{columns}x{type}, #sums>
    mma.store %c, %C[%i, %j] extent [%mc, %nc] through %piece : !mma.fragment<64x{columns}x{type}, #sums>,
        memref<?x?x{type}>, !mma.buffer<64x{width}x{type}, #panels, #mma.swizzle<{swizzle}>>
  }}
}}
"""


def store(type_: str, columns: int, swizzle: int) -> tuple[NDArray[np.generic], NDArray[np.generic], Report]:
    """What a block of 64 x ``columns`` leaves of a matrix of 40 rows that it copies, and what it did on the way."""
    dtype = np.dtype({"f32": np.float32, "f16": np.float16}[type_])
    shape = {"columns": columns, "count": columns // 8, "warp": 16 * columns, "half": 8 * columns}
    text = STORE.format(type=type_, width=swizzle // dtype.itemsize, swizzle=swizzle, **shape)
    context = make_context()
    module = parse_module(text, "store.mlir", context)
    run_passes(context, module, [make_pass(spec) for spec in parse_pipeline("mma-to-nvvm")])
    given = np.random.default_rng(0).standard_normal((40, columns)).astype(dtype)
    memory = GlobalMemory()
    c, a = memory.allocate(np.zeros_like(given)), memory.allocate(given)
    box = (16, swizzle // dtype.itemsize)
    tensor_map = TensorMap.row_major(type_, c, given.shape, (columns, 1), box, swizzle=swizzle)
    arguments = [c, *given.shape, a, *given.shape, tensor_map]
    report = simulate(parse_ptx(emit(module)), "k", (1,), (128,), arguments, memory, 64 << 10)
    return memory.read(c), given, report


@pytest.mark.parametrize("swizzle", [32, 64, 128])
@pytest.mark.parametrize("type_", ["f16", "f32"])
def test_banks_do_not_meet(type_: str, swizzle: int):
    written, given, report = store(type_, 64, swizzle)
    np.testing.assert_array_equal(written, given)
    assert report.worst_ways == 1
