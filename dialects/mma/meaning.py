"""What the mma level computes, in NumPy: fragments are arrays of their shape, products have the intrinsic's arithmetic.

A kernel is called by its symbol, with arrays for its memrefs, which it writes in place::

    Interpreter(module, upstream_meaning.MEANINGS, mma.meaning.MEANINGS).call("gemm", [a, b, c])

Layouts decide where elements are, not what they are; only ``mma.reduce`` takes its order from one. Rings, roles and
products in flight run on the machine of ``asynchrony.py``, in ``ring_meaning.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from xdsl.ir import Operation

from crosstile.dialects.assembly import number_of
from crosstile.dialects.element_types import Array, dtype_of, poison, poisoned
from crosstile.dialects.interpreter import Interpreter, Meanings
from crosstile.dialects.mma import access, fragments, kernel, products, rearrangement
from crosstile.dialects.mma.asynchrony import Machine
from crosstile.dialects.mma.kernel import integer_list
from crosstile.dialects.mma.memory import Access, Accesses, FilledBlocks, View, located_read, located_write, whole
from crosstile.dialects.mma.reduction import reduce
from crosstile.dialects.mma.ring_meaning import MEANINGS as RING_MEANINGS
from crosstile.dialects.packing import packed_layout
from crosstile.dialects.reductions import identity
from crosstile.dialects.tile.blocks import blocks, ceil_divide, sample_positions, worker_ranges
from crosstile.dialects.tile.coverage import Coverage
from crosstile.targets.packing import PackedLayout

MEANINGS = Meanings(RING_MEANINGS)


# Kernels


@MEANINGS.of(kernel.ParallelOp)
def parallel(interpreter: Interpreter, op: kernel.ParallelOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Every instance, one after the other, each with fresh rings that it must leave as it found them."""
    rank = len(op.lower_bounds)
    lower, upper = operands[:rank], operands[rank:]
    if op.is_grid:
        sides = [blocks(*side) for side in zip(lower, upper, integer_list(op.steps), strict=True)]
        counts = [len(side) for side in sides]
        budget = prod(counts) if interpreter.sample is None else interpreter.sample
        tiles = [
            [side[at] for side, at in zip(sides, np.unravel_index(position, counts), strict=True)]
            for position in sample_positions(counts, budget)
        ]
        instances = [(*(start for start, _ in tile), *(extent for _, extent in tile)) for tile in tiles]
    else:
        grain = 1 if op.grain is None else op.grain.value.data
        # As at the tile level, a sample takes single grains.
        grains = ceil_divide(max(0, upper[0] - lower[0]), grain)
        workers = interpreter.workers if interpreter.sample is None else grains
        ranges: list[tuple[int, ...]] = [*worker_ranges(lower[0], upper[0], grain, workers)]
        chosen = sample_positions([len(ranges)], len(ranges) if interpreter.sample is None else interpreter.sample)
        instances = [ranges[position] for position in chosen]
        coverage = interpreter.state(Coverage)
        coverage.instances += len(ranges)
        coverage.instances_run += len(chosen)
    machine = interpreter.state(Machine)
    for instance in instances:
        machine.start(_warps(op))
        interpreter.run_block(op.body.block, instance)
        machine.finish()
    return ()


