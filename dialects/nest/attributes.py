"""Attributes of a nest: its named iterators and the combiner that folds its reduction or scan.

``#nest.iterator<k : reduction>`` and ``#nest.combiner<add>`` in generic form; ``nest.generic`` prints them as
``[m : parallel, k : reduction] combiner<add>``.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.ir import Data
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.str_enum import StrEnum

from crosstile.dialects.nest.combiners import COMBINERS, Combiner
from crosstile.dialects.nest.index_maps import RESERVED_WORDS


class IteratorKind(StrEnum):
    """What running an iterator means."""

    PARALLEL = "parallel"
    """Every step is independent; the results are indexed by it."""
    REDUCTION = "reduction"
    """Steps are folded in increasing order by the combiner; no result is indexed by it."""
    SCAN = "scan"
    """Like a reduction, but every prefix is kept: the results are indexed by it."""
    PAYLOAD = "payload"
    """Parallel, but only the payload components of the combiner are indexed by it; the others are uniform over it."""


@dataclass(frozen=True)
class Iterator:
    """One loop of a nest: its name, as the maps and schedules call it, and its kind."""

    name: str
    kind: IteratorKind

    def __str__(self) -> str:
        return f"{self.name} : {self.kind.value}"


@irdl_attr_definition
class IteratorAttr(Data[Iterator]):
    """``#nest.iterator<k : reduction>``."""

    name = "nest.iterator"

    @classmethod
    def of(cls, name: str, kind: str) -> IteratorAttr:
        """The attribute for an iterator called ``name`` of the kind spelled ``kind``."""
        return cls(Iterator(name, IteratorKind(kind)))

    @classmethod
    def parse_body(cls, parser: AttrParser) -> IteratorAttr:
        """Parse ``name : kind``."""
        name = parser.parse_identifier(" for the name of an iterator")
        parser.parse_punctuation(":", " between an iterator's name and its kind")
        return cls(Iterator(name, parser.parse_str_enum(IteratorKind)))

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Iterator:
        """Parse ``<name : kind>``."""
        with parser.in_angle_brackets():
            return cls.parse_body(parser).data

    def print_parameter(self, printer: Printer) -> None:
        """Print ``<name : kind>``."""
        with printer.in_angle_brackets():
            printer.print_string(str(self.data))

    def verify(self) -> None:
        """The name can be read back."""
        name = self.data.name
        if not name.isidentifier() or not name.isascii() or name in RESERVED_WORDS:
            reserved = ", ".join(sorted(RESERVED_WORDS))
            raise VerifyException(f"iterator name '{name}' is not legal: expects an identifier other than {reserved}")


@irdl_attr_definition
class CombinerAttr(Data[str]):
    """``#nest.combiner<add>``: the name of a row of ``combiners.COMBINERS``."""

    name = "nest.combiner"

    @property
    def row(self) -> Combiner:
        """The row the name stands for."""
        return COMBINERS[self.data]

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> str:
        """Parse ``<name>``."""
        with parser.in_angle_brackets():
            position = parser.pos
            name = parser.parse_identifier(" for the name of a combiner")
            if name not in COMBINERS:
                parser.raise_error(_unknown_combiner(name), position, parser.pos)
            return name

    def print_parameter(self, printer: Printer) -> None:
        """Print ``<name>``."""
        with printer.in_angle_brackets():
            printer.print_string(self.data)

    def verify(self) -> None:
        """The name has a row."""
        if self.data not in COMBINERS:
            raise VerifyException(_unknown_combiner(self.data))


def _unknown_combiner(name: str) -> str:
    return f"unknown combiner '{name}': expects one of {', '.join(COMBINERS)}"
