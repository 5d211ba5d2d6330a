"""Schedules of everything that is no product, on machines whose programs are blocks of warps.

Level: nest. In: the axes of a kernel. Out: guarded schedules whose grid is over blocks of what is parallel. Rows that
are folded (softmax, norms, sums) are held in the registers of a block from one sweep to the next, so that memory is
read once and written once; rows too long for that are swept, a few thousand elements at a time::

    [j <= 256 : #nest.schedule<loops = [i : 8, j : 256], grid = [i], lane = j, hold = 256>,       a warp to a row
     j <= 4096 : #nest.schedule<loops = [i : 1, j : 4096], grid = [i], lane = j, hold = 4096>,    a block to a row
     #nest.schedule<loops = [i : 1, j : 4096], grid = [i], lane = j>]

What folds nothing is cut into tiles that give each thread a few wide accesses, square ones where tensors lie across
each other.
"""

from __future__ import annotations

from collections.abc import Sequence

from crosstile.dialects.nest.axes import Axis, KernelAxes
from crosstile.dialects.nest.schedule import Comparison, GuardAttr, GuardedScheduleAttr, Loop, Schedule, ScheduleAttr
from crosstile.passes.schedules.register_tiles import round_up
from crosstile.passes.schedules.sweeps import axis_across, lane_axis
from crosstile.targets.model import Machine

ROWS = 8
"""Short rows of a block, one to a warp: folds then stay within a warp."""
WARP_ROW = 1024
"""The longest row of a warp: 32 elements in each lane's registers."""
HELD_ROWS = (256, WARP_ROW, 4096, 16384)
"""Lengths up to which rows of a size that is not known are held in registers, each a kernel of its own. Of the last,
16 warps hold 32 elements in every thread, twice if what is computed from them is used again."""
SWEPT = 4096
"""Elements of a step where rows are too long to be held: 16 in each of 256 threads."""
COLUMN_ROWS = 64
"""Rows that a lane reads at once down its column: with a warp to 32 columns, memory is busy from 4096 columns on. Two
arrays share them: of 64 rows each a product that no matrix unit multiplies spilled 544 bytes."""
FOLDED = 8192
"""Elements of a step where everything is folded: 32 in each of 256 threads."""
TILE = 2048
"""Elements of a tile where nothing is folded: 8 in each of 256 threads, 32 bytes of f32."""
SQUARE = 32
"""Rows and columns of a tile that is read along one and written along the other: 128 bytes of f32 each way. The lanes
of a warp then lie in different banks when they write a tile to shared memory and when they read it; 64 take turns."""
WIDEST = 4
"""Elements of f32 that a lane loads at once."""


def block_sweep_schedules(axes: KernelAxes, machine: Machine) -> list[GuardedScheduleAttr] | None:
    """Guarded schedules for a kernel without products; None for one without any axis to lay across lanes."""
    parallel = axes.parallel()
    lane = lane_axis(axes, parallel)
    if lane is None or machine.warp_lanes is None:
        return None
    if (across := axis_across(axes, lane)) is not None:
        return [
            _guarded(_square_schedule(axes, [axis for axis in parallel if axis not in (lane, across)], across, lane))
        ]
    outer = [axis for axis in parallel if axis != lane]
    grain = machine.warp_lanes * WIDEST
    if lane not in parallel:
        return _row_schedules(axes, outer, lane, grain) if outer else [_guarded(_whole_schedule(axes, lane, grain))]
    if folded := list(dict.fromkeys(axis for nest in axes.nests for axis in axes.reduced(nest))):
        return [_guarded(_column_schedule(axes, outer, folded, lane, machine.warp_lanes))]
    return _tile_schedules(axes, outer, lane, grain)


def _row_schedules(axes: KernelAxes, outer: Sequence[Axis], lane: Axis, grain: int) -> list[GuardedScheduleAttr]:
    """Rows that are folded: held in registers if they fit, a warp to each if they are short."""
    swept = _guarded(_schedule(axes, outer, lane, (1, SWEPT)))

    def held(length: int) -> Schedule:
        return _schedule(axes, outer, lane, (_rows(outer, ROWS) if length <= WARP_ROW else 1, length), length)

    if lane.size is None:
        return [*(_guarded(held(length), lane, length) for length in HELD_ROWS), swept]
    length = round_up(max(lane.size, 1), grain)
    if length > WARP_ROW:
        length = round_up(length, ROWS * grain)
    return [_guarded(held(length))] if length <= HELD_ROWS[-1] else [swept]


