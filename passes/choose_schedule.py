"""``choose-schedule``: write schedules from the machine description into kernels that have none.

Level: nest. In: ``nest.kernel`` without ``schedules``. Out: the same kernel with an ordered list of guarded schedules.
A schedule that a person or a tuner wrote stays as it is. For a matrix product on AVX-512::

    schedules [N <= 16 : #nest.schedule<loops = [n : 16, k : 512 balanced 8, m : 1020, n : 16, m : 12], ...>,
               M <= 16 : #nest.schedule<loops = [k : 32 balanced 8, n : 64, m : 4], parallel = n grain 64, ...>,
               #nest.schedule<loops = [n : 4096, k : 512 balanced 8, m : 1024, n : 64, m : 4], parallel = m grain 4,
                              lane = n, stage = [1], intrinsic = "x86.avx512.fma.1x16x1.f32">]

The register tile follows from the number of vector registers: as many vectors of accumulators as hide the latency of
the unit, plus a row of the right-hand side and one broadcast, must fit. The right-hand side is packed where it is
reused by enough rows. Everything that is not a matrix product is swept row by row, a few vectors at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import AnyFloat, ArrayAttr, FixedBitwidthType, ModuleOp
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import Attribute, BlockArgument
from xdsl.passes import ModulePass

from crosstile.dialects.nest.analysis import element_type
from crosstile.dialects.nest.axes import Axis, AxisOrUnit, AxisSum, KernelAxes, axes_among
from crosstile.dialects.nest.contraction_roles import ContractionRoles, carrier, contraction_roles
from crosstile.dialects.nest.generic import GenericOp
from crosstile.dialects.nest.kernel import KernelOp
from crosstile.dialects.nest.schedule import (
    Comparison,
    GuardAttr,
    GuardedScheduleAttr,
    Loop,
    Schedule,
    ScheduleAttr,
)
from crosstile.ir.diagnostics import op_error
from crosstile.targets.host import resolve_machine
from crosstile.targets.model import Machine, MmaIntrinsic, UnknownNameError

REDUCTION_BLOCK_BYTES = 2048
"""Bytes of one row of a block of the reduction: 512 words, so that a packed panel of 64 columns is 128 KB."""
IN_PLACE_BLOCK = 32
"""Rows of a right-hand side that is read in place: each may lie on a page of its own, and so many have their
translations at hand. Measured on 1x4096x4096 and 16x4096x11008: twice the rate of blocks of 512."""
COLUMN_BLOCK = 4096
"""Columns packed together; a block of them stays in the last-level cache while all rows pass by."""
FEW_ROWS = 16
"""Up to so many rows, packing the right-hand side costs more than reading it in place."""
ACCUMULATOR_VECTORS = 24
"""Two units of latency four need eight in flight; more of them reuse each row of the panel, which streams from L2."""
MOST_ROWS = 12
"""Rows of a register tile of one vector: more only add broadcasts."""
EFFICIENCY = {4: 1.0, 2: 0.97, 1: 0.85}
"""Rate of a register tile by its vectors: fewer of them need more broadcasts per multiplication."""
WINDOW_BLOCK = 256
"""Rows or columns of a convolution's factor that are packed together."""
IMAGE_ROWS = 8
"""Rows of an image for which a filter is packed once; as many rows of results, which carry the accumulators from one
place of the filter to the next, stay in L2."""
SWEEP_VECTORS = 4
"""Vectors per step of a sweep: independent chains that hide the latency of an addition."""


