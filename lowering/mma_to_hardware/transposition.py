"""The rule for ``mma.transpose``: square blocks of registers, transposed by shuffles of two registers each.

Level: ``mma`` to hardware. A block is as many registers as each has lanes. 16 registers of 16 lanes take four rounds::

    in units of 128 bits, elements interleaved, twice    %lo = vector.shuffle %r0, %r2 [0, 16, 1, 17, 4, 20, 5, 21, ..]
                                                         %hi = vector.shuffle %r0, %r2 [2, 18, 3, 19, 6, 22, 7, 23, ..]
    units of two registers, every second one, twice      %e = vector.shuffle %q0, %q1 [0..3, 8..11, 16..19, 24..27]
                                                         %o = vector.shuffle %q0, %q1 [4..7, 12..15, 20..23, 28..31]

Each of these is one instruction of x86 that needs no table (``vunpcklps``, ``vunpckhps``, ``vshuff32x4``). Where the
value or the result has words of several neighbours in its lanes, the block is transposed as integers of a word's size.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import vector
from xdsl.dialects.builtin import DenseArrayBase, FixedBitwidthType, IntegerType, VectorType, i64
from xdsl.ir import SSAValue
from xdsl.utils.hints import isa

from crosstile.dialects import mma
from crosstile.dialects.mma.types import type_of
from crosstile.lowering.mma_to_hardware.state import HardwareLowering, vector_type
from crosstile.lowering.vector_registers import registers_of

UNIT_BITS = 128
"""Shuffles inside of units of so many bits, and of whole units, are single instructions (Intel SDM, vol. 2)."""


def lower_transpose(op: mma.TransposeOp, lowering: HardwareLowering) -> None:
    """Every block of the value, to its place in the result."""
    value_type, result_type = type_of(op.value, mma.FragmentType), op.result.type
    value, result = (registers_of(type_.layout.data) for type_ in (value_type, result_type))
    # Words stand down the columns of whichever of the two is to be multiplied; the other has them along its rows.
    words = result if result.group > 1 else value
    lanes, group = words.lanes, words.group
    down, along = (group, 1) if words is value else (1, group)
    rows, columns = value_type.get_shape()
    other = value if words is result else result
    if value.replicated or result.replicated or other.group != 1 or other.lanes != lanes * group:
        raise lowering.error(
            f"transposes {value_type} into {result_type}; on a core a register of one has {lanes * group} neighbours "
            "of a row in its lanes, as many as one of the other holds"
        )
    element = result_type.get_element_type()
    assert isinstance(element, FixedBitwidthType)
    word = VectorType(IntegerType(element.bitwidth * group), [lanes])
    registers = lowering.values(op.value)
    moved: dict[int, SSAValue] = {}
    for row in range(0, rows, lanes * down):
        for column in range(0, columns, lanes * along):
            block = [registers[value.holding((row + at * down, column))] for at in range(lanes)]
            if group > 1:
                block = [lowering.insert(vector.BitcastOp(register, word)).result for register in block]
            block = transpose_block(lowering, block)
            if group > 1:
                type_ = vector_type(result_type)
                block = [lowering.insert(vector.BitcastOp(register, type_)).result for register in block]
            for at, register in enumerate(block):
                moved[result.holding((column + at * along, row))] = register
    lowering.map_value(op.result, *(moved[number] for number in range(len(result.starts))))


def transpose_block(lowering: HardwareLowering, rows: Sequence[SSAValue]) -> list[SSAValue]:
    """The columns of a block of as many registers as each has lanes, a power of two."""
    type_ = rows[0].type
    assert isa(type_, VectorType[FixedBitwidthType])
    lanes = len(rows)
    unit = min(lanes, max(1, UNIT_BITS // type_.element_type.bitwidth))
    units = lanes // unit

    def shuffle(lhs: SSAValue, rhs: SSAValue, order: Sequence[int]) -> SSAValue:
        mask = DenseArrayBase.from_list(i64, order)
        return lowering.insert(vector.ShuffleOp(lhs, rhs, mask, result_type=type_)).result

    low = [at for u in range(units) for lane in range(unit // 2) for at in (u * unit + lane, lanes + u * unit + lane)]
    high = [at + unit // 2 for at in low]
    even = [u * unit + lane for u in range(0, 2 * units, 2) for lane in range(unit)]
    odd = [at + unit for at in even]

    def inside_units(block: list[SSAValue]) -> list[SSAValue]:
        """Of ``unit`` rows: register j has columns j, j + unit, ..., one in each unit."""
        half, length = unit // 2, 1
        while length < unit:
            pairs = zip(block[:half], block[half:], strict=True)
            block = [shuffle(a, b, order) for a, b in pairs for order in (low, high)]
            length *= 2
        return block

    def across_units(block: list[SSAValue]) -> list[SSAValue]:
        """Of ``units`` registers: register u has unit u of each."""
        length = 1
        while length < units:
            pairs = list(zip(block[::2], block[1::2], strict=True))
            block = [shuffle(a, b, order) for order in (even, odd) for a, b in pairs]
            length *= 2
        return block

    quads = [inside_units(list(rows[at : at + unit])) for at in range(0, lanes, unit)]
    columns = [across_units([quad[at] for quad in quads]) for at in range(unit)]
    return [columns[at % unit][at // unit] for at in range(lanes)]
