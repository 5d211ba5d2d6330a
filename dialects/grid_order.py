"""In which order, and by how many blocks, the instances of a grid are run, where a machine has many blocks at work.

    tile.parallel (%i, %j), (%mc, %nc) = (%l0, %l1) to (%M, %N) step (128, 256) raster 16 persistent 1 { ... }

- ``raster 16``: instances begin in groups of 16 rows, column by column within a group, so that those that run together
  share what they read. A row is one step of the last dimension but one; without it the last dimension goes fastest.
- ``persistent 1``: no more than 1 block for each multiprocessor is launched; each runs one instance after the other, so
  that what is copied for the next one can be on its way while this one ends.

No order changes a result, since instances are independent. The text is the same in a ``#nest.schedule`` (after its
``grid``), on ``tile.parallel`` and on ``mma.parallel``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from xdsl.dialects.builtin import IntegerAttr, i64
from xdsl.ir import Attribute
from xdsl.parser import AttrParser
from xdsl.utils.exceptions import VerifyException


@dataclass(frozen=True)
class GridOrder:
    """The parts of the order; each may be left out."""

    raster: int | None = None
    persistent: int | None = None

    @classmethod
    def parse(cls, parser: AttrParser) -> GridOrder:
        """Parse the parts, in the order in which they are printed."""
        found: dict[str, int] = {}
        for field in fields(cls):
            if parser.parse_optional_keyword(field.name) is not None:
                found[field.name] = parser.parse_integer(allow_boolean=False)
        return cls(**found)

    def __str__(self) -> str:
        """The parts, each after a blank."""
        parts = ((field.name, getattr(self, field.name)) for field in fields(self))
        return "".join(f" {name} {value}" for name, value in parts if value is not None)

    @classmethod
    def of_properties(cls, properties: Mapping[str, Attribute]) -> GridOrder:
        """The order that an operation's properties say."""
        found = {field.name: properties.get(field.name) for field in fields(cls)}
        return cls(**{name: value.value.data for name, value in found.items() if isinstance(value, IntegerAttr)})

    def properties(self) -> dict[str, Attribute | None]:
        """The properties of an operation that say this; None for what is left out."""
        parts = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: None if value is None else IntegerAttr(value, i64) for name, value in parts}

    def verify(self, rank: int) -> None:
        """Raise VerifyException unless a grid of ``rank`` dimensions, 0 for no grid, can have this order."""
        if self.raster is not None and (rank < 2 or self.raster < 1):
            raise VerifyException(
                f"a raster is a positive number of rows of a grid of 2 dimensions or more, found {self.raster} of a "
                f"grid of {rank}"
            )
        if self.persistent is not None and (rank < 1 or self.persistent < 1):
            raise VerifyException(
                "persistent is a positive number of blocks for each multiprocessor, which run the instances of a grid, "
                f"found {self.persistent} of a grid of {rank}"
            )


ANY_ORDER = GridOrder()
"""An instance a block, the last dimension fastest."""
