"""Host functions whose launches go to a device: memory, views, order, and what was never written."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crosstile.ir.context import make_context
from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.parsing import parse_module
from crosstile.targets.nvidia.launch import GridDimension, KernelPlan, Launch
from crosstile.targets.nvidia.run import CompiledKernel, DeviceProgram, HostModule, call_with_arrays, run_program

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
    separate_temporaries = False

    def __init__(self, kernel: Callable[[FakeDevice, Launch], None] | None = None):
        self.kernel = kernel or twice
        self.memory: dict[int, Array] = {}
        self.written: list[int] = []
        self.launches: list[Launch] = []
        self.prepared = 0

    def entered(self) -> AbstractContextManager[None]:
        return nullcontext()

    def allocate(self, size: int, stream: int = 0, name: str = "") -> int:
        address = 1 << 16 if not self.memory else max(self.memory) + 4096
        self.memory[address] = np.zeros(size, np.uint8)
        return address

    def release(self, address: int, stream: int = 0) -> None:
        del self.memory[address]

    def write(self, address: int, array: Array, stream: int = 0) -> None:
        self.at(address, array.nbytes)[...] = array.reshape(-1).view(np.uint8)
        self.written.append(address)

    def read(self, address: int, array: Array, stream: int = 0) -> None:
        array[...] = self.at(address, array.nbytes).view(array.dtype).reshape(array.shape)

    def fill(self, address: int, data: bytes, stream: int = 0) -> None:
        self.at(address, len(data))[...] = np.frombuffer(data, np.uint8)

    def copy(self, source: int, target: int, size: int, stream: int = 0) -> None:
        self.at(target, size)[...] = self.at(source, size)

    def synchronize(self, stream: int = 0) -> None:
        pass

    def is_capturing(self, stream: int) -> bool:
        return False

    def at(self, address: int, size: int) -> Array:
        start = max((one for one in self.memory if one <= address), default=0)
        return self.memory[start][address - start : address - start + size] if size else np.zeros(0, np.uint8)

    def prepare(self, ptx: str, launch: Launch) -> Callable[[int], None]:
        assert ptx == "the text"
        self.prepared += 1

        def start(stream: int) -> None:
            self.launches.append(launch)
            self.kernel(self, launch)

        return start


def twice(device: FakeDevice, launch: Launch) -> None:
    source, rows, columns, target = (int(value) for value in launch.arguments if isinstance(value, int))
    size = 4 * rows * columns
    device.at(target, size).view(np.float32)[...] = 2 * device.at(source, size).view(np.float32)


def run(inputs: list[Array], device: FakeDevice, plans: dict[str, KernelPlan] | None = None) -> list[Array]:
    module = parse_module(TEXT, "twice.mlir", make_context())
    found = {"twice": PLAN} if plans is None else plans
    kernels = {name: CompiledKernel("the text", plan) for name, plan in found.items()}
    return run_program(module, "main", inputs, kernels, device)


def test_launches_follow_each_other_through_memory() -> None:
    device = FakeDevice()
    x = np.arange(15, dtype=np.float32).reshape(5, 3)
    (y,) = run([x], device)
    np.testing.assert_array_equal(y, 4 * x)
    np.testing.assert_array_equal(x, np.arange(15, dtype=np.float32).reshape(5, 3))
    assert [launch.grid for launch in device.launches] == [(3, 1, 1), (3, 1, 1)]
    assert len(device.written) == 1 and not device.memory  # only the input was copied there


def test_inputs_may_have_any_strides_and_may_be_read_only() -> None:
    x = np.arange(24, dtype=np.float32).reshape(4, 6)[::2, ::-1]
    (y,) = run([x], FakeDevice())
    np.testing.assert_array_equal(y, 4 * x)
    x = np.ones((2, 2), np.float32)
    x.flags.writeable = False
    np.testing.assert_array_equal(run([x], FakeDevice())[0], 4 * x)


def test_nothing_is_launched_for_nothing() -> None:
    device = FakeDevice()
    (y,) = run([np.zeros((0, 3), np.float32)], device)
    assert y.shape == (0, 3) and not device.launches


def test_a_call_that_was_made_before_only_launches():
    module = parse_module(TEXT, "twice.mlir", make_context())
    device = FakeDevice()
    program = DeviceProgram(HostModule(module, "main"), {"twice": CompiledKernel("the text", PLAN)}, device)
    x, y, z = (device.allocate(60) for _ in range(3))
    device.write(x, np.arange(15, dtype=np.float32))
    for _ in range(3):
        program.run(((5, 3),), [x], [y])
    assert (device.prepared, len(device.launches)) == (2, 6)
    program.run(((5, 3),), [x], [z])
    assert device.prepared == 4
    np.testing.assert_array_equal(device.at(z, 60).view(np.float32), 4 * np.arange(15))


HOST = """
"memref.global"() <{sym_name = "row", type = memref<3xf32>, initial_value = dense<[1.0, 2.0, 3.0]> : tensor<3xf32>,
    sym_visibility = "private", constant, alignment = 64 : i64}> : () -> ()
