"""``parse(print(m)) == m`` for generated tile kernels: every operation, every optional part, in both forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from round_trip import assert_round_trips
from strategies import Draw, Generated, Maker, Values
from xdsl.dialects.arith import AddfOp, ConstantOp
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    FloatAttr,
    IndexType,
    IntegerAttr,
    IntegerType,
    MemRefType,
    ModuleOp,
    StridedLayoutAttr,
    bf16,
    f32,
    f64,
    i1,
    i32,
)
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.ir.affine import AffineExpr, AffineMap

from crosstile.dialects.assembly import float_text
from crosstile.dialects.tile.compute import REDUCE_KINDS, ContractOp, MapOp, ReduceOp
from crosstile.dialects.tile.kernel import DimOp, KernelOp, ParallelOp, ReturnOp
from crosstile.dialects.tile.loops import ForOp, YieldOp
from crosstile.dialects.tile.memory import LoadOp, StageOp, StoreOp
from crosstile.dialects.tile.shape import IotaOp, MaskOp, ReshapeOp, SplatOp, TransposeOp
from crosstile.dialects.tile.types import BufferType, CapacityType, TileType, WindowType, capacity_type, is_float_type
from crosstile.dialects.tile.window import WindowOp

INDEX = IndexType()
OpT = TypeVar("OpT", bound=Operation)
SIZES = st.sampled_from([1, 2, 8])
SPECIAL = [0.0, -0.0, 0.1, 1e-45, 3.38e38, float("inf"), float("-inf"), float("nan")]
FLOATS = st.floats(width=16, allow_nan=False) | st.sampled_from(SPECIAL)


def index(draw: Draw, values: Values) -> SSAValue:
    found = values.pick(draw, IndexType)
    assert found is not None
    return found


def extents(draw: Draw, values: Values, count: int) -> list[SSAValue | None]:
    return [index(draw, values) if draw(st.booleans()) else None for _ in range(count)]


def literal(draw: Draw, type_: Attribute) -> Any:
    if is_float_type(type_):
        return FloatAttr(draw(FLOATS), cast(Any, type_))
    width = type_.bitwidth if isinstance(type_, IntegerType) else 64
    return IntegerAttr(draw(st.integers(0, 1) if width == 1 else st.integers(-128, 127)), cast(Any, type_))


def optional(draw: Draw, strategy: st.SearchStrategy[Any]) -> Any:
    return draw(st.one_of(st.none(), strategy))


def tile(draw: Draw, values: Values, *kinds: type[CapacityType]) -> SSAValue | None:
    return values.pick(draw, draw(st.sampled_from(kinds or (TileType,))))


def make_window(draw: Draw, values: Values) -> Operation | None:
    source = values.pick(draw, draw(st.sampled_from([MemRefType, BufferType])))
    if source is None:
        return None
    shape = draw(st.lists(SIZES, min_size=1, max_size=3))
    bounds = (draw(st.booleans()) and extents(draw, values, len(shape))) or ()
    rank = len(cast(Any, source.type).get_shape())
    gathers = [
        value
        for value in values.known
        if isinstance(value.type, TileType)
        and value.type.element_type == INDEX
        and len(value.type.get_shape()) == len(shape)
        and all(size in (1, full) for size, full in zip(value.type.get_shape(), shape, strict=True))
    ]
    indices = [
        draw(st.sampled_from(gathers)) if gathers and draw(st.booleans()) else index(draw, values) for _ in range(rank)
    ]
    if draw(st.booleans()):
        return WindowOp(source, indices, shape, bounds, clip=draw(st.booleans()))
    count = draw(st.integers(0, 3))
    terms = [AffineExpr.dimension(dim) for dim in range(len(shape))] + [
        AffineExpr.symbol(number) for number in range(count)
    ]
    map_ = AffineMap(len(shape), count, tuple(expression(draw, terms) for _ in range(rank)))
    return WindowOp(source, [index(draw, values) for _ in range(count)], shape, bounds, map_, draw(st.booleans()))


def expression(draw: Draw, terms: Sequence[AffineExpr]) -> AffineExpr:
    """A sum of terms, constants and what affine maps can do with them; often one of the short form."""
    total = draw(st.sampled_from(terms))
    for _ in range(draw(st.integers(0, 3))):
        term = draw(st.sampled_from(terms))
        total = draw(st.sampled_from([total + term, total + 3, term + total * 2, total // 3, total % 5, total - 1]))
    return total


def make_load(draw: Draw, values: Values) -> Operation | None:
    window = tile(draw, values, WindowType)
    if window is None:
        return None
    element = capacity_type(window).element_type
    condition = values.pick(draw, IntegerType, lambda type_: type_ == i1) if draw(st.booleans()) else None
    otherwise = None if condition is None else literal(draw, element)
    return LoadOp(window, condition, otherwise, literal(draw, element) if draw(st.booleans()) else None)


def make_store(draw: Draw, values: Values) -> Operation | None:
    window = tile(draw, values, WindowType)
    if window is None:
        return None
    expected = TileType(capacity_type(window).shape, capacity_type(window).element_type)
    value = values.pick(draw, TileType, lambda type_: type_ == expected)
    if value is None:
        return None
    return valid(StoreOp(value, window))


def valid(op: OpT) -> OpT | None:
    """``op`` if its verifier accepts it: for rules that are easier to check than to fulfil."""
    try:
        op.verify_()
    except Exception:
        op.erase()
        return None
    return op


def make_stage(draw: Draw, values: Values) -> Operation | None:
    source = tile(draw, values, WindowType, TileType)
    if source is None:
        return None
    pad = isinstance(source.type, WindowType) and draw(st.booleans())
    return StageOp(source, literal(draw, capacity_type(source).element_type) if pad else None)


def make_contract(draw: Draw, values: Values) -> Operation | None:
    matrices = [
        value for value in values.known if isinstance(value.type, CapacityType) and value.type.get_num_dims() == 2
    ]
    floats = [value for value in matrices if capacity_type(value).element_type == f32]
    if not floats:
        return None
    lhs, rhs, accumulator = (draw(st.sampled_from(floats)) for _ in range(3))
    if not isinstance(accumulator.type, TileType):
        return None
    extent = index(draw, values) if draw(st.booleans()) else None
    windows = [value for value in matrices if isinstance(value.type, WindowType)]
    ahead = optional(draw, st.sampled_from(windows)) if windows else None
    intrinsic = optional(draw, st.sampled_from(["x86.avx2.fma", 'a "b"']))
    return valid(ContractOp(lhs, rhs, accumulator, extent, intrinsic, optional(draw, st.integers(1, 3)), ahead))


def make_map(draw: Draw, values: Values) -> Operation | None:
    value = tile(draw, values)
    if value is None or not is_float_type(capacity_type(value).element_type):
        return None
    element = capacity_type(value).element_type
    inputs = [values.same_type(draw, value) for _ in range(draw(st.integers(0, 2)))]
    block = Block(arg_types=[element] * len(inputs))
    result = ConstantOp(literal(draw, element))
    block.add_op(result)
    total = result.result
    for argument in block.args:
        total = AddfOp(total, argument).result
        block.add_op(total.owner)
    block.add_op(YieldOp(total))
    return MapOp(inputs, TileType(capacity_type(value).shape, element), block)


def make_reduce(draw: Draw, values: Values) -> Operation | None:
    value = tile(draw, values)
    if value is None or capacity_type(value).element_type == i1:
        return None
    rank = capacity_type(value).get_num_dims()
    dims = sorted(draw(st.sets(st.integers(0, rank - 1), min_size=1)))
    op = ReduceOp(draw(st.sampled_from(REDUCE_KINDS)), value, dims, extents(draw, values, len(dims)))
    into = values.pick(draw, TileType, lambda type_: type_ == op.result.type)
    if into is None or draw(st.booleans()):
        return op
    kind, bounds = op.kind.data, op.extents_by_dim
    op.erase()
    return ReduceOp(kind, value, dims, bounds, into)


def make_mask(draw: Draw, values: Values) -> Operation | None:
    value = tile(draw, values)
    if value is None:
        return None
    type_ = capacity_type(value)
    return MaskOp(value, extents(draw, values, type_.get_num_dims()), literal(draw, type_.element_type))


def make_splat(draw: Draw, values: Values) -> Operation | None:
    element = draw(st.sampled_from([f32, f64, bf16, i32, i1, INDEX]))
    scalar = values.pick(draw, Attribute, lambda type_: type_ == element)
    return None if scalar is None else SplatOp(scalar, draw(st.lists(SIZES, min_size=1, max_size=3)))


def make_iota(draw: Draw, values: Values) -> Operation | None:
    shape = draw(st.lists(SIZES, min_size=1, max_size=3))
    element = draw(st.sampled_from([INDEX, i32]))
    start = values.pick(draw, Attribute, lambda type_: type_ == element) if draw(st.booleans()) else None
    return IotaOp(TileType(shape, element), draw(st.integers(0, len(shape) - 1)), start)


def make_transpose(draw: Draw, values: Values) -> Operation | None:
    value = tile(draw, values)
    return (
        None if value is None else TransposeOp(value, draw(st.permutations(range(capacity_type(value).get_num_dims()))))
    )


def make_reshape(draw: Draw, values: Values) -> Operation | None:
    value = tile(draw, values)
    if value is None:
        return None
    type_ = capacity_type(value)
    shape = [*type_.get_shape()[::-1], *([1] * draw(st.integers(0, 2)))]
    return ReshapeOp(value, TileType(shape, type_.element_type))


def make_dim(draw: Draw, values: Values) -> Operation | None:
    source = values.pick(draw, MemRefType)
    assert source is not None
    return DimOp(source, draw(st.integers(0, len(cast(Any, source.type).get_shape()) - 1)))


def make_for(draw: Draw, values: Values) -> Operation | None:
    carried = [value for value in (tile(draw, values) for _ in range(draw(st.integers(0, 2)))) if value is not None]
    block = Block(arg_types=[INDEX, INDEX, *(value.type for value in carried)])
    block.add_op(YieldOp(*block.args[2:]))
    grain = draw(st.sampled_from([None, 1, 4]))
    step = draw(st.sampled_from([4, 512]))
    return ForOp(
        index(draw, values), index(draw, values), step, carried, block, grain, optional(draw, st.integers(1, 4))
    )


MAKERS: list[Maker] = [
    make_window,
    make_window,
    make_load,
    make_store,
    make_stage,
    make_contract,
    make_map,
    make_reduce,
    make_mask,
    make_splat,
    make_iota,
    make_transpose,
    make_reshape,
    make_dim,
    make_for,
]


def wrap_plain(block: Block) -> KernelOp:
    """The generated operations as a kernel without a parallel loop."""
    block.add_op(ReturnOp())
    return KernelOp("generated", block)


def wrap_grid(block: Block) -> KernelOp:
    """The generated operations as the body of a grid over the kernel's two indices."""
    outer = Block(arg_types=block.arg_types)
    for inner, argument in zip(tuple(block.args), outer.args, strict=True):
        inner.replace_all_uses_with(argument)
        block.erase_arg(inner)
    for _ in range(4):
        block.insert_arg(INDEX, len(block.args))
    block.add_op(YieldOp())
    bounds = [argument for argument in outer.args if argument.type == INDEX]
    outer.add_op(ParallelOp(bounds, bounds, block, steps=[8, 64]))
    outer.add_op(ReturnOp())
    return KernelOp("generated_grid", outer)


