"""``overlap-products``: while a product runs, the next trip's factor of it is computed.

Level: mma. In: a loop that starts a product, waits for it, computes the left factor of a second one from it, and waits
for that as well, as attention does with scores and weights. Out: the same products in the same order, but the second
one of a trip runs while the next trip computes::

    scf.for %t {                               if there is a trip at all:
      wait for keys                              keys of trip 0, S = scores, P = weights of S, values of trip 0
      S = scores, awaited                        scf.for %t from trip 1 iter_args(P, O rescaled, values) {
      release keys                      =>         wait for keys       S = scores     R = O + P x values
      P = weights of S, rescale O                  await S alone       release keys   P = weights of S
      wait for values                              wait for values     await R        release the values before
      O = O + P x values, awaited                  O = R rescaled
      release values                             }
    }                                            O = O + P x values, awaited, released

(Shah et al., arXiv 2407.08608, section 3.2.) Every number is computed from the same ones in the same order, so results
are the same to the bit. The two products start one behind the other, when all that they accumulate into is ready: ptxas
lets products wait for each other if other instructions write an accumulator in between. The wait for the next values
stands in front of the second await on purpose. It is a branch, and ptxas moves no wait for products over one; within a
block it puts that wait first, and what was to overlap behind it.

The loop is left alone where it does anything else that has effects, where the second product reads rings of one slot,
and where what is alive at a time would not fit a thread's registers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import arith, memref, scf
from xdsl.dialects.builtin import AnyFloat, IntegerType, ModuleOp
from xdsl.ir import Block, BlockArgument, Operation, Region, SSAValue
from xdsl.passes import ModulePass

from crosstile.dialects import mma
from crosstile.dialects.arith import CmpiOp
from crosstile.dialects.mma.types import type_of
from crosstile.ir.index_math import constant_index
from crosstile.passes.cloning import Copier, erase_dead, is_pure, outside

MOST_WORDS = 208
"""Registers that the accumulators and two left factors may take of a thread's 255; rows and addresses take the rest."""
COMPUTES = (
    mma.SplatOp,
    mma.IotaOp,
    mma.MapOp,
    mma.MaskOp,
    mma.ReduceOp,
    mma.LoadOp,
    mma.RelayoutOp,
    mma.TransposeOp,
    mma.WaitOp,
    memref.LoadOp,
    scf.YieldOp,
)
"""What may stand between the products: it waits and reads, and writes nothing that others see."""


@dataclass
class Product:
    """A product of the loop, its await, and the waits and releases of the slots that it alone reads."""

    start: mma.MmaAsyncOp
    finish: mma.AwaitOp
    waits: list[mma.WaitOp]
    releases: list[mma.ReleaseOp]

    @property
    def ops(self) -> set[Operation]:
        """All of them but the waits."""
        return {self.start, self.finish, *self.releases}


@dataclass
class Overlap:
    """A loop and the parts of its body, each in its order; pure operations are in none.

    ``before`` is what the first product is computed from; ``factor`` waits for it, and computes from it and from what
    earlier trips hand on early; ``late`` needs the second product of the trip before (rescaled sums); ``after`` is the
    second product and what follows from it. ``crossing`` are the values that it takes from the rest of its trip.
    """

    loop: scf.ForOp
    first: Product
    second: Product
    before: list[Operation]
    factor: list[Operation]
    late: list[Operation]
    after: list[Operation]
    crossing: list[SSAValue]
    late_arguments: set[SSAValue]

    @property
    def yielded(self) -> list[tuple[SSAValue, SSAValue]]:
        """What is carried: the argument of the body, and what a trip yields for the next."""
        return list(zip(self.loop.body.block.args[1:], _terminator(self.loop).operands, strict=True))


