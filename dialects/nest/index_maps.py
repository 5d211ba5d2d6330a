"""Affine maps written over named iterators: ``(h * 2 + r, c floordiv 4, 0)``.

In the IR they are builtin affine maps whose dimensions are the iterators in order; the names are theirs. Precedence and
operators are those of ``affine_map``: ``*``, ``floordiv``, ``ceildiv`` and ``mod`` by constants bind tighter than ``+``
and ``-``.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir.affine import (
    AffineBinaryOpExpr,
    AffineBinaryOpKind,
    AffineConstantExpr,
    AffineDimExpr,
    AffineExpr,
    AffineMap,
)
from xdsl.parser import AttrParser

RESERVED_WORDS = frozenset({"floordiv", "ceildiv", "mod", "and", "true"})
"""Words that an iterator cannot be called."""


def parse_index_map(parser: AttrParser, iterators: Sequence[str]) -> AffineMap:
    """Parse a parenthesised list of expressions over ``iterators``; an unknown name is an error that lists them."""
    results = parser.parse_comma_separated_list(parser.Delimiter.PAREN, lambda: _parse_sum(parser, iterators))
    return AffineMap(len(iterators), 0, tuple(results))


def index_map_text(map_: AffineMap, iterators: Sequence[str]) -> str:
    """The text that ``parse_index_map`` reads."""
    return f"({', '.join(expression_text(result, iterators) for result in map_.results)})"


def expression_text(expression: AffineExpr, iterators: Sequence[str], tight: bool = False) -> str:
    """The text of one expression, in parentheses if it is a sum and stands where a factor must (``tight``)."""
    match expression:
        case AffineConstantExpr():
            return str(expression.value)
        case AffineDimExpr():
            return iterators[expression.position]
        case AffineBinaryOpExpr():
            loose = expression.kind is AffineBinaryOpKind.Add
            left = expression_text(expression.lhs, iterators, tight=not loose)
            right = expression_text(expression.rhs, iterators)
            token = expression.kind.get_token()
            if isinstance(expression.rhs, AffineBinaryOpExpr) and not (loose and _is_product(expression.rhs)):
                # Operators of one precedence group from the left.
                right = f"({right})"
            elif loose and isinstance(expression.rhs, AffineConstantExpr) and expression.rhs.value < 0:
                token, right = "-", right[1:]
            text = f"{left} {token} {right}"
            return f"({text})" if tight and loose else text
        case _:
            raise ValueError(f"a nest's index maps have no symbols, got {expression}")


def _is_product(expression: AffineBinaryOpExpr) -> bool:
    return expression.kind is not AffineBinaryOpKind.Add


def _parse_sum(parser: AttrParser, iterators: Sequence[str]) -> AffineExpr:
    result = _parse_product(parser, iterators)
    while True:
        if parser.parse_optional_punctuation("+"):
            result = result + _parse_product(parser, iterators)
        elif parser.parse_optional_punctuation("-"):
            result = result - _parse_product(parser, iterators)
        else:
            return result


def _parse_product(parser: AttrParser, iterators: Sequence[str]) -> AffineExpr:
    result = _parse_primary(parser, iterators)
    while True:
        if parser.parse_optional_punctuation("*"):
            factor = _parse_primary(parser, iterators)
            if not isinstance(factor, AffineConstantExpr) and not isinstance(result, AffineConstantExpr):
                parser.raise_error("an index map multiplies by constants only")
            result = result * factor
        elif operator := parser.parse_optional_keyword_in(("floordiv", "ceildiv", "mod")):
            divisor = parser.parse_integer(allow_boolean=False, allow_negative=False)
            if divisor == 0:
                parser.raise_error(f"'{operator}' by zero")
            if operator == "floordiv":
                result = result // divisor
            else:
                result = result.ceil_div(divisor) if operator == "ceildiv" else result % divisor
        else:
            return result


def _parse_primary(parser: AttrParser, iterators: Sequence[str]) -> AffineExpr:
    if parser.parse_optional_punctuation("("):
        inner = _parse_sum(parser, iterators)
        parser.parse_punctuation(")")
        return inner
    if parser.parse_optional_punctuation("-"):
        return -_parse_primary(parser, iterators)
    position = parser.pos
    name = parser.parse_optional_identifier()
    if name is None:
        return AffineExpr.constant(parser.parse_integer(allow_boolean=False, context_msg=" or an iterator's name"))
    if name not in iterators:
        parser.raise_error(f"no iterator is called '{name}': expects one of {', '.join(iterators)}", position)
    return AffineExpr.dimension(iterators.index(name))
