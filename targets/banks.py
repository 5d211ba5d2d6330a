"""Banked scratch memory: what a layout costs, and the swizzles that make it cheap. Bottom layer: imports layouts only.

Level: data, for the ``mma`` level's scratch buffers. In: a layout whose tile is a panel of scratch, stored row by row.
Out: the number of turns the memory takes when all lanes touch their place at once.

Eight lanes that read a column of an 8x64 panel of f16 meet in one bank, since its rows are 128 bytes apart; with the
128-byte swizzle, which exclusive-ors the row into the number of the 16-byte chunk, each finds a bank of its own::

    >>> column = Layout.parse("tile(8, 64) lane(8:64) register(8:1)")
    >>> bank_conflicts(column, 16, vector=8), bank_conflicts(column, 16, vector=8, swizzle=Swizzle(3, 4, 3))
    (8, 1)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from crosstile.targets.layout import Layout, LayoutError


@dataclass(frozen=True)
class Swizzle:
    """Exclusive-or of address bits: ``bits`` of them from ``base + shift`` up are xor-ed into those from ``base`` up.

    Acts on byte addresses of a panel whose rows are a power of two of bytes, and is its own inverse. NVIDIA's 128-byte
    swizzle is ``Swizzle(3, 4, 3)``: the 16-byte chunk number of an address is xor-ed with its row modulo 8.
    """

    bits: int
    base: int
    shift: int

    def __post_init__(self) -> None:
        if self.bits < 0 or self.base < 0 or self.shift < self.bits:
            raise LayoutError(f"{self}: bits and base are at least 0, shift at least bits so that no bit feeds itself")

    def __str__(self) -> str:
        return f"swizzle({self.bits}, {self.base}, {self.shift})"

    @property
    def period(self) -> int:
        """Bytes after which the pattern repeats; a swizzled panel is a multiple of it."""
        return 1 << (self.base + self.shift + self.bits)

    def apply(self, address: int) -> int:
        """The byte address where the byte of linear address ``address`` is kept."""
        return address ^ ((address >> (self.base + self.shift) & ((1 << self.bits) - 1)) << self.base)

    def check_panel(self, shape: Sequence[int], element_bits: int) -> None:
        """Raises :class:`LayoutError` unless rows are a power of two of bytes and the panel is whole periods."""
        row_bits = shape[-1] * element_bits
        if row_bits % 8 or row_bits & (row_bits - 1):
            raise LayoutError(f"{self}: rows of {shape[-1]} x {element_bits} bits are not a power of two of bytes")
        if (size := prod(shape) * element_bits // 8) % self.period:
            raise LayoutError(f"{self}: a panel of {size} bytes is not a multiple of the period of {self.period} bytes")


def bank_conflicts(
    layout: Layout,
    element_bits: int,
    banks: int = 32,
    bank_bytes: int = 4,
    *,
    vector: int = 1,
    swizzle: Swizzle | None = None,
) -> int:
    """How many turns the worst access of all lanes at once takes; 1 is free of conflicts.

    The layout's axes are ``lane`` and ``register``. Each access moves ``vector`` consecutive registers per lane; as
    many lanes as fill all banks once go together (quarter warps for 16 bytes). Lanes that touch one word share it.
    Source: NVIDIA CUDA C++ Programming Guide, "Shared Memory" of each compute capability; AMD CDNA3 ISA, "LDS".
    Raises :class:`LayoutError` for other axes, for ``vector`` registers that are not neighbours in memory or do not
    start at a multiple of their size, and for a panel that ``swizzle`` cannot act on.
    """
    if others := [name for name, _ in layout.axes if name not in ("register", "lane")]:
        raise LayoutError(
            f"{layout}: axis {others[0]!r} does not take part in one access; restrict to register and lane"
        )
    if element_bits * vector % 8:
        raise LayoutError(f"an access of {vector} x {element_bits} bits is not a whole number of bytes")
    if swizzle is not None:
        swizzle.check_panel(layout.tile, element_bits)
    access = element_bits * vector // 8
    together = max(1, banks * bank_bytes // access)
    lanes = _offsets_along(layout, "lane")
    return max(
        bank_turns(addresses[start : start + together], access, banks, bank_bytes)
        for first in _accesses(layout, vector)
        for addresses in [_addresses(layout, [first + lane for lane in lanes], element_bits, access, swizzle)]
        for start in range(0, len(lanes), together)
    )


def bank_turns(addresses: Sequence[int], access_bytes: int, banks: int, bank_bytes: int) -> int:
    """Turns for one access of ``access_bytes`` at each byte address at once: the distinct words of the fullest bank."""
    words = {
        word
        for address in addresses
        for word in range(address // bank_bytes, (address + access_bytes - 1) // bank_bytes + 1)
    }
    turns: dict[int, int] = {}
    for word in words:
        turns[word % banks] = turns.get(word % banks, 0) + 1
    return max(turns.values(), default=0)


def _offsets_along(layout: Layout, axis: str) -> list[int]:
    return layout.restrict(axis).offsets() if any(name == axis for name, _ in layout.axes) else [0]


def _accesses(layout: Layout, vector: int) -> list[int]:
    """The place of the first register of each access."""
    registers = _offsets_along(layout, "register")
    if len(registers) % vector:
        raise LayoutError(f"{layout}: {len(registers)} registers are not a multiple of accesses of {vector}")
    for start in range(0, len(registers), vector):
        if any(registers[start + i] != registers[start] + i for i in range(vector)):
            raise LayoutError(f"{layout}: registers {start} to {start + vector - 1} are not neighbours in memory")
    return registers[::vector]


def _addresses(
    layout: Layout, places: Sequence[int], element_bits: int, access: int, swizzle: Swizzle | None
) -> list[int]:
    addresses = [place * element_bits // 8 for place in places]
    if misaligned := [address for address in addresses if address % access]:
        raise LayoutError(f"{layout}: an access of {access} bytes at byte {misaligned[0]} is not aligned to its size")
    if swizzle is None:
        return addresses
    if access > 1 << swizzle.base:
        raise LayoutError(f"{swizzle} tears an access of {access} bytes apart; it keeps {1 << swizzle.base} together")
    return [swizzle.apply(address) for address in addresses]
