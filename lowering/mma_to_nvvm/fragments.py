"""Fragments as the registers of one thread: which elements they hold, in numbers and in digits of the thread's number.

The register modes of a layout are counted out; lane and warp modes become *digits* of the number of the lane or warp,
each worth some steps along one dimension::

    tile(128, 128) warp(2:8192, 2:64) register(4:2048, 8:8, 2:1024, 2:1) lane(8:128, 4:2)
    starts   (0, 0), (0, 1), (8, 0), (8, 1), (0, 8), ...              128 registers
    digits   warp div 2: 64 rows    warp mod 2: 64 columns    lane div 4: 1 row    lane mod 4: 2 columns

Two or four numbers of 16 or 8 bits share a word of 32 bits if the layout has as many registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from math import prod

from xdsl.dialects.builtin import AnyFloat, IndexType, IntegerType, VectorType, f16, i32
from xdsl.ir import Attribute

from crosstile.dialects import mma
from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.layout import Layout

LANES = 32
WORD_BITS = 32


@dataclass(frozen=True)
class Digit:
    """A digit of a lane's or warp's number, ``number div weight mod size``; one is worth ``step`` along ``dim``.

    A digit of ``step`` 0 counts threads that hold the same.
    """

    axis: str
    weight: int
    size: int
    dim: int
    step: int


@dataclass(frozen=True)
class Registers:
    """The registers of one thread: the element each holds in thread 0, and what the thread's number adds."""

    shape: tuple[int, ...]
    starts: tuple[tuple[int, ...], ...]
    digits: tuple[Digit, ...]

    @cached_property
    def joined(self) -> tuple[Digit, ...]:
        """The digits that move along a dimension; those that count on from each other as one: warp and lane, a thread.

        A joined digit is of axis ``lane``, and its number may be that of any thread.
        """
        found: list[Digit] = []
        for digit in sorted(map(_of_threads, self.digits), key=lambda digit: digit.weight):
            last = found[-1] if found else None
            if last is not None and _counts_on(last, digit):
                found[-1] = replace(last, size=last.size * digit.size)
            elif digit.step:
                found.append(digit)
        return tuple(found)

    @cached_property
    def number(self) -> dict[tuple[int, ...], int]:
        """The register that holds an element in thread 0."""
        return {start: number for number, start in reversed(list(enumerate(self.starts)))}

    def holding(self, start: Sequence[int]) -> int:
        """The register of a fragment that broadcasts to one with an element at ``start``."""
        return self.number[tuple(0 if size == 1 else at for at, size in zip(start, self.shape, strict=True))]


@cache
def registers_of(layout: Layout) -> Registers:
    """The registers of a layout; a CrosstileError for one that cannot be split into steps along dimensions."""
    shape = layout.tile
    digits: list[Digit] = []
    for axis, modes in layout.axes:
        if axis == "register":
            continue
        if axis not in ("lane", "warp"):
            raise CrosstileError(f"{layout}: a GPU's threads have lanes and warps, not '{axis}'")
        weight = 1
        for size, stride in reversed(modes):
            for part, dim, step in _split(size, stride, layout):
                digits.append(Digit(axis, weight, part, dim, step))
                weight *= part
    if layout.size("lane") > LANES:
        raise CrosstileError(f"{layout}: a warp has {LANES} lanes, not {layout.size('lane')}")
    modes = next((modes for axis, modes in layout.axes if axis == "register"), ())
    real = tuple(mode for mode in modes if mode.stride)
    starts = tuple(_coordinates(place, shape) for place in Layout(shape, (("register", real),)).offsets())
    for dim, size in enumerate(shape):
        most = max(start[dim] for start in starts)
        most += sum((digit.size - 1) * digit.step for digit in digits if digit.dim == dim)
        if most >= size:
            raise CrosstileError(f"{layout}: digits carry from dimension {dim} into the one before")
    return Registers(shape, starts, tuple(digits))


def _counts_on(last: Digit, digit: Digit) -> bool:
    """Whether ``digit`` is the next one of the number that ``last`` is a digit of, in the thread and in the tile."""
    if last.dim != digit.dim or last.weight * last.size != digit.weight:
        return False
    return digit.step == last.step * last.size


def _of_threads(digit: Digit) -> Digit:
    """A digit of the thread's number."""
    return replace(digit, axis="lane", weight=digit.weight * LANES) if digit.axis == "warp" else digit


def _split(size: int, stride: int, layout: Layout) -> list[tuple[int, int, int]]:
    """A mode as (size, dimension, step), innermost first, each along one dimension."""
    if size == 1:
        return []
    if stride == 0:
        return [(size, 0, 0)]
    row_major = [prod(layout.tile[dim + 1 :]) for dim in range(len(layout.tile))]
    dim = next(dim for dim, step in enumerate(row_major) if step <= stride and layout.tile[dim] > 1)
    step, rest = divmod(stride, row_major[dim])
    room = -(-layout.tile[dim] // step)
    if rest or (size > room and (size % room or room * step != layout.tile[dim])):
        raise CrosstileError(f"{layout}: {size}:{stride} steps along several dimensions at once")
    if size <= room:
        return [(size, dim, step)]
    return [(room, dim, step), *_split(size // room, room * stride, layout)]


def _coordinates(place: int, shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(place // prod(shape[dim + 1 :]) % size for dim, size in enumerate(shape))


def element_bits(type_: Attribute) -> int:
    """The bits of an element in a register; an index has 32."""
    if isinstance(type_, IndexType):
        return WORD_BITS
    if isinstance(type_, IntegerType | AnyFloat):
        return type_.bitwidth
    raise CrosstileError(f"elements of type {type_} do not fit registers")


def memory_bytes(type_: Attribute) -> int:
    """The bytes of an element in memory, where an index has 8."""
    return 8 if isinstance(type_, IndexType) else (element_bits(type_) + 7) // 8


@cache
def packing(fragment: mma.FragmentType) -> int:
    """How many neighbouring registers of a fragment share a word."""
    count, bits = len(registers_of(fragment.layout.data).starts), element_bits(fragment.element_type)
    together = max(1, WORD_BITS // bits) if bits >= 8 else 1
    return together if count % together == 0 else 1


@cache
def word_types(fragment: mma.FragmentType) -> tuple[Attribute, ...]:
    """The types of the values that stand for a fragment."""
    count, together = len(registers_of(fragment.layout.data).starts), packing(fragment)
    return (i32 if together > 1 else fragment.element_type,) * (count // together)


def accumulator_type(fragment: mma.FragmentType) -> Attribute:
    """The type of a word of an accumulator in upstream's products: a pair of f16 is a vector."""
    (word, *_) = word_types(fragment)
    return VectorType(f16, [2]) if packing(fragment) > 1 and fragment.element_type == f16 else word
