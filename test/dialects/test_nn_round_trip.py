"""Generated modules of every nn operation read back equal, in custom and in generic form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from round_trip import assert_round_trips
from strategies import Draw, Generated, Maker, Values, float_types, index_type, modules, tensor_types
from xdsl.dialects.arith import FastMathFlagsAttr
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    AnyFloat,
    DenseIntOrFPElementsAttr,
    IndexType,
    StringAttr,
    TensorType,
    f32,
    f64,
    i32,
)
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineMap
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.nn.attention import AttentionOp, CausalMaskOp
from crosstile.dialects.nn.contraction import BatchMatmulOp, ContractOp, MatmulOp
from crosstile.dialects.nn.convolution import Conv2dOp
from crosstile.dialects.nn.elementwise import BINARY, UNARY, BinaryOp, CastOp, ConstantOp, GeluOp, UnaryOp
from crosstile.dialects.nn.reduction import LayerNormOp, ReduceOp, RmsNormOp, SoftmaxOp
from crosstile.dialects.nn.reshaping import BroadcastOp, ReshapeOp, TransposeOp

FLAGS = st.sets(st.sampled_from(list(FastMathFlag))).map(FastMathFlagsAttr)


def _shape(value: SSAValue) -> tuple[int, ...]:
    return cast("TensorType[Attribute]", value.type).get_shape()


def _element(value: SSAValue) -> AnyFloat:
    return cast("TensorType[AnyFloat]", value.type).element_type


def _float_tensor(draw: Draw, values: Values, rank: int | None = None, least: int = 0) -> SSAValue | None:
    def fits(type_: Any) -> bool:
        return type_.element_type in (f32, f64) and type_.get_num_dims() in ([rank] if rank else range(least, 9))

    return values.pick(draw, TensorType, fits)


def make_constant(draw: Draw, values: Values) -> Operation:
    type_ = draw(tensor_types(max_rank=2, dynamic=False).filter(lambda type_: 0 not in type_.get_shape()))
    value = draw(st.floats(width=32))
    op = ConstantOp(DenseIntOrFPElementsAttr.from_list(type_, [value]))
    op.attributes["note"] = StringAttr("n")
    return op


def make_unary(kind: type[UnaryOp]) -> Maker:
    def make(draw: Draw, values: Values) -> Operation | None:
        operand = _float_tensor(draw, values)
        if operand is None:
            return None
        if kind is GeluOp:
            return GeluOp(operand, draw(st.sampled_from(["none", "tanh"])), draw(FLAGS))
        return kind(operand, fastmath=draw(FLAGS))

    return make


def make_binary(kind: type[BinaryOp]) -> Maker:
    def make(draw: Draw, values: Values) -> Operation | None:
        lhs = _float_tensor(draw, values)
        rhs = _float_tensor(draw, values)
        if lhs is None or rhs is None:
            return None
        return _if_legal(lambda: kind(lhs, rhs, draw(FLAGS)))

    return make


def _if_legal(make: Callable[[], Operation]) -> Operation | None:
    try:
        return make()
    except VerifyException:
        return None


def make_cast(draw: Draw, values: Values) -> Operation | None:
    operand = values.pick(draw, TensorType)
    return None if operand is None else CastOp(operand, draw(st.one_of(float_types(), st.just(i32))))


def make_matmul(draw: Draw, values: Values) -> Operation | None:
    lhs, rhs = (_float_tensor(draw, values, rank=2) for _ in range(2))
    if lhs is None or rhs is None:
        return None
    transposed = draw(st.booleans()), draw(st.booleans())
    return _if_legal(lambda: MatmulOp(lhs, rhs, f64, *transposed, draw(FLAGS), draw(st.sampled_from([None, f64]))))


def make_batch_matmul(draw: Draw, values: Values) -> Operation | None:
    operand = _float_tensor(draw, values, least=3)
    if operand is None:
        return None
    transposed = draw(st.booleans())
    return BatchMatmulOp(operand, operand, f64, transposed, not transposed, draw(FLAGS))


def make_conv2d(draw: Draw, values: Values) -> Operation | None:
    image, filter_ = (_float_tensor(draw, values, rank=4) for _ in range(2))
    if image is None or filter_ is None:
        return None
    layout = draw(st.sampled_from(["nchw", "nhwc"]))
    strides, padding, dilations = (
        [draw(st.integers(least, 4)) for _ in range(count)] for least, count in ((1, 2), (0, 4), (1, 2))
    )
    groups, flags = draw(st.integers(1, 2)), draw(FLAGS)
    return _if_legal(lambda: Conv2dOp(image, filter_, f64, layout, strides, padding, dilations, groups, flags))


def make_contract(draw: Draw, values: Values) -> Operation | None:
    operand = _float_tensor(draw, values, least=1)
    if operand is None:
        return None
    rank = len(_shape(operand))
    summed = draw(st.integers(0, rank - 1))
    iterators = draw(st.permutations(range(rank)))
    both = AffineMap(rank, 0, tuple(AffineDimExpr(position) for position in iterators))
    result = AffineMap(rank, 0, tuple(AffineDimExpr(position) for position in range(rank) if position != summed))
    return ContractOp(operand, operand, [both, both, result], _element(operand), draw(FLAGS))


def make_reduce(draw: Draw, values: Values) -> Operation | None:
    operand = _float_tensor(draw, values, least=1)
    if operand is None:
        return None
    dims = draw(st.sets(st.integers(0, len(_shape(operand)) - 1), min_size=1))
    return ReduceOp(operand, draw(st.sampled_from(["add", "max"])), sorted(dims), draw(st.booleans()), draw(FLAGS))


def make_softmax(draw: Draw, values: Values) -> Operation | None:
    operand = _float_tensor(draw, values, least=1)
    return None if operand is None else SoftmaxOp(operand, draw(st.integers(0, len(_shape(operand)) - 1)), draw(FLAGS))


def make_layer_norm(draw: Draw, values: Values) -> Operation | None:
    operand, vector = _float_tensor(draw, values, least=1), _float_tensor(draw, values, rank=1)
    if operand is None or vector is None:
        return None
    numbers = {"epsilon": draw(st.floats(0, 1)), "fastmath": draw(FLAGS)}
    return _if_legal(lambda: LayerNormOp(operand, vector, vector, **numbers))


def make_rms_norm(draw: Draw, values: Values) -> Operation | None:
    operand, vector = _float_tensor(draw, values, least=1), _float_tensor(draw, values, rank=1)
    if operand is None or vector is None:
        return None
    return _if_legal(lambda: RmsNormOp(operand, vector, epsilon=draw(st.floats(0, 1)), fastmath=draw(FLAGS)))


def make_attention(draw: Draw, values: Values) -> Operation | None:
    operand = _float_tensor(draw, values, rank=4)
    if operand is None:
        return None
    bias, scale = draw(st.sampled_from([None, operand])), draw(st.one_of(st.none(), st.floats(-1e3, 1e3)))
    causal, flags = draw(st.booleans()), draw(FLAGS)
    return _if_legal(lambda: AttentionOp(operand, operand, operand, bias, f64, causal, scale, flags))


def make_causal_mask(draw: Draw, values: Values) -> Operation | None:
    operand = _float_tensor(draw, values, least=2)
    return None if operand is None else CausalMaskOp(operand)


def make_transpose(draw: Draw, values: Values) -> Operation | None:
    operand = values.pick(draw, TensorType)
    return None if operand is None else TransposeOp(operand, draw(st.permutations(range(len(_shape(operand))))))


def make_reshape(draw: Draw, values: Values) -> Operation | None:
    operand, size = values.pick(draw, TensorType), values.pick(draw, IndexType)
    if operand is None or size is None:
        return None
    if draw(st.booleans()):
        return ReshapeOp(operand, TensorType(_element(operand), [DYNAMIC_INDEX]))
    shape = [DYNAMIC_INDEX] * draw(st.integers(1, 3))
    return ReshapeOp(operand, TensorType(_element(operand), shape), [size] * len(shape))


def make_broadcast(draw: Draw, values: Values) -> Operation | None:
    operand, size = values.pick(draw, TensorType), values.pick(draw, IndexType)
    if operand is None or size is None:
        return None
    shape = [DYNAMIC_INDEX if extent == 1 else extent for extent in _shape(operand)]
    sizes = [size] * _shape(operand).count(1)
    if draw(st.booleans()):
        dims = range(1, len(shape) + 1)
        return BroadcastOp(operand, TensorType(_element(operand), [DYNAMIC_INDEX, *shape]), dims, [size, *sizes])
    return BroadcastOp(operand, TensorType(_element(operand), shape), range(len(shape)), sizes)


MAKERS: list[Maker] = [
    make_constant,
    *map(make_unary, UNARY),
    *map(make_binary, BINARY),
    make_cast,
    make_matmul,
    make_batch_matmul,
    make_contract,
    make_conv2d,
    make_reduce,
    make_softmax,
    make_layer_norm,
    make_rms_norm,
    make_attention,
    make_causal_mask,
    make_transpose,
    make_reshape,
    make_broadcast,
]


@settings(max_examples=150, deadline=None)
@given(modules(MAKERS, st.one_of(tensor_types(), tensor_types(max_rank=2), index_type()), max_ops=12))
def test_generated_modules_read_back_equal(generated: Generated):
    assert_round_trips(generated.module)
