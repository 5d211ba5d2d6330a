"""What ``nn`` operations compute, in NumPy: exact up to float64, rounded once to the type of the result.

``Interpreter(module, UPSTREAM, NN).call("main", arrays)`` runs a program. This level says what is computed and not in
which order, so an operation is evaluated in float64 and rounded once; what follows from the order is for the levels
below. Given float64 arrays in place of f32 ones, nothing is rounded: that is the *reference* of a program, and
``reference`` evaluates it::

    reference(module, "main", [x, w])      # arrays of the program's types, or wider; float64 results

Two sizes that the types call ``?`` are assumed equal; an array that breaks this is a CrosstileError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from xdsl.dialects.builtin import DYNAMIC_INDEX, ModuleOp
from xdsl.ir import Attribute, Operation

from crosstile.dialects.arith_meaning import dense_array, float_maximum, float_minimum
from crosstile.dialects.element_types import Array, dtype_of, is_float
from crosstile.dialects.interpreter import Interpreter, Meaning, Meanings
from crosstile.dialects.math_meaning import erf
from crosstile.dialects.nn import attention, contraction, elementwise, reduction, reshaping
from crosstile.dialects.nn.convolution import Conv2dOp
from crosstile.dialects.nn.convolution_meaning import filters, merged, patches, positions
from crosstile.dialects.nn.shapes import tensor_of
from crosstile.ir.diagnostics import CrosstileError

MEANINGS = Meanings()

_erfc = np.frompyfunc(math.erfc, 1, 1)


@dataclass
class Precision:
    """Whether floats stay float64 whatever the types say."""

    reference: bool = False


def reference(module: ModuleOp, symbol: str, arguments: Sequence[Any]) -> tuple[Any, ...]:
    """The results of ``symbol`` in float64, without any rounding to the program's types but that of its constants."""
    from crosstile.dialects.upstream_meaning import MEANINGS as UPSTREAM

    interpreter = Interpreter(module, UPSTREAM, MEANINGS)
    with interpreter.state_as(Precision(reference=True)):
        return interpreter.call(symbol, [_widened(argument) for argument in arguments])


def _widened(value: Any) -> Any:
    array = np.asarray(value)
    return array.astype(np.float64) if array.ndim and is_float(array.dtype) else value


def _result_dtype(interpreter: Interpreter, op: Operation, operands: Sequence[Any]) -> np.dtype[Any]:
    """The type to round to: the result's, or float64 if the reference is being computed."""
    element = dtype_of(tensor_of(op.results[0]).element_type)
    if not is_float(element):
        return element
    wide = interpreter.state(Precision).reference or any(
        np.asarray(value).dtype == np.float64 and dtype_of(tensor_of(operand).element_type) != np.float64
        for operand, value in zip(op.operands, operands, strict=True)
        if is_float(np.asarray(value).dtype)
    )
    return np.dtype(np.float64) if wide else element


def _exact(value: Any) -> Array:
    """Floats in float64, integers as they are."""
    array = np.asarray(value)
    return array.astype(np.float64, copy=False) if is_float(array.dtype) else array


def _computed(function: Callable[..., Any]) -> Meaning:
    """The meaning that applies ``function(op, *exact operands)`` and rounds once."""

    def meaning(interpreter: Interpreter, op: Operation, operands: Sequence[Any]) -> Sequence[Any]:
        result = np.asarray(function(op, *map(_exact, operands)))
        return (result.astype(_result_dtype(interpreter, op, operands), copy=False),)

    return meaning


# Elementwise


