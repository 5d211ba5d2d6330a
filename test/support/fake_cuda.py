"""``libcuda`` in Python, after the CUDA driver API: memory and kernels are the simulator's, streams are queues.

Nothing of a stream is done before somebody waits for it, so that a wait that is missing shows. Calls need a current
context. A stream that is being captured collects its work in a graph, and calls that wait or allocate are refused
meanwhile unless the thread is relaxed. ``failing`` maps calls to the status that they return instead.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from crosstile.targets.nvidia.ptx.parser import parse_ptx
from crosstile.targets.nvidia.simulate import GlobalMemory, simulate
from crosstile.targets.nvidia.tensor_map import TensorMap

NAMES = {
    1: b"CUDA_ERROR_INVALID_VALUE",
    2: b"CUDA_ERROR_OUT_OF_MEMORY",
    100: b"CUDA_ERROR_NO_DEVICE",
    201: b"CUDA_ERROR_INVALID_CONTEXT",
    218: b"CUDA_ERROR_INVALID_PTX",
    700: b"CUDA_ERROR_ILLEGAL_ADDRESS",
    900: b"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
}
NEEDS_NO_CONTEXT = ("cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent", "cuThreadExchange")
REFUSED_IN_CAPTURE = ("cuMemAlloc", "cuMemFree", "cuModuleLoadDataEx", "cuModuleGetFunction")
TENSOR_TYPES = ("u8", "u16", "u32", "s32", "u64", "s64", "f16", "f32", "f64", "bf16")
CONTEXT = 77


class Refused(Exception):
    """A call's status."""


def referred(reference: Any) -> Any:
    """What a ``ctypes.byref`` refers to."""
    return reference._obj


