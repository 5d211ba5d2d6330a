"""``rotate-loads``: factors are loaded from shared memory while the products before them run.

Level: mma. In: a loop that waits for slots and multiplies what they hold, a step of k at a time. Out: the same products
in the same order, each step's factors loaded before the products of the step before, across trips as well::

    scf.for %t {                               wait, barrier, load step 0
      wait, barrier                            scf.for %t iter_args(slots, factors of step 0) {
      scf.for %kk = 0 to 32 step 16 {            load step 1
        load                            =>       multiply step 0
        multiply                                 release
      }                                          if there is a next trip: wait, barrier, load its step 0
      release                                    multiply step 1
    }                                          }

Everything in the loop's body but waits, loads and products, such as the copies of later trips, keeps its place before
or after the products. A slot is released once its last step is loaded, one step of products earlier than before. The
loop is left alone where two steps' factors and the accumulators would not fit a thread's registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects import arith, scf
from xdsl.dialects.builtin import AnyFloat, IntegerType, ModuleOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.passes import ModulePass

from crosstile.dialects import mma
from crosstile.dialects.arith import CmpiOp
from crosstile.ir.index_math import constant_index
from crosstile.passes.cloning import Copier, copies_are_asynchronous, erase_dead, is_pure, outside

MOST_STEPS = 8
"""Steps of k in a slot: they are written out one by one."""
MOST_WORDS = 208
"""Registers that accumulators and the factors of two steps may take of a thread's 255; addresses take the rest."""

LEAST_LOADED = 16
"""Bits of the elements that are loaded as words; narrower ones are put together from a register each."""


@dataclass
class Rotation:
    """A loop and the parts of its body: ``before`` and ``after`` the products is what else has effects."""

    loop: scf.ForOp
    wait: mma.WaitOp
    barrier: mma.BarrierOp | None
    steps: scf.ForOp
    release: mma.ReleaseOp
    before: list[Operation]
    after: list[Operation]

    @property
    def loads(self) -> list[Operation]:
        """The loads of one step."""
        return [op for op in self.steps.body.block.ops if isinstance(op, mma.LoadOp)]

    @property
    def products(self) -> list[Operation]:
        """The products of one step."""
        return [op for op in self.steps.body.block.ops if isinstance(op, mma.MmaOp)]

    @property
    def places(self) -> range:
        """Where the steps begin."""
        bounds = [constant_index(bound) for bound in (self.steps.lb, self.steps.ub, self.steps.step)]
        lower, upper, step = (0 if bound is None else bound for bound in bounds)
        return range(lower, upper, max(step, 1))


@dataclass(frozen=True)
class RotateLoadsPass(ModulePass):
    """Load the factors of each step of k before the products of the step before."""

    name = "rotate-loads"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        """Rotate the loops of ``op`` in place."""
        for loop in [inner for inner in op.walk() if isinstance(inner, scf.ForOp)]:
            if loop.parent is not None and (rotation := rotation_of(loop)) is not None:
                _rotate(rotation)


def rotation_of(loop: scf.ForOp) -> Rotation | None:
    """The parts of a loop that can be rotated; None for any other."""
    ops = list(loop.body.block.ops)[:-1]
    waits = [op for op in loop.walk() if isinstance(op, mma.WaitOp)]
    barriers = [op for op in loop.walk() if isinstance(op, mma.BarrierOp)]
    releases = [op for op in loop.walk() if isinstance(op, mma.ReleaseOp)]
    steps = [op for op in ops if isinstance(op, scf.ForOp)]
    if (
        not copies_are_asynchronous(loop)
        or len(waits) != 1
        or len(barriers) > 1
        or len(releases) != 1
        or len(steps) != 1
    ):
        return None
    if any(op.parent is not loop.body.block for op in (*waits, *barriers, *releases)):
        return None
    effects = [op for op in ops if not is_pure(op)]
    head = [waits[0], *barriers]
    if effects[: len(head)] != head or effects.index(releases[0]) < effects.index(steps[0]):
        return None
    others = [op for op in effects if op not in (*head, releases[0], steps[0])]
    place = effects.index(steps[0])
    before = [op for op in others if effects.index(op) < place]
    after = [op for op in others if effects.index(op) > place]
    found = Rotation(loop, waits[0], barriers[0] if barriers else None, steps[0], releases[0], before, after)
    return found if _is_legal(found) else None


