"""Error bounds of sums and of sums of products, from the partial sums that an execution runs through.

A chain ``s = s + x`` makes an error of at most ``u |s|`` at each step, so the error of the whole is at most ``u`` times
the sum of the magnitudes of all partial sums. That follows the data: for operands of mixed sign it is smaller than the
textbook's ``K u sum|x|`` by a factor of about ``sqrt(K)``, and no weaker (Higham, Accuracy and Stability of Numerical
Algorithms, section 4.2).

- A contraction without ``reassoc`` is one chain in increasing k. Its partial sums are taken at the ends of blocks of k;
  inside a block each is at most the mean of both ends and of the block's sum of magnitudes.
- A reassociated reduction runs ``c`` interleaved chains (element i belongs to chain i mod c) and folds their sums in a
  tree. The bound is the largest over the ``c`` of ``CHAINS``, so it does not depend on a schedule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from crosstile.dialects.element_types import Array
from crosstile.dialects.nn.bounded import Bounded, Format, convert, rounded
from crosstile.dialects.nn.meaning import maximum_along

CHAINS = (1, 4, 8, 16, 32, 64, 128)
"""Numbers of interleaved chains that a reassociated reduction may run."""
SMALLEST_NORMAL = 2.0**-126
"""Of f32 and of bf16."""
_TF32_UNIT, _TF32_SMALLEST, _TF32_OVERFLOW = 2.0**-10, 2.0**-136, (2.0 - 2.0**-11) * 2.0**127
"""Of tf32, which has the exponents of f32: what cutting off loses, the smallest number, what rounds to infinity."""
_TREE_SLACK = 4
"""Levels of the tree of chains beyond a balanced one: registers are folded one after the other."""
_SMALL_WORK = 2e8


@dataclass(frozen=True)
class Product:
    """A contraction as a batched matrix product: the axes of each operand, and how to put the result back."""

    batch: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    summed: tuple[int, ...]
    result: tuple[int, ...]

    @classmethod
    def of(cls, positions: Sequence[tuple[int, ...]]) -> Product:
        """The iterators of ``positions`` (lhs, rhs, result) by role; summed ones in increasing order."""
        lhs, rhs, out = positions
        return cls(
            tuple(iterator for iterator in out if iterator in lhs and iterator in rhs),
            tuple(iterator for iterator in out if iterator not in rhs),
            tuple(iterator for iterator in out if iterator not in lhs),
            tuple(sorted(iterator for iterator in set(lhs) | set(rhs) if iterator not in out)),
            out,
        )

    def matrices(self, array: Array, axes: Sequence[int], *groups: tuple[int, ...]) -> Array:
        """``array``, whose dimensions are the iterators ``axes``, with one dimension per group."""
        order = [axes.index(iterator) for group in groups for iterator in group]
        sizes = [math.prod(array.shape[axes.index(iterator)] for iterator in group) for group in groups]
        return np.transpose(array, order).reshape(sizes)


def contract(
    accumulator: Format,
    result: Format,
    x: Bounded,
    y: Bounded,
    positions: Sequence[tuple[int, ...]],
    reassoc: bool,
    in_blocks: bool = False,
) -> Bounded:
    """The sum of products over the iterators that the result lacks, accumulated in ``accumulator``.

    With ``in_blocks`` the products of up to 32 steps may be summed in two chains of their own before they are added.
    """
    product = Product.of(positions)

    def left(array: Array) -> Array:
        return product.matrices(array, positions[0], product.batch, product.rows, product.summed)

    def right(array: Array) -> Array:
        return product.matrices(array, positions[1], product.batch, product.summed, product.columns)

    a, b = left(x.value), right(y.value)
    value, magnitudes, partial = _chain(a, b, reassoc, in_blocks)
    steps = a.shape[-1]
    carried = np.zeros(value.shape)
    if x.error.any():
        carried = carried + left(x.error) @ right(y.largest)
    if y.error.any():
        carried = carried + np.abs(a) @ right(y.error)
    # One rounding of each product, one of each partial sum; later steps magnify them by 1 + u each.
    error = (carried + accumulator.unit * (magnitudes + partial)) * math.exp(steps * accumulator.unit)
    error = error + steps * accumulator.smallest
    error = np.where(magnitudes + error < accumulator.overflow, error, np.inf)
    operands = tuple(_any_uncertain(operand) for operand in (x, y))
    summed = rounded(accumulator, value, error, operands, roundings=0)
    sizes = {
        iterator: size
        for axes, array in zip(positions, (x, y), strict=False)
        for iterator, size in zip(axes, array.shape, strict=True)
    }
    order = (*product.batch, *product.rows, *product.columns)
    back = [order.index(iterator) for iterator in product.result]
    shaped = summed.rearranged(lambda part: part.reshape([sizes[i] for i in order]).transpose(back))
    return convert(result, accumulator, shaped)


def flushed(operand: Bounded) -> Bounded:
    """``operand`` where numbers below the smallest normal one may be read as zero."""
    tiny = np.abs(operand.value) < SMALLEST_NORMAL
    error = np.where(tiny, operand.error + np.abs(operand.value), operand.error)
    return Bounded(operand.value, error, operand.overflowed)


def cut_to_tf32(operand: Bounded) -> Bounded:
    """``operand`` where numbers may be rounded to the 10 bits of tf32, or cut off after them."""
    loses = np.where(np.isfinite(operand.largest), operand.largest * _TF32_UNIT + _TF32_SMALLEST, 0.0)
    rounds_up = np.isfinite(operand.value) & (operand.largest >= _TF32_OVERFLOW)
    return Bounded(operand.value, np.where(rounds_up, np.inf, operand.error + loses), operand.overflowed)


def cut_sums(accumulator: Format) -> Format:
    """``accumulator`` where up to 32 products and the sum before are cut off 13 bits below the largest of them.

    That loses at most 33 units of 2^-13 of the larger of the sum before and the largest product, and one of the sum. A
    block of ``_chain`` counts 16 units of the sums before and after it and 17 of its magnitudes: of units twice as
    large they are enough.
    """
    return replace(accumulator, roundoff=2.0**-12)


def _any_uncertain(operand: Bounded) -> Bounded:
    """One element that is certain iff all of ``operand`` is: an infinite sum is certain if nothing is open."""
    return Bounded(np.ones(()), np.zeros(()) if operand.certain.all() else np.full((), np.inf))


def _chain(a: Array, b: Array, reassoc: bool, in_blocks: bool) -> tuple[Array, Array, Array]:
    """``a @ b``, ``|a| @ |b|``, and the sum of the magnitudes of all partial sums over k (a bound of it).

    Two chains of 16 products each have partial sums of at most their magnitudes, which is what a block of 32 counts.
    """
    *batch, rows, steps = a.shape
    columns = b.shape[-1]
    shape = (*batch, rows, columns)
    value, magnitudes, partial = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    block = 16 if math.prod(shape) * steps <= _SMALL_WORK and not in_blocks else 32
    for start in range(0, steps, block):
        part_a, part_b = a[..., start : start + block], b[..., start : start + block, :]
        width = min(block, steps) if in_blocks else part_a.shape[-1]
        before = np.abs(value)
        value = value + part_a @ part_b
        magnitude = np.abs(part_a) @ np.abs(part_b)
        magnitudes += magnitude
        partial += 0.5 * width * (before + np.abs(value) + magnitude)
    return value, magnitudes, steps * magnitudes if reassoc else partial


def reduce_add(format_: Format, x: Bounded, dims: tuple[int, ...], reassoc: bool) -> Bounded:
    """The sum along ``dims``, which are kept with size 1."""
    kept = tuple(dim for dim in range(len(x.shape)) if dim not in dims)

    def rows_of(array: Array) -> Array:
        return np.transpose(array, (*kept, *dims)).reshape(*(array.shape[dim] for dim in kept), -1)

    steps = math.prod(x.shape[dim] for dim in dims)
    shape = [1 if dim in dims else size for dim, size in enumerate(x.shape)]
    if not x.value.size:
        return Bounded(np.zeros(shape), np.zeros(shape))
    rows = rows_of(x.value)
    magnitudes: Array = np.abs(rows).sum(axis=-1)
    partial = np.maximum.reduce([_partial_sums(rows, chains) for chains in (CHAINS if reassoc else (1,))])
    carried = rows_of(x.error).sum(axis=-1) + format_.unit * partial
    error = carried * math.exp(steps * format_.unit)
    error = np.where(magnitudes + error < format_.overflow, error, np.inf)
    certain = Bounded(np.ones(magnitudes.shape), np.where(rows_of(x.certain).all(axis=-1), 0.0, np.inf))
    summed = rounded(format_, rows.sum(axis=-1), error, (certain,), roundings=0)
    return summed.rearranged(lambda part: part.reshape(shape))


def _partial_sums(rows: Array, chains: int) -> Array:
    """The sum of the magnitudes of all partial sums of ``chains`` interleaved chains and the tree that folds them."""
    steps = rows.shape[-1]
    length = -(-steps // chains)
    padded = np.zeros((*rows.shape[:-1], length * chains))
    padded[..., :steps] = rows
    running = np.abs(np.cumsum(padded.reshape(*rows.shape[:-1], length, chains), axis=-2))
    # The first addition of a chain, to zero, is exact.
    total = running[..., 1:, :].sum(axis=(-2, -1))
    depth = min(math.ceil(math.log2(chains)) + _TREE_SLACK, min(chains, steps) - 1)
    return total + depth * running[..., -1, :].sum(axis=-1)


def reduce_max(format_: Format, x: Bounded, dims: tuple[int, ...]) -> Bounded:
    """The maximum along ``dims``, which are kept with size 1: between those of the lower and of the upper ends."""
    low, high = x.interval
    value, lowest, highest = (maximum_along(part, dims) for part in (x.value, low, high))
    error = np.maximum(highest - value, value - lowest)
    certain = Bounded(np.ones(value.shape), np.where(x.certain.all(axis=dims, keepdims=True), 0.0, np.inf))
    return rounded(format_, value, np.where(np.isfinite(value), error, 0.0), (certain,), roundings=0)
