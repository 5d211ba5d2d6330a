"""Bulk tensor copies: which bytes of global memory go to which bytes of shared memory, and back.

Level: the simulator's tensor memory accelerator. In: a :class:`TensorMap`, the coordinates of a box and its place in
shared memory. Out: a :class:`BoxCopy`, addresses element by element; the caller owns the memories, delivers late, and
multicasts. PTX ISA, "Tensor-related memory operations" (tiled mode, out-of-bound access, swizzling modes)::

    cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [smem], [map, {64, 128}], [barrier];

    copy = box_copy(map, (64, 128), smem)
    shared[copy.shared_addresses] = where(copy.inside, global[copy.global_addresses], copy.fill)
    barrier.complete_tx(map.transaction_bytes)

The box lies in shared memory densely, its innermost dimension fastest; the swizzle then xors the number of each 16-byte
chunk with that of its 128-byte line, both taken from the address in shared memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.simulator.descriptors import Swizzle
from crosstile.targets.nvidia.simulator.elements import Array
from crosstile.targets.nvidia.tensor_map import TensorMap

Addresses = NDArray[np.int64]

SHARED_ALIGNMENT = 128
"""Of a box in shared memory; PTX ISA, cp.async.bulk.tensor."""

_DTYPES = {
    "u8": "u1",
    "u16": "u2",
    "u32": "u4",
    "s32": "i4",
    "u64": "u8",
    "s64": "i8",
    "f16": "f2",
    "f32": "f4",
    "f64": "f8",
}

REDUCTIONS: dict[str, tuple[str, ...]] = {
    "add": ("u32", "s32", "u64", "f16", "bf16", "f32"),
    "min": ("u32", "s32", "u64", "s64", "f16", "bf16"),
    "max": ("u32", "s32", "u64", "s64", "f16", "bf16"),
    "inc": ("u32",),
    "dec": ("u32",),
    "and": ("u32", "s32", "u64", "s64"),
    "or": ("u32", "s32", "u64", "s64"),
    "xor": ("u32", "s32", "u64", "s64"),
}
"""Operations of cp.reduce.async.bulk.tensor and the element types that they have."""


@dataclass(frozen=True)
class BoxCopy:
    """The elements of one box in the order of shared memory before the swizzle.

    ``global_addresses`` and ``shared_addresses`` are the first bytes of each element [count] of ``element_bytes``;
    ``inside`` says which lie in the array: the others are read as ``fill`` (uint8 [element_bytes]) and never written.
    """

    global_addresses: Addresses
    shared_addresses: Addresses
    inside: NDArray[np.bool_]
    element_bytes: int
    fill: NDArray[np.uint8]


def box_copy(tensor_map: TensorMap, coordinates: Sequence[int], shared_address: int) -> BoxCopy:
    """The elements of the box at ``coordinates`` (innermost first, may be negative) and at ``shared_address``.

    Raises :class:`CrosstileError` for a wrong number of coordinates, an address that is not a multiple of 128, and for
    a swizzled box with rows shorter than the swizzle, whose place in shared memory is not documented.
    """
    if len(coordinates) != tensor_map.rank:
        raise CrosstileError(
            f"a bulk tensor copy with {len(coordinates)} coordinates uses a tensor map of {tensor_map.rank} dimensions"
        )
    if shared_address % SHARED_ALIGNMENT:
        raise CrosstileError(
            f"a bulk tensor copy's address in shared memory, {shared_address:#x}, is not a multiple of "
            f"{SHARED_ALIGNMENT} bytes"
        )
    size = tensor_map.element_bytes
    row = tensor_map.box[0] * size
    if tensor_map.swizzle and row != tensor_map.swizzle:
        raise CrosstileError(
            f"a box with rows of {row} bytes is swizzled in {tensor_map.swizzle}; only rows of the swizzle's length "
            "are simulated"
        )
    global_addresses: Addresses = np.full((), tensor_map.address, np.int64)
    inside: NDArray[np.bool_] = np.ones((), np.bool_)
    strides = (size, *tensor_map.strides)
    for d in reversed(range(tensor_map.rank)):  # outermost first, so that the innermost varies fastest
        places = coordinates[d] + np.arange(tensor_map.counts[d]) * tensor_map.element_strides[d]
        global_addresses = global_addresses[..., np.newaxis] + places * strides[d]
        inside = inside[..., np.newaxis] & (places >= 0) & (places < tensor_map.sizes[d])
    shared = shared_address + np.arange(global_addresses.size) * size
    pattern = Swizzle(tensor_map.swizzle or Swizzle.NONE.value)
    return BoxCopy(global_addresses.reshape(-1), pattern.apply(shared), inside.reshape(-1), size, _fill(tensor_map))


def _fill(tensor_map: TensorMap) -> NDArray[np.uint8]:
    if tensor_map.fill == "zero":
        return np.zeros(tensor_map.element_bytes, np.uint8)
    return np.full(1, np.nan, np.float64).astype(_dtype(tensor_map.element)).view(np.uint8)


def _dtype(element: str) -> np.dtype[Any]:
    if element == "bf16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(_DTYPES[element])


def reduce_elements(operation: str, element: str, old: Array, new: Array) -> Array:
    """What cp.reduce.async.bulk.tensor leaves in global memory; bytes [count, element_bytes] uint8 of both operands.

    ``inc`` and ``dec`` wrap as the atomic operations do: ``old >= new ? 0 : old + 1`` and ``old == 0 || old > new ? new
    : old - 1``. Raises :class:`CrosstileError` for an operation that the element type does not have.
    """
    if element not in REDUCTIONS.get(operation, ()):
        legal = ", .".join(REDUCTIONS.get(operation, ())) or f"none; operations are {', '.join(REDUCTIONS)}"
        raise CrosstileError(f"cp.reduce.async.bulk .{operation} does not exist for .{element}; legal: .{legal}")
    dtype = _dtype(element)
    x, y = (np.ascontiguousarray(values).view(dtype) for values in (old, new))
    with np.errstate(all="ignore"):
        if operation == "add":
            result = x + y
        elif operation == "min":
            result = np.fmin(x, y)
        elif operation == "max":
            result = np.fmax(x, y)
        elif operation == "inc":
            result = np.where(x >= y, 0, x + 1)
        elif operation == "dec":
            result = np.where((x == 0) | (x > y), y, x - 1)
        else:
            result = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}[operation](x, y)
    return np.ascontiguousarray(result.astype(dtype, copy=False)).view(np.uint8)
