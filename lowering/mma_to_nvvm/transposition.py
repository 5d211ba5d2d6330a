"""Rule for ``mma.copy_transposed``: a slot's rows become another slot's columns, through the registers of all warps.

Instructions of warp groups read factors of bytes with k contiguous; where memory has the other dimension so, a role
exchanges the two between a copy and a product. Both slots are swizzled panels, and no access has a bank conflict.

A unit of 32 rows by 16 columns, 512 bytes, at a time::

    ldmatrix.x4.trans    of pairs of bytes: lane (c, q) gets columns 2c, 2c + 1 of rows 4q, 4q + 1 and 4q + 2, 4q + 3
    4 x prmt             four rows of one column, a word of a row of the result
    stmatrix.x4          eight rows of 16 bytes each

Rows 4q and 4q + 1 alone would be in half of the banks. So lanes with q of 2 and 3 take 4q + 2 and 4q + 3 first, and
likewise those with c of 4 to 7 column 2c + 1 before 2c: the selectors of ``prmt``, two a lane, say so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdsl.dialects import arith
from xdsl.ir import SSAValue

from crosstile.dialects import mma
from crosstile.dialects.nvvm.matrices import LdmatrixOp, PermuteOp, StmatrixOp
from crosstile.ir.index_math import Index
from crosstile.lowering.linear_index import Linear
from crosstile.lowering.loops import build_for
from crosstile.lowering.mma_to_nvvm.fragments import Digit, memory_bytes
from crosstile.lowering.mma_to_nvvm.slots import address_of
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering
from crosstile.lowering.mma_to_nvvm.structs import extract
from crosstile.lowering.mma_to_nvvm.tensor_maps import Panels, panels_of

CHUNK = 16
"""Bytes that a swizzle moves together (PTX ISA, "Swizzling Modes")."""
PERIOD = 128
"""Bytes after which the next row is swizzled in another way."""
FIRST_ROWS, LAST_ROWS = 0x6420, 0x2064
"""Selectors of ``prmt`` that take the even bytes of two words, the first one's or the second one's first."""
ODD = 0x1111
"""Added to them they take the odd bytes."""


UNIT_ROWS, UNIT_COLUMNS = 32, 16
"""What all lanes of a warp move at a time."""


@dataclass(frozen=True)
class Side:
    """One of the two slots of bytes; ``begin`` is the address of the first."""

    begin: Linear
    panels: Panels

    @property
    def chunks(self) -> int:
        """Chunks in a row of a panel."""
        return self.panels.row_bytes // CHUNK

    def swizzle(self, lowering: NvvmLowering, row: Index) -> Index:
        """What the chunks of a row are exchanged by."""
        index = lowering.index
        return index.remainder(index.floor_div(row, PERIOD // self.panels.row_bytes), self.chunks)

    def lane(self, lowering: NvvmLowering, row: Index, column: Index) -> Index:
        """The swizzled offset of the chunk at ``row`` and ``column`` of a panel's first unit."""
        index = lowering.index
        chunk = exclusive_or(lowering, column, self.swizzle(lowering, row))
        return index.add(index.mul(row, self.panels.row_bytes), index.mul(chunk, CHUNK))

    def unit(self, lowering: NvvmLowering, lane: Index, row: Index, column: Index) -> SSAValue:
        """A pointer to a lane's chunk of the unit that begins at ``row`` and ``column``, multiples of a unit's."""
        index, panels = lowering.index, self.panels
        chunk = index.mul(index.remainder(index.floor_div(column, CHUNK), self.chunks), CHUNK)
        offset = index.mul(index.floor_div(column, panels.row_bytes), panels.panel_bytes)
        address = self.begin + lowering.linear.of_new(exclusive_or(lowering, lane, chunk))
        address += lowering.linear.of_new(offset)
        if isinstance(row, int):
            address += row * panels.row_bytes
        else:
            address += lowering.linear.of_new(index.mul(row, panels.row_bytes))
        return lowering.shared_pointer(address)


