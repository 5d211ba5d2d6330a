"""The machine that makes missing synchronisation visible: rings, commit groups and products in flight.

Everything asynchronous happens as late as the program allows: a copy reads its source and writes its slot only when a
wait that covers it is executed, a product reads its operands only when an await covers it. Until then the target is
poison (NaN), and so is a slot from the moment it is released. What the hardware would let happen sometimes happens
here always::

    mma.copy_async ... to %s        slot 2 is poison, the copy is listed in it
    mma.commit %s                   slot 2 is full once group 5 has arrived
    %t = mma.wait %ring             group 5 arrives now; a wait that does not cover it leaves poison

A slot goes round free -> acquired -> committed -> readable -> released -> free. In the ``groups`` protocol, in a
program of several warps, two of these steps need an ``mma.barrier``: readable by all, and free for all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from xdsl.ir import Operation, SSAValue

from crosstile.dialects.element_types import Array, dtype_of, poison, poisoned
from crosstile.dialects.mma.contexts import Contexts, where
from crosstile.dialects.mma.types import GROUPS, RingType
from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.model import MmaIntrinsic

Copy = Callable[[], None]
"""A copy that has been issued: calling it moves the data."""


class Status(Enum):
    """Where a slot is on its way round."""

    FREE = "free"
    ACQUIRED = "acquired and not committed"
    COMMITTED = "committed and not waited for"
    READABLE = "waited for and not released"
    RELEASED = "released, with no mma.barrier since"


@dataclass
class Slot:
    """One slot of a ring. ``turn`` counts how often it has been acquired; ``visible``: to all warps."""

    array: Array
    status: Status = Status.FREE
    turn: int = 0
    visible: bool = False
    copies: list[Copy] = field(default_factory=lambda: list[Copy]())


class Ring:
    """A ring at run time. Counters say how many slots were acquired, committed, waited for and released so far."""

    def __init__(self, type_: RingType, value: SSAValue):
        self.name = f"%{value.name_hint}" if value.name_hint else "of this type"
        self.groups = type_.protocol.data == GROUPS
        dtype = dtype_of(type_.element_type)
        self.slots = [Slot(poisoned(type_.get_shape(), dtype)) for _ in range(type_.depth.data)]
        self.acquired = self.committed = self.waited = self.released = 0

    def slot(self, count: int) -> Slot:
        """The slot whose turn is number ``count``."""
        return self.slots[count % len(self.slots)]


@dataclass(frozen=True)
class SlotHandle:
    """What an SSA value of slot type is: a slot of a ring in one of its turns, number ``count`` of the ring."""

    ring: Ring
    count: int
    turn: int

    @property
    def slot(self) -> Slot:
        """The slot."""
        return self.ring.slot(self.count)

    def check(self, status: Status, verb: str) -> Slot:
        """The slot, which must still be in this turn and have ``status``."""
        slot = self.slot
        found = slot.status.value if slot.turn == self.turn else "released and acquired again"
        if slot.turn != self.turn or slot.status is not status:
            raise CrosstileError(
                f"{verb} a slot of ring {self.ring.name} that is {found}; it must be {status.value.split(' and ')[0]}"
            )
        return slot

    def readable(self) -> Array:
        """The slot's elements for reading, by all warps of the program."""
        slot = self.check(Status.READABLE, "reads")
        if not slot.visible:
            raise CrosstileError(
                f"reads a slot of ring {self.ring.name} whose copies only the warps that issued them have waited for; "
                "mma.barrier must stand between mma.wait and the first read"
            )
        return slot.array