def _tile_schedules(axes: KernelAxes, outer: Sequence[Axis], lane: Axis, grain: int) -> list[GuardedScheduleAttr]:
    """Tiles of whole or partial rows, as many of them as make up a tile's elements."""

    def tiles(length: int) -> Schedule:
        return _schedule(axes, outer, lane, (_rows(outer, TILE // length), length))

    if lane.size is not None:
        return [_guarded(tiles(min(TILE, max(grain, _power(lane.size)))))]
    few = [_guarded(tiles(grain), lane, grain)] if outer else []
    return [*few, _guarded(tiles(TILE))]


def _column_schedule(
    axes: KernelAxes, outer: Sequence[Axis], folded: Sequence[Axis], lane: Axis, lanes: int
) -> Schedule:
    """A lane to a column, which reads some rows ahead of all that goes down them, and folds them in order."""
    rows = folded[-1]
    down = sum(rows in axes.of_operand(axes.root, at) for at in range(len(axes.root.inputs)))
    most = COLUMN_ROWS // _power(down)
    most = most if rows.size is None else min(most, _power(rows.size))
    steps = {**dict.fromkeys((*outer, *folded), 1), rows: most, lane: lanes}
    return Schedule(
        loops=tuple(Loop(axis.name, step) for axis, step in steps.items()),
        grid=tuple(axis.name for axis in (*outer, lane)),
        lane=lane.name,
    )


def _whole_schedule(axes: KernelAxes, lane: Axis, grain: int) -> Schedule:
    """Everything folded into one number, by one block."""
    length = FOLDED if lane.size is None else min(FOLDED, round_up(max(lane.size, 1), grain))
    steps = {**dict.fromkeys(axes.of_nest(axes.root), 1), lane: length}
    return Schedule(loops=tuple(Loop(axis.name, step) for axis, step in steps.items()), lane=lane.name)


def _square_schedule(axes: KernelAxes, outer: Sequence[Axis], across: Axis, lane: Axis) -> Schedule:
    """Square tiles, of which some tensors lie along the rows and are exchanged through shared memory."""
    sides = {
        axis: SQUARE if axis.size is None else min(SQUARE, max(WIDEST, _power(axis.size))) for axis in (across, lane)
    }
    steps = {**dict.fromkeys(outer, 1), **sides}
    return Schedule(
        loops=tuple(Loop(axis.name, step) for axis, step in steps.items()),
        grid=tuple(axis.name for axis in steps),
        lane=lane.name,
    )


def _power(size: int) -> int:
    """The least power of two that is not below ``size``."""
    return 1 << (max(size, 1) - 1).bit_length()


def _rows(outer: Sequence[Axis], most: int) -> int:
    """How many rows a block has: ``most``, or fewer if there are no more."""
    if not outer:
        return 1
    size = outer[-1].size
    return most if size is None else min(most, _power(size))


def _schedule(
    axes: KernelAxes, outer: Sequence[Axis], lane: Axis, block: tuple[int, int], hold: int | None = None
) -> Schedule:
    """A grid over blocks of rows and elements; blocks that follow each other differ in their rows.

    Sizes that are not known come last: a grid of two dimensions is longer along its last.
    """
    steps = dict.fromkeys((*outer, *(axis for axis in axes.of_nest(axes.root) if axis != lane)), 1)
    if outer:
        steps[outer[-1]] = block[0]
    across = [lane] if lane in axes.parallel() else []
    return Schedule(
        loops=(*(Loop(axis.name, step) for axis, step in steps.items()), Loop(lane.name, block[1])),
        grid=tuple(
            axis.name for axis in sorted((*across, *outer), key=lambda axis: axis.size is None and axis != lane)
        ),
        lane=lane.name,
        hold=hold,
    )


def _guarded(schedule: Schedule, lane: Axis | None = None, most: int = 0) -> GuardedScheduleAttr:
    guard = () if lane is None else (Comparison(lane.name, "<=", most),)
    return GuardedScheduleAttr(GuardAttr(guard), ScheduleAttr(schedule))
