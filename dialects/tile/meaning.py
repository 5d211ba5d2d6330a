"""The meaning of the tile level in NumPy: every operation evaluated on whole blocks.

A tile is an array of its capacity, a buffer a read-only one, a window a :class:`Window`. A contract adds its products
one after the other in the accumulator's type, or in the arithmetic of the intrinsic it names. ``tile.parallel`` runs
its instances one after the other, all of them or a sample (corners and ragged edges first), and records what they
wrote::

    interpreter = Interpreter(module, MEANINGS, UPSTREAM, workers=3)
    interpreter.call("matmul", [a, b, c])           # writes c
    interpreter.state(Coverage).mask(c)             # which elements of c were computed
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, cast

import numpy as np

from crosstile.dialects.arith_meaning import attribute_value
from crosstile.dialects.assembly import dense_values
from crosstile.dialects.element_types import Array, dtype_of, poisoned
from crosstile.dialects.interpreter import Interpreter, Meanings
from crosstile.dialects.reductions import COMBINE, elements, identity
from crosstile.dialects.tile.blocks import blocks, ceil_divide, sample_positions, worker_ranges
from crosstile.dialects.tile.compute import ContractOp, MapOp, ReduceOp
from crosstile.dialects.tile.coverage import Coverage, NeedsMissing
from crosstile.dialects.tile.kernel import DimOp, ParallelOp
from crosstile.dialects.tile.launch import LaunchOp
from crosstile.dialects.tile.loops import ForOp
from crosstile.dialects.tile.memory import AllocOp, LoadOp, StageOp, StoreOp
from crosstile.dialects.tile.shape import IotaOp, MaskOp, ReshapeOp, SplatOp, TransposeOp
from crosstile.dialects.tile.types import BufferType
from crosstile.dialects.tile.window import WindowOp
from crosstile.dialects.tile.window_meaning import Window
from crosstile.ir.diagnostics import op_error
from crosstile.targets.execute import execute
from crosstile.targets.model import UnknownNameError, intrinsic

MEANINGS = Meanings()


# Kernels and loops


@MEANINGS.of(LaunchOp)
def launch(interpreter: Interpreter, op: LaunchOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Run the kernel."""
    interpreter.call(op.kernel.string_value(), operands)
    return ()


