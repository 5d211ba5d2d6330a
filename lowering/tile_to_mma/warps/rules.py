"""Rules for blocks of warps: kernels, loops, branches, accesses to memory and arithmetic on tiles.

Each is the same operation on fragments; what an operation finds in another layout than its own is moved first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xdsl.dialects import affine, scf
from xdsl.dialects.builtin import IntegerAttr, i64
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from crosstile.dialects import mma, tile
from crosstile.dialects.mma.attributes import LayoutAttr, projected
from crosstile.dialects.tile.launch import ALIGNMENT
from crosstile.dialects.tile.types import capacity_type
from crosstile.lowering.driver import Rule, keep
from crosstile.lowering.llvm_types import element_bytes
from crosstile.lowering.tile_to_mma import arithmetic, control, places
from crosstile.lowering.tile_to_mma.control import block_size
from crosstile.lowering.tile_to_mma.places import number, place_of_window, window_of
from crosstile.lowering.tile_to_mma.state import INDEX
from crosstile.lowering.tile_to_mma.warps.contract import lower_contract
from crosstile.lowering.tile_to_mma.warps.layouts import memory_layout
from crosstile.lowering.tile_to_mma.warps.outgoing import piece_for
from crosstile.lowering.tile_to_mma.warps.pipelines import Blocks, Pipeline
from crosstile.lowering.tile_to_mma.warps.roles import lower_parallel, lower_product_loop, release_held, wait_for
from crosstile.lowering.tile_to_mma.warps.stages import lower_stage, runs_down, store_to_scratch
from crosstile.lowering.tile_to_mma.warps.state import WarpLowering


def lower_kernel(op: tile.KernelOp, lowering: WarpLowering) -> None:
    """A kernel for as many warps as its tiles are spread over."""
    lowering.enter_kernel(op)
    block = Block()
    for argument in op.body.block.args:
        lowering.add_argument(block, argument)
    with lowering.index.function(block):
        lowering.lower_ops(op.body.block)
    warps = lowering.warps + lowering.staging_warps
    kernel = mma.KernelOp(op.sym_name.data, Region(block), lowering.machine.name, warps)
    kernel.attributes.update({ALIGNMENT: IntegerAttr(1, i64), **op.attributes})
    lowering.insert(kernel)


def lower_staged(op: tile.StageOp, lowering: WarpLowering) -> None:
    """The next slot of the ring that a role of its own fills, or what ``stages`` makes of it."""
    if op in lowering.rings:
        lowering.replace(op, wait_for(op, lowering))
    else:
        lower_stage(op, lowering)


def lower_for(op: tile.ForOp, lowering: WarpLowering) -> None:
    """A loop over the starts of blocks, or, if its stages are copied ahead, over the numbers of its trips."""
    if lower_product_loop(op, lowering):
        return
    index = lowering.index
    lower, upper = lowering.as_index(op.lower_bound), lowering.as_index(op.upper_bound)
    blocks = Blocks(lower, upper, block_size(op, lower, upper, lowering))
    initial = _conformed(op.iter_args, op.body.block.args[2:], lowering)
    pipeline = Pipeline.of(op, blocks, lowering)
    if pipeline is not None:
        pipeline.fill()
    body = Block(arg_types=[INDEX])
    for argument in op.body.block.args[2:]:
        lowering.add_argument(body, argument)
    with lowering.at(body), lowering.holding():
        *inner, last = op.body.block.ops
        if pipeline is None:
            blocks.enter(op, body.args[0], lowering)
        else:
            pipeline.enter(body.args[0])
        for operation in inner:
            lowering.lower_op(operation)
            if pipeline is not None:
                pipeline.behind(operation)
        if pipeline is not None:
            pipeline.leave()
        release_held(lowering)
        lowering.lower_op(last)
    bounds = index.bounds(lower, upper, blocks.step) if pipeline is None else index.bounds(0, pipeline.trips, 1)
    loop = lowering.insert(scf.ForOp(*bounds, initial, Region(body)))
    lowering.replace(op, *loop.results)


def _conformed(values: Sequence[SSAValue], targets: Sequence[SSAValue], lowering: WarpLowering) -> list[SSAValue]:
    """The new values of ``values``, tiles laid out as ``targets`` are."""
    return [
        lowering.conform(lowering.value(value), lowering.fragment_type(target))
        if isinstance(target.type, tile.TileType)
        else lowering.value(value)
        for value, target in zip(values, targets, strict=True)
    ]


def lower_yield(op: tile.YieldOp, lowering: WarpLowering) -> None:
    """The end of a body, carried tiles laid out as the loop carries them."""
    parent = op.parent_op()
    if isinstance(parent, tile.ForOp):
        lowering.insert(scf.YieldOp(*_conformed(op.arguments, parent.body.block.args[2:], lowering)))
    else:
        control.lower_yield(op, lowering)


def lower_if(op: scf.IfOp, lowering: WarpLowering) -> None:
    """The same; tiles of both branches are laid out as the results."""
    regions: list[Region] = []
    for region in op.regions:
        if not region.blocks:
            regions.append(Region())
            continue
        with lowering.at(block := Block()):
            lowering.lower_ops(region.block)
        regions.append(Region(block))
    types: list[Attribute] = [
        lowering.fragment_type(result) if isinstance(result.type, tile.TileType) else result.type
        for result in op.results
    ]
    new = lowering.insert(scf.IfOp(lowering.value(op.cond), types, regions[0], regions[1]))
    lowering.replace(op, *new.results)


def lower_scf_yield(op: scf.YieldOp, lowering: WarpLowering) -> None:
    """The end of a branch or loop."""
    parent = op.parent_op()
    assert parent is not None
    lowering.insert(scf.YieldOp(*_conformed(op.operands, parent.results, lowering)))


def lower_alloc(op: tile.AllocOp, lowering: WarpLowering) -> None:
    """Scratch, row by row."""
    type_ = op.result.type
    alloc = mma.AllocOp(mma.BufferType.of(type_.get_shape(), type_.element_type))
    lowering.insert_outside(alloc)
    lowering.replace(op, alloc.result)


def lower_load(op: tile.LoadOp, lowering: WarpLowering) -> None:
    """A load into the registers that the tile's users want it in, along memory if the kernel multiplies nothing."""
    window = window_of(op.window, lowering)
    place = place_of_window(window, lowering)
    condition = None if op.condition is None else lowering.value(op.condition)
    type_ = lowering.fragment_type(op.result)
    down = _lies_across(window, lowering) and condition is None
    loaded = (place.transposed() if down else place).load(
        lowering,
        _turned(type_, lowering) if down else type_,
        number(op.pad),
        condition=condition,
        otherwise=number(op.otherwise),
    )
    lowering.replace(op, lowering.insert(mma.TransposeOp(loaded, type_)).result if down else loaded)


