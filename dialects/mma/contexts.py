"""Cooperative contexts: roles that run one at a time and give way only where they have to wait.

Each role is a thread, but only the one that holds the baton runs, so a run is as deterministic as a single thread. A
role gives the baton on when the condition it waits for does not hold; when no role can go on, that is a deadlock::

    deadlock: role @load stands at mma.acquire (f.mlir:12), waiting for a free slot of ring %a; role @compute stands at
    mma.wait (f.mlir:30), waiting for a full slot of ring %b
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from xdsl.ir import Operation

from crosstile.ir.diagnostics import CrosstileError, Note, first_file_location


class _Abandoned(BaseException):
    """Ends the thread of a role because another has failed."""


@dataclass
class Context:
    """One role: its name, its thread's baton, and, while it waits, the condition, the operation and the reason."""

    name: str
    run: Callable[[], None]
    resumed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    ready: Callable[[], bool] | None = None
    stands_at: Operation | None = None
    waits_for: str = ""
    finished: bool = False
    error: BaseException | None = None


class Contexts:
    """Runs roles to their ends, each in turn as far as it gets; ``current`` is the one that holds the baton."""

    def __init__(self, bodies: Sequence[tuple[str, Callable[[], None]]]):
        self.contexts = [Context(name, run) for name, run in bodies]
        self.current: Context | None = None
        self._returned = threading.Semaphore(0)
        self._abandon = False

    def run(self) -> None:
        """Run all roles; raises what a role raises, or a CrosstileError that describes a deadlock."""
        threads = [threading.Thread(target=self._main, args=(context,), daemon=True) for context in self.contexts]
        for thread in threads:
            thread.start()
        failure: BaseException | None = None
        while failure is None and (living := [context for context in self.contexts if not context.finished]):
            able = [context for context in living if context.ready is None or context.ready()]
            if not able:
                failure = _deadlock(living)
                break
            for context in able:
                self._resume(context)
                failure = failure or context.error
        self._abandon = True
        for context in self.contexts:
            if not context.finished:
                self._resume(context)
        for thread in threads:
            thread.join()
        if failure is not None:
            raise failure

    def wait_until(self, ready: Callable[[], bool], op: Operation, waits_for: str) -> None:
        """Give the baton on until ``ready()``; called by the role that holds it."""
        context = self.current
        assert context is not None
        while not ready():
            context.ready, context.stands_at, context.waits_for = ready, op, waits_for
            self._returned.release()
            context.resumed.acquire()
            if self._abandon:
                raise _Abandoned
        context.ready = context.stands_at = None

    def _resume(self, context: Context) -> None:
        self.current = context
        context.resumed.release()
        self._returned.acquire()
        self.current = None

    def _main(self, context: Context) -> None:
        context.resumed.acquire()
        try:
            if not self._abandon:
                with np.errstate(all="ignore"):
                    context.run()
        except _Abandoned:
            pass
        except BaseException as error:
            context.error = error
        context.finished = True
        self._returned.release()


def _deadlock(contexts: Sequence[Context]) -> CrosstileError:
    stands = "; ".join(
        f"{context.name} stands at {where(context.stands_at)}, waiting for {context.waits_for}" for context in contexts
    )
    first = contexts[0].stands_at
    notes = tuple(
        Note(f"{context.name} waits here", context.stands_at.location)
        for context in contexts[1:]
        if context.stands_at is not None
    )
    return CrosstileError(f"deadlock: {stands}", None if first is None else first.location, notes)


def where(op: Operation | None) -> str:
    """An operation with its place in the file, for messages."""
    if op is None:
        return "its start"
    place = first_file_location(op.location)
    return op.name if place is None else f"{op.name} (line {place.line.data})"
