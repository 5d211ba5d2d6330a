"""From text to a module whose every op and block argument knows its ``file:line:col``.

In: MLIR text. Out: a ``builtin.module``. A location written in the text (``loc("a.py":1:2)``) is kept; what has none
gets the place of its own first character, and an implicit terminator the place of the op that owns it::

    func.func @f(%a: i32) {     // loc("f.mlir":1:1), the argument loc("f.mlir":1:14)
      func.return               // loc("f.mlir":2:3)
    }

Whatever goes wrong becomes a :class:`CrosstileError` at the place in the text. xDSL's private parser interfaces are
overridden here and nowhere else.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from xdsl.context import Context
from xdsl.dialects.builtin import (
    UNKNOWN_LOC,
    FileLineColLoc,
    IntAttr,
    ModuleOp,
    StringAttr,
)
from xdsl.ir import BlockArgument, Operation, SSAValue
from xdsl.parser import Parser
from xdsl.utils.exceptions import (
    DiagnosticException,
    MultipleSpansParseError,
    ParseError,
    PyRDLError,
    UnregisteredConstructException,
)
from xdsl.utils.lexer import Span

from crosstile.ir.diagnostics import CrosstileError, Note


class LocationParser(Parser):
    """xDSL's parser, stamping locations. ``first_line`` is the line of the file at which ``text`` starts."""

    def __init__(self, context: Context, text: str, filename: str, first_line: int = 1):
        self._line_starts = [0, *(index + 1 for index, char in enumerate(text) if char == "\n")]
        self._filename = StringAttr(filename)
        self._first_line = first_line
        self.op_stack: list[str] = []
        super().__init__(context, text, filename)

    def location_at(self, position: int) -> FileLineColLoc:
        """The location of the character at ``position`` of the text."""
        line = bisect_right(self._line_starts, position) - 1
        column = position - self._line_starts[line] + 1
        return FileLineColLoc(self._filename, IntAttr(line + self._first_line), IntAttr(column))

    def parse_operation(self) -> Operation:
        """Parse an operation and stamp it, its nested implicit terminators included."""
        position = self.pos
        op = super().parse_operation()
        # Identity, not equality: an explicit ``loc(unknown)`` in the text is another object and is respected.
        if op.location is UNKNOWN_LOC:
            op.location = self.location_at(position)
        for region in op.regions:
            for block in region.blocks:
                last = block.last_op
                if last is not None and last.location is UNKNOWN_LOC:
                    last.location = op.location
        return op

    def _register_ssa_definition(self, name: str, values: Sequence[SSAValue], span: Span) -> None:
        for value in values:
            if isinstance(value, BlockArgument) and value.location is UNKNOWN_LOC:
                value.location = self.location_at(span.start)
        super()._register_ssa_definition(name, values, span)


def parse_module(text: str, filename: str, context: Context, first_line: int = 1) -> ModuleOp:
    """Parse ``text`` into a module (an implicit one if the text has none), without verifying it.

    ``filename`` is what locations and messages say; ``first_line`` is the line at which ``text`` starts in that file.
    Raises :class:`CrosstileError` with a location for everything that is wrong with the text.
    """
    try:
        parser = LocationParser(context, text, filename, first_line)
    except ParseError as error:
        raise _parse_error(error, filename, text, first_line) from error
    try:
        module = parser.parse_module()
    except ParseError as error:
        raise _parse_error(error, filename, text, first_line) from error
    except (DiagnosticException, UnregisteredConstructException, PyRDLError, ValueError) as error:
        raise CrosstileError(str(error), parser.location_at(parser.pos)) from error
    except RecursionError as error:
        raise CrosstileError("the program is nested too deeply", parser.location_at(parser.pos)) from error
    except CrosstileError:
        raise
    except Exception as error:
        message = f"internal error while parsing: {type(error).__name__}: {error}"
        raise CrosstileError(message, parser.location_at(parser.pos)) from error
    if module.location is UNKNOWN_LOC:
        module.location = parser.location_at(0)
    return module


def _parse_error(error: ParseError, filename: str, text: str, first_line: int) -> CrosstileError:
    def locate(span: Span[str] | Span[bytes]) -> FileLineColLoc:
        line_start = text.rfind("\n", 0, span.start) + 1
        line = text.count("\n", 0, line_start) + first_line
        return FileLineColLoc(StringAttr(filename), IntAttr(line), IntAttr(span.start - line_start + 1))

    notes: tuple[Note, ...] = ()
    if isinstance(error, MultipleSpansParseError):
        notes = tuple(Note(msg or error.ref_text or "see also here", locate(span)) for span, msg in error.refs)
    return CrosstileError(error.msg, locate(error.span), notes)
