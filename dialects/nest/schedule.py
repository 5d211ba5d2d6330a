"""Schedules: every tuning choice of a kernel, as an attribute a person can write and a tuner can rewrite.

    #nest.schedule<loops = [n : 4096, k : 512 balanced 8, m : 256, n : 64, m : 4], parallel = m grain 4, lane = n,
                   stage = [1], intrinsic = "x86.avx512.fma.1x16x1.f32">

- ``loops``: the blocked loops from outermost to innermost, each an iterator and its step; the last entry of an iterator
  is its register tile. ``balanced 8`` makes blocks of equal size, multiples of 8.
- ``parallel``: the iterator split over workers, in contiguous ranges that are multiples of ``grain``.
- ``grid``: instead of ``parallel``, the iterators whose outermost blocks together are divided among workers;
  ``grid = [m, n] raster 8 persistent 1`` says in which order (``dialects/grid_order.py``).
- ``lane``: the iterator laid across vector lanes; ``lane = n ordered``: sums along it are one chain each, in order of
  its steps, as they are where it lies down the rows.
- ``fold = h pitch 57``: steps of ``h`` and of the lane iterator are walked as one, rows of 57 places one after the
  other, so that lanes do not end with a row; a loop over the lane iterator then counts places.
- ``stage``: the inputs of the root nest (by position) that are packed into scratch; the values of attention come next.
- ``intrinsic``: the matrix instruction, a row of the machine description.
- ``unroll``: so many steps of the product's loop over k are written out in whole register tiles.
- ``rest``: the lanes of the register tile for the last block of the lane iterator, where no more are left of it.
- ``keep``: room in scratch for so many elements of a row of each value that is kept from one sweep to the next.
- ``hold``: the only step of the loop over the lane iterator covers whole rows of up to so many elements, whose tiles
  are held in registers from one sweep to the next.
- ``prefetch``: how many bytes ahead at most what is read is fetched into a nearer cache.
- ``pipeline = 4``: how many trips of the loop over a product's reduction are in flight, staging ahead; ``4 role``: by
  warps of their own, which copy whole blocks.
- ``aligned``: rows of every array are multiples of so many bytes, which the guard must say; for wide accesses.
- ``stream``: how many bytes a result must have to be written past the caches.
- ``split = 32``: the reduction of a product is cut into so many equal parts, which are blocks of their own, and whose
  sums one more kernel adds up.

Every part may be left out. A kernel carries a list of them, each but the last with a guard over the sizes of the root
nest's iterators; the first whose guard holds is run::

    schedules [N <= 16 : #nest.schedule<...>, M > 64 and K mod 8 == 0 : #nest.schedule<...>, #nest.schedule<...>]
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xdsl.ir import Attribute, Data, ParametrizedAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.grid_order import ANY_ORDER, GridOrder

PREDICATES: dict[str, Callable[[int, int], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
}
"""The comparisons a guard may make."""


@dataclass(frozen=True)
class Loop:
    """One blocked loop of a schedule: ``k : 512 balanced 8``."""

    iterator: str
    step: int
    balanced: int | None = None

    def __str__(self) -> str:
        balanced = "" if self.balanced is None else f" balanced {self.balanced}"
        return f"{self.iterator} : {self.step}{balanced}"


@dataclass(frozen=True)
class Schedule:
    """The contents of a ``#nest.schedule``; the module docstring explains the parts."""

    loops: tuple[Loop, ...] = ()
    parallel: str | None = None
    grain: int = 1
    grid: tuple[str, ...] = ()
    order: GridOrder = ANY_ORDER
    lane: str | None = None
    stage: tuple[int, ...] = ()
    intrinsic: str | None = None
    unroll: int | None = None
    rest: int | None = None
    fold: tuple[str, int] | None = None
    keep: int | None = None
    hold: int | None = None
    prefetch: int | None = None
    stream: int | None = None
    pipeline: int | None = None
    role: bool = False
    aligned: int | None = None
    ordered: bool = False
    split: int | None = None

    def steps(self, iterator: str) -> tuple[int, ...]:
        """The steps of the loops over ``iterator``, outermost first."""
        return tuple(loop.step for loop in self.loops if loop.iterator == iterator)

    def __str__(self) -> str:
        parts: list[str] = []
        if self.loops:
            parts.append(f"loops = [{', '.join(map(str, self.loops))}]")
        if self.parallel is not None:
            parts.append(f"parallel = {self.parallel}" + (f" grain {self.grain}" if self.grain != 1 else ""))
        if self.grid:
            parts.append(f"grid = [{', '.join(self.grid)}]{self.order}")
        if self.lane is not None:
            parts.append(f"lane = {self.lane}" + (" ordered" if self.ordered else ""))
        if self.fold is not None:
            parts.append(f"fold = {self.fold[0]} pitch {self.fold[1]}")
        if self.stage:
            parts.append(f"stage = [{', '.join(map(str, self.stage))}]")
        if self.intrinsic is not None:
            parts.append(f'intrinsic = "{self.intrinsic}"')
        if self.unroll is not None:
            parts.append(f"unroll = {self.unroll}")
        if self.rest is not None:
            parts.append(f"rest = {self.rest}")
        if self.keep is not None:
            parts.append(f"keep = {self.keep}")
        if self.hold is not None:
            parts.append(f"hold = {self.hold}")
        if self.prefetch is not None:
            parts.append(f"prefetch = {self.prefetch}")
        if self.stream is not None:
            parts.append(f"stream = {self.stream}")
        if self.pipeline is not None:
            parts.append(f"pipeline = {self.pipeline}" + (" role" if self.role else ""))
        if self.aligned is not None:
            parts.append(f"aligned = {self.aligned}")
        if self.split is not None:
            parts.append(f"split = {self.split}")
        return ", ".join(parts)


