"""``--verify-diagnostics``: the diagnostics a file provokes against those its comments expect, as in mlir-opt.

    // expected-error @+1 {{operand has type i64}}
    %0 = arith.addi %a, %b : i64     // expected-note {{see here}}

``error``, ``warning``, ``remark`` and ``note`` may be expected on the same line, on ``@+N`` or ``@-N`` lines from it,
on the line ``@above`` or ``@below`` that has no such comment itself, or ``@unknown``. The text must occur in the
message; with ``-re`` regular expressions may stand in it between double braces. What is expected and does not come is
an error, and so is what comes and was not expected.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from xdsl.dialects.builtin import FileLineColLoc, LocationAttr, StringAttr
from xdsl.dialects.builtin import IntAttr as _IntAttr

from crosstile.ir.diagnostics import CrosstileError, Diagnostic, first_file_location

_EXPECTED = re.compile(
    r"expected-(?P<severity>error|note|remark|warning)(?P<regex>-re)?[ \t]*"
    r"(?:@(?P<place>[+-][0-9]+|above|below|unknown))?[ \t]*\{\{(?P<text>.*)\}\}[ \t]*$"
)
_STARTED = re.compile(r"//.*expected-(error|note|remark|warning)\b")


@dataclass
class _Expectation:
    severity: str
    line: int | None
    pattern: re.Pattern[str]
    text: str
    written_at: int
    met: bool = False


def compare_diagnostics(filename: str, text: str, diagnostics: list[Diagnostic]) -> list[CrosstileError]:
    """What differs between ``diagnostics`` (notes included) and the expectations in ``text``; empty if nothing does."""
    expectations, failures = _expectations(filename, text)
    for diagnostic in diagnostics:
        produced = [(str(diagnostic.severity), diagnostic.message, diagnostic.location)]
        produced += [("note", note.message, note.location or diagnostic.location) for note in diagnostic.notes]
        for severity, message, location in produced:
            failures += _meet(expectations, severity, message, location)
    for expectation in expectations:
        if not expectation.met:
            message = f'expected {expectation.severity} "{expectation.text}" was not produced'
            failures.append(CrosstileError(message, _location(filename, expectation.written_at)))
    return failures


def _meet(
    expectations: list[_Expectation], severity: str, message: str, location: LocationAttr | None
) -> list[CrosstileError]:
    place = first_file_location(location)
    line = None if place is None else place.line.data
    nearest: _Expectation | None = None
    for expectation in expectations:
        if expectation.line != line or not expectation.pattern.search(message):
            continue
        if expectation.severity == severity:
            expectation.met = True
            return []
        nearest = expectation
    hint = "" if nearest is None else f" (a {nearest.severity} with this text was expected)"
    return [CrosstileError(f"unexpected {severity}: {message}{hint}", location)]


def _expectations(filename: str, text: str) -> tuple[list[_Expectation], list[CrosstileError]]:
    expectations: list[_Expectation] = []
    failures: list[CrosstileError] = []
    waiting: list[_Expectation] = []
    last_plain_line = 0
    for number, line in enumerate(text.split("\n"), start=1):
        found = _EXPECTED.search(line.rstrip("\r"))
        if found is None:
            if _STARTED.search(line):
                message = "malformed expectation; the form is: // expected-error @+1 {{text}}"
                failures.append(CrosstileError(message, _location(filename, number)))
            for expectation in waiting:
                expectation.line = number
            waiting, last_plain_line = [], number
            continue
        try:
            pattern = re.compile(_pattern(found["text"], found["regex"] is not None), re.DOTALL)
        except re.error as error:
            failures.append(CrosstileError(f"bad regular expression: {error}", _location(filename, number)))
            continue
        expectation = _Expectation(found["severity"], number, pattern, found["text"], number)
        place = found["place"] or ""
        if place == "above":
            expectation.line = last_plain_line
        elif place == "below":
            waiting.append(expectation)
        elif place == "unknown":
            expectation.line = None
        elif place:
            expectation.line = number + int(place)
        expectations.append(expectation)
    return expectations, failures


def _pattern(text: str, regex: bool) -> str:
    """With ``-re`` the text is literal except for what stands in double braces, as in FileCheck."""
    if not regex:
        return re.escape(text)
    pieces = re.split(r"\{\{(.*?)\}\}", text)
    return "".join(f"(?:{piece})" if index % 2 else re.escape(piece) for index, piece in enumerate(pieces))


def _location(filename: str, line: int) -> FileLineColLoc:
    return FileLineColLoc(StringAttr(filename), _IntAttr(line), _IntAttr(1))
