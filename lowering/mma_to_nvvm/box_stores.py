"""Rule for stores through scratch: each warp copies the rows that it holds to global memory, a box at a time.

    mma.store %c, %C[%i, %j] through %piece : !mma.fragment<128x256xf32>, memref<?x?xf32>, !mma.buffer<128x64xf32, ...>
    ==> per panel of 32 columns, in each warp
    nvvm.cp.async.bulk.wait_group 1 {read}     the panel may be written again: all but the last one have been read
    nvvm.bar.warp.sync
    nvvm.stmatrix, or llvm.store of pairs      16 rows of the warp, as the tensor map's swizzle wants them
    nvvm.fence.proxy, nvvm.bar.warp.sync
    one lane: nvvm.cp.async.bulk.tensor.global.shared.cta box[%j, %i + rows], nvvm.cp.async.bulk.commit.group

A fragment qualifies if its lanes hold 8x8 blocks as accumulators do, and its warps whole rows: no warp waits for
another. Rows of memory may be those of a box, as a rectangle's are (``box_walks``). Boxes end where the tensor ends, so
that nothing is masked. Without a tensor map, elements are stored one run at a time as for any other store, and the
scratch takes no memory.

Pairs of 32 bits in rows of 128 bytes meet in banks, whatever the swizzle: four rows go together, and two of them differ
in a bit of the address that a pair is too small to see. Lanes of every other row then write the columns of another
register first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from xdsl.dialects import scf
from xdsl.ir import Operation, SSAValue

from crosstile.dialects import mma
from crosstile.dialects.nvvm.copies import BulkCommitGroupOp, BulkWaitGroupOp, TensorStoreOp
from crosstile.dialects.nvvm.synchronisation import FenceProxyOp
from crosstile.lowering.linear_index import Linear, Term
from crosstile.lowering.loops import run_if
from crosstile.lowering.mma_to_nvvm.access import SWIZZLES, Place, scratch_address
from crosstile.lowering.mma_to_nvvm.fragments import LANES, Digit, Registers, element_bits, registers_of
from crosstile.lowering.mma_to_nvvm.matrices import ROW_WORDS, ROWS, store_matrices
from crosstile.lowering.mma_to_nvvm.memory import lower_store, write_together
from crosstile.lowering.mma_to_nvvm.rings import meet_in_warp
from crosstile.lowering.mma_to_nvvm.slots import address_of
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering
from crosstile.lowering.mma_to_nvvm.tensor_maps import Panels, panels_of, store_recipe
from crosstile.targets.banks import bank_turns

NEAR = 2
"""Neighbours in a row that a lane holds of an accumulator."""
COLUMNS = ROW_WORDS * NEAR
"""Columns of a block of which each lane holds two neighbours."""
PAIRS_AT_ONCE = 16
"""Lanes whose pairs of 32 bits are written together: as many as fill all banks once."""


@dataclass(frozen=True)
class Boxes:
    """A fragment as boxes: ``rows`` rows that a warp holds one below the other, of which the first are ``starts``."""

    through: mma.BufferType
    panels: Panels
    registers: Registers
    rows: int
    starts: tuple[int, ...]

    @property
    def warps(self) -> tuple[Digit, ...]:
        """What the number of a warp adds to the row."""
        return tuple(digit for digit in self.registers.digits if digit.axis == "warp")

    def blocks(self, panel: int) -> list[tuple[int, int]]:
        """The places of this panel's blocks of 8x8, those below each other first."""
        columns = range(panel * self.panels.width, (panel + 1) * self.panels.width, COLUMNS)
        return [
            (start + row, column) for column in columns for start in self.starts for row in range(0, self.rows, ROWS)
        ]