def _lies_across(window: tile.WindowOp, lowering: WarpLowering) -> bool:
    """Whether rows of memory are columns of a tile that is worth to be exchanged through shared memory."""
    shape = window.result.type.get_shape()
    return (
        not lowering.rows and len(shape) == 2 and min(shape) > 1 and bool(window.map.data.results) and runs_down(window)
    )


def _turned(type_: mma.FragmentType, lowering: WarpLowering) -> mma.FragmentType:
    """The fragment of the transposed tile, laid out for memory."""
    shape, element = type_.get_shape()[::-1], type_.element_type
    layout = memory_layout(shape, lowering.warps, lowering.arrangement.lanes, 8 * element_bytes(element))
    return mma.FragmentType.of(shape, element, LayoutAttr(layout))


def lower_store(op: tile.StoreOp, lowering: WarpLowering) -> None:
    """A store from the registers that the tile is in; a window of scratch is then seen by all warps."""
    window = window_of(op.window, lowering)
    place, value = place_of_window(window, lowering), lowering.value(op.value)
    nontemporal = None if op.nontemporal is None else lowering.value(op.nontemporal)
    in_scratch, through = isinstance(window.source.type, tile.BufferType), None
    if in_scratch:
        lowering.insert(mma.BarrierOp())
    elif _lies_across(window, lowering):
        assert isinstance(value.type, mma.FragmentType)
        value, place = lowering.insert(mma.TransposeOp(value, _turned(value.type, lowering))).result, place.transposed()
    else:
        through = piece_for(op, window, value, lowering)
    place.store(lowering, value, nontemporal, through)
    if in_scratch:
        lowering.insert(mma.BarrierOp())


