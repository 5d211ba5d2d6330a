"""An independent float32 execution of ``nn`` programs: one NumPy operation at a time, in a chosen order of summation.

``run_float32(module, symbol, inputs, Execution(...))`` decomposes a copy of the module and rounds after each operation.
An ``Execution`` can also be wrong in one of the ways that an error bound must see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp

from crosstile.dialects.interpreter import Interpreter, Meanings
from crosstile.dialects.math_meaning import erf
from crosstile.dialects.nn.contraction import ContractOp
from crosstile.dialects.nn.convolution import Conv2dOp
from crosstile.dialects.nn.convolution_meaning import filters, merged, patches
from crosstile.dialects.nn.elementwise import BinaryOp, UnaryOp
from crosstile.dialects.nn.meaning import MEANINGS as NN
from crosstile.dialects.nn.reduction import ReduceOp
from crosstile.dialects.upstream_meaning import MEANINGS as UPSTREAM
from crosstile.ir.context import make_context
from crosstile.ir.passes import run_pass
from crosstile.passes.decompose import DecomposePass

Array = NDArray[Any]


@dataclass(frozen=True)
class Execution:
    """How sums run: ``order`` of a reduction (sequential, numpy, interleaved), whether products are fused.

    ``drop_last`` leaves out the last step of every sum and ``bfloat16`` rounds every partial sum to bf16: both wrong.
    """

    order: str = "sequential"
    fused: bool = False
    drop_last: bool = False
    bfloat16: bool = False


def run_float32(module: ModuleOp, symbol: str, inputs: Sequence[Any], execution: Execution) -> tuple[Any, ...]:
    """The results of ``symbol`` on float32 ``inputs``."""
    copy = module.clone()
    run_pass(make_context(), copy, DecomposePass())
    return Interpreter(copy, UPSTREAM, NN, _meanings(execution)).call(symbol, inputs)


_UNARY: dict[str, Callable[[Array], Array]] = {
    "nn.neg": np.negative,
    "nn.abs": np.abs,
    "nn.exp": np.exp,
    "nn.log": np.log,
    "nn.tanh": np.tanh,
    "nn.erf": erf,
    "nn.sqrt": np.sqrt,
    "nn.rsqrt": lambda x: 1 / np.sqrt(x),
}
_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "nn.add": np.add,
    "nn.sub": np.subtract,
    "nn.mul": np.multiply,
    "nn.div": np.divide,
    "nn.max": np.maximum,
    "nn.min": np.minimum,
}


def _meanings(execution: Execution) -> Meanings:
    meanings = Meanings()

    @meanings.of(UnaryOp)
    def unary(interpreter: Interpreter, op: UnaryOp, operands: Sequence[Any]) -> Sequence[Any]:
        return (_UNARY[op.name](operands[0].astype(np.float64)).astype(operands[0].dtype),)

    @meanings.of(BinaryOp)
    def binary(interpreter: Interpreter, op: BinaryOp, operands: Sequence[Any]) -> Sequence[Any]:
        return (_BINARY[op.name](*operands),)

    @meanings.of(ContractOp)
    def contract(interpreter: Interpreter, op: ContractOp, operands: Sequence[Any]) -> Sequence[Any]:
        *batches, m, n, k = range(op.maps[0].num_dims)
        assert op.positions[2] == (*batches, m, n)
        lhs = along(operands[0], op.positions[0], (*batches, m, k))
        rhs = along(operands[1], op.positions[1], (*batches, k, n))
        shared = np.broadcast_shapes(lhs.shape[:-2], rhs.shape[:-2])
        lhs, rhs = (np.broadcast_to(array, (*shared, *array.shape[-2:])) for array in (lhs, rhs))
        result = np.empty((*lhs.shape[:-1], rhs.shape[-1]), lhs.dtype)
        for batch in np.ndindex(*shared):
            result[batch] = matrix_product(lhs[batch], rhs[batch], execution)
        return (result,)

    @meanings.of(Conv2dOp)
    def conv2d(interpreter: Interpreter, op: Conv2dOp, operands: Sequence[Any]) -> Sequence[Any]:
        x, f = patches(op, operands[0], operands[1].shape), filters(op, operands[1])
        batch, groups, height, width, *_ = x.shape
        result = np.empty((batch, height, width, groups, f.shape[1]), x.dtype)
        for group in range(groups):
            lhs = x[:, group].reshape(batch * height * width, -1 if x.size else f[0, 0].size)
            product = matrix_product(lhs, f[group].reshape(f.shape[1], -1).T, execution)
            result[..., group, :] = product.reshape(batch, height, width, -1 if product.size else f.shape[1])
        if op.layout.data == "nchw":
            result = np.transpose(result, (0, 3, 4, 1, 2))
        return (merged(op, result),)

    @meanings.of(ReduceOp)
    def reduce(interpreter: Interpreter, op: ReduceOp, operands: Sequence[Any]) -> Sequence[Any]:
        (dim,) = op.reduced_dims
        rows = np.moveaxis(operands[0], dim, -1)
        if op.kind.data == "max":
            result = np.max(rows, axis=-1, initial=-np.inf).astype(rows.dtype)
        else:
            result = row_sums(rows, execution)
        return (np.expand_dims(result, dim) if op.keep_dims is not None else result,)

    return meanings


def along(array: Array, axes: Sequence[int], order: Sequence[int]) -> Array:
    """``array``, whose dimensions are the iterators ``axes``, in ``order``, with size 1 along those it lacks."""
    ordered = np.transpose(array, [axes.index(axis) for axis in order if axis in axes])
    return np.expand_dims(ordered, [position for position, axis in enumerate(order) if axis not in axes])


def matrix_product(lhs: Array, rhs: Array, execution: Execution) -> Array:
    """``lhs @ rhs`` in the type of the operands."""
    if execution.drop_last:
        lhs, rhs = lhs[:, :-1], rhs[:-1]
    if execution.order == "numpy" and not execution.bfloat16:
        return lhs @ rhs
    total = np.zeros((lhs.shape[0], rhs.shape[1]), lhs.dtype)
    for k in range(lhs.shape[1]):
        column, row = lhs[:, k : k + 1], rhs[k : k + 1]
        # Products in float64 are exact; its one rounding before that to float32 hardly ever matters.
        total = (total + (column.astype(np.float64) if execution.fused else column) * row).astype(lhs.dtype)
        if execution.bfloat16:
            total = total.astype(ml_dtypes.bfloat16).astype(lhs.dtype)
    return total


def row_sums(rows: Array, execution: Execution) -> Array:
    """Sums along the last axis in the type of ``rows``."""
    if execution.drop_last:
        rows = rows[..., :-1]
    if execution.bfloat16:
        total = np.zeros(rows.shape[:-1], rows.dtype)
        for k in range(rows.shape[-1]):
            total = (total + rows[..., k]).astype(ml_dtypes.bfloat16).astype(rows.dtype)
        return total
    if execution.order == "numpy":
        return np.sum(rows, axis=-1, dtype=rows.dtype)
    if execution.order == "interleaved":
        chains = [row_sums(rows[..., lane::16], Execution()) for lane in range(16)]
        while len(chains) > 1:
            half = len(chains) // 2
            chains = [low + high for low, high in zip(chains[:half], chains[half:], strict=True)]
        return chains[0]
    start = np.zeros((*rows.shape[:-1], 1), rows.dtype)
    return np.cumsum(np.concatenate([start, rows], axis=-1), axis=-1, dtype=rows.dtype)[..., -1]
