"""How many operations a program asks for: what GFLOP/s are counted from.

In: a module at the nest level and the shapes of its inputs. Out: a number. Every float operation of a nest's body
counts one per point of the nest (an fma two, an elementary function one, constants, casts and selections none), and a
combiner one more; so a matrix product counts 2 M N K. Nothing is computed: the program runs on shapes::

    count_operations(program.at("nest"), "main", [(1000, 1001), (1001, 999)])        # 1_999_998_000
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from xdsl.dialects import arith, math, tensor
from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Operation
from xdsl.ir.affine import AffineDimExpr
from xdsl.utils.hints import isa

from crosstile.dialects.element_types import Array, dtype_of, is_float
from crosstile.dialects.interpreter import Interpreter, Meanings
from crosstile.dialects.nest.analysis import element_type
from crosstile.dialects.nest.generic import GenericOp
from crosstile.dialects.nest.kernel import CallOp, KernelOp
from crosstile.dialects.nest.meaning import concrete_sizes
from crosstile.dialects.nest.meaning import kernel as run_kernel
from crosstile.dialects.upstream_meaning import MEANINGS as UPSTREAM
from crosstile.tools.program import find_function

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
    interpreter.call(symbol, [_of_shape(shape, type_) for shape, type_ in zip(shapes, types, strict=True)])
    return interpreter.state(_Count).operations


def _of_shape(shape: Sequence[int], type_: Attribute) -> Array:
    element = type_.get_element_type() if isa(type_, TensorType) else type_
    return np.broadcast_to(np.zeros((), dtype_of(element)), tuple(shape))


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
    return (_of_shape([next(sizes) if size == -1 else size for size in type_.get_shape()], type_),)


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