@irdl_attr_definition
class ScheduleAttr(Data[Schedule]):
    """``#nest.schedule<loops = [m : 8, n : 32], lane = n>``."""

    name = "nest.schedule"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Schedule:
        """Parse the parts in any order, each at most once."""
        parts: dict[str, Any] = {}

        def parse_part() -> None:
            position = parser.pos
            part = parser.parse_identifier(" for a part of a schedule")
            if part in parts:
                parser.raise_error(f"the schedule gives '{part}' twice", position, parser.pos)
            if part not in _PARTS:
                parser.raise_error(
                    f"a schedule has no part '{part}': expects {', '.join(_PARTS)}", position, parser.pos
                )
            parser.parse_punctuation("=", f" after '{part}'")
            parts[part] = _PARTS[part](parser)
            if part == "parallel" and parser.parse_optional_keyword("grain"):
                parts["grain"] = _parse_positive(parser)
            if part == "grid":
                parts["order"] = GridOrder.parse(parser)
            if part == "pipeline" and parser.parse_optional_keyword("role"):
                parts["role"] = True
            if part == "lane" and parser.parse_optional_keyword("ordered"):
                parts["ordered"] = True

        parser.parse_comma_separated_list(parser.Delimiter.ANGLE, parse_part)
        return Schedule(**parts)

    def print_parameter(self, printer: Printer) -> None:
        """Print the parts that are not the default, in the order of the module docstring."""
        printer.print_string(f"<{self.data}>")

    def verify(self) -> None:
        """Steps, grain and groups are positive, and an iterator's steps do not grow inwards."""
        schedule = self.data
        inner: dict[str, int] = {}
        for loop in schedule.loops:
            if loop.step < 1 or (loop.balanced is not None and loop.balanced < 1):
                raise VerifyException(f"the steps of loop '{loop}' must be positive")
            outer = inner.setdefault(loop.iterator, loop.step)
            if loop.step > outer:
                raise VerifyException(
                    f"loop '{loop}' stands inside a loop over {loop.iterator} with the smaller step {outer}: "
                    "steps of one iterator shrink from the outermost loop to the innermost"
                )
            inner[loop.iterator] = loop.step
        lanes = inner.get(schedule.lane) if schedule.lane is not None else None
        if schedule.rest is not None and (lanes is None or schedule.rest >= lanes):
            raise VerifyException(
                f"rest {schedule.rest} is the narrower register tile for the last columns: expects less than the "
                f"innermost step of the lane iterator{'' if lanes is None else f', {lanes}'}"
            )
        if schedule.hold is not None and (lanes != schedule.hold or not schedule.grid):
            raise VerifyException(
                f"hold {schedule.hold} holds whole rows: expects a grid, and a loop over the lane iterator whose step "
                f"is as large{'' if lanes is None else f', got {lanes}'}"
            )
        if schedule.grid and schedule.parallel is not None:
            raise VerifyException("workers divide either the range of one iterator, 'parallel', or a grid, not both")
        if len(set(schedule.grid)) != len(schedule.grid) or not set(schedule.grid) <= inner.keys():
            raise VerifyException(f"grid [{', '.join(schedule.grid)}] must list distinct iterators that have loops")
        schedule.order.verify(len(schedule.grid))
        if schedule.fold is not None and schedule.lane is None:
            raise VerifyException(f"fold = {schedule.fold[0]} needs a lane iterator to be folded into")
        if schedule.grain < 1:
            raise VerifyException(f"grain {schedule.grain} must be positive")
        for part in ("unroll", "rest", "keep", "hold", "prefetch", "stream", "pipeline", "aligned", "split"):
            size: int | None = getattr(schedule, part)
            if size is not None and size < 1:
                raise VerifyException(f"{part} {size} must be positive")
        if len(set(schedule.stage)) != len(schedule.stage) or any(position < 0 for position in schedule.stage):
            raise VerifyException(f"stage {list(schedule.stage)} must list distinct positions of inputs, from 0")


