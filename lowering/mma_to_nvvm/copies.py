"""Rules for asynchronous copies into a ring's slot: by all threads in chunks of up to 16 bytes, or whole boxes at once.

    mma.copy_async %A[%i, %k] extent [%mc, %kc] to %slot : memref<?x?xbf16> to !mma.slot<write 128x32xbf16, ...>
    ==> 4 x nvvm.cp.async.shared.global %to, %from, 16, cache = cg, %valid     128 threads, 16 bytes each
    ==> nvvm.mbarrier.arrive.expect_tx.shared, nvvm.cp.async.bulk.tensor...    one thread, sm_90a, aligned memory

Chunks beyond the edge copy no bytes and are filled with zeros, so that no branch stands between the copies. Elements
that are not even aligned to 4 bytes are loaded and stored one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd

from xdsl.dialects import llvm
from xdsl.ir import SSAValue

from crosstile.dialects import mma
from crosstile.dialects.mma.place import listed_extents
from crosstile.dialects.nvvm.copies import CpAsyncOp, TensorCopyOp
from crosstile.dialects.nvvm.synchronisation import MbarrierArriveExpectTxOp
from crosstile.ir.index_math import Index
from crosstile.lowering.divisibility import constant_value
from crosstile.lowering.linear_index import Linear, Term
from crosstile.lowering.loops import build_for, build_if, run_if
from crosstile.lowering.mma_to_nvvm.access import Place, scratch_address
from crosstile.lowering.mma_to_nvvm.clusters import share_of
from crosstile.lowering.mma_to_nvvm.fragments import LANES, Digit, Registers, registers_of
from crosstile.lowering.mma_to_nvvm.kernel_state import INDEX
from crosstile.lowering.mma_to_nvvm.memory import all_or_none, read
from crosstile.lowering.mma_to_nvvm.rings import slot_bytes_of
from crosstile.lowering.mma_to_nvvm.slots import address_of, barrier_of
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering
from crosstile.lowering.mma_to_nvvm.tensor_maps import copy_recipe, panels_of, parts_of, valid_end

MOST_BYTES = 16
"""The largest cp.async (PTX ISA, "cp.async")."""
LEAST_BYTES = 4
"""The smallest cp.async; less is loaded and stored."""
LOADED_AT_ONCE = 8
"""Elements that a thread has in flight where it loads and stores them: more would take more registers than are there
beside a product's accumulators."""


@dataclass(frozen=True)
class Chunks:
    """Who copies what: each register of ``registers`` is a chunk of ``width`` neighbours along ``dim``.

    ``idle`` is a digit of the thread's number that must be 0, if there are more threads than chunks.
    """

    registers: Registers
    dim: int
    width: int
    idle: Digit | None


def lower_copy(op: mma.CopyAsyncOp, lowering: NvvmLowering) -> None:
    """Boxes if the plan for rings says so, else chunks."""
    if op in lowering.kernel.tensor_copies:
        _copy_boxes(op, lowering)
        return
    if op.shared_dims:
        raise lowering.error(
            f"multicast {op.shared_dims}: blocks copy for each other in whole boxes alone; expects a machine with "
            "tensor copies, rows that are multiples of 16 bytes, and places that indices alone say"
        )
    place = Place(
        lowering,
        op.source,
        op.slot_type.get_shape(),
        op.map,
        op.indices,
        op.extents,
        op.extent_dims,
        op.clip is not None,
    )
    chunks = _distribute(op, place, lowering)
    condition = True if chunks.idle is None else lowering.compare("eq", lowering.digit(chunks.idle), 0)
    run_if(lowering, condition, lambda: _copy_chunks(op, place, chunks, lowering))


# Chunks


