"""Rules for arithmetic on fragments: every operation once per register; reductions inside lanes, then across them.

    %m = mma.reduce max %s into %before dims [1] : 128x128 over lanes 4 to a row -> 128x1
    ==> 2 chains of arith.maximumf over 32 registers, nvvm.shfl.sync bfly 2, then 1, then %before on the left

Lanes that hold parts of one result exchange them in a butterfly, the farthest first; warps do so through shared memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects import arith, llvm, scf
from xdsl.dialects.builtin import AnyFloat, Float32Type, FloatAttr, IndexType, IntegerAttr, IntegerType, i32
from xdsl.ir import Attribute, Operation, SSAValue

from crosstile.dialects import mma
from crosstile.dialects.assembly import number_of
from crosstile.dialects.mma.kernel import integer_list
from crosstile.dialects.nvvm.synchronisation import ShuffleOp
from crosstile.ir.index_math import Index
from crosstile.lowering.divisibility import constant_value
from crosstile.lowering.linear_index import Linear, Term
from crosstile.lowering.mma_to_nvvm.access import scratch_address
from crosstile.lowering.mma_to_nvvm.fragments import LANES, Digit, Registers, memory_bytes, registers_of
from crosstile.lowering.mma_to_nvvm.kernel_state import ALL_LANES
from crosstile.lowering.mma_to_nvvm.memory import read
from crosstile.lowering.mma_to_nvvm.rings import meet
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering
from crosstile.lowering.reductions import COMBINE_FLOATS, COMBINE_INTEGERS, Combine, combined, identity

EXCHANGED = (Float32Type, IndexType)
COMBINE: dict[str, Combine] = {**COMBINE_FLOATS, "maxnum": lambda a, b: [arith.MaxnumfOp(a, b)]}
"""One instruction each here: the maximum of PTX skips NaN (PTX ISA 8.7, Floating Point Instructions: max)."""
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
    elements, registers = lowering.elements(old), _registers(old)
    limits: dict[int, Index] = {}
    for dim, extent in zip(dims, extents, strict=True):
        known = constant_value(extent)
        if known is None or known < type_.get_shape()[dim]:
            limits[dim] = lowering.value(extent) if known is None else known
    if not limits:
        return elements
    filling = lowering.constant(otherwise, type_.element_type)
    result: list[SSAValue] = []
    for number, element in enumerate(elements):
        at = lowering.coordinates(registers, number)
        valid: SSAValue | bool = True
        for dim, limit in limits.items():
            # The limit less the thread's part is the same for all registers.
            rest = lowering.index.sub(limit, lowering.linear.sum_of_terms(at[dim]))
            valid = lowering.both(valid, lowering.less(at[dim].constant, rest))
        result.append(lowering.select(valid, element, filling))
    return result


# Reductions


def lower_reduce(op: mma.ReduceOp, lowering: NvvmLowering) -> None:
    """Registers in increasing order, lanes and warps in a butterfly, then ``into`` on the left."""
    value_type, result_type = op.value_type, op.result.type
    element, dims = value_type.element_type, integer_list(op.dims)
    combine = (COMBINE if isinstance(element, AnyFloat) else COMBINE_INTEGERS)[op.kind.data]
    filling = identity(op.kind.data, element, 32)
    elements = masked(lowering, op.value, integer_list(op.extent_dims), op.extents, filling)
    source, result = _registers(op.value), registers_of(result_type.layout.data)
    crossing = [digit for digit in source.digits if digit.step and digit.dim in dims]
    into = [] if op.into is None else lowering.elements(op.into)
    partial: dict[int, SSAValue] = {} if crossing else dict(enumerate(into))
    if op.kind.data == "maxnum" and not partial:  # the first may be NaN, which is not greater than what it begins with
        partial = dict.fromkeys(range(len(result.starts)), lowering.constant(filling, element))
    for value, start in zip(elements, source.starts, strict=True):
        number = result.holding([0 if dim in dims else at for dim, at in enumerate(start)])
        known = partial.get(number)
        partial[number] = value if known is None else combined(lowering, combine, known, value)
    reduced = [partial[number] for number in range(len(result.starts))]
    for distance in _distances(crossing, "lane", lowering):
        moved = _from_lane(lowering, reduced, distance, element)
        reduced = [combined(lowering, combine, a, b) for a, b in zip(reduced, moved, strict=True)]
    if distances := _distances(crossing, "warp", lowering):
        reduced = _across_warps(op, lowering, reduced, distances, combine)
    if crossing and into:
        reduced = [combined(lowering, combine, a, b) for a, b in zip(into, reduced, strict=True)]
    lowering.set_elements(op.result, reduced)


def _from_lane(lowering: NvvmLowering, values: Sequence[SSAValue], distance: int, element: Attribute) -> list[SSAValue]:
    """The values of the lane ``distance`` away."""
    mask, offset, clamp = lowering.integer(ALL_LANES), lowering.integer(distance), lowering.integer(LANES - 1)
    moved: list[SSAValue] = []
    for value in values:
        if isinstance(element, EXCHANGED) or element == i32:
            moved.append(lowering.insert(ShuffleOp("bfly", mask, value, offset, clamp)).res)
            continue
        if not isinstance(element, IntegerType | AnyFloat) or element.bitwidth > 32:
            raise lowering.error(f"lanes exchange numbers of up to 32 bits, not {element}")
        narrow = IntegerType(element.bitwidth)
        bits = value if element == narrow else lowering.insert(llvm.BitcastOp(value, narrow)).result
        word = lowering.insert(arith.ExtUIOp(bits, i32)).result
        word = lowering.insert(ShuffleOp("bfly", mask, word, offset, clamp)).res
        bits = lowering.insert(arith.TruncIOp(word, narrow)).result
        moved.append(bits if value.type == narrow else lowering.insert(llvm.BitcastOp(bits, value.type)).result)
    return moved


def _distances(crossing: Sequence[Digit], axis: str, lowering: NvvmLowering) -> list[int]:
    """How far apart the lanes or warps of a butterfly are, the farthest first."""
    found: list[int] = []
    for digit in sorted((digit for digit in crossing if digit.axis == axis), key=lambda digit: -digit.weight):
        if digit.size & (digit.size - 1):
            raise lowering.error(f"crosses {digit.size} {axis}s, which is no power of two")
        distance = digit.size // 2
        while distance:
            found.append(digit.weight * distance)
            distance //= 2
    return found


def _across_warps(
    op: mma.ReduceOp, lowering: NvvmLowering, values: Sequence[SSAValue], distances: Sequence[int], combine: Combine
) -> list[SSAValue]:
    """The butterfly over warps: each stores what it has, all meet once, each loads the others' and combines them."""
    element = values[0].type
    size, threads = memory_bytes(element), lowering.program.warps * LANES
    place = lowering.shared_place(lowering.kernel.take(threads * len(values) * size, 16))
    thread = lowering.thread()

    def pointer(of: SSAValue, number: int) -> SSAValue:
        return lowering.shared_pointer(place + number * threads * size + Linear(0, (Term(of, size, 1),)))

    for number, value in enumerate(values):
        write(lowering, pointer(thread, number), value)
    meet(lowering)
    masks = [0]
    for distance in distances:
        masks += [mask ^ distance for mask in masks]
    others = {
        mask: lowering.index.build(arith.XOrIOp(thread, lowering.index.value(mask * LANES))).result
        for mask in masks
        if mask
    }
    result: list[SSAValue] = []
    for number, value in enumerate(values):
        parts = {mask: read(lowering, pointer(other, number), element) for mask, other in others.items()}
        parts[0] = value
        for distance in distances:
            parts = {
                mask: combined(lowering, combine, part, parts[mask ^ distance])
                for mask, part in parts.items()
                if not mask & distance
            }
        result.append(parts[0])
    if _may_run_again(op):
        meet(lowering)  # nobody stores the next time before all have loaded
    return result


