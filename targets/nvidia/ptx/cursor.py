"""A place in a list of tokens, and the few ways to move it.

Level: text. In: the tokens of PTX. Out: the next token, checked; errors name the line.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from crosstile.targets.nvidia.ptx.module import Immediate
from crosstile.targets.nvidia.ptx.scanner import PtxSyntaxError, Token


def number(text: str) -> Immediate:
    """The constant that a number token spells."""
    head = text[:2].lower()
    if head == "0f":
        return Immediate(int(text[2:], 16), "f32")
    if head == "0d":
        return Immediate(int(text[2:], 16), "f64")
    if head not in ("0x", "0b") and ("." in text or "e" in text.lower()):
        return Immediate(struct.unpack("<Q", struct.pack("<d", float(text)))[0], "f64")
    digits = text.rstrip("U")
    if len(digits) > 1 and digits.startswith("0") and digits.isdigit():
        return Immediate(int(digits, 8))
    return Immediate(int(digits, 0))


class Cursor:
    """Reads tokens one after another; the last is an end token."""

    def __init__(self, tokens: Sequence[Token]):
        self.tokens: Sequence[Token] = tokens
        self.position: int = 0

    def peek(self, ahead: int = 0) -> Token:
        """The token ``ahead`` of the next one, without taking it."""
        return self.tokens[min(self.position + ahead, len(self.tokens) - 1)]

    def take(self) -> Token:
        """The next token. Raises at the end of the text."""
        token = self.tokens[self.position]
        if token.kind == "end":
            raise PtxSyntaxError("the text ends in the middle of a statement", token.line)
        self.position += 1
        return token

    def expect(self, text: str) -> Token:
        """Takes the next token, which must be ``text``."""
        token = self.take()
        if token.text != text:
            raise PtxSyntaxError(f"expected '{text}', found '{token.text}'", token.line)
        return token

    def accept(self, text: str) -> bool:
        """Takes the next token if it is ``text`` and says whether it was."""
        if self.peek().text == text and self.peek().kind != "end":
            self.position += 1
            return True
        return False

    def rest_of_line(self) -> list[Token]:
        """All further tokens on the line of the last one."""
        line, found = self.peek(-1).line, list[Token]()
        while self.peek().line == line and self.peek().kind != "end":
            found.append(self.take())
        return found

    def integer(self) -> int:
        """Takes an integer with an optional sign."""
        negative = self.accept("-")
        token = self.take()
        if token.kind != "number" or (value := number(token.text)).kind != "integer":
            raise PtxSyntaxError(f"expected an integer, found '{token.text}'", token.line)
        return -value.value if negative else value.value
