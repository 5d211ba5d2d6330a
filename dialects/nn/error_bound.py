"""How far a result may be from the exact one: a forward error bound of every element, derived from the program.

In: an ``nn`` program and its inputs. Out: for every result its reference in float64 and the largest error that the
program's arithmetic can make, elementwise::

    for found, (expected, bound) in zip(results, bound_program(module, "main", inputs)):
        comparison = compare(found, expected, bound)          # comparison.right, .tightness, .worst_element, ...

The bound comes from the program (element types, accumulator types, lengths of sums, ``fastmath``), from the accuracy of
the elementary functions (``dialects/math_accuracy.py``) and from the values at hand, operation by operation. It is not
a tolerance: it holds for every execution that rounds as the types say, in the orders the flags allow, and a result
outside of it is wrong. docs/numerics.md explains how tight it is and what it rejects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from xdsl.dialects import tensor
from xdsl.dialects.arith import FastMathFlagsAttr
from xdsl.dialects.builtin import ModuleOp, StringAttr, bf16, f32
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Attribute, Operation, SSAValue

from crosstile.dialects.arith_meaning import dense_array
from crosstile.dialects.element_types import Array, dtype_of
from crosstile.dialects.interpreter import Interpreter, Meanings
from crosstile.dialects.nn import bounded, bounded_sums, composites
from crosstile.dialects.nn.attention import AttentionOp, CausalMaskOp
from crosstile.dialects.nn.bounded import Bounded, Format, exactly, format_of, format_of_dtype
from crosstile.dialects.nn.contraction import BatchMatmulOp, ContractOp, MatmulOp, MatrixProductOp, positions_of
from crosstile.dialects.nn.convolution import Conv2dOp
from crosstile.dialects.nn.convolution_meaning import filters, merged, patches, positions
from crosstile.dialects.nn.elementwise import (
    BinaryOp,
    CastOp,
    ConstantOp,
    GeluOp,
    ReluOp,
    SigmoidOp,
    SiluOp,
    UnaryOp,
)
from crosstile.dialects.nn.meaning import broadcast_array, hidden, reference, reshaped_shape
from crosstile.dialects.nn.reduction import LayerNormOp, ReduceOp, RmsNormOp, SoftmaxOp
from crosstile.dialects.nn.reshaping import BroadcastOp, ReshapeOp, TransposeOp
from crosstile.dialects.nn.shapes import computation_type, is_float8, least_finite, tensor_of
from crosstile.dialects.precision import FAST_ACCUMULATION, TF32
from crosstile.dialects.upstream_meaning import MEANINGS as UPSTREAM


def bound_program(module: ModuleOp, symbol: str, inputs: Sequence[Any]) -> list[tuple[Array, Array]]:
    """For every result of the function ``symbol`` on ``inputs``: the reference and the bound, float64 arrays.

    Inputs are arrays of the program's types. A bound is infinite where the arithmetic does not determine the element,
    and 0 where the reference is infinite or NaN and nothing else may be computed.
    """
    expected = reference(module, symbol, inputs)
    arguments = [exactly(value) if np.ndim(value) or isinstance(value, np.ndarray) else value for value in inputs]
    computed = Interpreter(module, UPSTREAM, BOUNDS).call(symbol, arguments)
    pairs: list[tuple[Array, Array]] = []
    for value, result in zip(expected, computed, strict=True):
        found = result if isinstance(result, Bounded) else exactly(result)
        array, error = np.array(value, np.float64), found.error
        if found.overflowed is not None:
            overflows = np.isinf(found.overflowed)
            array = np.where(overflows, np.copysign(np.inf, found.value), array)
            error = np.where(overflows, 0.0, error)
        pairs.append((array, error))
    return pairs


@dataclass(frozen=True)
class Comparison:
    """A result against its reference and bound: ``right`` if every element lies inside."""

    right: bool
    worst_element: tuple[int, ...] | None
    """The element with the largest share of its bound, or the first that is wrong; None if there are no elements."""
    error: float
    """The largest absolute error."""
    ulps: float
    """The largest error in units in the last place of the result's type, at the magnitude of the reference."""
    share: float
    """The largest error / bound; above 1, or infinite, if the result is wrong."""
    undetermined: int
    """The number of elements whose bound is infinite: anything is right there."""

    @property
    def tightness(self) -> float:
        """bound / error where they are closest: how many times less error would still be seen."""
        return 1.0 / self.share if self.share else float("inf")