def lower_map(op: tile.MapOp, lowering: WarpLowering) -> None:
    """The same body; inputs are brought to where the result is."""
    type_ = lowering.fragment_type(op.result)
    layout = type_.layout.data
    inputs = [lowering.value_as(value, projected(layout, capacity_type(value).get_shape())) for value in op.inputs]
    lowering.replace(op, lowering.insert(mma.MapOp(inputs, type_, lowering.lower_region(op.body))).result)


def lower_reduce(op: tile.ReduceOp, lowering: WarpLowering) -> None:
    """The same; its result is the value's projection, moved from there if others want it elsewhere."""
    value = lowering.value(op.value)
    assert isinstance(value.type, mma.FragmentType)
    shape = capacity_type(op.result).get_shape()
    layout = projected(value.type.layout.data, shape)
    type_ = lowering.fragment_of(op.result, layout)
    extents: list[SSAValue | None] = [None] * capacity_type(op.value).get_num_dims()
    for dim, extent in zip(op.reduced_dims, op.extents_by_dim, strict=True):
        extents[dim] = None if extent is None else lowering.value(extent)
    into = None if op.into is None else lowering.conform(lowering.value(op.into), type_)
    reduced = lowering.insert(mma.ReduceOp(op.kind.data, value, op.reduced_dims, type_, into, extents)).result
    lowering.replace(op, lowering.conform(reduced, lowering.fragment_type(op.result)))


def lower_splat(op: tile.SplatOp, lowering: WarpLowering) -> None:
    """The same on fragments."""
    lowering.replace(
        op, lowering.insert(mma.SplatOp(lowering.value(op.scalar), lowering.fragment_type(op.result))).result
    )


def lower_rearranged(op: tile.TransposeOp | tile.ReshapeOp, lowering: WarpLowering) -> None:
    """Stored to scratch in one order, loaded in another."""
    buffer = store_to_scratch(lowering.value(op.value), lowering)
    type_ = lowering.fragment_type(op.result)
    by = arithmetic.rearrangement(op)
    shape = type_.get_shape()
    place = places.Place(buffer, shape, by, (), (None,) * len(shape))
    lowering.replace(op, place.load(lowering, type_))


RULES: Mapping[type[Operation], Rule] = {
    tile.KernelOp: lower_kernel,
    tile.ReturnOp: control.lower_return,
    tile.DimOp: control.lower_dim,
    tile.ParallelOp: lower_parallel,
    tile.ForOp: lower_for,
    tile.YieldOp: lower_yield,
    tile.WindowOp: places.lower_window,
    tile.AllocOp: lower_alloc,
    tile.LoadOp: lower_load,
    tile.StoreOp: lower_store,
    tile.StageOp: lower_staged,
    tile.ContractOp: lower_contract,
    tile.MapOp: lower_map,
    tile.ReduceOp: lower_reduce,
    tile.MaskOp: arithmetic.lower_mask,
    tile.SplatOp: lower_splat,
    tile.IotaOp: arithmetic.lower_iota,
    tile.TransposeOp: lower_rearranged,
    tile.ReshapeOp: lower_rearranged,
    tile.LaunchOp: keep,
    affine.ApplyOp: control.lower_apply,
    scf.IfOp: lower_if,
    scf.YieldOp: lower_scf_yield,
}
