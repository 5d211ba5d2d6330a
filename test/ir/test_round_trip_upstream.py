"""Round trips of generated modules of upstream dialects, which also try the strategies themselves."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from round_trip import assert_round_trips
from strategies import Draw, Generated, Values, modules, tensor_types
from xdsl.dialects import arith, math
from xdsl.dialects.builtin import Float32Type, IndexType, IntegerAttr, TensorType, f32
from xdsl.dialects.tensor import DimOp
from xdsl.ir import Operation


def _make_add(draw: Draw, values: Values) -> Operation | None:
    lhs = values.pick(draw, Float32Type)
    return None if lhs is None else arith.AddfOp(lhs, values.same_type(draw, lhs))


def _make_exp(draw: Draw, values: Values) -> Operation | None:
    operand = values.pick(draw, Float32Type)
    return None if operand is None else math.ExpOp(operand)


def _make_constant(draw: Draw, values: Values) -> Operation:
    return arith.ConstantOp(IntegerAttr.from_index_int_value(draw(st.integers(-(2**40), 2**40))))


def _make_dim(draw: Draw, values: Values) -> Operation | None:
    source = values.pick(draw, TensorType)
    index = values.pick(draw, IndexType)
    return None if source is None or index is None else DimOp(source, index)


@settings(max_examples=40, deadline=None)
@given(modules([_make_add, _make_exp, _make_constant, _make_dim], st.one_of(tensor_types(min_rank=1), st.just(f32))))
def test_generated_modules_read_back_equal(generated: Generated):
    assert_round_trips(generated.module)