def compare(result: Any, expected: Array, bound: Array) -> Comparison:
    """Compare ``result``, of the program's type, with the reference and bound of ``bound_program``."""
    found = np.asarray(result)
    if found.shape != expected.shape:
        raise ValueError(f"the result has shape {found.shape}, the reference {expected.shape}")
    if not found.size:
        return Comparison(True, None, 0.0, 0.0, 0.0, 0)
    wide = found.astype(np.float64)
    with np.errstate(all="ignore"):
        same = (wide == expected) | (np.isnan(wide) & np.isnan(expected))
        distance = np.where(same, 0.0, np.abs(wide - expected))
        distance = np.where(np.isnan(distance), np.inf, distance)
        open_ = np.isinf(bound)
        share = np.where(same | open_, 0.0, distance / bound)
        finite = np.isfinite(distance) & ~open_
        ulps = np.where(finite, distance / _unit_in_last_place(found.dtype, expected), 0.0)
    worst = tuple(int(index) for index in np.unravel_index(int(np.argmax(share)), share.shape))
    return Comparison(
        bool((share <= 1.0).all()),
        worst,
        float(np.max(np.where(open_, 0.0, distance))),
        float(np.max(ulps)),
        float(np.max(share)),
        int(np.count_nonzero(open_)),
    )


def _unit_in_last_place(dtype: np.dtype[Any], expected: Array) -> Array:
    format_ = format_of_dtype(dtype)
    if not format_.roundoff:
        return np.ones(expected.shape)
    magnitude = np.nan_to_num(np.abs(expected), posinf=1.0)
    exponent = np.floor(np.log2(np.maximum(magnitude, format_.smallest)))
    return np.maximum(np.exp2(exponent) * 2.0 * format_.roundoff, format_.smallest)


# What each operation does to bounds

BOUNDS = Meanings()

_UNARY: dict[str, Callable[[Format, Bounded], Bounded]] = {
    "neg": bounded.negate,
    "abs": bounded.absolute,
    "exp": bounded.exp,
    "log": bounded.log,
    "tanh": bounded.tanh,
    "erf": bounded.erf,
    "sqrt": bounded.square_root,
    "rsqrt": bounded.reciprocal_root,
}
_BINARY: dict[str, Callable[[Format, Bounded, Bounded], Bounded]] = {
    "add": bounded.add,
    "sub": bounded.subtract,
    "mul": bounded.multiply,
    "div": bounded.divide,
    "max": bounded.maximum,
    "min": bounded.minimum,
}


