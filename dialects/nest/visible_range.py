"""Which steps of one iterator a mask shows: what a kernel need not visit, read off the body that hides it.

A body hides an element by selecting minus infinity. Where the condition compares indices, the steps that are shown are
a range whose ends may move with another iterator::

    %i = nest.index m    %j = nest.index n    %d = arith.subi %j, %i
    %c = arith.cmpi sle, %d, %shift           a constant, or an input of rank 0
    %s = arith.select %c, %score, %minus_infinity        shows n <= m + shift: everything else is hidden

Conditions combined with ``and`` and selections in a chain count each on its own; a condition that is not understood
hides nothing that this analysis would know of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from xdsl.dialects import arith
from xdsl.dialects.builtin import FloatAttr, IntegerAttr
from xdsl.ir import BlockArgument, SSAValue

from crosstile.dialects.nest.generic import GenericOp, IndexOp


@dataclass(frozen=True)
class Bound:
    """One end of the steps shown: ``factor * row + sum of inputs + constant``, inclusive.

    ``row`` is the other iterator, by position (None: the end does not move); ``inputs`` are positions of inputs of rank
    0, each with a factor.
    """

    is_upper: bool
    row: int | None
    factor: int
    inputs: tuple[tuple[int, int], ...]
    constant: int


Linear = dict[object, int]
"""A sum of multiples: of iterators (by position), of body arguments, and of 1 under the key None."""


@dataclass(frozen=True)
class Mask:
    """What a body hides: the value it yields where it hides nothing, and the ends of the steps that are shown.

    ``is_exact`` says that what lies within the ends is shown for certain; else some of it may be hidden as well.
    """

    value: SSAValue
    bounds: tuple[Bound, ...]
    is_exact: bool


def mask_of(nest: GenericOp, iterator: int) -> Mask:
    """The mask that the elementwise ``nest``, which has one result, lays over the steps of ``iterator``."""
    found: list[Bound] = []
    exact = True
    value = nest.yield_op.arguments[0]
    while isinstance(select := value.owner, arith.SelectOp):
        if _is_minus_infinity(select.rhs):
            shown, value = True, select.lhs
        elif _is_minus_infinity(select.lhs):
            shown, value = False, select.rhs
        else:
            break
        for condition in _conditions(select.cond, shown):
            bound = None if condition is None else _bound(nest, condition, shown, iterator)
            exact &= bound is not None
            found += [] if bound is None else [bound]
    return Mask(value, tuple(found), exact)


def _is_minus_infinity(value: SSAValue) -> bool:
    owner = value.owner
    return isinstance(owner, arith.ConstantOp) and isinstance(owner.value, FloatAttr) and owner.value.value.data == -inf


def _conditions(condition: SSAValue, shown: bool) -> Iterator[arith.CmpiOp | None]:
    """The comparisons that all hold where ``condition`` does; or, if it says what is hidden, each of which hides.

    None stands for a part of the condition that is something else.
    """
    match condition.owner:
        case arith.CmpiOp() as comparison:
            yield comparison
        case arith.AndIOp() as both if shown:
            yield from _conditions(both.lhs, shown)
            yield from _conditions(both.rhs, shown)
        case arith.OrIOp() as either if not shown:
            yield from _conditions(either.lhs, shown)
            yield from _conditions(either.rhs, shown)
        case _:
            yield None


_PREDICATES = ("eq", "ne", "slt", "sle", "sgt", "sge")
_NEGATED = {"slt": "sge", "sge": "slt", "sgt": "sle", "sle": "sgt"}


def _bound(nest: GenericOp, comparison: arith.CmpiOp, shown: bool, iterator: int) -> Bound | None:
    """The end that a comparison sets; None if it is no such comparison."""
    number = comparison.predicate.value.data
    predicate = _PREDICATES[number] if number < len(_PREDICATES) else ""
    predicate = predicate if shown else _NEGATED.get(predicate, "")
    lhs, rhs = _linear(nest, comparison.lhs), _linear(nest, comparison.rhs)
    if predicate not in _NEGATED or lhs is None or rhs is None:
        return None
    # As difference <= 0: what is greater changes sides, and what is strictly less is at least 1 less.
    sign = 1 if predicate in ("slt", "sle") else -1
    difference = {key: sign * (lhs.get(key, 0) - rhs.get(key, 0)) for key in {*lhs, *rhs, None}}
    difference[None] += 1 if predicate in ("slt", "sgt") else 0
    factor = difference.pop(iterator, 0)
    if factor not in (1, -1):
        return None
    rows = {key: value for key, value in difference.items() if isinstance(key, int) and value}
    if len(rows) > 1:
        return None
    # factor * n + rest <= 0: n <= -rest, or n >= rest.
    row, along = next(iter(rows.items()), (None, 0))
    inputs = tuple(
        (key.index, -factor * value) for key, value in difference.items() if isinstance(key, BlockArgument) and value
    )
    return Bound(factor == 1, row, -factor * along, inputs, -factor * difference[None])


def _linear(nest: GenericOp, value: SSAValue) -> Linear | None:
    """``value`` as a sum of multiples of iterators and of inputs of rank 0."""
    match value.owner:
        case IndexOp() as index:
            return {index.position: 1}
        case arith.ConstantOp(value=IntegerAttr() as constant):
            return {None: constant.value.data}
        case arith.AddiOp() | arith.SubiOp() as op:
            lhs, rhs = _linear(nest, op.lhs), _linear(nest, op.rhs)
            if lhs is None or rhs is None:
                return None
            sign = 1 if isinstance(op, arith.AddiOp) else -1
            return {key: lhs.get(key, 0) + sign * rhs.get(key, 0) for key in {*lhs, *rhs}}
        case _:
            pass
    if isinstance(value, BlockArgument) and not nest.input_maps[value.index].results:
        return {value: 1}
    return None
