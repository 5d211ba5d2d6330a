"""Schedules of matrix products on machines whose programs are blocks of warps.

Level: nest. In: a kernel whose root is a matrix product. Out: guarded schedules such as, for bf16 on sm_90a::

    #nest.schedule<loops = [m : 128, n : 256, k : 64], grid = [m, n] raster 16 persistent 1, lane = n,
                   stage = [0, 1], intrinsic = "nvidia.wgmma.m64n256k16.f32.bf16", pipeline = 4 role, aligned = 16>

A block of the result is as large as the registers of its warps hold, since each number of a factor is then used most
often. Results with fewer rows or columns have smaller blocks, with the instruction that wastes least. A step of k is
one row of the widest swizzle, 128 bytes; as many steps are in flight as shared memory holds, up to four. Blocks
begin in groups of rows that make those which run at one time a square of the result: they then read least from memory.
Where a role copies, as many blocks as there are multiprocessors stay and go on from block to block of the result, so
that the first steps of the next one are on their way while this one is stored. Of large products two blocks that are
one below the other are a cluster and copy half of their columns' factor each, for both. Of a convolution with channels
last the rows of a block are a rectangle of pixels (``rectangles``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from crosstile.dialects.grid_order import GridOrder
from crosstile.dialects.nest.axes import Axis, KernelAxes
from crosstile.dialects.nest.contraction_roles import ContractionRoles
from crosstile.dialects.nest.schedule import Comparison, GuardAttr, GuardedScheduleAttr, Loop, Schedule, ScheduleAttr
from crosstile.passes.schedules.alignment import ALIGNMENT, rows_guard
from crosstile.passes.schedules.rectangles import Guard, block_sides, is_box, rectangle, size_classes
from crosstile.passes.schedules.register_tiles import round_up
from crosstile.passes.schedules.windows import is_window
from crosstile.targets.model import ELEMENT_BITS, Home, Machine, MmaIntrinsic, UnknownNameError

STEP_BYTES = 128
"""Bytes of k that are staged at once: a row of the widest swizzle."""
NARROWEST_PANEL = 32
"""Bytes of a row of the narrowest swizzle (PTX ISA, "Matrix Descriptor")."""
MOST_INSTRUCTION_BYTES = 64
"""Bytes along k that one instruction reads at most. Only f64 has instructions that read 128; the factors of a warp's
tile then take 96 registers of a thread, beside 128 of accumulators, and ptxas spills."""
FEW_ROWS = 64
"""Up to so many rows of the result, blocks have no more."""
CLUSTER_ROWS = 2
"""Blocks of a cluster. Multiprocessors come in pairs; larger clusters leave some of them idle, since a GPC of an H100
has 16 or 18 (NVIDIA H100 Tensor Core GPU Architecture, "H100 SM Architecture")."""
EXCHANGED_BITS = 8
"""Bits of elements that a role can exchange on the way, for instructions that read them from scratch along k."""
WIDE_BITS = 32
"""Elements of so many bits whose rows are not aligned are copied one by one; their addresses leave registers for sums
of half as wide a block only. With 256 columns (``wgmma``) or 128 (``mma.sync``) ptxas spilled up to 272 bytes."""
MOST_IN_FLIGHT = 4
"""Trips in flight hide the latency of memory; more only take room."""


@dataclass(frozen=True)
class BlockTile:
    """A block of the result: ``m`` rows by ``n`` columns, and how far k goes in a step."""

    m: int
    n: int
    k: int
    intrinsic: MmaIntrinsic


def block_product_schedules(axes: KernelAxes, roles: ContractionRoles, machine: Machine) -> list[GuardedScheduleAttr]:
    """Guarded schedules for a product on a block of warps; raises UnknownNameError if no instruction is for its types.

    Without ``m``, a vector times a matrix, there is nothing to gain from blocks: that too is an UnknownNameError.
    """
    machine_rows = tuple(_instructions(axes, roles, machine, exchanged) for exchanged in (True, False))
    if roles.m is None or not machine_rows[0]:
        raise UnknownNameError(f"machine {machine.name} has no blocks for {roles.factors}")
    if is_window(axes, roles, roles.lhs):
        return _without_alike(list(_of_pixels(axes, roles, machine, machine_rows)))
    result: list[GuardedScheduleAttr] = []
    for few, most_rows in _row_classes(roles.m):
        for copy_guard, aligned, role in _copy_classes(axes, roles, machine, machine_rows[0]):
            tile = _tile(roles, _rows_for(role, machine_rows), most_rows, _along_k(axes, roles), aligned is not None)
            schedule = replace(_schedule(axes, roles, machine, tile), aligned=aligned, role=role)
            if most_rows is None and schedule.grid[-2:] == (roles.m.name, roles.n.name):
                schedule = replace(schedule, order=GridOrder(_raster(machine, tile), persistent=1 if role else None))
                if role and (many := _for_clusters(roles.m, roles.n, tile, machine)) is not None:
                    pairs = replace(schedule.order, cluster=(*[1] * (len(schedule.grid) - 2), CLUSTER_ROWS, 1))
                    guard = GuardAttr((*few, *copy_guard, *many))
                    result.append(GuardedScheduleAttr(guard, ScheduleAttr(replace(schedule, order=pairs))))
                    if not many:
                        continue
            result.append(GuardedScheduleAttr(GuardAttr((*few, *copy_guard)), ScheduleAttr(schedule)))
    return result


MachineRows = tuple[list[MmaIntrinsic], ...]
"""The instructions for factors that may be exchanged on the way, and for those that may not."""


def _rows_for(role: bool, rows: MachineRows) -> list[MmaIntrinsic]:
    """A role of its own can exchange rows and columns; nothing else should, if there are other instructions."""
    exchanged, as_they_lie = rows
    return exchanged if role else as_they_lie or exchanged


def _of_pixels(
    axes: KernelAxes, roles: ContractionRoles, machine: Machine, machine_rows: MachineRows
) -> Iterator[GuardedScheduleAttr]:
    """The same for an image: small ones and others, many of them and few."""
    for guard, sizes in size_classes(axes, roles):
        for copy_guard, aligned, role in _copy_classes(axes, roles, machine, machine_rows[0]):
            rows = _rows_for(role, machine_rows)
            tile = _tile(roles, rows, None, _along_k(axes, roles), aligned is not None)
            most, count = (tile.m, tile.n), machine.levels[0].count
            m, n = block_sides(axes, roles, sizes, most, tile.intrinsic.m, count)
            intrinsic = max((row for row in rows if n % row.n == 0), key=lambda row: row.n)
            sides = rectangle(axes, roles, sizes, m)
            schedule = _schedule(axes, roles, machine, replace(tile, m=m, n=n, intrinsic=intrinsic), sides)
            role = role and is_box(axes, roles, sides)
            order = GridOrder(persistent=1 if role else None)
            schedule = replace(schedule, aligned=aligned, role=role, order=order)
            yield GuardedScheduleAttr(GuardAttr((*guard, *copy_guard)), ScheduleAttr(schedule))


def _without_alike(found: list[GuardedScheduleAttr]) -> list[GuardedScheduleAttr]:
    """Without those that a later one with fewer conditions is equal to, if none stands between them."""
    kept: list[GuardedScheduleAttr] = []
    for guarded in reversed(found):
        alike = kept and kept[0].schedule == guarded.schedule and _implies(guarded.guard.data, kept[0].guard.data)
        kept = kept if alike else [guarded, *kept]
    return kept


def _implies(guard: Guard, weaker: Guard) -> bool:
    """Whether every condition of ``weaker`` is one of ``guard``, or that of a smaller least size."""
    return all(
        any(has == wanted or (has == replace(wanted, bound=has.bound) and _is_least(wanted, has)) for has in guard)
        for wanted in weaker
    )


def _is_least(wanted: Comparison, has: Comparison) -> bool:
    return wanted.predicate == ">=" and wanted.modulus is None and wanted.bound <= has.bound


def _for_clusters(m: Axis, n: Axis, tile: BlockTile, machine: Machine) -> Guard | None:
    """What must hold for clusters of two blocks, one below the other; None if it never does.

    Each then copies half of what both read of the right factor, the larger one of a block. It pays where every
    multiprocessor is at work, and blocks of clusters beyond the result's edge would be wasted.
    """
    if machine.limits is None or machine.limits.cluster < CLUSTER_ROWS or tile.n < tile.m:
        return None
    side = math.sqrt(machine.levels[0].count * tile.m * tile.n)
    pair = CLUSTER_ROWS * tile.m
    least = {m: round_up(int(side), pair), n: round_up(int(side), tile.n)}
    guard: list[Comparison] = []
    for axis, size in least.items():
        conditions = [Comparison(axis.name, ">=", size)]
        conditions += [Comparison(axis.name, "==", 0, pair)] if axis is m else []
        if axis.size is None:
            guard += conditions
        elif not all(condition.holds(axis.size) for condition in conditions):
            return None
    return tuple(guard)


def _row_classes(m: Axis) -> list[tuple[Guard, int | None]]:
    """Few rows, and any number of them: the guard and the most rows there are."""
    if m.size is not None:
        return [((), m.size if m.size <= FEW_ROWS else None)]
    return [((Comparison(m.name, "<=", FEW_ROWS),), FEW_ROWS), ((), None)]


def _copy_classes(
    axes: KernelAxes, roles: ContractionRoles, machine: Machine, rows: list[MmaIntrinsic]
) -> list[tuple[Guard, int | None, bool]]:
    """What is known of rows: aligned, and copied in whole blocks by a role of its own if the machine can; or nothing.

    A role is for instructions, ``rows``, that read scratch. A copy of a block walks along both factors' memory as it
    lies, or through a window of the left one, and it needs an array that has elements.
    """
    guard = rows_guard(axes, ALIGNMENT)
    if guard is None:
        return [((), None, False)]
    plain = not is_window(axes, roles, roles.rhs) and all(axis.size != 0 for axis in axes.reduced(roles.nest))
    found: list[tuple[Guard, int | None, bool]] = []
    from_scratch = Home.REGISTER not in rows[0].rhs.homes
    if from_scratch and plain and machine.block_copy_bytes == ALIGNMENT:
        some = tuple(Comparison(axis.name, ">=", 1) for axis in axes.reduced(roles.nest) if axis.size is None)
        found.append(((*guard, *some), ALIGNMENT, True))
    if not found or (found[0][0] and not guard):
        found.append((guard, ALIGNMENT, False))
    return [*found, ((), None, False)] if guard else found


def _along_k(axes: KernelAxes, roles: ContractionRoles) -> bool:
    """Whether k is contiguous in the memory of both factors."""
    return all(axes.of_operand(roles.nest, position)[-1] == roles.k for position in (roles.lhs, roles.rhs))


def _instructions(axes: KernelAxes, roles: ContractionRoles, machine: Machine, exchanged: bool) -> list[MmaIntrinsic]:
    """The instructions of the fastest kind for the best types that the program allows; they differ in n.

    ``exchanged``: rows and columns of factors may be exchanged on the way, for instructions that read scratch along k.
    """
    rows: list[MmaIntrinsic] = []
    along_k = _along_k(axes, roles)
    for wanted in roles.instruction_types:
        rows = rows or [
            row
            for row in machine.intrinsics
            if (row.lhs.element, row.rhs.element, row.accumulator.element) == wanted
            and (along_k or not row.rhs.along_k or (exchanged and ELEMENT_BITS[row.rhs.element] == EXCHANGED_BITS))
            and row.k * ELEMENT_BITS[row.lhs.element] <= 8 * MOST_INSTRUCTION_BYTES
        ]
    best = max((row.operations * row.rate for row in rows), default=0.0)
    return [row for row in rows if row.operations * row.rate >= best * 0.99]


def _tile(
    roles: ContractionRoles, rows: list[MmaIntrinsic], most_rows: int | None, along_k: bool, aligned: bool
) -> BlockTile:
    """The block for results of at most ``most_rows`` rows; ``along_k``: both factors have k contiguous."""
    widest = max(rows, key=lambda row: (row.m * row.n, row.k))
    grouped = widest.accumulator.layout is not None and widest.accumulator.layout.size("warp") > 1
    width = ELEMENT_BITS[widest.lhs.element] // 8
    scalar = widest.m == widest.n == 1
    m, n = (64, 64) if scalar else (128, widest.n) if grouped else (128, 128)
    n = n // 2 if width * 8 == WIDE_BITS and not aligned and not scalar else n
    k = 16 if scalar else STEP_BYTES // width if grouped else STEP_BYTES // 2 // width
    if most_rows is not None:
        m = min(m, round_up(max(most_rows, 1), widest.m))
    if roles.n.size is not None:
        # Rows of a factor that lies along n are panels of at least the narrowest swizzle.
        narrowest = 8 if along_k else max(8, NARROWEST_PANEL // width)
        n = min(n, round_up(max(roles.n.size, 1), narrowest if grouped else max(16, widest.n)))
    if roles.k.size is not None and not scalar:
        k = min(k, round_up(max(roles.k.size, 1), NARROWEST_PANEL // width))
    fitting = [row for row in rows if n % row.n == 0]
    return BlockTile(m, n, round_up(k, widest.k), max(fitting, key=lambda row: row.n))


def _schedule(
    axes: KernelAxes,
    roles: ContractionRoles,
    machine: Machine,
    tile: BlockTile,
    rows: Mapping[Axis, int] = MappingProxyType({}),
) -> Schedule:
    """The schedule of blocks of a tile; ``rows`` says how far they go along each axis, if not along m alone."""
    assert roles.m is not None
    sides = {roles.m: tile.m, roles.n: tile.n, roles.k: tile.k, **rows}
    grid = [axis for axis in axes.of_result(roles.nest.results[0]) if isinstance(axis, Axis)]
    reduced = [axis for axis in axes.reduced(roles.nest) if axis != roles.k]
    width = ELEMENT_BITS[tile.intrinsic.lhs.element] // 8
    room = machine.memory("shared").capacity // ((tile.m + tile.n) * tile.k * width)
    return Schedule(
        loops=tuple(Loop(axis.name, sides.get(axis, 1)) for axis in (*grid, *reduced, roles.k)),
        grid=tuple(axis.name for axis in grid),
        lane=roles.n.name,
        stage=tuple(sorted((roles.lhs, roles.rhs))),
        intrinsic=tile.intrinsic.name,
        pipeline=max(1, min(MOST_IN_FLIGHT, room)),
    )


def _raster(machine: Machine, tile: BlockTile) -> int | None:
    """Rows of blocks that make what runs at one time, a block on each multiprocessor, about square; a power of two."""
    rows = 1 << round(math.log2(max(1.0, math.sqrt(machine.levels[0].count * tile.n / tile.m))))
    return rows if rows > 1 else None
