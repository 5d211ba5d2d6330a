"""Schedules of convolutions whose image lies along the result: an image staged with its padding, filters read in place.

Level: nest. In: the parts of a convolution. Out: blocks of rows of the image, register tiles of filters and places.
The register tile is the one that wastes least: places beyond the end of a block of rows and filters beyond the last are
computed for nothing, and rows of a width that is no multiple of the lanes are folded into one run of places.
"""

from __future__ import annotations

from xdsl.dialects.builtin import DYNAMIC_INDEX

from crosstile.dialects.nest.analysis import shape_of
from crosstile.dialects.nest.axes import KernelAxes, axes_among
from crosstile.dialects.nest.convolution_roles import ConvolutionRoles
from crosstile.dialects.nest.generic import IndexOp
from crosstile.dialects.nest.schedule import Loop, Schedule
from crosstile.passes.schedules.register_tiles import ACCUMULATOR_VECTORS, MOST_ROWS, RegisterTile, bits, round_up
from crosstile.targets.model import Machine

EFFICIENCY = {3: 1.0, 4: 0.95, 2: 0.85, 1: 0.6}
"""Rate of a register tile by its vectors, measured on 64x64x3x3: more rows need more broadcasts for each load, fewer
rows more lines of the image, which begin anywhere, for each multiplication."""
STAGING = 16
"""Multiply-adds in the time that one element of the image takes to be staged."""
ROWS = 16
"""Rows of a block where the number of rows is not known."""
COLUMNS = 192
"""Columns of a block where rows are not folded."""
CHANNELS = 64
"""Channels of a block where their number is not known."""

NEAR_SHARE = 16
"""A block of the image that takes at most one part of so many of L2 is near."""
FAR = 1.04
"""The time that a tile takes for more than that, where its channels and filters do not fit in L1. Measured: 64 channels
and filters of 56x56 in blocks of 5 rows, not 30, are 2 to 3 % faster, though they compute 1.5 % more; 128 filters, or
128 channels of 28x28, 4 %. 32 channels of 112x112, which fit, are not, nor filters that come from L3 (512 of 7x7)."""
BALANCE = 8
"""Blocks of channels are equal in multiples of so many."""