class BoundedPrimitives:
    """The primitives of ``composites`` on values with bounds, computed in ``element``, the operand's type if None."""

    def __init__(self, operand: SSAValue, fastmath: FastMathFlagsAttr, element: Attribute | None = None):
        self._operands = format_of(tensor_of(operand).element_type)
        element = element or tensor_of(operand).element_type
        self.format = format_of(element)
        self._dtype = dtype_of(element)
        self._reassoc = FastMathFlag.REASSOC in fastmath.data
        self._reciprocals = FastMathFlag.ALLOW_RECIP in fastmath.data
        self._approximates = FastMathFlag.APPROX_FUNC in fastmath.data

    def constant(self, value: float) -> Bounded:
        """Off by its rounding."""
        return Bounded(np.asarray(value), np.abs(np.asarray(value).astype(self._dtype).astype(np.float64) - value))

    def unary(self, name: str, x: Bounded) -> Bounded:
        """``nn.<name>``."""
        if name == "exp" and self._approximates:
            return bounded.approximate_exp(self.format, x)
        if name == "rsqrt" and self._approximates:
            return bounded.reciprocal_root(self.format, x, approximate=True)
        return _UNARY[name](self.format, x)

    def multiply_add(self, x: Bounded, factor: Bounded, summand: Bounded) -> Bounded:
        """``x * factor + summand``: rounding once errs by no more than rounding twice."""
        return self.binary("add", self.binary("mul", x, factor), summand)

    def exponential(self, x: Bounded) -> Bounded:
        """``nn.exp``, which with ``reassoc`` may be approximate."""
        return bounded.approximate_exp(self.format, x) if self._reassoc else self.unary("exp", x)

    def binary(self, name: str, lhs: Bounded, rhs: Bounded) -> Bounded:
        """``nn.<name>``."""
        if name == "div" and self._reciprocals:
            return self._scaled(lhs, rhs)
        return _BINARY[name](self.format, lhs, rhs)

    def quotient(self, lhs: Bounded, rhs: Bounded) -> Bounded:
        """``nn.div``, which with ``reassoc`` may be a product with a reciprocal."""
        return self._scaled(lhs, rhs) if self._reassoc else self.binary("div", lhs, rhs)

    def reciprocal_root(self, x: Bounded) -> Bounded:
        """``nn.rsqrt``, which with ``reassoc`` may be approximate."""
        return bounded.reciprocal_root(self.format, x, approximate=True) if self._reassoc else self.unary("rsqrt", x)

    def mean(self, x: Bounded, dim: int) -> Bounded:
        """A sum and a quotient by the number of elements, which is off by its rounding."""
        return self.quotient(self.reduce("add", x, dim), self.constant(float(x.shape[dim])))

    def _scaled(self, lhs: Bounded, rhs: Bounded) -> Bounded:
        """Rounded twice: the reciprocal, and the product."""
        return bounded.multiply(self.format, lhs, bounded.divide(self.format, self.constant(1.0), rhs))

    def reduce(self, kind: str, x: Bounded, dim: int) -> Bounded:
        """``nn.reduce <kind>`` along one dimension."""
        return self.reduce_dims(kind, x, (dim,))

    def widen(self, x: Bounded) -> Bounded:
        """``nn.cast``, exact."""
        return x

    def narrow(self, x: Bounded) -> Bounded:
        """``nn.cast`` if the types differ."""
        return x if self._operands == self.format else bounded.convert(self._operands, self.format, x)

    def shift(self, x: Bounded) -> Bounded:
        """Exact, unless it is so far off that what it shifts might overflow."""
        return Bounded(x.value, np.where(x.error < 1.0, 0.0, x.error), x.overflowed)

    def reduce_dims(self, kind: str, x: Bounded, dims: tuple[int, ...]) -> Bounded:
        """``nn.reduce <kind>`` along dimensions, which are kept."""
        if kind == "max":
            return bounded_sums.reduce_max(self.format, x, dims)
        return bounded_sums.reduce_add(self.format, x, dims, self._reassoc)


def bounded_causal_mask(x: Bounded) -> Bounded:
    """Minus infinity for certain where the mask hides an element."""
    mask = hidden(x.shape)
    overflowed = None if x.overflowed is None else np.where(mask, 0.0, x.overflowed)
    return Bounded(np.where(mask, -np.inf, x.value), np.where(mask, 0.0, x.error), overflowed)


class BoundedAttention(BoundedPrimitives):
    """The primitives of attention on values with bounds."""

    def __init__(self, op: AttentionOp):
        super().__init__(op.query, op.fastmath, op.accumulator_type)

    def contract(self, lhs: Bounded, rhs: Bounded, positions: Sequence[Sequence[int]], over_keys: bool) -> Bounded:
        """``nn.contract``."""
        result = self._operands if over_keys else self.format
        along = [tuple(iterators) for iterators in positions]
        return bounded_sums.contract(self.format, result, lhs, rhs, along, reassoc=False)

    def reshape(self, x: Bounded, shape: Sequence[composites.Size]) -> Bounded:
        """``nn.reshape``."""
        sizes = [x.shape[size.position] if isinstance(size, composites.Dim) else size for size in shape]
        return x.rearranged(lambda part: part.reshape(sizes))

    def shape(self, x: Bounded) -> Sequence[int]:
        """All sizes are known."""
        return x.shape

    def causal_mask(self, x: Bounded) -> Bounded:
        """``nn.causal_mask``."""
        return bounded_causal_mask(x)


