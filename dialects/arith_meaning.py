"""The meaning of ``arith``: elementwise on arrays and on scalars alike, in the type of the operands.

Integers wrap at their width, ``i1`` is two's complement of one bit (true is -1 where an operation is signed), and
floats round to nearest even after each operation. Operands of a wider type than the text says (a float64 reference of
an f32 program) stay in that type::

    arith.addf %x, %y : f32        float32 arrays give a float32 array, float64 arrays a float64 array
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from xdsl.dialects import arith
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, FloatAttr, IndexType, IntegerAttr, IntegerType, ShapedType
from xdsl.ir import Attribute, Operation
from xdsl.utils.hints import isa

from crosstile.dialects.arith import IndexCastUIOp
from crosstile.dialects.element_types import Array, dtype_of, is_float
from crosstile.dialects.interpreter import Interpreter, Meaning, Meanings
from crosstile.ir.diagnostics import CrosstileError, op_error

MEANINGS = Meanings()

_INDEX_MASK = (1 << 64) - 1


Binary = Callable[[Any, Any], Any]


def elementwise(function: Callable[..., Any]) -> Meaning:
    """The meaning that applies ``function`` to the operands."""
    return lambda interpreter, op, operands: (function(*operands),)


def binary(function: Binary) -> Meaning:
    """The meaning that applies ``function`` to the two operands."""
    return elementwise(function)


def scalar_type(type_: Attribute) -> Attribute:
    """The element type of a shaped type, or the type itself."""
    return cast(Attribute, type_.get_element_type()) if isinstance(type_, ShapedType) else type_  # pyright: ignore


# Constants


def dense_array(value: DenseIntOrFPElementsAttr) -> Array:
    """The array that a dense attribute spells out."""
    dtype = dtype_of(value.get_element_type())
    values = cast(Sequence[Any], value.get_values())
    if dtype.kind == "b":
        values = [bool(element & 1) for element in values]
    return np.array(values, dtype).reshape(value.get_shape())


def attribute_value(value: Attribute) -> Any:
    """The value of an integer, float or dense attribute."""
    match value:
        case IntegerAttr():
            if isinstance(value.type, IndexType):
                return value.value.data
            dtype = dtype_of(value.type)
            if dtype.kind == "b":
                return np.bool_(value.value.data & 1)
            return np.array(value.value.data & ((1 << value.type.width.data) - 1), f"u{dtype.itemsize}").view(dtype)[()]
        case FloatAttr():
            return dtype_of(value.type).type(value.value.data)
        case DenseIntOrFPElementsAttr():
            return dense_array(value)
        case _:
            raise CrosstileError(f"cannot evaluate the attribute {value}")


@MEANINGS.of(arith.ConstantOp)
def constant(interpreter: Interpreter, op: arith.ConstantOp, operands: Sequence[Any]) -> Sequence[Any]:
    """A fresh value each time, so that nobody can change the constant."""
    return (attribute_value(op.value),)


# Integers


def _unsigned(value: Any) -> Any:
    if isinstance(value, int):
        return value & _INDEX_MASK
    array = np.asarray(value)
    return array.view(f"u{array.dtype.itemsize}")[()]


def _signed(value: Any, like: Any) -> Any:
    if isinstance(like, int) and isinstance(value, int):
        return value - (1 << 64) if value >> 63 else value
    return np.asarray(value).view(np.asarray(like).dtype)[()]


def _is_bit(value: Any) -> bool:
    return isinstance(value, np.bool_ | bool) or getattr(value, "dtype", None) == np.bool_


def _integer(signed: Binary) -> Meaning:
    """A binary operation on two's complement numbers; ``i1`` goes through 8 bits."""

    def meaning(interpreter: Interpreter, op: Operation, operands: Sequence[Any]) -> Sequence[Any]:
        lhs, rhs = operands
        if _is_bit(lhs):
            lhs, rhs = -np.asarray(lhs).astype(np.int8), -np.asarray(rhs).astype(np.int8)
            return ((signed(lhs, rhs) & 1).astype(np.bool_)[()],)
        return (signed(lhs, rhs),)

    return meaning


def _on_unsigned(function: Binary) -> Binary:
    return lambda lhs, rhs: _signed(function(_unsigned(lhs), _unsigned(rhs)), lhs)


def _dividing(function: Binary) -> Binary:
    def checked(lhs: Any, rhs: Any) -> Any:
        if rhs == 0 if isinstance(rhs, int) else bool((np.asarray(rhs) == 0).any()):
            raise CrosstileError("divides by zero")
        return function(lhs, rhs)

    return checked


def _divide_toward_zero(lhs: Any, rhs: Any) -> Any:
    quotient = lhs // rhs
    inexact = (quotient * rhs != lhs) & ((lhs < 0) != (rhs < 0))
    return quotient + inexact


def _minimum(lhs: Any, rhs: Any) -> Any:
    return min(lhs, rhs) if isinstance(lhs, int) and isinstance(rhs, int) else np.minimum(lhs, rhs)


def _maximum(lhs: Any, rhs: Any) -> Any:
    return max(lhs, rhs) if isinstance(lhs, int) and isinstance(rhs, int) else np.maximum(lhs, rhs)


