"""Bytes in registers: PTX has none of 8 bits, so each element of a vector of i8 is in a register of 16 bits.

ld.shared.b32 %r1, [...]          four neighbours are accessed as one word
mov.b32 {%h1, %h2}, %r1           and taken apart: halves, then the two bytes of each
and.b16 %h3, %h1, 255
shr.u16 %h4, %h1, 8
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import Float8E4M3FNType, Float8E5M2Type, VectorType, i8
from xdsl.ir import Attribute
from xdsl.utils.hints import isa

from crosstile.targets.nvidia.printing.registers import Text

BYTES = (i8, Float8E4M3FNType(), Float8E5M2Type())
"""Types of 8 bits; floats are bits."""


def is_bytes(type_: Attribute) -> bool:
    """Whether ``type_`` is a vector of a type of 8 bits."""
    return isa(type_, VectorType) and type_.element_type in BYTES


def split(words: Sequence[str], parts: Sequence[str], text: Text) -> None:
    """Take words of two or four bytes apart."""
    for word, group in _groups(words, parts):
        halves = [word]
        if len(group) == 4:
            halves = [text.register("h"), text.register("h")]
            text.line(f"mov.b32 {{{', '.join(halves)}}}, {word}")
        for half, (low, high) in zip(halves, zip(group[::2], group[1::2], strict=True), strict=True):
            text.line(f"and.b16 {low}, {half}, 255")
            text.line(f"shr.u16 {high}, {half}, 8")


def join(parts: Sequence[str], words: Sequence[str], text: Text) -> None:
    """Put words of two or four bytes together, whatever the upper halves of the bytes' registers hold."""
    for word, group in _groups(words, parts):
        halves = [word] if len(group) == 2 else [text.register("h"), text.register("h")]
        for half, (low, high) in zip(halves, zip(group[::2], group[1::2], strict=True), strict=True):
            upper, lower = text.register("h"), text.register("h")
            text.line(f"shl.b16 {upper}, {high}, 8")
            text.line(f"and.b16 {lower}, {low}, 255")
            text.line(f"or.b16 {half}, {upper}, {lower}")
        if len(group) == 4:
            text.line(f"mov.b32 {word}, {{{', '.join(halves)}}}")


def _groups(words: Sequence[str], parts: Sequence[str]) -> list[tuple[str, Sequence[str]]]:
    size = len(parts) // len(words)
    return [(word, parts[size * number : size * (number + 1)]) for number, word in enumerate(words)]
