"""Tensors of torch as arguments and results of functions on a GPU: stand-ins for torch and for the driver."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from fake_cuda import FakeCuda
from fake_torch import FakeTorch, Stream, Tensor

import crosstile
from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.arrays import given_array

BF16 = np.dtype(ml_dtypes.bfloat16)
SCALED = """
func.func @main(%x: tensor<?x8xELEMENT>, %y: tensor<?x8xELEMENT>) -> tensor<?x8xELEMENT> {
  %z = nn.add %x, %y : tensor<?x8xELEMENT>, tensor<?x8xELEMENT>
  func.return %z : tensor<?x8xELEMENT>
}
"""
F32 = SCALED.replace("ELEMENT", "f32")
TWICE = """
func.func @main(%x: tensor<16x64xbf16>, %w: tensor<64x64xbf16>) -> tensor<16x64xf32> {
  %y = nn.matmul %x, %w accumulate f32 : tensor<16x64xbf16>, tensor<64x64xbf16> -> tensor<16x64xf32>
  %b = nn.cast %y : tensor<16x64xf32> -> tensor<16x64xbf16>
  %z = nn.matmul %b, %w accumulate f32 : tensor<16x64xbf16>, tensor<64x64xbf16> -> tensor<16x64xf32>
  func.return %z : tensor<16x64xf32>
}
"""
WAITING = ("cuMemAlloc", "cuMemFree", "Synchronize", "cuModuleLoad", "cuMemcpyHtoD", "cuMemcpyDtoH")


@pytest.fixture
def torch(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> FakeTorch:
    found = FakeTorch(cuda)
    monkeypatch.setitem(sys.modules, "torch", found)
    return found


def values(rows: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).integers(-8, 9, (rows, 8)).astype(dtype)


def waiting(calls: list[str]) -> list[str]:
    return [one for one in calls if any(word in one for word in WAITING)]


@pytest.mark.parametrize("element", ["f32", "f16", "bf16", "i32"])
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_tensors_in_tensors_out(torch: FakeTorch, element: str, rows: int):
    dtype = {"f32": np.float32, "f16": np.float16, "bf16": BF16, "i32": np.int32}[element]
    f = crosstile.compile(SCALED.replace("ELEMENT", element), target="sm_90a")
    x, y = values(rows, 0, dtype), values(rows, 1, dtype)
    z = f(torch.tensor(x), torch.tensor(y))
    assert isinstance(z, Tensor) and z.is_cuda and z.dtype is getattr(torch, np.dtype(dtype).name)
    np.testing.assert_array_equal(z.read(), x + y)
    out = torch.tensor(np.zeros_like(x))
    assert f(torch.tensor(x), torch.tensor(y), out=out) is out
    np.testing.assert_array_equal(out.read(), x + y)


def test_work_is_put_on_the_current_stream_or_the_given_one(cuda: FakeCuda, torch: FakeTorch):
    f = crosstile.compile(F32, target="sm_90a")
    x, y = torch.tensor(values(5)), torch.tensor(values(5, 1))
    f(x, y).read()
    with torch.stream(Stream(21)):
        f(x, y)
        assert list(cuda.queues) == [21]
        f(x, y, stream=Stream(22))
        assert list(cuda.queues) == [21, 22]
    with torch.stream(Stream(23)):
        f(torch.tensor(values(5), "cpu"), y)
    assert list(cuda.queues) == [21, 22], "what was on the host was copied, which waits for stream 23"


def test_a_second_call_allocates_nothing_and_waits_for_nothing(cuda: FakeCuda, torch: FakeTorch):
    f = crosstile.compile(TWICE, target="sm_90a")
    x, w = (torch.tensor(values(rows, 0, BF16).repeat(8, 1)) for rows in (16, 64))
    f(x, w)
    before = len(cuda.calls)
    f(x, w)
    calls = cuda.calls[before:]
    assert not waiting(calls) and calls.count("cuLaunchKernel") == 2


def test_a_captured_call_neither_waits_nor_compiles(cuda: FakeCuda, torch: FakeTorch):
    f = crosstile.compile(TWICE, target="sm_90a")
    x, w = (torch.tensor(values(rows, 0, BF16).repeat(8, 1)) for rows in (16, 64))
    out = f(x, w)
    expected = out.read()
    before = len(cuda.calls)
    cuda.begin_capture(9)
    with torch.stream(Stream(9)):
        assert f(x, w, out=out) is out
    calls = cuda.calls[before:]
    # The temporary is the graph's own, allocated apart from the capture.
    assert waiting(calls) == ["cuMemAlloc_v2"] and calls.count("cuLaunchKernel") == 2
    assert calls.count("cuThreadExchangeStreamCaptureMode") == 2
    replay = cuda.end_capture(9)
    again = values(16, 3, BF16).repeat(8, 1)
    for given in (x.read(), again):
        x.write(given)
        out.write(np.zeros_like(expected))
        replay(9)
        cuda.run(9)
        if given is not again:
            np.testing.assert_array_equal(out.read(), expected)
    f32, factor = again.astype(np.float64), w.read().astype(np.float64)
    middle = (f32 @ factor).astype(np.float32).astype(BF16).astype(np.float64)
    np.testing.assert_allclose(out.read(), middle @ factor, rtol=1e-4)


def test_a_captured_call_without_temporaries_allocates_nothing(cuda: FakeCuda, torch: FakeTorch):
    f = crosstile.compile(F32, target="sm_90a")
    x, y = torch.tensor(values(5)), torch.tensor(values(5, 1))
    out = f(x, y)
    before = len(cuda.calls)
    cuda.begin_capture(9)
    f(x, y, out=out, stream=9)
    assert not waiting(cuda.calls[before:])
    with pytest.raises(CrosstileError, match="captured into a graph takes arrays on the GPU"):
        f(torch.tensor(values(5), "cpu"), y, out=out, stream=9)
    cuda.end_capture(9)


def test_tensors_of_the_host_are_copied(torch: FakeTorch):
    f = crosstile.compile(SCALED.replace("ELEMENT", "bf16"), target="sm_90a")
    x, y = values(3, 0, BF16), values(3, 1, BF16)
    z = f(torch.tensor(x, "cpu"), torch.tensor(y))
    assert isinstance(z, Tensor), "results are where the first argument on the GPU is"
    np.testing.assert_array_equal(z.read(), x + y)
    alone = f(torch.tensor(x, "cpu"), torch.tensor(y, "cpu"))
    assert type(alone) is np.ndarray and alone.dtype == BF16
    np.testing.assert_array_equal(alone, x + y)


def test_what_does_not_fit_is_said(torch: FakeTorch):
    f = crosstile.compile(F32, target="sm_90a")
    x = torch.tensor(values(5))
    for second, message in (
        (torch.tensor(values(5), strides=(1, 5)), r"\('y'\) is not row-major and contiguous on the GPU: give x.contig"),
        (torch.tensor(values(5), "cuda:1"), r"\('y'\) is on GPU 1, and the function was compiled for GPU 0"),
        (torch.tensor(values(5, 0, BF16)), r"\('y'\): expected float32 of shape \(\?, 8\), found bfloat16 of"),
        (torch.tensor(values(5, 0, ml_dtypes.float8_e4m3fn)), r"\('y'\): expected float32 .*, found float8_e4m3fn"),
        (torch.tensor(values(5, 0, np.float64), "cpu"), r"\('y'\): expected float32 .*, found float64"),
        (torch.tensor(values(5)[:, :4]), r"\('y'\): expected float32 .*, found float32 of shape \(5, 4\)"),
        (torch.tensor(values(6)), "dimension 0 of argument"),
    ):
        with pytest.raises(CrosstileError, match=message):
            f(x, second)
    for out, message in (
        (torch.tensor(values(5), "cpu"), "out: result 0 must be on the GPU as the arguments are, found a Tensor"),
        (torch.tensor(values(4)), r"out: result 0: expected float32 of shape \(5, 8\)"),
        (torch.tensor(values(5), strides=(1, 5)), "out: result 0 is not row-major"),
    ):
        with pytest.raises(CrosstileError, match=message):
            f(x, x, out=out)


def test_types_of_eight_bits_are_known(torch: FakeTorch):
    for name in ("float8_e4m3fn", "float8_e5m2"):
        given = given_array(torch.tensor(values(3, 0, getattr(ml_dtypes, name))), 0, lambda _: None)
        assert given is not None and given.dtype == name and given.shape == (3, 8)


def test_the_simulator_takes_no_tensors_of_a_gpu(torch: FakeTorch, monkeypatch: pytest.MonkeyPatch):
    def missing() -> None:
        raise CrosstileError("no NVIDIA driver")

    monkeypatch.setattr("crosstile.tools.device.gpu", missing)
    f = crosstile.compile(F32, target="sm_80")
    x = values(3)
    with pytest.raises(
        CrosstileError, match=r"argument 0 \('x'\) is on a GPU, and kernels are simulated: no NVIDIA dri"
    ):
        f(torch.tensor(x), x)
    np.testing.assert_array_equal(f(torch.tensor(x, "cpu"), x), x + x)
    np.testing.assert_array_equal(f(f.to_device(x), x).numpy(), x + x)


class Exchanged:
    """An array that speaks DLPack of any device, type and strides: what a capsule of ours says, changed."""

    def __init__(self, array: Any, **changes: Any):
        self.array, self.changes = array, changes

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.changes.get("device", (2, 0))

    def __dlpack__(self, stream: int) -> object:
        import ctypes

        from crosstile.targets.nvidia.arrays import _DLManagedTensor  # pyright: ignore[reportPrivateUsage]

        capsule = self.array.__dlpack__(stream=stream)
        get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
            ("PyCapsule_GetPointer", ctypes.pythonapi)
        )
        tensor = ctypes.cast(get(capsule, b"dltensor"), ctypes.POINTER(_DLManagedTensor)).contents.tensor
        for name, value in self.changes.items():
            if name == "strides":
                self.kept = (ctypes.c_int64 * len(value))(*value)
                tensor.strides = self.kept
            elif name == "device":
                tensor.device_type, tensor.device = value
            else:
                setattr(tensor, name, value)
        return capsule


def test_dlpack_of_other_places_and_forms(cuda: FakeCuda):
    f = crosstile.compile(F32, target="sm_90a")
    x = f.to_device(values(5))
    for changes, message in (
        ({"device": (2, 1)}, r"\('y'\) is on GPU 1"),
        ({"strides": (1, 5)}, r"\('y'\) is not row-major and contiguous"),
        ({"code": 4, "bits": 16}, "found bfloat16"),
        ({"code": 10, "bits": 8}, "found float8_e4m3fn"),
        ({"code": 5, "bits": 64}, "DLPack's type 5 of 64 bits is none of"),
        ({"lanes": 4}, "DLPack's type 2 of 32 bits"),
    ):
        with pytest.raises(CrosstileError, match=message):
            f(x, Exchanged(x, **changes))
    managed = f(x, Exchanged(x, device=(13, 0), strides=(8, 1)))
    np.testing.assert_array_equal(managed.numpy(), 2 * values(5))


def test_the_interface_of_another_gpu(cuda: FakeCuda):
    from fake_cuda import FakeTensor

    f = crosstile.compile(F32, target="sm_90a")
    x = FakeTensor(cuda, values(5))
    other: Any = FakeTensor(cuda, values(5))
    other.device = SimpleNamespace(id=1)
    with pytest.raises(CrosstileError, match=r"\('y'\) is on GPU 1, and the function was compiled for GPU 0"):
        f(x, other)