@MEANINGS.of(kernel.ReturnOp)
def end_of_kernel(interpreter: Interpreter, op: kernel.ReturnOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Nothing is left in flight."""
    interpreter.state(Machine).finish()
    return ()


def _warps(op: Operation) -> int:
    parent = op.parent_op()
    return parent.warp_count if isinstance(parent, kernel.KernelOp) else 1


@MEANINGS.of(kernel.AllocOp)
def alloc(interpreter: Interpreter, op: kernel.AllocOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Poison, in the shape of the buffer: the map says where elements are stored, which nobody can see."""
    type_ = op.result.type
    return (poisoned(type_.get_shape(), dtype_of(type_.element_type)),)


# Memory


class Loads(dict[Operation, tuple[Access, bool, Any, Any, PackedLayout | None]]):
    """By load: its access, whether it has a condition, what it reads if that is false, its padding, its packing."""


@MEANINGS.of(access.LoadOp)
def load(interpreter: Interpreter, op: access.LoadOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The elements at the place; nothing is read if the condition is false."""
    loads = interpreter.state(Loads)
    if op not in loads:
        accessed = interpreter.state(Accesses).of(op, op.result.type.get_shape(), integer_list(op.clamp))
        otherwise, pad = (0 if number is None else number_of(number) for number in (op.otherwise, op.pad))
        layout = None if accessed.rule.clip else packed_layout(op.source.type)
        loads[op] = accessed, op.condition is not None, otherwise, pad, layout
    accessed, has_condition, otherwise, pad, layout = loads[op]
    if has_condition and not operands[-1]:
        return (np.full(accessed.rule.shape, otherwise, dtype_of(op.result.type.element_type)),)
    memory = operands[0] if layout is None else interpreter.state(FilledBlocks).of(operands[0], layout)
    return (located_read(memory, accessed.place(memory, operands[1:]), pad),)


@MEANINGS.of(access.StoreOp)
def store(interpreter: Interpreter, op: access.StoreOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The valid elements are written; what they go through is poison afterwards."""
    value, destination = operands[:2]
    place = interpreter.state(Accesses).of(op, value.shape).place(destination, operands[2:])
    located_write(destination, place, value)
    if op.through is not None:
        poison(operands[-1])
    return ()


@MEANINGS.of(access.ViewOp)
def view(interpreter: Interpreter, op: access.ViewOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The same scratch under other coordinates."""
    return (View(operands[0], op.map.data, access.scratch_type(op.result).get_shape()),)


# Fragments


@MEANINGS.of(fragments.MapOp)
def map_(interpreter: Interpreter, op: fragments.MapOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The body, once, on whole arrays."""
    type_ = op.result.type
    (value,) = interpreter.run_block(op.body.block, operands)
    result = np.empty(type_.get_shape(), dtype_of(type_.element_type))
    result[...] = value
    return (result,)


@MEANINGS.of(fragments.ReduceOp)
def reduction(interpreter: Interpreter, op: fragments.ReduceOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The elements within the extents, in the order that the layout defines."""
    value: Array = operands[0]
    extents = operands[len(operands) - len(op.extents) :]
    type_ = op.value_type
    kept = _mask(value, extents, integer_list(op.extent_dims), identity(op.kind.data, value.dtype))
    into: Array | None = None if op.into is None else operands[1]
    return (reduce(op.kind.data, kept, type_.layout.data, integer_list(op.dims), into),)


@MEANINGS.of(fragments.MaskOp)
def mask(interpreter: Interpreter, op: fragments.MaskOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Elements beyond the extents replaced."""
    return (_mask(operands[0], operands[1:], integer_list(op.extent_dims), number_of(op.otherwise)),)


def _mask(value: Array, extents: Sequence[int], dims: Sequence[int], otherwise: Any) -> Array:
    if not dims:
        return value
    result = np.array(value)
    for dim, extent in zip(dims, extents, strict=True):
        np.moveaxis(result, dim, 0)[max(0, extent) :] = otherwise
    return result


@MEANINGS.of(fragments.SplatOp)
def splat(interpreter: Interpreter, op: fragments.SplatOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The scalar everywhere."""
    type_ = op.result.type
    return (np.full(type_.get_shape(), operands[0], dtype_of(type_.element_type)),)


@MEANINGS.of(fragments.IotaOp)
def iota(interpreter: Interpreter, op: fragments.IotaOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The coordinate along a dimension, plus the start."""
    type_ = op.result.type
    shape, dim = type_.get_shape(), op.dim.value.data
    counts = np.arange(shape[dim]) + (operands[0] if operands else 0)
    along = counts.reshape([-1 if axis == dim else 1 for axis in range(len(shape))])
    return (np.broadcast_to(along, shape).astype(dtype_of(type_.element_type)),)


@MEANINGS.of(rearrangement.RelayoutOp)
def relayout(interpreter: Interpreter, op: rearrangement.RelayoutOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The same elements."""
    return operands


@MEANINGS.of(rearrangement.TransposeOp)
def transpose(interpreter: Interpreter, op: rearrangement.TransposeOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Rows become columns."""
    return (np.ascontiguousarray(operands[0].T),)


# Products


@MEANINGS.of(products.MmaOp)
def multiply(interpreter: Interpreter, op: products.MmaOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The product in the arithmetic of the intrinsic."""
    from crosstile.targets.execute import execute
    from crosstile.targets.model import intrinsic

    return (execute(intrinsic(op.intrinsic.data), whole(operands[0]), whole(operands[1]), operands[2]),)
