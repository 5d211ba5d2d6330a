"""As much of ``torch`` as functions on a GPU touch, on the stand-in for ``libcuda``: tensors, streams, what is current.

torch = FakeTorch(cuda)
monkeypatch.setitem(sys.modules, "torch", torch)
x = torch.tensor(array)                   on the GPU; device="cuda:1" for another, "cpu" for none
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
from fake_cuda import FakeCuda

TYPES = ("bfloat16", "float16", "float32", "float64", "int8", "int16", "int32", "float8_e4m3fn", "float8_e5m2")


class DType:
    """``torch.bfloat16``."""

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"


class Stream:
    """``torch.cuda.Stream``."""

    def __init__(self, handle: int):
        self.cuda_stream = handle


def numpy_type(name: str) -> Any:
    """The type of arrays that hold a tensor's elements."""
    return np.dtype(getattr(ml_dtypes, name, None) or name)


class Tensor:
    """``torch.Tensor``: ``strides`` in elements, ``None`` for row-major."""

    def __init__(self, torch: FakeTorch, array: Any, device: str, strides: tuple[int, ...] | None = None):
        kind, _, index = device.partition(":")
        self._torch, self._array = torch, array
        self.shape, self.dtype = array.shape, getattr(torch, array.dtype.name)
        self.is_cuda = kind == "cuda"
        self.device = SimpleNamespace(type=kind, index=int(index or 0) if self.is_cuda else None)
        self._contiguous = strides is None
        self._address = torch.place(array) if self.is_cuda else array.ctypes.data

    def data_ptr(self) -> int:
        return self._address

    def is_contiguous(self) -> bool:
        return self._contiguous

    def element_size(self) -> int:
        return self._array.itemsize

    def detach(self) -> Tensor:
        return self

    def contiguous(self) -> Tensor:
        return self

    def view(self, dtype: DType) -> Tensor:
        return Tensor(self._torch, self._array.view(numpy_type(dtype.name)), self.device.type)

    def numpy(self) -> Any:
        """Only of what is on the host, and of types that NumPy has."""
        assert not self.is_cuda and self.dtype.name in np.sctypeDict
        return self._array

    def read(self) -> Any:
        """The elements after all work; no method of torch's."""
        cuda = self._torch.cuda_library
        cuda.run(0)
        data = cuda.read(self._address, self._array.nbytes) if self._array.nbytes else b""
        return np.frombuffer(data, self._array.dtype).reshape(self.shape)

    def write(self, array: Any) -> None:
        """New elements, at once; no method of torch's."""
        self._torch.cuda_library.memory.write(self._address, np.ascontiguousarray(array).tobytes())


Tensor.__module__ = "torch"


class FakeTorch:
    """The module."""

    def __init__(self, cuda: FakeCuda):
        self.cuda_library = cuda
        self.current = Stream(0)
        self.cuda = SimpleNamespace(current_stream=self._current_stream)
        for name in TYPES:
            setattr(self, name, DType(name))

    def _current_stream(self, device: object) -> Stream:
        del device
        return self.current

    def place(self, array: Any) -> int:
        """Memory of torch's own allocator, which neither waits nor asks the driver."""
        address = self.cuda_library.memory.empty((max(1, array.nbytes),), np.uint8)
        if array.nbytes:
            self.cuda_library.memory.write(address, np.ascontiguousarray(array).tobytes())
        return address

    def tensor(self, array: Any, device: str = "cuda:0", strides: tuple[int, ...] | None = None) -> Tensor:
        """A tensor with these elements."""
        return Tensor(self, array, device, strides)

    def empty(self, shape: tuple[int, ...], dtype: DType, device: Any) -> Tensor:
        """``torch.empty``."""
        return Tensor(self, np.zeros(shape, numpy_type(dtype.name)), f"{device.type}:{device.index}")

    @contextmanager
    def stream(self, stream: Stream) -> Generator[None]:
        """``torch.cuda.stream``: the current one inside."""
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before
