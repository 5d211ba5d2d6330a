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

import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from xdsl.context import Context
from xdsl.dialects.builtin import (
    UNKNOWN_LOC,
    AnyFloat,
    ComplexType,
    FileLineColLoc,
    IndexType,
    IntAttr,
    IntegerType,
    ModuleOp,
    StringAttr,
)
from xdsl.ir import AttributeInvT, BlockArgument, Operation, SSAValue
from xdsl.parser import AttrParser, Parser, UnresolvedOperand
from xdsl.utils.exceptions import (
    DiagnosticException,
    MultipleSpansParseError,
    ParseError,
    PyRDLError,
    UnregisteredConstructException,
)
from xdsl.utils.lexer import Span
from xdsl.utils.mlir_lexer import MLIRLexer, MLIRTokenKind

from crosstile.ir.diagnostics import CrosstileError, Note
from crosstile.ir.registry import did_you_mean


class DenseElement(Parser._TensorLiteralElement):  # pyright: ignore[reportPrivateUsage]
    """An element of ``dense<...>``, where a float in hexadecimal is its bits; xDSL prints and misreads those."""

    def to_type(self, parser: AttrParser, type: AnyFloat | IntegerType | IndexType | ComplexType) -> Any:
        """The element as a value of ``type``."""
        if isinstance(type, AnyFloat) and self.span.text.startswith("0x"):
            bits = int(self.span.text, 16)
            if bits >> (8 * type.compile_time_size):
                parser.raise_error(f"{self.span.text} has more bits than {type}", self.span)
            return type.unpack(bits.to_bytes(type.compile_time_size, "little"), 1)[0]
        return super().to_type(parser, type)


# xDSL's pattern for string literals takes exponential time on a quote that is never closed; this one is linear and
# matches the same strings.
_STRING = re.compile(r'"(?:[^"\\\n\v\f]|\\(?:["nt\\]|[0-9A-Fa-f]{2}))*"')
setattr(MLIRLexer, "_unescaped_characters_regex", _STRING)  # noqa: B010 - the attribute is private


class LocationParser(Parser):
    """xDSL's parser, stamping locations. ``first_line`` is the line of the file at which ``text`` starts."""

    _TensorLiteralElement = DenseElement

    def __init__(self, context: Context, text: str, filename: str, first_line: int = 1):
        self._line_starts = [0, *(index + 1 for index, char in enumerate(text) if char == "\n")]
        self._filename = StringAttr(filename)
        self._first_line = first_line
        self._first_uses: dict[str, Span] = {}
        self.operation_position = 0
        self.operation_name = ""
        super().__init__(context, text, filename)

    def location_at(self, position: int) -> FileLineColLoc:
        """The location of the character at ``position`` of the text."""
        line = bisect_right(self._line_starts, position) - 1
        column = position - self._line_starts[line] + 1
        return FileLineColLoc(self._filename, IntAttr(line + self._first_line), IntAttr(column))

    def parse_operation(self) -> Operation:
        """Parse an operation and stamp it, its nested implicit terminators included."""
        position = self.operation_position = self.pos
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

    def resolve_operand(self, operand: UnresolvedOperand, type: AttributeInvT) -> SSAValue[AttributeInvT]:
        """Resolve an operand, remembering where a value that is not defined yet was used first."""
        if operand.operand_name not in self.ssa_values:
            self._first_uses.setdefault(operand.operand_name, operand.span)
        return super().resolve_operand(operand, type)

    def raise_if_undefined(self) -> None:
        """Raise for a value that was used and never defined, at its first use."""
        for name in self.forward_ssa_references:
            if name in self._first_uses:
                self.raise_error(f"use of undefined value %{name}", self._first_uses[name])

    def at_end(self) -> bool:
        """Whether the whole text has been parsed."""
        return self._current_token.kind == MLIRTokenKind.EOF

    def _last_span_of(self, name: str) -> Span:
        """Where ``name``, which was consumed already, stands in the text before the current token."""
        start = max(0, self.lexer.input.content.rfind(name, 0, self.pos))
        return Span(start, start + len(name), self.lexer.input)

    def raise_improved(self, error: ParseError) -> None:
        """Raise what ``error`` should have said; returns if it says it well already."""
        if error.msg.startswith("values used but not defined"):
            self.raise_if_undefined()
        if isinstance(error, MultipleSpansParseError) and error.msg.startswith("region ends with missing block"):
            span, _ = error.refs[0]
            self.raise_error(f"use of undefined block {span.text}", span.start)
        if error.msg == " in block definition":
            self.raise_error("expected an operation, a block label or '}' here", error.span.start)
        if error.msg == "Could not parse entire input!" and not self.at_end():
            self.raise_error("expected an operation here")
        if (found := re.fullmatch(r"'([^']+)' is not registered", error.msg)) is not None:
            name = found.group(1)
            self.raise_error(_unknown_attribute(name, self.ctx), self._last_span_of(name))

    def _get_op_by_name(self, name: str) -> type[Operation]:
        found = self.ctx.get_optional_op(name, dialect_stack=self._parser_state.dialect_stack)
        if found is None:
            self.raise_error(_unknown_operation(name, self.ctx), self._last_span_of(name))
        self.operation_name = found.name
        return found

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
    if parser.at_end():
        module = ModuleOp([])
        module.location = parser.location_at(0)
        return module
    try:
        module = _parse(parser)
    except ParseError as error:
        raise _parse_error(error, filename, text, first_line) from error
    except (DiagnosticException, UnregisteredConstructException, PyRDLError, ValueError) as error:
        message = str(error)
        if parser.operation_name and parser.operation_name not in message:
            message = f"'{parser.operation_name}' op {message}"
        raise CrosstileError(message, parser.location_at(parser.operation_position)) from error
    except RecursionError as error:
        raise CrosstileError("the program is nested too deeply", parser.location_at(parser.pos)) from error
    except CrosstileError:
        raise
    except Exception as error:
        message = f"internal error while parsing: {type(error).__name__}: {error}"
        raise CrosstileError(message, parser.location_at(parser.operation_position)) from error
    if module.location is UNKNOWN_LOC:
        module.location = parser.location_at(0)
    return module