def boxes_of(op: mma.StoreOp) -> Boxes | None:
    """How the fragment is made up of boxes; None if it is not, or does not go through scratch."""
    if op.through is None or not isinstance(op.through.type, mma.BufferType):
        return None
    through, type_ = op.through.type, op.value_type
    registers, panels = registers_of(type_.layout.data), panels_of(through)
    if element_bits(type_.element_type) not in (16, 32) or through.get_shape()[0] != type_.get_shape()[0]:
        return None
    if panels is None or panels.inner != 1 or panels.width % COLUMNS:
        return None
    lanes = sorted((digit for digit in registers.digits if digit.axis == "lane"), key=lambda digit: digit.weight)
    if lanes != [Digit("lane", 1, ROW_WORDS, 1, NEAR), Digit("lane", ROW_WORDS, ROWS, 0, 1)]:
        return None
    warps = [digit for digit in registers.digits if digit.axis == "warp"]
    if any(digit.dim or digit.step % ROWS or not digit.step for digit in warps):
        return None
    rows = sorted({row for row, _ in registers.starts})
    held = {(row, column) for row in rows for column in range(0, type_.get_shape()[1], COLUMNS)}
    if any(row % ROWS for row in rows) or set(registers.starts) != {
        (row, column + near) for row, column in held for near in range(NEAR)
    }:
        return None
    starts = [row for row in rows if row - ROWS not in rows]
    count = len(rows) // len(starts)
    if rows != sorted(start + ROWS * number for start in starts for number in range(count)):
        return None
    return Boxes(through, panels, registers, count * ROWS, tuple(starts))


def only_goes_through(op: mma.AllocOp) -> bool:
    """Whether ``op`` is scratch of stores alone, which no product reads."""
    uses = [use.operation for use in op.result.uses]
    return all(isinstance(use, mma.StoreOp) and use.through is op.result for use in uses)


def plan_box_stores(kernel: mma.KernelOp, lowering: NvvmLowering) -> None:
    """Find out which stores are of boxes, and give their tensor maps a place among the parameters."""
    if not lowering.kernel.machine.block_copy_bytes or lowering.alignment < lowering.kernel.machine.block_copy_bytes:
        return
    for op in kernel.walk():
        if not isinstance(op, mma.StoreOp) or (boxes := boxes_of(op)) is None:
            continue
        recipe = store_recipe(op, boxes.through, boxes.panels, boxes.rows)
        if recipe is not None:
            lowering.kernel.tensor_copies.add(op)
            lowering.kernel.tensor_maps[recipe] = op.destination


def lower_any_store(op: mma.StoreOp, lowering: NvvmLowering) -> None:
    """By boxes if the plan says so, else by each thread for itself."""
    if op in lowering.kernel.tensor_copies:
        with lowering.index.staying():
            _store_boxes(op, lowering)
    else:
        lower_store(op, lowering)


def finish_box_stores(lowering: NvvmLowering) -> None:
    """Before a block ends, its copies have read its shared memory."""
    if any(isinstance(op, mma.StoreOp) for op in lowering.kernel.tensor_copies):
        lowering.insert(BulkWaitGroupOp(0, read=True))


def _may_run_again(op: mma.StoreOp) -> bool:
    """Whether what went through the scratch the last time may still be read: in a loop, or a persistent grid."""
    around: Operation | None = op.parent_op()
    while around is not None and not isinstance(around, mma.KernelOp):
        if isinstance(around, scf.ForOp | scf.WhileOp):
            return True
        if isinstance(around, mma.ParallelOp) and around.order.persistent is not None:
            return True
        around = around.parent_op()
    return False