def _parse_positive(parser: AttrParser) -> int:
    position = parser.pos
    value = parser.parse_integer(allow_boolean=False, allow_negative=False)
    if value < 1:
        parser.raise_error("expects a positive integer", position, parser.pos)
    return value


def _parse_loop(parser: AttrParser) -> Loop:
    iterator = parser.parse_identifier(" for the iterator of a loop")
    parser.parse_punctuation(":", " between a loop's iterator and its step")
    step = _parse_positive(parser)
    return Loop(iterator, step, _parse_positive(parser) if parser.parse_optional_keyword("balanced") else None)


def _parse_loops(parser: AttrParser) -> tuple[Loop, ...]:
    return tuple(parser.parse_comma_separated_list(parser.Delimiter.SQUARE, lambda: _parse_loop(parser)))


def _parse_names(parser: AttrParser) -> tuple[str, ...]:
    def parse_name() -> str:
        return parser.parse_identifier(" for an iterator")

    return tuple(parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parse_name))


def _parse_fold(parser: AttrParser) -> tuple[str, int]:
    iterator = parser.parse_identifier(" for the iterator folded into the lanes")
    parser.parse_keyword("pitch", " before the places of a row")
    return iterator, _parse_positive(parser)


def _parse_positions(parser: AttrParser) -> tuple[int, ...]:
    def parse_position() -> int:
        return parser.parse_integer(allow_boolean=False, allow_negative=False)

    return tuple(parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parse_position))


_PARTS: dict[str, Callable[[AttrParser], Any]] = {
    "loops": _parse_loops,
    "parallel": lambda parser: parser.parse_identifier(" for the parallel iterator"),
    "grid": _parse_names,
    "lane": lambda parser: parser.parse_identifier(" for the iterator across lanes"),
    "fold": _parse_fold,
    "stage": _parse_positions,
    "intrinsic": lambda parser: parser.parse_str_literal(" for the name of an intrinsic"),
    "unroll": _parse_positive,
    "rest": _parse_positive,
    "keep": _parse_positive,
    "hold": _parse_positive,
    "prefetch": _parse_positive,
    "stream": _parse_positive,
    "pipeline": _parse_positive,
    "aligned": _parse_positive,
    "split": _parse_positive,
}


@dataclass(frozen=True)
class Comparison:
    """One condition on the size of an iterator: ``N <= 16``, ``K mod 8 == 0``."""

    iterator: str
    predicate: str
    bound: int
    modulus: int | None = None

    @property
    def most(self) -> int | None:
        """The largest size that satisfies the condition; None if there is none."""
        if self.modulus is not None:
            return None
        return {"<=": self.bound, "<": self.bound - 1, "==": self.bound}.get(self.predicate)

    def holds(self, size: int) -> bool:
        """Whether an iterator of ``size`` satisfies the condition."""
        return PREDICATES[self.predicate](size if self.modulus is None else size % self.modulus, self.bound)

    def __str__(self) -> str:
        modulus = "" if self.modulus is None else f" mod {self.modulus}"
        return f"{self.iterator}{modulus} {self.predicate} {self.bound}"


