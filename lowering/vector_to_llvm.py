"""Rules for ``vector``: rank-1 vectors to LLVM vectors, memory through addresses, masks as vectors of bits.

Loads and stores need only the alignment of an element. A mask made by ``vector.create_mask`` is a comparison of the
lane numbers with the clamped count, in integers as narrow as keeps one vector register. A reduction is a tree of
halves, lanes ``i`` and ``i + n/2`` first, so that its value is the same wherever it is computed; only an ``add`` or
``mul`` of floats without ``fastmath<reassoc>`` goes lane by lane in order. ::

    %m = vector.create_mask %n : vector<16xi1>
    ==> %0 = llvm.intr.smax(%n, 0) ; %1 = llvm.intr.smin(%0, 16) ; %2 = llvm.trunc %1 : i64 to i32
        %3 = splat %2 ; %m = llvm.icmp "sgt" %3, dense<[0, 1, ..., 15]> : vector<16xi32>
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

from xdsl.dialects import llvm as xllvm
from xdsl.dialects import vector
from xdsl.dialects.builtin import (
    AnyFloat,
    DenseArrayBase,
    DenseIntOrFPElementsAttr,
    IntegerAttr,
    IntegerType,
    VectorType,
    i1,
    i32,
    i64,
)
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.utils.hints import isa

from crosstile.dialects import llvm
from crosstile.dialects.arith import element_type
from crosstile.dialects.vector import ConstantMaskOp, StoreOp
from crosstile.lowering.driver import Lowering, Rule
from crosstile.lowering.llvm_types import constant, element_bytes, literal, scalar_or_vector
from crosstile.lowering.memref_descriptor import MemRef

SGT = IntegerAttr(4, i64)


def lanes(type_: Attribute) -> int:
    """The number of elements of a rank-1 vector type."""
    assert isa(type_, VectorType)
    return type_.get_shape()[0]


def vector_address(lowering: Lowering, base: SSAValue, indices: Sequence[SSAValue], type_: Attribute) -> SSAValue:
    """The address of a vector's first element; its memref must be dense in the last dimension."""
    source = MemRef.of(lowering, base)
    if source.given_strides is not None and source.given_strides[-1:] != (1,):
        raise lowering.error(f"vectors are read and written along a dimension of stride 1, which {source.type} lacks")
    if element_type(type_) == i1:
        raise lowering.error("vectors of i1 have no layout in memory; keep masks as integers of a byte or more")
    return source.address(lowering, lowering.flatten(indices))


def lower_load(op: vector.LoadOp, lowering: Lowering) -> None:
    """``vector.load``."""
    address = vector_address(lowering, op.base, op.indices, op.result.type)
    type_ = scalar_or_vector(op.result.type)
    new_op = xllvm.LoadOp(address, type_, alignment=element_bytes(element_type(op.result.type)))
    lowering.replace(op, lowering.insert(new_op).dereferenced_value)


def lower_store(op: vector.StoreOp, lowering: Lowering) -> None:
    """``vector.store``."""
    address = vector_address(lowering, op.base, op.indices, op.vector.type)
    known = op.alignment if isinstance(op, StoreOp) else None
    alignment = element_bytes(element_type(op.vector.type)) if known is None else known.value.data
    past_caches = bool(op.nontemporal.value.data)
    lowering.insert(xllvm.StoreOp(lowering.value(op.vector), address, alignment=alignment, nontemporal=past_caches))


def lower_masked_load(op: vector.MaskedLoadOp, lowering: Lowering) -> None:
    """``vector.maskedload``: no memory is touched for lanes whose bit is clear."""
    address = vector_address(lowering, op.base, op.indices, op.result.type)
    alignment = element_bytes(element_type(op.result.type))
    new_op = llvm.MaskedLoadOp(address, lowering.value(op.mask), lowering.value(op.pass_thru), alignment)
    lowering.replace(op, lowering.insert(new_op).res)


def lower_masked_store(op: vector.MaskedStoreOp, lowering: Lowering) -> None:
    """``vector.maskedstore``: no memory is touched for lanes whose bit is clear."""
    address = vector_address(lowering, op.base, op.indices, op.value_to_store.type)
    alignment = element_bytes(element_type(op.value_to_store.type))
    new_op = llvm.MaskedStoreOp(lowering.value(op.value_to_store), address, lowering.value(op.mask), alignment)
    lowering.insert(new_op)


def splat(lowering: Lowering, value: SSAValue, type_: Attribute) -> SSAValue:
    """A vector of type ``type_`` with ``value`` in every lane."""

    def make() -> SSAValue:
        poison = lowering.once((llvm.PoisonOp, type_), lambda: lowering.insert(llvm.PoisonOp(type_)).res)
        first = lowering.insert(xllvm.InsertElementOp(poison, value, constant(lowering, 0, i32))).res
        return first if lanes(type_) == 1 else shuffle(lowering, first, poison, [0] * lanes(type_))

    return lowering.once((splat, value, type_), make)


