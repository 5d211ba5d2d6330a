"""Memory as the interpreter holds it: an array (memref, buffer), a slot of a ring, or a view of one of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import Operation
from xdsl.ir.affine import AffineMap

from crosstile.dialects.element_types import Array
from crosstile.dialects.mma.access import LoadOp, StoreOp
from crosstile.dialects.mma.asynchrony import SlotHandle, Status
from crosstile.dialects.mma.kernel import integer_list
from crosstile.dialects.mma.place_meaning import Box, Elements, Rule, elements
from crosstile.dialects.mma.rings import CopyAsyncOp
from crosstile.targets.packing import PackedLayout


@dataclass(frozen=True)
class View:
    """Scratch under other coordinates: ``map`` takes those of the view, of ``shape``, to those of ``source``."""

    source: Any
    map: AffineMap
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Access:
    """What an operation that has a place keeps from run to run: its rule and how many operands are what."""

    rule: Rule
    indices: int
    extents: int

    def place(self, memory: Any, operands: Sequence[Any]) -> Elements | Box:
        """The place in ``memory``; ``operands`` begin with the indices, then the extents."""
        split = self.indices
        return elements(self.rule, shape_of(memory), operands[:split], operands[split : split + self.extents])


class Accesses(dict[Operation, Access]):
    """The accesses of a module by operation: reading an operation's properties costs more than a small load."""

    def of(self, op: LoadOp | StoreOp | CopyAsyncOp, shape: tuple[int, ...], clamp: Sequence[int] = ()) -> Access:
        """The access of ``op`` to a tile of ``shape``."""
        if (known := self.get(op)) is None:
            by = None if op.map is None else op.map.data
            rule = Rule(shape, by, tuple(integer_list(op.extent_dims)), op.clip is not None, tuple(clamp))
            known = self[op] = Access(rule, len(op.indices), len(op.extents))
        return known


class FilledBlocks(dict[int, tuple[Array, Array]]):
    """Packed memory with the zeros that fill its blocks, by the identity of the memory, which nothing writes to."""

    def of(self, memory: Array, layout: PackedLayout) -> Array:
        """``memory`` up to the end of its last blocks."""
        kept = self.get(id(memory))
        if kept is None or kept[0] is not memory:
            missing = [(0, -size % layout.block(dim)) for dim, size in enumerate(memory.shape)]
            kept = self[id(memory)] = memory, np.pad(memory, missing)
        return kept[1]


def shape_of(memory: Any) -> tuple[int, ...]:
    """The shape of memory."""
    if isinstance(memory, SlotHandle):
        return memory.slot.array.shape
    return memory.shape


def slot_of(memory: Any) -> SlotHandle | None:
    """The slot that ``memory`` is or shows, or None."""
    while isinstance(memory, View):
        memory = memory.source
    return memory if isinstance(memory, SlotHandle) else None


def located_read(memory: Any, place: Elements | Box, pad: Any = 0) -> Array:
    """The elements of a place; a slot must be readable."""
    memory, place = _underneath(memory, place)
    return place.read(memory.readable() if isinstance(memory, SlotHandle) else memory, pad)


def located_write(memory: Any, place: Elements | Box, values: Array) -> None:
    """Write the elements of a place; a slot must be acquired and not yet committed."""
    memory, place = _underneath(memory, place)
    if isinstance(memory, SlotHandle):
        memory = memory.check(Status.ACQUIRED, "writes").array
    place.write(memory, values)


def whole(operand: Any) -> Array:
    """A fragment, or all elements of scratch."""
    if isinstance(operand, SlotHandle):
        return operand.readable()
    if isinstance(operand, View):
        return located_read(operand, _all(operand))
    return operand


def contents(operand: Any) -> Array:
    """Like :func:`whole`, but whatever a slot holds by now: what hardware that runs on would read."""
    if not isinstance(operand, SlotHandle | View):
        return operand
    memory, place = _underneath(operand, _all(operand))
    return place.read(memory.slot.array if isinstance(memory, SlotHandle) else memory)


def _all(memory: Any) -> Elements | Box:
    shape = shape_of(memory)
    return elements(Rule(shape), shape, [0] * len(shape), ())


def _underneath(memory: Any, place: Elements | Box) -> tuple[Any, Elements | Box]:
    while isinstance(memory, View):
        general = place.general(memory.shape) if isinstance(place, Box) else place
        memory, place = memory.source, general.through(memory.map)
    return memory, place