@dataclass(frozen=True)
class OverlapProductsPass(ModulePass):
    """Let the second product of a trip run while the next trip's factor of it is computed."""

    name = "overlap-products"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rewrite the loops of ``op`` in place."""
        for loop in [inner for inner in op.walk() if isinstance(inner, scf.ForOp)]:
            if loop.parent is not None and (overlap := overlap_of(loop)) is not None:
                _rewrite(overlap)


# What a loop does


def overlap_of(loop: scf.ForOp) -> Overlap | None:
    """The parts of a loop whose products can overlap with what is computed; None for any other."""
    ops = [op for op in list(loop.body.block.ops)[:-1] if not is_pure(op)]
    products = [_product(op, ops) for op in ops if isinstance(op, mma.MmaAsyncOp)]
    if len(products) != 2 or _has_one_trip(loop):
        return None
    first, second = products
    if first is None or second is None:
        return None
    known = {*first.ops, *second.ops}
    if not all(op in known or _only_computes(op) for op in ops):
        return None
    found = _parts(loop, ops, first, second)
    return found if found is not None and _is_legal(found) else None


def _has_one_trip(loop: scf.ForOp) -> bool:
    lower, upper, step = (constant_index(bound) for bound in (loop.lb, loop.ub, loop.step))
    return lower is not None and upper is not None and step is not None and upper - lower <= step


def _product(start: mma.MmaAsyncOp, ops: Sequence[Operation]) -> Product | None:
    """A product that is awaited by itself, and whose slots nothing else reads; None for any other."""
    uses = list(start.result.uses)
    finish = uses[0].operation if len(uses) == 1 else None
    if not isinstance(finish, mma.AwaitOp) or finish.count or not isinstance(finish.result.type, mma.FragmentType):
        return None
    slots = {slot for factor in (start.lhs, start.rhs) if (slot := _slot(factor)) is not None and slot.owner in ops}
    waits = [op for op in ops if isinstance(op, mma.WaitOp) and slots & {*op.slots}]
    releases = [op for op in ops if isinstance(op, mma.ReleaseOp) and slots & {*op.slots}]
    if any({slot for op in group for slot in op.slots} != slots for group in (waits, releases)):
        return None
    alone = all(_users(slot) <= {start, *releases} for slot in slots)
    return Product(start, finish, waits, releases) if alone else None


def _slot(value: SSAValue) -> SSAValue | None:
    """The slot that ``value`` is, or is a view of."""
    while isinstance(value.owner, mma.ViewOp):
        value = value.owner.source
    return value if isinstance(value.type, mma.SlotType) else None


def _users(value: SSAValue) -> set[Operation]:
    """What uses a slot, through views as well."""
    found: set[Operation] = set()
    for use in value.uses:
        found |= _users(use.operation.result) if isinstance(use.operation, mma.ViewOp) else {use.operation}
    return found


def _only_computes(op: Operation) -> bool:
    if isinstance(op, scf.IfOp):
        return all(_only_computes(inner) for region in op.regions for block in region.blocks for inner in block.ops)
    return is_pure(op) or isinstance(op, COMPUTES)


def _operands(op: Operation) -> Iterable[SSAValue]:
    """What ``op`` and all in its regions take from outside of it."""
    return (operand for inner in op.walk() for operand in inner.operands if outside(operand, op))


def _following(loop: scf.ForOp, values: Iterable[SSAValue]) -> set[Operation]:
    """The operations of the body that compute from ``values``."""
    reached, found = {*values}, set[Operation]()
    for op in list(loop.body.block.ops)[:-1]:
        if any(operand in reached for operand in _operands(op)):
            reached.update(op.results)
            found.add(op)
    return found


def _leading(loop: scf.ForOp, values: Iterable[SSAValue]) -> tuple[set[Operation], set[SSAValue]]:
    """The operations of the body that ``values`` are computed from, and the arguments of the body."""
    ops, arguments, pending = set[Operation](), set[SSAValue](), list(values)
    while pending:
        value = pending.pop()
        if outside(value, loop):
            continue
        if isinstance(value, BlockArgument):
            arguments.add(value)
        elif isinstance(value.owner, Operation) and value.owner not in ops:
            ops.add(value.owner)
            pending += _operands(value.owner)
    return ops, arguments


def _parts(loop: scf.ForOp, ops: Sequence[Operation], first: Product, second: Product) -> Overlap | None:
    """The body, parted; None if the first product, or what the second one multiplies, needs the second one."""
    after = second.ops | _following(loop, [second.start.result])
    carried = list(zip(loop.body.block.args[1:], _terminator(loop).operands, strict=True))
    late_arguments, late = set[SSAValue](), after
    while more := {argument for argument, value in carried if value.owner in late} - late_arguments:
        late_arguments |= more
        late = after | _following(loop, late_arguments)
    before, begun_from = _leading(loop, first.start.operands)
    factor, factor_from = _leading(loop, [second.start.lhs])
    if (before | factor) & late or (begun_from | factor_from) & late_arguments or first.finish not in factor:
        return None
    crossing = _crossing(loop, [op for op in ops if op in after], after)
    if loop.body.block.args[0] in crossing:
        return None
    return Overlap(
        loop,
        first,
        second,
        [op for op in ops if op in before],
        [op for op in ops if op not in before and op not in late and op not in (first.start, *second.waits)],
        [op for op in ops if op in late - after],
        [op for op in ops if op in after],
        crossing,
        late_arguments,
    )


def _crossing(loop: scf.ForOp, ops: Sequence[Operation], after: set[Operation]) -> list[SSAValue]:
    """What ``ops`` take from the rest of the body; what is pure is computed again."""
    found: dict[SSAValue, None] = {}
    pending = [operand for op in ops for operand in _operands(op)]
    while pending:
        value = pending.pop(0)
        if outside(value, loop) or value.owner in after:
            continue
        if isinstance(value.owner, Operation) and is_pure(value.owner):
            pending += value.owner.operands
        else:
            found[value] = None
    return list(found)


def _is_legal(overlap: Overlap) -> bool:
    """Whether two slots of the second product's rings are there at a time, and all that is alive fits."""
    first, second = overlap.first, overlap.second
    rings = [ring for wait in second.waits for ring in wait.rings]
    if not rings or any(type_of(ring, mma.RingType).depth.data < 2 for ring in rings):
        return False
    factor = second.start.lhs.type
    return (
        isinstance(factor, mma.FragmentType)
        and _words([first.start.result.type.fragment, second.start.result.type.fragment, factor, factor]) <= MOST_WORDS
    )