def _distribute(op: mma.CopyAsyncOp, place: Place, lowering: NvvmLowering) -> Chunks:
    shape = op.slot_type.get_shape()
    target = Place(lowering, op.slot, shape, None, [lowering.zero_index()] * len(shape), (), None, False)
    source_dim, target_dim = place.contiguous(), target.contiguous()
    dim, width = len(shape) - 1 if target_dim is None else target_dim, 1
    if source_dim is not None and source_dim == target_dim:
        dim, width = source_dim, max(1, MOST_BYTES // place.element_bytes)
        while width > 1 and (place.aligned(dim, width) < width or target.aligned(dim, width) < width):
            width //= 2
    counts = [size // (width if at == dim else 1) for at, size in enumerate(shape)]
    gathered = [index for index in op.indices if index.type != INDEX]
    if gathered:
        return _follow(gathered[0], counts, dim, width, shape, lowering)
    digits: list[Digit] = []
    rest = lowering.program.warps * LANES
    weight = 1
    for at in [dim, *(other for other in reversed(range(len(shape))) if other != dim)]:
        size = gcd(counts[at], rest)
        if size > 1:
            digits.append(Digit("thread", weight, size, at, width if at == dim else 1))
            weight, rest, counts[at] = weight * size, rest // size, counts[at] // size
    steps = [1] * len(shape)
    for digit in digits:
        steps[digit.dim] = digit.size * digit.step
    steps[dim] = max(steps[dim], width)
    starts = tuple(
        tuple(number * step for number, step in zip(numbers, steps, strict=True))
        for numbers in product(*map(range, counts))
    )
    idle = Digit("thread", weight, rest, 0, 0) if rest > 1 else None
    return Chunks(Registers(tuple(shape), starts, tuple(digits)), dim, width, idle)


def _follow(
    index: SSAValue, counts: Sequence[int], dim: int, width: int, shape: Sequence[int], lowering: NvvmLowering
) -> Chunks:
    """Chunks of the rows whose numbers a thread holds; threads that hold the same share the row."""
    assert isinstance(index.type, mma.FragmentType)
    given = registers_of(index.type.layout.data)
    digits: list[Digit] = []
    step, rest = width, counts[dim]
    for digit in given.digits:
        if digit.step:
            digits.append(digit)
            continue
        if rest % digit.size:
            raise lowering.error(f"{digit.size} threads cannot share rows of {counts[dim]} chunks of {width} elements")
        digits.append(Digit(digit.axis, digit.weight, digit.size, dim, step))
        step, rest = step * digit.size, rest // digit.size
    starts = tuple(
        tuple(number * step if at == dim else place for at, place in enumerate(start))
        for start in given.starts
        for number in range(rest)
    )
    return Chunks(Registers(tuple(shape), starts, tuple(digits)), dim, width, None)


def _copy_chunks(op: mma.CopyAsyncOp, place: Place, chunks: Chunks, lowering: NvvmLowering) -> None:
    slot = address_of(lowering, op.slot)
    size = chunks.width * place.element_bytes
    if size < LEAST_BYTES:
        _copy_elements(op, place, chunks, lowering)
        return
    for number in range(len(chunks.registers.starts)):
        at = lowering.coordinates(chunks.registers, number)
        to = lowering.shared_pointer(scratch_address(lowering, op.slot_type, slot, at))
        valid = _valid_bytes(place, at, chunks, lowering)
        source = place.pointer(at)
        lowering.insert(CpAsyncOp(to, source, size, "cg" if size == MOST_BYTES else "ca", valid))


def _copy_elements(op: mma.CopyAsyncOp, place: Place, chunks: Chunks, lowering: NvvmLowering) -> None:
    """Loads and stores of single elements, a few in each trip of a loop along the dimension that has most of them."""
    registers = chunks.registers
    along = [sorted({start[dim] for start in registers.starts}) for dim in range(len(registers.shape))]
    dim = max(range(len(along)), key=lambda dim: len(along[dim]))
    others = len(registers.starts) // len(along[dim])
    together = gcd(len(along[dim]), max(1, LOADED_AT_ONCE // others))
    slot = address_of(lowering, op.slot)

    def copy(moved: Linear) -> None:
        for number, start in enumerate(registers.starts):
            if start[dim] in along[dim][:together]:
                at = lowering.coordinates(registers, number)
                at[dim] += moved
                to = lowering.shared_pointer(scratch_address(lowering, op.slot_type, slot, at))
                _copy_element(op, place, at, to, lowering)

    if len(along[dim]) == together:
        copy(Linear())
        return
    step = along[dim][1] - along[dim][0]

    def body(moved: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
        copy(Linear(0, (Term(moved, 1, step * together),)))
        return ()

    bounds = lowering.index.bounds(0, step * len(along[dim]), step * together)
    build_for(lowering, bounds, [], body, "element")


def _valid_bytes(place: Place, at: Sequence[Linear], chunks: Chunks, lowering: NvvmLowering) -> SSAValue | None:
    """How many bytes of a chunk are valid; None for all."""
    index, size = lowering.index, chunks.width * place.element_bytes
    extent = place.extents.get(chunks.dim)
    if extent is None or all_or_none(place, chunks.dim, chunks.width):
        valid = place.valid(at)
        if valid is True:
            return None
        return lowering.select(valid, lowering.integer(size), lowering.integer(0))
    rest = index.sub(extent, lowering.linear.value(at[chunks.dim]))
    count = index.maximum(index.minimum(rest, chunks.width), 0)
    wanted = lowering.to_i32(index.mul(count, place.element_bytes))
    return lowering.select(place.valid(at, without=chunks.dim), wanted, lowering.integer(0))


def _copy_element(
    op: mma.CopyAsyncOp, place: Place, at: Sequence[Linear], to: SSAValue, lowering: NvvmLowering
) -> None:
    element = op.slot_type.element_type
    zero = lowering.constant(0, element)
    valid = place.valid(at)
    if isinstance(valid, bool):
        value = read(lowering, place.pointer(at), element) if valid else zero
    else:
        with lowering.index.branches():
            (value,) = build_if(lowering, valid, lambda: [read(lowering, place.pointer(at), element)], lambda: [zero])
    lowering.insert(llvm.StoreOp(value, to))


# Boxes


def _copy_boxes(op: mma.CopyAsyncOp, lowering: NvvmLowering) -> None:
    """One thread announces the bytes of the slot and starts one copy per panel."""
    recipe, panels = copy_recipe(op, lowering), panels_of(op.slot_type)
    assert recipe is not None and panels is not None
    descriptor = lowering.kernel.tensor_maps[recipe]
    address = address_of(lowering, op.slot)
    index = lowering.index
    full = barrier_of(lowering, op.slot, 0)
    share, parts = share_of(op, lowering), parts_of(op, panels, lowering)
    part = lowering.linear.of_new(share.part)
    count, rows = panels.panels // parts.panels, op.slot_type.get_shape()[panels.rows] // parts.rows
    along = count * panels.width if parts.panels > 1 else 0
    down = rows if parts.rows > 1 else 0
    address += part.scale(count * panels.panel_bytes if parts.panels > 1 else rows * panels.row_bytes)

    def copy() -> None:
        lowering.insert(MbarrierArriveExpectTxOp(full, lowering.integer(slot_bytes_of(op.slot_type))))
        for panel in range(count):
            starts = _starts(op, lowering)
            starts[-1] = index.add(starts[-1], index.add(index.mul(share.part, along), panel * panels.width))
            starts[-2] = index.add(starts[-2], index.mul(share.part, down))
            to = lowering.shared_pointer(address + panel * panels.panel_bytes)
            places = [lowering.to_i32(at) for at in reversed(starts)]
            lowering.insert(TensorCopyOp(to, descriptor, full, places, share.mask))

    lowering.kernel.arrived.add(op.slot)
    if lowering.program.single:
        copy()
    else:
        run_if(lowering, lowering.compare("eq", lowering.thread(), 0), copy)


FAR = 1 << 30
"""A coordinate beyond every tensor."""


def _starts(op: mma.CopyAsyncOp, lowering: NvvmLowering) -> list[Index]:
    """Where the box begins; outside, if a dimension has no valid element at all: no tensor map has a size of 0."""
    starts: list[Index] = [lowering.value(old) for old in op.indices]
    shape = op.slot_type.get_shape()
    for dim, extent in enumerate(listed_extents(op.extents, op.extent_dims, len(shape))):
        at = len(starts) - len(shape) + dim
        end = None if extent is None else valid_end(op.indices[at], extent, shape[dim])
        if end is None or constant_value(end):
            continue
        starts[at] = _far_if_empty(starts[at], lowering.value(end), lowering)
    if op.clip is not None:
        for at, size in enumerate(lowering.kernel.memories[op.source].sizes):
            starts[at] = starts[at] if isinstance(size, int) else _far_if_empty(starts[at], size, lowering)
    return starts


def _far_if_empty(start: Index, size: SSAValue, lowering: NvvmLowering) -> Index:
    far = lowering.select(lowering.compare("slt", size, 1), lowering.index.value(FAR), lowering.index.value(0))
    return lowering.index.add(start, far)
