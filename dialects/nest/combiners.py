"""The combiners of reductions and scans, one row each: adding a row adds a combiner to every level.

A nest's body yields values at every point; a combiner's ``lift`` turns them into a *state* of one or more components,
``combine`` folds two states (the earlier steps are ``left``), and ``identity`` starts the chain. The results of the
nest are the components of the final state (of every prefix, for a scan).

Components are *uniform* over the nest's payload iterators or indexed by them: in flash attention the running maximum
and sum are uniform over the head dimension, the weighted sum is not.

The functions get the array module first (``xp``, NumPy), so that naming a combiner costs no import.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

State = tuple[Any, ...]
"""One array per component; arrays broadcast against each other, so a uniform component has size 1 along payloads."""


@dataclass(frozen=True)
class Component:
    """One component of a combiner's state."""

    name: str
    identity: float
    payload: bool = False
    """Whether the payload iterators index it."""
    integer: bool = False
    """Whether it is an index rather than a number of the accumulator type."""

    def integer_identity(self, width: int) -> int:
        """The identity among signed integers of ``width`` bits, where an infinity is the least or greatest one."""
        if self.identity in (-inf, inf):
            return -(1 << (width - 1)) if self.identity < 0 else (1 << (width - 1)) - 1
        return int(self.identity)


@dataclass(frozen=True)
class Yielded:
    """One value that the body yields for the combiner."""

    name: str
    payload: bool = False
    integer: bool = False
    factor: bool = False
    """Whether it is only ever multiplied by weights of the accumulator type: then it may be a narrower float, and a
    lowering may round the weights to its type, as instructions that multiply two numbers of one type ask for."""


@dataclass(frozen=True)
class Combiner:
    """A row: what the body yields, what the state holds, and how two states become one.

    ``combine(xp, left, right)`` works on states of arrays elementwise and is associative in exact arithmetic;
    ``lift(xp, values)`` makes the state of one step.
    """

    name: str
    summary: str
    yields: tuple[Yielded, ...]
    components: tuple[Component, ...]
    combine: Callable[[Any, State, State], State]
    lift: Callable[[Any, Sequence[Any]], State]
    commutative: bool = True
    ufunc: str | None = None
    """The NumPy function that ``combine`` is, where it is one: its ``accumulate`` runs the same chain faster."""

    def __post_init__(self):
        if not self.yields or not self.components:
            raise ValueError(f"combiner '{self.name}' needs values to fold and a state")
        if any(value.payload for value in self.yields) != any(part.payload for part in self.components):
            raise ValueError(f"combiner '{self.name}': a payload component needs a payload value, and vice versa")

    @property
    def has_payload(self) -> bool:
        """Whether some component is indexed by payload iterators."""
        return any(component.payload for component in self.components)


def _identity_lift(xp: Any, values: Sequence[Any]) -> State:
    return tuple(values)


def _single(name: str, summary: str, identity: float, ufunc: str) -> Combiner:
    """A combiner whose state is the one value that the body yields."""
    return Combiner(
        name,
        summary,
        (Yielded("value"),),
        (Component("value", identity),),
        lambda xp, left, right: (getattr(xp, ufunc)(left[0], right[0]),),
        _identity_lift,
        ufunc=ufunc,
    )


def _argmax(xp: Any, left: State, right: State) -> State:
    """The earlier step wins ties, and index -1 (no step yet) always loses."""
    take_right = (right[0] > left[0]) | (left[1] < 0)
    return xp.where(take_right, right[0], left[0]), xp.where(take_right, right[1], left[1])


def _welford_lift(xp: Any, values: Sequence[Any]) -> State:
    (value,) = values
    return xp.ones_like(value), value, xp.zeros_like(value)


def _welford(xp: Any, left: State, right: State) -> State:
    """Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances (1979)."""
    count = left[0] + right[0]
    weight = right[0] / xp.where(count == 0, xp.ones_like(count), count)
    delta = right[1] - left[1]
    return count, left[1] + delta * weight, left[2] + right[2] + delta * delta * left[0] * weight


def _rescale(xp: Any, old: Any, new: Any) -> Any:
    """exp(old - new), and 0 where both are -inf: an empty state has no weight."""
    return xp.where(
        xp.isneginf(old), xp.zeros_like(new), xp.exp(old - xp.where(xp.isneginf(old), xp.zeros_like(new), new))
    )


def _logsumexp_lift(xp: Any, values: Sequence[Any]) -> State:
    (score,) = values
    return score, xp.where(xp.isneginf(score), xp.zeros_like(score), xp.ones_like(score))


def _logsumexp(xp: Any, left: State, right: State) -> State:
    maximum = xp.maximum(left[0], right[0])
    return maximum, left[1] * _rescale(xp, left[0], maximum) + right[1] * _rescale(xp, right[0], maximum)


def _weighted_lift(xp: Any, values: Sequence[Any]) -> State:
    score, value = values
    maximum, weight = _logsumexp_lift(xp, (score,))
    return maximum, weight, weight * value.astype(weight.dtype)


def _weighted(xp: Any, left: State, right: State) -> State:
    """Online softmax: Milakov, Gimelshein: Online normalizer calculation for softmax (2018)."""
    maximum = xp.maximum(left[0], right[0])
    keep, add = _rescale(xp, left[0], maximum), _rescale(xp, right[0], maximum)
    return maximum, left[1] * keep + right[1] * add, left[2] * keep + right[2] * add


def _affine(xp: Any, left: State, right: State) -> State:
    """h -> a2 * (a1 * h + b1) + b2."""
    return right[0] * left[0], right[0] * left[1] + right[1]


COMBINERS: dict[str, Combiner] = {
    row.name: row
    for row in (
        _single("add", "sum", 0.0, "add"),
        _single("mul", "product", 1.0, "multiply"),
        _single("max", "maximum; a NaN wins", -inf, "maximum"),
        _single("min", "minimum; a NaN wins", inf, "minimum"),
        Combiner(
            "argmax",
            "the maximum and the first index where it stands (-1 for no step)",
            (Yielded("value"), Yielded("index", integer=True)),
            (Component("value", -inf), Component("index", -1, integer=True)),
            _argmax,
            _identity_lift,
        ),
        Combiner(
            "welford",
            "count, mean and sum of squared deviations in one sweep",
            (Yielded("value"),),
            (Component("count", 0.0), Component("mean", 0.0), Component("squares", 0.0)),
            _welford,
            _welford_lift,
        ),
        Combiner(
            "logsumexp",
            "running maximum m and sum l of exp(x - m): log-sum-exp is m + log(l)",
            (Yielded("score"),),
            (Component("maximum", -inf), Component("sum", 0.0)),
            _logsumexp,
            _logsumexp_lift,
        ),
        Combiner(
            "softmax_weighted_sum",
            "online softmax: maximum m, sum l, sum of exp(score - m) * value; attention divides the last by l",
            (Yielded("score"), Yielded("value", payload=True, factor=True)),
            (Component("maximum", -inf), Component("sum", 0.0), Component("weighted", 0.0, payload=True)),
            _weighted,
            _weighted_lift,
        ),
        Combiner(
            "affine",
            "composition of h -> a * h + b: a linear recurrence; the second component is h from h = 0",
            (Yielded("factor"), Yielded("offset")),
            (Component("factor", 1.0), Component("offset", 0.0)),
            _affine,
            _identity_lift,
            commutative=False,
        ),
    )
}
"""Every combiner, by name."""
