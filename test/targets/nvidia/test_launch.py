"""Launch plans: grids, parameters and tensor maps from the arrays of a call, and arrays a kernel cannot take."""

from dataclasses import replace

import pytest
from xdsl.dialects.llvm import FuncOp

from crosstile.ir.context import make_context
from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.parsing import parse_module
from crosstile.targets.nvidia.launch import (
    DeviceArray,
    GridDimension,
    KernelPlan,
    Launch,
    TensorMapRecipe,
    plan_of,
)
from crosstile.targets.nvidia.tensor_map import TensorMap

TEXT = """
llvm.func @gemm(%A: !llvm.ptr<1>, %A_0: i32, %A_1: i32, %scale: f32, %tensor_map: !llvm.ptr) attributes {
    nvvm.kernel, nvvm.reqntid = array<i32: 384>, crosstile.target = "sm_90a", crosstile.shared = 98304 : i64,
    crosstile.alignment = 16 : i64,
    crosstile.grid = [{from = 0 : i64, to = [0, 1], step = 256 : i64}, {from = 0 : i64, to = [0, 0], step = 128 : i64}],
    crosstile.arguments = [[0, "pointer", 0], [0, "size", 0], [0, "size", 1], [1, "value", 0]],
    crosstile.tensor_maps = [{argument = 0 : i64, element = bf16, sizes = [[0, 0], [0, 1]], box = [128, 64],
                              swizzle = 128 : i64}]} {
  llvm.return
}
"""
PLAN = KernelPlan(
    name="gemm",
    target="sm_90a",
    threads=384,
    shared_bytes=98304,
    alignment=16,
    grid=(GridDimension(0, (0, 1), 256), GridDimension(0, (0, 0), 128)),
    parameters=((0, "pointer", 0), (0, "size", 0), (0, "size", 1), (1, "value", 0)),
    types=("ptr", "i32", "i32", "f32"),
    tensor_maps=(TensorMapRecipe(0, "bf16", ((0, 0), (0, 1)), (128, 64), 128),),
)

TYPES = ("ptr", "i32", "i32", "f32", "tensor_map")


def array(rows: int, columns: int, address: int = 4096) -> DeviceArray:
    return DeviceArray(address, (rows, columns), (columns, 1), 2)


def test_a_plan_is_read_from_the_attributes_of_a_kernel() -> None:
    module = parse_module(TEXT, "gemm.mlir", make_context())
    (function,) = (op for op in module.ops if isinstance(op, FuncOp))
    assert plan_of(function) == PLAN
    del function.attributes["crosstile.grid"]
    with pytest.raises(CrosstileError, match=r"kernel 'gemm' has no attribute 'crosstile.grid'"):
        plan_of(function)


def test_a_launch_follows_from_the_arrays() -> None:
    launch = PLAN.launch([array(1000, 520), 0.5], processors=132)
    tensor_map = TensorMap("bf16", 4096, (520, 1000), (1040,), (64, 128), swizzle=128)
    assert launch == Launch("gemm", (3, 8, 1), (384, 1, 1), 98304, (4096, 1000, 520, 0.5, tensor_map), TYPES)


def test_an_empty_grid_launches_nothing() -> None:
    assert PLAN.launch([array(0, 520), 1.0], processors=132) is None


def test_without_a_grid_every_processor_gets_a_block() -> None:
    plan = KernelPlan("row_sums", "sm_80", 128, 0, 2, (), ((0, "pointer", 0), (0, "stride", 0)), ("ptr", "i64"), ())
    launch = Launch("row_sums", (108, 1, 1), (128, 1, 1), 0, (4096, 5), ("ptr", "i64"))
    assert plan.launch([array(3, 5)], processors=108) == launch


def test_sizes_may_be_arguments_and_maps_of_nothing_have_no_zero() -> None:
    grid = (GridDimension(0, (1, -1), 64),)
    plan = KernelPlan("k", "sm_90a", 128, 0, 16, grid, ((1, "value", 0),), ("i32",), PLAN.tensor_maps)
    launch = plan.launch([array(8, 0), 200], processors=132)
    assert launch is not None and launch.grid == (4, 1, 1) and launch.arguments[0] == 200
    tensor_map = launch.arguments[1]
    assert isinstance(tensor_map, TensorMap) and tensor_map.sizes == (1, 8)
    assert plan.launch([array(0, 8), 200], processors=132) is not None


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (array(8, 8, address=4100), "aligned to 16 bytes; argument 0 has an address of 4100 bytes"),
        (array(8, 9), "aligned to 16 bytes; argument 0 has a stride of 18 bytes"),
        (array(1 << 24, 8), "needs 131072 blocks along y; a grid has 65535 at most"),
        (DeviceArray(4096, (8, 8), (16, 2), 2), "innermost stride of 1 element, not 2\nnote: it is of argument 0 of"),
    ],
)
def test_arrays_that_a_kernel_cannot_take(found: DeviceArray, message: str) -> None:
    with pytest.raises(CrosstileError, match=message):
        PLAN.launch([found, 1.0], processors=132)


def test_a_persistent_grid_has_a_block_for_each_processor_or_fewer() -> None:
    plan = replace(PLAN, persistent=1)
    for rows, blocks in ((1000, 24), (20000, 132)):
        launch = plan.launch([array(rows, 520), 0.5], processors=132)
        assert launch is not None and launch.grid == (blocks, 1, 1)


def test_clusters_are_whole_and_along_x() -> None:
    grid = (GridDimension(0, (0, 1), 256), GridDimension(0, (0, 0), 128, cluster=2))
    plan = replace(PLAN, grid=grid)
    for rows, blocks, stay in ((1000, 24, 24), (1100, 30, 30), (1, 6, 6), (20000, 474, 132)):
        for persistent, expected in ((None, blocks), (1, stay)):
            launch = replace(plan, persistent=persistent).launch([array(rows, 520), 0.5], processors=133)
            assert launch is not None and launch.grid == (expected, 1, 1)
    alone = replace(plan, persistent=1).launch([array(1000, 520), 0.5], processors=1)
    assert alone is not None and alone.grid == (2, 1, 1)


def test_more_than_two_dimensions_are_counted_along_x() -> None:
    grid = tuple(GridDimension(0, (0, -1), step) for step in (1, 8, 1, 3))
    plan = KernelPlan("k", "sm_80", 128, 0, 16, grid, ((0, "value", 0),), ("i32",), ())
    launch = plan.launch([70], 132)
    assert launch is not None and launch.grid == (70 * 9 * 70 * 24, 1, 1)
