"""Kernels in which warps of their own do nothing but stage: a copying role and a computing role, joined by rings.

A ``tile.for`` with ``pipeline(n) role`` asks for it. All staged windows of the kernel are then copied by one role,
in whole blocks, into rings; the other role waits for a slot, computes, and releases it::

    role @load     tile.for over the same blocks:  acquire, copy_async, commit
    role @compute  everything else:                wait, ... , release

What lies across in memory, for instructions that read scratch along k only, a third role exchanges on the way, from the
ring that copies fill to one of as many bytes a slot. The slots of both are as many as the pipeline has trips::

    role @exchange tile.for over the same blocks:  wait, acquire, copy_transposed, commit, release

A loop that does nothing but multiply what it stages keeps one product in flight: its slots are released a trip later,
when the next product has started::

    p0 = mma_async(slot 0)
    trip t:  q = mma_async(slot t), accumulating into the pending p;  await all but q;  release slot t - 1

So that there is a first product the loop runs once at least; of an empty sum it multiplies zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.ir import Block, Operation, Region, SSAValue

from crosstile.dialects import mma, tile
from crosstile.dialects.instance_dependence import dependences
from crosstile.dialects.mma.roles import Role
from crosstile.dialects.mma.types import BARRIERS
from crosstile.ir.index_math import Index
from crosstile.lowering.loops import build_for
from crosstile.lowering.tile_to_mma import control
from crosstile.lowering.tile_to_mma.control import block_size
from crosstile.lowering.tile_to_mma.state import INDEX
from crosstile.lowering.tile_to_mma.warps.pipelines import Blocks, as_staged, copy_window, ring_type
from crosstile.lowering.tile_to_mma.warps.stages import is_copied, is_exchanged
from crosstile.lowering.tile_to_mma.warps.state import WarpLowering
from crosstile.targets.model import Home

GROUP_WARPS = 4
"""Warps of the roles that stage: registers are given away by groups of four (PTX ISA, setmaxnreg)."""

REGISTERS = 512
"""Registers that a thread of each group of four warps could have if there were one group: 65536 for 128 threads."""
COPYING_REGISTERS = 40
"""Registers that a thread which only copies keeps (PTX ISA, setmaxnreg: a multiple of 8)."""
EXCHANGING_REGISTERS = 56
"""Registers of a thread that exchanges rows and columns: the words of four units, and addresses."""
MOST_REGISTERS = 240
"""Registers that a computing thread asks for at most."""


def lower_parallel(op: tile.ParallelOp, lowering: WarpLowering) -> None:
    """The same on fragments; with two roles if a loop asks for it."""
    if not lowering.has_roles:
        control.lower_parallel(op, lowering)
        return
    lowers, uppers = lowering.flatten(op.lower_bounds), lowering.flatten(op.upper_bounds)
    body = Block()
    for argument in op.body.block.args:
        lowering.add_argument(body, argument)
    stages = [inner for inner in op.body.walk() if isinstance(inner, tile.StageOp) and is_copied(inner)]
    with lowering.at(body):
        for stage in stages:
            _make_rings(stage, lowering)
        lowering.multicast = _shared(op, stages, lowering)
        with lowering.at(load := Block()):
            _staging_block(op.body.block, _needed(op, stages), _copy, lowering)
        registers = EXCHANGING_REGISTERS if lowering.copied else COPYING_REGISTERS
        roles = [Role("load", 1 if lowering.copied else GROUP_WARPS, registers, Region(load))]
        if lowering.copied:
            with lowering.at(exchange := Block()):
                _staging_block(op.body.block, _needed(op, list(lowering.copied), False), _exchange, lowering)
            roles.append(Role("exchange", GROUP_WARPS - 1, registers, Region(exchange)))
        with lowering.at(compute := Block()), lowering.holding():
            for inner in list(op.body.block.ops)[:-1]:
                lowering.lower_op(inner)
            release_held(lowering)
        groups = -(-lowering.warps // GROUP_WARPS)
        rest = (REGISTERS - registers) // groups // 8 * 8
        lowering.staging_warps = GROUP_WARPS
        roles.append(Role("compute", lowering.warps, min(rest, MOST_REGISTERS), Region(compute)))
        lowering.insert(mma.RolesOp(roles))
        lowering.insert(mma.YieldOp())
    lowering.insert(mma.ParallelOp(lowers, uppers, Region(body), op.grid_steps or None, order=op.order))


def _make_rings(stage: tile.StageOp, lowering: WarpLowering) -> None:
    """The ring of a stage, as deep as its loop's pipeline, or one slot; two that share this if it is exchanged.

    A product in flight reads one slot while the next is waited for, so that two at least are exchanged ones.
    """
    loop = stage.parent_op()
    depth = loop.pipeline.value.data if isinstance(loop, tile.ForOp) and loop.pipeline is not None else 1
    exchanged = is_exchanged(stage, lowering)
    if exchanged:
        read = max(min(depth, 2), depth // 2)
        type_ = ring_type(stage, max(1, depth - read), BARRIERS, lowering)
        lowering.copied[stage] = lowering.insert(mma.RingOp(type_)).result
        depth = read
    type_ = ring_type(stage, depth, BARRIERS, lowering, exchanged)
    lowering.rings[stage] = lowering.insert(mma.RingOp(type_)).result


# The roles that stage


def _shared(
    op: tile.ParallelOp, stages: Sequence[tile.StageOp], lowering: WarpLowering
) -> dict[tile.StageOp, list[int]]:
    """Per stage the dimensions along which the blocks of a cluster need the same, and so copy for each other."""
    wide = [dim for dim, blocks in enumerate(op.order.cluster) if blocks > 1]
    found = {stage: [dim for dim in wide if dim not in dependences(stage)] for stage in stages}
    for dim in wide:
        if not any(dim in dims for dims in found.values()):
            raise lowering.error(
                f"its grid has clusters of {op.order.cluster[dim]} blocks along dimension {dim}, but nothing that is "
                "staged is the same for them: expects 1 there"
            )
    return found


def _needed(op: tile.ParallelOp, stages: Sequence[tile.StageOp], places: bool = True) -> set[Operation]:
    """The operations that say what is staged, unless ``places`` do not matter, and in which order: loops around the
    stages, and what all that needs."""
    needed: set[Operation] = set()
    pending: list[Operation] = [*stages]
    while pending:
        current = pending.pop()
        if current in needed or current is op:
            continue
        needed.add(current)
        operands = [current.lower_bound, current.upper_bound] if isinstance(current, tile.ForOp) else current.operands
        operands = () if isinstance(current, tile.StageOp) and not places else operands
        pending += [owner for value in operands if isinstance(owner := value.owner, Operation)]
        if (around := current.parent_op()) is not None and op.is_ancestor(around):
            pending.append(around)
    return {inner for inner in needed if op.is_ancestor(inner)}


Step = Callable[[Sequence[tile.StageOp], WarpLowering], None]
"""What a role does in each trip with stages that no loop stands between."""


def _copy(stages: Sequence[tile.StageOp], lowering: WarpLowering) -> None:
    for stage in stages:
        with lowering.about(stage):
            ring = lowering.copied.get(stage, lowering.rings[stage])
            lowering.insert(mma.CommitOp(copy_window(stage, ring, lowering, lowering.multicast[stage])))


def _exchange(stages: Sequence[tile.StageOp], lowering: WarpLowering) -> None:
    sources = lowering.insert(mma.WaitOp([lowering.copied[stage] for stage in stages])).slots
    targets: list[SSAValue] = []
    for stage, source in zip(stages, sources, strict=True):
        with lowering.about(stage):
            targets.append(lowering.insert(mma.AcquireOp(lowering.rings[stage])).slot)
            lowering.insert(mma.CopyTransposedOp(source, targets[-1]))
    lowering.insert(mma.CommitOp(*targets))
    lowering.insert(mma.ReleaseOp(*sources))


def _staging_block(block: Block, needed: set[Operation], step: Step, lowering: WarpLowering) -> None:
    stages: list[tile.StageOp] = []
    for op in block.ops:
        if op not in needed:
            continue
        match op:
            case tile.StageOp():
                stages.append(op)
            case tile.ForOp():
                if stages:
                    step(stages, lowering)
                    stages = []
                with lowering.about(op):
                    _staging_loop(op, needed, step, lowering)
            case tile.WindowOp():
                lowering.lower_op(op)
            case _ if op.regions or any(isinstance(result.type, tile.TileType) for result in op.results):
                raise lowering.error(
                    f"'{op.name}' decides what is staged; a role of its own copies whole blocks at places that indices "
                    "alone say: leave out 'role'"
                )
            case _:
                lowering.lower_op(op)
    if stages:
        step(stages, lowering)


def _staging_loop(op: tile.ForOp, needed: set[Operation], step: Step, lowering: WarpLowering) -> None:
    index = lowering.index
    blocks = _blocks(op, lowering)
    end = index.maximum(blocks.upper, index.add(blocks.lower, 1)) if _product(op, lowering) else blocks.upper
    places = any(use.operation in needed for use in op.body.block.args[1].uses)

    def body(start: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
        if places:
            blocks.enter(op, start, lowering)
        else:
            lowering.map_value(op.body.block.args[0], start)
        _staging_block(op.body.block, needed, step, lowering)
        return ()

    name = op.body.block.args[0].name_hint or "start"
    build_for(lowering, index.bounds(blocks.lower, end, blocks.step), [], body, name)


def _blocks(op: tile.ForOp, lowering: WarpLowering) -> Blocks:
    lower, upper = lowering.as_index(op.lower_bound), lowering.as_index(op.upper_bound)
    return Blocks(lower, upper, block_size(op, lower, upper, lowering))


# The computing role


def wait_for(stage: tile.StageOp, lowering: WarpLowering) -> SSAValue:
    """The next slot of a stage, released at the end of the body that is being built."""
    (slot,) = lowering.insert(mma.WaitOp([lowering.rings[stage]])).slots
    lowering.held[-1].append(slot)
    return as_staged(stage, slot, lowering)


def release_read(op: tile.ContractOp, lowering: WarpLowering) -> None:
    """Release the slots of this body that nothing but ``op`` reads, whose product has ended."""
    read: list[SSAValue] = []
    for old in dict.fromkeys((op.lhs, op.rhs)):
        if old.owner not in lowering.rings or not old.has_one_use():
            continue
        new = lowering.value(old)
        slot = new.owner.source if isinstance(new.owner, mma.ViewOp) else new
        if slot in lowering.held[-1]:
            lowering.held[-1].remove(slot)
            read.append(slot)
    if read:
        lowering.insert(mma.ReleaseOp(*read))


def release_held(lowering: WarpLowering) -> None:
    """Release the slots that the body being built has waited for."""
    if lowering.held and lowering.held[-1]:
        lowering.insert(mma.ReleaseOp(*lowering.held[-1]))
        lowering.held[-1].clear()


def _product(op: tile.ForOp, lowering: WarpLowering) -> tile.ContractOp | None:
    """The product of a loop that does nothing but multiply what it stages, by an instruction that reads scratch."""
    ops = list(op.body.block.ops)
    contracts = [inner for inner in ops if isinstance(inner, tile.ContractOp)]
    if op.role is None or len(contracts) != 1 or len(op.iter_args) != 1:
        return None
    (contract,) = contracts
    carried, stages = op.body.block.args[2], [inner for inner in ops if isinstance(inner, tile.StageOp)]
    alone = (
        Home.REGISTER not in lowering.rows[contract].rhs.homes
        and contract.accumulator is carried
        and carried.has_one_use()
        and op.yield_op.arguments[0] is contract.result
        and contract.result.has_one_use()
        and [contract.lhs.owner, contract.rhs.owner] == stages
        and all(is_copied(stage) for stage in stages)
    )
    others = (inner for inner in ops if not isinstance(inner, tile.StageOp | tile.ContractOp | tile.WindowOp))
    index_only = all(result.type == INDEX for inner in others for result in inner.results)
    return contract if alone and index_only else None


def lower_product_loop(op: tile.ForOp, lowering: WarpLowering) -> bool:
    """Build a loop that only multiplies, with one product in flight; False if ``op`` is none."""
    contract = _product(op, lowering) if lowering.has_roles else None
    if contract is None:
        return False
    stages = [stage for stage in (contract.lhs.owner, contract.rhs.owner) if isinstance(stage, tile.StageOp)]
    rings = [lowering.rings[stage] for stage in stages]
    row = lowering.rows[contract]

    def start(accumulator: SSAValue) -> tuple[SSAValue, Sequence[SSAValue]]:
        """Wait for the next slots and start their product."""
        with lowering.about(contract):
            slots = list(lowering.insert(mma.WaitOp(rings)).slots)
            lhs, rhs = (as_staged(stage, slot, lowering) for stage, slot in zip(stages, slots, strict=True))
            return lowering.insert(mma.MmaAsyncOp(lhs, rhs, accumulator, row.name)).result, slots

    initial = lowering.conform(lowering.value(op.iter_args[0]), lowering.fragment_type(op.results[0]))
    pending, slots = start(initial)

    def trip(_: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        before, *held = carried
        started, taken = start(before)
        one_left = lowering.insert(mma.AwaitOp(started, 1, stays_pending=True)).result
        lowering.insert(mma.ReleaseOp(*held))
        return [one_left, *taken]

    count: Index = _blocks(op, lowering).count(lowering)
    bounds = lowering.index.bounds(1, lowering.index.maximum(count, 1), 1)
    last, *slots = build_for(lowering, bounds, [pending, *slots], trip, "trip")
    result = lowering.insert(mma.AwaitOp(last)).result
    lowering.insert(mma.ReleaseOp(*slots))
    lowering.replace(op, result)
    return True
