"""Global memory: allocations with guard gaps between them, and which of their bytes were ever written.

Level: the simulator. In: NumPy arrays. Out: addresses, and the arrays again after the kernel::

    memory = GlobalMemory()
    x = memory.allocate(np.arange(8.0))          # copied in
    y = memory.empty((8,), np.float64)           # poisoned: reading it before writing is a fault
    simulate(text, "kernel", (1, 1, 1), (32, 1, 1), [x, y], memory)
    memory.read(y)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.simulator.faults import Trouble

if TYPE_CHECKING:
    from crosstile.targets.nvidia.tensor_map import TensorMap

Array = NDArray[Any]
Addresses = NDArray[np.int64]

FIRST = 1 << 33
GAP = 1 << 16
ALIGNMENT = 256
POISON = 0xDB


@dataclass
class Allocation:
    """``size`` bytes from ``address`` on; ``written`` says which were ever written, None if all."""

    address: int
    size: int
    bytes: NDArray[np.uint8]
    written: NDArray[np.bool_] | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    name: str
    read_only: bool = False
    shadow: GlobalShadow | None = field(default=None, repr=False)


@dataclass
class GlobalShadow:
    """Who touched each granule of an array last: agents by their numbers in the grid, their clocks, the instructions.

    ``earlier`` is another reader, which ``reader`` does not know of; ``by_engine`` says that a bulk copy wrote, and
    ``pending`` which instruction has issued one that may write at any time.
    """

    writer: NDArray[np.int64]
    writer_clock: NDArray[np.int32]
    writer_site: NDArray[np.int32]
    by_engine: NDArray[np.bool_]
    reader: NDArray[np.int64]
    reader_clock: NDArray[np.int32]
    reader_site: NDArray[np.int32]
    earlier: NDArray[np.int64]
    earlier_clock: NDArray[np.int32]
    earlier_site: NDArray[np.int32]
    pending: NDArray[np.int32]
    stores_under_way: int = 0

    @classmethod
    def of(cls, count: int) -> GlobalShadow:
        """Granules that nobody has touched."""

        def nobody(dtype: Any) -> Any:
            return np.full(count, -1, dtype)

        agent = nobody(np.int64), nobody(np.int32), nobody(np.int32)
        reader = nobody(np.int64), nobody(np.int32), nobody(np.int32)
        earlier = nobody(np.int64), nobody(np.int32), nobody(np.int32)
        return cls(*agent, np.zeros(count, np.bool_), *reader, *earlier, nobody(np.int32))


class GlobalMemory:
    """The address space of a device."""

    def __init__(self) -> None:
        self.allocations: list[Allocation] = []
        self.tensor_maps: dict[int, TensorMap] = {}
        self._starts: Addresses = np.zeros(0, np.int64)
        self._next = FIRST

    def allocate(self, array: Array, name: str = "") -> int:
        """The address of a copy of ``array``."""
        array = np.ascontiguousarray(array)
        allocation = self._add(array.shape, array.dtype, name)
        allocation.bytes[: array.nbytes] = array.reshape(-1).view(np.uint8)
        return allocation.address

    def empty(self, shape: Sequence[int], dtype: Any, name: str = "") -> int:
        """The address of an array nobody has written."""
        allocation = self._add(tuple(shape), np.dtype(dtype), name)
        allocation.written = np.zeros(allocation.bytes.size, np.bool_)
        return allocation.address

    def place_tensor_map(self, tensor_map: TensorMap) -> int:
        """The address of a tensor map kept in global memory."""
        address = self.allocate(np.zeros(128, np.uint8), "tensor map")
        self.tensor_maps[address] = tensor_map
        return address

    def read(self, address: int) -> Array:
        """A copy of the array that was allocated at ``address``, as it is now."""
        found = self.allocation(address)
        if found is None or found.address != address:
            raise CrosstileError(f"no array was allocated at {address:#x}")
        return found.bytes[: found.size].copy().view(found.dtype).reshape(found.shape)

    def write(self, address: int, data: bytes) -> None:
        """Put bytes at ``address``; raises :class:`CrosstileError` where no array has so many."""
        found, offset = self._part(address, len(data))
        found.bytes[offset : offset + len(data)] = np.frombuffer(data, np.uint8)
        if found.written is not None:
            found.written[offset : offset + len(data)] = True

    def copy(self, source: int, target: int, size: int) -> None:
        """Copy bytes, and which of them were ever written."""
        (origin, begin), (found, offset) = self._part(source, size), self._part(target, size)
        found.bytes[offset : offset + size] = origin.bytes[begin : begin + size].copy()
        if found.written is not None:
            known = True if origin.written is None else origin.written[begin : begin + size].copy()
            found.written[offset : offset + size] = known

    def release(self, address: int) -> None:
        """Forget the array that was allocated at ``address``; nothing is ever allocated there again."""
        index = int(np.searchsorted(self._starts, address, "left"))
        del self.allocations[index]
        self._starts = np.delete(self._starts, index)

    def allocation(self, address: int) -> Allocation | None:
        """The allocation that ``address`` lies in."""
        index = int(np.searchsorted(self._starts, address, "right")) - 1
        if index < 0:
            return None
        found = self.allocations[index]
        return found if address < found.address + found.size else None

    def locate(self, addresses: Addresses, width: int, what: str) -> Allocation:
        """The allocation that all ``addresses`` and the ``width`` bytes behind each lie in, fault if there is none.

        Raises :class:`Trouble` naming the nearest allocation. Addresses in several allocations are for the caller to
        split, who is told by the ``LookupError``.
        """
        low, high = int(addresses.min()), int(addresses.max())
        found = self.allocation(low)
        if found is not None and high + width <= found.address + found.size:
            return found
        for address in (low, high):
            own = self.allocation(address)
            if own is None or address + width > own.address + own.size:
                raise Trouble("bounds", f"{what} {width} bytes at {address:#x}, {self.describe(address)}")
        raise LookupError("several allocations")

    def describe(self, address: int) -> str:
        """Where ``address`` lies, in words."""
        if not self.allocations:
            return "but nothing is allocated in global memory"
        index = max(0, int(np.searchsorted(self._starts, address, "right")) - 1)
        near = self.allocations[index]
        name = f"'{near.name}'" if near.name else f"number {index}"
        array = f"array {name} ({near.size} bytes from {near.address:#x})"
        if address < near.address:
            return f"{near.address - address} bytes before {array}"
        if address < near.address + near.size:
            return f"{address - near.address} bytes into {array}, beyond its end"
        return f"{address - near.address - near.size} bytes beyond the end of {array}"

    def _part(self, address: int, size: int) -> tuple[Allocation, int]:
        found = self.allocation(address)
        if found is None or address + size > found.address + found.size:
            raise CrosstileError(f"{size} bytes at {address:#x} are in no array, {self.describe(address)}")
        return found, address - found.address

    def _add(self, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> Allocation:
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        padded = -(-max(size, 1) // ALIGNMENT) * ALIGNMENT
        data = np.full(padded, POISON, np.uint8)
        allocation = Allocation(self._next, size, data, None, shape, dtype, name)
        self._next += padded + GAP
        self.allocations.append(allocation)
        self._starts = np.append(self._starts, allocation.address)
        return allocation