def _store_boxes(op: mma.StoreOp, lowering: NvvmLowering) -> None:
    boxes = boxes_of(op)
    assert boxes is not None and op.through is not None
    recipe = store_recipe(op, boxes.through, boxes.panels, boxes.rows)
    assert recipe is not None
    descriptor, linear = lowering.kernel.tensor_maps[recipe], lowering.linear
    begin = address_of(lowering, op.through)
    row = Linear(0, tuple(Term(lowering.digit(digit), digit.step, 1) for digit in boxes.warps))
    there = boxes.panels.panels
    first_lane = lowering.first_lane()
    exchange = exchanged(boxes)
    place = Place(lowering, op.destination, op.value_type.get_shape(), op.map, op.indices, (), None, False)
    for panel in range(op.value_type.get_shape()[1] // boxes.panels.width):
        if panel >= there or _may_run_again(op):
            lowering.insert(BulkWaitGroupOp(there - 1, read=True))
            meet_in_warp(lowering)
        _write_panel(op, boxes, panel, exchange, begin, lowering)
        lowering.insert(FenceProxyOp())
        meet_in_warp(lowering)

        def copy(panel: int = panel) -> None:
            for start in boxes.starts:
                down = row + start
                source = begin + down.scale(boxes.panels.row_bytes) + panel % there * boxes.panels.panel_bytes
                at = place.coordinates([down, Linear(panel * boxes.panels.width)])
                places = [lowering.to_i32(linear.value(place)) for place in reversed(at)]
                lowering.insert(TensorStoreOp(descriptor, lowering.shared_pointer(source), places))
            lowering.insert(BulkCommitGroupOp())

        run_if(lowering, first_lane, copy)


def _write_panel(
    op: mma.StoreOp, boxes: Boxes, panel: int, exchange: tuple[int, int], begin: Linear, lowering: NvvmLowering
) -> None:
    """Write the blocks of a panel of the fragment to the panel of the scratch that it goes through."""
    first = (panel - panel % boxes.panels.panels) * boxes.panels.width
    blocks = boxes.blocks(panel)

    def address(at: Sequence[Linear]) -> Linear:
        return scratch_address(lowering, boxes.through, begin, at)

    if element_bits(op.value_type.element_type) == 16:
        words = [lowering.values(op.value)[boxes.registers.number[block] // NEAR] for block in blocks]
        store_matrices(lowering, address, boxes.warps, words, [(row, column - first) for row, column in blocks])
        return
    row_bit, distance = exchange
    values = lowering.values(op.value)
    for row, column in blocks:
        if column & distance:
            continue
        at = lowering.coordinates(boxes.registers, boxes.registers.number[row, column])
        at[1] += -first
        pair = _pair(values, boxes, row, column)
        if not distance:
            write_together(lowering, lowering.shared_pointer(address(at)), pair)
            continue
        other = _pair(values, boxes, row, column + distance)
        turned = lowering.digit(Digit("lane", ROW_WORDS * row_bit, 2, 0, 1))
        swap = lowering.compare("eq", turned, 1)
        straight = lowering.index.value(lowering.index.sub(1, turned))
        lowering.linear.below[straight] = 2
        for by, one, two in ((turned, pair, other), (straight, other, pair)):
            chosen = [lowering.select(swap, b, a) for a, b in zip(one, two, strict=True)]
            place = [at[0], at[1] + Linear(0, (Term(by, distance, 1),))]
            write_together(lowering, lowering.shared_pointer(address(place)), chosen)


def _pair(values: Sequence[SSAValue], boxes: Boxes, row: int, column: int) -> list[SSAValue]:
    return [values[boxes.registers.number[row, column + near]] for near in range(NEAR)]


def exchanged(boxes: Boxes) -> tuple[int, int]:
    """A bit of the row, and how many columns apart the blocks are that rows with this bit write in the other order.

    (1, 0) if all rows do the same: the first that makes for the fewest turns of the banks.
    """
    columns = [distance for distance in (8, 16, 32, 64) if 2 * distance <= boxes.panels.width]
    return min(((1, 0), *product((1, 2, 4), columns)), key=lambda bits: _turns(boxes, *bits))


def _turns(boxes: Boxes, row_bit: int, distance: int) -> int:
    swizzle = boxes.through.swizzle
    size = boxes.panels.row_bytes // boxes.panels.width
    addresses: list[int] = []
    for lane in range(LANES):
        row, column = lane // ROW_WORDS, lane % ROW_WORDS * NEAR
        address = row * boxes.panels.row_bytes + (column + (distance if row & row_bit else 0)) * size
        addresses.append(SWIZZLES[swizzle.data].apply(address) if isinstance(swizzle, mma.SwizzleAttr) else address)
    parts = (addresses[at : at + PAIRS_AT_ONCE] for at in range(0, LANES, PAIRS_AT_ONCE))
    return max(bank_turns(part, NEAR * size, banks=32, bank_bytes=4) for part in parts)
