"""Who wrote what: which elements a run computed, and instances of a kernel that get in each other's way.

Every store of a kernel is recorded. Two instances of a ``tile.parallel`` that write the same element are an error,
because they run in any order. When only a sample of the instances is run, ``mask`` says which elements of an output
they computed, and an instance that reads what an instance left out would have written is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crosstile.dialects.element_types import Array, poison_of
from crosstile.dialects.interpreter import Abandoned
from crosstile.ir.diagnostics import CrosstileError


class NeedsMissing(Abandoned):
    """The instance reads memory that no instance of the sample has written."""


@dataclass
class _Record:
    array: Array
    """Kept alive, so that its id stays its own."""
    written: Array
    """Which elements were written, by any launch."""
    owner: Array
    """The instance of the current launch that wrote each element, 0 for none."""


@dataclass
class Coverage:
    """What one interpreter ran and wrote. ``sampled`` is true as soon as any instance was left out."""

    sampled: bool = False
    instances: int = 0
    instances_run: int = 0
    instances_dropped: int = 0
    instance: int = 0
    _records: dict[int, _Record] = field(default_factory=dict[int, _Record])

    def describe(self) -> str:
        """A sentence about what was run."""
        if not self.sampled:
            return f"all {self.instances} instances were run"
        dropped = f", {self.instances_dropped} of them dropped for missing inputs" if self.instances_dropped else ""
        return f"a sample of {self.instances_run} of {self.instances} instances was run{dropped}"

    def mask(self, array: Array) -> Array:
        """Which elements of ``array``, an argument of the run, were computed."""
        record = self._records.get(id(array))
        return np.zeros(array.shape, np.bool_) if record is None else record.written

    def begin_launch(self) -> None:
        """Forget who wrote what: launches follow one another."""
        for record in self._records.values():
            record.owner[...] = 0

    def drop_instance(self, instance: int) -> None:
        """Take back what ``instance`` wrote."""
        self.instances_dropped += 1
        for record in self._records.values():
            mine = record.owner == instance
            record.written[mine] = False
            record.array[mine] = poison_of(record.array.dtype)

    def record(
        self,
        array: Array,
        select: Callable[[Array], Array],
        describe: Callable[[], str],
        places: tuple[Any, ...] | None = None,
    ) -> None:
        """Note that the current instance wrote ``select(array)``.

        ``select`` takes any array of that shape; it gives a view, or else ``places`` is what to index with.
        """
        record = self._records.get(id(array))
        if record is None:
            written, owner = np.zeros(array.shape, np.bool_), np.zeros(array.shape, np.int32)
            record = self._records[id(array)] = _Record(array, written, owner)
        owner = select(record.owner)
        others = (owner != 0) & (owner != self.instance)
        if self.instance and others.any():
            raise CrosstileError(
                f"writes elements that instance {int(owner[others][0])} of the kernel writes too (this is instance "
                f"{self.instance}), of {describe()}; instances run in any order, so the result would depend on it"
            )
        for marks, value in ((record.owner, self.instance), (record.written, True)):
            if places is None:
                select(marks)[...] = value
            else:
                marks[places] = value

    def never_written(self, what: str) -> None:
        """Report a read of memory that nothing has written."""
        if self.sampled:
            raise NeedsMissing
        raise CrosstileError(f"reads elements that were never written, of {what}")
