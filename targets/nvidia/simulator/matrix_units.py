"""mma.sync and wgmma on registers and matrices, in the arithmetic of each architecture, bit for bit.

Level: the simulator's matrix units; the compiler's rows are not read. In: an instruction's shape and types, registers
[register, lane] or matrices read from shared memory, the architecture. Out: the accumulator's registers::

    mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {d}, {a}, {b}, {c};
    d = mma_sync((16, 8, 16), ("f32", "bf16", "bf16", "f32"), a, b, c, "sm_80")

    wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {d}, a_descriptor, b_descriptor, p, 1, 1, 0, 1;
    a = read_matrix(shared, Descriptor.decode(a_bits).addresses(64, 16, "bf16"), "bf16")
    b = read_matrix(shared, Descriptor.decode(b_bits).addresses(128, 16, "bf16", mn_major=True), "bf16")
    d = wgmma(128, ("f32", "bf16", "bf16"), a, b, d, "sm_90a", scale_d=p)

Sums of floating point are :class:`TruncatedSum` (MMA-Sim, arXiv 2511.10909), f64 is a fma per product in order of k,
integers are exact. Hopper has no unit for mma.sync of 8-bit floats: ptxas converts them to f16 and adds the elements of
the low halves of the registers, then those of the high halves, from zero, and C last by an ordinary addition.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.fma import fma_chain
from crosstile.targets.numerics import Rounding, TruncatedSum
from crosstile.targets.nvidia.simulator.elements import element as element_of
from crosstile.targets.nvidia.simulator.fragments import (
    WGMMA_K,
    gather,
    mma_fragment,
    scatter,
    wgmma_fragment,
)
from crosstile.targets.truncated_sum import truncated_sum

Array = NDArray[Any]

ACCUMULATORS = {
    "f16": ("f16", "f32"),
    "bf16": ("f32",),
    "tf32": ("f32",),
    "f64": ("f64",),
    "e4m3": ("f16", "f32"),
    "e5m2": ("f16", "f32"),
    "s8": ("s32",),
    "u8": ("s32",),
}
"""The types that D and C may have, by the type of A."""

_ALIKE = ({"s8", "u8"}, {"e4m3", "e5m2"})
"""Types of which A and B may have one each; all others are equal."""


@dataclass(frozen=True)
class Sums:
    """How an architecture adds: fraction bits kept, and the products of one sum by the bits of an element."""

    fraction_bits: int
    fused_length: dict[int, int]
    float8: TruncatedSum | None = None


_AMPERE = Sums(24, {16: 8, 32: 4})
_SUMS = {
    75: Sums(24, {16: 8}),
    80: _AMPERE,
    86: _AMPERE,
    87: _AMPERE,
    89: Sums(24, {16: 8, 32: 4}, TruncatedSum(13, 16, result_fraction_bits=13)),
    90: Sums(25, {16: 16, 32: 8}, TruncatedSum(13, 32, result_fraction_bits=13)),
}
"""By compute capability; 90's float8 is that of wgmma."""


@cache
def arithmetic(architecture: str, element: str, accumulator: str) -> TruncatedSum:
    """How ``architecture`` ("sm_90a") adds products of ``element`` (A's type) to an ``accumulator`` of f16 or f32.

    Raises :class:`CrosstileError` for an architecture or type whose arithmetic is not known.
    """
    match = re.fullmatch(r"sm_(\d+)[af]?", architecture)
    sums = _SUMS.get(int(match[1])) if match else None
    if sums is None:
        known = ", ".join(f"sm_{number}" for number in _SUMS)
        raise CrosstileError(f"the arithmetic of {architecture}'s tensor cores is not known; known are {known}")
    bits = element_of(element).bits
    found = sums.float8 if bits == 8 else None
    if length := sums.fused_length.get(bits):
        found = TruncatedSum(sums.fraction_bits, length)
    if found is None:
        raise CrosstileError(f"the tensor cores of {architecture} have no .{element}")
    if accumulator == "f16":
        return TruncatedSum(found.fraction_bits, found.fused_length, Rounding.NEAREST_EVEN, 10)
    return found


def mma_sync(
    shape: tuple[int, int, int],
    types: tuple[str, str, str, str],
    a: Array,
    b: Array,
    c: Array,
    architecture: str,
    *,
    saturate: bool = False,
) -> Array:
    """D's registers of ``mma.sync.aligned.<shape>.row.col{.satfinite}.<types>``.

    ``shape`` is (m, n, k), ``types`` those of D, A, B and C in the instruction's order; registers are [register, 32]
    uint32, or uint64 where the type is f64. Raises :class:`CrosstileError` for shapes and types that do not exist or
    whose arithmetic is not known, and for a wrong number of registers.
    """
    d_type, a_type, b_type, c_type = types
    _check(types, f"mma.sync .{'.'.join(types)}")
    if d_type != c_type:
        raise CrosstileError(f"mma.sync: D of .{d_type} and C of .{c_type} must have one type")
    lhs = gather(a, mma_fragment("a", shape, a_type), a_type)
    rhs = gather(b, mma_fragment("b", shape, b_type), b_type)
    layout = mma_fragment("d", shape, a_type)
    accumulator = gather(c, layout, c_type)
    if element_of(a_type).dtype.kind not in "iu" and element_of(a_type).bits == 8 and architecture[:5] == "sm_90":
        result = _float8_as_f16(lhs, rhs, accumulator, architecture)
    else:
        result = multiply(lhs, rhs, accumulator, (d_type, a_type, b_type), architecture, saturate=saturate)
    return scatter(result, layout, d_type)