PARAMETERS: list[Attribute] = [
    MemRefType(f32, [DYNAMIC_INDEX, DYNAMIC_INDEX]),
    MemRefType(bf16, [DYNAMIC_INDEX, 8, 3]),
    MemRefType(f64, [4]),
    MemRefType(f32, [4, DYNAMIC_INDEX], StridedLayoutAttr([None, 1], None)),
    MemRefType(INDEX, [DYNAMIC_INDEX]),
    INDEX,
    INDEX,
    f32,
    f64,
    bf16,
    i32,
    i1,
]


@st.composite
def kernels(draw: st.DrawFn) -> Generated:
    """A module with one kernel: a few windows and tiles to begin with, then any operations on what is there."""
    block = Block(arg_types=PARAMETERS)
    values = Values(list(block.args))
    first: list[Maker] = [make_splat, make_iota, make_window, make_window]
    for maker in [*first, *draw(st.lists(st.sampled_from(MAKERS), max_size=14))]:
        op = maker(draw, values)
        if op is not None:
            block.add_op(op)
            values.known.extend(op.results)
    return Generated(ModuleOp([draw(st.sampled_from([wrap_plain, wrap_grid]))(block)]))


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(kernels())
def test_generated_kernels_round_trip(generated: Generated):
    assert_round_trips(generated.module)


@settings(deadline=None)
@given(st.sampled_from([f32, f64, bf16]), FLOATS)
def test_literals_are_exact(type_: Any, value: float):
    attribute = FloatAttr(value, type_)
    assert FloatAttr(float(float_text(attribute)), type_) == attribute or value != value


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.1"), (1.0, "1.0"), (-0.0, "-0.0"), (1e-45, "1.0e-45"), (3.4028234663852886e38, "3.4028235e+38")],
)
def test_literals_are_short(value: float, text: str):
    assert float_text(FloatAttr(value, f32)) == text
