"""``peel-loops``: the trips of a loop whose copies need neither masks nor branches become a loop of their own.

Level: mma. In: a loop that copies chunk by chunk, under conditions on its index that hold in all trips but the last
ones. Out: a loop over the trips in which all of them hold, without them, and one over the others as they were::

    scf.for %t = 0 to %n {                        %m = the first trip that is not so
      %k = %t * 32                                scf.for %t = 0 to %m {
      %kc = min(32, %K - %k)             =>         copy ... extent [_, 32]
      if %t < %last                               }
        copy ... extent [_, %kc]                  scf.for %t = %m to %n { ... }
    }

A condition is a comparison ``a * %t + c < X``, or the choice of the constant in ``min(C, X - (a * %t + c))``, where X
does not change in the loop; ``a * %t + c > X`` is one as well, which is false in the first trips. (LLVM calls this
inductive range check elimination.) Short loops are left alone.

A loop that multiplies what another role copies is peeled if it masks its products, as attention masks its last keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import arith, scf
from xdsl.dialects.builtin import IndexType, IntegerAttr, ModuleOp, i1
from xdsl.ir import Block, Operation, SSAValue
from xdsl.passes import ModulePass

from crosstile.dialects import mma
from crosstile.dialects.mma.intrinsics import find_intrinsic
from crosstile.dialects.mma.types import GROUPS, type_of
from crosstile.ir.index_math import Index, IndexBuilder, constant_index
from crosstile.passes.cloning import copies_are_asynchronous, erase_dead, outside

FEWEST_TRIPS = 8
"""A loop that is known to have fewer trips is not worth a second one."""
SIGNED_LESS, SIGNED_GREATER = 2, 4
"""``slt`` and ``sgt`` among the predicates of ``arith.cmpi``."""


@dataclass(frozen=True)
class Condition:
    """In trips with ``scale * index + offset < limit`` the result of ``op`` is ``value``."""

    op: Operation
    scale: int
    offset: int
    limit: SSAValue
    value: int


@dataclass(frozen=True)
class PeelLoopsPass(ModulePass):
    """Part the trips of loops that need no masks from the last ones."""

    name = "peel-loops"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Peel the loops of ``op`` in place."""
        for loop in [inner for inner in op.walk() if isinstance(inner, scf.ForOp)]:
            if (
                (is_bound_by_copies(loop) or masks_products(loop))
                and _is_long(loop)
                and (conditions := conditions_of(loop))
            ):
                _peel(loop, conditions)


def is_bound_by_copies(loop: scf.ForOp) -> bool:
    """Whether the loop itself, not one in it, starts copies that every thread has a part in, for a matrix unit.

    With plain multiplications, of which there are hundreds in a trip, masks make no difference.
    """
    copies = any(
        isinstance(op, mma.CopyAsyncOp)
        and isinstance(op.slot.owner, mma.AcquireOp)
        and type_of(op.slot.owner.ring, mma.RingType).protocol.data == GROUPS
        and _innermost_loop(op) is loop
        and copies_are_asynchronous(op)
        for op in loop.walk()
    )
    rows = [find_intrinsic(op.intrinsic.data) for op in loop.walk() if isinstance(op, mma.MmaOp)]
    return copies and any(row.m * row.n * row.k > 1 for row in rows)


def masks_products(loop: scf.ForOp) -> bool:
    """Whether the loop itself starts products, and masks elements."""
    started = any(isinstance(op, mma.MmaAsyncOp) and _innermost_loop(op) is loop for op in loop.walk())
    return started and any(isinstance(op, mma.MaskOp) for op in loop.walk())


def _innermost_loop(op: Operation) -> Operation | None:
    around = op.parent_op()
    while around is not None and not isinstance(around, scf.ForOp):
        around = around.parent_op()
    return around


def _is_long(loop: scf.ForOp) -> bool:
    lower, upper, step = (constant_index(bound) for bound in (loop.lb, loop.ub, loop.step))
    if lower is None or lower < 0 or step is None or step < 1:
        return False
    return upper is None or (upper - lower) >= FEWEST_TRIPS * step


# Conditions


def conditions_of(loop: scf.ForOp) -> list[Condition]:
    """The conditions in the loop's body, branches included, that hold up to some trip."""
    found = (_condition(op, loop) for op in loop.walk() if op is not loop)
    return [condition for condition in found if condition is not None]


def _condition(op: Operation, loop: scf.ForOp) -> Condition | None:
    match op:
        case arith.CmpiOp() if op.predicate.value.data == SIGNED_LESS and outside(op.rhs, loop):
            linear = _linear(op.lhs, loop)
            return None if linear is None or linear[0] < 1 else Condition(op, *linear, op.rhs, 1)
        case arith.CmpiOp() if op.predicate.value.data == SIGNED_GREATER and outside(op.rhs, loop):
            linear = _linear(op.lhs, loop)
            if linear is None or linear[0] < 1:
                return None
            return Condition(op, linear[0], linear[1] - 1, op.rhs, 0)
        case arith.MinSIOp():
            return _minimum(op, op.lhs, op.rhs, loop) or _minimum(op, op.rhs, op.lhs, loop)
        case _:
            return None


