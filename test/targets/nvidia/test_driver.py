"""The CUDA driver's calls, recorded by a library made of Python: arguments, order, caches and errors."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.driver import CudaDevice, load_library
from crosstile.targets.nvidia.launch import Launch
from crosstile.targets.nvidia.tensor_map import TensorMap

NAMES = {2: b"CUDA_ERROR_OUT_OF_MEMORY", 100: b"CUDA_ERROR_NO_DEVICE", 218: b"CUDA_ERROR_INVALID_PTX"}
ATTRIBUTES = {75: 9, 76: 0, 16: 132}


def target(reference: Any) -> Any:
    """What a ``ctypes.byref`` refers to."""
    return reference._obj


class FakeCuda:
    """``libcuda`` in Python: memory is NumPy's; ``failing`` maps calls to the status they return."""

    def __init__(self, **failing: int):
        self.failing = failing
        self.calls: list[str] = []
        self.memory: dict[int, Any] = {}
        self.launched: list[tuple[list[int], list[bytes]]] = []
        self.sizes = [8, 4, 4, 128]
        self.encoded: list[list[int]] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        own = getattr(FakeCuda, f"do_{name.removesuffix('_v2')}", None)

        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name not in self.failing and own is not None:
                own(self, *arguments)
            return self.failing.get(name, 0)

        return call

    def cuGetErrorName(self, status: Any, text: Any) -> int:  # noqa: N802 - the driver's name
        target(text).value = NAMES.get(status.value)
        return 0

    def do_cuDeviceGetCount(self, count: Any) -> None:  # noqa: N802
        target(count).value = 1

    def do_cuDeviceGetName(self, name: Any, size: Any, device: Any) -> None:  # noqa: N802
        name.value = b"Fake H100"

    def do_cuDeviceGetAttribute(self, value: Any, attribute: Any, device: Any) -> None:  # noqa: N802
        target(value).value = ATTRIBUTES[attribute.value]

    def do_cuMemAlloc(self, address: Any, size: Any) -> None:  # noqa: N802
        memory = np.zeros(size.value, np.uint8)
        target(address).value = memory.ctypes.data
        self.memory[memory.ctypes.data] = memory

    def do_cuMemFree(self, address: Any) -> None:  # noqa: N802
        del self.memory[address.value]

    def do_cuMemcpyHtoD(self, to: Any, source: Any, size: Any) -> None:  # noqa: N802
        ctypes.memmove(to.value, source.value, size.value)

    def do_cuMemcpyDtoH(self, to: Any, source: Any, size: Any) -> None:  # noqa: N802
        ctypes.memmove(to.value, source.value, size.value)

    def do_cuModuleLoadDataEx(self, module: Any, text: bytes, count: Any, options: Any, values: Any) -> None:  # noqa: N802
        assert list(options) == [5, 6] and text == b"the text"
        target(module).value = 1

    def do_cuModuleGetFunction(self, function: Any, module: Any, name: bytes) -> None:  # noqa: N802
        assert module.value == 1 and name == b"gemm"
        target(function).value = 2

    def do_cuLaunchKernel(self, function: Any, *rest: Any) -> None:  # noqa: N802
        assert function.value == 2
        pointers = rest[8]
        values = [ctypes.string_at(at, size) for at, size in zip(pointers, self.sizes, strict=True)]
        self.launched.append(([size.value for size in rest[:7]], values))

    def do_cuTensorMapEncodeTiled(self, encoded: Any, element: Any, rank: Any, address: Any, *rest: Any) -> None:  # noqa: N802
        assert ctypes.addressof(target(encoded)) % 64 == 0
        ctypes.memset(ctypes.addressof(target(encoded)), 7, 128)
        sizes, strides, box, steps, *modes = rest
        self.encoded.append([element.value, rank.value, address.value, *sizes, *strides, *box, *steps])
        self.encoded.append([mode.value for mode in modes])


def test_a_device_says_what_it_is() -> None:
    device = CudaDevice(library=FakeCuda())
    assert (device.name, device.architecture, device.processors) == ("Fake H100", "sm_90", 132)
    for runs in ("sm_90a", "sm_90", "sm_80"):
        device.check_target(runs)
    for other in ("sm_100a", "sm_80a", "sm_100"):
        with pytest.raises(CrosstileError, match=f"Fake H100 is sm_90 and cannot run code for {other}"):
            device.check_target(other)


def test_memory_goes_there_and_back() -> None:
    cuda = FakeCuda()
    device = CudaDevice(library=cuda)
    x = np.arange(6, dtype=np.float32)
    address = device.upload(x, written=True)
    y = np.empty_like(x)
    device.download(address, y)
    np.testing.assert_array_equal(x, y)
    calls = len(cuda.calls)
    device.upload(np.zeros(0, np.float32), written=True)
    device.upload(x, written=False)
    assert cuda.calls[calls:] == ["cuMemAlloc_v2", "cuMemAlloc_v2"]
    device.release()
    assert not cuda.memory


def test_a_launch_passes_arguments_in_their_types_and_loads_a_module_once() -> None:
    cuda = FakeCuda()
    device = CudaDevice(library=cuda)
    tensor_map = TensorMap("bf16", 4096, (520, 1000), (1040,), (64, 128), swizzle=128)
    types = ("ptr", "i32", "f32", "tensor_map")
    launch = Launch("gemm", (3, 8, 1), (384, 1, 1), 98304, (1 << 40, 1000, 0.5, tensor_map), types)
    device.launch("the text", launch)
    device.launch("the text", launch)
    assert cuda.calls.count("cuModuleLoadDataEx") == cuda.calls.count("cuModuleGetFunction") == 1
    sizes, values = cuda.launched[1]
    assert sizes == [3, 8, 1, 384, 1, 1, 98304]
    assert values == [struct.pack("Q", 1 << 40), struct.pack("i", 1000), struct.pack("f", 0.5), b"\7" * 128]
    assert cuda.encoded[:2] == [[9, 2, 4096, 520, 1000, 1040, 64, 128, 1, 1], [0, 3, 2, 0]]


def test_what_the_driver_refuses() -> None:
    with pytest.raises(CrosstileError, match="refused cuInit with CUDA_ERROR_NO_DEVICE: no GPU is visible"):
        CudaDevice(library=FakeCuda(cuInit=100))
    with pytest.raises(CrosstileError, match="there is no GPU number 3; this machine has 1"):
        CudaDevice(3, library=FakeCuda())
    device = CudaDevice(library=FakeCuda(cuMemAlloc_v2=2, cuModuleLoadDataEx=218))
    with pytest.raises(CrosstileError, match="refused cuMemAlloc with CUDA_ERROR_OUT_OF_MEMORY: the arrays do not fit"):
        device.upload(np.zeros(1), written=True)
    with pytest.raises(CrosstileError, match="refused cuModuleLoadDataEx with CUDA_ERROR_INVALID_PTX: the driver may"):
        device.function("broken", "gemm")
    with pytest.raises(CrosstileError, match="refused cuCtxSynchronize with error 999"):
        CudaDevice(library=FakeCuda(cuCtxSynchronize=999)).launch(
            "the text", Launch("gemm", (1, 1, 1), (32, 1, 1), 0, (1, 2, 3, 4), ("ptr", "i32", "i32", "i64"))
        )


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    load_library.cache_clear()
    with pytest.raises(CrosstileError, match="no NVIDIA driver is installed on this machine"):
        CudaDevice()
