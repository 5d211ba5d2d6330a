"""Errors a person can act on: where, what was found, which rule, what is legal instead.

Every error that a user can cause is a :class:`CrosstileError`; tools render it as ``file:line:col: error: ...`` with
the source line and a caret. A verifier raises xDSL's ``VerifyException``; the frame adds the operation's location.

A run of cached object code raises these errors without a compiler: xDSL is imported where a location is looked into.

What is worth saying but stops nothing goes through :func:`emit_warning` and :func:`emit_remark`; the tool that runs
decides where it appears.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ArrayAttr, FileLineColLoc, FusedLoc, LocationAttr
    from xdsl.ir import Operation


@dataclass(frozen=True)
class Note:
    """A remark attached to an error, with the location it speaks of."""

    message: str
    location: LocationAttr | None = None


class CrosstileError(Exception):
    """An error in a user's input: ``message`` says what was found and what is legal, ``location`` says where."""

    def __init__(self, message: str, location: LocationAttr | None = None, notes: tuple[Note, ...] = ()):
        super().__init__(message)
        self.message = message
        self.location = location
        self.notes = notes

    def __str__(self) -> str:
        """What a Python traceback shows: the place, the message and the notes."""
        lines = [location_text(self.location) + self.message]
        return "\n".join([*lines, *(f"{location_text(note.location)}note: {note.message}" for note in self.notes)])

    def with_note(self, message: str, location: LocationAttr | None = None) -> CrosstileError:
        """The same error with one more note at the end."""
        return CrosstileError(self.message, self.location, (*self.notes, Note(message, location)))


Severity = Literal["error", "warning", "remark"]


@dataclass(frozen=True)
class Diagnostic:
    """Something to tell the user: an error that was raised, or a warning or remark that stopped nothing."""

    severity: Severity
    message: str
    location: LocationAttr | None = None
    notes: tuple[Note, ...] = ()


def _to_stderr(diagnostic: Diagnostic) -> None:
    where = location_text(diagnostic.location)
    print(f"{where}{diagnostic.severity}: {diagnostic.message}", file=sys.stderr)


_handler: ContextVar[Callable[[Diagnostic], None]] = ContextVar("diagnostic_handler", default=_to_stderr)


@contextmanager
def handle_diagnostics(handler: Callable[[Diagnostic], None]) -> Generator[None]:
    """Inside the ``with`` statement warnings and remarks go to ``handler`` instead of standard error."""
    token = _handler.set(handler)
    try:
        yield
    finally:
        _handler.reset(token)


def emit_warning(op: Operation, message: str, *notes: Note) -> None:
    """Tell the user about something doubtful at ``op``."""
    _handler.get()(Diagnostic("warning", message, op.location, notes))


def emit_remark(op: Operation, message: str, *notes: Note) -> None:
    """Tell the user about a decision the compiler took at ``op``."""
    _handler.get()(Diagnostic("remark", message, op.location, notes))


def op_error(op: Operation, message: str, *notes: Note) -> CrosstileError:
    """An error located at ``op``, to be raised by the caller."""
    return CrosstileError(message, op.location, notes)


def fuse_locations(*locations: LocationAttr) -> LocationAttr:
    """The location of an operation made from several: unknown ones dropped, duplicates merged, order kept."""
    from xdsl.dialects.builtin import FusedLoc, NoneAttr, UnknownLoc

    flat: dict[LocationAttr, None] = {}
    for location in locations:
        parts = part_locations(location) if isinstance(location, FusedLoc) else (location,)
        flat.update(dict.fromkeys(part for part in parts if not isinstance(part, UnknownLoc)))
    if not flat:
        return UnknownLoc()
    if len(flat) == 1:
        return next(iter(flat))
    return FusedLoc(tuple(flat), NoneAttr())


def first_file_location(location: LocationAttr | None) -> FileLineColLoc | None:
    """The first ``file:line:col`` inside ``location``, or None."""
    if location is None:
        return None
    from xdsl.dialects.builtin import CallSiteLoc, FileLineColLoc, FusedLoc, NameLoc

    if isinstance(location, FileLineColLoc):
        return location
    inner: tuple[object, ...] = ()
    if isinstance(location, FusedLoc):
        inner = part_locations(location)
    elif isinstance(location, NameLoc):
        inner = (location.location,)
    elif isinstance(location, CallSiteLoc):
        inner = (location.callee, location.caller)
    for part in inner:
        if (found := first_file_location(cast("LocationAttr", part))) is not None:
            return found
    return None


def location_text(location: LocationAttr | None) -> str:
    """``file:line:col: `` of the first file location, or an empty string."""
    found = first_file_location(location)
    return "" if found is None else f"{found.filename.data}:{found.line.data}:{found.column.data}: "


def part_locations(location: FusedLoc) -> tuple[LocationAttr, ...]:
    """The locations that ``location`` was fused from."""
    return cast("ArrayAttr[LocationAttr]", location.locations).data


def fused_parts(location: LocationAttr | None) -> tuple[LocationAttr, ...]:
    """The locations that ``location`` was fused from, none if it is of another kind."""
    if location is None:
        return ()
    from xdsl.dialects.builtin import FusedLoc

    return part_locations(location) if isinstance(location, FusedLoc) else ()
