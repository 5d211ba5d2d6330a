"""8x8 matrices between shared memory and registers: which fragments ldmatrix can load, and the addresses it takes.

stmatrix writes them back the same way.

Of each matrix lane l holds the word at row l div 4, column l mod 4: two elements of 16 bits (PTX ISA, "ldmatrix").
So a fragment qualifies if its lanes are an 8-digit of single steps along one dimension and a 4-digit of steps of a
word along the other, in which the registers of a word are neighbours: one of 32 bits, two of 16 or four of 8. Where
memory is contiguous along the first dimension instead, matrices of 16 bits are transposed on the way::

    lane(8:16, 4:2), pairs 2:1 of tile(16, 16)      rows in memory along dimension 0: ldmatrix
    lane(8:1, 4:256), pairs 2:128 of tile(16, 128)  rows in memory along dimension 0, columns the 8-digit: .trans

For four matrices at once lane l gives the address of row l mod 8 of matrix l div 8, whose number is two binary digits,
each worth a step of the fragment's registers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdsl.dialects import llvm
from xdsl.ir import SSAValue

from crosstile.dialects import mma
from crosstile.dialects.nvvm.matrices import LdmatrixOp, StmatrixOp
from crosstile.lowering.linear_index import Linear, Term
from crosstile.lowering.mma_to_nvvm.access import Place
from crosstile.lowering.mma_to_nvvm.fragments import (
    WORD_BITS,
    Digit,
    Registers,
    element_bits,
    packing,
    registers_of,
    word_types,
)
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering
from crosstile.lowering.mma_to_nvvm.structs import extract

ROWS = 8
"""Rows of a matrix."""
ROW_WORDS = 4
"""Words of 32 bits in each."""


@dataclass(frozen=True)
class Matrices:
    """How the words of a fragment are 8x8 matrices: ``rows`` is the dimension of the tile along their rows in memory,
    ``columns`` the one along which a row is contiguous."""

    rows: int
    columns: int
    transposed: bool
    warps: tuple[Digit, ...]


def matrices_of(place: Place, registers: Registers, near: int) -> Matrices | None:
    """How the words of a fragment with these registers are matrices in memory at ``place``; None if they are not.

    ``near`` elements make up a word.
    """
    lanes = sorted((digit for digit in registers.digits if digit.axis == "lane"), key=lambda digit: digit.weight)
    warps = tuple(digit for digit in registers.digits if digit.axis == "warp")
    if [(digit.weight, digit.size) for digit in lanes] != [(1, 4), (4, 8)] or len(registers.shape) != 2:
        return None
    low, high = lanes
    if low.step != near or high.step != 1 or low.dim == high.dim:
        return None
    for number, start in enumerate(registers.starts):
        first, place_in_word = registers.starts[number - number % near], number % near
        if [b - a for a, b in zip(first, start, strict=True)] != [place_in_word * (dim == low.dim) for dim in (0, 1)]:
            return None
    contiguous = place.contiguous()
    if contiguous is None or place.extents or place.clip or place.is_global:
        return None
    row = ROW_WORDS * near
    if place.aligned(contiguous, row) < row or (near != 2 and contiguous != low.dim):
        return None
    return Matrices(1 - contiguous, contiguous, contiguous != low.dim, warps)


def load_matrices(lowering: NvvmLowering, place: Place, type_: mma.FragmentType) -> list[SSAValue] | None:
    """The words of a fragment by ldmatrix; None if it cannot load them."""
    registers = registers_of(type_.layout.data)
    near = WORD_BITS // element_bits(type_.element_type)
    if near not in (1, 2, 4) or packing(type_) != near:
        return None
    matrices = matrices_of(place, registers, near)
    if matrices is None:
        return None
    starts = [registers.starts[number] for number in range(0, len(registers.starts), near)]
    sides = (ROW_WORDS * near, ROWS) if matrices.columns == 0 else (ROWS, ROW_WORDS * near)
    if any(at % side for start in starts for at, side in zip(start, sides, strict=True)):
        return None
    words: list[SSAValue] = []
    while len(words) < len(starts):
        count, steps = _together(starts[len(words) :])
        at = _row_of_lane(lowering, matrices.rows, matrices.warps, starts[len(words)], steps)
        words += _load(lowering, place.pointer(at), matrices, count)
    wanted = word_types(type_)[0]
    return [word if word.type == wanted else lowering.insert(llvm.BitcastOp(word, wanted)).result for word in words]


Start = tuple[int, ...]


def _together(starts: Sequence[Start]) -> tuple[int, list[Start]]:
    """How many of the first matrices one instruction loads, and the step that each binary digit of their number is."""
    if len(starts) < 2:
        return 1, []
    first = _minus(starts[1], starts[0])
    if len(starts) >= 4:
        second = _minus(starts[2], starts[0])
        if _minus(starts[3], starts[2]) == first and min(*first, *second) >= 0:
            return 4, [first, second]
    return (2, [first]) if min(first) >= 0 else (1, [])


def _minus(lhs: Start, rhs: Start) -> Start:
    return tuple(a - b for a, b in zip(lhs, rhs, strict=True))


def _row_of_lane(
    lowering: NvvmLowering, rows: int, warps: Sequence[Digit], start: Start, steps: Sequence[Start]
) -> list[Linear]:
    """Where the row begins that each lane names: row l mod 8 of matrix l div 8, the first of which is at ``start``."""
    at = [Linear(coordinate) for coordinate in start]
    row = lowering.digit(Digit("lane", 1, ROWS, rows, 1))
    at[rows] += Linear(0, (Term(row, 1, 1),))
    for number, step in enumerate(steps):
        digit = lowering.digit(Digit("lane", ROWS << number, 2, 0, 1))
        for dim, distance in enumerate(step):
            if distance:
                at[dim] += Linear(0, (Term(digit, distance, 1),))
    for digit in warps:
        if digit.step:
            at[digit.dim] += Linear(0, (Term(lowering.digit(digit), digit.step, 1),))
    return at


def _load(lowering: NvvmLowering, pointer: SSAValue, matrices: Matrices, count: int) -> list[SSAValue]:
    loaded = lowering.insert(LdmatrixOp(pointer, count, "col" if matrices.transposed else "row")).res
    return [loaded] if count == 1 else [extract(lowering, loaded, number) for number in range(count)]


def store_matrices(
    lowering: NvvmLowering,
    address: Callable[[Sequence[Linear]], Linear],
    warps: Sequence[Digit],
    words: Sequence[SSAValue],
    starts: Sequence[Start],
) -> None:
    """Write words, of which each lane holds those of an 8x8 matrix of 16 bits that begins at its start."""
    rest, places = list(words), list(starts)
    while rest:
        count, steps = _together(places)
        pointer = lowering.shared_pointer(address(_row_of_lane(lowering, 0, warps, places[0], steps)))
        lowering.insert(StmatrixOp(pointer, rest[:count], "row"))
        rest, places = rest[count:], places[count:]
