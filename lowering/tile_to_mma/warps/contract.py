"""The rule for ``tile.contract`` on a block of warps: instructions that read registers, or scratch.

    %next = tile.contract %a, %b, %acc extent %kc : !tile.buffer<128x32xbf16>, !tile.buffer<32x128xbf16> -> ...
    ==> (registers: mma.m16n8k16)
    scf.for %k = %zero to %c32 step %c16 iter_args(%sum = %acc) { mma.load 128x16, mma.load 16x128, mma.mma }
    ==> (scratch: wgmma)
    %p = mma.mma_async %a, %b, %acc     %next = mma.await %p     mma.release of the slots that nothing else reads

A scalar instruction would take a whole row of a computed factor into each lane's registers, so that goes to scratch.
Beyond the extent both factors are zero in scratch that a copy has filled; what reads memory reads zeros there.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import SSAValue

from crosstile.dialects import mma, tile
from crosstile.dialects.mma.attributes import LayoutAttr
from crosstile.dialects.tile.types import capacity_type
from crosstile.ir.index_math import Index
from crosstile.lowering.loops import build_for
from crosstile.lowering.tile_to_mma.places import Place, place_of_window, window_of
from crosstile.lowering.tile_to_mma.uses import same_index
from crosstile.lowering.tile_to_mma.warps.layouts import is_scalar
from crosstile.lowering.tile_to_mma.warps.roles import release_read
from crosstile.lowering.tile_to_mma.warps.stages import store_to_scratch, whole_place
from crosstile.lowering.tile_to_mma.warps.state import WarpLowering
from crosstile.targets.layout import Layout
from crosstile.targets.model import Home, MmaIntrinsic

MOST_STEPS = 8
"""Steps of k that are written out where a kernel has several products, whose loads nothing else moves ahead: offsets
that are known go to the instructions' immediates."""


def lower_contract(op: tile.ContractOp, lowering: WarpLowering) -> None:
    """The product by the instruction chosen for the kernel."""
    row = lowering.rows[op]
    accumulator = lowering.conform(lowering.value(op.accumulator), lowering.fragment_type(op.result))
    multiply = _in_registers if Home.REGISTER in row.rhs.homes else _in_scratch
    lowering.replace(op, multiply(op, row, accumulator, lowering))


def _in_scratch(op: tile.ContractOp, row: MmaIntrinsic, accumulator: SSAValue, lowering: WarpLowering) -> SSAValue:
    """One asynchronous product whose right factor, and left one unless it was computed, are in scratch."""
    m, k = capacity_type(op.lhs).get_shape()
    n = capacity_type(op.rhs).get_shape()[1]
    if isinstance(op.lhs.type, tile.TileType) and row.lhs.layout is not None:
        lhs = lowering.value_as(op.lhs, lowering.arrangement.lhs(row, m, k, n))
    else:
        lhs = _scratch(op.lhs, lowering)
    pending = lowering.insert(mma.MmaAsyncOp(lhs, _scratch(op.rhs, lowering), accumulator, row.name)).result
    result = lowering.insert(mma.AwaitOp(pending)).result
    release_read(op, lowering)
    return result


def _scratch(value: SSAValue, lowering: WarpLowering) -> SSAValue:
    """The scratch that holds all of a factor, and nothing else."""
    match value.type:
        case tile.BufferType():
            return lowering.value(value)
        case tile.TileType():
            return store_to_scratch(lowering.value(value), lowering)
        case _:
            raise lowering.error("multiplies a window; the instruction reads whole buffers: stage the window")


def _in_registers(op: tile.ContractOp, row: MmaIntrinsic, accumulator: SSAValue, lowering: WarpLowering) -> SSAValue:
    """Instructions whose factors are loaded into registers, a step of k at a time unless one is there already."""
    m, k = capacity_type(op.lhs).get_shape()
    n = capacity_type(op.rhs).get_shape()[1]
    arrangement = lowering.arrangement
    computed = [isinstance(value.type, tile.TileType) and not is_scalar(row) for value in (op.lhs, op.rhs)]
    depth = k if any(computed) else row.k
    layouts = arrangement.lhs(row, m, depth, n), arrangement.rhs(row, depth, n, m)
    if any(computed):
        lhs, rhs = (
            lowering.value_as(value, layout) if there else _load(_factor(op, role, lowering), value, layout, lowering)
            for role, (value, layout, there) in enumerate(zip((op.lhs, op.rhs), layouts, computed, strict=True))
        )
        return lowering.insert(mma.MmaOp(lhs, rhs, accumulator, row.name)).result
    left, right = _factor(op, 0, lowering), _factor(op, 1, lowering)

    def step(at: Index, sums: Sequence[SSAValue]) -> Sequence[SSAValue]:
        lhs = _load(left.part(lowering, (m, depth), {1: at}), op.lhs, layouts[0], lowering)
        rhs = _load(right.part(lowering, (depth, n), {0: at}), op.rhs, layouts[1], lowering)
        return [lowering.insert(mma.MmaOp(lhs, rhs, sums[0], row.name)).result]

    if len(lowering.rows) > 1 and not is_scalar(row) and k <= MOST_STEPS * depth:
        sums: Sequence[SSAValue] = [accumulator]
        for at in range(0, k, depth):
            sums = step(at, sums)
        return sums[0]
    return build_for(lowering, lowering.index.bounds(0, k, depth), [accumulator], step, "kk")[0]


def _factor(op: tile.ContractOp, role: int, lowering: WarpLowering) -> Place:
    """Where a factor in memory or scratch is; zeros are read beyond the extent of k unless they stand there."""
    value, along = ((op.lhs, 1), (op.rhs, 0))[role]
    if isinstance(value.type, tile.WindowType):
        window = window_of(value, lowering)
        place = place_of_window(window, lowering)
        covered = same_index(window.extents_by_dim[along], op.extent)
    elif isinstance(value.type, tile.TileType):
        place, covered = whole_place(store_to_scratch(lowering.value(value), lowering)), False
    else:
        place = whole_place(lowering.value(value))
        stage = value.owner
        source = stage.source.owner if isinstance(stage, tile.StageOp) else None
        covered = isinstance(source, tile.WindowOp) and same_index(source.extents_by_dim[along], op.extent)
    if op.extent is None or covered:
        return place
    return place.cut(lowering, along, lowering.as_index(op.extent))


def _load(place: Place, old: SSAValue, layout: Layout, lowering: WarpLowering) -> SSAValue:
    element = capacity_type(old).element_type
    return place.load(lowering, mma.FragmentType.of(place.shape, element, LayoutAttr(layout)))
