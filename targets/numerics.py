"""How matrix units compute, as data: the ``numerics`` of an intrinsic row. Bottom layer: imports nothing.

Level: data. In: what vendors publish and what was measured on their chips. Out: tagged rows that ``targets/execute.py``
runs bit for bit and error bounds are derived from. A row says everything that a result depends on: the order in which
the k products of one instruction are added, where roundings happen, how they round and what they flush.

An AVX-512 fma is ``SequentialFma()``; Hopper's bf16 wgmma is ``TruncatedSum(fraction_bits=25, fused_length=16)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Rounding(Enum):
    """How a result that does not fit is rounded."""

    NEAREST_EVEN = "nearest, ties to even"
    TOWARD_ZERO = "toward zero"


@dataclass(frozen=True)
class SequentialFma:
    """One fused multiply-add per product into the accumulator, rounded to nearest even in the accumulator's type.

    ``order`` is the order of the instruction's own k products if it is not 0, 1, 2, ...; ``flush_subnormals`` reads
    subnormal inputs and accumulators as zero and writes subnormal results as zero, keeping the sign.
    """

    order: tuple[int, ...] = ()
    flush_subnormals: bool = False

    def __str__(self) -> str:
        order = f" in the order {', '.join(map(str, self.order))}" if self.order else ""
        return f"a fma per product{order}{', subnormals flushed' if self.flush_subnormals else ''}"

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(len(self.order))):
            raise ValueError(f"SequentialFma order {self.order} is not a permutation of 0 to {len(self.order) - 1}")


@dataclass(frozen=True)
class EvenOddChains:
    """Two chains of fused multiply-adds from zero, of the instruction's even and of its odd products, then two sums.

    The chains are added, and what they make to the accumulator; every step rounds to nearest even in float32.
    Subnormal inputs are read as zero and subnormal results written as zero, keeping the sign.
    """

    def __str__(self) -> str:
        return "a fma per product in two chains, their sum added once, subnormals flushed"


@dataclass(frozen=True)
class MultiplyThenAdd:
    """A product rounded to nearest even, then a sum rounded to nearest even, for k = 0, 1, 2, ..."""

    def __str__(self) -> str:
        return "product rounded, then sum rounded"


@dataclass(frozen=True)
class TruncatedSum:
    """Truncated fused dot product and accumulate, the arithmetic of NVIDIA's tensor cores (T-FDPA).

    ``fused_length`` products and the accumulator are truncated toward zero to ``fraction_bits`` bits below the largest
    exponent among them, added exactly, and rounded once to ``result_fraction_bits`` (23 for f32, 10 for f16).
    Longer sums are chained, the result of one being the accumulator of the next.
    Source: MMA-Sim, arXiv 2511.10909; Khattak and Mikaitis, arXiv 2512.07004.
    """

    fraction_bits: int
    fused_length: int
    rounding: Rounding = Rounding.TOWARD_ZERO
    result_fraction_bits: int = 23

    def __str__(self) -> str:
        fused = f"sums of {self.fused_length} products truncated to {self.fraction_bits} bits"
        return f"{fused}, {self.result_fraction_bits} bits kept, rounded {self.rounding.value}"

    def __post_init__(self) -> None:
        # float64 holds every intermediate up to this width: a sum of 2^5 terms, each below 4, has 7 integer bits.
        if not 1 <= self.fraction_bits <= 45 or not 1 <= self.fused_length <= 32:
            raise ValueError(f"{self!r}: fraction_bits is 1 to 45 and fused_length 1 to 32")
        if (self.rounding, self.result_fraction_bits) not in {
            (Rounding.TOWARD_ZERO, 23),
            (Rounding.TOWARD_ZERO, 13),
            (Rounding.NEAREST_EVEN, 10),
        }:
            raise ValueError(f"{self!r}: results are 23 or 13 bits toward zero (f32), or 10 bits to nearest even (f16)")


@dataclass(frozen=True)
class IntegerDot:
    """Exact integer products added to a 32-bit accumulator, which wraps, or saturates once after the k products."""

    saturate: bool = False

    def __str__(self) -> str:
        return f"exact integers, {'saturating' if self.saturate else 'wrapping'}"


Numerics = SequentialFma | EvenOddChains | MultiplyThenAdd | TruncatedSum | IntegerDot
