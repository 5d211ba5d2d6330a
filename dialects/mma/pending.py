"""Which slots may a pending product still be reading? The analysis behind the verifier of ``mma.release``.

Products finish in the order in which they start, so what is known of a slot is its *age*: how many products of the same
role were started after the youngest one that reads it. ``mma.await`` with ``in_flight = n`` completes every product of
age n or more. Ages flow through loops to a fixed point, and where two paths meet the younger age counts::

    %p1 = mma.mma_async %s, %t, %p0 ...          // %s, %t: age 0
    %p2 = mma.mma_async %u, %v, %p1 ...          // %u, %v: age 0; %s, %t: age 1
    %p3 = mma.await %p2 in_flight 1 ...          // %s, %t: read no more
    mma.release %s, %t                           // legal; releasing %u would not be
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.utils.exceptions import VerifyException

from crosstile.ir.diagnostics import first_file_location

OLDEST = 64
"""Ages are counted up to here; no ``in_flight`` is larger."""


@dataclass(frozen=True)
class Reader:
    """The youngest product that reads a slot, and how many were started after it."""

    age: int
    product: Operation


State = dict[SSAValue, Reader]


def verify_release(release: Operation) -> None:
    """Raise VerifyException if a product that reads a slot of ``release`` may still be running when it executes."""
    root = release
    while (parent := root.parent_op()) is not None and not isinstance(parent, ModuleOp):
        root = parent
    if root is not release:
        for region in root.regions:
            for block in region.blocks:
                _block(block, {}, release)


def _block(block: Block, state: State, release: Operation) -> State:
    for op in block.ops:
        state = _operation(op, state, release)
    return state


def _operation(op: Operation, state: State, release: Operation) -> State:
    match op.name:
        case "mma.mma_async":
            aged = {value: Reader(min(r.age + 1, OLDEST), r.product) for value, r in state.items()}
            return aged | {_viewed(value): Reader(0, op) for value in op.operands[:2]}
        case "mma.await":
            in_flight = getattr(op, "count", 0)
            return {value: reader for value, reader in state.items() if reader.age < in_flight}
        case "mma.release" if op is release:
            _check(op, state)
            return state
        case "scf.for":
            return _loop(op, state, release)
        case "scf.if":
            ends = [(region.block, _block(region.block, state, release)) for region in op.regions if region.blocks]
            if len(ends) == 1:
                return _join(state, ends[0][1])
            joined = _join(ends[0][1], ends[1][1])
            for block, end in ends:
                joined = _join(joined, _passed(_yielded(block), op.results, end))
            return joined
        case "mma.roles":
            for region in op.regions:
                _block(region.block, {}, release)
            return {}
        case _:
            for region in op.regions:
                for block in region.blocks:
                    state = _block(block, state, release)
            return state


def _loop(op: Operation, state: State, release: Operation) -> State:
    body = op.regions[0].block
    initial, carried = op.operands[3:], body.args[1:]
    entry = _join(state, _passed(initial, carried, state))
    while True:
        end = _block(body, entry, release)
        again = _join(entry, _join(end, _passed(_yielded(body), carried, end)))
        if again == entry:
            break
        entry = again
    leaving = _join(_passed(initial, op.results, state), _passed(_yielded(body), op.results, end))
    return _join(_join(state, end), leaving)


def _passed(values: Sequence[SSAValue], names: Sequence[SSAValue], state: State) -> State:
    """What is known of ``names``, which are ``values`` under new names."""
    found: State = {}
    for value, name in zip(values, names, strict=True):
        if (reader := state.get(_viewed(value))) is not None:
            found[name] = reader
    return found


def _yielded(block: Block) -> Sequence[SSAValue]:
    return () if block.last_op is None else block.last_op.operands


def _join(one: State, other: State) -> State:
    joined = dict(one)
    for value, reader in other.items():
        mine = joined.get(value)
        if mine is None or reader.age < mine.age:
            joined[value] = reader
    return joined


def _viewed(value: SSAValue) -> SSAValue:
    """The slot that ``value`` is, or is a view of."""
    while isinstance(value.owner, Operation) and value.owner.name == "mma.view":
        value = value.owner.operands[0]
    return value


def _check(release: Operation, state: State) -> None:
    for slot in release.operands:
        reader = state.get(_viewed(slot))
        if reader is None:
            continue
        place = first_file_location(reader.product.location)
        where = "" if place is None else f" at line {place.line.data}"
        name = f" %{slot.name_hint}" if slot.name_hint else ""
        raise VerifyException(
            f"releases slot{name} while the pending mma.mma_async{where} may still read it; "
            f"an mma.await that leaves at most {reader.age} in flight must come first"
        )