def convolution_schedule(axes: KernelAxes, parts: ConvolutionRoles, machine: Machine) -> Schedule:
    """The schedule of one convolution."""
    roles, element = parts.roles, str(parts.roles.element)
    intrinsic = machine.choose(element, element, element)
    pitch = _pitch(axes, parts)
    tile = _register_tile(parts, machine, intrinsic.n, pitch)
    columns = tile.vectors * intrinsic.n
    budget = machine.memory("L2").capacity // 4 * 8 // bits(roles.element)
    rows = None if parts.rows is None else parts.rows.result
    others = [axis for axis in axes_among(axes.of_result(roles.nest.results[0])) if axis not in (roles.m, roles.n)]
    outer = [Loop(axis.name, 1) for axis in others if axis != rows]
    width = pitch or columns * max(1, min(COLUMNS, roles.n.size or COLUMNS) // columns) + parts.columns.reach
    strides = [side.stride for side in parts.sides]
    reach = 0 if parts.rows is None else parts.rows.reach
    line = width * strides[0] * strides[-1] if len(strides) > 1 else width * strides[0]
    channels: list[Loop] = []
    channel_step = 1
    if parts.channel is not None:
        most = max(1, budget // (line * (reach + 2)))
        channel_step = min(most, CHANNELS if parts.channel.size is None else max(parts.channel.size, 1))
        balanced = None
        if channel_step != parts.channel.size and channel_step >= BALANCE:
            channel_step, balanced = channel_step - channel_step % BALANCE, BALANCE
        channels = [Loop(parts.channel.name, channel_step, balanced)]
    inner = [Loop(roles.n.name, columns)]
    block = 1
    if rows is not None:
        most = max(1, budget // (line * channel_step) - reach - 1)
        near = _near_rows(parts, machine, tile, columns, line * channel_step, reach, pitch)
        block = _row_block(rows.size, most, near, pitch, roles.n.size, columns, parts, tile)
        outer.append(Loop(rows.name, block))
        if pitch is None:
            inner.insert(0, Loop(rows.name, 1))
    if pitch is None:
        outer.append(Loop(roles.n.name, width - parts.columns.reach))
    if roles.m is not None:
        inner.append(Loop(roles.m.name, tile.rows))
    split = next((axis for axis in others if axis.size != 1 and axis != rows), rows)
    grain = max(1, block // 4) if split == rows else 1
    if split is None:
        split, grain = roles.n, columns
    return Schedule(
        loops=(*outer, *channels, *inner),
        parallel=split.name,
        grain=grain,
        lane=roles.n.name,
        fold=None if pitch is None or rows is None else (rows.name, pitch),
        stage=(roles.rhs,),
        intrinsic=intrinsic.name,
    )


def _pitch(axes: KernelAxes, parts: ConvolutionRoles) -> int | None:
    """How many places a row stands for, its padding counted once if the next row's can serve; None if not folded.

    It must be known, and no body may ask for the steps of the axes that are no longer there.
    """
    rows, columns = parts.rows, parts.columns
    width, image = parts.roles.n.size, shape_of(parts.roles.nest.inputs[parts.roles.rhs])[-1]
    if rows is None or rows.result is None or not width or image == DYNAMIC_INDEX:
        return None
    if any(isinstance(op, IndexOp) for nest in axes.nests for op in nest.body.block.ops):
        return None
    needed = width + columns.reach
    before = max(0, -columns.first)
    end = -(-image // columns.stride) - columns.first
    return max(min(end, needed), needed - before, width)


def _register_tile(parts: ConvolutionRoles, machine: Machine, lanes: int, pitch: int | None) -> RegisterTile:
    """The tile that computes least beside what is wanted, by the rates of tiles."""
    filters = 1 if parts.roles.m is None else parts.roles.m.size
    width = parts.roles.n.size if pitch is None else None
    best: tuple[float, RegisterTile] | None = None
    for vectors, efficiency in EFFICIENCY.items():
        rows = min((machine.vector_registers - 1 - vectors) // vectors, ACCUMULATOR_VECTORS // vectors, MOST_ROWS)
        if rows < 1:
            continue
        if filters:
            rows = -(-filters // -(-filters // rows))
        waste = 1.0 if not filters else round_up(filters, rows) / filters
        if width:
            waste *= round_up(width, vectors * lanes) / width
        if best is None or waste / efficiency < best[0]:
            best = waste / efficiency, RegisterTile(rows, vectors)
    assert best is not None
    return best[1]


def _near_rows(
    parts: ConvolutionRoles,
    machine: Machine,
    tile: RegisterTile,
    columns: int,
    line: int,
    reach: int,
    pitch: int | None,
) -> int:
    """The rows of a near block, whose elements are ``line`` a row; all where it makes no difference."""
    size, channels = bits(parts.roles.element) // 8, 1 if parts.channel is None else parts.channel.size
    filters = 1 if parts.roles.m is None else parts.roles.m.size
    rows = None if parts.rows is None else parts.rows.result
    every = rows.size if rows is not None and rows.size else ROWS
    if pitch is None or not channels or not filters:
        return every
    image = reach * pitch + columns + parts.columns.reach
    fits = channels * (image + tile.rows * parts.place_count) * size <= machine.memory("L1").capacity
    level_2 = machine.memory("L2").capacity
    if fits or filters * channels * parts.place_count * size > level_2 // 2:
        return every
    return level_2 // NEAR_SHARE // (line * size) - reach - 1


def _row_block(
    rows: int | None,
    most: int,
    near: int,
    pitch: int | None,
    width: int | None,
    columns: int,
    parts: ConvolutionRoles,
    tile: RegisterTile,
) -> int:
    """The rows of the image to stage together, up to ``most``: those that leave least of the last tile unused.

    More than ``near`` take longer.
    """
    if not rows or pitch is None or width is None:
        return min(most, ROWS)
    filters = 1 if parts.roles.m is None else parts.roles.m.size or tile.rows
    work = round_up(filters, tile.rows) * parts.place_count
    reach = 0 if parts.rows is None else parts.rows.reach

    def cost(block: int) -> float:
        total = 0.0
        for begin in range(0, rows, block):
            places = (min(block, rows - begin) - 1) * pitch + width
            rate = FAR if block > near else 1.0
            total += round_up(places, columns) * work * rate + STAGING * (block + reach + 1) * pitch
        return total

    return min(range(1, min(most, rows) + 1), key=cost)
