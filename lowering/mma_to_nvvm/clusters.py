"""Clusters: where a block stands in its own, who copies which part for whom, and who is told that a slot is free.

The blocks of ``cluster [2, 1]`` are numbered along the last dimension first. Of a copy ``multicast [0]`` each block of
the group along dimension 0 copies its part of the slot, into the slots of all of them. A slot may be overwritten when
it is free in every block that is copied to, so those that read it arrive at the barriers of all that copy to them::

    nvvm.cp.async.bulk.tensor... multicast_mask = %group     each lane of a warp that reads, below the number of peers:
    one arrival at each block's full barrier                  nvvm.mapa %free, %peer; nvvm.mbarrier.arrive

A cluster meets before the first copy, when all barriers are ready, and at the end: a block that were gone could not be
told anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from xdsl.dialects import arith, llvm
from xdsl.dialects.builtin import IntegerType, i32
from xdsl.ir import SSAValue

from crosstile.dialects import mma
from crosstile.dialects.nvvm.clusters import (
    SHARED_CLUSTER,
    ClusterArriveOp,
    ClusterArriveRelaxedOp,
    ClusterRankOp,
    ClusterWaitOp,
    MapaOp,
    MbarrierArriveRemoteOp,
)
from crosstile.ir.index_math import Index
from crosstile.lowering.linear_index import Linear, Term
from crosstile.lowering.loops import run_if
from crosstile.lowering.mma_to_nvvm.fragments import LANES
from crosstile.lowering.mma_to_nvvm.kernel_state import SHARED_ALIGNMENT, SLOT_BARRIERS
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering

Shift = tuple[int, ...]
"""How far another block of the cluster is, per dimension of the grid, going round."""


@dataclass(frozen=True)
class Share:
    """A block's part of a copy that several make for each other: ``part`` of ``parts``, for the blocks of ``mask``."""

    parts: int
    part: Index
    mask: SSAValue | None


def position(lowering: NvvmLowering, dim: int) -> Index:
    """Where this block stands in its cluster along a dimension of the grid."""
    cluster = lowering.kernel.cluster
    if not cluster or cluster[dim] == 1:
        return 0
    index = lowering.index
    rank = index.once("cluster rank", lambda: lowering.to_index(index.build(ClusterRankOp()).result))
    above = index.floor_div(rank, _weight(cluster, dim))
    digit = index.value(
        above if _weight(cluster, dim) * cluster[dim] == prod(cluster) else index.remainder(above, cluster[dim])
    )
    lowering.linear.below[digit] = cluster[dim]
    return digit


def _weight(cluster: Sequence[int], dim: int) -> int:
    return prod(cluster[dim + 1 :])


def share_of(op: mma.CopyAsyncOp, lowering: NvvmLowering) -> Share:
    """Which part of a copy is this block's, and the blocks that get it."""
    cluster, dims, index = lowering.kernel.cluster, op.shared_dims, lowering.index
    if not dims:
        return Share(1, 0, None)
    part: Index = 0
    first: Index = 0
    for dim in range(len(cluster)):
        if dim in dims:
            part = index.add(index.mul(part, cluster[dim]), position(lowering, dim))
        else:
            first = index.add(first, index.mul(position(lowering, dim), _weight(cluster, dim)))
    group = sum(
        1 << sum(place * _weight(cluster, dim) for dim, place in zip(dims, places, strict=True))
        for places in product(*(range(cluster[dim]) for dim in dims))
    )
    mask = lowering.integer(group)
    if first != 0:
        mask = index.build(arith.ShLIOp(mask, lowering.to_i32(first))).result
    return Share(prod(cluster[dim] for dim in dims), part, index.build(arith.TruncIOp(mask, IntegerType(16))).result)


def sources(copies: Sequence[mma.CopyAsyncOp], lowering: NvvmLowering) -> list[Shift]:
    """The blocks that copy into the slots which ``copies`` fill, this one first."""
    cluster = lowering.kernel.cluster
    found: dict[Shift, None] = {(0,) * len(cluster): None}
    for copy in copies:
        dims = copy.shared_dims
        found.update(dict.fromkeys(product(*(range(size if dim in dims else 1) for dim, size in enumerate(cluster)))))
    return list(found)


def arrive_at_sources(
    lowering: NvvmLowering, barriers: int, shifts: Sequence[Shift], slot: SSAValue, offset: int
) -> None:
    """A lane for each block that copies into ``slot`` arrives at that block's barrier, ``offset`` in its pair."""
    index = lowering.index
    lane = index.value(index.remainder(lowering.thread(), LANES))

    def memory_of_peer() -> SSAValue:
        own = lowering.shared_pointer(lowering.shared_place(0))
        mapped = index.build(MapaOp(own, lowering.to_i32(_peer(lowering, shifts, lane)))).res
        return lowering.to_index(index.build(llvm.PtrToIntOp(mapped, i32)).output)

    memory = index.once(("memory of a peer", tuple(shifts), lane), memory_of_peer)
    number = lowering.linear.of_new(lowering.value(slot)).scale(SLOT_BARRIERS)
    word = lowering.to_i32(lowering.linear.sum_of_terms(Linear(0, (Term(memory, 1, SHARED_ALIGNMENT),)) + number))
    pointer = index.build(llvm.IntToPtrOp.create(operands=[word], result_types=[SHARED_CLUSTER])).output
    pointer = lowering.offset(pointer, barriers + offset)

    def arrive() -> None:
        lowering.insert(MbarrierArriveRemoteOp(pointer))

    run_if(lowering, lowering.compare("slt", lane, len(shifts)), arrive)


def _peer(lowering: NvvmLowering, shifts: Sequence[Shift], lane: SSAValue) -> Index:
    """The number in the cluster of the block at which a lane arrives; lanes beyond have the last one."""
    cluster, index = lowering.kernel.cluster, lowering.index
    if len(shifts) == prod(cluster):
        return index.minimum(lane, len(shifts) - 1)
    ranks: list[Index] = []
    for shift in shifts:
        rank: Index = 0
        for dim, distance in enumerate(shift):
            place = position(lowering, dim)
            if distance:
                place = index.remainder(index.add(place, distance), cluster[dim])
            rank = index.add(index.mul(rank, cluster[dim]), place)
        ranks.append(rank)
    found = index.value(ranks[-1])
    for number, rank in reversed(list(enumerate(ranks[:-1]))):
        found = lowering.select(lowering.compare("eq", lane, number), index.value(rank), found)
    return found


def meet_at_start(lowering: NvvmLowering) -> None:
    """All blocks of the cluster see the barriers of all, which a fence of those who made them has shown."""
    lowering.insert(ClusterArriveRelaxedOp())
    lowering.insert(ClusterWaitOp())


def meet_at_end(lowering: NvvmLowering) -> None:
    """No block ends before all have done with it."""
    lowering.insert(ClusterArriveOp())
    lowering.insert(ClusterWaitOp())
