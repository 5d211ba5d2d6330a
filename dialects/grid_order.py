"""In which order, and by how many blocks, the instances of a grid are run, where a machine has many blocks at work.

    tile.parallel (%i, %j), (%mc, %nc) = ... to (%M, %N) step (128, 256) raster 16 cluster [2, 1] persistent 1 { ... }

- ``raster 16``: instances begin in groups of 16 rows, column by column within a group, so that those that run together
  share what they read. A row is one step of the last dimension but one; without it the last dimension goes fastest.
- ``descending``: the last column of blocks begins first, and the first one last: where later blocks have more to do, as
  with a causal mask, what is begun last is short, and multiprocessors end together.
- ``cluster [2, 1]``: two instances that are neighbours along the first dimension run at the same time and copy for each
  other what both read. Where the grid is no multiple of that, instances beyond it help to copy and write nothing.
- ``persistent 1``: no more than 1 block for each multiprocessor is launched; each runs one instance after the other, so
  that what is copied for the next one can be on its way while this one ends.

No order changes a result, since instances are independent. The text is the same in a ``#nest.schedule`` (after its
``grid``), on ``tile.parallel`` and on ``mma.parallel``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import cast

from xdsl.dialects.builtin import DenseArrayBase, IntegerAttr, IntegerType, UnitAttr, i64
from xdsl.ir import Attribute
from xdsl.parser import AttrParser
from xdsl.utils.exceptions import VerifyException

from crosstile.dialects.assembly import dense_values


@dataclass(frozen=True)
class GridOrder:
    """The parts of the order; each may be left out. ``cluster`` has a number for each dimension of the grid."""

    raster: int | None = None
    cluster: tuple[int, ...] = ()
    persistent: int | None = None
    descending: bool = False

    @classmethod
    def parse(cls, parser: AttrParser) -> GridOrder:
        """Parse the parts, in the order in which they are printed."""

        def number() -> int:
            return parser.parse_integer(allow_boolean=False)

        raster = number() if parser.parse_optional_keyword("raster") is not None else None
        descending = parser.parse_optional_keyword("descending") is not None
        cluster: list[int] = []
        if parser.parse_optional_keyword("cluster") is not None:
            cluster = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, number)
        persistent = number() if parser.parse_optional_keyword("persistent") is not None else None
        return cls(raster, tuple(cluster), persistent, descending)

    def __str__(self) -> str:
        """The parts, each after a blank."""
        raster = "" if self.raster is None else f" raster {self.raster}"
        descending = " descending" if self.descending else ""
        cluster = f" cluster {list(self.cluster)}" if self.cluster else ""
        return raster + descending + cluster + ("" if self.persistent is None else f" persistent {self.persistent}")

    @classmethod
    def of_properties(cls, properties: Mapping[str, Attribute]) -> GridOrder:
        """The order that an operation's properties say."""

        def number(name: str) -> int | None:
            value = properties.get(name)
            return value.value.data if isinstance(value, IntegerAttr) else None

        cluster = properties.get("cluster")
        blocks = ()
        if isinstance(cluster, DenseArrayBase):
            blocks = tuple(dense_values(cast("DenseArrayBase[IntegerType]", cluster)))
        return cls(number("raster"), blocks, number("persistent"), "descending" in properties)

    def properties(self) -> dict[str, Attribute | None]:
        """The properties of an operation that say this; None for what is left out."""
        return {
            "raster": None if self.raster is None else IntegerAttr(self.raster, i64),
            "descending": UnitAttr() if self.descending else None,
            "cluster": DenseArrayBase.from_list(i64, self.cluster) if self.cluster else None,
            "persistent": None if self.persistent is None else IntegerAttr(self.persistent, i64),
        }

    @property
    def cluster_blocks(self) -> int:
        """How many blocks run as one; 1 without clusters."""
        return prod(self.cluster)

    def verify(self, rank: int) -> None:
        """Raise VerifyException unless a grid of ``rank`` dimensions, 0 for no grid, can have this order."""
        if self.raster is not None and (rank < 2 or self.raster < 1):
            raise VerifyException(
                f"a raster is a positive number of rows of a grid of 2 dimensions or more, found {self.raster} of a "
                f"grid of {rank}"
            )
        if self.descending and rank < 1:
            raise VerifyException("blocks of a grid begin in descending order, but there is no grid")
        if self.persistent is not None and (rank < 1 or self.persistent < 1):
            raise VerifyException(
                "persistent is a positive number of blocks for each multiprocessor, which run the instances of a grid, "
                f"found {self.persistent} of a grid of {rank}"
            )
        if not self.cluster:
            return
        if len(self.cluster) != rank or min(self.cluster) < 1 or self.cluster_blocks < 2:
            raise VerifyException(
                "a cluster has a positive number of blocks along each dimension of the grid, 2 or more in all, found "
                f"{list(self.cluster)} of a grid of {rank}"
            )
        if self.raster is not None and self.raster % (rows := self.cluster[-2]):
            nearest = max(rows, self.raster // rows * rows)
            raise VerifyException(
                f"a raster of {self.raster} rows cuts clusters of {rows} rows apart; the nearest that does not is "
                f"{nearest}"
            )


ANY_ORDER = GridOrder()
"""An instance a block, the last dimension fastest."""
