"""Kernels that fold rows or work element by element: right for any sizes, and compiled to wide accesses of memory."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from command import call
from xdsl.dialects.llvm import FuncOp

from crosstile.targets.nvidia.emit import emit
from crosstile.targets.nvidia.launch import DeviceArray, plan_of
from crosstile.targets.nvidia.ptxas import assemble
from crosstile.targets.nvidia.simulate import GlobalMemory, simulate
from crosstile.tools.check import main as check
from crosstile.tools.program import Program

TARGETS = ("sm_80", "sm_90a")

MATRIX = 'tensor<?x?x{type}> {{nn.dims = ["M", "N"]}}'
VECTOR = 'tensor<?x{type}> {{nn.dims = ["N"]}}'
OPERATORS = {
    "softmax": ("nn.softmax %x dim 1 : tensor<?x?x{type}>", "tensor<?x?x{type}>"),
    "layer_norm": (
        "nn.layer_norm %x, %g, %g epsilon 1.0e-05 : tensor<?x?x{type}>, tensor<?x{type}>, tensor<?x{type}>",
        "tensor<?x?x{type}>",
    ),
    "rms_norm": ("nn.rms_norm %x, %g epsilon 1.0e-05 : tensor<?x?x{type}>, tensor<?x{type}>", "tensor<?x?x{type}>"),
    "sum": ("nn.reduce add %x dims [1] fastmath<reassoc> : tensor<?x?x{type}> -> tensor<?x{type}>", "tensor<?x{type}>"),
    "max": ("nn.reduce max %x dims [1] : tensor<?x?x{type}> -> tensor<?x{type}>", "tensor<?x{type}>"),
    "gelu": ("nn.gelu %x : tensor<?x?x{type}>", "tensor<?x?x{type}>"),
}


def program(operator: str, type_: str = "f32") -> str:
    """The operator on a matrix of M x N, with a vector of N beside it."""
    op, result = (part.format(type=type_) for part in OPERATORS[operator])
    x, g = (part.format(type=type_) for part in (MATRIX, VECTOR))
    return f"func.func @main(%x: {x}, %g: {g}) -> {result} {{\n  %y = {op}\n  func.return %y : {result}\n}}\n"


def run_check(text: str, target: str, sizes: dict[str, int], folder: Path) -> None:
    path = folder / "rows.mlir"
    path.write_text(text)
    dims = [word for name, size in sizes.items() for word in ("--dim", f"{name}={size}")]
    result = call(check, path, "--target", f"nvidia-{target}", *dims)
    assert result.code == 0, result.out + result.err


@pytest.mark.parametrize(("m", "n"), [(0, 5), (1, 1), (9, 31), (3, 256), (11, 700), (2, 1021), (2, 4096), (1, 5003)])
@pytest.mark.parametrize("operator", OPERATORS)
def test_right(operator: str, m: int, n: int, tmp_path: Path) -> None:
    run_check(program(operator), TARGETS[n % 2], {"M": m, "N": n}, tmp_path)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("operator", ["softmax", "sum"])
def test_rows_that_are_too_long_to_hold(operator: str, target: str, tmp_path: Path) -> None:
    run_check(program(operator), target, {"M": 2, "N": 16390}, tmp_path)


@pytest.mark.parametrize("n", [1000, 1001])
@pytest.mark.parametrize("operator", ["softmax", "sum", "gelu"])
def test_narrow_types(operator: str, n: int, tmp_path: Path) -> None:
    run_check(program(operator, "bf16"), "sm_90a", {"M": 3, "N": n}, tmp_path)


def test_rows_of_many_dimensions(tmp_path: Path) -> None:
    type_ = "tensor<2x3x?x24xf32>"
    text = f"""func.func @main(%x: {type_} {{nn.dims = ["_", "_", "M", "_"]}}) -> {type_} {{
      %y = nn.softmax %x dim 3 : {type_}
      func.return %y : {type_}
    }}"""
    run_check(text, "sm_80", {"M": 5}, tmp_path)


def test_heads_of_many_tokens(tmp_path: Path) -> None:
    type_ = "tensor<2x?x3x5x33xf32>"
    text = f"""func.func @main(%x: {type_} {{nn.dims = ["_", "M", "_", "_", "_"]}}) -> {type_} {{
      %y = nn.relu %x : {type_}
      %z = nn.softmax %y dim 4 : {type_}
      func.return %z : {type_}
    }}"""
    run_check(text, "sm_90a", {"M": 3}, tmp_path)
    plan_text = (
        text.replace("2x?x3x5x33", "?x4x32")
        .replace('"_", "M", "_", "_", "_"', '"M", "_", "_"')
        .replace("dim 4", "dim 2")
    )
    compiled = Program.of_text("heads.mlir", plan_text, "nvidia-sm_90a")
    (module,) = compiled.kernel_modules()[1].values()
    (function,) = (op for op in compiled.lower_kernel(module).ops if isinstance(op, FuncOp))
    array = DeviceArray(0, (100_000, 4, 32), (128, 32, 1), 4)
    launch = plan_of(function).launch([array, array], 132)
    assert launch is not None and launch.grid[0] >= 100_000


@pytest.mark.parametrize("type_", ["f32", "bf16"])
@pytest.mark.parametrize("operator", ["softmax", "layer_norm", "rms_norm"])
def test_held_rows_are_read_once_and_spill_nothing(operator: str, type_: str) -> None:
    target = "sm_80"
    compiled = Program.of_text("rows.mlir", program(operator, type_), f"nvidia-{target}")
    held = list(compiled.kernel_modules()[1].values())[:8]  # four lengths, aligned or not
    read = 1 if operator == "softmax" else 2  # the vector beside it
    for position, module in enumerate(held):
        ptx = emit(compiled.lower_kernel(module))
        assert re.search(r" 0 bytes spill stores", assemble(ptx, target)[1])
        if position % 2 == 0:
            assert "\tbra" not in ptx
            loads, stores = (len(re.findall(rf"{kind}\.global(?:\.nc)?\.v4\.b32", ptx)) for kind in ("ld", "st"))
            assert loads == read * stores > 0


def test_a_fold_over_warps_meets_once() -> None:
    compiled = Program.of_text("rows.mlir", program("sum").replace("?x?x", "?x4096x"), "nvidia-sm_80")
    ptx = "".join(emit(compiled.lower_kernel(module)) for module in compiled.kernel_modules()[1].values())
    assert ptx.count("bar.sync") == 1
    assert ".reqntid 256" in ptx


@pytest.mark.parametrize("type_", ["f32", "bf16", "f64"])
@pytest.mark.parametrize(("m", "n"), [(0, 5), (1, 9), (3, 100), (70, 130), (64, 72)])
def test_transposition(m: int, n: int, type_: str, tmp_path: Path) -> None:
    text = f"""func.func @main(%x: tensor<?x?x{type_}> {{nn.dims = ["M", "N"]}}) -> tensor<?x?x{type_}> {{
      %y = nn.transpose %x [1, 0] : tensor<?x?x{type_}>
      %z = nn.add %y, %y : tensor<?x?x{type_}>, tensor<?x?x{type_}>
      func.return %z : tensor<?x?x{type_}>
    }}"""
    run_check(text, TARGETS[m % 2], {"M": m, "N": n}, tmp_path)


def test_a_transposition_reads_and_writes_rows_without_bank_conflicts() -> None:
    text = """func.func @main(%x: tensor<?x?xf32> {nn.dims = ["M", "N"]}) -> tensor<?x?xf32> {
      %y = nn.transpose %x [1, 0] : tensor<?x?xf32>
      func.return %y : tensor<?x?xf32>
    }"""
    compiled = Program.of_text("transposition.mlir", text, "nvidia-sm_80")
    module = next(iter(compiled.kernel_modules()[1].values()))
    lowered = compiled.lower_kernel(module)
    ptx = emit(lowered)
    assert {"ld.global.nc.v4.b32", "st.global.v4.b32"} == set(re.findall(r"(?:ld|st)\.global\.\S+", ptx))
    (function,) = (op for op in lowered.ops if isinstance(op, FuncOp))
    x = np.random.default_rng(0).standard_normal((64, 128)).astype(np.float32)
    y = np.empty((128, 64), np.float32)
    memory = GlobalMemory()
    arrays = [DeviceArray(memory.allocate(array), array.shape, (array.shape[1], 1), 4) for array in (x, y)]
    launch = plan_of(function).launch(arrays, 1)
    assert launch is not None
    report = simulate(ptx, launch.kernel, launch.grid, launch.block, launch.arguments, memory, launch.shared_bytes)
    np.testing.assert_array_equal(memory.read(arrays[1].address), x.T)
    assert report.worst_ways == 1.0


FOLDS = {
    "columns": ("nn.reduce add %x dims [0] : tensor<?x?xf32> -> tensor<?xf32>", "tensor<?xf32>"),
    "maxima of columns": ("nn.reduce max %x dims [0] : tensor<?x?xf32> -> tensor<?xf32>", "tensor<?xf32>"),
    "softmax of columns": ("nn.softmax %x dim 0 : tensor<?x?xf32>", "tensor<?x?xf32>"),
    "everything": ("nn.reduce add %x dims [0, 1] fastmath<reassoc> : tensor<?x?xf32> -> tensor<f32>", "tensor<f32>"),
    "everything in order": ("nn.reduce add %x dims [0, 1] : tensor<?x?xf32> -> tensor<f32>", "tensor<f32>"),
}


@pytest.mark.parametrize(("m", "n"), [(0, 5), (1, 1), (65, 37), (130, 64), (7, 131)])
@pytest.mark.parametrize("fold", FOLDS)
def test_folds_of_columns_and_of_everything(fold: str, m: int, n: int, tmp_path: Path) -> None:
    op, result = FOLDS[fold]
    x = 'tensor<?x?xf32> {nn.dims = ["M", "N"]}'
    text = f"func.func @main(%x: {x}) -> {result} {{\n  %y = {op}\n  func.return %y : {result}\n}}\n"
    run_check(text, TARGETS[m % 2], {"M": m, "N": n}, tmp_path)


def test_columns_are_one_chain_whatever_the_block(tmp_path: Path) -> None:
    text = program("sum").replace("dims [1] fastmath<reassoc>", "dims [0]")
    compiled = Program.of_text("columns.mlir", text, "nvidia-sm_80")
    for module in compiled.kernel_modules()[1].values():
        ptx = emit(compiled.lower_kernel(module))
        assert "shfl" not in ptx and "bar.sync" not in ptx
        assert ptx.count("ld.global") == 2 * 64  # full blocks, and the rest