def round_up(size: int, multiple: int) -> int:
    """The least multiple of ``multiple`` that is not below ``size``."""
    return -(-size // multiple) * multiple


# Contractions


@dataclass(frozen=True)
class RegisterTile:
    """``rows`` by ``vectors`` vectors of accumulators."""

    rows: int
    vectors: int


def register_tiles(machine: Machine) -> list[RegisterTile]:
    """The register tiles of ``machine``, widest first: accumulators, one row of the rhs and a broadcast fit."""
    registers = machine.vector_registers
    widest = 4 if registers >= 32 else 2
    vectors = [count for count in (4, 2, 1) if count <= widest]
    return [
        RegisterTile(min((registers - 1 - count) // count, ACCUMULATOR_VECTORS // count, MOST_ROWS), count)
        for count in vectors
    ]


def contraction_schedules(axes: KernelAxes, roles: ContractionRoles, machine: Machine) -> list[GuardedScheduleAttr]:
    """Guarded schedules for a matrix product: narrow results, few rows, and the general case."""
    intrinsic = machine.choose(*roles.factors, str(roles.element))
    rhs_axes = axes.of_operand(roles.nest, roles.rhs)
    in_place = rhs_axes[-1] == roles.n
    tiles = register_tiles(machine)
    m_size = 1 if roles.m is None else roles.m.size
    result: list[GuardedScheduleAttr] = []

    def add(tile: RegisterTile, staged: bool, *guard: Comparison) -> None:
        schedule = contraction_schedule(axes, roles, machine, intrinsic, tile, staged)
        result.append(GuardedScheduleAttr(GuardAttr(guard), ScheduleAttr(schedule)))

    if (columns := roles.n.size) is not None:
        tiles = [min(tiles, key=lambda tile: round_up(columns, tile.vectors * intrinsic.n) / EFFICIENCY[tile.vectors])]
    else:
        add(tiles[-1], True, Comparison(roles.n.name, "<=", intrinsic.n))
    few = Comparison(roles.m.name if roles.m is not None else "", "<=", FEW_ROWS)
    if in_place and (m_size is None or m_size <= FEW_ROWS):
        add(tiles[0], False, *(() if m_size is not None else (few,)))
    if not in_place or m_size is None or m_size > FEW_ROWS:
        add(tiles[0], True)
    return result


def contraction_schedule(
    axes: KernelAxes,
    roles: ContractionRoles,
    machine: Machine,
    intrinsic: MmaIntrinsic,
    tile: RegisterTile,
    staged: bool,
) -> Schedule:
    """One schedule: blocks for the caches if the rhs is packed, else straight loops over register tiles."""
    bits = _bits(element_type(roles.nest.inputs[roles.rhs]))
    columns = tile.vectors * intrinsic.n
    rows = 1 if roles.m is None or roles.m.size == 1 else tile.rows
    k_step = REDUCTION_BLOCK_BYTES * 8 // bits if staged else IN_PLACE_BLOCK
    if roles.k.size is not None:
        k_step = max(1, min(k_step, round_up(roles.k.size, 8)))
    result = axes.of_result(roles.nest.results[0])
    others = [axis for axis in axes_among(result) if axis not in (roles.m, roles.n)]
    outer_sums = [axis for axis in axes.reduced(roles.nest) if axis != roles.k]
    loops = [Loop(axis.name, 1) for axis in (*others, *outer_sums)]
    k_loop = Loop(roles.k.name, k_step, 8)
    m_tile = [] if roles.m is None else [Loop(roles.m.name, rows)]
    if staged:
        n_step = COLUMN_BLOCK if roles.n.size is None else min(COLUMN_BLOCK, max(roles.n.size, 1))
        loops += [Loop(roles.n.name, round_up(n_step, columns)), k_loop]
        if roles.m is not None:
            resident_rows = machine.memory("L2").capacity // 2 // (k_step * bits // 8)
            loops.append(Loop(roles.m.name, max(rows, resident_rows // rows * rows)))
        loops += [Loop(roles.n.name, columns), *m_tile]
    else:
        loops += [k_loop, Loop(roles.n.name, columns), *m_tile]
    parallel, grain = _split(roles, others, rows if staged else None, columns)
    return Schedule(
        loops=tuple(loops),
        parallel=parallel.name,
        grain=grain,
        lane=roles.n.name,
        stage=_staged(axes, roles) if staged else (),
        intrinsic=intrinsic.name,
    )


def _staged(axes: KernelAxes, roles: ContractionRoles) -> tuple[int, ...]:
    """The inputs to pack: the rhs, and the lhs unless its rows lie along k, as the unit reads them.

    Measured on 1024^3: packing a transposed lhs gives 149 GFLOP/s instead of 93, packing one that is not loses 6 %.
    """
    lhs_along_k = axes.of_operand(roles.nest, roles.lhs)[-1] == roles.k
    return (roles.rhs,) if lhs_along_k else tuple(sorted((roles.lhs, roles.rhs)))


def _split(roles: ContractionRoles, others: Sequence[Axis], rows: int | None, columns: int) -> tuple[Axis, int]:
    """The axis to split over workers and its grain: batches, else rows if there are many, else columns."""
    if others:
        return others[0], 1
    if roles.m is not None and rows is not None:
        return roles.m, rows
    return roles.n, columns


# Convolutions


def _is_window(axes: KernelAxes, roles: ContractionRoles, position: int) -> bool:
    """Whether a factor is read through a window that several axes move."""
    return any(isinstance(entry, AxisSum) for entry in axes.of_operand(roles.nest, position))


def window_schedules(axes: KernelAxes, roles: ContractionRoles, machine: Machine) -> list[GuardedScheduleAttr]:
    """Guarded schedules for a product of a window: a register tile by the width of the result's last dimension."""
    element = str(roles.element)
    intrinsic = machine.choose(element, element, element)
    tiles = register_tiles(machine)
    result: list[GuardedScheduleAttr] = []

    def add(tile: RegisterTile, *guard: Comparison) -> None:
        schedule = window_schedule(axes, roles, intrinsic, tile)
        result.append(GuardedScheduleAttr(GuardAttr(guard), ScheduleAttr(schedule)))

    if (columns := roles.n.size) is not None:
        tiles = [min(tiles, key=lambda tile: round_up(columns, tile.vectors * intrinsic.n) / EFFICIENCY[tile.vectors])]
    else:
        add(tiles[-1], Comparison(roles.n.name, "<=", intrinsic.n))
    add(tiles[0])
    return result


def window_schedule(axes: KernelAxes, roles: ContractionRoles, intrinsic: MmaIntrinsic, tile: RegisterTile) -> Schedule:
    """One schedule: a sum over the filter's places around a matrix product for each.

    The factor whose elements are replicated is packed, as its rows are far apart in memory: a filter for several rows
    of the image, a window of the image for each. A window whose lanes are not neighbours (a stride) is packed instead.
    """
    columns, rows = tile.vectors * intrinsic.n, tile.rows
    k_step = REDUCTION_BLOCK_BYTES * 8 // _bits(roles.element)
    if roles.k.size is not None:
        k_step = max(1, min(k_step, round_up(roles.k.size, 8)))
    others = [axis for axis in axes_among(axes.of_result(roles.nest.results[0])) if axis not in (roles.m, roles.n)]
    sums = [Loop(axis.name, 1) for axis in axes.reduced(roles.nest) if axis != roles.k]
    sums.append(Loop(roles.k.name, k_step, 8))
    tile_loops = [Loop(roles.n.name, columns), *([] if roles.m is None else [Loop(roles.m.name, rows)])]
    stage, outer, inner = roles.lhs, [Loop(axis.name, 1) for axis in others], list[Loop]()
    if _lane_step(axes, roles) != 1:
        stage = roles.rhs
        inner.append(Loop(roles.n.name, _block(roles.n, columns)))
    else:
        if roles.m is not None:
            inner.append(Loop(roles.m.name, _block(roles.m, rows)))
        if others and not _is_window(axes, roles, roles.lhs):
            inner.append(outer[-1])
            outer[-1] = Loop(others[-1].name, IMAGE_ROWS)
    split = next((axis for axis in others if axis.size != 1), None)
    parallel, grain = (
        (roles.n, columns) if split is None else (split, dict(zip(others, outer, strict=True))[split].step)
    )
    return Schedule(
        loops=(*outer, *sums, *inner, *tile_loops),
        parallel=parallel.name,
        grain=grain,
        lane=roles.n.name,
        stage=(stage,),
        intrinsic=intrinsic.name,
    )


def _block(axis: Axis, multiple: int) -> int:
    """How much of ``axis`` is packed together."""
    size = WINDOW_BLOCK if axis.size is None else min(WINDOW_BLOCK, max(axis.size, 1))
    return round_up(size, multiple)


def _lane_step(axes: KernelAxes, roles: ContractionRoles) -> int:
    """How far apart in the right factor's last dimension two lanes are; 0 if they are in another one."""
    last = axes.of_operand(roles.nest, roles.rhs)[-1]
    terms = last.terms if isinstance(last, AxisSum) else ((last, 1),)
    return next((factor for axis, factor in terms if axis == roles.n), 0)


# Everything else


def sweep_schedule(axes: KernelAxes, machine: Machine) -> Schedule:
    """A schedule for rows that are swept once per reduction and once for the results."""
    parallel = axes.parallel()
    lane = _lane_axis(axes, parallel)
    lanes = machine.vector_bits // _lane_bits(axes)
    vectors = SWEEP_VECTORS if machine.vector_registers > 1 and lanes > 1 else 1
    if lane is not None and lane.size is not None:
        vectors = min(vectors, max(1, -(-lane.size // lanes)))
    outer = [axis for axis in parallel if axis != lane]
    rows = outer[-1] if outer and vectors == 1 else None
    steps = dict.fromkeys((*outer, *(axis for nest in axes.nests for axis in axes.reduced(nest))), 1)
    if lane is not None:
        steps[lane] = lanes * vectors
    if rows is not None:
        steps[rows] = SWEEP_VECTORS
    ordered = [axis for axis in dict.fromkeys([*parallel, *axes.of_nest(axes.root)]) if axis != lane]
    ordered += [] if lane is None else [lane]
    split = next((axis for axis in parallel if axis.size != 1), None)
    known = [axis for axis in ordered if axis in axes.of_nest(axes.root)]
    return Schedule(
        loops=tuple(Loop(axis.name, steps.get(axis, 1)) for axis in known),
        parallel=None if split is None else split.name,
        grain=1 if split is None else steps[split],
        lane=None if lane is None else lane.name,
    )


def _lane_axis(axes: KernelAxes, parallel: Sequence[Axis]) -> Axis | None:
    """The axis across lanes: contiguous in memory, and not one whose sums must stay in order."""
    ordered = {axis for nest in axes.nests if not _may_reorder(nest) for axis in axes.reduced(nest)}
    for along in _memory_axes(axes):
        last = along[-1] if along else None
        if isinstance(last, Axis) and last not in ordered:
            return last
    return parallel[-1] if parallel else None


def _memory_axes(axes: KernelAxes) -> list[tuple[AxisOrUnit, ...]]:
    """How tensors in memory lie along the axes: the results of the kernel, then its inputs, of highest rank first."""
    results = [axes.of_result(value) for value in axes.kernel.yield_op.arguments if isinstance(value.owner, GenericOp)]
    inputs = [
        axes.of_operand(nest, position)
        for nest in axes.nests
        for position, operand in enumerate(nest.inputs)
        if isinstance(operand, BlockArgument)
    ]
    return sorted([*results, *inputs], key=lambda along: -sum(axis is not None for axis in along))


def _may_reorder(nest: GenericOp) -> bool:
    """Whether the reduction of ``nest`` may be split into several chains: maxima always, sums with ``reassoc``."""
    if nest.combiner is None or nest.combiner.data in ("max", "min"):
        return True
    return nest.fastmath is not None and FastMathFlag.REASSOC in nest.fastmath.data


def _element_types(axes: KernelAxes) -> list[Attribute]:
    nests = axes.nests
    types = [element_type(value) for nest in nests for value in (*nest.inputs, *nest.results)]
    return types + [nest.accumulator_type for nest in nests if nest.accumulator_type is not None]


def _lane_bits(axes: KernelAxes) -> int:
    """The bits of a lane: as many as the kernel's widest float has, f32's if it has none.

    Wider integers take several registers per lane's worth: an i64 beside f32 lies across 16 lanes of 512 bits as well.
    """
    return max((_bits(type_) for type_ in _element_types(axes) if isinstance(type_, AnyFloat)), default=32)


def _bits(type_: Attribute) -> int:
    return type_.bitwidth if isinstance(type_, FixedBitwidthType) else 64


def schedules_for(kernel: KernelOp, machine: Machine) -> list[GuardedScheduleAttr]:
    """The guarded schedules of ``kernel`` on ``machine``."""
    axes = KernelAxes(kernel)
    roles = contraction_roles(axes)
    if roles is not None and carrier(axes, kernel.yield_op.arguments, roles) is not None:
        windowed = any(_is_window(axes, roles, position) for position in (roles.lhs, roles.rhs))
        try:
            return (window_schedules if windowed else contraction_schedules)(axes, roles, machine)
        except UnknownNameError:
            pass  # no matrix unit for these types: the sum of products is swept like any other reduction
    return [GuardedScheduleAttr(GuardAttr(()), ScheduleAttr(sweep_schedule(axes, machine)))]


@dataclass(frozen=True)
class ChooseSchedulePass(ModulePass):
    """Schedules from the description of the machine called ``target`` (``host``: this one) for kernels without."""

    name = "choose-schedule"

    target: str = "x86-64-avx512"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Write schedules into the kernels of the module ``op`` in place."""
        try:
            chip = resolve_machine(self.target)
        except UnknownNameError as error:
            raise op_error(op, f"choose-schedule: {error}") from error
        for kernel in op.walk():
            if isinstance(kernel, KernelOp) and kernel.schedules is None:
                kernel.schedules = ArrayAttr(schedules_for(kernel, chip))
