"""The CUDA driver: the GPU of this machine, its memory, modules and launches, through ``libcuda`` and ctypes.

Level: run time. In: PTX (or a cubin) and :class:`Launch`. Out: results in the GPU's memory. Nothing is compiled against
CUDA and no package is needed: the library comes with NVIDIA's display driver::

    device = CudaDevice()                          CrosstileError: no NVIDIA driver / no GPU / ...
    with device.entered():                         its context is this thread's, whatever that was before
        address = device.allocate(array.nbytes)    a block of the pool of this stream
        device.write(address, array)
        start = device.prepare(ptx, launch)        assembled by the driver once, then cached, as are tensor maps
        start(stream)                              one call of the driver; returns before the kernel ends
        device.read(address, array)                after all work of its stream so far
        device.release(address)

Every call's status is checked; what the driver refuses is one :class:`CrosstileError` with its name and what to do.
The context is the device's primary one, which torch and everything on CUDA's runtime share, so their streams and
addresses are good here. While a stream is captured into a graph nothing waits, and what must be allocated is
allocated apart from the capture (``cuThreadExchangeStreamCaptureMode``) and never used again.
Documents: CUDA Driver API, on module, memory, stream, event and tensor map object management, and execution control.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.launch import Launch
from crosstile.targets.nvidia.pool import Pool
from crosstile.targets.nvidia.tensor_map import TensorMap

Array = NDArray[Any]

MULTIPROCESSOR_COUNT, CAPABILITY_MAJOR, CAPABILITY_MINOR = 16, 75, 76
"""CUdevice_attribute."""
MAX_DYNAMIC_SHARED_BYTES = 8
"""CUfunction_attribute."""
ERROR_LOG, ERROR_LOG_BYTES = 5, 6
"""CUjit_option."""
LOG_SIZE = 8192
LEGACY_STREAM = 1
"""CU_STREAM_LEGACY, which is what stream 0 means."""
CAPTURE_RELAXED = 2
"""CUstreamCaptureMode: calls that a capture does not allow are allowed in this thread, and are not captured."""
OUT_OF_MEMORY = "CUDA_ERROR_OUT_OF_MEMORY"
KEPT_TENSOR_MAPS = 4096

_TENSOR_TYPES = ("u8", "u16", "u32", "s32", "u64", "s64", "f16", "f32", "f64", "bf16")
"""CUtensorMapDataType, in order."""
_SWIZZLES = (0, 32, 64, 128)
_L2_PROMOTIONS = (0, 64, 128, 256)
_FORMATS = {"ptr": "Q", "i64": "q", "i32": "i", "i16": "h", "i8": "b", "i1": "?", "f64": "d", "f32": "f", "f16": "e"}
TENSOR_MAP_BYTES, TENSOR_MAP_ALIGNMENT = 128, 64

ADVICE = {
    "CUDA_ERROR_NO_DEVICE": "no GPU is visible; see nvidia-smi and CUDA_VISIBLE_DEVICES",
    OUT_OF_MEMORY: "the arrays do not fit the GPU's memory: give smaller ones, or free what else is on the GPU",
    "CUDA_ERROR_NO_BINARY_FOR_GPU": "the kernel is for another architecture; choose --target for this GPU",
    "CUDA_ERROR_INVALID_PTX": "the driver may be older than this PTX; update it, or assemble with crosstile translate",
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": "the driver is older than this PTX; update it",
    "CUDA_ERROR_ILLEGAL_ADDRESS": "a kernel left its arrays; this process can no longer use the GPU: start it again, "
    "and find the place with 'crosstile simulate'",
    "CUDA_ERROR_LAUNCH_FAILED": "a kernel failed; this process can no longer use the GPU: start it again, and find the "
    "place with 'crosstile simulate'",
    "CUDA_ERROR_INVALID_VALUE": "a size, an address or a stream is not what the driver takes: is it this GPU's?",
    "CUDA_ERROR_INVALID_HANDLE": "a stream of another GPU, or one that was destroyed?",
    "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED": "a call that waits cannot be captured: give arrays on the GPU",
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "the driver's library and kernel module differ; reboot after an update",
    "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES": "the kernel needs more registers or shared memory than the GPU has",
}
"""What to do about errors that users meet."""


@cache
def load_library() -> Any:
    """``libcuda``; raises :class:`CrosstileError` where there is no NVIDIA driver."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise CrosstileError("no NVIDIA driver is installed on this machine (libcuda.so.1 is missing)")