def _minimum(op: Operation, constant: SSAValue, rest: SSAValue, loop: scf.ForOp) -> Condition | None:
    """``min(C, X - (a * index + c))`` is C if ``a * index + c + C - 1 < X``."""
    most, owner = constant_index(constant), rest.owner
    if most is None or not isinstance(owner, arith.SubiOp) or not outside(owner.lhs, loop):
        return None
    linear = _linear(owner.rhs, loop)
    return None if linear is None or linear[0] < 1 else Condition(op, linear[0], linear[1] + most - 1, owner.lhs, most)


def _linear(value: SSAValue, loop: scf.ForOp) -> tuple[int, int] | None:
    """``value`` as a multiple of the loop's index and a constant."""
    if value is loop.body.block.args[0]:
        return 1, 0
    if (known := constant_index(value)) is not None:
        return 0, known
    op = value.owner
    if not isinstance(op, arith.AddiOp | arith.SubiOp | arith.MuliOp):
        return None
    lhs, rhs = _linear(op.lhs, loop), _linear(op.rhs, loop)
    if lhs is None or rhs is None:
        return None
    match op:
        case arith.AddiOp():
            return lhs[0] + rhs[0], lhs[1] + rhs[1]
        case arith.SubiOp():
            return lhs[0] - rhs[0], lhs[1] - rhs[1]
        case _ if lhs[0] == 0 or rhs[0] == 0:
            return lhs[0] * rhs[1] + rhs[0] * lhs[1], lhs[1] * rhs[1]
        case _:
            return None


# Peeling


def _peel(loop: scf.ForOp, conditions: Sequence[Condition]) -> None:
    block = loop.parent
    assert block is not None

    def insert(op: Operation) -> None:
        op.location = loop.location
        block.insert_op_before(op, loop)

    index = IndexBuilder(insert)
    begin = _first_other(loop, conditions, index)
    steady = loop.clone()
    places = dict(zip(loop.walk(), steady.walk(), strict=True))
    steady.operands = [loop.lb, begin, loop.step, *loop.iter_args]
    insert(steady)
    for condition in conditions:
        _decide(places[condition.op], condition.value)
    _drop_branches(steady.body.block)
    erase_dead(steady.body.block)
    loop.operands = [begin, loop.ub, loop.step, *steady.results]


def _first_other(loop: scf.ForOp, conditions: Sequence[Condition], index: IndexBuilder) -> SSAValue:
    """The index of the first trip in which not all conditions are known to hold; between the loop's bounds."""
    lower, step = constant_index(loop.lb), constant_index(loop.step)
    assert lower is not None and step is not None
    trips: Index | None = None
    for one in dict.fromkeys((one.scale * step, one.offset + one.scale * lower, one.limit) for one in conditions):
        # scale * trip + offset < limit if trip < (limit - offset + scale - 1) div scale
        scale, offset, limit = one
        room = index.maximum(index.add(limit, scale - 1 - offset), 0)
        below = index.floor_div(room, scale)
        trips = below if trips is None else index.minimum(trips, below)
    assert trips is not None
    length = index.maximum(index.sub(loop.ub, lower), 0)
    trips = index.minimum(trips, index.floor_div(index.add(length, step - 1), step))
    return index.value(index.add(index.mul(trips, step), lower))


def _decide(op: Operation, value: int) -> None:
    """Replace the result of ``op`` by a constant."""
    (result,) = op.results
    type_ = i1 if isinstance(op, arith.CmpiOp) else IndexType()
    constant = arith.ConstantOp(IntegerAttr(value, type_))
    constant.location = op.location
    assert op.parent is not None
    op.parent.insert_op_before(constant, op)
    constant.result.name_hint = None
    result.replace_all_uses_with(constant.result)
    op.detach()
    op.erase()


def _drop_branches(block: Block) -> None:
    """Put the contents of branches that are always taken, or never, in the place of their conditions."""
    for op in list(block.ops):
        for region in op.regions:
            for inner in region.blocks:
                _drop_branches(inner)
        taken = constant_index(op.cond) if isinstance(op, scf.IfOp) else None
        if isinstance(op, scf.IfOp) and taken is not None:
            region = op.true_region if taken else op.false_region
            if not region.blocks:
                op.detach()
                op.erase()
                continue
            *inside, terminator = region.block.ops
            for one in inside:
                one.detach()
                block.insert_op_before(one, op)
            for result, value in zip(op.results, terminator.operands, strict=True):
                result.replace_all_uses_with(value)
            op.detach()
            op.erase()
