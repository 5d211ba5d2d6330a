"""Registers whose lanes are words of several elements, neighbours in k: the factors of dot-product instructions.

Level: ``mma`` to hardware. A word of the left factor, the same in all lanes, is read as one number where its elements
are neighbours in memory. A register of the right factor is one load from a buffer that keeps the elements of a word
together, and G rows interleaved from any other memory::

    %row0 = vector.load %B[%k, %j]   : vector<16xbf16>          k and k + 1 of 16 columns
    %row1 = vector.load %B[%k+1, %j] : vector<16xbf16>
    %f = vector.shuffle %row0, %row1 [0, 16, 1, 17, 2, 18, ...] : vector<32xbf16>

    %w = vector.load %A[%i, %k] : vector<2xbf16>                row i, k and k + 1, in all lanes
    %b = vector.broadcast (the bits of %w as i32) : vector<16xi32>
    %f = vector.bitcast %b : vector<16xi32> to vector<32xbf16>

Rows in registers of their own become words (``mma.relayout``) by the same shuffles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xdsl.dialects import arith, vector
from xdsl.dialects.builtin import DenseArrayBase, FixedBitwidthType, IntegerType, VectorType, i32, i64
from xdsl.ir import SSAValue
from xdsl.utils.hints import isa

from crosstile.dialects import mma
from crosstile.dialects.arith import CmpiOp
from crosstile.ir.index_math import Index
from crosstile.lowering.linear_index import Linear
from crosstile.lowering.loops import build_for, build_if
from crosstile.lowering.mma_to_hardware.access import Access
from crosstile.lowering.mma_to_hardware.elements import lane_place, load_element, store_element
from crosstile.lowering.mma_to_hardware.elements import load_lanes as load_row
from crosstile.lowering.mma_to_hardware.state import HardwareLowering
from crosstile.lowering.vector_registers import Registers


def load_replicated(access: Access, start: Sequence[int], pad: float) -> SSAValue:
    """A register that holds one word in all lanes."""
    lowering, registers = access.lowering, access.registers
    last, element = len(access.shape) - 1, access.type.element_type
    assert isinstance(element, FixedBitwidthType)
    type_ = VectorType(element, [registers.group])
    places = [_moved(start, last, number) for number in range(registers.group)]

    def load() -> list[SSAValue]:
        flat, at = access.address(places[0])
        return [lowering.insert(vector.LoadOp(flat, [at], type_)).result]

    if access.step(last, registers.group) == 1 and not access.conditions(places[0], [last]):
        valid = access.holds(access.all_conditions(places[0]))
        if valid is True:
            word = load()[0]
        else:
            padding = lowering.constant(pad, type_)
            word = padding if valid is False else build_if(lowering, valid, load, lambda: [padding])[0]
    else:
        word = lowering.constant(pad, type_)
        for number, place in enumerate(places):
            word = lowering.insert(vector.InsertOp(load_element(access, place, pad), word, [number])).result
    integer = IntegerType(element.bitwidth * registers.group)
    bits = lowering.insert(vector.BitcastOp(word, VectorType(integer, [1]))).result
    number = lowering.insert(vector.ExtractOp(bits, [0], integer)).result
    copies = lowering.insert(vector.BroadcastOp(number, VectorType(integer, [registers.lanes]))).vector
    return lowering.insert(vector.BitcastOp(copies, access.type)).result


def load_lanes(access: Access, start: Sequence[int], pad: float) -> SSAValue:
    """A register of one word per lane."""
    lowering = access.lowering
    if _is_stored_in_words(access, start):
        flat, at = access.address([Linear(coordinate) for coordinate in start])
        return lowering.insert(vector.LoadOp(flat, [at], access.type)).result
    if not access.is_consecutive():
        return _load_each(access, start, pad)
    *outer, row, column = start
    return _interleave(
        access.lowering, [load_row(access, [*outer, row + g, column], pad) for g in range(access.registers.group)]
    )


def interleaved(op: mma.RelayoutOp, source: Registers, result: Registers, lowering: HardwareLowering) -> list[SSAValue]:
    """The registers of words that hold the rows of ``op``'s fragment, which has them in registers of their own."""
    rows = lowering.values(op.value)
    return [
        _interleave(lowering, [rows[source.holding((*outer, row + g, column))] for g in range(result.group)])
        for *outer, row, column in result.starts
    ]


