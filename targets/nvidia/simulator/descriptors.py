"""Matrix descriptors of wgmma: where in shared memory each element of a multiplicand lies.

Level: the simulator's matrix units. In: the 64-bit descriptor of a wgmma operand. Out: byte addresses. PTX ISA,
"Shared Memory Matrix Layout", "Strides" and "Matrix Descriptor Format"::

    bits 0-13   start address           bits 49-51  base offset
    bits 16-29  leading byte offset     bits 62-63  swizzle: 0 none, 1 128 bytes, 2 64 bytes, 3 32 bytes
    bits 32-45  stride byte offset      addresses and offsets are (x & 0x3ffff) >> 4

The matrix consists of *core matrices*, eight rows of 16 bytes. With T elements in 16 bytes, W = 1, 2, 4, 8 chunks of
16 bytes in a row of the swizzle pattern, and offsets in bytes, element (r, k) lies, before the swizzle, at ::

    K-major    none      (r % 8) * 16      + (r / 8) * stride   + (k / T) * leading               + k % T elements
               swizzled  (r % 8) * 16 * W  + (r / 8) * stride   + (k / T) * 16                    + k % T elements
    MN-major   none      (k % 8) * 16      + (k / 8) * leading  + (r / T) * stride                + r % T elements
               swizzled  (k % 8) * 16 * W  + (k / 8) * stride   + (r / (T*W)) * leading           + r % (T*W) elements

The swizzle xors bits 4 to 6 of the address with bits 7 to 9 (128 bytes; 64: 4-5 with 7-8; 32: 4 with 7). They are bits
of the *address*, less ``base offset`` where the pattern does not begin at a multiple of its length. So a kernel may
step along k by adding to the start address.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.simulator.elements import element as element_of

Array = NDArray[Any]
Addresses = NDArray[np.int64]


class Swizzle(Enum):
    """The pattern of 16-byte chunks; the value is the bytes in which chunks change places."""

    NONE = 16
    B32 = 32
    B64 = 64
    B128 = 128

    @property
    def period(self) -> int:
        """Bytes after which the pattern repeats, which are the alignment of its beginning."""
        return 1 if self is Swizzle.NONE else 8 * self.value

    @property
    def mask(self) -> int:
        """The bits of a chunk's number that the pattern changes."""
        return self.value // 16 - 1

    def apply(self, addresses: Addresses, base_offset: int = 0) -> Addresses:
        """Byte addresses after the xor of the chunk's number (bits 4 to 6) with the line's (bits 7 to 9)."""
        return addresses ^ (((addresses >> 7) - base_offset & self.mask) << 4)


_MODES = (Swizzle.NONE, Swizzle.B128, Swizzle.B64, Swizzle.B32)


@dataclass(frozen=True)
class Descriptor:
    """One matrix in shared memory; addresses and offsets in bytes.

    Raises :class:`CrosstileError` for what is not a multiple of 16 or does not fit its field.
    """

    start: int
    leading: int
    stride: int
    swizzle: Swizzle = Swizzle.NONE
    base_offset: int = 0

    def __post_init__(self) -> None:
        fields = (("start address", self.start), ("leading offset", self.leading), ("stride offset", self.stride))
        for what, value in fields:
            if value % 16 or not 0 <= value <= 0x3FFF0:
                raise CrosstileError(f"wgmma descriptor: the {what} is a multiple of 16 below 2^18 bytes, not {value}")
        if not 0 <= self.base_offset < 8:
            raise CrosstileError(f"wgmma descriptor: the base offset is 0 to 7, not {self.base_offset}")

    @classmethod
    def decode(cls, bits: int) -> Descriptor:
        """The descriptor in a 64-bit register; raises :class:`CrosstileError` if bits are set that have no meaning."""
        if stray := bits & ~(0x3FFF | 0x3FFF << 16 | 0x3FFF << 32 | 0x7 << 49 | 0x3 << 62):
            raise CrosstileError(f"wgmma descriptor {bits:#018x}: bits {stray:#x} have no meaning and must be 0")
        start, leading, stride = ((bits >> shift & 0x3FFF) << 4 for shift in (0, 16, 32))
        return cls(start, leading, stride, _MODES[bits >> 62 & 3], bits >> 49 & 7)

    def encode(self) -> int:
        """The 64 bits of the descriptor."""
        fields = self.start >> 4 | self.leading >> 4 << 16 | self.stride >> 4 << 32
        return fields | self.base_offset << 49 | _MODES.index(self.swizzle) << 62

    def addresses(self, rows: int, k: int, element: str, mn_major: bool = False) -> Addresses:
        """The byte address of element (row, k), [rows, k], where a row is one of A's m or of B's n.

        Raises :class:`CrosstileError` for MN-major elements of other than 16 bits, which wgmma cannot read.
        """
        size = element_of(element).size
        if mn_major and size != 2:
            raise CrosstileError(f"wgmma reads .{element} only K-major; its transposition flags are for .f16 and .bf16")
        across, along = np.arange(rows)[:, np.newaxis], np.arange(k)[np.newaxis, :]
        width, chunk = self.swizzle.value, 16 // size
        if self.swizzle is Swizzle.NONE and mn_major:
            lines, inner = (
                along % 8 * 16 + along // 8 * self.leading,
                across // chunk * self.stride + across % chunk * size,
            )
        elif self.swizzle is Swizzle.NONE:
            lines, inner = (
                across % 8 * 16 + across // 8 * self.stride,
                along // chunk * self.leading + along % chunk * size,
            )
        elif mn_major:
            span = width // size
            lines, inner = (
                along % 8 * width + along // 8 * self.stride,
                across // span * self.leading + across % span * size,
            )
        else:
            lines, inner = across % 8 * width + across // 8 * self.stride, along * size
        return self.swizzle.apply(self.start + lines + inner, self.base_offset)


def read_matrix(shared: Array, addresses: Addresses, element: str) -> Array:
    """The elements at byte ``addresses`` of ``shared`` (uint8), in NumPy's type; the shape is that of the addresses.

    Raises :class:`CrosstileError` for an address outside shared memory.
    """
    kind = element_of(element)
    if addresses.size and ((low := int(addresses.min())) < 0 or int(addresses.max()) + kind.size > shared.size):
        last = int(addresses.max()) + kind.size - 1
        raise CrosstileError(f"wgmma reads shared bytes {low} to {last}, there are only {shared.size}")
    whole = shared[: shared.size // kind.size * kind.size].view(kind.dtype)
    return whole[addresses // kind.size]
