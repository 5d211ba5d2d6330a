"""Errors a person can act on: where, what was found, which rule, what is legal instead.

Every error that a user can cause is a :class:`CrosstileError`; tools render it as ``file:line:col: error: ...`` with
the source line and a caret. A verifier raises xDSL's ``VerifyException``; the frame adds the operation's location.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from xdsl.dialects.builtin import ArrayAttr, FileLineColLoc, FusedLoc, LocationAttr, NoneAttr, UnknownLoc
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

    def with_note(self, message: str, location: LocationAttr | None = None) -> CrosstileError:
        """The same error with one more note at the end."""
        return CrosstileError(self.message, self.location, (*self.notes, Note(message, location)))


def op_error(op: Operation, message: str, *notes: Note) -> CrosstileError:
    """An error located at ``op``, to be raised by the caller."""
    return CrosstileError(message, op.location, notes)


def fuse_locations(*locations: LocationAttr) -> LocationAttr:
    """The location of an operation made from several: unknown ones dropped, duplicates merged, order kept."""
    flat: dict[LocationAttr, None] = {}
    for location in locations:
        parts = _parts(location) if isinstance(location, FusedLoc) else (location,)
        flat.update(dict.fromkeys(part for part in parts if not isinstance(part, UnknownLoc)))
    if not flat:
        return UnknownLoc()
    if len(flat) == 1:
        return next(iter(flat))
    return FusedLoc(tuple(flat), NoneAttr())


def first_file_location(location: LocationAttr | None) -> FileLineColLoc | None:
    """The first ``file:line:col`` inside ``location``, or None."""
    if isinstance(location, FileLineColLoc):
        return location
    if isinstance(location, FusedLoc):
        for part in _parts(location):
            if (found := first_file_location(part)) is not None:
                return found
    return None


def _parts(location: FusedLoc) -> tuple[LocationAttr, ...]:
    return cast(ArrayAttr[LocationAttr], location.locations).data