MEANINGS.update(
    {
        arith.AddiOp: _integer(operator.add),
        arith.SubiOp: _integer(operator.sub),
        arith.MuliOp: _integer(operator.mul),
        arith.DivSIOp: _integer(_dividing(_divide_toward_zero)),
        arith.DivUIOp: _integer(_dividing(_on_unsigned(lambda lhs, rhs: lhs // rhs))),
        arith.FloorDivSIOp: _integer(_dividing(lambda lhs, rhs: lhs // rhs)),
        arith.CeilDivSIOp: _integer(_dividing(lambda lhs, rhs: lhs // rhs + (lhs % rhs != 0))),
        arith.CeilDivUIOp: _integer(_dividing(_on_unsigned(lambda lhs, rhs: lhs // rhs + (lhs % rhs != 0)))),
        arith.RemSIOp: _integer(_dividing(lambda lhs, rhs: lhs - _divide_toward_zero(lhs, rhs) * rhs)),
        arith.RemUIOp: _integer(_dividing(_on_unsigned(operator.mod))),
        arith.MinSIOp: _integer(_minimum),
        arith.MaxSIOp: _integer(_maximum),
        arith.MinUIOp: _integer(_on_unsigned(_minimum)),
        arith.MaxUIOp: _integer(_on_unsigned(_maximum)),
        arith.AndIOp: binary(lambda lhs, rhs: lhs & rhs),
        arith.OrIOp: binary(lambda lhs, rhs: lhs | rhs),
        arith.XOrIOp: binary(lambda lhs, rhs: lhs ^ rhs),
        arith.ShLIOp: _integer(lambda lhs, rhs: _signed((lhs << rhs) & _INDEX_MASK, 0) if _ints(lhs) else lhs << rhs),
        arith.ShRSIOp: _integer(lambda lhs, rhs: lhs >> rhs),
        arith.ShRUIOp: _integer(_on_unsigned(lambda lhs, rhs: lhs >> rhs)),
    }
)


def _ints(value: Any) -> bool:
    return isinstance(value, int)


_CMPI: dict[str, Binary] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "slt": operator.lt,
    "sle": operator.le,
    "sgt": operator.gt,
    "sge": operator.ge,
    "ult": lambda lhs, rhs: _unsigned(lhs) < _unsigned(rhs),
    "ule": lambda lhs, rhs: _unsigned(lhs) <= _unsigned(rhs),
    "ugt": lambda lhs, rhs: _unsigned(lhs) > _unsigned(rhs),
    "uge": lambda lhs, rhs: _unsigned(lhs) >= _unsigned(rhs),
}


@MEANINGS.of(arith.CmpiOp)
def compare_integers(interpreter: Interpreter, op: arith.CmpiOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Compare; ``i1`` as the numbers 0 and -1."""
    lhs, rhs = operands
    if _is_bit(lhs):
        lhs, rhs = -np.asarray(lhs).astype(np.int8), -np.asarray(rhs).astype(np.int8)
    result = _CMPI[arith.CMPI_COMPARISON_OPERATIONS[op.predicate.value.data]](lhs, rhs)
    return (np.bool_(result) if isinstance(result, bool) else result,)


# Floats


def _sum_of_zeros(lhs: Any, rhs: Any, result: Any, total: Binary) -> Any:
    """``result``, with the sign of ``total(lhs, rhs)`` where both are zeros, which NumPy leaves to chance."""
    zeros = (np.asarray(lhs) == 0) & (np.asarray(rhs) == 0)
    if not zeros.any():
        return result
    chosen = cast(Array, np.where(zeros, total(lhs, rhs), result))
    return chosen[()]


def float_maximum(lhs: Any, rhs: Any) -> Any:
    """IEEE 754-2019 maximum: NaN if either is, +0 over -0."""
    return _sum_of_zeros(lhs, rhs, np.maximum(lhs, rhs), lambda a, b: a + b)


def float_minimum(lhs: Any, rhs: Any) -> Any:
    """IEEE 754-2019 minimum: NaN if either is, -0 under +0."""
    return _sum_of_zeros(lhs, rhs, np.minimum(lhs, rhs), lambda a, b: -(-a + -b))


MEANINGS.update(
    {
        arith.AddfOp: elementwise(operator.add),
        arith.SubfOp: elementwise(operator.sub),
        arith.MulfOp: elementwise(operator.mul),
        arith.DivfOp: binary(lambda lhs, rhs: lhs / rhs),
        arith.NegfOp: elementwise(operator.neg),
        arith.MaximumfOp: elementwise(float_maximum),
        arith.MinimumfOp: elementwise(float_minimum),
        arith.MaxnumfOp: elementwise(np.fmax),
        arith.MinnumfOp: elementwise(np.fmin),
    }
)


def _unordered(lhs: Any, rhs: Any) -> Any:
    return (lhs != lhs) | (rhs != rhs)


_CMPF: dict[str, Binary] = {
    "false": lambda lhs, rhs: np.zeros(np.broadcast_shapes(np.shape(lhs), np.shape(rhs)), np.bool_)[()],
    "true": lambda lhs, rhs: np.ones(np.broadcast_shapes(np.shape(lhs), np.shape(rhs)), np.bool_)[()],
    "oeq": operator.eq,
    "ogt": operator.gt,
    "oge": operator.ge,
    "olt": operator.lt,
    "ole": operator.le,
    "one": lambda lhs, rhs: (lhs != rhs) & ~_unordered(lhs, rhs),
    "ord": lambda lhs, rhs: ~_unordered(lhs, rhs),
    "ueq": lambda lhs, rhs: (lhs == rhs) | _unordered(lhs, rhs),
    "ugt": lambda lhs, rhs: ~(lhs <= rhs),
    "uge": lambda lhs, rhs: ~(lhs < rhs),
    "ult": lambda lhs, rhs: ~(lhs >= rhs),
    "ule": lambda lhs, rhs: ~(lhs > rhs),
    "une": operator.ne,
    "uno": _unordered,
}


@MEANINGS.of(arith.CmpfOp)
def compare_floats(interpreter: Interpreter, op: arith.CmpfOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Ordered predicates are false and unordered ones true where an operand is NaN."""
    return (_CMPF[arith.CMPF_COMPARISON_OPERATIONS[op.predicate.value.data]](*operands),)


@MEANINGS.of(arith.SelectOp)
def select(interpreter: Interpreter, op: arith.SelectOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Element by element, or one of the two values whole under a scalar condition."""
    condition, if_true, if_false = operands
    if np.ndim(condition) == 0:
        return (if_true if condition else if_false,)
    return (cast(Any, np.where(condition, if_true, if_false)),)


# Conversions


def convert(value: Any, source: Attribute, target: Attribute, unsigned: bool = False) -> Any:
    """``value`` of scalar type ``source`` as ``target``: integers extended or cut, floats rounded to nearest even."""
    to = dtype_of(target)
    array = np.asarray(value)
    if is_float(array.dtype):
        if not is_float(to):
            # One rounding toward zero; a value that does not fit is poison, and any number will do.
            wide = np.trunc(array.astype(np.float64))
            return (wide.astype(np.uint64).astype(to) if unsigned else wide.astype(np.int64).astype(to))[()]
        return array.astype(to)[()]
    if array.dtype == np.bool_ and not unsigned:
        array = -array.astype(np.int8)
    elif unsigned and array.dtype != np.bool_:
        array = array.view(f"u{array.dtype.itemsize}")
    if to == np.bool_:
        array = (array & 1).astype(np.bool_)
    result = array.astype(to)[()]
    return int(result) if isinstance(target, IndexType) and np.ndim(result) == 0 else result


def _conversion(unsigned: bool) -> Meaning:
    def meaning(interpreter: Interpreter, op: Operation, operands: Sequence[Any]) -> Sequence[Any]:
        source, target = scalar_type(op.operands[0].type), scalar_type(op.results[0].type)
        return (convert(operands[0], source, target, unsigned),)

    return meaning


for _op in (arith.ExtFOp, arith.TruncFOp, arith.ExtSIOp, arith.TruncIOp, arith.SIToFPOp, arith.FPToSIOp):
    MEANINGS[_op] = _conversion(unsigned=False)
for _op in (arith.ExtUIOp, arith.UIToFPOp, arith.FPToUIOp, IndexCastUIOp):
    MEANINGS[_op] = _conversion(unsigned=True)
MEANINGS[arith.IndexCastOp] = _conversion(unsigned=False)


@MEANINGS.of(arith.BitcastOp)
def bitcast(interpreter: Interpreter, op: arith.BitcastOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The same bits as another type of the same width."""
    source, target = scalar_type(op.input.type), scalar_type(op.result.type)
    if isa(source, IntegerType) and source.bitwidth == 1:
        raise op_error(op, "'arith.bitcast' of i1 has no other type of its width")
    return (np.asarray(operands[0]).view(dtype_of(target))[()],)


# Wide results


@MEANINGS.of(arith.AddUIExtendedOp)
def add_extended(interpreter: Interpreter, op: arith.AddUIExtendedOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The sum, wrapped, and whether it wrapped."""
    lhs, rhs = operands
    total = lhs + rhs
    return total, _unsigned(total) < _unsigned(lhs)


def _multiply_extended(unsigned: bool) -> Meaning:
    def meaning(interpreter: Interpreter, op: Operation, operands: Sequence[Any]) -> Sequence[Any]:
        lhs, rhs = (_unsigned(value) if unsigned else value for value in operands)
        width = np.asarray(lhs).dtype.itemsize * 8
        product = np.asarray(lhs).astype(object) * np.asarray(rhs).astype(object)
        halves = (product & ((1 << width) - 1), (product >> width) & ((1 << width) - 1))
        return [np.asarray(half).astype(f"u{width // 8}").view(np.asarray(operands[0]).dtype)[()] for half in halves]

    return meaning


MEANINGS[arith.MulUIExtendedOp] = _multiply_extended(unsigned=True)
MEANINGS[arith.MulSIExtendedOp] = _multiply_extended(unsigned=False)
