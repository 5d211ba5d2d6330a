"""Host functions whose launches go to a device: memory, views, order, and what was never written."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crosstile.ir.context import make_context
from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.parsing import parse_module
from crosstile.targets.nvidia.launch import GridDimension, KernelPlan, Launch
from crosstile.targets.nvidia.run import CompiledKernel, run_program

Array = NDArray[Any]

TEXT = """
tile.kernel @twice(%x: memref<?x?xf32>, %y: memref<?x?xf32>) {
  tile.return
}
func.func @main(%x: memref<?x?xf32>, %y: memref<?x?xf32>) attributes {
    crosstile.inputs = 1 : index, crosstile.result_shapes = [affine_map<()[s0, s1] -> (s0, s1)>]} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %m = memref.dim %x, %c0 : memref<?x?xf32>
  %n = memref.dim %x, %c1 : memref<?x?xf32>
  %h = memref.alloc(%m, %n) : memref<?x?xf32>
  tile.launch @twice(%x, %h : memref<?x?xf32>, memref<?x?xf32>) {stage = 0}
  tile.launch @twice(%h, %y : memref<?x?xf32>, memref<?x?xf32>) {stage = 1}
  func.return
}
"""
PARAMETERS = ((0, "pointer", 0), (0, "size", 0), (0, "size", 1), (1, "pointer", 0))
PLAN = KernelPlan(
    "twice", "sm_80", 128, 0, 4, (GridDimension(0, (0, 0), 2),), PARAMETERS, ("ptr", "i32", "i32", "ptr"), ()
)


class FakeDevice:
    """Memory by address, and kernels written in NumPy."""

    processors = 4

    def __init__(self, kernel: Callable[["FakeDevice", Launch], None]):
        self.kernel = kernel
        self.memory: dict[int, Array] = {}
        self.unwritten: list[int] = []
        self.launches: list[Launch] = []

    def upload(self, array: Array, *, written: bool) -> int:
        address = 4096 * (len(self.memory) + 1)
        self.memory[address] = array.copy()
        if not written:
            self.unwritten.append(address)
        return address

    def download(self, address: int, array: Array) -> None:
        array[...] = self.memory[address]

    def launch(self, ptx: str, launch: Launch) -> None:
        assert ptx == "the text"
        self.launches.append(launch)
        self.kernel(self, launch)


def twice(device: FakeDevice, launch: Launch) -> None:
    source, rows, columns, target = (int(value) for value in launch.arguments if isinstance(value, int))
    assert device.memory[source].size == rows * columns
    device.memory[target][...] = 2 * device.memory[source].reshape(rows, columns)


def run(inputs: list[Array], device: FakeDevice, plans: dict[str, KernelPlan] | None = None) -> list[Array]:
    module = parse_module(TEXT, "twice.mlir", make_context())
    found = {"twice": PLAN} if plans is None else plans
    kernels = {name: CompiledKernel("the text", plan) for name, plan in found.items()}
    return run_program(module, "main", inputs, kernels, device)


def test_launches_follow_each_other_through_memory() -> None:
    device = FakeDevice(twice)
    x = np.arange(15, dtype=np.float32).reshape(5, 3)
    (y,) = run([x], device)
    np.testing.assert_array_equal(y, 4 * x)
    np.testing.assert_array_equal(x, np.arange(15, dtype=np.float32).reshape(5, 3))
    assert [launch.grid for launch in device.launches] == [(3, 1, 1), (3, 1, 1)]
    assert len(device.unwritten) == 2  # the temporary of the first launch, the result of the second


def test_inputs_may_have_any_strides_and_may_be_read_only() -> None:
    x = np.arange(24, dtype=np.float32).reshape(4, 6)[::2, ::-1]
    (y,) = run([x], FakeDevice(twice))
    np.testing.assert_array_equal(y, 4 * x)
    x = np.ones((2, 2), np.float32)
    x.flags.writeable = False
    np.testing.assert_array_equal(run([x], FakeDevice(twice))[0], 4 * x)


def test_nothing_is_launched_for_nothing() -> None:
    device = FakeDevice(twice)
    (y,) = run([np.zeros((0, 3), np.float32)], device)
    assert y.shape == (0, 3) and not device.launches


def test_a_kernel_that_was_not_compiled() -> None:
    with pytest.raises(CrosstileError, match=r"no kernel 'twice' was compiled; there are none"):
        run([np.zeros((1, 1), np.float32)], FakeDevice(twice), {})