def _is_legal(rotation: Rotation) -> bool:
    body = rotation.steps.body.block
    inner = [op for op in list(body.ops)[:-1] if not is_pure(op)]
    loads, products = rotation.loads, rotation.products
    if not loads or not products or len(inner) != len(loads) + len(products):
        return False
    if not 1 <= len(rotation.places) <= MOST_STEPS or set(rotation.release.slots) != set(rotation.wait.slots):
        return False
    known: set[SSAValue] = {rotation.loop.body.block.args[0], body.args[0], *rotation.wait.slots}
    if not all(_follows(operand, known, rotation.loop) for load in loads for operand in load.operands):
        return False
    users = _users(rotation.wait.slots)
    return users == {*loads, rotation.release} and _words(rotation) <= MOST_WORDS


def _follows(value: SSAValue, known: set[SSAValue], loop: scf.ForOp) -> bool:
    """Whether ``value`` is computed from ``known`` and what is outside of the loop."""
    if value in known or outside(value, loop):
        return True
    op = value.owner
    return isinstance(op, Operation) and is_pure(op) and all(_follows(each, known, loop) for each in op.operands)


def _users(slots: Sequence[SSAValue]) -> set[Operation]:
    """What uses slots, through views as well."""
    found: set[Operation] = set()
    for slot in slots:
        for use in slot.uses:
            views = use.operation.results if isinstance(use.operation, mma.ViewOp) else ()
            found |= _users(views) if views else {use.operation}
    return found


def _words(rotation: Rotation) -> int:
    """The registers of a thread that accumulators and two steps' factors take, one of them while it is loaded."""
    factors = [result.type for load in rotation.loads for result in load.results]
    sums = [argument.type for argument in rotation.steps.body.block.args[1:]]
    return _words_of([*factors, *sums]) + _words_of(factors, LEAST_LOADED)


def _words_of(types: Sequence[Attribute], least: int = 1) -> int:
    """The registers of fragments whose elements take so many bits at least."""
    total = 0
    for type_ in types:
        assert isinstance(type_, mma.FragmentType)
        element = type_.element_type
        bits = element.bitwidth if isinstance(element, IntegerType | AnyFloat) else 32
        total += type_.layout.data.size("register") * (bits if bits >= least else 32) // 32
    return total


def _rotate(rotation: Rotation) -> None:
    """Replace the loop by a branch that holds the first loads and the rotated loop, if there is a trip at all."""
    loop = rotation.loop
    assert loop.parent is not None
    first, rotated = Block(), Block(arg_types=[argument.type for argument in loop.body.block.args])
    head = Copier(loop, first, {loop.body.block.args[0]: loop.lb})
    slots, factors = _begin(rotation, head)
    for old, new in zip(loop.body.block.args, rotated.args, strict=True):
        new.name_hint = old.name_hint
    ahead = [rotated.insert_arg(value.type, len(rotated.args)) for value in (*slots, *factors)]
    _trip(rotation, rotated, ahead[: len(slots)], ahead[len(slots) :])
    new = scf.ForOp(loop.lb, loop.ub, loop.step, [*loop.iter_args, *slots, *factors], Region(rotated))
    first.add_ops([new, scf.YieldOp(*new.results[: len(loop.results)])])
    otherwise = Block([scf.YieldOp(*loop.iter_args)])
    some = CmpiOp(loop.lb, loop.ub, "slt")
    branch = scf.IfOp(some, [result.type for result in loop.results], Region(first), Region(otherwise))
    for op in (some, new, branch):
        op.location = loop.location
    loop.parent.insert_ops_before([some, branch], loop)
    for old, result in zip(loop.results, branch.results, strict=True):
        old.replace_all_uses_with(result)
        result.name_hint = old.name_hint
    loop.detach()
    loop.erase()
    erase_dead(first)