def lower_copy_transposed(op: mma.CopyTransposedOp, lowering: NvvmLowering) -> None:
    """The units, warps taking turns at those of 16 columns, each at all rows."""
    rows, columns = op.source_type.get_shape()
    if memory_bytes(op.slot_type.element_type) != 1 or rows % UNIT_ROWS or columns % UNIT_COLUMNS:
        raise lowering.error(
            f"copies {rows}x{columns} elements of {op.slot_type.element_type}; expects 8 bits each, and multiples of "
            f"{UNIT_ROWS}x{UNIT_COLUMNS}"
        )
    source, target = (_side(lowering, slot) for slot in (op.source, op.slot))
    index, warps = lowering.index, lowering.program.warps
    move = _mover(lowering, source, target)
    first = index.mul(lowering.digit(Digit("warp", 1, warps, 1, 1)), UNIT_COLUMNS) if warps > 1 else 0

    def body(column: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
        move(range(0, rows, UNIT_ROWS), column)
        return ()

    build_for(lowering, index.bounds(first, columns, warps * UNIT_COLUMNS), [], body, "column")


def _side(lowering: NvvmLowering, slot: SSAValue) -> Side:
    assert isinstance(slot.type, mma.SlotType)
    panels = panels_of(slot.type)
    swizzle = slot.type.swizzle.data if isinstance(slot.type.swizzle, mma.SwizzleAttr) else 0
    if panels is None or panels.inner != 1 or panels.row_bytes != swizzle:
        raise lowering.error(
            f"copies from and to rows as wide as the swizzle, 32, 64 or 128 bytes; not so is {slot.type}"
        )
    return Side(address_of(lowering, slot), panels)


def exclusive_or(lowering: NvvmLowering, lhs: Index, rhs: Index) -> Index:
    """The exclusive or of two indices."""
    if isinstance(lhs, int) and isinstance(rhs, int):
        return lhs ^ rhs
    if lhs == 0 or rhs == 0:
        return rhs if lhs == 0 else lhs
    index = lowering.index
    key = ("xor", lhs, rhs)
    return index.once(key, lambda: index.build(arith.XOrIOp(index.value(lhs), index.value(rhs))).result)


def _bits(lowering: NvvmLowering) -> list[SSAValue]:
    """The five bits of the lane's number."""
    return [lowering.digit(Digit("lane", 1 << bit, 2, 0, 1)) for bit in range(5)]


def _number(lowering: NvvmLowering, *bits: Index) -> Index:
    """The number with these bits, the lowest first."""
    index = lowering.index
    return index.sum([index.mul(bit, 1 << place) for place, bit in enumerate(bits)])


def _mover(lowering: NvvmLowering, source: Side, target: Side) -> Callable[[Sequence[Index], Index], None]:
    """What moves the units that begin at some rows and one column."""
    bits = _bits(lowering)
    # Of ldmatrix, lane l gives the address of row l mod 8 of matrix l div 8; of stmatrix as well.
    turned = exclusive_or(lowering, bits[3], bits[2])
    from_lane = source.lane(lowering, _number(lowering, bits[0], turned, bits[1], bits[2], bits[4]), 0)
    to_lane = target.lane(lowering, _number(lowering, turned, bits[0], bits[1], bits[2]), bits[4])
    selectors = _selectors(lowering, bits)

    def move(tops: Sequence[Index], left: Index) -> None:
        loaded = [
            lowering.insert(LdmatrixOp(source.unit(lowering, from_lane, top, left), 4, "col")).res for top in tops
        ]
        for top, words in zip(tops, loaded, strict=True):
            first = [extract(lowering, words, number) for number in range(4)]
            columns = [
                lowering.insert(PermuteOp(selector, first[half], first[half + 1])).res
                for half in (0, 2)
                for selector in selectors
            ]
            lowering.insert(StmatrixOp(target.unit(lowering, to_lane, left, top), columns, "row"))

    return move


def _selectors(lowering: NvvmLowering, bits: Sequence[SSAValue]) -> tuple[SSAValue, SSAValue]:
    """What ``prmt`` takes for the first and for the second of a lane's columns."""
    last_first, odd_first = (lowering.compare("eq", bits[bit], 1) for bit in (1, 4))
    rows = lowering.select(last_first, lowering.integer(LAST_ROWS), lowering.integer(FIRST_ROWS))
    odd_rows = lowering.index.build(arith.AddiOp(rows, lowering.integer(ODD))).result
    return lowering.select(odd_first, odd_rows, rows), lowering.select(odd_first, rows, odd_rows)