tile.kernel @twice(%x: memref<?x?xf32>, %y: memref<?x?xf32>) {
  tile.return
}
func.func @main(%x: memref<?x3xf32>, %y: memref<?x3xf32>, %z: memref<f32>, %w: memref<3xf32>) attributes {
    crosstile.inputs = 1 : index, crosstile.result_shapes =
    [affine_map<()[s0] -> (s0, 3)>, affine_map<()[s0] -> ()>, affine_map<()[s0] -> (3)>]} {
  %c0 = arith.constant 0 : index
  %m = memref.dim %x, %c0 : memref<?x3xf32>
  %odd = arith.constant 3.0 : f32
  memref.store %odd, %z[] : memref<f32>
  %row = memref.get_global @row : memref<3xf32>
  "memref.copy"(%row, %w) : (memref<3xf32>, memref<3xf32>) -> ()
  %some = arith.cmpi sgt, %m, %c0 : index
  cf.assert %some, "there must be rows"
  %a = memref.alloc(%m) : memref<?x3xf32>
  %b = memref.alloc(%m) : memref<?x3xf32>
  %c = memref.alloc(%m) : memref<?x3xf32>
  %dx = "memref.cast"(%x) : (memref<?x3xf32>) -> memref<?x?xf32>
  %da = "memref.cast"(%a) : (memref<?x3xf32>) -> memref<?x?xf32>
  %db = "memref.cast"(%b) : (memref<?x3xf32>) -> memref<?x?xf32>
  %dc = "memref.cast"(%c) : (memref<?x3xf32>) -> memref<?x?xf32>
  %dy = "memref.cast"(%y) : (memref<?x3xf32>) -> memref<?x?xf32>
  tile.launch @twice(%dx, %da : memref<?x?xf32>, memref<?x?xf32>)
  tile.launch @twice(%da, %db : memref<?x?xf32>, memref<?x?xf32>)
  tile.launch @twice(%db, %dc : memref<?x?xf32>, memref<?x?xf32>)
  tile.launch @twice(%dc, %dy : memref<?x?xf32>, memref<?x?xf32>)
  func.return
}
"""


def test_what_the_host_stores_and_copies_and_how_temporaries_share_a_workspace():
    module = parse_module(HOST, "host.mlir", make_context())
    program = DeviceProgram(HostModule(module, "main"), {"twice": CompiledKernel("the text", PLAN)}, FakeDevice())
    x = np.arange(300, dtype=np.float32).reshape(100, 3)
    y, z, w = call_with_arrays(program, [x])
    np.testing.assert_array_equal(y, 16 * x)
    assert z == 3.0
    np.testing.assert_array_equal(w, [1, 2, 3])
    plan = program.plan(((100, 3),))
    assert [type(step).__name__ for step in plan.steps] == ["FillStep", "CopyStep"] + 4 * ["KernelStep"]
    assert [one.offset for one in plan.of_kind("temporary")] == [0, 1280, 0] and plan.workspace == 2560
    with pytest.raises(CrosstileError, match="there must be rows"):
        program.plan(((0, 3),))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("%v = memref.load %x[%c0] : memref<?xf32>", "the host reads a number in the device's memory"),
        ("%v = vector.load %x[%c0] : memref<?xf32>, vector<4xf32>", "vector.load"),
    ],
)
def test_what_a_host_function_for_a_device_cannot_do(body: str, message: str):
    text = f"""func.func @main(%x: memref<?xf32>) attributes {{
        crosstile.inputs = 1 : index, crosstile.result_shapes = []}} {{
      %c0 = arith.constant 0 : index
      {body}
      func.return
    }}"""
    program = DeviceProgram(HostModule(parse_module(text, "host.mlir", make_context()), "main"), {}, FakeDevice())
    with pytest.raises(CrosstileError, match=message):
        program.plan(((5,),))


def test_a_kernel_that_was_not_compiled() -> None:
    with pytest.raises(CrosstileError, match=r"no kernel 'twice' was compiled; there are none"):
        run([np.zeros((1, 1), np.float32)], FakeDevice(), {})