def _may_run_again(op: Operation) -> bool:
    """Whether ``op`` stands in a loop of its kernel, or in a grid whose instances run one after the other."""
    parent = op.parent_op()
    while parent is not None and not isinstance(parent, mma.KernelOp):
        if isinstance(parent, scf.ForOp | scf.WhileOp):
            return True
        if isinstance(parent, mma.ParallelOp) and parent.order.persistent is not None:
            return True
        parent = parent.parent_op()
    return False


def write(lowering: NvvmLowering, pointer: SSAValue, value: SSAValue) -> None:
    """Store one element; an index has 64 bits in memory."""
    if isinstance(value.type, IndexType):
        value = lowering.insert(arith.IndexCastOp(value, IntegerType(64))).result
    lowering.insert(llvm.StoreOp(value, pointer))


# Moving between registers


def lower_relayout(op: mma.RelayoutOp, lowering: NvvmLowering) -> None:
    """Registers renamed where every element stays in its thread; else through shared memory."""
    source, result = _registers(op.value), registers_of(op.result.type.layout.data)
    if {d for d in source.digits if d.step} == {d for d in result.digits if d.step}:
        elements = lowering.elements(op.value)
        lowering.set_elements(op.result, [elements[source.holding(start)] for start in result.starts])
        return
    _through_memory(op, lowering, lambda at: list(at))


def lower_transpose(op: mma.TransposeOp, lowering: NvvmLowering) -> None:
    """Through shared memory."""
    _through_memory(op, lowering, lambda at: list(at)[::-1])


def _through_memory(
    op: mma.RelayoutOp | mma.TransposeOp, lowering: NvvmLowering, turned: Callable[[Sequence[Linear]], list[Linear]]
) -> None:
    """Every thread stores what it holds, all meet, every thread loads what it is to hold, all meet again.

    Rows are a bank apart, so that what lies in a column lies in different banks.
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
    meet(lowering)
    found: list[SSAValue] = []
    for number in range(len(result.starts)):
        at = lowering.coordinates(result, number)
        found.append(read(lowering, lowering.shared_pointer(scratch_address(lowering, buffer, base, at)), element))
    if _may_run_again(op):
        meet(lowering)
    lowering.set_elements(op.result, found)


def lower_view(op: mma.ViewOp, lowering: NvvmLowering) -> None:
    """Nothing: the type says where elements are."""
    lowering.map_value(op.result, *lowering.values(op.source))


def lower_alloc(op: mma.AllocOp, lowering: NvvmLowering) -> None:
    """The next bytes of shared memory."""
    type_ = op.result.type
    size = memory_bytes(type_.element_type)
    for length in type_.storage_shape():
        size *= length
    place = lowering.shared_place(lowering.kernel.take(size))
    lowering.map_value(op.result, lowering.index.value(lowering.linear.value(place)))
