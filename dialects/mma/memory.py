"""Memory as the interpreter holds it: an array (memref, buffer), a slot of a ring, or a view of one of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xdsl.ir.affine import AffineMap

from crosstile.dialects.element_types import Array
from crosstile.dialects.mma.asynchrony import SlotHandle, Status
from crosstile.dialects.mma.place_meaning import Elements, elements


@dataclass(frozen=True)
class View:
    """Scratch under other coordinates: ``map`` takes those of the view, of ``shape``, to those of ``source``."""

    source: Any
    map: AffineMap
    shape: tuple[int, ...]


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


def located_read(memory: Any, place: Elements, pad: Any = 0) -> Array:
    """The elements of a place; a slot must be readable."""
    memory, place = _underneath(memory, place)
    return place.read(memory.readable() if isinstance(memory, SlotHandle) else memory, pad)


def located_write(memory: Any, place: Elements, values: Array) -> None:
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
    memory, place = _underneath(operand, _all(operand))
    return place.read(memory.slot.array if isinstance(memory, SlotHandle) else memory)


def _all(memory: Any) -> Elements:
    shape = shape_of(memory)
    return elements(shape, shape, [0] * len(shape))


def _underneath(memory: Any, place: Elements) -> tuple[Any, Elements]:
    while isinstance(memory, View):
        memory, place = memory.source, place.through(memory.map)
    return memory, place
