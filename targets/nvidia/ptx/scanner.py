"""PTX text as tokens, with the line of each and the comments by line.

Level: text. In: PTX. Out: tokens of four kinds; a word keeps its dots (``ld.global.v4.b32``, ``%tid.x``, ``.reg``)::

    ld.shared::cta.b32 %r1, [%r2+16];   ->   word  word ,  [ word + number ] ;
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from crosstile.ir.diagnostics import CrosstileError


class PtxSyntaxError(CrosstileError):
    """The text is no PTX that the parser knows; the message gives the line."""

    def __init__(self, message: str, line: int):
        super().__init__(f"PTX line {line}: {message}")
        self.line = line
        self.reason = message


Kind = Literal["word", "number", "string", "mark", "end"]


@dataclass(frozen=True, slots=True)
class Token:
    """One token and the line it stands on, counted from 1."""

    kind: Kind
    text: str
    line: int


_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\f]+)
    |(?P<newline>\n)
    |(?P<comment>//[^\n]*)
    |(?P<block>/\*.*?\*/)
    |(?P<number>0[fF][0-9a-fA-F]{8}(?!\w)|0[dD][0-9a-fA-F]{16}(?!\w)|0[xX][0-9a-fA-F]+U?|0[bB][01]+U?
        |\d+\.\d*(?:[eE][+-]?\d+)?|\d+(?:[eE][+-]?\d+)|\d+U?(?![\w$]))
    |(?P<word>[%$_.A-Za-z][\w$]*(?:(?:\.|::)[\w$]+)*)
    |(?P<string>"(?:[^"\\]|\\.)*")
    |(?P<mark>[{}()\[\],;:@!|<>=+\-*/&^~])""",
    re.VERBOSE | re.DOTALL,
)


def scan(text: str) -> tuple[list[Token], dict[int, str]]:
    """The tokens of ``text``, an end token last, and the text of each ``//`` comment by line.

    Raises :class:`PtxSyntaxError` for a character that starts no token.
    """
    tokens: list[Token] = []
    comments: dict[int, str] = {}
    line, position = 1, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise PtxSyntaxError(f"unexpected character {text[position]!r}", line)
        kind, found = match.lastgroup, match.group()
        if kind == "newline":
            line += 1
        elif kind == "comment":
            comments[line] = found[2:].strip()
        elif kind == "block":
            line += found.count("\n")
        elif kind == "word" or kind == "number" or kind == "string" or kind == "mark":
            tokens.append(Token(kind, found, line))
        position = match.end()
    tokens.append(Token("end", "", line))
    return tokens, comments