@MEANINGS.of(elementwise.ConstantOp)
def constant(interpreter: Interpreter, op: elementwise.ConstantOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The array that the attribute spells out."""
    return (dense_array(op.value).astype(_result_dtype(interpreter, op, operands), copy=False),)


def _relu(x: Array) -> Array:
    return float_maximum(x, np.zeros((), x.dtype))


def _gelu(op: elementwise.GeluOp, x: Array) -> Array:
    if op.approximate.data == "tanh":
        return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    # The complement keeps its digits where the error function is near -1.
    return 0.5 * x * np.asarray(_erfc(-x * math.sqrt(0.5)), np.float64)


_UNARY: dict[type[Operation], Callable[[Any], Any]] = {
    elementwise.NegOp: np.negative,
    elementwise.AbsOp: np.abs,
    elementwise.ExpOp: np.exp,
    elementwise.LogOp: np.log,
    elementwise.TanhOp: np.tanh,
    elementwise.ErfOp: erf,
    elementwise.SqrtOp: np.sqrt,
    elementwise.RsqrtOp: lambda x: 1.0 / np.sqrt(x),
    elementwise.ReluOp: _relu,
    elementwise.SigmoidOp: lambda x: 1.0 / (1.0 + np.exp(-x)),
    elementwise.SiluOp: lambda x: x / (1.0 + np.exp(-x)),
}
_BINARY: dict[type[Operation], Callable[[Any, Any], Any]] = {
    elementwise.AddOp: np.add,
    elementwise.SubOp: np.subtract,
    elementwise.MulOp: np.multiply,
    elementwise.DivOp: np.divide,
    elementwise.MaxOp: float_maximum,
    elementwise.MinOp: float_minimum,
}


def _unary_meaning(function: Callable[[Any], Any]) -> Meaning:
    def apply(op: Operation, x: Array) -> Any:
        return function(x)

    return _computed(apply)


def _binary_meaning(function: Callable[[Any, Any], Any]) -> Meaning:
    def checked(op: elementwise.BinaryOp, lhs: Array, rhs: Array) -> Any:
        check_broadcast(op, (lhs.shape, rhs.shape))
        return function(lhs, rhs)

    return _computed(checked)


for _op, _unary in _UNARY.items():
    MEANINGS[_op] = _unary_meaning(_unary)
for _op, _binary in _BINARY.items():
    MEANINGS[_op] = _binary_meaning(_binary)
MEANINGS[elementwise.GeluOp] = _computed(_gelu)


@MEANINGS.of(elementwise.CastOp)
def cast_meaning(interpreter: Interpreter, op: elementwise.CastOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Floats become integers toward zero; i1 counts as 0 or 1, and is whether a number is not zero."""
    (x,) = operands
    to = _result_dtype(interpreter, op, operands)
    if to == np.bool_:
        return (np.asarray(x) != 0,)
    exact = _exact(x)
    if is_float(exact.dtype) and not is_float(to):
        exact = np.trunc(exact).astype(np.int64)
    return (exact.astype(to, copy=False),)


# Contractions


def _contract(op: contraction.ContractOp, lhs: Array, rhs: Array) -> Array:
    positions = op.positions
    names = op.iterator_names
    sizes: dict[int, int] = {}
    for operand, array in enumerate((lhs, rhs)):
        for iterator, size in zip(positions[operand], array.shape, strict=True):
            if sizes.setdefault(iterator, size) != size:
                raise CrosstileError(f"iterator '{names[iterator]}' has size {sizes[iterator]} and size {size}")
    return contract(*_factors(op, lhs, rhs), positions)


def _factors(op: contraction.ContractOp | contraction.MatrixProductOp, lhs: Array, rhs: Array) -> tuple[Array, Array]:
    """The operands as they are multiplied: integers in the accumulator type, with or without a sign."""
    if is_float(lhs.dtype):
        return lhs, rhs
    wide = dtype_of(op.accumulator_type)
    pairs = zip((lhs, rhs), (op.unsigned_a, op.unsigned_b), strict=True)
    left, right = (
        (array if mark is None else array.view(f"u{array.dtype.itemsize}")).astype(wide) for array, mark in pairs
    )
    return left, right


def contract(lhs: Array, rhs: Array, positions: Sequence[tuple[int, ...]]) -> Array:
    """The sum of products over the iterators that ``positions`` (lhs, rhs, result) has not in its last entry."""
    # optimize=True hands what is a matrix product to BLAS.
    return np.einsum(lhs, list(positions[0]), rhs, list(positions[1]), list(positions[2]), optimize=True)


def _matmul(op: contraction.MatrixProductOp, lhs: Array, rhs: Array) -> Array:
    lhs = np.swapaxes(lhs, -1, -2) if op.transpose_a is not None else lhs
    rhs = np.swapaxes(rhs, -1, -2) if op.transpose_b is not None else rhs
    if lhs.shape[-1] != rhs.shape[-2]:
        raise CrosstileError(f"the summed dimension (K) has size {lhs.shape[-1]} in lhs and {rhs.shape[-2]} in rhs")
    if lhs.shape[:-2] != rhs.shape[:-2]:
        found = ["x".join(map(str, array.shape[:-2])) for array in (lhs, rhs)]
        raise CrosstileError(f"the batches have the sizes {found[0]} in lhs and {found[1]} in rhs; they must be equal")
    left, right = _factors(op, np.ascontiguousarray(lhs), np.ascontiguousarray(rhs))
    return left @ right


def _conv2d(op: Conv2dOp, image: Array, filter_: Array) -> Array:
    return merged(op, contract(patches(op, image, filter_.shape), filters(op, filter_), positions(op)))


MEANINGS[Conv2dOp] = _computed(_conv2d)
MEANINGS[contraction.ContractOp] = _computed(_contract)
for _op in (contraction.MatmulOp, contraction.BatchMatmulOp):
    MEANINGS[_op] = _computed(_matmul)


# Rows


def maximum_along(x: Array, dims: tuple[int, ...]) -> Array:
    """The maximum along ``dims``, which are kept; the least value of the type where there is no element."""
    least = -np.inf if is_float(x.dtype) else np.iinfo(x.dtype).min
    return cast(Array, np.max(x, axis=dims, keepdims=True, initial=least))


def _reduce(op: reduction.ReduceOp, x: Array) -> Array:
    dims = op.reduced_dims
    if op.kind.data == "max":
        kept = maximum_along(x, dims)
    else:
        kept = cast(Array, np.sum(x, axis=dims, keepdims=True, dtype=x.dtype))
    return kept if op.keep_dims is not None else np.squeeze(kept, dims)


def _softmax(op: reduction.SoftmaxOp, x: Array) -> Array:
    dim = op.dim.value.data
    exponential = np.exp(x - maximum_along(x, (dim,)))
    return exponential / np.sum(exponential, axis=dim, keepdims=True)


def _layer_norm(op: reduction.LayerNormOp, x: Array, gamma: Array, beta: Array) -> Array:
    if not x.shape[-1] == gamma.shape[0] == beta.shape[0]:
        raise CrosstileError(
            f"the last dimension has size {x.shape[-1]}, gamma has {gamma.shape[0]} and beta {beta.shape[0]}"
        )
    if not x.size:
        return x
    centred = x - np.mean(x, axis=-1, keepdims=True)
    variance = np.mean(centred**2, axis=-1, keepdims=True)
    return centred / np.sqrt(variance + op.epsilon.value.data) * gamma + beta


def _rms_norm(op: reduction.RmsNormOp, x: Array, gamma: Array) -> Array:
    if x.shape[-1] != gamma.shape[0]:
        raise CrosstileError(f"the last dimension has size {x.shape[-1]}, and gamma has {gamma.shape[0]}")
    if not x.size:
        return x
    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + op.epsilon.value.data) * gamma


