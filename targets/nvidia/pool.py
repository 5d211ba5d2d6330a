"""Memory of the GPU that is used again: blocks by size and stream, so that a call allocates nothing after the first.

Level: run time. In: how to allocate and free a block of the driver. Out: addresses::

    pool = Pool(allocate, free)
    address = pool.take(100_000, stream=0)     # 131072 bytes from the driver, or a block that stream 0 gave back
    pool.give(address)                         # the next take on stream 0 may get it

What is launched on one stream runs in order, so a block that a stream gives back may be taken on that stream at once,
while kernels that use it still run. Other streams never get it. What was taken while a stream was captured belongs to
the graph, which may run at any time: it is not used again before the pool ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

SMALLEST = 512
"""Bytes of the smallest block."""
EXACT = 1 << 24
"""Bytes up to which blocks are powers of two; larger ones are multiples of an eighth of the power of two below."""


def block_size(size: int) -> int:
    """The bytes of the block that serves ``size`` bytes."""
    power = 1 << (max(size, SMALLEST) - 1).bit_length()
    if power <= EXACT:
        return power
    step = power >> 4
    return -(-size // step) * step


@dataclass
class Pool:
    """Blocks from ``allocate``, which takes bytes and raises ``MemoryError`` if there are none, for ``free``."""

    allocate: Callable[[int], int]
    free: Callable[[int], None]
    _idle: dict[tuple[int, int], list[int]] = field(default_factory=dict[tuple[int, int], list[int]])
    _taken: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, size: int, stream: int) -> int:
        """The address of a block of at least ``size`` bytes for work on ``stream``.

        If the driver has no memory left, all idle blocks go back to it before it is asked again.
        """
        key = block_size(size), stream
        with self._lock:
            idle = self._idle.get(key)
            if idle:
                address = idle.pop()
            else:
                try:
                    address = self.allocate(key[0])
                except MemoryError:
                    self._trim()
                    address = self.allocate(key[0])
            self._taken[address] = key
            return address

    def give(self, address: int) -> None:
        """The block at ``address`` may be taken again on the stream that it was taken for."""
        with self._lock:
            self._idle.setdefault(self._taken.pop(address), []).append(address)

    def keep(self, address: int) -> None:
        """The block at ``address`` stays where it is for ever."""
        with self._lock:
            self._taken.pop(address)

    def trim(self) -> None:
        """Give all idle blocks back to the driver."""
        with self._lock:
            self._trim()

    @property
    def taken(self) -> int:
        """How many blocks are in use."""
        return len(self._taken)

    def _trim(self) -> None:
        idle, self._idle = self._idle, {}
        for addresses in idle.values():
            for address in addresses:
                self.free(address)
