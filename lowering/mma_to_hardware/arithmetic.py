"""Rules for arithmetic on fragments: every operation once per register, on vectors.

    %e = mma.map (%s, %m : 8x32, 8x1) -> 8x32 { ^bb0(%x: f32, %y: f32): %d = arith.subf %x, %y ... }
    ==>
      %d0 = arith.subf %s0, %m0 : vector<16xf32>      16 registers of %s, 8 of %m, the same number in all lanes
      %d1 = arith.subf %s1, %m0 : vector<16xf32>

A reduction combines registers in increasing order, then lanes in a butterfly: 8 apart, 4, 2, 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from xdsl.dialects import arith, vector
from xdsl.dialects.builtin import (
    AnyFloat,
    DenseArrayBase,
    FloatAttr,
    IntegerAttr,
    VectorType,
    i1,
    i64,
)
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.traits import Pure
from xdsl.utils.hints import isa

from crosstile.dialects import mma
from crosstile.dialects.arith import SelectOp, class_for_vectors, with_element_type
from crosstile.dialects.assembly import number_of
from crosstile.dialects.mma.kernel import integer_list
from crosstile.ir.index_math import Index
from crosstile.lowering.divisibility import constant_value
from crosstile.lowering.mma_to_hardware import tiles, words
from crosstile.lowering.mma_to_hardware.rolled_map import is_rolled, roll
from crosstile.lowering.mma_to_hardware.state import HardwareLowering, vector_type
from crosstile.lowering.reductions import COMBINE_FLOATS, COMBINE_INTEGERS, Combine, combined, folded, identity
from crosstile.lowering.vector_registers import Registers, registers_of

INDEX_BITS = 64

DIVISIONS = (
    *(arith.DivUIOp, arith.DivSIOp, arith.RemUIOp, arith.RemSIOp),
    *(arith.FloorDivSIOp, arith.CeilDivSIOp, arith.CeilDivUIOp),
)


INTERLEAVED = 4
"""Registers whose operations alternate: independent chains side by side, few enough that their values fit."""


def lower_map(op: mma.MapOp, lowering: HardwareLowering) -> None:
    """The body once per register of the result, on vectors instead of scalars.

    A few registers take turns, operation by operation: a core holds fewer waiting operations than one long chain after
    another would need to keep its units busy.
    """
    result = registers_of(op.result.type.layout.data)
    inputs = [(lowering.values(value), _registers(value)) for value in op.inputs]
    lanes = vector_type(op.result.type)
    arguments = [[values[registers.holding(start)] for values, registers in inputs] for start in result.starts]
    if is_rolled(op, len(arguments), INTERLEAVED):
        rolled = roll(lowering, arguments, INTERLEAVED, lanes, lambda few: _instantiate(op, few, lanes, lowering))
        if rolled is not None:
            lowering.map_value(op.result, *rolled)
            return
    results: list[SSAValue] = []
    for first in range(0, len(arguments), INTERLEAVED):
        results += _instantiate(op, arguments[first : first + INTERLEAVED], lanes, lowering)
    lowering.map_value(op.result, *results)


def _registers(value: SSAValue) -> Registers:
    assert isinstance(value.type, mma.FragmentType)
    return registers_of(value.type.layout.data)


def _instantiate(
    op: mma.MapOp, arguments: Sequence[Sequence[SSAValue]], lanes: VectorType, lowering: HardwareLowering
) -> list[SSAValue]:
    """The body for a few registers; the values it yields."""
    block = op.body.block
    copies = [dict[SSAValue, SSAValue](zip(block.args, each, strict=True)) for each in arguments]
    shared: dict[SSAValue, SSAValue] = {}

    def operand(values: dict[SSAValue, SSAValue], old: SSAValue) -> SSAValue:
        if old in values:
            return values[old]
        if old not in shared:  # a scalar from above
            shared[old] = lowering.broadcast(lowering.value(old), with_lanes(old.type, lanes))
        return shared[old]

    for inner in block.ops:
        if isinstance(inner, mma.YieldOp):
            return [operand(values, inner.values[0]) for values in copies]
        if inner.regions:
            raise lowering.error(f"'{inner.name}' has regions; the body of a map is straight-line code")
        if isinstance(inner, arith.ConstantOp):
            shared[inner.result] = splat_constant(inner, lanes, lowering)
            continue
        kind = class_for_vectors(inner)
        for values in copies:
            new = kind.create(
                operands=[operand(values, old) for old in inner.operands],
                result_types=[with_lanes(old.type, lanes) for old in inner.results],
                properties=dict(inner.properties),
                attributes=dict(inner.attributes),
            )
            new.location = inner.location
            lowering.insert(new)
            values.update(zip(inner.results, new.results, strict=True))
    raise lowering.error("its body yields nothing")


@cache
def with_lanes(type_: Attribute, lanes: VectorType) -> VectorType:
    """A register of elements of ``type_``, as many as ``lanes`` has."""
    found = with_element_type(lanes, type_)
    assert isa(found, VectorType)
    return found


def splat_constant(op: arith.ConstantOp, lanes: VectorType, lowering: HardwareLowering) -> SSAValue:
    """A scalar constant in every lane, outside of all loops."""
    value = op.value
    assert isinstance(value, FloatAttr | IntegerAttr)
    return lowering.constant(number_of(value), with_lanes(op.result.type, lanes))


def lower_reduce(op: mma.ReduceOp, lowering: HardwareLowering) -> None:
    """Registers in increasing order, lanes in a butterfly, then ``into`` on the left; ``into`` first without lanes."""
    value_type, result_type = op.value_type, op.result.type
    element = value_type.get_element_type()
    combine = (COMBINE_FLOATS if isinstance(element, AnyFloat) else COMBINE_INTEGERS)[op.kind.data]
    dims = integer_list(op.dims)
    values = masked(
        lowering, op.value, integer_list(op.extent_dims), op.extents, identity(op.kind.data, element, INDEX_BITS)
    )
    source, result = _registers(op.value), registers_of(result_type.layout.data)
    crosses_lanes = len(value_type.get_shape()) - 1 in dims and not source.replicated and source.lanes > 1
    into: Sequence[SSAValue] = () if op.into is None else lowering.values(op.into)
    partial: dict[int, SSAValue] = {} if crosses_lanes else dict(enumerate(into))
    if op.kind.data == "maxnum" and not partial:  # the first may be NaN, which is not greater than what it begins with
        least = lowering.constant(identity(op.kind.data, element, INDEX_BITS), vector_type(op.value_type))
        partial = dict.fromkeys(range(len(result.starts)), least)
    parts = {number: [value] for number, value in partial.items()}
    for value, start in zip(values, source.starts, strict=True):
        number = result.holding([0 if dim in dims else at for dim, at in enumerate(start)])
        parts.setdefault(number, []).append(value)
    found = folded(lowering, combine, op.kind.data, parts, crosses_lanes)
    reduced = [found[number] for number in range(len(result.starts))]
    if crosses_lanes:
        reduced = [butterfly(lowering, value, source.lanes, combine) for value in reduced]
        if into:
            reduced = [combined(lowering, combine, a, b) for a, b in zip(into, reduced, strict=True)]
    lowering.map_value(op.result, *reduced)


def butterfly(lowering: HardwareLowering, value: SSAValue, lanes: int, combine: Combine) -> SSAValue:
    """All lanes of a register combined; every lane holds the result."""
    distance = lanes // 2
    while distance:
        order = DenseArrayBase.from_list(i64, [lane ^ distance for lane in range(lanes)])
        assert isa(value.type, VectorType)
        moved = lowering.insert(vector.ShuffleOp(value, value, order, result_type=value.type)).result
        value = combined(lowering, combine, value, moved)
        distance //= 2
    return value


def lower_mask(op: mma.MaskOp, lowering: HardwareLowering) -> None:
    """Elements beyond the extents replaced, registers that no extent cuts kept."""
    dims = integer_list(op.extent_dims)
    lowering.map_value(op.result, *masked(lowering, op.value, dims, op.extents, number_of(op.otherwise)))


def masked(
    lowering: HardwareLowering,
    value: SSAValue,
    dims: Sequence[int],
    extents: Sequence[SSAValue],
    otherwise: float | int,
) -> Sequence[SSAValue]:
    """The registers of ``value`` with ``otherwise`` beyond the extents of ``dims``."""
    registers = lowering.values(value)
    assert isinstance(value.type, mma.FragmentType)
    shape, layout = value.type.get_shape(), _registers(value)
    limits: dict[int, Index] = {}
    for dim, extent in zip(dims, extents, strict=True):
        known = constant_value(extent)
        if known is None or known < shape[dim]:
            limits[dim] = lowering.value(extent) if known is None else known
    if not limits:
        return registers
    filling = lowering.constant(otherwise, vector_type(value.type))
    result: list[SSAValue] = []
    for register, start in zip(registers, layout.starts, strict=True):
        valid = _valid_lanes(lowering, layout, start, limits)
        result.append(lowering.insert(SelectOp(valid, register, filling)).result)
    return result


def _valid_lanes(
    lowering: HardwareLowering, layout: Registers, start: Sequence[int], limits: dict[int, Index]
) -> SSAValue:
    """A mask of the lanes of a register that lie inside ``limits``."""
    index = lowering.index
    lane_dim = len(layout.shape) - 1
    if layout.group > 1:
        return words.valid_elements(lowering, layout, start, limits)
    count: Index = layout.lanes
    for dim, limit in limits.items():
        beyond = index.sub(limit, start[dim])
        if dim == lane_dim and not layout.replicated:
            count = index.minimum(count, beyond)
        else:  # all lanes or none
            count = index.minimum(count, index.mul(index.maximum(beyond, 0), layout.lanes))
    mask = vector.CreateMaskOp([index.value(count)], VectorType(i1, [layout.lanes]))
    return index.build(mask).mask_vector


def lower_splat(op: mma.SplatOp, lowering: HardwareLowering) -> None:
    """One broadcast, in all registers."""
    if tiles.lives_in_tiles(op.result.type):
        tiles.lower_splat(op, lowering)
        return
    type_ = vector_type(op.result.type)
    count = len(registers_of(op.result.type.layout.data).starts)
    known = op.value.owner
    if isinstance(known, arith.ConstantOp):
        register = splat_constant(known, type_, lowering)
    else:
        register = lowering.broadcast(lowering.value(op.value), type_)
    lowering.map_value(op.result, *[register] * count)


def lower_iota(op: mma.IotaOp, lowering: HardwareLowering) -> None:
    """A constant per register, plus the start."""
    type_ = vector_type(op.result.type)
    registers = registers_of(op.result.type.layout.data)
    dim = op.dim.value.data
    along_lanes = dim == len(registers.shape) - 1 and not registers.replicated
    start: SSAValue | None = None
    if op.start is not None:
        scalar = lowering.value(op.start)
        if type_.element_type != scalar.type:
            scalar = lowering.index.build(arith.IndexCastOp(scalar, type_.element_type)).result
        start = lowering.broadcast(scalar, type_)
    results: list[SSAValue] = []
    for place in registers.starts:
        steps = [place[dim] + (lane if along_lanes else 0) for lane in range(registers.lanes)]
        numbers = lowering.constant_vector(steps, type_)
        results.append(numbers if start is None else lowering.index.build(arith.AddiOp(numbers, start)).result)
    lowering.map_value(op.result, *results)


def lower_relayout(op: mma.RelayoutOp, lowering: HardwareLowering) -> None:
    """Registers in another order, or rows interleaved to words; what else moves between lanes has no instruction."""
    source, result = _registers(op.value), registers_of(op.result.type.layout.data)
    if source.group == 1 < result.group and source.lanes == result.lanes and not source.replicated:
        lowering.map_value(op.result, *words.interleaved(op, source, result, lowering))
        return
    if (source.lanes, source.replicated) != (result.lanes, result.replicated):
        raise lowering.error(
            "moves elements between lanes; on a core that goes through memory: store the fragment to a buffer and "
            "load it in the other layout"
        )
    values = lowering.values(op.value)
    lowering.map_value(op.result, *[values[source.holding(start)] for start in result.starts])


def lower_scalar(op: Operation, lowering: HardwareLowering) -> None:
    """Arithmetic on scalars: the same, moved out of loops and merged with equal operations where it may be."""
    new = type(op).create(
        operands=lowering.flatten(op.operands),
        result_types=[result.type for result in op.results],
        properties=dict(op.properties),
        attributes=dict(op.attributes),
    )
    if op.has_trait(Pure) and not op.regions and not _may_trap(op):
        new = lowering.index.build(new)
    else:
        lowering.insert(new)
    lowering.replace(op, *new.results)


def _may_trap(op: Operation) -> bool:
    """Whether running ``op`` with operands it would not have been given can fault: a division by zero."""
    return isinstance(op, DIVISIONS) and not constant_value(op.operands[1])
