"""What nests compute, in NumPy: the body runs once on whole arrays, and folds run in their defined order.

Every value of a body is an array of the nest's rank, one axis per iterator, of size 1 along iterators it does not
depend on; so a body costs as many NumPy calls as it has operations. A combiner folds step by step in lexicographic
order of the reduction (or scan) iterators, in the accumulator type, vectorised over everything else: each element's
chain is the sequential one, whatever the sizes::

    nest.generic [m : parallel, k : reduction] combiner<add>   ->   for k: state = state + value[:, k]

Values are made for a few steps at a time, so that a matrix product needs memory of the order of its operands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any, TypeAlias

import numpy as np
from xdsl.ir.affine import AffineConstantExpr, AffineDimExpr, AffineMap

from crosstile.dialects.element_types import Array, dtype_of
from crosstile.dialects.interpreter import Interpreter, Meanings
from crosstile.dialects.nest.analysis import FOLDING, element_type, is_plain_map, shape_of
from crosstile.dialects.nest.attributes import IteratorKind
from crosstile.dialects.nest.combiners import Combiner, State
from crosstile.dialects.nest.generic import GenericOp, IndexOp
from crosstile.dialects.nest.index_maps import expression_text
from crosstile.dialects.nest.kernel import CallOp, KernelOp
from crosstile.dialects.upstream_meaning import evaluate_expression
from crosstile.ir.diagnostics import op_error

MEANINGS = Meanings()

ELEMENTS_AT_ONCE = 1 << 22
"""How many elements a body's values may have while a combiner folds them."""

FEW_CHAINS = 256
"""Up to so many chains, NumPy's ``accumulate`` beats a step at a time."""

Point: TypeAlias = dict[int, slice]
"""The steps of some iterators, by position, that a body is run on; all steps of the others."""


@dataclass
class Indices:
    """The steps that the body being run stands for: one array per iterator, of the nest's rank."""

    steps: list[Array] = field(default_factory=list[Array])


