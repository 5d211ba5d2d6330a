"""The CUDA driver: the GPU of this machine, its memory, modules and launches, through ``libcuda`` and ctypes.

Level: run time. In: PTX (or a cubin) and :class:`Launch`. Out: results in the GPU's memory. Nothing is compiled against
CUDA and no package is needed: the library comes with NVIDIA's display driver::

    device = CudaDevice()                          CrosstileError: no NVIDIA driver / no GPU / ...
    address = device.upload(array, written=True)
    device.launch(ptx, launch)                     assembled by the driver once, then cached
    device.download(address, array)

Every call's status is checked; what the driver refuses is one :class:`CrosstileError` with its name and what to do.
Documents: CUDA Driver API, on module, memory and tensor map object management, and execution control.
"""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.launch import Launch
from crosstile.targets.nvidia.tensor_map import TensorMap

Array = NDArray[Any]

MULTIPROCESSOR_COUNT, CAPABILITY_MAJOR, CAPABILITY_MINOR = 16, 75, 76
"""CUdevice_attribute."""
MAX_DYNAMIC_SHARED_BYTES = 8
"""CUfunction_attribute."""
ERROR_LOG, ERROR_LOG_BYTES = 5, 6
"""CUjit_option."""
LOG_SIZE = 8192

_TENSOR_TYPES = ("u8", "u16", "u32", "s32", "u64", "s64", "f16", "f32", "f64", "bf16")
"""CUtensorMapDataType, in order."""
_SWIZZLES = (0, 32, 64, 128)
_L2_PROMOTIONS = (0, 64, 128, 256)
_FORMATS = {"ptr": "Q", "i64": "q", "i32": "i", "i16": "h", "i8": "b", "i1": "?", "f64": "d", "f32": "f", "f16": "e"}
TENSOR_MAP_BYTES, TENSOR_MAP_ALIGNMENT = 128, 64

ADVICE = {
    "CUDA_ERROR_NO_DEVICE": "no GPU is visible; see nvidia-smi and CUDA_VISIBLE_DEVICES",
    "CUDA_ERROR_OUT_OF_MEMORY": "the arrays do not fit the GPU's memory",
    "CUDA_ERROR_NO_BINARY_FOR_GPU": "the kernel is for another architecture; choose --target for this GPU",
    "CUDA_ERROR_INVALID_PTX": "the driver may be older than this PTX; update it, or assemble with crosstile translate",
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": "the driver is older than this PTX; update it",
    "CUDA_ERROR_ILLEGAL_ADDRESS": "the kernel left its arrays; the simulator says where",
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
    _context: ctypes.c_void_p = field(init=False, repr=False)
    _functions: dict[tuple[str, str], ctypes.c_void_p] = field(
        default_factory=dict[tuple[str, str], ctypes.c_void_p], repr=False
    )
    _modules: dict[str, ctypes.c_void_p] = field(default_factory=dict[str, ctypes.c_void_p], repr=False)
    _memory: list[int] = field(default_factory=list[int], repr=False)

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
        self._call("cuCtxSetCurrent", self._context)

    def check_target(self, architecture: str) -> None:
        """Raise :class:`CrosstileError` if this GPU cannot run code for ``architecture`` ("sm_80", "sm_90a")."""
        wanted, own = architecture.removeprefix("sm_"), self.architecture.removeprefix("sm_")
        exact = not wanted.isdigit()
        if (exact and wanted[:-1] != own) or (not exact and int(wanted) > int(own)):
            raise CrosstileError(f"{self.name} is {self.architecture} and cannot run code for {architecture}")

    # Memory -----------------------------------------------------------------------------------------------------------

    def upload(self, array: Array, *, written: bool) -> int:
        """The address of new memory of the size of contiguous ``array``, and with its bytes if ``written``."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(1, array.nbytes)))
        self._memory.append(address.value)
        if written and array.nbytes:
            self._call("cuMemcpyHtoD_v2", address, _pointer(array), ctypes.c_size_t(array.nbytes))
        return address.value

    def download(self, address: int, array: Array) -> None:
        """Copy the memory at ``address`` into contiguous ``array``, after all launches so far."""
        if array.nbytes:
            self._call("cuMemcpyDtoH_v2", _pointer(array), ctypes.c_uint64(address), ctypes.c_size_t(array.nbytes))

    def release(self) -> None:
        """Free all memory that was uploaded."""
        while self._memory:
            self._call("cuMemFree_v2", ctypes.c_uint64(self._memory.pop()))

    # Kernels ----------------------------------------------------------------------------------------------------------

    def launch(self, ptx: str, launch: Launch) -> None:
        """Run one kernel of the module ``ptx`` to its end."""
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
        self._call("cuLaunchKernel", function, *sizes, ctypes.c_void_p(), pointers, ctypes.c_void_p())
        self._call("cuCtxSynchronize")

    def function(self, ptx: str, kernel: str) -> ctypes.c_void_p:
        """The kernel of the module ``ptx``, which the driver assembles on first use."""
        if (ptx, kernel) not in self._functions:
            function = ctypes.c_void_p()
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
        """The driver's 128 bytes for ``tensor_map``, aligned as it wants them."""
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
            text = ctypes.c_char_p()
            self.library.cuGetErrorName(ctypes.c_int(status), ctypes.byref(text))
            error = (text.value or b"").decode() or f"error {status}"
            advice = f": {ADVICE[error]}" if error in ADVICE else ""
            raise CrosstileError(f"the CUDA driver refused {name.removesuffix('_v2')} with {error}{advice}")


def _pointer(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _packed(value: int | float, type_: str) -> Any:
    """A scalar argument in the bytes of its type."""
    if type_ == "bf16":
        data = struct.pack("H", int(np.float32(value).view(np.uint32)) >> 16)  # a bfloat16 to begin with
    else:
        data = struct.pack(_FORMATS[type_], value)
    return ctypes.create_string_buffer(data, len(data))