def _parse(parser: LocationParser) -> ModuleOp:
    try:
        return parser.parse_module()
    except ParseError as error:
        if error.msg == "Could not parse entire input!" and parser.at_end():
            # Nothing but aliases: an empty module, as for mlir-opt.
            return ModuleOp([])
        parser.raise_improved(error)
        raise


def _unknown_operation(name: str, context: Context) -> str:
    """What is wrong with the name of an operation, and the nearest that exists."""
    dialect_name, _, _ = name.partition(".")
    known = list(context.registered_dialect_names)
    if "." not in name:
        names = sorted(op.name for op in context.loaded_ops if op.name.endswith(f".{name}"))
        hint = f"; did you mean {' or '.join(map(repr, names[:3]))}?" if names else ""
        return f"unknown operation '{name}'{hint}"
    dialect = context.get_optional_dialect(dialect_name)
    if dialect is None:
        return f"unknown dialect '{dialect_name}' of operation '{name}'{did_you_mean(dialect_name, known)}"
    return f"unknown operation '{name}'{did_you_mean(name, [op.name for op in dialect.operations])}"


def _unknown_attribute(name: str, context: Context) -> str:
    """What is wrong with the name of a type or attribute, and the nearest that exists."""
    dialect_name, _, _ = name.partition(".")
    dialect = context.get_optional_dialect(dialect_name) if "." in name else None
    if dialect is None:
        known = list(context.registered_dialect_names)
        return f"unknown dialect '{dialect_name}' of type or attribute '{name}'{did_you_mean(dialect_name, known)}"
    return f"unknown type or attribute '{name}'{did_you_mean(name, [known.name for known in dialect.attributes])}"


def _parse_error(error: ParseError, filename: str, text: str, first_line: int) -> CrosstileError:
    def locate(span: Span[str] | Span[bytes]) -> FileLineColLoc:
        line_start = text.rfind("\n", 0, span.start) + 1
        line = text.count("\n", 0, line_start) + first_line
        return FileLineColLoc(StringAttr(filename), IntAttr(line), IntAttr(span.start - line_start + 1))

    notes: tuple[Note, ...] = ()
    if isinstance(error, MultipleSpansParseError):
        notes = tuple(Note(msg or error.ref_text or "see also here", locate(span)) for span, msg in error.refs)
    message = error.msg.replace("{first_char}", repr(text[error.span.start : error.span.start + 1]))  # xDSL's own slip
    return CrosstileError(message, locate(error.span), notes)