@MEANINGS.of(KernelOp)
def kernel(interpreter: Interpreter, op: KernelOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The nests of the kernel, in order."""
    return interpreter.run_block(op.body.block, operands)


@MEANINGS.of(CallOp)
def call(interpreter: Interpreter, op: CallOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Run the kernel on the inputs and on fresh memory for the results."""
    symbol = op.kernel.string_value()
    for result in op.results:
        if min(shape_of(result), default=0) < 0:
            raise op_error(
                op, f"'nest.call' of '{symbol}': results of dynamic size are not built yet, got {result.type}"
            )
    outputs = [np.zeros(shape_of(result), dtype_of(element_type(result))) for result in op.results]
    interpreter.call(symbol, [*(np.array(operand) for operand in operands), *outputs])
    return outputs


@MEANINGS.of(IndexOp)
def index(interpreter: Interpreter, op: IndexOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The steps of the iterator, as an array of the nest's rank."""
    return (interpreter.state(Indices).steps[op.position],)


@MEANINGS.of(GenericOp)
def generic(interpreter: Interpreter, op: GenericOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Run the nest on arrays; raises a CrosstileError for sizes that differ and indices out of bounds."""
    sizes = concrete_sizes(op, operands)
    nest = _Nest(interpreter, op, operands, sizes)
    values = nest.body({}) if op.combiner is None else _fold(nest, op.combiner.row)
    return [
        _place(value, map_, sizes, dtype_of(element_type(result)))
        for value, map_, result in zip(values, op.result_maps, op.results, strict=True)
    ]


def concrete_sizes(op: GenericOp, operands: Sequence[Any]) -> list[int]:
    """The sizes of the iterators for these inputs; a CrosstileError if two tensors disagree."""
    sizes: list[int | None] = [None] * len(op.iterators)
    shapes = [np.shape(operand) for operand in operands] + [shape_of(result) for result in op.results]
    for position, (shape, attribute) in enumerate(zip(shapes, op.indexing_maps, strict=True)):
        for dim, expression in enumerate(attribute.data.results):
            extent = shape[dim]
            if not isinstance(expression, AffineDimExpr) or extent < 0:
                continue
            known = sizes[expression.position]
            if known is not None and known != extent:
                name = op.iterator_names[expression.position]
                what = f"input {position}" if position < len(operands) else f"result {position - len(operands)}"
                raise op_error(
                    op, f"'nest.generic': '{name}' has size {known}, but {extent} in dimension {dim} of {what}"
                )
            sizes[expression.position] = extent
    return [0 if size is None else size for size in sizes]


class _Nest:
    """A nest with its operands: runs the body on all points, or on slices of some iterators."""

    def __init__(self, interpreter: Interpreter, op: GenericOp, operands: Sequence[Any], sizes: list[int]):
        self.interpreter = interpreter
        self.op = op
        self.sizes = sizes
        self.rank = len(sizes)
        self._inputs = [
            _spread(op, np.asarray(operand), map_, sizes, position in op.clipped_inputs)
            for position, (operand, map_) in enumerate(zip(operands, op.input_maps, strict=True))
        ]
        self._steps = [self._axis(np.arange(size), position) for position, size in enumerate(sizes)]

    def body(self, point: Point) -> list[Array]:
        """The values the body yields at ``point``: arrays of the nest's rank, size 1 where they do not depend."""
        indices = Indices([_cut(steps, point) for steps in self._steps])
        with self.interpreter.state_as(indices):
            yielded = self.interpreter.run_block(self.op.body.block, [_cut(value, point) for value in self._inputs])
        return [value if np.ndim(value) == self.rank else np.full((1,) * self.rank, value) for value in yielded]

    def _axis(self, values: Array, position: int) -> Array:
        return values.reshape([-1 if axis == position else 1 for axis in range(self.rank)])


def _cut(value: Array, point: Point) -> Array:
    """The part of ``value`` at ``point``; axes of size 1 stand for every step."""
    return value[
        tuple(point.get(axis, slice(None)) if size != 1 else slice(None) for axis, size in enumerate(value.shape))
    ]


def _spread(op: GenericOp, value: Array, map_: AffineMap, sizes: Sequence[int], clip: bool) -> Array:
    """``value`` as an array of the nest's rank: a view where the map is plain, else gathered.

    Elements outside of ``value`` are zero if it is to be clipped, else an error.
    """
    rank = len(sizes)
    if is_plain_map(map_):
        plain = value[tuple(0 if isinstance(result, AffineConstantExpr) else slice(None) for result in map_.results)]
        used = [result.position for result in map_.results if isinstance(result, AffineDimExpr)]
        ordered = plain.transpose(sorted(range(len(used)), key=lambda dim: used[dim]))
        return ordered.reshape([sizes[axis] if axis in used else 1 for axis in range(rank)])
    grid = [np.arange(size).reshape([-1 if axis == at else 1 for axis in range(rank)]) for at, size in enumerate(sizes)]
    coordinates = [np.asarray(evaluate_expression(result, grid, ())) for result in map_.results]
    if clip:
        return _clipped(value, coordinates, rank)
    for dim, (result, coordinate) in enumerate(zip(map_.results, coordinates, strict=True)):
        outside = coordinate[(coordinate < 0) | (coordinate >= value.shape[dim])]
        if outside.size:
            text = expression_text(result, op.iterator_names)
            raise op_error(
                op,
                f"'nest.generic': index {text} is {outside.flat[0]} in dimension {dim} of size {value.shape[dim]}",
            )
    return value[tuple(np.broadcast_to(coordinate, _join(coordinates, rank)) for coordinate in coordinates)]


def _clipped(value: Array, coordinates: Sequence[Array], rank: int) -> Array:
    """The elements of ``value`` at ``coordinates``, zero where they are outside."""
    shape = _join(coordinates, rank)
    inside = np.ones(shape, bool)
    for coordinate, size in zip(coordinates, value.shape, strict=True):
        inside &= (coordinate >= 0) & (coordinate < size)
    if not value.size:
        return np.zeros(shape, value.dtype)
    limited = [np.clip(coordinate, 0, size - 1) for coordinate, size in zip(coordinates, value.shape, strict=True)]
    found = value[tuple(np.broadcast_to(coordinate, shape) for coordinate in limited)]
    return np.where(inside, found, np.zeros((), value.dtype))


def _join(arrays: Sequence[Array], rank: int) -> tuple[int, ...]:
    return np.broadcast_shapes((1,) * rank, *(array.shape for array in arrays))


def _place(value: Array, map_: AffineMap, sizes: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """A result tensor from an array of the nest's rank; axes that the map does not use have size 1."""
    used = [result.position for result in map_.results if isinstance(result, AffineDimExpr)]
    full = np.broadcast_to(value, [sizes[axis] if axis in used else 1 for axis in range(len(sizes))])
    dropped = full[tuple(slice(None) if axis in used else 0 for axis in range(len(sizes)))]
    ordered = dropped.transpose([sorted(used).index(axis) for axis in used])
    shape = [sizes[result.position] if isinstance(result, AffineDimExpr) else 1 for result in map_.results]
    return np.array(ordered, dtype=dtype, order="C").reshape(shape)


# Folds


def _fold(nest: _Nest, row: Combiner) -> State:
    """The components of the final state, or of all prefixes for a scan, as arrays of the nest's rank."""
    op, sizes = nest.op, nest.sizes
    *outer, inner = op.positions(*FOLDING)
    others = prod(size for position, size in enumerate(sizes) if position not in (*outer, inner))
    block = max(1, ELEMENTS_AT_ONCE // max(others, 1))
    advance = _accumulate if row.ufunc is not None and others <= FEW_CHAINS else _step
    state = _start(nest, row)
    scanned = op.positions(IteratorKind.SCAN)
    kept = [np.empty([sizes[axis] if axis in scanned else n for axis, n in enumerate(a.shape)], a.dtype) for a in state]
    for steps in product(*(range(sizes[position]) for position in outer)):
        point: Point = {position: slice(step, step + 1) for position, step in zip(outer, steps, strict=True)}
        for start in range(0, sizes[inner], block):
            point[inner] = slice(start, min(start + block, sizes[inner]))
            yielded = nest.body(point)
            count = point[inner].stop - start
            state = advance(
                row, state, yielded, inner, count, [_cut(array, point) for array in kept] if scanned else []
            )
    return tuple(kept) if scanned else state


def _step(row: Combiner, state: State, values: Sequence[Array], axis: int, count: int, kept: Sequence[Array]) -> State:
    """``count`` steps along ``axis``, one by one; each prefix is written to ``kept``."""
    for step in range(count):
        here: Point = {axis: slice(step, step + 1)}
        state = row.combine(np, state, row.lift(np, [_cut(value, here) for value in values]))
        for array, component in zip(kept, state, strict=False):
            _cut(array, here)[...] = component
    return state


def _accumulate(
    row: Combiner, state: State, values: Sequence[Array], axis: int, count: int, kept: Sequence[Array]
) -> State:
    """The same chain by the combiner's ``ufunc``, for a few long chains."""
    assert row.ufunc is not None
    (first,), (value,) = state, row.lift(np, values)
    shape = [count if position == axis else size for position, size in enumerate(first.shape)]
    chain = np.concatenate([first, np.broadcast_to(value, shape)], axis)
    prefixes: Array = getattr(np, row.ufunc).accumulate(chain, axis, dtype=chain.dtype)
    tail: Point = {axis: slice(1, None)}
    for array in kept:
        array[...] = prefixes[tuple(tail.get(position, slice(None)) for position in range(prefixes.ndim))]
    return (np.take(prefixes, [-1], axis),)


def _start(nest: _Nest, row: Combiner) -> State:
    """The identity, one element per step of the iterators that are not folded (nor payload, if uniform)."""
    op = nest.op
    folded, payload = op.positions(*FOLDING), op.positions(IteratorKind.PAYLOAD)
    accumulator = op.accumulator_type
    assert accumulator is not None
    arrays: list[Array] = []
    for component, result in zip(row.components, op.results, strict=True):
        single = folded if component.payload else (*folded, *payload)
        shape = [1 if axis in single else size for axis, size in enumerate(nest.sizes)]
        dtype = dtype_of(element_type(result) if component.integer else accumulator)
        identity = component.integer_identity(dtype.itemsize * 8) if dtype.kind == "i" else component.identity
        arrays.append(np.full(shape, identity, dtype))
    return tuple(arrays)