@BOUNDS.of(AttentionOp)
def _attention(interpreter: Interpreter, op: AttentionOp, operands: Sequence[Any]) -> Sequence[Any]:
    query, key, value, *bias = operands
    added = bias[0] if bias else None
    least = least_finite(op.accumulator_type)
    causal = op.causal is not None
    on = BoundedAttention(op)
    return (composites.attention(on, (query, key, value), added, op.factor, causal, op.group, least),)


@BOUNDS.of(CausalMaskOp)
def _causal_mask(interpreter: Interpreter, op: CausalMaskOp, operands: Sequence[Any]) -> Sequence[Any]:
    return (bounded_causal_mask(operands[0]),)


@BOUNDS.of(ConstantOp)
def _constant(interpreter: Interpreter, op: ConstantOp, operands: Sequence[Any]) -> Sequence[Any]:
    return (exactly(dense_array(op.value)),)


@BOUNDS.of(UnaryOp)
def _unary(interpreter: Interpreter, op: UnaryOp, operands: Sequence[Any]) -> Sequence[Any]:
    match op:
        case ReluOp():
            return (composites.relu(BoundedPrimitives(op.operand, op.fastmath), operands[0]),)
        case SigmoidOp():
            return (composites.sigmoid(_composite(op.operand, op.fastmath), operands[0]),)
        case SiluOp():
            return (composites.silu(_composite(op.operand, op.fastmath), operands[0]),)
        case GeluOp():
            return (composites.gelu(_composite(op.operand, op.fastmath), operands[0], op.approximate.data),)
        case _:
            return (BoundedPrimitives(op.operand, op.fastmath).unary(_short_name(op), operands[0]),)


def _composite(operand: SSAValue, fastmath: FastMathFlagsAttr) -> BoundedPrimitives:
    return BoundedPrimitives(operand, fastmath, computation_type(tensor_of(operand).element_type))


@BOUNDS.of(BinaryOp)
def _binary(interpreter: Interpreter, op: BinaryOp, operands: Sequence[Any]) -> Sequence[Any]:
    return (BoundedPrimitives(op.lhs, op.fastmath).binary(_short_name(op), *operands),)


@BOUNDS.of(CastOp)
def _cast(interpreter: Interpreter, op: CastOp, operands: Sequence[Any]) -> Sequence[Any]:
    source, target = (format_of(tensor_of(value).element_type) for value in (op.operand, op.result))
    return (bounded.convert(target, source, operands[0]),)


def unsigned(operand: Bounded, dtype: np.dtype[Any]) -> Bounded:
    """Integers of ``dtype`` read without their sign."""
    range_ = 256.0**dtype.itemsize
    return Bounded(np.where(operand.value < 0, operand.value + range_, operand.value), operand.error)


@BOUNDS.of(MatmulOp, BatchMatmulOp, ContractOp)
def _contract(interpreter: Interpreter, op: MatrixProductOp | ContractOp, operands: Sequence[Any]) -> Sequence[Any]:
    positions = op.positions if isinstance(op, ContractOp) else positions_of(op.indexing_maps)
    accumulator, result = format_of(op.accumulator_type), format_of(tensor_of(op.result).element_type)
    reassoc = FastMathFlag.REASSOC in op.fastmath.data
    signs = op.unsigned_a, op.unsigned_b
    operands = [
        operand if mark is None else unsigned(operand, dtype_of(tensor_of(factor).element_type))
        for operand, factor, mark in zip(operands, (op.lhs, op.rhs), signs, strict=True)
    ]
    operands, in_blocks = factors_for(op.precision, operands)
    if op.precision is not None and op.precision.data == FAST_ACCUMULATION:
        accumulator = bounded_sums.cut_sums(accumulator)
    if is_float8(tensor_of(op.lhs).element_type) or (
        tensor_of(op.lhs).element_type == bf16 and op.accumulator_type == f32
    ):
        # Dot-product instructions read subnormal numbers as zero and write none, whatever the processor's mode. Tile
        # registers sum 32 products in two chains of their own.
        operands = [bounded_sums.flushed(operand) for operand in operands]
        accumulator = replace(accumulator, smallest=bounded_sums.SMALLEST_NORMAL)
        in_blocks = True
    return (bounded_sums.contract(accumulator, result, operands[0], operands[1], positions, reassoc, in_blocks),)