class DriverError(CrosstileError):
    """What the driver refused; ``status`` is its name ("CUDA_ERROR_OUT_OF_MEMORY")."""

    status = ""


Address = ctypes.c_uint64


@dataclass
class CudaDevice:
    """GPU number ``ordinal``; raises :class:`CrosstileError` without a driver or such a GPU.

    ``library`` is ``libcuda`` unless given. Modules are loaded once per text.
    """

    ordinal: int = 0
    library: Any = field(default_factory=load_library)
    name: str = field(init=False)
    architecture: str = field(init=False)
    processors: int = field(init=False)
    pool: Pool = field(init=False, repr=False)
    separate_temporaries = False
    """Temporaries of a call lie in one workspace."""
    _context: ctypes.c_void_p = field(init=False, repr=False)
    _functions: dict[tuple[str, str], ctypes.c_void_p] = field(
        default_factory=dict[tuple[str, str], ctypes.c_void_p], repr=False
    )
    _modules: dict[str, ctypes.c_void_p] = field(default_factory=dict[str, ctypes.c_void_p], repr=False)
    _maps: dict[TensorMap, Any] = field(default_factory=dict[TensorMap, Any], repr=False)

    def __post_init__(self) -> None:
        self._call("cuInit", ctypes.c_uint(0))
        count, device = ctypes.c_int(), ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        if self.ordinal >= count.value:
            raise CrosstileError(f"there is no GPU number {self.ordinal}; this machine has {count.value}")
        self._call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(self.ordinal))
        name = ctypes.create_string_buffer(128)
        self._call("cuDeviceGetName", name, ctypes.c_int(len(name)), device)
        self.name = name.value.decode()
        major, minor = self._attribute(CAPABILITY_MAJOR, device), self._attribute(CAPABILITY_MINOR, device)
        self.architecture = f"sm_{major}{minor}"
        self.processors = self._attribute(MULTIPROCESSOR_COUNT, device)
        self._context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        self.pool = Pool(self._allocate, lambda address: self._call("cuMemFree_v2", Address(address)))

    @contextmanager
    def entered(self) -> Generator[None]:
        """Inside the ``with`` statement this GPU is the thread's; afterwards what was before is."""
        self._call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def check_target(self, architecture: str) -> None:
        """Raise :class:`CrosstileError` if this GPU cannot run code for ``architecture`` ("sm_80", "sm_90a")."""
        wanted, own = architecture.removeprefix("sm_"), self.architecture.removeprefix("sm_")
        exact = not wanted.isdigit()
        if (exact and wanted[:-1] != own) or (not exact and int(wanted) > int(own)):
            raise CrosstileError(f"{self.name} is {self.architecture} and cannot run code for {architecture}")

    # Memory -----------------------------------------------------------------------------------------------------------

    def allocate(self, size: int, stream: int = 0, name: str = "") -> int:
        """The address of memory of ``size`` bytes for work on ``stream``, which nobody has written."""
        try:
            return self.pool.take(size, stream)
        except MemoryError as error:
            raise CrosstileError(str(error)).with_note(f"{size:,} bytes were asked for") from error

    def release(self, address: int, stream: int = 0) -> None:
        """Later work on ``stream`` may use the memory; never again if the stream is being captured."""
        if self.is_capturing(stream):
            self.pool.keep(address)
        else:
            self.pool.give(address)

    def _allocate(self, size: int) -> int:
        address = Address()
        try:
            with self._apart_from_captures():
                self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        except DriverError as error:
            raise (MemoryError(str(error)) if error.status == OUT_OF_MEMORY else error) from error
        return address.value

    def write(self, address: int, array: Array, stream: int = 0) -> None:
        """Copy contiguous ``array`` to the GPU; it must stay as it is until ``stream`` has done so."""
        if array.nbytes:
            size = ctypes.c_size_t(array.nbytes)
            self._call("cuMemcpyHtoDAsync_v2", Address(address), _pointer(array), size, ctypes.c_void_p(stream))

    def read(self, address: int, array: Array, stream: int = 0) -> None:
        """Copy the memory at ``address`` into contiguous ``array``, after all work on ``stream`` so far."""
        if array.nbytes:
            size = ctypes.c_size_t(array.nbytes)
            self._call("cuMemcpyDtoHAsync_v2", _pointer(array), Address(address), size, ctypes.c_void_p(stream))
        self.synchronize(stream)

    def fill(self, address: int, data: bytes, stream: int = 0) -> None:
        """Write the bytes of one element."""
        width = min(len(data), 4)
        for at in range(0, len(data), width):
            value = int.from_bytes(data[at : at + width], "little")
            kind = {1: ctypes.c_uint8, 2: ctypes.c_uint16, 4: ctypes.c_uint32}[width](value)
            where = Address(address + at)
            self._call(f"cuMemsetD{8 * width}Async", where, kind, ctypes.c_size_t(1), ctypes.c_void_p(stream))

    def copy(self, source: int, target: int, size: int, stream: int = 0) -> None:
        """Copy bytes from one place on the GPU to another."""
        self._call(
            "cuMemcpyDtoDAsync_v2", Address(target), Address(source), ctypes.c_size_t(size), ctypes.c_void_p(stream)
        )

    # Streams ----------------------------------------------------------------------------------------------------------

    def synchronize(self, stream: int = 0) -> None:
        """Wait for all work on ``stream`` so far; an error of a kernel shows here."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def is_capturing(self, stream: int) -> bool:
        """Whether work on ``stream`` becomes part of a graph instead of being done. The legacy stream's never does."""
        if stream in (0, LEGACY_STREAM):
            return False
        status = ctypes.c_int()
        self._call("cuStreamIsCapturing", ctypes.c_void_p(stream), ctypes.byref(status))
        return status.value != 0

    @contextmanager
    def _apart_from_captures(self) -> Generator[None]:
        """Inside, calls that no capture allows are allowed, and are not captured."""
        mode = ctypes.c_int(CAPTURE_RELAXED)
        self._call("cuThreadExchangeStreamCaptureMode", ctypes.byref(mode))
        try:
            yield
        finally:
            self._call("cuThreadExchangeStreamCaptureMode", ctypes.byref(mode))

    def seconds(self, work: Callable[[], object], repeat: int, stream: int = 0) -> list[float]:
        """The GPU's own time of each of ``repeat`` runs of ``work`` on ``stream``, by events before and after."""
        events = [ctypes.c_void_p() for _ in range(repeat + 1)]
        for event in events:
            self._call("cuEventCreate", ctypes.byref(event), ctypes.c_uint(0))
        try:
            self._call("cuEventRecord", events[0], ctypes.c_void_p(stream))
            for event in events[1:]:
                work()
                self._call("cuEventRecord", event, ctypes.c_void_p(stream))
            self._call("cuEventSynchronize", events[-1])
            found: list[float] = []
            for begin, end in pairwise(events):
                milliseconds = ctypes.c_float()
                self._call("cuEventElapsedTime", ctypes.byref(milliseconds), begin, end)
                found.append(milliseconds.value / 1e3)
            return found
        finally:
            for event in events:
                self._call("cuEventDestroy_v2", event)

    # Kernels ----------------------------------------------------------------------------------------------------------

    def prepare(self, ptx: str, launch: Launch) -> Callable[[int], None]:
        """What starts one kernel of the module ``ptx`` on a stream; all but the start is done here."""
        function = self.function(ptx, launch.kernel)
        if launch.shared_bytes:
            self._call(
                "cuFuncSetAttribute",
                function,
                ctypes.c_int(MAX_DYNAMIC_SHARED_BYTES),
                ctypes.c_int(launch.shared_bytes),
            )
        values = [
            self._tensor_map(value) if isinstance(value, TensorMap) else _packed(value, type_)
            for value, type_ in zip(launch.arguments, launch.types, strict=True)
        ]
        pointers = (ctypes.c_void_p * max(1, len(values)))(*(ctypes.addressof(value) for value in values))
        sizes = [ctypes.c_uint(size) for size in (*launch.grid, *launch.block, launch.shared_bytes)]
        start, nothing = self.library.cuLaunchKernel, ctypes.c_void_p()

        def launch_on(stream: int, kept: object = values) -> None:  # the values live as long as their addresses
            if status := start(function, *sizes, ctypes.c_void_p(stream), pointers, nothing):
                raise self._error("cuLaunchKernel", status).with_note(f"kernel '{launch.kernel}', grid {launch.grid}")

        return launch_on

    def function(self, ptx: str, kernel: str) -> ctypes.c_void_p:
        """The kernel of the module ``ptx``, which the driver assembles on first use."""
        if (ptx, kernel) not in self._functions:
            function = ctypes.c_void_p()
            with self._apart_from_captures():
                self._call("cuModuleGetFunction", ctypes.byref(function), self._module(ptx), kernel.encode())
            self._functions[ptx, kernel] = function
        return self._functions[ptx, kernel]

    def _module(self, ptx: str) -> ctypes.c_void_p:
        if ptx not in self._modules:
            module, log = ctypes.c_void_p(), ctypes.create_string_buffer(LOG_SIZE)
            options = (ctypes.c_int * 2)(ERROR_LOG, ERROR_LOG_BYTES)
            values = (ctypes.c_void_p * 2)(ctypes.addressof(log), LOG_SIZE)
            arguments = (ctypes.byref(module), ptx.encode(), ctypes.c_uint(2), options, values)
            try:
                self._call("cuModuleLoadDataEx", *arguments)
            except CrosstileError as error:
                said = log.value.decode(errors="replace").strip()
                raise error.with_note(said) if said else error from None
            self._modules[ptx] = module
        return self._modules[ptx]

    def _tensor_map(self, tensor_map: TensorMap) -> Any:
        """The driver's 128 bytes for ``tensor_map``: made once for each address, shape and box."""
        if tensor_map not in self._maps:
            if len(self._maps) >= KEPT_TENSOR_MAPS:
                self._maps.clear()
            self._maps[tensor_map] = self._encoded(tensor_map)
        return self._maps[tensor_map]

    def _encoded(self, tensor_map: TensorMap) -> Any:
        """A tensor map in the driver's 128 bytes, aligned as it wants them."""
        memory = (ctypes.c_char * (TENSOR_MAP_BYTES + TENSOR_MAP_ALIGNMENT))()
        start = -ctypes.addressof(memory) % TENSOR_MAP_ALIGNMENT
        encoded = (ctypes.c_char * TENSOR_MAP_BYTES).from_buffer(memory, start)
        rank = tensor_map.rank
        self._call(
            "cuTensorMapEncodeTiled",
            ctypes.byref(encoded),
            ctypes.c_int(_TENSOR_TYPES.index(tensor_map.element)),
            ctypes.c_uint(rank),
            ctypes.c_void_p(tensor_map.address),
            (ctypes.c_uint64 * rank)(*tensor_map.sizes),
            (ctypes.c_uint64 * max(1, rank - 1))(*tensor_map.strides),
            (ctypes.c_uint32 * rank)(*tensor_map.box),
            (ctypes.c_uint32 * rank)(*tensor_map.element_strides),
            ctypes.c_int(0),
            ctypes.c_int(_SWIZZLES.index(tensor_map.swizzle)),
            ctypes.c_int(_L2_PROMOTIONS.index(tensor_map.l2_promotion)),
            ctypes.c_int(int(tensor_map.fill == "nan")),
        )
        return encoded

    # Calls ------------------------------------------------------------------------------------------------------------

    def _attribute(self, attribute: int, device: ctypes.c_int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(attribute), device)
        return value.value

    def _call(self, name: str, *arguments: Any) -> None:
        if status := getattr(self.library, name)(*arguments):
            raise self._error(name, status)

    def _error(self, name: str, status: int) -> DriverError:
        text = ctypes.c_char_p()
        self.library.cuGetErrorName(ctypes.c_int(status), ctypes.byref(text))
        found = (text.value or b"").decode() or f"error {status}"
        advice = f": {ADVICE[found]}" if found in ADVICE else ""
        error = DriverError(f"the CUDA driver refused {name.removesuffix('_v2')} with {found}{advice}")
        error.status = found
        return error


def _pointer(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _packed(value: int | float, type_: str) -> Any:
    """A scalar argument in the bytes of its type."""
    if type_ == "bf16":
        data = struct.pack("H", int(np.float32(value).view(np.uint32)) >> 16)  # a bfloat16 to begin with
    else:
        data = struct.pack(_FORMATS[type_], value)
    return ctypes.create_string_buffer(data, len(data))
