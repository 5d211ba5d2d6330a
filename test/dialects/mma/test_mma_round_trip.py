"""Generated kernels of the mma level read back as they were printed, in custom and in generic form."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from round_trip import assert_round_trips
from strategies import Draw, Generated, Maker, Values, modules
from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    AffineMapAttr,
    IndexType,
    IntAttr,
    IntegerType,
    MemRefType,
    NoneAttr,
    StringAttr,
    bf16,
    f32,
    i32,
)
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.ir.affine import AffineExpr, AffineMap

from crosstile.dialects import mma
from crosstile.dialects.mma.access import element_type_of
from crosstile.dialects.mma.attributes import LayoutAttr, MemoryAttr, SwizzleAttr, projected
from crosstile.dialects.mma.kernel import YieldOp
from crosstile.dialects.mma.roles import Role
from crosstile.dialects.mma.types import GROUPS, WRITE, shape_attribute
from crosstile.targets.layout import Layout

NUMBERS = st.floats(allow_nan=False, width=32)


@st.composite
def fragment_types(draw: st.DrawFn) -> mma.FragmentType:
    rows, columns = draw(st.sampled_from([1, 3, 8])), draw(st.sampled_from([1, 4, 6]))
    grid = Layout.of((rows, columns), register=[(rows, columns), (columns, 1)])
    layout = grid.product(Layout.of((1, 16), lane=[(16, 1)]))
    element = draw(st.sampled_from([f32, bf16, i32, IndexType()]))
    return mma.FragmentType.of((rows, columns * 16), element, LayoutAttr(layout))


@st.composite
def ring_types(draw: st.DrawFn) -> mma.RingType:
    none = NoneAttr()
    panels = AffineMapAttr(
        AffineMap(2, 0, (AffineExpr.dimension(1) // 8, AffineExpr.dimension(0), AffineExpr.dimension(1) % 8))
    )
    return mma.RingType(
        IntAttr(draw(st.integers(1, 5))),
        shape_attribute(draw(st.sampled_from([(8, 16), (1, 64), (3, 8)]))),
        draw(st.sampled_from([f32, bf16])),
        draw(st.sampled_from([none, panels])),
        draw(st.sampled_from([none, SwizzleAttr(128), SwizzleAttr(32)])),
        draw(st.sampled_from([none, MemoryAttr("shared")])),
        StringAttr(draw(st.sampled_from(["groups", "barriers"]))),
    )


def memory_types() -> st.SearchStrategy[Attribute]:
    return st.sampled_from([f32, bf16, i32, IndexType()]).map(
        lambda element: MemRefType(element, (DYNAMIC_INDEX, DYNAMIC_INDEX))
    )


ARGUMENTS = st.one_of(st.just(IndexType()), st.just(IntegerType(1)), fragment_types(), memory_types(), ring_types())


def index(draw: Draw, values: Values) -> SSAValue | None:
    return values.pick(draw, IndexType)


def extents(draw: Draw, values: Values, rank: int) -> list[SSAValue | None]:
    return [index(draw, values) if draw(st.booleans()) else None for _ in range(rank)]


def number(draw: Draw, type_: Attribute) -> float | int:
    return draw(NUMBERS) if type_ in (f32, bf16) else draw(st.integers(-5, 5))


def make_load(draw: Draw, values: Values) -> Operation | None:
    memory, at = values.pick(draw, MemRefType), index(draw, values)
    if memory is None or at is None:
        return None
    element = element_type_of(memory.type)
    type_ = draw(fragment_types().filter(lambda type_: type_.element_type == element))
    condition = values.pick(draw, IntegerType, lambda type_: type_ == IntegerType(1))
    given_extents = extents(draw, values, 2)
    clamp = [dim for dim, extent in enumerate(given_extents) if extent is not None and draw(st.booleans())]
    by = AffineMapAttr(AffineMap(2, 2, (AffineExpr.symbol(0) + AffineExpr.dimension(1), AffineExpr.dimension(0) * 2)))
    return mma.LoadOp(
        memory,
        [at, at],
        type_,
        given_extents,
        condition,
        None if condition is None else number(draw, element),
        number(draw, element) if draw(st.booleans()) else None,
        clamp,
        by if draw(st.booleans()) else None,
        draw(st.booleans()),
    )


def make_store(draw: Draw, values: Values) -> Operation | None:
    value, at = values.pick(draw, mma.FragmentType), index(draw, values)
    if value is None or at is None:
        return None
    element = element_type_of(value.type)
    memory = values.pick(draw, MemRefType, lambda type_: type_.get_element_type() == element)
    if memory is None:
        return None
    return mma.StoreOp(value, memory, [at, at], extents(draw, values, 2), None, draw(st.booleans()))


def fragment(draw: Draw, values: Values) -> tuple[SSAValue, mma.FragmentType] | None:
    value = values.pick(draw, mma.FragmentType)
    return None if value is None or not isinstance(value.type, mma.FragmentType) else (value, value.type)


def make_map(draw: Draw, values: Values) -> Operation | None:
    if (found := fragment(draw, values)) is None:
        return None
    value, type_ = found
    body = Block(arg_types=[type_.element_type, type_.element_type])
    yielded: SSAValue = body.args[1 if draw(st.booleans()) else 0]
    body.add_op(YieldOp(yielded))
    inputs: list[SSAValue | Operation] = [value, values.same_type(draw, value)]
    return mma.MapOp(inputs, type_, Region(body))


def make_reduce(draw: Draw, values: Values) -> Operation | None:
    if (found := fragment(draw, values)) is None:
        return None
    value, type_ = found
    dims = draw(st.sampled_from([(0,), (1,), (0, 1)]))
    shape = tuple(1 if dim in dims else size for dim, size in enumerate(type_.get_shape()))
    result = mma.FragmentType.of(shape, type_.element_type, LayoutAttr(projected(type_.layout.data, shape)))
    into = values.pick(draw, mma.FragmentType, lambda other: other == result)
    given_extents = [extent if dim in dims else None for dim, extent in enumerate(extents(draw, values, 2))]
    kind = draw(st.sampled_from(["add", "mul", "max", "min", "maxnum"]))
    return mma.ReduceOp(kind, value, dims, result, into, given_extents)


def make_mask(draw: Draw, values: Values) -> Operation | None:
    if (found := fragment(draw, values)) is None:
        return None
    value, type_ = found
    return mma.MaskOp(value, extents(draw, values, 2), number(draw, type_.element_type))


def make_splat(draw: Draw, values: Values) -> Operation | None:
    at = index(draw, values)
    type_ = draw(fragment_types().filter(lambda type_: type_.element_type == IndexType()))
    return None if at is None else mma.SplatOp(at, type_)


def make_iota(draw: Draw, values: Values) -> Operation | None:
    type_ = draw(fragment_types().filter(lambda type_: type_.element_type in (i32, IndexType())))
    return mma.IotaOp(draw(st.integers(0, 1)), type_, index(draw, values))


def make_relayout(draw: Draw, values: Values) -> Operation | None:
    if (found := fragment(draw, values)) is None:
        return None
    value, type_ = found
    rows, columns = type_.get_shape()
    if columns % 16:
        return None  # a reduction's result
    other = Layout.of((rows, columns), lane=[(16, columns // 16)], register=[(rows, columns), (columns // 16, 1)])
    return mma.RelayoutOp(value, mma.FragmentType.of((rows, columns), type_.element_type, LayoutAttr(other)))


def make_transpose(draw: Draw, values: Values) -> Operation | None:
    if (found := fragment(draw, values)) is None:
        return None
    value, type_ = found
    rows, columns = type_.get_shape()
    exchanged = Layout.of((columns, rows), register=[(columns, rows), (rows, 1)])
    return mma.TransposeOp(value, mma.FragmentType.of((columns, rows), type_.element_type, LayoutAttr(exchanged)))


def make_alloc(draw: Draw, values: Values) -> Operation | None:
    ring = draw(ring_types())
    return mma.AllocOp(mma.BufferType(ring.shape, ring.element_type, *ring.storage))


def make_ring(draw: Draw, values: Values) -> Operation | None:
    return mma.RingOp(draw(ring_types()))


def make_acquire(draw: Draw, values: Values) -> Operation | None:
    ring = values.pick(draw, mma.RingType)
    return None if ring is None else mma.AcquireOp(ring)


def make_wait(draw: Draw, values: Values) -> Operation | None:
    ring = values.pick(draw, mma.RingType)
    if ring is None or not isinstance(ring.type, mma.RingType):
        return None
    protocol = ring.type.protocol
    other = values.pick(draw, mma.RingType, lambda type_: type_.protocol == protocol)
    assert other is not None
    groups = protocol.data == GROUPS
    return mma.WaitOp([ring, other], draw(st.integers(0, 3)) if groups and draw(st.booleans()) else None)


def make_commit_or_release(draw: Draw, values: Values) -> Operation | None:
    slot = values.pick(draw, mma.SlotType)
    if slot is None or not isinstance(slot.type, mma.SlotType):
        return mma.CommitOp()
    return mma.CommitOp(slot) if slot.type.access.data == WRITE else mma.ReleaseOp(slot)


def make_copy(draw: Draw, values: Values) -> Operation | None:
    slot = values.pick(draw, mma.SlotType, lambda type_: type_.access.data == WRITE)
    at = index(draw, values)
    if slot is None or at is None or not isinstance(slot.type, mma.SlotType):
        return None
    element = slot.type.element_type
    memory = values.pick(draw, MemRefType, lambda type_: type_.get_element_type() == element)
    return None if memory is None else mma.CopyAsyncOp(memory, [at, at], slot, extents(draw, values, 2))


def make_roles(draw: Draw, values: Values) -> Operation | None:
    warps = draw(st.integers(1, 1))
    return mma.RolesOp([Role("only", warps, draw(st.sampled_from([0, 40])), Region(Block([mma.BarrierOp()])))])


MAKERS: list[Maker] = [
    *(make_load, make_store, make_map, make_reduce, make_mask, make_splat, make_iota, make_relayout, make_transpose),
    *(make_alloc, make_ring, make_acquire, make_wait, make_commit_or_release, make_copy, make_roles),
]


def kernel(block: Block) -> Operation:
    return mma.KernelOp("f", Region(block), target="x86-64-avx512")


@given(modules(MAKERS, ARGUMENTS, max_ops=12, wrap=kernel))
@settings(max_examples=60, deadline=None)
def test_generated_kernels_round_trip(generated: Generated):
    assert_round_trips(generated.module)
