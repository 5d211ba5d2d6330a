"""From a module to text: custom or generic form, with or without locations."""

from __future__ import annotations

from io import StringIO

from xdsl.context import Context
from xdsl.ir import Operation
from xdsl.printer import Printer


def print_module(op: Operation, generic: bool = False, locations: bool = False, context: Context | None = None) -> str:
    """The text of ``op``, newline at the end, which parses back to an equal op.

    ``context`` is the one ``op`` was parsed in; the data of resources (``dense_resource<name>``) is there.
    """
    stream = StringIO()
    printer = Printer(stream, print_generic_format=generic, print_debuginfo=locations)
    printer.print_op(op)
    if context is not None:
        printer.print_metadata(context.loaded_dialects)
    stream.write("\n")
    return stream.getvalue()
