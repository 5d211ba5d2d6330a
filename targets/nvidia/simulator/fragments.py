"""Which element of a matrix each register of each lane holds, as closed forms of the PTX ISA.

Level: the simulator's own knowledge of fragments; the compiler's rows in ``targets/nvidia/machine.py`` are never read
here, so that a wrong row computes wrong numbers. In: an operand and the shape of its instruction. Out: a
:class:`Fragment`, and :func:`gather` and :func:`scatter` between registers and matrices.

All of these fragments follow one pattern. Eight groups of four lanes: with ``group = lane >> 2``, ``member = lane % 4``
and ``p`` elements in a 32-bit register, four lanes hold 4*p neighbours along k, and one group a row of A or a column
of B. Element i of mma.m16n8k16's A (f16, p = 2; "Matrix Fragments for mma.m16n8k16 with floating point type")::

    row = group        for 0 <= i < 2 || 4 <= i < 6        column = member * 2 + (i & 1)        for i < 4
          group + 8    otherwise                                    member * 2 + (i & 1) + 8    for i >= 4

that is: neighbours fastest, then the halves of the rows, then the steps of 4*p along k. So it is for tf32 and f64
(p = 1) and for 8-bit types (p = 4). An accumulator holds pairs of columns whatever its type, and wgmma's fragments
are those of four warps below each other ("Register Fragments and Shared Memory Matrix Layouts"), its accumulator
repeating every 8 columns.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.simulator.elements import element as element_of

Array = NDArray[Any]
Indices = NDArray[np.int64]
Role = Literal["a", "b", "d"]

LANES = 32
MATRIX_ROWS = 8
"""Rows of a matrix that ldmatrix and stmatrix move; each row is 16 bytes."""

MMA_SHAPES: dict[str, frozenset[tuple[int, int, int]]] = {
    "f16": frozenset({(16, 8, 8), (16, 8, 16)}),
    "bf16": frozenset({(16, 8, 8), (16, 8, 16)}),
    "tf32": frozenset({(16, 8, 4), (16, 8, 8)}),
    "f64": frozenset({(8, 8, 4), (16, 8, 4), (16, 8, 8), (16, 8, 16)}),
    "s8": frozenset({(8, 8, 16), (16, 8, 16), (16, 8, 32)}),
    "u8": frozenset({(8, 8, 16), (16, 8, 16), (16, 8, 32)}),
    "e4m3": frozenset({(16, 8, 16), (16, 8, 32)}),
    "e5m2": frozenset({(16, 8, 16), (16, 8, 32)}),
}
"""Shapes (m, n, k) of mma.sync by the type of A; PTX ISA, "Multiply-and-Accumulate Instruction: mma"."""

WGMMA_K = {"f16": 16, "bf16": 16, "tf32": 8, "e4m3": 32, "e5m2": 32, "s8": 32, "u8": 32}
"""k of wgmma.mma_async by the type of A; m is 64."""


class Fragment(NamedTuple):
    """Element i of lane l is at ``rows[i, l]``, ``columns[i, l]`` of a matrix of ``shape``."""

    rows: Indices
    columns: Indices
    shape: tuple[int, int]


def wgmma_widths(element: str) -> tuple[int, ...]:
    """Every n of wgmma for a type of A; PTX ISA, "Asynchronous Multiply-and-Accumulate Instruction"."""
    if element in ("s8", "u8"):
        return (8, 16, 24, *range(32, 257, 16))
    return tuple(range(8, 257, 8))


@cache
def mma_fragment(role: Role, shape: tuple[int, int, int], element: str) -> Fragment:
    """The fragment of operand A, B or D (and C) of mma.sync with ``shape`` (m, n, k) and A's (or B's) ``element``.

    Raises :class:`CrosstileError` for a shape that the type does not have.
    """
    if shape not in MMA_SHAPES.get(element, ()):
        known = ", ".join(f".m{m}n{n}k{k}" for m, n, k in sorted(MMA_SHAPES.get(element, ())))
        m, n, k = shape
        raise CrosstileError(f"mma.sync .{element} has no shape .m{m}n{n}k{k}; it has {known or 'none'}")
    m, n, k = shape
    if role == "d":
        return _accumulator(m, n, warps=1)
    if role == "a":
        return _left(m, k, element, warps=1)
    along_k, column = _multiplicand(1, k, element)
    return Fragment(along_k, column, (k, n))


@cache
def wgmma_fragment(role: Literal["a", "d"], n: int, element: str) -> Fragment:
    """The fragment of wgmma's A in registers, or of its accumulator of ``n`` columns, over the 128 lanes of four warps.

    Raises :class:`CrosstileError` for a width or type that wgmma does not have.
    """
    if element not in WGMMA_K or n not in wgmma_widths(element):
        widths = ", ".join(map(str, wgmma_widths(element)))
        raise CrosstileError(f"wgmma.mma_async has no .m64n{n} for .{element}; n is one of {widths}")
    return _accumulator(64, n, warps=4) if role == "d" else _left(64, WGMMA_K[element], element, warps=4)


def _multiplicand(row_halves: int, k: int, element: str) -> tuple[Indices, Indices]:
    """Places along k and rows (or B's columns), [element, lane], of one warp."""
    packed = element_of(element).per_register
    lane = np.arange(LANES)
    i = np.arange(row_halves * k // 4)[:, np.newaxis]
    group, member = lane >> 2, lane % 4
    along_k = member * packed + i % packed + i // (packed * row_halves) * (4 * packed)
    across = group + i // packed % row_halves * 8
    return along_k, across


def _left(m: int, k: int, element: str, warps: int) -> Fragment:
    columns, rows = _multiplicand(m // (8 * warps), k, element)
    rows = np.concatenate([rows + 16 * warp for warp in range(warps)], axis=1)
    return Fragment(rows, np.tile(columns, warps), (m, k))


def _accumulator(m: int, n: int, warps: int) -> Fragment:
    lane, row_halves = np.arange(LANES), m // (8 * warps)
    i = np.arange(row_halves * n // 4)[:, np.newaxis]
    rows = (lane >> 2) + i // 2 % row_halves * 8
    columns = lane % 4 * 2 + i % 2 + i // (2 * row_halves) * 8
    rows = np.concatenate([rows + 16 * warp for warp in range(warps)], axis=1)
    return Fragment(rows, np.tile(columns, warps), (m, n))


def gather(registers: Array, fragment: Fragment, element: str) -> Array:
    """The matrix that ``registers`` [register, lane] hold: uint32, or uint64 for f64; elements in NumPy's type.

    Raises :class:`CrosstileError` if there are more or fewer registers than the fragment has.
    """
    kind = element_of(element)
    elements, lanes = fragment.rows.shape
    expected = (elements // kind.per_register, lanes)
    if registers.shape != expected:
        raise CrosstileError(
            f"a fragment of {fragment.shape[0]}x{fragment.shape[1]} .{element} is {expected[0]} registers of "
            f"{lanes} lanes, not {registers.shape[0]} of {registers.shape[-1]}"
        )
    parts = np.ascontiguousarray(registers.T).view(kind.dtype)  # low bits first: [lane, element]
    matrix = np.empty(fragment.shape, kind.dtype)
    matrix[fragment.rows, fragment.columns] = parts.T
    return matrix


def scatter(matrix: Array, fragment: Fragment, element: str) -> Array:
    """The registers [register, lane] that hold ``matrix``: uint32, or uint64 for f64; the reverse of :func:`gather`."""
    kind = element_of(element)
    parts = np.ascontiguousarray(matrix.astype(kind.dtype, copy=False)[fragment.rows, fragment.columns].T)
    return np.ascontiguousarray(parts.view(np.uint64 if kind.bits == 64 else np.uint32).T)


# ldmatrix and stmatrix, shape .m8n8 of 16-bit elements ("Warp-level matrix load instruction: ldmatrix") ---------------


def matrix_row_lane(matrix: int, row: int) -> int:
    """The lane whose address ldmatrix and stmatrix use for ``row`` of ``matrix``: eight lanes for each in turn."""
    return MATRIX_ROWS * matrix + row


def ldmatrix(rows: Array, transposed: bool = False) -> Array:
    """What ``ldmatrix.m8n8.x<count>[.trans].b16`` gives: registers [count, lane] uint32.

    ``rows`` [count, 8, 16] uint8 are the bytes at the addresses of lanes 8*matrix + row.
    """
    halves = np.ascontiguousarray(rows).view(np.uint16)
    ordered = np.ascontiguousarray(halves.transpose(0, 2, 1) if transposed else halves)
    return ordered.view(np.uint32).reshape(len(rows), LANES)


def stmatrix(registers: Array, transposed: bool = False) -> Array:
    """The bytes [count, 8, 16] uint8 that ``stmatrix`` writes at the addresses of lanes 8*matrix + row.

    ``registers`` [count, lane] uint32; the reverse of :func:`ldmatrix`.
    """
    halves = np.ascontiguousarray(registers, np.uint32).view(np.uint16).reshape(len(registers), MATRIX_ROWS, 8)
    ordered = np.ascontiguousarray(halves.transpose(0, 2, 1) if transposed else halves)
    return ordered.view(np.uint8).reshape(len(registers), MATRIX_ROWS, 16)