@dataclass
class Product:
    """A product in flight. ``operands`` give the factors when asked; ``accumulator`` is a fragment or a product."""

    op: Operation
    intrinsic: MmaIntrinsic
    operands: Callable[[], tuple[Array, Array]]
    accumulator: Array | Product
    reads: tuple[SlotHandle, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    result: Array | None = None

    def complete(self) -> None:
        """Compute it from what the operands hold now."""
        from crosstile.targets.execute import execute

        start = self.accumulator
        if isinstance(start, Product):
            assert start.result is not None
            start = start.result
        self.result = execute(self.intrinsic, *self.operands(), start)

    def value(self) -> Array:
        """What the registers hold: the result, or poison while the product runs."""
        return poisoned(self.shape, self.dtype) if self.result is None else self.result


class Program:
    """What one program, or one role, has in flight: commit groups and products, each in order of issue."""

    def __init__(self, name: str, warps: int):
        self.name = name
        self.warps = warps
        self.groups: list[list[Copy]] = []
        self.products: list[Product] = []
        self.touched: dict[int, Ring] = {}

    def complete_groups(self, in_flight: int) -> None:
        """All but the youngest ``in_flight`` commit groups arrive."""
        arriving = max(0, len(self.groups) - in_flight)
        for group in self.groups[:arriving]:
            for copy in group:
                copy()
        del self.groups[:arriving]

    def complete_products(self, in_flight: int) -> None:
        """All but the youngest ``in_flight`` products complete."""
        finishing = max(0, len(self.products) - in_flight)
        for product in self.products[:finishing]:
            product.complete()
        del self.products[:finishing]

    def barrier(self) -> None:
        """What warps have waited for becomes visible to all, what they have released is free."""
        for ring in self.touched.values():
            for slot in ring.slots:
                slot.visible = slot.visible or slot.status is Status.READABLE
                if slot.status is Status.RELEASED:
                    slot.status = Status.FREE

    def check_end(self) -> None:
        """Nothing is left in flight."""
        if self.products:
            raise CrosstileError(
                f"{self.name} ends while {where(self.products[0].op)} is still pending; mma.await must cover it"
            )


class Machine:
    """The state of one kernel in the interpreter: the program that runs now, its rings, the contexts of its roles."""

    def __init__(self) -> None:
        self.program = Program("the program", 1)
        self.rings: list[Ring] = []
        self.contexts: Contexts | None = None
        self.programs: dict[str, Program] = {}

    def start(self, warps: int) -> None:
        """Begin an instance of a program."""
        self.program = Program("the program", warps)
        self.rings = []

    def running(self) -> Program:
        """The program, or the role, that executes the current operation."""
        if self.contexts is not None and self.contexts.current is not None:
            return self.programs[self.contexts.current.name]
        return self.program

    def finish(self) -> None:
        """End an instance: nothing may be in flight, and every slot must be back."""
        self.program.check_end()
        for ring in self.rings:
            for number, slot in enumerate(ring.slots):
                if slot.status not in (Status.FREE, Status.RELEASED):
                    raise CrosstileError(
                        f"the program ends while slot {number} of ring {ring.name} is {slot.status.value}; every slot "
                        "that is acquired must be committed, waited for and released"
                    )
        self.rings = []

    def block_until(self, ready: Callable[[], bool], op: Operation, waits_for: str) -> None:
        """Let other roles run until ``ready()``; a deadlock if there is no other."""
        if ready():
            return
        if self.contexts is None or self.contexts.current is None:
            raise CrosstileError(f"deadlock: the program stands here alone, waiting for {waits_for}")
        self.contexts.wait_until(ready, op, waits_for)

    # Rings

    def acquire(self, ring: Ring, op: Operation) -> SlotHandle:
        """The next slot of ``ring``, for writing; it is poison."""
        program = self.running()
        program.touched[id(ring)] = ring
        slot = ring.slot(ring.acquired)
        if ring.groups and slot.status is Status.RELEASED:
            raise CrosstileError(
                f"acquires a slot of ring {ring.name} that other warps may still be reading; mma.barrier must stand "
                "between its mma.release and this"
            )
        self.block_until(lambda: slot.status is Status.FREE, op, f"a free slot of ring {ring.name}")
        slot.status, slot.turn, slot.visible = Status.ACQUIRED, slot.turn + 1, False
        slot.copies = []
        poison(slot.array)
        ring.acquired += 1
        return SlotHandle(ring, ring.acquired - 1, slot.turn)

    def commit(self, handles: list[SlotHandle]) -> None:
        """The slots are full once the copies of this group have arrived."""
        copies: list[Copy] = []
        for handle in handles:
            slot = handle.check(Status.ACQUIRED, "commits")
            if handle.count != handle.ring.committed:
                raise CrosstileError(f"commits a slot of ring {handle.ring.name} before one that was acquired earlier")
            handle.ring.committed += 1
            slot.status = Status.COMMITTED
            if handle.ring.groups:
                copies += slot.copies
        if not handles or any(handle.ring.groups for handle in handles):
            self.running().groups.append(copies)

    def wait(self, rings: list[Ring], in_flight: int, op: Operation) -> list[SlotHandle]:
        """The oldest full slot of each ring."""
        program = self.running()
        handles: list[SlotHandle] = []
        if rings[0].groups:
            program.complete_groups(in_flight)
        for ring in rings:
            program.touched[id(ring)] = ring
            slot = ring.slot(ring.waited)
            self.block_until(lambda s=slot: s.status is Status.COMMITTED, op, f"a full slot of ring {ring.name}")
            if not ring.groups:
                for copy in slot.copies:
                    copy()
            slot.status = Status.READABLE
            slot.visible = not ring.groups or program.warps == 1
            ring.waited += 1
            handles.append(SlotHandle(ring, ring.waited - 1, slot.turn))
        return handles

    def release(self, handle: SlotHandle) -> None:
        """The slot may be overwritten from now on, so it is poison."""
        slot = handle.check(Status.READABLE, "releases")
        if handle.count != handle.ring.released:
            raise CrosstileError(f"releases a slot of ring {handle.ring.name} before one that was waited for earlier")
        program = self.running()
        for product in program.products:
            if handle in product.reads:
                raise CrosstileError(
                    f"releases a slot of ring {handle.ring.name} that {where(product.op)} may still be reading"
                )
        handle.ring.released += 1
        slot.status = Status.RELEASED if handle.ring.groups and program.warps > 1 else Status.FREE
        poison(slot.array)