def hidden(shape: Sequence[int]) -> Array:
    """Where ``nn.causal_mask`` hides elements of matrices of ``shape``."""
    rows, columns = shape[-2:]
    return np.arange(columns) - columns > np.arange(rows)[:, np.newaxis] - rows


def _causal_mask(op: attention.CausalMaskOp, x: Array) -> Array:
    return np.where(hidden(x.shape), -np.inf, x)


def _attention(op: attention.AttentionOp, query: Array, key: Array, value: Array, *bias: Array) -> Array:
    batch, heads, _, size = query.shape
    if not (key.shape[0] == value.shape[0] == batch and key.shape[1:3] == value.shape[1:3] and key.shape[3] == size):
        shapes = ["x".join(map(str, array.shape)) for array in (query, key, value)]
        raise CrosstileError(f"a query of {shapes[0]}, a key of {shapes[1]} and a value of {shapes[2]} do not fit")
    repeats = 1 if op.group is None else op.group[1]
    if heads != key.shape[1] * repeats:
        raise CrosstileError(f"the query has {heads} heads and the key {key.shape[1]}, each for {repeats}")
    key, value = (np.repeat(array, repeats, axis=1) for array in (key, value))
    scores = op.factor * (query @ np.swapaxes(key, -1, -2))
    if bias:
        check_bias(op, bias[0].shape, scores.shape)
        scores = scores + bias[0]
    if op.causal is not None:
        scores = np.where(hidden(scores.shape), -np.inf, scores)
    maximum = maximum_along(scores, (3,))
    weights = np.exp(scores - np.where(np.isneginf(maximum), 0.0, maximum))
    total = np.sum(weights, axis=3, keepdims=True)
    return weights / np.where(total == 0.0, 1.0, total) @ value