def shuffle(lowering: Lowering, lhs: SSAValue, rhs: SSAValue, mask: Sequence[int]) -> SSAValue:
    """The lanes ``mask`` of ``lhs`` and ``rhs`` one after the other."""
    result_type = VectorType(element_type(lhs.type), [len(mask)])
    return lowering.insert(xllvm.ShuffleVectorOp(lhs, rhs, lane_mask(*mask), result_type)).res


def lower_broadcast(op: vector.BroadcastOp, lowering: Lowering) -> None:
    """``vector.broadcast`` of a scalar, or of a vector of one element or of the result's length."""
    source, type_ = lowering.value(op.source), scalar_or_vector(op.vector.type)
    if isa(source.type, VectorType):
        if lanes(source.type) == lanes(type_):
            lowering.replace(op, source)
            return
        if lanes(source.type) != 1:
            raise lowering.error(f"a {source.type} cannot be stretched to {type_}")
        lowering.replace(op, shuffle(lowering, source, source, [0] * lanes(type_)))
        return
    lowering.replace(op, splat(lowering, source, type_))


def lower_fma(op: vector.FMAOp, lowering: Lowering) -> None:
    """``vector.fma``: one rounding."""
    lhs, rhs, accumulator = (lowering.value(value) for value in (op.lhs, op.rhs, op.acc))
    lowering.replace(op, lowering.insert(xllvm.FMAOp(lhs, rhs, accumulator)).res)


@cache
def lane_numbers(count: int) -> tuple[IntegerType, VectorType[IntegerType], DenseIntOrFPElementsAttr[IntegerType]]:
    """The integer type in which ``count`` lanes are compared, the vector type of that, and the numbers of the lanes."""
    counter = IntegerType(32 if count <= 16 else 16 if count <= 32 or count > 127 else 8)
    counters = VectorType(counter, [count])
    return counter, counters, DenseIntOrFPElementsAttr.from_list(counters, list(range(count)))


@cache
def lane_mask(*mask: int) -> DenseArrayBase[IntegerType]:
    """A shuffle's mask."""
    return DenseArrayBase.from_list(i32, mask)


def lower_create_mask(op: vector.CreateMaskOp, lowering: Lowering) -> None:
    """``vector.create_mask``: lanes below the count; none for a count of zero or less."""
    type_ = scalar_or_vector(op.mask_vector.type)
    count = lanes(type_)
    (size,) = lowering.flatten(op.mask_dim_sizes)
    clamped = lowering.insert(llvm.SMaxOp(size, constant(lowering, 0))).res
    clamped = lowering.insert(llvm.SMinOp(clamped, constant(lowering, count))).res
    counter, counters, numbers = lane_numbers(count)
    narrow = lowering.insert(xllvm.TruncOp(clamped, counter)).res
    numbers_value = literal(lowering, numbers, counters)
    lowering.replace(op, lowering.insert(xllvm.ICmpOp(splat(lowering, narrow, counters), numbers_value, SGT)).res)


def lower_constant_mask(op: ConstantMaskOp, lowering: Lowering) -> None:
    """``vector.constant_mask``: a constant."""
    type_ = scalar_or_vector(op.mask.type)
    assert isa(type_, VectorType[IntegerType])
    (size,) = op.mask_dim_sizes.get_values()
    bits = DenseIntOrFPElementsAttr.from_list(type_, [int(lane < size) for lane in range(lanes(type_))])
    lowering.replace(op, literal(lowering, bits, type_))


def static_position(lowering: Lowering, op: vector.ExtractOp | vector.InsertOp) -> SSAValue:
    """The one position of an extraction or insertion, as an integer value."""
    (position,) = op.get_mixed_position()
    return constant(lowering, position) if isinstance(position, int) else lowering.value(position)


def lower_extract(op: vector.ExtractOp, lowering: Lowering) -> None:
    """``vector.extract`` of one element."""
    vector_value = lowering.value(op.vector)
    if not op.get_mixed_position():
        lowering.replace(op, vector_value)
        return
    position = static_position(lowering, op)
    lowering.replace(op, lowering.insert(llvm.ExtractElementOp(vector_value, position)).res)


def lower_insert(op: vector.InsertOp, lowering: Lowering) -> None:
    """``vector.insert`` of one element."""
    source = lowering.value(op.source)
    if not op.get_mixed_position():
        lowering.replace(op, source)
        return
    position = static_position(lowering, op)
    lowering.replace(op, lowering.insert(xllvm.InsertElementOp(lowering.value(op.dest), source, position)).res)