def _begin(rotation: Rotation, trip: Copier) -> tuple[list[SSAValue], list[SSAValue]]:
    """Wait for the slots of a trip and load its first step; the slots and the factors."""
    slots: list[SSAValue] = list(trip.copy(rotation.wait).results)
    if rotation.barrier is not None:
        trip.copy(rotation.barrier)
    return slots, _load(rotation, trip, 0)


def _load(rotation: Rotation, trip: Copier, number: int) -> list[SSAValue]:
    """The factors of a step."""
    index = rotation.steps.body.block.args[0]
    here = trip.at(trip.block, {**trip.values, index: trip.constant(rotation.places[number])})
    return [result for load in rotation.loads for result in here.copy(load).results]


def _trip(rotation: Rotation, block: Block, slots: Sequence[SSAValue], factors: Sequence[SSAValue]) -> None:
    """The body of the rotated loop, whose slots and first factors are arguments."""
    loop, steps = rotation.loop, rotation.steps
    given = dict(zip(loop.body.block.args, block.args, strict=False))
    trip = Copier(loop, block, {**given, **dict(zip(rotation.wait.slots, slots, strict=True))})
    accumulators = trip.list(steps.iter_args)
    current, last = list(factors), len(rotation.places) - 1
    coming: tuple[list[SSAValue], list[SSAValue]] = list(slots), list(factors)
    for number in range(len(rotation.places)):
        following = _load(rotation, trip, number + 1) if number < last else []
        if number == 0:
            for op in rotation.before:
                trip.copy(op)
        if number == last:
            trip.copy(rotation.release)
            coming = _begin_next(rotation, trip, slots, factors)
        accumulators = _multiply(rotation, trip, number, current, accumulators)
        current = following
    trip.values.update(zip(steps.results, accumulators, strict=True))
    for op in rotation.after:
        trip.copy(op)
    terminator = loop.body.block.last_op
    assert terminator is not None
    block.add_op(scf.YieldOp(*trip.list(terminator.operands), *coming[0], *coming[1]))


def _begin_next(
    rotation: Rotation, trip: Copier, slots: Sequence[SSAValue], factors: Sequence[SSAValue]
) -> tuple[list[SSAValue], list[SSAValue]]:
    """The slots and first factors of the next trip, if there is one; else what is there."""
    loop = rotation.loop
    index = loop.body.block.args[0]
    following = trip.add(arith.AddiOp(trip.value(index), loop.step)).result
    exists = trip.add(CmpiOp(following, loop.ub, "slt")).result
    then, otherwise = Block(), Block([scf.YieldOp(*slots, *factors)])
    found = _begin(rotation, trip.at(then, {index: following}))
    then.add_op(scf.YieldOp(*found[0], *found[1]))
    types = [value.type for value in (*slots, *factors)]
    branch = trip.add(scf.IfOp(exists, types, Region(then), Region(otherwise)))
    results: list[SSAValue] = list(branch.results)
    return results[: len(slots)], results[len(slots) :]


def _multiply(
    rotation: Rotation, trip: Copier, number: int, factors: Sequence[SSAValue], accumulators: Sequence[SSAValue]
) -> list[SSAValue]:
    """The products of a step; the accumulators after it."""
    body = rotation.steps.body.block
    loaded = [result for load in rotation.loads for result in load.results]
    known = {**trip.values, **dict(zip(loaded, factors, strict=True))}
    known |= dict(zip(body.args[1:], accumulators, strict=True))
    known[body.args[0]] = trip.constant(rotation.places[number])
    here = trip.at(trip.block, known)
    for product in rotation.products:
        here.copy(product)
    terminator = body.last_op
    assert terminator is not None
    return here.list(terminator.operands)