def wgmma(
    n: int,
    types: tuple[str, str, str],
    a: Array,
    b: Array,
    d: Array,
    architecture: str,
    *,
    scale_d: bool = True,
    negate_a: bool = False,
    negate_b: bool = False,
    saturate: bool = False,
) -> Array:
    """D's registers [register, 128] after ``wgmma.mma_async.sync.aligned.m64n<n>k<k>{.satfinite}.<types>``.

    ``types`` are those of D, A and B. ``a`` is the matrix [64, k] as :func:`~descriptors.read_matrix` gives it, or its
    registers [register, 128] uint32; ``b`` is the matrix [n, k], a column of B in each row, as its descriptor says.
    ``d`` are the registers before, which are not read unless ``scale_d``. ``negate_a`` and ``negate_b`` stand for
    imm-scale of -1. Raises :class:`CrosstileError` as :func:`mma_sync` does.
    """
    d_type, a_type, _ = types
    _check((*types, d_type), f"wgmma.mma_async .{'.'.join(types)}")
    if a_type not in WGMMA_K:
        raise CrosstileError(f"wgmma.mma_async has no .{a_type}; it has .{', .'.join(WGMMA_K)}")
    if a.dtype == np.uint32 and a.shape[-1] == 128:
        a = gather(a, wgmma_fragment("a", n, a_type), a_type)
    k, layout = WGMMA_K[a_type], wgmma_fragment("d", n, a_type)
    if a.shape != (64, k) or b.shape != (n, k):
        raise CrosstileError(
            f"wgmma .m64n{n}k{k}: A is 64x{k} and B {n}x{k} (columns by k), not {a.shape} and {b.shape}"
        )
    accumulator = gather(d, layout, d_type) if scale_d else np.zeros((64, n), element_of(d_type).dtype)
    a, b = (-x if negate else x for x, negate in ((a, negate_a), (b, negate_b)))
    return scatter(multiply(a, b.T, accumulator, types, architecture, saturate=saturate), layout, d_type)


def multiply(
    a: Array, b: Array, c: Array, types: tuple[str, str, str], architecture: str, *, saturate: bool = False
) -> Array:
    """``a @ b + c`` for [m, k], [k, n] and [m, n] of ``types`` (D's, A's, B's), as the tensor core computes it."""
    d_type, a_type, b_type = types
    if d_type == "s32":
        total = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64) + c  # exact: k * 2^16 is far below 2^53
        if saturate:
            total = total.clip(-(1 << 31), (1 << 31) - 1)
        return total.astype(np.int32)
    if d_type == "f64":
        result = c.copy()
        with np.errstate(all="ignore"):
            fma_chain(np.ascontiguousarray(a.T)[:, :, np.newaxis], np.ascontiguousarray(b)[:, np.newaxis, :], result)
        return result
    kinds = tuple(element_of(name).model for name in (a_type, b_type, d_type))
    numerics = arithmetic(architecture, a_type, d_type)
    return truncated_sum(a, b, c, numerics, elements=(kinds[0], kinds[1], kinds[2]))


def _float8_as_f16(a: Array, b: Array, c: Array, architecture: str) -> Array:
    """What ptxas makes of mma.sync on 8-bit floats for sm_90: two HMMA on f16 from zero, then FADD or HADD2."""
    result = np.zeros_like(c)
    d_type = "f16" if c.dtype == np.float16 else "f32"
    for low in (True, False):
        half = [k for k in range(a.shape[1]) if (k % 4 < 2) == low]
        factors = a[:, half].astype(np.float16), b[half].astype(np.float16)
        result = multiply(*factors, result, (d_type, "f16", "f16"), architecture)
    with np.errstate(all="ignore"):
        result = result + c
    result[np.isnan(result)] = (
        np.uint32(0x7FFFFFFF).view(np.float32) if d_type == "f32" else np.uint16(0x7FFF).view(np.float16)
    )
    return result


def _check(types: tuple[str, str, str, str], what: str) -> None:
    d_type, a_type, b_type, _ = types
    if a_type not in ACCUMULATORS or not (a_type == b_type or {a_type, b_type} in _ALIKE):
        raise CrosstileError(f"{what}: no instruction multiplies .{a_type} by .{b_type}")
    if d_type not in ACCUMULATORS[a_type]:
        legal = " or .".join(ACCUMULATORS[a_type])
        raise CrosstileError(f"{what}: products of .{a_type} are added to .{legal}, not to .{d_type}")
