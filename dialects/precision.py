"""How precise a product must be: what a program allows its factors and sums to lose, at the ``nn`` and ``nest`` levels.

    %c = nn.matmul %a, %b accumulate f32 precision tf32 : tensor<?x?xf32>, tensor<?x?xf32>
    %c = nest.generic [...] combiner<add> accumulate f32 precision tf32 ins(...)

It is a permission and no request: a machine without such an instruction computes as if it were not there, and a result
that is closer to the exact one is right too. ``tf32`` is what Triton calls ``input_precision`` and XLA the algorithm
``dot_tf32_tf32_f32``: factors of f32 may be rounded, or cut off, to the 10 bits after the point that tf32 has; sums are
of f32. Without it, every product of f32 is an fma. ``fast_accumulation`` is for products of 8-bit floats, whose sums
may then keep 13 bits, as Hopper's tensor cores do: the fast accumulation mode of cuBLASLt, XLA's
``dot_any_f8_any_f8_f32_fast_accum``. Without it sums are those of f32.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import Float8E4M3FNType, Float8E5M2Type, StringAttr, f32
from xdsl.ir import Attribute
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

TF32 = "tf32"
"""Factors of f32 may be those of tf32."""
FAST_ACCUMULATION = "fast_accumulation"
"""Sums of products of 8-bit floats may keep 13 bits after the point."""
PRECISIONS: dict[str, tuple[Attribute, ...]] = {
    TF32: (f32,),
    FAST_ACCUMULATION: (Float8E4M3FNType(), Float8E5M2Type()),
}
"""Everything a product can say, and the types of the factors that it is for."""


def parse_precision(parser: Parser) -> StringAttr | None:
    """``precision tf32``, or nothing."""
    if parser.parse_optional_keyword("precision") is None:
        return None
    position = parser.pos
    word = parser.parse_identifier(" for what a product may lose")
    if word not in PRECISIONS:
        parser.raise_error(f"expected precision {' or '.join(PRECISIONS)}, found '{word}'", position, parser.pos)
    return StringAttr(word)


def print_precision(printer: Printer, precision: StringAttr | None) -> None:
    """What ``parse_precision`` reads, with a space before it."""
    if precision is not None:
        printer.print_string(f" precision {precision.data}")


def verify_precision(precision: StringAttr | None, factors: Sequence[Attribute], accumulator: Attribute | None) -> None:
    """Raise unless ``precision`` says something about products of ``factors`` summed in ``accumulator``."""
    if precision is None:
        return
    if precision.data not in PRECISIONS:
        raise VerifyException(f"expects precision {' or '.join(PRECISIONS)}, got '{precision.data}'")
    legal = PRECISIONS[precision.data]
    if accumulator != f32 or any(factor not in legal for factor in factors):
        listed = " and ".join(map(str, dict.fromkeys(factors))) or "nothing"
        raise VerifyException(
            f"precision {precision.data} is for factors of {' or '.join(map(str, legal))} that are summed in f32; "
            f"these are of {listed}, summed in {accumulator}"
        )
