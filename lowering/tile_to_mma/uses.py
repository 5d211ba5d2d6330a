"""Who reads which part of a tile or a buffer: what lets a contraction read without masks.

A contraction's rows beyond the extent of its left window are products of padding. If all that becomes of them is to be
not stored, any numbers will do, and the last valid row may be read in their place. The same holds for columns.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import scf
from xdsl.ir import Block, Operation, SSAValue

from crosstile.dialects import tile
from crosstile.lowering.divisibility import constant_value

Reader = tuple[tile.ContractOp, bool, tile.WindowOp | None]
"""A contraction that reads a buffer, whether as its right factor, and the window between them."""


def same_index(lhs: SSAValue | None, rhs: SSAValue | None) -> bool:
    """Whether two extents are known to be equal; None is the whole capacity."""
    if lhs is rhs:
        return True
    if lhs is None or rhs is None:
        return False
    known = constant_value(lhs)
    return known is not None and known == constant_value(rhs)


def is_unused_beyond(value: SSAValue, dim: int, extent: SSAValue) -> bool:
    """Whether nothing depends on the elements of the tile ``value`` beyond ``extent`` in dimension ``dim``."""
    pending, seen = [(value, dim)], set[tuple[SSAValue, int]]()
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        for use in current[0].uses:
            followers = _followers(use.operation, current[0], use.index, current[1], extent)
            if followers is None:
                return False
            pending += followers
    return True


def _followers(
    user: Operation, value: SSAValue, operand: int, dim: int, extent: SSAValue
) -> list[tuple[SSAValue, int]] | None:
    """The values whose elements beyond the extent depend on those of ``value``; None if that is not known."""
    match user:
        case tile.StoreOp():
            window = user.window.owner
            stops = isinstance(window, tile.WindowOp) and same_index(window.extents_by_dim[dim], extent)
            return [] if stops else None
        case tile.MapOp():
            return [(user.result, dim)]
        case tile.MaskOp():
            return [] if same_index(user.extents_by_dim[dim], extent) else [(user.result, dim)]
        case tile.ReduceOp() if dim not in user.reduced_dims or user.into is value:
            return [(user.result, dim)]
        case tile.ReduceOp():
            limit = user.extents_by_dim[user.reduced_dims.index(dim)]
            return [] if same_index(limit, extent) else None
        case tile.ContractOp():
            return _followers_of_contract(user, operand, dim, extent)
        case tile.ForOp():
            return [(user.body.block.args[operand], dim), (user.results[operand - 2], dim)]
        case tile.YieldOp() | scf.YieldOp():
            return _carried(user.parent_op(), operand, dim, extent)
        case _:
            return None


def _is_defined_in(value: SSAValue, op: Operation) -> bool:
    block = value.owner if isinstance(value.owner, Block) else value.owner.parent
    while block is not None:
        around = block.parent_op()
        if around is op:
            return True
        block = None if around is None else around.parent
    return False


def _followers_of_contract(
    user: tile.ContractOp, operand: int, dim: int, extent: SSAValue
) -> list[tuple[SSAValue, int]] | None:
    """Rows of the left factor become rows of the result, columns of the right one columns; k goes to its extent."""
    if (operand, dim) in ((0, 1), (1, 0)):
        return [] if same_index(user.extent, extent) else None
    return [(user.result, dim)]


def _carried(parent: Operation | None, number: int, dim: int, extent: SSAValue) -> list[tuple[SSAValue, int]] | None:
    match parent:
        case tile.ForOp() if _is_defined_in(extent, parent):
            return None  # the next trip has another extent
        case tile.ForOp():
            return [(parent.body.block.args[2 + number], dim), (parent.results[number], dim)]
        case scf.IfOp():
            return [(parent.results[number], dim)]
        case _:
            return None


def extents_of(op: Operation) -> Sequence[SSAValue]:
    """The extents that ``op`` is given."""
    match op:
        case tile.WindowOp() | tile.ReduceOp() | tile.MaskOp():
            return op.extents
        case tile.ContractOp() if op.extent is not None:
            return (op.extent,)
        case _:
            return ()


def is_at_least_one(extent: SSAValue) -> bool:
    """Whether an extent is known not to be 0: a positive constant, or the extent of a loop's block."""
    if (known := constant_value(extent)) is not None:
        return known > 0
    block = extent.owner
    if not isinstance(block, Block):
        return False
    position = block.args.index(extent)
    match block.parent_op():
        case tile.ForOp():
            return position == 1
        case tile.ParallelOp() as parallel:
            return parallel.grain is None and position >= len(parallel.lower_bounds)
        case _:
            return False


def contracts_of(buffer: SSAValue) -> list[Reader] | None:
    """The contractions that read ``buffer``; None if anything but these reads it. Stores to it read nothing."""
    found: list[Reader] = []
    for use in buffer.uses:
        match use.operation:
            case tile.ContractOp() as contract:
                found.append((contract, contract.rhs is buffer, None))
            case tile.WindowOp() as window:
                for inner in window.result.uses:
                    contract = inner.operation
                    if isinstance(contract, tile.StoreOp):
                        continue
                    if not isinstance(contract, tile.ContractOp):
                        return None
                    found.append((contract, contract.rhs is window.result, window))
            case _:
                return None
    return found