def lower_shuffle(op: vector.ShuffleOp, lowering: Lowering) -> None:
    """``vector.shuffle``; a shorter operand is first brought to the length of the other."""
    lhs, rhs = lowering.value(op.v1), lowering.value(op.v2)
    mask = list(op.mask.get_values())
    left, right = lanes(lhs.type), lanes(rhs.type)
    if any(position < 0 for position in mask):
        raise lowering.error("a mask value of -1 asks for poison, which is not allowed here")
    if left != right:
        length = max(left, right)
        if left < length:
            lhs = shuffle(lowering, lhs, lhs, [min(i, left - 1) for i in range(length)])
        else:
            rhs = shuffle(lowering, rhs, rhs, [min(i, right - 1) for i in range(length)])
        mask = [position if position < left else position - left + length for position in mask]
    lowering.replace(op, shuffle(lowering, lhs, rhs, mask))


def lower_bitcast(op: vector.BitcastOp, lowering: Lowering) -> None:
    """``vector.bitcast``."""
    value, type_ = lowering.value(op.source), scalar_or_vector(op.result.type)
    lowering.replace(op, value if value.type == type_ else lowering.insert(xllvm.BitcastOp(value, type_)).result)


Combine = Callable[[SSAValue, SSAValue], Operation]


FLOAT_KINDS: Mapping[str, Combine] = {
    "add": xllvm.FAddOp,
    "mul": xllvm.FMulOp,
    "minnumf": xllvm.VectorFMinOp,
    "maxnumf": xllvm.VectorFMaxOp,
    "minimumf": llvm.MinimumOp,
    "maximumf": llvm.MaximumOp,
}
INTEGER_KINDS: Mapping[str, Combine] = {
    "add": xllvm.AddOp,
    "mul": xllvm.MulOp,
    "minsi": llvm.SMinOp,
    "minui": llvm.UMinOp,
    "maxsi": llvm.SMaxOp,
    "maxui": llvm.UMaxOp,
    "and": xllvm.AndOp,
    "or": xllvm.OrOp,
    "xor": xllvm.XOrOp,
}


def lower_reduction(op: vector.ReductionOp, lowering: Lowering) -> None:
    """``vector.reduction``: in order where floats may not be reassociated, a tree of halves otherwise.

    The order is settled here, so the new operations carry no fastmath flags: LLVM must not settle it anew.
    """
    value = lowering.value(op.vector)
    is_float = isinstance(element_type(value.type), AnyFloat)
    kind = str(op.kind.data)
    combine = (FLOAT_KINDS if is_float else INTEGER_KINDS).get(kind)
    if combine is None:
        raise lowering.error(f"vectors of {element_type(value.type)} cannot be reduced by '{kind}'")
    in_order = is_float and kind in ("add", "mul") and "reassoc" not in {str(flag) for flag in op.fastmath.data}
    start = lowering.value(op.acc) if op.acc is not None else None
    if in_order:
        lowering.replace(op, _reduce_in_order(lowering, value, start, combine))
        return
    total = _reduce_halves(lowering, value, combine)
    if start is not None:
        total = lowering.insert(combine(total, start)).results[0]
    lowering.replace(op, total)


def _reduce_in_order(lowering: Lowering, value: SSAValue, start: SSAValue | None, combine: Combine) -> SSAValue:
    total = start
    for lane in range(lanes(value.type)):
        element = lowering.insert(llvm.ExtractElementOp(value, constant(lowering, lane))).res
        total = element if total is None else lowering.insert(combine(total, element)).results[0]
    assert total is not None
    return total


def _reduce_halves(lowering: Lowering, value: SSAValue, combine: Combine) -> SSAValue:
    while (count := lanes(value.type)) > 2 and count % 2 == 0:
        low = shuffle(lowering, value, value, list(range(count // 2)))
        high = shuffle(lowering, value, value, list(range(count // 2, count)))
        value = lowering.insert(combine(low, high)).results[0]
    return _reduce_in_order(lowering, value, None, combine)


RULES: Mapping[type[Operation], Rule] = {
    vector.LoadOp: lower_load,
    vector.StoreOp: lower_store,
    vector.MaskedLoadOp: lower_masked_load,
    vector.MaskedStoreOp: lower_masked_store,
    vector.BroadcastOp: lower_broadcast,
    vector.FMAOp: lower_fma,
    vector.CreateMaskOp: lower_create_mask,
    ConstantMaskOp: lower_constant_mask,
    vector.ExtractOp: lower_extract,
    vector.InsertOp: lower_insert,
    vector.ShuffleOp: lower_shuffle,
    vector.BitcastOp: lower_bitcast,
    vector.ReductionOp: lower_reduction,
}
