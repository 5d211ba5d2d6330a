"""Diagnostics as people read them: where, what, the line of the source and a caret.

f.mlir:2:10: error: 'arith.addi' op operand is used with type i64, but has been defined with type i32
  %0 = arith.addi %a, %b : i64
       ^
f.mlir:1:14: note: defined here
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from crosstile.ir.diagnostics import CrosstileError, Diagnostic, first_file_location, fused_parts, location_text

if TYPE_CHECKING:
    from xdsl.dialects.builtin import LocationAttr

_MOST_FUSED_NOTES = 4
_LONGEST_LINE = 200


def error_diagnostic(error: CrosstileError) -> Diagnostic:
    """The diagnostic that ``error`` stands for."""
    return Diagnostic("error", error.message, error.location, error.notes)


def render(diagnostic: Diagnostic, sources: Mapping[str, str]) -> str:
    """The text of ``diagnostic`` with its notes, newline at the end.

    ``sources`` maps a file name, as locations spell it, to the text of that file; lines of other files are not shown.
    """
    lines = _render_one(diagnostic.severity, diagnostic.message, diagnostic.location, sources)
    for part in fused_parts(diagnostic.location)[1 : _MOST_FUSED_NOTES + 1]:
        lines += _render_one("note", "the operation was fused from one here", part, sources)
    for note in diagnostic.notes:
        lines += _render_one("note", note.message, note.location, sources)
    return "".join(line + "\n" for line in lines)


def _render_one(severity: str, message: str, location: LocationAttr | None, sources: Mapping[str, str]) -> list[str]:
    lines = [f"{location_text(location)}{severity}: {message}"]
    place = first_file_location(location)
    if place is None or place.filename.data not in sources:
        return lines
    source = sources[place.filename.data].split("\n")
    line, column = place.line.data, place.column.data
    if not 1 <= line <= len(source):
        return lines
    shown = source[line - 1].rstrip("\r")
    if len(shown) > _LONGEST_LINE:
        shown, column = _around(shown, column)
    before = shown[: column - 1]
    # A tab before the caret stays a tab, so that the caret stands below its character whatever a tab's width is.
    return [*lines, shown, "".join("\t" if char == "\t" else " " for char in before) + "^"]


def _around(line: str, column: int) -> tuple[str, int]:
    """The part of a very long line around ``column``, and the column there."""
    start = max(0, column - 1 - _LONGEST_LINE // 2)
    part = line[start : start + _LONGEST_LINE]
    prefix = "..." if start else ""
    suffix = "..." if start + _LONGEST_LINE < len(line) else ""
    return prefix + part + suffix, column - start + len(prefix)