@irdl_attr_definition
class GuardAttr(Data[tuple[Comparison, ...]]):
    """``#nest.guard<N <= 16 and K mod 8 == 0>``: a conjunction; ``true`` if it is empty."""

    name = "nest.guard"

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether iterators of ``sizes`` (by name) satisfy every condition; names compare without case."""
        lowered = {name.lower(): size for name, size in sizes.items()}
        return all(comparison.holds(lowered[comparison.iterator.lower()]) for comparison in self.data)

    @classmethod
    def parse_optional_body(cls, parser: AttrParser) -> GuardAttr | None:
        """Parse ``true``, or comparisons with ``and`` between; None if no identifier stands here."""
        name = parser.parse_optional_identifier()
        if name is None:
            return None
        if name == "true":
            return cls(())
        comparisons = [_parse_comparison(parser, name)]
        while parser.parse_optional_keyword("and"):
            comparisons.append(_parse_comparison(parser, parser.parse_identifier(" for the iterator of a guard")))
        return cls(tuple(comparisons))

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> tuple[Comparison, ...]:
        """Parse the guard in angle brackets."""
        with parser.in_angle_brackets():
            guard = cls.parse_optional_body(parser)
            return (
                parser.raise_error("expects a guard, for example 'N <= 16' or 'true'") if guard is None else guard.data
            )

    def print_parameter(self, printer: Printer) -> None:
        """Print the guard in angle brackets."""
        printer.print_string(f"<{self}>")

    def __str__(self) -> str:
        return " and ".join(map(str, self.data)) if self.data else "true"

    def verify(self) -> None:
        """Predicates are known, moduli positive."""
        for comparison in self.data:
            if comparison.predicate not in PREDICATES:
                raise VerifyException(
                    f"unknown predicate '{comparison.predicate}' in guard: expects one of {', '.join(PREDICATES)}"
                )
            if comparison.modulus is not None and comparison.modulus < 1:
                raise VerifyException(f"the modulus of guard '{comparison}' must be positive")


def _parse_comparison(parser: AttrParser, iterator: str) -> Comparison:
    modulus = _parse_positive(parser) if parser.parse_optional_keyword("mod") else None
    position = parser.pos
    # The lexer has no two-character comparisons, so they are put together from their halves.
    predicate = "".join(char for char in ("<", ">") if parser.parse_optional_characters(char))
    while parser.parse_optional_punctuation("="):
        predicate += "="
    if predicate not in PREDICATES:
        parser.raise_error(f"a guard compares with one of {', '.join(PREDICATES)}", position)
    return Comparison(iterator, predicate, parser.parse_integer(allow_boolean=False), modulus)


@irdl_attr_definition
class GuardedScheduleAttr(ParametrizedAttribute):
    """``#nest.guarded_schedule<N <= 16 : #nest.schedule<...>>``; a kernel prints only what is in the brackets."""

    name = "nest.guarded_schedule"

    guard: GuardAttr
    schedule: ScheduleAttr

    @classmethod
    def parse_body(cls, parser: AttrParser) -> GuardedScheduleAttr:
        """Parse ``guard : schedule``, or a schedule alone, whose guard is ``true``."""
        guard = GuardAttr.parse_optional_body(parser)
        if guard is not None:
            parser.parse_punctuation(":", " between a guard and its schedule")
        position = parser.pos
        schedule = parser.parse_attribute()
        if not isinstance(schedule, ScheduleAttr):
            parser.raise_error(f"expects a #nest.schedule, got {schedule}", position, parser.pos)
        return cls(guard or GuardAttr(()), schedule)

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        """Parse the guard and the schedule in angle brackets."""
        with parser.in_angle_brackets():
            return cls.parse_body(parser).parameters

    def print_body(self, printer: Printer) -> None:
        """Print ``guard : schedule``, or the schedule alone if the guard is ``true``."""
        if self.guard.data:
            printer.print_string(f"{self.guard} : ")
        printer.print_attribute(self.schedule)

    def print_parameters(self, printer: Printer) -> None:
        """Print the guard and the schedule in angle brackets."""
        with printer.in_angle_brackets():
            self.print_body(printer)
