"""Rules for arithmetic on fragments, every operation once per register, and for moving elements between registers.

%d = mma.map %a, %b { arith.addf } : 128x128 over 128 threads
==> 128 arith.addf

%t = mma.transpose %a
==> every register stored to shared memory, a barrier, and loaded by the thread that is to hold the element
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd

from xdsl.dialects import arith
from xdsl.dialects.builtin import FloatAttr, IndexType, IntegerAttr
from xdsl.ir import SSAValue

from crosstile.dialects import mma
from crosstile.dialects.assembly import number_of
from crosstile.dialects.mma.kernel import integer_list
from crosstile.ir.index_math import Index
from crosstile.lowering.divisibility import constant_value
from crosstile.lowering.linear_index import Linear
from crosstile.lowering.mma_to_nvvm.access import scratch_address
from crosstile.lowering.mma_to_nvvm.box_stores import only_goes_through
from crosstile.lowering.mma_to_nvvm.fragments import Registers, memory_bytes, registers_of
from crosstile.lowering.mma_to_nvvm.memory import read, write
from crosstile.lowering.mma_to_nvvm.rings import may_run_again, meet, meet_in_warp
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering

BANK_BYTES = 4
"""The width of a bank of shared memory (CUDA C++ Programming Guide, "Shared Memory")."""


def _registers(value: SSAValue) -> Registers:
    assert isinstance(value.type, mma.FragmentType)
    return registers_of(value.type.layout.data)


def lower_map(op: mma.MapOp, lowering: NvvmLowering) -> None:
    """The body once per register of the result."""
    result = registers_of(op.result.type.layout.data)
    inputs = [(lowering.elements(value), _registers(value)) for value in op.inputs]
    made = [
        _instantiate(op, [elements[registers.holding(start)] for elements, registers in inputs], lowering)
        for start in result.starts
    ]
    lowering.set_elements(op.result, made)


def _instantiate(op: mma.MapOp, arguments: Sequence[SSAValue], lowering: NvvmLowering) -> SSAValue:
    """The body for one register; the value it yields."""
    block = op.body.block
    values = dict[SSAValue, SSAValue](zip(block.args, arguments, strict=True))

    def operand(old: SSAValue) -> SSAValue:
        return values[old] if old in values else lowering.value(old)

    for inner in block.ops:
        if isinstance(inner, mma.YieldOp):
            return operand(inner.values[0])
        if inner.regions:
            raise lowering.error(f"'{inner.name}' has regions; the body of a map is straight-line code")
        if isinstance(inner, arith.ConstantOp):
            assert isinstance(inner.value, FloatAttr | IntegerAttr)
            values[inner.result] = lowering.constant(number_of(inner.value), inner.result.type)
            continue
        new = type(inner).create(
            operands=[operand(old) for old in inner.operands],
            result_types=[old.type for old in inner.results],
            properties=dict(inner.properties),
            attributes=dict(inner.attributes),
        )
        new.location = inner.location
        lowering.insert(new)
        values.update(zip(inner.results, new.results, strict=True))
    raise lowering.error("its body yields nothing")


def lower_splat(op: mma.SplatOp, lowering: NvvmLowering) -> None:
    """The scalar in every register."""
    known = op.value.owner
    if isinstance(known, arith.ConstantOp) and isinstance(known.value, FloatAttr | IntegerAttr):
        value = lowering.constant(number_of(known.value), op.value.type)
    else:
        value = lowering.value(op.value)
    count = len(registers_of(op.result.type.layout.data).starts)
    lowering.set_elements(op.result, [value] * count)


def lower_iota(op: mma.IotaOp, lowering: NvvmLowering) -> None:
    """The coordinate of every register, plus the start."""
    type_ = op.result.type
    registers, dim = registers_of(type_.layout.data), op.dim.value.data
    start = Linear() if op.start is None else lowering.linear.of(op.start)
    found: list[SSAValue] = []
    for number in range(len(registers.starts)):
        at = lowering.linear.value(lowering.coordinates(registers, number)[dim] + start)
        value = lowering.index.value(at)
        if not isinstance(type_.element_type, IndexType):
            value = lowering.index.build(arith.IndexCastOp(value, type_.element_type)).result
        found.append(value)
    lowering.set_elements(op.result, found)


def lower_mask(op: mma.MaskOp, lowering: NvvmLowering) -> None:
    """Elements beyond the extents replaced."""
    elements = masked(lowering, op.value, integer_list(op.extent_dims), op.extents, number_of(op.otherwise))
    lowering.set_elements(op.result, elements)


def masked(
    lowering: NvvmLowering, old: SSAValue, dims: Sequence[int], extents: Sequence[SSAValue], otherwise: float | int
) -> list[SSAValue]:
    """The elements of ``old`` with ``otherwise`` beyond the extents of ``dims``."""
    type_ = old.type
    assert isinstance(type_, mma.FragmentType)
    elements, valid = lowering.elements(old), validity(lowering, type_, dims, extents)
    if all(inside is True for inside in valid):
        return elements
    filling = lowering.constant(otherwise, type_.element_type)
    return [lowering.select(inside, element, filling) for inside, element in zip(valid, elements, strict=True)]


def validity(
    lowering: NvvmLowering, type_: mma.FragmentType, dims: Sequence[int], extents: Sequence[SSAValue]
) -> list[SSAValue | bool]:
    """Of each register whether its element lies within the extents of ``dims``.

    Neighbours that no extent can part have one condition: that of the last of them, as an access to all of them has.
    """
    registers = registers_of(type_.layout.data)
    limits: dict[int, tuple[Index, int]] = {}
    for dim, extent in zip(dims, extents, strict=True):
        known = constant_value(extent)
        if known is None or known < type_.get_shape()[dim]:
            steps = (one.step for one in registers.joined if one.dim == dim)
            together = gcd(lowering.multiple(extent), *steps) or 1
            limits[dim] = (lowering.value(extent) if known is None else known), together
    found: list[SSAValue | bool] = []
    for number in range(len(registers.starts)):
        at = lowering.coordinates(registers, number)
        valid: SSAValue | bool = True
        for dim, (limit, together) in limits.items():
            # The limit less the thread's part is the same for all registers.
            rest = lowering.index.sub(limit, lowering.linear.sum_of_terms(at[dim]))
            last = at[dim].constant // together * together + together - 1
            valid = lowering.both(valid, lowering.less(last, rest))
        found.append(valid)
    return found


# Moving between registers


def lower_relayout(op: mma.RelayoutOp, lowering: NvvmLowering) -> None:
    """Registers renamed where every element stays in its thread; else through shared memory."""
    source, result = _registers(op.value), registers_of(op.result.type.layout.data)
    if {d for d in source.digits if d.step} == {d for d in result.digits if d.step}:
        elements = lowering.elements(op.value)
        lowering.set_elements(op.result, [elements[source.holding(start)] for start in result.starts])
        return
    warps = [{digit for digit in side.digits if digit.axis == "warp" and digit.size > 1} for side in (source, result)]
    within_warps = warps[0] == warps[1] and all(digit.step for digit in warps[0])
    _through_memory(op, lowering, lambda at: list(at), within_warps)


def lower_transpose(op: mma.TransposeOp, lowering: NvvmLowering) -> None:
    """Through shared memory."""
    _through_memory(op, lowering, lambda at: list(at)[::-1])


def _through_memory(
    op: mma.RelayoutOp | mma.TransposeOp,
    lowering: NvvmLowering,
    turned: Callable[[Sequence[Linear]], list[Linear]],
    within_warps: bool = False,
) -> None:
    """Every thread stores what it holds, all meet, every thread loads what it is to hold, all meet again.

    All are those of a warp if no element leaves its own (``within_warps``). Rows are a bank apart, so that what lies in
    a column lies in different banks.
    """
    type_, element = op.result.type, op.result.type.element_type
    size = memory_bytes(element)
    *rows, columns = type_.get_shape()
    buffer = mma.BufferType.of([*rows, columns + max(1, BANK_BYTES // size)], element)
    for length in buffer.get_shape():
        size *= length
    base = lowering.shared_place(lowering.kernel.take(size, 16))
    source, result = _registers(op.value), registers_of(type_.layout.data)
    for number, value in enumerate(lowering.elements(op.value)):
        at = turned(lowering.coordinates(source, number))
        write(lowering, lowering.shared_pointer(scratch_address(lowering, buffer, base, at)), value)
    (meet_in_warp if within_warps else meet)(lowering)
    found: list[SSAValue] = []
    for number in range(len(result.starts)):
        at = lowering.coordinates(result, number)
        found.append(read(lowering, lowering.shared_pointer(scratch_address(lowering, buffer, base, at)), element))
    if may_run_again(op):
        (meet_in_warp if within_warps else meet)(lowering)  # nobody stores the next time before all have loaded
    lowering.set_elements(op.result, found)


def lower_view(op: mma.ViewOp, lowering: NvvmLowering) -> None:
    """Nothing: the type says where elements are."""
    lowering.map_value(op.result, *lowering.values(op.source))


def lower_alloc(op: mma.AllocOp, lowering: NvvmLowering) -> None:
    """The next bytes of shared memory; none for scratch that stores would go through, and cannot."""
    if only_goes_through(op) and not any(use.operation in lowering.kernel.tensor_copies for use in op.result.uses):
        return
    type_ = op.result.type
    size = memory_bytes(type_.element_type)
    for length in type_.storage_shape():
        size *= length
    place = lowering.shared_place(lowering.kernel.take(size))
    lowering.map_value(op.result, lowering.index.value(lowering.linear.value(place)))