def check_bias(op: attention.AttentionOp, bias: Sequence[int], scores: Sequence[int]) -> None:
    """Raise unless a bias of shape ``bias`` is what its type promises to scores of shape ``scores``."""
    static = _reversed_shape(op.operands[3].type)
    for known, size, expected in zip(static, reversed(bias), reversed(scores), strict=False):
        if known != 1 and size != expected:
            found = ["x".join(map(str, shape)) for shape in (bias, scores)]
            raise CrosstileError(f"a bias of {found[0]} is no bias of scores of {found[1]}")


MEANINGS[reduction.ReduceOp] = _computed(_reduce)
MEANINGS[reduction.SoftmaxOp] = _computed(_softmax)
MEANINGS[reduction.LayerNormOp] = _computed(_layer_norm)
MEANINGS[reduction.RmsNormOp] = _computed(_rms_norm)
MEANINGS[attention.CausalMaskOp] = _computed(_causal_mask)
MEANINGS[attention.AttentionOp] = _computed(_attention)


# Shapes


@MEANINGS.of(reshaping.TransposeOp)
def transpose(interpreter: Interpreter, op: reshaping.TransposeOp, operands: Sequence[Any]) -> Sequence[Any]:
    """A view with its dimensions in the new order."""
    return (np.transpose(operands[0], op.order),)


@MEANINGS.of(reshaping.ReshapeOp)
def reshape(interpreter: Interpreter, op: reshaping.ReshapeOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The elements in row-major order in the shape of the result."""
    x, *sizes = operands
    return (np.reshape(x, reshaped_shape(op, np.shape(x), sizes)),)


def reshaped_shape(op: reshaping.ReshapeOp, shape: Sequence[int], sizes: Sequence[int]) -> tuple[int, ...]:
    """The shape of the result of ``op`` on an operand of ``shape``."""
    written = list(tensor_of(op.result).get_shape())
    count = math.prod(shape)
    given = iter(sizes)
    if sizes:
        written = [int(next(given)) if size == DYNAMIC_INDEX else size for size in written]
    elif DYNAMIC_INDEX in written:
        rest = math.prod(size for size in written if size != DYNAMIC_INDEX)
        written[written.index(DYNAMIC_INDEX)] = count // rest
    if min(written, default=0) < 0 or math.prod(written) != count:
        found = "x".join(map(str, shape))
        raise CrosstileError(f"cannot give {count} elements (shape {found}) the shape {'x'.join(map(str, written))}")
    return tuple(written)


@MEANINGS.of(reshaping.BroadcastOp)
def broadcast(interpreter: Interpreter, op: reshaping.BroadcastOp, operands: Sequence[Any]) -> Sequence[Any]:
    """A read-only view in which dimensions are repeated."""
    x, *sizes = operands
    return (broadcast_array(op, x, sizes),)


def broadcast_array(op: reshaping.BroadcastOp, x: Any, sizes: Sequence[int]) -> Array:
    """``x`` repeated as ``op`` says."""
    shape = list(tensor_of(op.result).get_shape())
    spread = [1] * len(shape)
    for dim, size in zip(op.result_dims, np.shape(x), strict=True):
        spread[dim] = size
    sized = dict(zip(op.sized_dims, sizes, strict=True))
    for dim, size in enumerate(shape):
        if size == DYNAMIC_INDEX:
            shape[dim] = int(sized.get(dim, spread[dim]))
    if min(shape, default=0) < 0:
        raise CrosstileError(f"cannot broadcast to the shape {'x'.join(map(str, shape))}")
    return np.broadcast_to(np.reshape(x, spread), shape)


def check_broadcast(op: Operation, shapes: Sequence[tuple[int, ...]]) -> None:
    """Raise unless arrays of ``shapes`` are what the types of ``op``'s operands promise: only a static 1 stretches."""
    found: dict[int, int] = {}
    for operand, shape in zip(op.operands, shapes, strict=True):
        for from_last, (static, size) in enumerate(zip(_reversed_shape(operand.type), reversed(shape), strict=True)):
            if static != 1 and found.setdefault(from_last, size) != size:
                raise CrosstileError(
                    f"dimension -{from_last + 1} has size {found[from_last]} in one operand and {size} in another; "
                    "only a 1 that the type states is broadcast"
                )


def _reversed_shape(type_: Attribute) -> tuple[int, ...]:
    return tuple(reversed(cast(Any, type_).get_shape()))