class FakeCuda:
    """``libcuda`` of a machine with one H100 of 132 multiprocessors, or as few as a test simulates quickly."""

    def __init__(self, capability: tuple[int, int] = (9, 0), processors: int = 132, **failing: int):
        self.attributes = {75: capability[0], 76: capability[1], 16: processors}
        self.architecture = {8: "sm_80", 9: "sm_90a"}[capability[0]]
        self.failing = failing
        self.calls: list[str] = []
        self.memory = GlobalMemory()
        self.sizes: dict[int, int] = {}
        """The bytes of each allocation."""
        self.free_bytes = 1 << 40
        self.contexts: list[int] = []
        self.queues: dict[int, list[Callable[[], None]]] = {}
        self.captures: dict[int, list[Callable[[], None]]] = {}
        self.graphs: list[list[Callable[[], None]]] = []
        self.events: dict[int, float] = {}
        self.clock = 0.0
        self.mode = 0
        self.modules: list[Any] = []
        self.functions: list[tuple[Any, str]] = []
        self.tensor_maps: list[TensorMap] = []
        self.launched: list[tuple[str, tuple[int, ...], list[bytes]]] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        plain = name.removesuffix("_v2")
        own = getattr(FakeCuda, f"do_{plain}", None)
        if not name.startswith("cu"):
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            self.calls.append(name)
            if name in self.failing:
                return self.failing[name]
            if not self.contexts and not plain.startswith(NEEDS_NO_CONTEXT):
                return 201
            if self.captures and self.mode != 2 and plain in REFUSED_IN_CAPTURE:
                return 900
            assert own is not None, f"the stand-in has no {name}"
            try:
                own(self, *arguments)
            except Refused as refused:
                return refused.args[0]
            return 0

        return call

    def cuGetErrorName(self, status: Any, text: Any) -> int:  # noqa: N802 - the driver's name
        referred(text).value = NAMES.get(status.value)
        return 0

    def enqueue(self, stream: Any, work: Callable[[], None]) -> None:
        """Work of a stream, for later."""
        queue = self.captures.get(stream.value or 0)
        (self.queues.setdefault(stream.value or 0, []) if queue is None else queue).append(work)

    def run(self, stream: int) -> None:
        """Do all work of a stream; the default stream waits for all others, as they do for it."""
        for number in sorted({0, stream} if stream else self.queues):
            for work in self.queues.pop(number, []):
                work()

    # Devices and contexts

    def do_cuInit(self, flags: Any) -> None:  # noqa: N802
        assert flags.value == 0

    def do_cuDeviceGetCount(self, count: Any) -> None:  # noqa: N802
        referred(count).value = 1

    def do_cuDeviceGet(self, device: Any, ordinal: Any) -> None:  # noqa: N802
        referred(device).value = ordinal.value

    def do_cuDeviceGetName(self, name: Any, size: Any, device: Any) -> None:  # noqa: N802
        name.value = b"Fake H100"

    def do_cuDeviceGetAttribute(self, value: Any, attribute: Any, device: Any) -> None:  # noqa: N802
        referred(value).value = self.attributes[attribute.value]

    def do_cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> None:  # noqa: N802
        referred(context).value = CONTEXT

    def do_cuCtxPushCurrent(self, context: Any) -> None:  # noqa: N802
        self.contexts.append(context.value)

    def do_cuCtxPopCurrent(self, context: Any) -> None:  # noqa: N802
        referred(context).value = self.contexts.pop()

    # Memory

    def do_cuMemAlloc(self, address: Any, size: Any) -> None:  # noqa: N802
        if size.value == 0:
            raise Refused(1)
        if size.value > self.free_bytes:
            raise Refused(2)
        self.free_bytes -= size.value
        referred(address).value = self.memory.empty((size.value,), np.uint8)
        self.sizes[referred(address).value] = size.value

    def do_cuMemFree(self, address: Any) -> None:  # noqa: N802
        self.run(0)
        self.free_bytes += self.sizes.pop(address.value)
        self.memory.release(address.value)

    def do_cuMemcpyHtoDAsync(self, to: Any, source: Any, size: Any, stream: Any) -> None:  # noqa: N802
        at, begin, count = to.value, source.value, size.value
        self.enqueue(stream, lambda: self.memory.write(at, ctypes.string_at(begin, count)))

    def do_cuMemcpyDtoHAsync(self, to: Any, source: Any, size: Any, stream: Any) -> None:  # noqa: N802
        at, begin, count = to.value, source.value, size.value

        def move() -> None:
            ctypes.memmove(at, self.read(begin, count), count)

        self.enqueue(stream, move)

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the GPU's memory."""
        found = self.memory.allocation(address)
        assert found is not None
        begin = address - found.address
        return found.bytes[begin : begin + size].tobytes()

    def do_cuMemcpyDtoDAsync(self, to: Any, source: Any, size: Any, stream: Any) -> None:  # noqa: N802
        self.enqueue(stream, partial(self.memory.copy, source.value, to.value, size.value))

    def _fill(self, width: int, address: Any, value: Any, count: Any, stream: Any) -> None:
        assert ctypes.sizeof(value) == width
        data = value.value.to_bytes(width, "little") * count.value
        self.enqueue(stream, partial(self.memory.write, address.value, data))

    def do_cuMemsetD8Async(self, *arguments: Any) -> None:  # noqa: N802
        self._fill(1, *arguments)

    def do_cuMemsetD16Async(self, *arguments: Any) -> None:  # noqa: N802
        self._fill(2, *arguments)

    def do_cuMemsetD32Async(self, *arguments: Any) -> None:  # noqa: N802
        self._fill(4, *arguments)

    # Streams, events and graphs

    def do_cuStreamSynchronize(self, stream: Any) -> None:  # noqa: N802
        if self.captures:
            raise Refused(900)
        self.run(stream.value or 0)

    def do_cuStreamIsCapturing(self, stream: Any, status: Any) -> None:  # noqa: N802
        referred(status).value = int((stream.value or 0) in self.captures)

    def do_cuThreadExchangeStreamCaptureMode(self, mode: Any) -> None:  # noqa: N802
        referred(mode).value, self.mode = self.mode, referred(mode).value

    def begin_capture(self, stream: int) -> None:
        """What torch.cuda.graph does when it is entered."""
        self.captures[stream] = []

    def end_capture(self, stream: int) -> Callable[[int], None]:
        """What it does when it is left; the result replays the graph on a stream."""
        graph = self.captures.pop(stream)

        def replay(stream: int) -> None:
            for work in graph:
                self.enqueue(ctypes.c_void_p(stream), work)

        return replay

    def do_cuEventCreate(self, event: Any, flags: Any) -> None:  # noqa: N802
        referred(event).value = len(self.events) + 1
        self.events[referred(event).value] = -1.0

    def do_cuEventRecord(self, event: Any, stream: Any) -> None:  # noqa: N802
        def record(number: int = event.value) -> None:
            self.clock += 2.0
            self.events[number] = self.clock

        self.enqueue(stream, record)

    def do_cuEventSynchronize(self, event: Any) -> None:  # noqa: N802
        self.run(0)

    def do_cuEventElapsedTime(self, milliseconds: Any, begin: Any, end: Any) -> None:  # noqa: N802
        referred(milliseconds).value = self.events[end.value] - self.events[begin.value]

    def do_cuEventDestroy(self, event: Any) -> None:  # noqa: N802
        assert self.events.get(event.value) is not None

    # Modules and kernels

    def do_cuModuleLoadDataEx(self, module: Any, text: bytes, count: Any, options: Any, values: Any) -> None:  # noqa: N802
        assert list(options) == [5, 6] and count.value == 2
        self.modules.append(parse_ptx(text.decode()))
        referred(module).value = len(self.modules)

    def do_cuModuleGetFunction(self, function: Any, module: Any, name: bytes) -> None:  # noqa: N802
        found = self.modules[int(module.value) - 1]
        assert name.decode() in found.functions
        self.functions.append((found, name.decode()))
        referred(function).value = len(self.functions)

    def do_cuFuncSetAttribute(self, function: Any, attribute: Any, value: Any) -> None:  # noqa: N802
        assert attribute.value == 8 and value.value <= 232448

    def do_cuTensorMapEncodeTiled(self, encoded: Any, element: Any, rank: Any, address: Any, *rest: Any) -> None:  # noqa: N802
        assert ctypes.addressof(referred(encoded)) % 64 == 0
        sizes, strides, box, steps, interleave, swizzle, promotion, fill = rest
        assert interleave.value == 0 and promotion.value == 2 and len(sizes) == rank.value
        self.tensor_maps.append(
            TensorMap(
                TENSOR_TYPES[int(element.value)],
                address.value,
                tuple(sizes),
                tuple(strides[: rank.value - 1]),
                tuple(box),
                tuple(steps),
                swizzle=(0, 32, 64, 128)[int(swizzle.value)],
                fill="nan" if fill.value else "zero",
            )
        )
        data = struct.pack("<Q", len(self.tensor_maps)).ljust(128, b"\7")
        ctypes.memmove(ctypes.addressof(referred(encoded)), data, 128)

    def do_cuLaunchKernel(self, function: Any, *rest: Any) -> None:  # noqa: N802
        module, name = self.functions[int(function.value) - 1]
        *sizes, shared, stream, pointers, extra = rest
        assert extra.value is None
        parameters = module.functions[name].parameters
        data = [ctypes.string_at(at, one.bytes) for at, one in zip(pointers, parameters, strict=True)]
        values = [self._value(one, bytes_) for one, bytes_ in zip(parameters, data, strict=True)]
        grid, block = (tuple(size.value for size in three) for three in (sizes[:3], sizes[3:]))
        self.launched.append((name, (*grid, *block, shared.value), data))

        def launch() -> None:
            simulate(module, name, grid, block, values, self.memory, shared.value, architecture=self.architecture)

        self.enqueue(stream, launch)

    def _value(self, parameter: Any, data: bytes) -> Any:
        if parameter.bytes == 128:
            return self.tensor_maps[struct.unpack_from("<Q", data)[0] - 1]
        if parameter.type in ("f32", "f64"):
            return struct.unpack("<f" if parameter.type == "f32" else "<d", data)[0]
        return int.from_bytes(data, "little")


class FakeTensor:
    """An array on the stand-in's GPU as others offer one: by DLPack or CUDA's array interface."""

    def __init__(self, cuda: FakeCuda, array: Any, strides: Any = None, stream: int | None = None, offset: int = 0):
        self.cuda = cuda
        self.shape: tuple[int, ...] = array.shape
        self.dtype: Any = array.dtype
        self.address = cuda.memory.empty((array.nbytes + offset,), np.uint8) + offset
        cuda.memory.write(self.address, array.tobytes())
        self.interface = {"version": 3, "shape": array.shape, "typestr": array.dtype.str}
        self.interface |= {"data": (self.address, False), "strides": strides, "stream": stream}

    @property
    def __cuda_array_interface__(self) -> Any:
        return self.interface

    def numpy(self) -> Any:
        """The contents, after all work."""
        self.cuda.run(0)
        size = int(np.prod(self.shape)) * self.dtype.itemsize
        return np.frombuffer(self.cuda.read(self.address, size), self.dtype).reshape(self.shape)
