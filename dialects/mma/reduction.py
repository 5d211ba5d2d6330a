"""The defined order of ``mma.reduce``, computed on arrays: registers first, then butterflies over lanes, then warps.

For rows of 64 in ``register(4:16) lane(16:1)`` lane l first adds elements l, l + 16, l + 32, l + 48 in this order;
then lane l and lane l xor 8 add theirs, then xor 4, 2, 1, after which all lanes have the same sum. Where all registers
of a lane belong to one result, as those of a row of 64 in 16 lanes do, they are added in pairs, then the pairs' sums:
(l + l + 16) + (l + 32 + l + 48), so that few additions wait for others; several results are chains side by side. What
it all goes into is added on the left at the end; or at the beginning if no lanes are involved: then all registers are
one chain, so that a column which is added up a few rows at a time is one chain however many rows are taken.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TypeVar

import numpy as np

from crosstile.dialects.element_types import Array
from crosstile.dialects.reductions import COMBINE, elements
from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.layout import Layout

IN_PAIRS = ("add", "mul")
"""What is folded in pairs where it may be; the order of extremes matters to none but maxnum, which is a chain."""
ValueT = TypeVar("ValueT")


def in_pairs(combine: Callable[[ValueT, ValueT], ValueT], values: Sequence[ValueT]) -> ValueT:
    """``values`` combined: the first with the second, the third with the fourth, ..., then what came of these."""
    while len(values) > 1:
        pairs = zip(values[::2], values[1::2], strict=False)
        values = [*(combine(a, b) for a, b in pairs), *values[len(values) & ~1 :]]
    return values[0]


def reduce(kind: str, values: Array, layout: Layout, dims: Sequence[int], into: Array | None = None) -> Array:
    """``values``, laid out as ``layout``, reduced over ``dims``, whose sizes become 1, and combined with ``into``.

    Raises CrosstileError where the layout defines no order: a butterfly over a number of lanes that is no power of two,
    or a mode that wraps around the end of a dimension.
    """
    steps = _plan(layout, tuple(dims))
    combine = COMBINE[kind]
    parts = elements(kind, values).reshape(-1)[steps.places]
    begun = into if steps.sequential and not steps.butterflies else None
    if steps.sequential:
        front = np.moveaxis(parts, steps.sequential, range(len(steps.sequential)))
        own = front.reshape(-1, *front.shape[len(steps.sequential) :])  # in increasing order of register number
        first = [] if begun is None else [begun.reshape(-1)[steps.kept].reshape(own.shape[1:])]
        fold = in_pairs if steps.alone and kind in IN_PAIRS else functools.reduce
        parts = np.expand_dims(fold(combine, [*first, *own]), steps.sequential)
    for axis in steps.butterflies:
        while parts.shape[axis] > 1:
            low, high = np.split(parts, 2, axis)
            parts = combine(low, high)
    result = np.empty(steps.shape, values.dtype)
    result.reshape(-1)[steps.kept] = parts.reshape(-1)
    return result if into is begun else combine(into, result)


@dataclass(frozen=True)
class _Plan:
    """``places``: element numbers, one axis of the array per digit; which axes fold how; where each outcome goes.

    ``alone``: lanes fold too, and all registers of a lane are of one result.
    """

    places: Array
    sequential: tuple[int, ...]
    butterflies: tuple[int, ...]
    kept: Array
    shape: tuple[int, ...]
    alone: bool


@lru_cache(maxsize=256)
def _plan(layout: Layout, dims: tuple[int, ...]) -> _Plan:
    tile = layout.tile
    strides = [prod(tile[dim + 1 :]) for dim in range(len(tile))]
    shape = tuple(1 if dim in dims else size for dim, size in enumerate(tile))
    kept_strides = [prod(shape[dim + 1 :]) for dim in range(len(shape))]
    places, kept = np.zeros((), np.int64), np.zeros((), np.int64)
    registers: list[int] = []
    butterflies: list[tuple[bool, int]] = []
    axis, results = 0, 1
    for name, modes in layout.axes:
        for mode in modes:
            for size, stride, dim in _digits(layout, mode.size, mode.stride, tile, strides):
                size = size if stride else 1  # of replicas one is enough
                places = places[..., np.newaxis] + stride * np.arange(size)
                folds = stride > 0 and dim in dims
                kept = kept[..., np.newaxis] + (
                    np.zeros(1 if folds else size, np.int64)
                    if folds or not stride
                    else stride // strides[dim] * kept_strides[dim] * np.arange(size)
                )
                if name == "register" and not folds:
                    results *= size
                if folds and name == "register":
                    registers.append(axis)
                elif folds and size > 1:
                    if size & (size - 1):
                        raise CrosstileError(
                            f"the layout {layout} reduces over {size} values of '{name}'; a butterfly is defined for "
                            "powers of two"
                        )
                    butterflies.append((name != "lane", axis))
                axis += 1
    ordered = tuple(at for _, at in sorted(butterflies))
    return _Plan(places, tuple(registers), ordered, kept.reshape(-1), shape, bool(ordered) and results == 1)


def _digits(
    layout: Layout, size: int, stride: int, tile: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int, int]]:
    """A mode as digits (size, stride, dimension), outermost first, each along one dimension of the tile."""
    found: list[tuple[int, int, int]] = []
    for dim in range(len(tile) - 1, -1, -1):
        if size == 1 or stride == 0:
            break
        room = tile[dim] * strides[dim]
        if stride >= room:
            continue
        fits = min(size, room // stride)
        if (room % stride and fits < size) or size % fits:
            raise CrosstileError(f"the layout {layout} wraps around dimension {dim}; no order of reduction is defined")
        found.insert(0, (fits, stride, dim))
        size, stride = size // fits, stride * fits
    return found or [(size, stride, 0)]
