"""Schedules of convolutions of images with channels last: register tiles of places by filters, sums in registers.

Level: nest. In: the parts of a convolution. Out: one schedule, with the loops over the sum innermost::

    loops = [n : 1, h : 16, w : 56, o : 64, h : 1, w : 6, r : 1, s : 1, c : 64], stage = [0, 1]

A block of the image, staged with its padding, and the filter's columns of one register tile, packed, stay in L2. All
instructions that multiply the factors' types or what they widen to serve, tile registers included. Where the number of
channels is not known, factors are read in place if they are of the sums' type and nothing is padded.
"""

from __future__ import annotations

from crosstile.dialects.nest.axes import KernelAxes, axes_among
from crosstile.dialects.nest.convolution_roles import ConvolutionRoles
from crosstile.dialects.nest.schedule import Loop, Schedule
from crosstile.passes.schedules.products import UNROLL
from crosstile.passes.schedules.register_tiles import ACCUMULATOR_VECTORS, MOST_ROWS, RegisterTile, round_up
from crosstile.passes.schedules.tile_units import TILES
from crosstile.targets.model import ELEMENT_BITS, Machine, MmaIntrinsic

EFFICIENCY = {4: 1.0, 3: 1.0, 2: 0.97, 1: 0.85}
"""Rate of a register tile by its vectors: fewer of them need more broadcasts for each multiplication."""
ENOUGH_ACCUMULATORS = 12
"""Vectors of accumulators that hide the latency of two units and of the loads between them."""
DEPTH = 512
"""Channels summed up at a time where their number is not known."""
ROWS, COLUMNS = 16, 64
"""Rows and columns of the image in a block where their number is not known."""


def channels_last_schedule(axes: KernelAxes, parts: ConvolutionRoles, machine: Machine) -> Schedule | None:
    """The schedule of a convolution with channels last; None if sums over the whole filter do not pay."""
    roles, element = parts.roles, str(parts.roles.element)
    packs, is_narrow = roles.k.size is not None, roles.factors != (element, element)
    intrinsic = machine.choose_widening(*roles.factors, element)
    m, columns = roles.m, parts.columns
    assert m is not None
    if not packs and (is_narrow or roles.lhs in roles.nest.clipped_inputs):
        return None
    tile = _tile_registers(parts, intrinsic) if intrinsic.in_tiles else _register_tile(parts, machine, intrinsic.n)
    width, lanes = ELEMENT_BITS[intrinsic.rhs.element] // 8, tile.vectors * intrinsic.n
    budget = machine.memory("L2").capacity // 4
    depth = parts.place_count * (roles.k.size or DEPTH)
    if not packs and depth * lanes * width > 2 * budget:
        return None
    rows = None if parts.rows is None else parts.rows.result
    others = [axis for axis in axes_among(axes.of_result(roles.nest.results[0])) if axis not in (m, roles.n, rows)]
    across = round_up(min(m.size or COLUMNS, 4 * COLUMNS), tile.rows)
    line = ((across - 1) * columns.stride + columns.reach + 1) * (roles.k.size or 1) * width
    block = 1
    if rows is not None and parts.rows is not None:
        block = max(1, (budget // line - parts.rows.reach) // parts.rows.stride)
        block = min(block, rows.size or ROWS)
    outer = [Loop(axis.name, 1) for axis in others]
    outer += [] if rows is None else [Loop(rows.name, block)]
    outer += [Loop(m.name, across), Loop(roles.n.name, lanes)]
    inner = [] if rows is None else [Loop(rows.name, 1)]
    sums = [*(Loop(place.name, 1) for place in parts.places), Loop(roles.k.name, max(roles.k.size or DEPTH, 1))]
    split = next((axis for axis in others if axis.size != 1), rows)
    grain = max(1, block // 4) if split == rows else 1
    if split is None:
        split, grain = roles.n, lanes
    return Schedule(
        loops=(*outer, *inner, Loop(m.name, tile.rows), *sums),
        parallel=split.name,
        grain=grain,
        lane=roles.n.name,
        stage=(roles.lhs, roles.rhs) if packs else (),
        intrinsic=intrinsic.name,
        unroll=UNROLL if tile.vectors > 1 and not intrinsic.in_tiles else None,
    )


def _tile_registers(parts: ConvolutionRoles, intrinsic: MmaIntrinsic) -> RegisterTile:
    """A tile of ``TILES`` tile registers down and across, fewer where there are no rows or columns for them."""
    places, filters = None if parts.roles.m is None else parts.roles.m.size, parts.roles.n.size
    down, across = (
        TILES if size is None else min(TILES, max(1, -(-size // step)))
        for size, step in ((places, intrinsic.m), (filters, intrinsic.n))
    )
    return RegisterTile(down * intrinsic.m, across)


def _register_tile(parts: ConvolutionRoles, machine: Machine, lanes: int) -> RegisterTile:
    """The tile that computes least beside what is wanted, by the rates of tiles."""
    filters, places = parts.roles.n.size, None if parts.roles.m is None else parts.roles.m.size
    best: tuple[float, RegisterTile] | None = None
    for vectors, efficiency in EFFICIENCY.items():
        most = min((machine.vector_registers - 1 - vectors) // vectors, ACCUMULATOR_VECTORS // vectors, MOST_ROWS)
        for rows in range(most, 0, -1):
            cost = 1 / (efficiency * min(1.0, rows * vectors / ENOUGH_ACCUMULATORS))
            cost *= round_up(filters, vectors * lanes) / filters if filters else 1.0
            cost *= round_up(places, rows) / places if places else 1.0
            if best is None or cost < best[0]:
                best = cost, RegisterTile(rows, vectors)
    assert best is not None
    return best[1]
