"""Arrays on the GPU: those of torch and of everybody who speaks DLPack or CUDA's array interface, and our own.

Level: run time. In: any object. Out: a :class:`Given` - address, shape and type, nothing copied - or None for what is
not on a GPU::

    given = given_array(tensor, stream=0)       Given(address=0x7f..., shape=(3, 4), dtype="bfloat16", ...)
    GpuArray(device, (3, 4), "bfloat16")        memory of ours; torch.from_dlpack(array), cupy.asarray(array), numpy()

What an array's producer still computes on another stream is waited for as its protocol says: DLPack is told our stream,
and the interface's ``stream`` is synchronised with. Tensors of torch are read by their methods; torch is not imported.
Documents: DLPack's Python specification and ``dlpack.h``; Numba, "CUDA Array Interface (Version 3)".
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from crosstile.ir.diagnostics import CrosstileError

if TYPE_CHECKING:
    from crosstile.targets.nvidia.run import Device

Array = NDArray[Any]

CUDA, CUDA_MANAGED = 2, 13
"""DLDeviceType."""
_TYPES = {
    (0, 8): "int8",
    (0, 16): "int16",
    (0, 32): "int32",
    (0, 64): "int64",
    (1, 8): "uint8",
    (1, 16): "uint16",
    (1, 32): "uint32",
    (1, 64): "uint64",
    (2, 16): "float16",
    (2, 32): "float32",
    (2, 64): "float64",
    (4, 16): "bfloat16",
    (6, 8): "bool",
    (10, 8): "float8_e4m3fn",
    (12, 8): "float8_e5m2",
}
"""DLDataType: code and bits."""


class _DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
    )


class _DLManagedTensor(ctypes.Structure):
    _fields_ = (("tensor", _DLTensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


@dataclass(frozen=True)
class Given:
    """An array on GPU number ``device``: the address of its first element, its type by NumPy's or ml_dtypes' name.

    ``owner`` keeps the memory; ``like`` makes another array of the same kind, None where only ours can.
    """

    address: int
    shape: tuple[int, ...]
    dtype: str
    is_contiguous: bool
    device: int
    owner: object = None
    like: Callable[[tuple[int, ...], str], Any] | None = None


def stream_handle(stream: object) -> int:
    """The driver's handle of a stream: a number, or an object of torch, cupy or cuda.core.

    Raises :class:`CrosstileError` for anything else.
    """
    if isinstance(stream, int):
        return stream
    for name in ("cuda_stream", "ptr", "handle"):
        if isinstance(found := getattr(stream, name, None), int):
            return found
    if (protocol := getattr(stream, "__cuda_stream__", None)) is not None:
        return int(protocol()[1])
    raise CrosstileError(
        f"stream: expected the driver's handle as a number, or a stream of torch, cupy or cuda.core, "
        f"found a {type(stream).__name__}"
    )


def is_torch(value: object) -> bool:
    """Whether ``value`` is a tensor of torch."""
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "data_ptr")


def current_stream(value: Any) -> int:
    """The stream on which torch works now with ``value``, one of its tensors on a GPU."""
    import sys

    return sys.modules["torch"].cuda.current_stream(value.device).cuda_stream


def given_array(value: Any, stream: int, synchronize: Callable[[int], None]) -> Given | None:
    """``value`` as an array on a GPU; None if it is on none. ``synchronize`` waits for a stream of the producer."""
    if isinstance(value, GpuArray):
        return Given(value.address, value.shape, value.dtype, True, value.ordinal, value)
    if is_torch(value):
        return _torch_array(value) if value.is_cuda else None
    if isinstance(value, np.ndarray | np.generic):
        return None
    if (interface := getattr(value, "__cuda_array_interface__", None)) is not None:
        return _interface_array(value, interface, stream, synchronize)
    if hasattr(value, "__dlpack_device__") and value.__dlpack_device__()[0] in (CUDA, CUDA_MANAGED):
        # DLPack's 1 is the legacy default stream, which the driver calls 0.
        return _dlpack_array(value.__dlpack__(stream=stream or 1))
    return None


def _torch_array(tensor: Any) -> Given:
    def like(shape: tuple[int, ...], dtype: str) -> Any:
        import sys

        torch = sys.modules["torch"]
        return torch.empty(shape, dtype=getattr(torch, dtype), device=tensor.device)

    name = str(tensor.dtype).removeprefix("torch.")
    shape = tuple(tensor.shape)
    return Given(tensor.data_ptr(), shape, name, tensor.is_contiguous(), tensor.device.index or 0, tensor, like)


def _interface_array(value: Any, interface: Any, stream: int, synchronize: Callable[[int], None]) -> Given:
    dtype = np.dtype(interface["typestr"])
    shape = tuple(interface["shape"])
    contiguous = _is_row_major(shape, interface.get("strides"), dtype.itemsize)
    producer = interface.get("stream")
    if producer is not None and producer != (stream or 1):
        synchronize(producer)
    device = getattr(getattr(value, "device", None), "id", 0)
    return Given(int(interface["data"][0] or 0), shape, dtype.name, contiguous, device, value)


def _dlpack_array(capsule: object) -> Given:
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    tensor = ctypes.cast(get(capsule, b"dltensor"), ctypes.POINTER(_DLManagedTensor)).contents.tensor
    rank = tensor.rank
    shape = tuple(tensor.shape[:rank]) if rank else ()
    strides = tuple(tensor.strides[:rank]) if rank and tensor.strides else None
    dtype = _TYPES.get((tensor.code, tensor.bits)) if tensor.lanes == 1 else None
    if dtype is None:
        raise CrosstileError(
            f"DLPack's type {tensor.code} of {tensor.bits} bits is none of {', '.join(_TYPES.values())}"
        )
    address = (tensor.data or 0) + tensor.offset
    # The capsule is not consumed: its own destructor frees the tensor when nobody holds it any more.
    return Given(address, shape, dtype, _is_row_major(shape, strides, 1), tensor.device, capsule)


def _is_row_major(shape: tuple[int, ...], strides: tuple[int, ...] | None, step: int) -> bool:
    if strides is None or 0 in shape:
        return True
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != step:
            return False
        step *= size
    return True


class GpuArray:
    """A row-major array on a device, of the type with NumPy's or ml_dtypes' name ``dtype``, for work on ``stream``.

    It has no contents at first. Its memory is given back when nothing refers to it any more. Anything that speaks
    DLPack or CUDA's array interface takes it without a copy.
    """

    def __init__(self, device: Device, shape: tuple[int, ...], dtype: str, stream: int = 0):
        from crosstile.targets.x86.launch import dtype_called

        self.shape, self.dtype, self.stream = shape, dtype, stream
        self.ordinal: int = getattr(device, "ordinal", 0)
        self._device = device
        self._numpy_type = dtype_called(dtype)
        self.nbytes = prod(shape) * self._numpy_type.itemsize
        with device.entered():
            self.address = device.allocate(self.nbytes, stream)

    def __del__(self) -> None:
        if hasattr(self, "address"):
            with self._device.entered():
                self._device.release(self.address, self.stream)

    def numpy(self) -> Array:
        """A copy on the host, when the work on its stream so far is done."""
        found = np.empty(self.shape, self._numpy_type)
        with self._device.entered():
            self._device.read(self.address, found, self.stream)
        return found

    def __repr__(self) -> str:
        return f"GpuArray({self.dtype} of shape {self.shape} at {self.address:#x})"

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """CUDA's array interface; an AttributeError for types that it has no name for."""
        if self._numpy_type.isbuiltin != 1:
            raise AttributeError(f"CUDA's array interface has no {self.dtype}; DLPack has")
        data = (self.address if self.nbytes else 0, False)
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": self._numpy_type.str,
            "data": data,
            "stream": self.stream or 1,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack: on which GPU."""
        return CUDA, self.ordinal

    def __dlpack__(self, *, stream: int | None = None, **_: object) -> object:
        """DLPack: a capsule, when the work on this array's stream is done or ordered before ``stream``'s."""
        if stream not in (-1, self.stream or 1):
            with self._device.entered():
                self._device.synchronize(self.stream)
        return _exported(self)


_kept: dict[int, object] = {}
"""What exported capsules refer to, by the address of their structure."""


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def _delete(address: int) -> None:
    _kept.pop(address, None)


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def _delete_unused(capsule: int) -> None:
    """The destructor of a capsule: what nobody has taken over is freed with it."""
    is_valid = ctypes.pythonapi.PyCapsule_IsValid
    is_valid.restype, is_valid.argtypes = ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p]
    if is_valid(capsule, b"dltensor"):
        get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
            ("PyCapsule_GetPointer", ctypes.pythonapi)
        )
        _kept.pop(cast("int", get(capsule, b"dltensor")), None)


def _exported(array: GpuArray) -> object:
    """A capsule with a tensor of DLPack for ``array``, which lives as long as the tensor."""
    code, bits = next(key for key, name in _TYPES.items() if name == array.dtype)
    rank = len(array.shape)
    shape = (ctypes.c_int64 * max(1, rank))(*array.shape)
    data = array.address if array.nbytes else 0
    tensor = _DLTensor(data, CUDA, array.ordinal, rank, code, bits, 1, shape, None, 0)
    managed = _DLManagedTensor(tensor, None, ctypes.cast(_delete, ctypes.c_void_p))
    address = ctypes.addressof(managed)
    _kept[address] = (managed, shape, array)
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return new(address, b"dltensor", ctypes.cast(_delete_unused, ctypes.c_void_p))