def _words(types: Sequence[mma.FragmentType]) -> int:
    """The registers of a thread that fragments take."""
    bits = 0
    for type_ in types:
        element = type_.element_type
        width = element.bitwidth if isinstance(element, IntegerType | AnyFloat) else 32
        bits += type_.layout.data.size("register") * width
    return bits // 32


def _terminator(loop: scf.ForOp) -> Operation:
    terminator = loop.body.block.last_op
    assert terminator is not None
    return terminator


# The rewritten loop


def _rewrite(overlap: Overlap) -> None:
    """Replace the loop by its first trip's beginning, a loop from the second trip on and the last trip's end."""
    loop = overlap.loop
    assert loop.parent is not None
    some, block = CmpiOp(loop.lb, loop.ub, "slt"), Block()
    block.add_op(scf.YieldOp(*_overlapped(overlap, block)))
    otherwise = Block([scf.YieldOp(*loop.iter_args)])
    branch = scf.IfOp(some, [result.type for result in loop.results], Region(block), Region(otherwise))
    for op in (some, branch):
        op.location = loop.location
    loop.parent.insert_ops_before([some, branch], loop)
    for old, new in zip(loop.results, branch.results, strict=True):
        old.replace_all_uses_with(new)
        new.name_hint = old.name_hint
    loop.detach()
    loop.erase()
    erase_dead(block)


def _overlapped(overlap: Overlap, block: Block) -> list[SSAValue]:
    """The loop's results, if it has a trip."""
    loop, lower, step = overlap.loop, constant_index(overlap.loop.lb), constant_index(overlap.loop.step)
    arguments = loop.body.block.args
    trip = Copier(loop, block, dict(zip(arguments, (loop.lb, *loop.iter_args), strict=True)))
    _copy(trip, [*overlap.before, overlap.first.start, *overlap.factor, *overlap.second.waits, *overlap.late])
    handed = _handed_on(overlap, trip)
    rotated = Block(arg_types=[arguments[0].type, *(value.type for value in handed)])
    rotated.args[0].name_hint = arguments[0].name_hint
    _trip(overlap, rotated)
    if lower is None or step is None:
        begin = trip.add(arith.AddiOp(loop.lb, loop.step)).result
    else:
        begin = trip.constant(lower + step)
    new = trip.add(scf.ForOp(begin, loop.ub, loop.step, handed, Region(rotated)))
    early, last = _taken(overlap, block, new.results)
    _copy(last, overlap.after)
    return [early[argument] if argument in early else last.value(value) for argument, value in overlap.yielded]


def _trip(overlap: Overlap, block: Block) -> None:
    """The body of the rewritten loop: the second product of the trip before, and all else of this one."""
    loop, first = overlap.loop, overlap.first
    early, previous = _taken(overlap, block, block.args[1:])
    trip = Copier(loop, block, {loop.body.block.args[0]: block.args[0], **early})
    _copy(trip, [*overlap.before, first.start])
    _copy(previous, overlap.after[:1])
    for op in overlap.factor:
        if op is first.finish:
            awaited = trip.add(mma.AwaitOp(trip.value(first.start.result), 1))
            trip.values[first.finish.result] = awaited.result
        else:
            trip.copy(op)
    _copy(trip, overlap.second.waits)
    _copy(previous, overlap.after[1:])
    trip.values.update(
        {argument: previous.value(value) for argument, value in overlap.yielded if argument not in early}
    )
    _copy(trip, overlap.late)
    block.add_op(scf.YieldOp(*_handed_on(overlap, trip)))
    erase_dead(block)


def _copy(trip: Copier, ops: Sequence[Operation]) -> None:
    for op in ops:
        trip.copy(op)


def _handed_on(overlap: Overlap, trip: Copier) -> list[SSAValue]:
    """What a trip hands on before its second product: what it yields early, and what that product takes."""
    early = [trip.value(value) for argument, value in overlap.yielded if argument not in overlap.late_arguments]
    return [*early, *trip.list(overlap.crossing)]


def _taken(overlap: Overlap, block: Block, handed: Sequence[SSAValue]) -> tuple[dict[SSAValue, SSAValue], Copier]:
    """What a trip has handed on: its early results by their arguments, and a copier of its second product."""
    early = [argument for argument, _ in overlap.yielded if argument not in overlap.late_arguments]
    crossing = dict(zip(overlap.crossing, handed[len(early) :], strict=True))
    return dict(zip(early, handed, strict=False)), Copier(overlap.loop, block, crossing)
