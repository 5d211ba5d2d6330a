"""Programs as functions of arrays on the GPU: on a stand-in for the driver whose kernels the simulator runs."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from command import call
from fake_cuda import FakeCuda, FakeTensor

import crosstile
from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.model import machines
from crosstile.targets.nvidia.arrays import GpuArray
from crosstile.targets.nvidia.driver import CudaDevice
from crosstile.tools import run
from crosstile.tools.api import GpuTarget

MATMUL = Path(__file__).resolve().parents[2] / "examples" / "matmul_bf16.mlir"
BF16 = np.dtype(ml_dtypes.bfloat16)
ADD = """
func.func @main(%x: tensor<?x4xf32>, %y: tensor<?x4xf32>) -> (tensor<?x4xf32>, tensor<?xf32>) {
  %z = nn.add %x, %y : tensor<?x4xf32>, tensor<?x4xf32>
  %sum = nn.reduce add %z dims [1] : tensor<?x4xf32> -> tensor<?xf32>
  func.return %z, %sum : tensor<?x4xf32>, tensor<?xf32>
}
"""


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise CrosstileError("no NVIDIA driver")

    monkeypatch.setattr("crosstile.tools.device.gpu", missing)


def values(rows: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((rows, 4)).astype(np.float32)


def test_arrays_on_the_gpu_stay_there_and_nothing_is_waited_for(cuda: FakeCuda):
    f = crosstile.compile(ADD, target="sm_90a")
    x, y = values(5), values(5, 1)
    before = len(cuda.calls)
    z, total = f(FakeTensor(cuda, x), FakeTensor(cuda, y))
    calls = cuda.calls[before:]
    assert not any("Memcpy" in one or "Synchronize" in one for one in calls) and "cuLaunchKernel" in calls
    np.testing.assert_array_equal(z.numpy(), x + y)
    np.testing.assert_allclose(total.numpy(), (x + y).sum(axis=1), rtol=1e-6)
    assert f.kernels and f.compile_seconds and f.where == "Fake H100" and not cuda.contexts


def test_a_second_call_is_one_call_of_the_driver_per_launch(cuda: FakeCuda):
    f = crosstile.compile(ADD, target="sm_90a")
    x, y = FakeTensor(cuda, values(5)), FakeTensor(cuda, values(5, 1))
    out = f(x, y)
    before = len(cuda.calls)
    assert f(x, y, out=out) == out
    calls = [one for one in cuda.calls[before:] if "Ctx" not in one]
    assert set(calls) == {"cuLaunchKernel"}


def test_tensor_maps_and_types_that_numpy_lacks(cuda: FakeCuda):
    f = crosstile.compile(MATMUL, target="sm_90a")
    random = np.random.default_rng(0)
    a, b = (random.standard_normal(shape).astype(BF16) for shape in ((72, 40), (40, 48)))
    on_gpu = [f.to_device(one) for one in (a, b)]
    c = f(*on_gpu, stream=7)
    assert c.stream == 7 and len(cuda.tensor_maps) == 3  # a, b and the result
    np.testing.assert_allclose(c.numpy(), a.astype(np.float64) @ b.astype(np.float64), atol=1e-4)
    f(*on_gpu, out=c)
    assert len(cuda.tensor_maps) == 3
    with pytest.raises(AttributeError, match="has no bfloat16; DLPack has"):
        on_gpu[0].__cuda_array_interface__  # noqa: B018


def test_dlpack_both_ways(cuda: FakeCuda):
    class Exchanged:
        def __init__(self, array: GpuArray):
            self.array, self.streams = array, list[object]()

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.array.__dlpack_device__()

        def __dlpack__(self, stream: int) -> object:
            self.streams.append(stream)
            return self.array.__dlpack__(stream=stream)

    f = crosstile.compile(ADD, target="sm_90a")
    x, y = values(3), values(3, 1)
    first, second = (Exchanged(f.to_device(one)) for one in (x, y))
    z, _ = f(first, second, stream=5)
    np.testing.assert_array_equal(z.numpy(), x + y)
    assert first.streams == [5]
    taken = f.device.pool.taken if isinstance(f.device, CudaDevice) else -1
    del first, second
    gc.collect()
    assert isinstance(f.device, CudaDevice) and f.device.pool.taken == taken - 2


def test_arrays_of_numpy_are_copied_there_and_back(cuda: FakeCuda):
    f = crosstile.compile(ADD, target="sm_90a")
    x, y = values(5), values(5, 1)
    z, _ = f(x[::-1], y)
    assert type(z) is np.ndarray
    np.testing.assert_array_equal(z, x[::-1] + y)
    mixed, _ = f(FakeTensor(cuda, x), y)
    np.testing.assert_array_equal(mixed.numpy(), x + y)
    out = np.empty((5, 4), np.float32), np.empty(5, np.float32)
    assert f(x, y, out=out)[0] is out[0]
    np.testing.assert_array_equal(out[0], x + y)


def test_an_output_may_be_an_argument_and_addresses_need_no_alignment(cuda: FakeCuda):
    f = crosstile.compile(ADD, target="sm_90a")
    x, y = values(5), values(5, 1)
    on_gpu, other = FakeTensor(cuda, x), FakeTensor(cuda, y, offset=4)
    f(on_gpu, other, out=(on_gpu, FakeTensor(cuda, np.zeros(5, np.float32), offset=8)))
    np.testing.assert_array_equal(on_gpu.numpy(), x + y)


def test_a_call_is_captured_into_a_graph(cuda: FakeCuda):
    f = crosstile.compile(ADD, target="sm_90a")
    x, y = FakeTensor(cuda, values(5)), FakeTensor(cuda, values(5, 1))
    out = FakeTensor(cuda, np.zeros((5, 4), np.float32)), FakeTensor(cuda, np.zeros(5, np.float32))
    cuda.begin_capture(9)
    f(x, y, out=out, stream=9)
    with pytest.raises(CrosstileError, match="captured into a graph takes arrays on the GPU"):
        f(values(5), y, out=out, stream=9)
    replay = cuda.end_capture(9)
    cuda.run(9)
    np.testing.assert_array_equal(out[0].numpy(), 0)
    cuda.memory.write(x.address, values(5, 2).tobytes())
    replay(9)
    np.testing.assert_array_equal(out[0].numpy(), values(5, 2) + values(5, 1))


def test_streams_of_others(cuda: FakeCuda):
    class Torch:
        cuda_stream = 11

    class Core:
        def __cuda_stream__(self) -> tuple[int, int]:
            return 0, 12

    f = crosstile.compile(ADD, target="sm_90a")
    x, y = FakeTensor(cuda, values(5), stream=13), FakeTensor(cuda, values(5, 1))
    out = f(x, y, stream=Torch())
    assert cuda.queues.keys() >= {11}
    f(x, y, out=out, stream=Core())
    assert "cuStreamSynchronize" in cuda.calls  # stream 13 produced x
    with pytest.raises(CrosstileError, match=r"stream: expected the driver's handle .* found a str"):
        f(x, y, stream="fast")


def test_calls_are_timed_by_events(cuda: FakeCuda):
    f = crosstile.compile(ADD, target="sm_90a")
    assert f.time(values(5), values(5), repeat=4) == pytest.approx([0.002] * 4)  # pyright: ignore[reportUnknownMemberType]


def test_the_command_times_a_gpu(cuda: FakeCuda, tmp_path: Path):
    sizes = ("--dim", "M=20", "--dim", "N=16", "--dim", "K=24")
    result = call(run.main, str(MATMUL), "--target", "sm_90a", "--repeat", "3", *sizes)
    assert (result.code, result.err) == (0, "")
    assert "time     2 ms (best of 3, median 2 ms), Fake H100" in result.out and "GFLOP/s" in result.out


def test_what_does_not_fit(cuda: FakeCuda):
    f = crosstile.compile(ADD, target="sm_90a")
    x = values(5)
    on_gpu = FakeTensor(cuda, x)
    for arguments, message in (
        ((on_gpu,), r"@main takes 2 arguments .* found 1"),
        (
            (on_gpu, FakeTensor(cuda, x[:, :3])),
            r"argument 1 \('y'\): expected float32 of shape \(\?, 4\), found float32 of",
        ),
        ((on_gpu, FakeTensor(cuda, x.astype(np.float16))), r"found float16 of shape \(5, 4\)"),
        ((on_gpu, FakeTensor(cuda, x, strides=(4, 20))), r"\('y'\) is not row-major and contiguous on the GPU"),
        ((on_gpu, FakeTensor(cuda, values(6))), "dimension 0 of argument"),
        ((on_gpu, "nothing"), "argument 1"),
    ):
        with pytest.raises(CrosstileError, match=message):
            f(*arguments)
    with pytest.raises(CrosstileError, match="out: expected 2 arrays, found 1"):
        f(on_gpu, on_gpu, out=on_gpu)
    with pytest.raises(CrosstileError, match="out: result 1 must be on the GPU as the arguments are, found a ndarray"):
        f(on_gpu, on_gpu, out=(FakeTensor(cuda, x), np.empty(5, np.float32)))


def test_another_architecture_is_simulated(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch):
    ampere = CudaDevice(library=FakeCuda((8, 0)))
    monkeypatch.setattr("crosstile.tools.device.gpu", lambda: ampere)
    f = crosstile.compile(ADD, target="sm_90a")
    assert f.where == "simulated: Fake H100 is sm_80 and cannot run code for sm_90a"


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_the_simulator_takes_arrays_of_numpy():
    f = crosstile.compile(ADD, target="sm_80")
    x, y = values(5), values(5, 1)
    np.testing.assert_array_equal(f(x, y)[0], x + y)
    assert f.where == "simulated: no NVIDIA driver"
    with pytest.raises(CrosstileError, match="only calls on a GPU are timed; here kernels are simulated"):
        f.time(x, y)


def test_type_checkers_know_all_targets_of_gpus():
    names = {name for name, row in machines().items() if row.warp_lanes is not None}
    known = set(GpuTarget.__args__)
    assert known == names | {f"nvidia-{name}" for name in names}
