"""The meaning of ``vector`` on rank-1 vectors: arrays of lanes, memory accesses checked lane by lane.

``vector.fma`` rounds once. A reduction of floats by ``add`` or ``mul`` goes lane by lane in order; with
``fastmath<reassoc>``, and for every other kind, it is a tree of halves, lanes ``i`` and ``i + n/2`` first, which is the
order of the machine code::

    vector.reduction <add>, %v fastmath<reassoc> : vector<4xf32> into f32        (v0 + v2) + (v1 + v3)
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, cast

import numpy as np
from xdsl.dialects import vector
from xdsl.dialects.builtin import ShapedType
from xdsl.ir import Attribute, Operation

from crosstile.dialects.arith_meaning import float_maximum, float_minimum
from crosstile.dialects.element_types import Array, dtype_of
from crosstile.dialects.interpreter import Interpreter, Meanings
from crosstile.dialects.memory_meaning import check_indices
from crosstile.dialects.vector import ConstantMaskOp
from crosstile.ir.diagnostics import op_error
from crosstile.targets.fma import fma

MEANINGS = Meanings()


def length(type_: Attribute) -> int:
    """The number of lanes of a rank-1 vector type."""
    return cast(ShapedType, type_).get_shape()[0]


def _row(op: Operation, source: Array, indices: Sequence[int], lanes: Array) -> tuple[Array, Array]:
    """The innermost row of ``source`` that ``indices`` starts in, and the places there of the set ``lanes``."""
    *outer, start = indices
    places = start + np.flatnonzero(lanes)
    check_indices(op, source.shape[:-1], outer)
    for place in places[:1].tolist() + places[-1:].tolist():
        check_indices(op, source.shape, [*outer, place])
    return source[tuple(outer)], places


@MEANINGS.of(vector.LoadOp)
def load(interpreter: Interpreter, op: vector.LoadOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Consecutive elements of the innermost dimension."""
    source, *indices = operands
    row, places = _row(op, source, indices, np.ones(length(op.result.type), np.bool_))
    return (row[places],)


@MEANINGS.of(vector.StoreOp)
def store(interpreter: Interpreter, op: vector.StoreOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Consecutive elements of the innermost dimension."""
    value, target, *indices = operands
    row, places = _row(op, target, indices, np.ones(len(value), np.bool_))
    row[places] = value
    return ()


@MEANINGS.of(vector.MaskedLoadOp)
def masked_load(interpreter: Interpreter, op: vector.MaskedLoadOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The lanes whose bit is set; the others keep the element of the last operand."""
    source, *indices, mask, otherwise = operands
    row, places = _row(op, source, indices, mask)
    result = otherwise.copy()
    result[mask] = row[places]
    return (result,)


@MEANINGS.of(vector.MaskedStoreOp)
def masked_store(interpreter: Interpreter, op: vector.MaskedStoreOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The lanes whose bit is set."""
    target, *indices, mask, value = operands
    row, places = _row(op, target, indices, mask)
    row[places] = value[mask]
    return ()


@MEANINGS.of(vector.BroadcastOp)
def broadcast(interpreter: Interpreter, op: vector.BroadcastOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The scalar, or the only lane, in every lane."""
    return (np.array(np.broadcast_to(np.asarray(operands[0]), (length(op.vector.type),))),)


@MEANINGS.of(vector.FMAOp)
def fused(interpreter: Interpreter, op: vector.FMAOp, operands: Sequence[Any]) -> Sequence[Any]:
    """``lhs * rhs + acc``, rounded once."""
    lhs, rhs, accumulator = operands
    return (fma(lhs, rhs, accumulator),)


@MEANINGS.of(vector.CreateMaskOp)
def create_mask(interpreter: Interpreter, op: vector.CreateMaskOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The lanes below the operand."""
    return (np.arange(length(op.mask_vector.type)) < operands[0],)


@MEANINGS.of(ConstantMaskOp)
def constant_mask(interpreter: Interpreter, op: ConstantMaskOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The lanes below the constant."""
    return (np.arange(length(op.mask.type)) < op.mask_dim_sizes.get_values()[0],)


def _position(op: vector.ExtractOp | vector.InsertOp, source: Array, dynamic: Sequence[int]) -> int:
    (position,) = op.get_mixed_position()
    return check_indices(op, source.shape, [position if isinstance(position, int) else dynamic[0]])[0]


@MEANINGS.of(vector.ExtractOp)
def extract(interpreter: Interpreter, op: vector.ExtractOp, operands: Sequence[Any]) -> Sequence[Any]:
    """One lane."""
    source, *dynamic = operands
    return (source[_position(op, source, dynamic)],)


@MEANINGS.of(vector.InsertOp)
def insert(interpreter: Interpreter, op: vector.InsertOp, operands: Sequence[Any]) -> Sequence[Any]:
    """A copy with one lane replaced."""
    value, target, *dynamic = operands
    result = target.copy()
    result[_position(op, target, dynamic)] = value
    return (result,)


@MEANINGS.of(vector.ShuffleOp)
def shuffle(interpreter: Interpreter, op: vector.ShuffleOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Lanes of the two operands one after the other; poison is not allowed."""
    positions = np.array(op.mask.get_values())
    if (positions < 0).any():
        raise op_error(op, "'vector.shuffle' asks for a lane of poison (-1), which has no value")
    return (np.concatenate(list(operands))[positions],)


@MEANINGS.of(vector.BitcastOp)
def bitcast(interpreter: Interpreter, op: vector.BitcastOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The same bits as lanes of another type; lane 0 holds the lowest bits, as on a little-endian machine."""
    element = cast(Attribute, cast(ShapedType, op.result.type).get_element_type())  # pyright: ignore
    return (operands[0].view(dtype_of(element)),)


_KINDS: Mapping[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "mul": operator.mul,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "minsi": np.minimum,
    "maxsi": np.maximum,
    "minui": lambda a, b: np.minimum(_unsigned(a), _unsigned(b)).view(a.dtype),
    "maxui": lambda a, b: np.maximum(_unsigned(a), _unsigned(b)).view(a.dtype),
    "minnumf": np.fmin,
    "maxnumf": np.fmax,
    "minimumf": float_minimum,
    "maximumf": float_maximum,
}


def _unsigned(value: Array) -> Array:
    return value.view(f"u{value.dtype.itemsize}")


@MEANINGS.of(vector.ReductionOp)
def reduction(interpreter: Interpreter, op: vector.ReductionOp, operands: Sequence[Any]) -> Sequence[Any]:
    """In order for sums and products of floats that may not be reassociated, else a tree of halves."""
    value, *start = operands
    kind = str(op.kind.data)
    combine = _KINDS[kind]
    ordered = value.dtype.kind not in "bi" and kind in ("add", "mul")
    if ordered and "reassoc" not in {str(flag) for flag in op.fastmath.data}:
        return (reduce(combine, [*start, *value]),)
    while len(value) > 1 and len(value) % 2 == 0:
        low, high = np.split(value, 2)
        value = combine(low, high)
    total = reduce(combine, list(value))
    return (combine(total, start[0]) if start else total,)
