"""From a module to text: custom or generic form, with or without locations."""

from __future__ import annotations

from io import StringIO

from xdsl.ir import Operation
from xdsl.printer import Printer


def print_module(op: Operation, generic: bool = False, locations: bool = False) -> str:
    """The text of ``op``, newline at the end, which parses back to an equal op."""
    stream = StringIO()
    printer = Printer(stream, print_generic_format=generic, print_debuginfo=locations)
    printer.print_op(op)
    stream.write("\n")
    return stream.getvalue()
