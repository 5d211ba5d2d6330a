"""How many operations a program asks for: what GFLOP/s are counted from.

In: a module at the nest or the tile level and the shapes of its inputs. Out: a number. Every float operation of a
nest's body counts one per point of the nest (an fma two, an elementary function one, constants, casts and selections
none), and a combiner one more; so a matrix product counts 2 M N K. A tile program counts what lies inside the extents,
as often as the program computes it. Nothing is computed: the program runs on shapes::

    count_operations(program.at("nest"), "main", [(1000, 1001), (1001, 999)])        # 1_999_998_000
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, cast

import numpy as np
from xdsl.dialects import arith, math, memref, tensor
from xdsl.dialects.builtin import DYNAMIC_INDEX, MemRefType, ModuleOp, ShapedType, TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.ir.affine import AffineDimExpr
from xdsl.utils.hints import isa

from crosstile.dialects import tile
from crosstile.dialects.assembly import dense_values
from crosstile.dialects.element_types import Array, dtype_of, is_float
from crosstile.dialects.host import host_signature, is_host
from crosstile.dialects.interpreter import Interpreter, Meanings
from crosstile.dialects.nest.analysis import element_type
from crosstile.dialects.nest.generic import GenericOp
from crosstile.dialects.nest.kernel import CallOp, KernelOp
from crosstile.dialects.nest.meaning import concrete_sizes
from crosstile.dialects.nest.meaning import kernel as run_kernel
from crosstile.dialects.tile.meaning import MEANINGS as TILE
from crosstile.dialects.upstream_meaning import MEANINGS as UPSTREAM
from crosstile.tools.program import Program, find_function

SHAPES = Meanings()
"""Meanings on arrays that have a shape and no memory."""

_FREE = (
    arith.ConstantOp,
    arith.SelectOp,
    arith.ExtFOp,
    arith.TruncFOp,
    arith.SIToFPOp,
    arith.UIToFPOp,
    arith.BitcastOp,
)


class _Count:
    """The operations counted so far."""

    def __init__(self) -> None:
        self.operations = 0


def count_operations(module: ModuleOp, symbol: str, shapes: Sequence[Sequence[int]]) -> int:
    """The float operations of one run of the function ``symbol`` on inputs of ``shapes``."""
    interpreter = Interpreter(module, UPSTREAM, SHAPES)
    function: FuncOp = find_function(module, symbol)
    types = function.function_type.inputs
    all_shapes = [*shapes, *(host_signature(function).shapes_of_results(shapes) if is_host(function) else ())]
    interpreter.call(symbol, [_of_shape(shape, type_) for shape, type_ in zip(all_shapes, types, strict=True)])
    return interpreter.state(_Count).operations


def operations_of(program: Program, shapes: Sequence[Sequence[int]]) -> int | None:
    """The operations that ``program`` asks for; None if it starts below the levels they are counted at."""
    level = "nest" if program.start == "nn" else program.start
    if level not in ("nest", "tile"):
        return None
    return count_operations(program.at(level), program.entry, shapes)


def _of_shape(shape: Sequence[int], type_: Attribute) -> Array:
    assert isa(type_, TensorType[Attribute] | MemRefType[Attribute])
    return np.broadcast_to(np.zeros((), dtype_of(type_.element_type)), tuple(shape))


SHAPES.of(KernelOp)(run_kernel)


@SHAPES.of(CallOp)
def _call(interpreter: Interpreter, op: CallOp, operands: Sequence[Any]) -> Sequence[Any]:
    """A kernel kept as text: its operations are not known."""
    return [np.zeros(result.type.get_shape()) for result in op.results if isa(result.type, TensorType)]


@SHAPES.of(tensor.EmptyOp)
def _empty(interpreter: Interpreter, op: tensor.EmptyOp, operands: Sequence[Any]) -> Sequence[Any]:
    sizes = iter(operands)
    type_ = op.tensor.type
    assert isa(type_, TensorType)
    return (_of_shape([next(sizes) if size == DYNAMIC_INDEX else size for size in type_.get_shape()], type_),)


@SHAPES.of(GenericOp)
def _generic(interpreter: Interpreter, op: GenericOp, operands: Sequence[Any]) -> Sequence[Any]:
    sizes = concrete_sizes(op, operands)
    per_point = sum(_weight(inner) for inner in op.body.block.ops) + (op.combiner is not None)
    interpreter.state(_Count).operations += per_point * prod(sizes)
    shapes = [
        [sizes[expression.position] if isinstance(expression, AffineDimExpr) else 1 for expression in map_.results]
        for map_ in op.result_maps
    ]
    return [
        np.broadcast_to(np.zeros((), dtype_of(element_type(result))), tuple(shape))
        for shape, result in zip(shapes, op.results, strict=True)
    ]


def _weight(op: Operation) -> int:
    if not op.results or isinstance(op, _FREE):
        return 0
    if not is_float(dtype_of(op.results[0].type)):
        return 0
    return 2 if isinstance(op, math.FmaOp) else 1


# Tiles: a value is the extents of what it holds


SHAPES.update({kind: TILE[kind] for kind in (tile.DimOp, tile.ParallelOp, tile.ForOp, tile.LaunchOp)})


@SHAPES.of(memref.AllocOp)
def _alloc(interpreter: Interpreter, op: memref.AllocOp, operands: Sequence[Any]) -> Sequence[Any]:
    sizes = iter(operands)
    return (_of_shape([next(sizes) if size == -1 else size for size in op.memref.type.get_shape()], op.memref.type),)


@SHAPES.of(tile.WindowOp)
def _window(interpreter: Interpreter, op: tile.WindowOp, operands: Sequence[Any]) -> Sequence[Any]:
    extents = list(op.result.type.get_shape())
    given = operands[1 + len(op.indices) :]
    for dim, extent in zip(dense_values(op.extent_dims), given, strict=True):
        extents[dim] = extent
    return (tuple(extents),)


@SHAPES.of(tile.LoadOp, tile.StageOp, tile.MaskOp)
def _same(interpreter: Interpreter, op: Operation, operands: Sequence[Any]) -> Sequence[Any]:
    return operands[:1]


@SHAPES.of(tile.AllocOp, tile.SplatOp, tile.IotaOp, tile.ReshapeOp)
def _whole(interpreter: Interpreter, op: Operation, operands: Sequence[Any]) -> Sequence[Any]:
    return (_capacity(op.results[0]),)


@SHAPES.of(tile.TransposeOp)
def _transpose(interpreter: Interpreter, op: tile.TransposeOp, operands: Sequence[Any]) -> Sequence[Any]:
    return (tuple(operands[0][dim] for dim in dense_values(op.permutation)),)


@SHAPES.of(tile.StoreOp, memref.CopyOp)
def _nothing(interpreter: Interpreter, op: Operation, operands: Sequence[Any]) -> Sequence[Any]:
    return ()


@SHAPES.of(tile.ContractOp)
def _contract(interpreter: Interpreter, op: tile.ContractOp, operands: Sequence[Any]) -> Sequence[Any]:
    (m, depth), (_, n) = operands[0], operands[1]
    interpreter.state(_Count).operations += 2 * m * n * (operands[3] if len(operands) > 3 else depth)
    return ((m, n),)


@SHAPES.of(tile.MapOp)
def _map(interpreter: Interpreter, op: tile.MapOp, operands: Sequence[Any]) -> Sequence[Any]:
    extents = list(_capacity(op.result))
    for operand, value in zip(op.inputs, operands, strict=False):
        for dim, size in enumerate(_capacity(operand)):
            if size != 1:
                extents[dim] = min(extents[dim], value[dim])
    interpreter.state(_Count).operations += prod(extents) * sum(_weight(inner) for inner in op.body.block.ops)
    return (tuple(extents),)


@SHAPES.of(tile.ReduceOp)
def _reduce(interpreter: Interpreter, op: tile.ReduceOp, operands: Sequence[Any]) -> Sequence[Any]:
    interpreter.state(_Count).operations += prod(operands[0])
    return (tuple(1 if dim in op.reduced_dims else size for dim, size in enumerate(operands[0])),)


def _capacity(value: SSAValue) -> tuple[int, ...]:
    return cast(ShapedType, value.type).get_shape()