@MEANINGS.of(DimOp)
def dim(interpreter: Interpreter, op: DimOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The size of one dimension."""
    return (int(operands[0].shape[op.dim.value.data]),)


@MEANINGS.of(ParallelOp)
def parallel(interpreter: Interpreter, op: ParallelOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Every instance, or a sample of them, one after the other."""
    rank = len(op.lower_bounds)
    bounds = list(zip(operands[:rank], operands[rank:], strict=True))
    if op.grain is None:
        cuts = [blocks(*pair, step) for pair, step in zip(bounds, op.grid_steps, strict=True)]
        points = [tuple(zip(*point, strict=True)) for point in product(*cuts)]
        instances = [(*starts, *extents) for starts, extents in points]
        counts = [len(cut) for cut in cuts]
    else:
        (lower, upper), grain = bounds[0], op.grain.value.data
        # A sample takes single grains: any cut between whole grains is a legal number of workers.
        workers = interpreter.workers if interpreter.sample is None else ceil_divide(upper - lower, grain)
        instances = worker_ranges(lower, upper, grain, workers)
        counts = [len(instances)]
    chosen = range(len(instances))
    if interpreter.sample is not None:
        chosen = sample_positions(counts, interpreter.sample)
    _run_instances(interpreter, op, instances, chosen)
    return ()


def _run_instances(
    interpreter: Interpreter, op: ParallelOp, instances: Sequence[Sequence[int]], chosen: Sequence[int]
) -> None:
    coverage = interpreter.state(Coverage)
    coverage.begin_launch()
    coverage.instances += len(instances)
    coverage.instances_run += len(chosen)
    coverage.sampled |= len(chosen) < len(instances)
    for position in chosen:
        coverage.instance = position + 1
        try:
            interpreter.run_block(op.body.block, instances[position])
        except NeedsMissing:
            coverage.drop_instance(position + 1)
        finally:
            coverage.instance = 0


@MEANINGS.of(ForOp)
def for_loop(interpreter: Interpreter, op: ForOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Block after block; ``pipeline`` changes nothing."""
    lower, upper, *values = operands
    balanced = None if op.balanced is None else op.balanced.value.data
    for start, extent in blocks(lower, upper, op.step.value.data, balanced):
        values = interpreter.run_block(op.body.block, (start, extent, *values))
    return values


# Windows and memory


@MEANINGS.of(WindowOp)
def window(interpreter: Interpreter, op: WindowOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The array and where in it; nothing is read."""
    source: Array = operands[0]
    count = len(op.indices)
    capacity = op.result.type.get_shape()
    extents = list(capacity)
    for dim, extent in zip(dense_values(op.extent_dims), operands[1 + count :], strict=True):
        if not 0 <= extent <= capacity[dim]:
            raise op_error(op, f"extent {extent} of dimension {dim} is not between 0 and the capacity, {capacity[dim]}")
        extents[dim] = extent
    dtype = dtype_of(op.result.type.element_type)
    if source.dtype != dtype:
        raise op_error(op, f"the source has elements of {source.dtype}, its type says {dtype}")
    from_memory = not isinstance(op.source.type, BufferType)
    return (Window(op, source, tuple(operands[1 : 1 + count]), capacity, tuple(extents), from_memory),)


@MEANINGS.of(LoadOp)
def load(interpreter: Interpreter, op: LoadOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The window's elements, or ``otherwise`` everywhere."""
    shape = op.result.type.get_shape()
    if op.condition is not None and not operands[1]:
        return (np.full(shape, _literal(op.otherwise), dtype_of(op.result.type.element_type)),)
    return (np.array(operands[0].read(interpreter.state(Coverage), _literal(op.pad))),)


@MEANINGS.of(StoreOp)
def store(interpreter: Interpreter, op: StoreOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The valid elements."""
    value, target, *_ = operands
    target.write(interpreter.state(Coverage), value)
    return ()


@MEANINGS.of(AllocOp)
def alloc(interpreter: Interpreter, op: AllocOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Poison, until it is written."""
    type_ = op.result.type
    return (poisoned(type_.get_shape(), dtype_of(type_.element_type)),)


@MEANINGS.of(StageOp)
def stage(interpreter: Interpreter, op: StageOp, operands: Sequence[Any]) -> Sequence[Any]:
    """A copy that cannot be written."""
    source: Window | Array = operands[0]
    if isinstance(source, Window):
        buffer = source.read(interpreter.state(Coverage), _literal(op.pad))
        if buffer.base is not None:  # a view of the source, not padded or gathered
            buffer = np.array(buffer)
    else:
        buffer = np.array(source)
    dtype = dtype_of(op.result.type.element_type)
    buffer = buffer if buffer.dtype == dtype else buffer.astype(dtype)
    buffer.flags.writeable = False
    return (buffer,)


def _literal(attribute: Any) -> Any:
    return None if attribute is None else attribute_value(attribute)


# Arithmetic


@MEANINGS.of(ContractOp)
def contract(interpreter: Interpreter, op: ContractOp, operands: Sequence[Any]) -> Sequence[Any]:
    """A sequential chain over k into the accumulator; nothing beyond the extent is read."""
    lhs, rhs, accumulator, *rest = operands
    m, n = accumulator.shape
    capacity = lhs.capacity[1] if isinstance(lhs, Window) else lhs.shape[1]
    k = capacity if op.extent is None else rest[0]
    if not 0 <= k <= capacity:
        raise op_error(op, f"extent {k} is not between 0 and the capacity of k, {capacity}")
    coverage = interpreter.state(Coverage)
    lhs, rhs = _operand(coverage, lhs, (m, k)), _operand(coverage, rhs, (k, n))
    if op.intrinsic is None:
        return (_multiply_then_add(lhs, rhs, accumulator),)
    try:
        row = intrinsic(op.intrinsic.data)
        surplus = -k % row.k
        # What is narrower than an instruction takes that multiplies numbers of the accumulator's type is widened.
        if row.lhs.element == row.rhs.element == row.accumulator.element:
            lhs, rhs = (factor.astype(accumulator.dtype, copy=False) for factor in (lhs, rhs))
        # Up to the intrinsic's own k both operands are zero.
        padded = np.pad(lhs, ((0, 0), (0, surplus))), np.pad(rhs, ((0, surplus), (0, 0)))
        return (execute(row, *padded, accumulator),)
    except (UnknownNameError, TypeError) as error:
        raise op_error(op, str(error)) from error


def _operand(coverage: Coverage, operand: Any, shape: tuple[int, int]) -> Array:
    if isinstance(operand, Window):
        return operand.read(coverage, None, shape)
    return cast(Array, operand)[: shape[0], : shape[1]]


def _multiply_then_add(lhs: Array, rhs: Array, accumulator: Array) -> Array:
    dtype = accumulator.dtype
    result = accumulator.copy()
    columns, rows = np.ascontiguousarray(lhs.T).astype(dtype), rhs.astype(dtype)
    for column, row in zip(columns, rows, strict=True):
        result += column[:, None] * row
    return result


@MEANINGS.of(MapOp)
def map_(interpreter: Interpreter, op: MapOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The body, run once on whole tiles."""
    (value,) = interpreter.run_block(op.body.block, operands)
    type_ = op.result.type
    result = np.asarray(value)
    dtype = dtype_of(type_.element_type)
    if result.dtype != dtype:
        result = result.astype(dtype)
    return (result if result.shape == type_.get_shape() else np.array(np.broadcast_to(result, type_.get_shape())),)


@MEANINGS.of(ReduceOp)
def reduce(interpreter: Interpreter, op: ReduceOp, operands: Sequence[Any]) -> Sequence[Any]:
    """A balanced tree over the elements inside the extents, one dimension after the other."""
    value, *rest = operands
    into = rest.pop(0) if op.into is not None else None
    dims = op.reduced_dims
    extents = dict(zip(dense_values(op.extent_dims), rest, strict=True))
    for dim, extent in extents.items():
        if not 0 <= extent <= value.shape[dim]:
            raise op_error(op, f"extent {extent} of dimension {dim} is not between 0 and {value.shape[dim]}")
    value = value[tuple(slice(0, extents.get(dim, size)) for dim, size in enumerate(value.shape))]
    combine, value = COMBINE[op.kind.data], elements(op.kind.data, value)
    for dim in dims:
        value = _reduce_dim(np.moveaxis(value, dim, 0), combine, identity(op.kind.data, value.dtype))
        value = np.moveaxis(value, 0, dim)
    return (np.array(value) if into is None else np.asarray(combine(into, value)),)


def _reduce_dim(value: Array, combine: Callable[[Any, Any], Any], nothing: Any) -> Array:
    if not len(value):
        return np.full((1, *value.shape[1:]), nothing, value.dtype)
    while len(value) > 1:
        half = len(value) // 2
        paired = np.asarray(combine(value[:half], value[half : 2 * half]))
        value = np.concatenate([paired, value[2 * half :]])
    return value


# Shapes


@MEANINGS.of(SplatOp)
def splat(interpreter: Interpreter, op: SplatOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The scalar everywhere."""
    return (np.full(op.result.type.get_shape(), operands[0], dtype_of(op.result.type.element_type)),)


@MEANINGS.of(IotaOp)
def iota(interpreter: Interpreter, op: IotaOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Start plus position."""
    shape, along = op.result.type.get_shape(), op.dim.value.data
    dtype = dtype_of(op.result.type.element_type)
    numbers = np.arange(shape[along]).astype(dtype) + dtype.type(operands[0] if operands else 0)
    sizes = [-1 if axis == along else 1 for axis in range(len(shape))]
    return (np.array(np.broadcast_to(numbers.reshape(sizes), shape)),)


@MEANINGS.of(MaskOp)
def mask(interpreter: Interpreter, op: MaskOp, operands: Sequence[Any]) -> Sequence[Any]:
    """``otherwise`` beyond the extents."""
    value, *rest = operands
    extents = dict(zip(dense_values(op.extent_dims), rest, strict=True))
    inside = tuple(slice(0, max(0, extents.get(dim, size))) for dim, size in enumerate(value.shape))
    result = np.full_like(value, _literal(op.otherwise))
    result[inside] = value[inside]
    return (result,)


@MEANINGS.of(TransposeOp)
def transpose(interpreter: Interpreter, op: TransposeOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The dimensions permuted."""
    return (operands[0].transpose(dense_values(op.permutation)),)


@MEANINGS.of(ReshapeOp)
def reshape(interpreter: Interpreter, op: ReshapeOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The elements in row-major order."""
    return (operands[0].reshape(op.result.type.get_shape()),)
