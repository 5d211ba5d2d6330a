"""``parse(print(m)) == m`` for generated nests, index maps, kernels and schedules, in both forms."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from round_trip import assert_round_trips
from strategies import Generated
from xdsl.dialects import arith
from xdsl.dialects.builtin import DYNAMIC_INDEX, FloatAttr, FunctionType, IndexType, ModuleOp, TensorType, f32
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, Region
from xdsl.ir.affine import AffineConstantExpr, AffineExpr, AffineMap

from crosstile.dialects.grid_order import GridOrder
from crosstile.dialects.nest.attributes import IteratorAttr, IteratorKind
from crosstile.dialects.nest.combiners import COMBINERS
from crosstile.dialects.nest.generic import GenericOp, IndexOp, YieldOp
from crosstile.dialects.nest.kernel import KernelOp
from crosstile.dialects.nest.schedule import (
    PREDICATES,
    Comparison,
    GuardAttr,
    GuardedScheduleAttr,
    Loop,
    Schedule,
    ScheduleAttr,
)

Draw = Any
NAMES = ("m", "n", "k", "long_name", "i32", "dense", "x1")


def expressions(count: int) -> st.SearchStrategy[AffineExpr]:
    """Affine expressions over ``count`` iterators."""
    leaves = st.integers(-3, 9).map(AffineExpr.constant)
    if count:
        leaves = leaves | st.integers(0, count - 1).map(AffineExpr.dimension)

    def combine(inner: st.SearchStrategy[AffineExpr]) -> st.SearchStrategy[AffineExpr]:
        sums = st.tuples(inner, inner).map(lambda pair: pair[0] + pair[1])
        differences = st.tuples(inner, inner).map(lambda pair: pair[0] - pair[1])
        factors = st.tuples(inner, st.integers(-4, 4)).map(lambda pair: pair[0] * pair[1])
        divided = st.tuples(inner, st.integers(1, 5), st.sampled_from("/%^")).map(divide)
        return sums | differences | factors | divided

    return st.recursive(leaves, combine, max_leaves=6)


def divide(parts: tuple[AffineExpr, int, str]) -> AffineExpr:
    expression, divisor, kind = parts
    if kind == "^":
        return expression.ceil_div(divisor)
    return expression // divisor if kind == "/" else expression % divisor


@st.composite
def nests(draw: Draw) -> GenericOp:
    """A nest over dynamic sizes in a block of its own: one input gives all sizes, others are read anywhere."""
    row = draw(st.sampled_from([None, *COMBINERS.values()]))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    kinds = [IteratorKind.PARALLEL] * len(names)
    if row is not None:
        kinds[-1] = draw(st.sampled_from([IteratorKind.REDUCTION, IteratorKind.SCAN]))
        if row.has_payload and len(names) > 1:
            kinds[0] = IteratorKind.PAYLOAD
    count = len(names)
    reads = draw(st.lists(st.lists(expressions(count).filter(is_legal), max_size=3), max_size=2))
    maps = [AffineMap.identity(count), *(AffineMap(count, 0, tuple(results)) for results in reads)]
    holder = Block(arg_types=[TensorType(f32, [DYNAMIC_INDEX] * len(map_.results)) for map_ in maps])
    body = Block(arg_types=[f32] * len(maps))
    index, number = IndexOp(names[-1]), arith.ConstantOp(FloatAttr(draw(st.floats(width=32, allow_nan=False)), f32))
    body.add_ops([index, number])
    if row is None:
        total = arith.AddfOp(body.args[-1], number)
        body.add_ops([total, YieldOp(total.result, index.result)])
        components: list[tuple[bool, Attribute]] = [(False, f32), (False, IndexType())]
    else:
        body.add_op(YieldOp(*(index.result if value.integer else number.result for value in row.yields)))
        components = [(part.payload, IndexType() if part.integer else f32) for part in row.components]
    results: list[Attribute] = []
    for payload, element in components:
        dropped = {IteratorKind.REDUCTION} if payload else {IteratorKind.REDUCTION, IteratorKind.PAYLOAD}
        order = draw(st.permutations([position for position, kind in enumerate(kinds) if kind not in dropped]))
        maps.append(AffineMap(count, 0, tuple(AffineExpr.dimension(position) for position in order)))
        results.append(TensorType(element, [DYNAMIC_INDEX] * len(order)))
    iterators = [IteratorAttr.of(name, kind.value) for name, kind in zip(names, kinds, strict=True)]
    combiner, accumulator = (None, None) if row is None else (row.name, f32)
    op = GenericOp(holder.args, iterators, maps, body, results, combiner, accumulator)
    holder.add_op(op)
    return op


def is_legal(expression: AffineExpr) -> bool:
    """Constants must not be negative; what depends on iterators is checked when it runs."""
    return not isinstance(expression, AffineConstantExpr) or expression.value >= 0


@st.composite
def schedules(draw: Draw, nest: GenericOp) -> list[GuardedScheduleAttr]:
    """Guarded schedules for a kernel whose root is ``nest``."""
    names = st.sampled_from(nest.iterator_names)
    parallel = [loop.name for loop in nest.loops if loop.kind is IteratorKind.PARALLEL]

    def schedule() -> ScheduleAttr:
        steps = sorted(draw(st.lists(st.integers(1, 4096), max_size=4)), reverse=True)
        loops = tuple(Loop(draw(names), step, draw(st.none() | st.integers(1, 16))) for step in steps)
        blocked = [name for name in parallel if any(loop.iterator == name for loop in loops)]
        grid = tuple(draw(st.lists(st.sampled_from(blocked), max_size=2, unique=True))) if blocked else ()
        raster = draw(st.none() | st.integers(1, 9)) if len(grid) == 2 else None
        cluster = draw(st.sampled_from([(), (2,) * len(grid)])) if raster is None and grid else ()
        persistent = draw(st.none() | st.integers(1, 3)) if grid else None
        order = GridOrder(raster, cluster, persistent, draw(st.booleans()) if grid else False)
        split = draw(st.none() | st.sampled_from(parallel)) if parallel and not grid else None
        grain = draw(st.integers(1, 64)) if split is not None else 1
        lane = draw(st.none() | names)
        ordered = lane is not None and draw(st.booleans())
        stage = tuple(draw(st.lists(st.integers(0, len(nest.inputs) - 1), max_size=2, unique=True)))
        intrinsic = draw(st.none() | st.just("x86.avx512.fma"))
        prefetch, stream = draw(st.none() | st.integers(1, 1 << 20)), draw(st.none() | st.integers(1, 1 << 30))
        return ScheduleAttr(
            Schedule(
                *(loops, split, grain, grid, order, lane, stage, intrinsic),
                prefetch=prefetch,
                stream=stream,
                ordered=ordered,
            )
        )

    def comparison() -> Comparison:
        name = draw(names.flatmap(lambda name: st.sampled_from([name, name.upper()])))
        return Comparison(name, draw(st.sampled_from(list(PREDICATES))), draw(st.integers(-2, 4096)), draw(moduli))

    moduli = st.none() | st.integers(1, 64)
    guards = [tuple(comparison() for _ in range(count)) for count in draw(st.lists(st.integers(1, 3), max_size=2))]
    return [GuardedScheduleAttr(GuardAttr(guard), schedule()) for guard in [*guards, ()]]


@st.composite
def modules(draw: Draw) -> Generated:
    """A function of one nest, in a kernel with schedules or not."""
    nest = draw(nests())
    block = nest.parent
    assert block is not None
    if draw(st.booleans()):
        block.add_op(YieldOp(*nest.results))
        outer = Block(arg_types=[value.type for value in block.args])
        guarded = draw(st.none() | schedules(nest))
        kernel = KernelOp("kernel", outer.args, nest.result_types, block, guarded)
        outer.add_op(kernel)
        block, nest = outer, kernel
    block.add_op(ReturnOp(*nest.results))
    function = FunctionType.from_lists([value.type for value in block.args], list(nest.result_types))
    return Generated(ModuleOp([FuncOp("f", function, Region(block))]))


@settings(max_examples=120, deadline=None)
@given(modules())
def test_nests_and_kernels_read_back(generated: Generated):
    assert_round_trips(generated.module)
