"""Tensor maps: what the tensor memory accelerator (TMA) knows of an array in global memory.

Level: run time of Hopper kernels. In: the array's address, sizes and strides, and the box that one copy moves. Out: a
checked :class:`TensorMap`, from which the simulator copies and ``cuTensorMapEncodeTiled`` makes the driver's 128 bytes.
Source: CUDA Driver API, "Tensor Map Object Management", cuTensorMapEncodeTiled.

A bf16 matrix of 1000 rows of 512, read in boxes of 128 rows and 64 columns, 128 bytes to a swizzled row::

    TensorMap.row_major("bf16", address, shape=(1000, 512), strides=(512, 1), box=(128, 64), swizzle=128)
    TensorMap("bf16", address, sizes=(512, 1000), strides=(1024,), box=(64, 128), swizzle=128)        the same

Dimensions are those of the hardware: the innermost, whose elements are neighbours, comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from crosstile.ir.diagnostics import CrosstileError

ELEMENT_BYTES = {
    "u8": 1,
    "u16": 2,
    "u32": 4,
    "s32": 4,
    "u64": 8,
    "s64": 8,
    "f16": 2,
    "f32": 4,
    "f64": 8,
    "bf16": 2,
}
"""Types of CUtensorMapDataType by their PTX names; 8-bit floats and signed bytes are copied as u8, tf32 as f32."""

FLOATS = ("f16", "bf16", "f32", "f64")
SWIZZLES = (0, 32, 64, 128)
MOST_BOX = 256
MOST_ELEMENT_STRIDE = 8


@dataclass(frozen=True)
class TensorMap:
    """One tiled tensor map; sizes and boxes in elements, strides in bytes and of all dimensions but the innermost.

    ``swizzle`` is the span in bytes within which 16-byte chunks change places, 0 for none. ``fill`` is what elements
    outside the array read as. ``l2_promotion`` is a hint, in bytes. Raises :class:`CrosstileError` naming the field and
    what is legal.
    """

    element: str
    address: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    element_strides: tuple[int, ...] = ()
    interleave: Literal["none", "16B", "32B"] = "none"
    swizzle: int = 0
    fill: Literal["zero", "nan"] = "zero"
    l2_promotion: Literal[0, 64, 128, 256] = 128

    def __post_init__(self) -> None:
        if not self.element_strides:
            object.__setattr__(self, "element_strides", (1,) * len(self.sizes))
        self._require(self.element in ELEMENT_BYTES, f"has no elements of .{self.element}", ", ".join(ELEMENT_BYTES))
        self._require(1 <= self.rank <= 5, f"has {self.rank} dimensions", "1 to 5")
        for name, lengths, count in (
            ("strides", self.strides, self.rank - 1),
            ("box", self.box, self.rank),
            ("element_strides", self.element_strides, self.rank),
        ):
            self._require(
                len(lengths) == count, f"of {self.rank} dimensions has {len(lengths)} {name}", f"{count} of them"
            )
        self._require(self.interleave == "none", f"is interleaved by {self.interleave}", "an interleave of none")
        self._require(self.address % 16 == 0, f"begins at address {self.address:#x}", "a multiple of 16 bytes")
        for dimension, size in enumerate(self.sizes):
            self._require(1 <= size <= 1 << 32, f"has size {size} in dimension {dimension}", "1 to 2^32")
        for dimension, stride in enumerate(self.strides, 1):
            legal = stride % 16 == 0 and 0 <= stride < 1 << 40
            self._require(
                legal, f"has a stride of {stride} bytes in dimension {dimension}", "a multiple of 16 below 2^40"
            )
        for dimension, size in enumerate(self.box):
            self._require(1 <= size <= MOST_BOX, f"has a box of {size} in dimension {dimension}", f"1 to {MOST_BOX}")
        for dimension, step in enumerate(self.element_strides):
            most = 1 if dimension == 0 else MOST_ELEMENT_STRIDE
            self._require(
                1 <= step <= most, f"has an element stride of {step} in dimension {dimension}", f"1 to {most}"
            )
        row = self.box[0] * self.element_bytes
        self._require(row % 16 == 0, f"has a box whose rows are {row} bytes", "a multiple of 16")
        self._require(self.swizzle in SWIZZLES, f"has a swizzle of {self.swizzle} bytes", "0, 32, 64 or 128")
        self._require(
            not self.swizzle or row <= self.swizzle,
            f"swizzled in {self.swizzle} bytes has a box whose rows are {row} bytes",
            f"at most {self.swizzle}",
        )
        self._require(
            self.fill == "zero" or self.element in FLOATS,
            f"of .{self.element} is filled with NaN",
            "NaN for floating point, otherwise zero",
        )

    def _require(self, holds: bool, found: str, legal: str) -> None:
        if not holds:
            raise CrosstileError(f"a tensor map {found}; legal: {legal}")

    @classmethod
    def row_major(
        cls,
        element: str,
        address: int,
        shape: Sequence[int],
        strides: Sequence[int],
        box: Sequence[int],
        *,
        steps: Sequence[int] = (),
        swizzle: int = 0,
        fill: Literal["zero", "nan"] = "zero",
    ) -> TensorMap:
        """The map of a strided array: shape, strides (in elements), box and ``steps``, the element strides, outermost
        first, as a memref has them.

        Raises :class:`CrosstileError` if neighbours of the last dimension are not neighbours in memory.
        """
        if strides and strides[-1] != 1 and shape[-1] != 1:
            raise CrosstileError(f"a tensor map needs an innermost stride of 1 element, not {strides[-1]}")
        size = ELEMENT_BYTES.get(element, 0)
        outer = tuple(stride * size for stride in reversed(strides[:-1]))
        sizes, extents = tuple(reversed(shape)), tuple(reversed(box))
        return cls(element, address, sizes, outer, extents, tuple(reversed(steps)), swizzle=swizzle, fill=fill)

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return len(self.sizes)

    @property
    def element_bytes(self) -> int:
        """Bytes of an element."""
        return ELEMENT_BYTES[self.element]

    @property
    def counts(self) -> tuple[int, ...]:
        """Elements that one copy moves along each dimension: every ``element_strides``-th of the box."""
        return tuple(-(-size // step) for size, step in zip(self.box, self.element_strides, strict=True))

    @property
    def transaction_bytes(self) -> int:
        """Bytes that one copy writes to shared memory and reports to its mbarrier, those outside the array included."""
        total = self.element_bytes
        for count in self.counts:
            total *= count
        return total