def valid_elements(
    lowering: HardwareLowering, registers: Registers, start: Sequence[int], limits: Mapping[int, Index]
) -> SSAValue:
    """A mask of the elements of a register that lie inside ``limits``, one per dimension."""
    index, last = lowering.index, len(registers.shape) - 1
    along = last if registers.replicated else last - 1
    """The dimension whose neighbours are those in a word."""
    type_ = VectorType(i32, [registers.elements])
    masks: list[SSAValue] = []
    for dim, limit in limits.items():
        numbers = [
            number if dim == along else lane if dim == last else 0
            for lane in range(registers.lanes)
            for number in range(registers.group)
        ]
        beyond = index.build(arith.IndexCastOp(index.value(index.sub(limit, start[dim])), i32)).result
        places, ends = lowering.constant_vector(numbers, type_), lowering.broadcast(beyond, type_)
        masks.append(index.build(CmpiOp(places, ends, "slt")).result)
    first, *others = masks
    for mask in others:
        first = index.build(arith.AndIOp(first, mask)).result
    return first


def _is_stored_in_words(access: Access, start: Sequence[int]) -> bool:
    """Whether the register at ``start`` is in memory as it is in the register, all of it valid."""
    rows, columns = len(access.shape) - 2, len(access.shape) - 1
    group = access.registers.group
    if access.step(columns, access.registers.lanes) != group or access.step(rows, group) != 1:
        return False
    return access.mask(start) is True and access.mask([*start[:-2], start[-2] + group - 1, start[-1]]) is True


def _interleave(lowering: HardwareLowering, rows: list[SSAValue]) -> SSAValue:
    """One lane after the other, and of each the elements of all rows."""
    if len(rows) == 1:
        return rows[0]
    even, odd = _interleave(lowering, rows[0::2]), _interleave(lowering, rows[1::2])
    assert isa(even.type, VectorType)
    length = even.type.get_shape()[0]
    mask = DenseArrayBase.from_list(i64, [position for lane in range(length) for position in (lane, lane + length)])
    type_ = VectorType(even.type.element_type, [2 * length])
    return lowering.insert(vector.ShuffleOp(even, odd, mask, result_type=type_)).result


def _load_each(access: Access, start: Sequence[int], pad: float) -> SSAValue:
    """A register whose elements are anywhere in memory: a loop over the lanes."""
    lowering, registers = access.lowering, access.registers
    rows = len(access.shape) - 2

    def insert(lane: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        (value,) = carried
        for number in range(registers.group):
            place = lane_place(access, start, lane)
            place[rows] = place[rows] + number
            at = _position(access, lane, number)
            value = lowering.insert(vector.InsertOp(load_element(access, place, pad), value, [at])).result
        return [value]

    bounds = lowering.index.bounds(0, registers.lanes, 1)
    return build_for(lowering, bounds, [lowering.constant(pad, access.type)], insert, "lane")[0]


def store(access: Access, start: Sequence[int], register: SSAValue) -> None:
    """A register of words to memory, valid elements only."""
    lowering, registers = access.lowering, access.registers
    last = len(access.shape) - 1
    if registers.replicated:
        for number in range(registers.group):
            store_element(access, _moved(start, last, number), register, number)
        return
    if _is_stored_in_words(access, start):
        flat, at = access.address([Linear(coordinate) for coordinate in start])
        lowering.insert(vector.StoreOp(register, flat, [at]))
        return

    def store_lane(lane: SSAValue, _carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        for number in range(registers.group):
            place = lane_place(access, start, lane)
            place[last - 1] = place[last - 1] + number
            store_element(access, place, register, _position(access, lane, number))
        return []

    build_for(lowering, lowering.index.bounds(0, registers.lanes, 1), [], store_lane, "lane")


def _position(access: Access, lane: SSAValue, number: int) -> SSAValue:
    """Where in a register element ``number`` of a lane's word is."""
    index = access.lowering.index
    first = access.lowering.insert(arith.MuliOp(lane, index.value(access.registers.group))).result
    return access.lowering.insert(arith.AddiOp(first, index.value(number))).result


def _moved(start: Sequence[int], dim: int, distance: int) -> list[Linear]:
    place = [Linear(coordinate) for coordinate in start]
    place[dim] = place[dim] + distance
    return place