def factors_for(precision: StringAttr | None, factors: Sequence[Bounded]) -> tuple[list[Bounded], bool]:
    """The factors with what ``precision`` lets them lose, and whether their products may be summed in blocks."""
    if precision is None:
        return list(factors), False
    return [bounded_sums.cut_to_tf32(factor) if precision.data == TF32 else factor for factor in factors], True


@BOUNDS.of(Conv2dOp)
def _conv2d(interpreter: Interpreter, op: Conv2dOp, operands: Sequence[Any]) -> Sequence[Any]:
    image: Bounded = operands[0]
    filter_: Bounded = operands[1]
    accumulator, result = format_of(op.accumulator_type), format_of(tensor_of(op.result).element_type)
    x = image.rearranged(lambda part: patches(op, part, filter_.shape))
    f = filter_.rearranged(lambda part: filters(op, part))
    reassoc = FastMathFlag.REASSOC in op.fastmath.data
    (x, f), in_blocks = factors_for(op.precision, (x, f))
    return (
        bounded_sums.contract(accumulator, result, x, f, positions(op), reassoc, in_blocks).rearranged(
            lambda part: merged(op, part)
        ),
    )


@BOUNDS.of(ReduceOp)
def _reduce(interpreter: Interpreter, op: ReduceOp, operands: Sequence[Any]) -> Sequence[Any]:
    dims = op.reduced_dims
    kept = BoundedPrimitives(op.operand, op.fastmath).reduce_dims(op.kind.data, operands[0], dims)
    return (kept if op.keep_dims is not None else kept.rearranged(lambda part: np.squeeze(part, dims)),)


@BOUNDS.of(SoftmaxOp)
def _softmax(interpreter: Interpreter, op: SoftmaxOp, operands: Sequence[Any]) -> Sequence[Any]:
    return (composites.softmax(_composite(op.operand, op.fastmath), operands[0], op.dim.value.data),)


@BOUNDS.of(LayerNormOp)
def _layer_norm(interpreter: Interpreter, op: LayerNormOp, operands: Sequence[Any]) -> Sequence[Any]:
    x, gamma, beta = operands
    on = _composite(op.operand, op.fastmath)
    return (composites.layer_norm(on, x, gamma, beta, len(x.shape) - 1, op.epsilon.value.data),)


@BOUNDS.of(RmsNormOp)
def _rms_norm(interpreter: Interpreter, op: RmsNormOp, operands: Sequence[Any]) -> Sequence[Any]:
    x, gamma = operands
    on = _composite(op.operand, op.fastmath)
    return (composites.rms_norm(on, x, gamma, len(x.shape) - 1, op.epsilon.value.data),)


@BOUNDS.of(TransposeOp)
def _transpose(interpreter: Interpreter, op: TransposeOp, operands: Sequence[Any]) -> Sequence[Any]:
    x: Bounded = operands[0]
    return (x.rearranged(lambda part: np.transpose(part, op.order)),)


@BOUNDS.of(ReshapeOp)
def _reshape(interpreter: Interpreter, op: ReshapeOp, operands: Sequence[Any]) -> Sequence[Any]:
    x: Bounded = operands[0]
    shape = reshaped_shape(op, x.shape, operands[1:])
    return (x.rearranged(lambda part: part.reshape(shape)),)


@BOUNDS.of(BroadcastOp)
def _broadcast(interpreter: Interpreter, op: BroadcastOp, operands: Sequence[Any]) -> Sequence[Any]:
    x: Bounded = operands[0]
    return (x.rearranged(lambda part: broadcast_array(op, part, operands[1:])),)


@BOUNDS.of(tensor.DimOp)
def _dim(interpreter: Interpreter, op: tensor.DimOp, operands: Sequence[Any]) -> Sequence[Any]:
    return (operands[0].shape[operands[1]],)


@BOUNDS.of(tensor.FromElementsOp)
def _from_elements(interpreter: Interpreter, op: tensor.FromElementsOp, operands: Sequence[Any]) -> Sequence[Any]:
    return (exactly(np.reshape(np.asarray(operands), tensor_of(op.result).get_shape())),)


def _short_name(op: Operation) -> str:
    return op.name.removeprefix("nn.")
