"""The CUDA driver's calls, answered by a library made of Python: arguments, order, caches, captures and errors."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import numpy as np
import pytest
from fake_cuda import FakeCuda

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.driver import CudaDevice, load_library
from crosstile.targets.nvidia.launch import Launch
from crosstile.targets.nvidia.tensor_map import TensorMap

TEXT = """
.version 8.3
.target sm_90a
.address_size 64
.visible .entry store(.param .u64 to, .param .u32 value, .param .f32 unused, .param .align 64 .b8 map[128]) {
  .reg .b64 %rd<3>;
  .reg .b32 %r<2>;
  ld.param.u64 %rd1, [to];
  ld.param.u32 %r1, [value];
  cvta.to.global.u64 %rd2, %rd1;
  st.global.u32 [%rd2], %r1;
  ret;
}
"""
MAP = TensorMap("bf16", 4096, (520, 1000), (1040,), (64, 128), swizzle=128)
TYPES = ("ptr", "i32", "f32", "tensor_map")


def store(address: int, value: int) -> Launch:
    return Launch("store", (1, 1, 1), (1, 1, 1), 98304, (address, value, 0.5, MAP), TYPES)


def test_a_device_says_what_it_is():
    device = CudaDevice(library=FakeCuda())
    assert (device.name, device.architecture, device.processors) == ("Fake H100", "sm_90", 132)
    for runs in ("sm_90a", "sm_90", "sm_80"):
        device.check_target(runs)
    for other in ("sm_100a", "sm_80a", "sm_100"):
        with pytest.raises(CrosstileError, match=f"Fake H100 is sm_90 and cannot run code for {other}"):
            device.check_target(other)


def test_memory_goes_there_and_back_and_is_used_again_on_its_stream():
    cuda = FakeCuda()
    device = CudaDevice(library=cuda)
    x, y = np.arange(6, dtype=np.float32), np.empty(6, np.float32)
    with device.entered():
        address = device.allocate(x.nbytes, 5)
        device.write(address, x, 5)
        device.read(address, y, 5)
        np.testing.assert_array_equal(x, y)
        device.release(address, 5)
        assert device.allocate(500, 5) == address  # a block of 512 bytes either way
        assert device.allocate(500, 6) != address
        assert cuda.calls.count("cuMemAlloc_v2") == 2
    assert not cuda.contexts


def test_other_memory_is_given_back_before_the_gpu_is_full():
    cuda = FakeCuda()
    cuda.free_bytes = 2048
    device = CudaDevice(library=cuda)
    with device.entered():
        device.release(device.allocate(1024, 1), 1)
        device.release(device.allocate(2048, 2), 2)
        assert cuda.calls.count("cuMemFree_v2") == 1
        with pytest.raises(CrosstileError, match=r"with CUDA_ERROR_OUT_OF_MEMORY: the arrays do not fit") as raised:
            device.allocate(4096)
        assert "4,096 bytes were asked for" in str(raised.value)


def test_a_launch_passes_arguments_in_their_types_and_is_prepared_once():
    cuda = FakeCuda()
    device = CudaDevice(library=cuda)
    found = np.zeros(1, np.uint32)
    with device.entered():
        address = device.allocate(4)
        start = device.prepare(TEXT, store(address, 1000))
        before = len(cuda.calls)
        start(0)
        start(0)
        assert cuda.calls[before:] == ["cuLaunchKernel", "cuLaunchKernel"]
        device.prepare(TEXT, store(address, 2000))
        device.read(address, found)
    assert cuda.calls.count("cuModuleLoadDataEx") == cuda.calls.count("cuModuleGetFunction") == 1
    assert cuda.calls.count("cuTensorMapEncodeTiled") == 1 and cuda.tensor_maps == [MAP]
    name, sizes, values = cuda.launched[1]
    assert (name, sizes) == ("store", (1, 1, 1, 1, 1, 1, 98304))
    assert values[:3] == [struct.pack("Q", address), struct.pack("i", 1000), struct.pack("f", 0.5)]
    assert found[0] == 1000


def test_elements_are_filled_and_bytes_copied():
    device = CudaDevice(library=FakeCuda())
    found = np.zeros(2, np.float64)
    with device.entered():
        address = device.allocate(16)
        device.fill(address, np.float64(0.3).tobytes())
        device.copy(address, address + 8, 8)
        device.read(address, found)
        np.testing.assert_array_equal(found, 0.3)
        for data in (b"\1", b"\1\2", b"\1\2\3\4"):
            device.fill(address, data)


def test_runs_are_timed_by_events():
    device = CudaDevice(library=FakeCuda())
    with device.entered():
        assert device.seconds(lambda: None, 3, 7) == pytest.approx([0.002] * 3)  # pyright: ignore[reportUnknownMemberType]


def test_a_capture_meets_no_call_that_it_refuses_and_its_memory_is_kept():
    cuda = FakeCuda()
    device = CudaDevice(library=cuda)
    found = np.zeros(1, np.uint32)
    with device.entered():
        cuda.begin_capture(9)
        address = device.allocate(4, 9)
        device.prepare(TEXT, store(address, 7))(9)
        device.release(address, 9)
        replay = cuda.end_capture(9)
        assert device.allocate(4, 9) != address
        replay(9)
        device.read(address, found, 9)
        assert found[0] == 7


def test_what_the_driver_refuses():
    with pytest.raises(CrosstileError, match="refused cuInit with CUDA_ERROR_NO_DEVICE: no GPU is visible"):
        CudaDevice(library=FakeCuda(cuInit=100))
    with pytest.raises(CrosstileError, match="there is no GPU number 3; this machine has 1"):
        CudaDevice(3, library=FakeCuda())
    device = CudaDevice(library=FakeCuda(cuModuleLoadDataEx=218, cuStreamSynchronize=700))
    with device.entered():
        with pytest.raises(CrosstileError, match="refused cuModuleLoadDataEx with CUDA_ERROR_INVALID_PTX: the driver"):
            device.function("broken", "gemm")
        with pytest.raises(
            CrosstileError, match="ILLEGAL_ADDRESS: a kernel left its arrays; this process can no longer"
        ):
            device.synchronize()
    device = CudaDevice(library=FakeCuda(cuLaunchKernel=999))
    with device.entered(), pytest.raises(CrosstileError, match="refused cuLaunchKernel with error 999") as raised:
        device.prepare(TEXT, store(1, 2))(0)
    assert "kernel 'store', grid (1, 1, 1)" in str(raised.value)


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    load_library.cache_clear()
    with pytest.raises(CrosstileError, match="no NVIDIA driver is installed on this machine"):
        CudaDevice()
