"""From a module to text: custom or generic form, with or without locations.

What is long and returns in many types gets a name first, as ``mlir-opt`` gives one to each affine map::

    #layout = #mma.layout<tile(64, 256) warp(4:4096) register(32:8, 2:2048, 2:1) lane(8:256, 4:2)>
    #map = affine_map<(d0, d1) -> ((d1 floordiv 64), d0, (d1 mod 64))>
    builtin.module {
      ... !mma.fragment<64x256xf32, #layout> ... !mma.buffer<64x256xbf16, #map> ...
"""

from __future__ import annotations

from io import StringIO

from xdsl.context import Context
from xdsl.dialects.builtin import AffineMapAttr
from xdsl.ir import Attribute, BuiltinAttribute, Operation, TypeAttribute
from xdsl.printer import Printer

ALIAS = "alias"
"""A class of attributes with a member of this name is printed by a name that begins with it."""


class AliasPrinter(Printer):
    """A printer that names affine maps inside types of dialects, and attributes of classes with an ``ALIAS``."""

    def __init__(self, stream: StringIO, generic: bool, locations: bool):
        super().__init__(stream, print_generic_format=generic, print_debuginfo=locations)
        self.aliases: dict[Attribute, str] = {}
        self._counts: dict[str, int] = {}
        self._types = 0

    def print_attribute(self, attribute: Attribute) -> None:
        """The name of ``attribute`` if it has one, else its text."""
        prefix: str | None = getattr(attribute, ALIAS, None)
        if prefix is None and self._types and isinstance(attribute, AffineMapAttr):
            prefix = "map"
        if prefix is not None:
            self.print_string(self._name(attribute, prefix))
            return
        # Tensors and memrefs show their maps, as they do in xdsl-opt.
        depth = isinstance(attribute, TypeAttribute) and not isinstance(attribute, BuiltinAttribute)
        self._types += depth
        super().print_attribute(attribute)
        self._types -= depth

    def _name(self, attribute: Attribute, prefix: str) -> str:
        name = self.aliases.get(attribute)
        if name is None:
            count = self._counts.get(prefix, 0)
            self._counts[prefix] = count + 1
            name = self.aliases[attribute] = f"#{prefix}{count or ''}"
        return name


def print_module(
    op: Operation,
    generic: bool = False,
    locations: bool = False,
    context: Context | None = None,
    aliases: bool = True,
) -> str:
    """The text of ``op``, newline at the end, which parses back to an equal op.

    ``context`` is the one ``op`` was parsed in; the data of resources (``dense_resource<name>``) is there. Without
    ``aliases`` every layout and map stands where it is used.
    """
    stream = StringIO()
    if not aliases:
        printer = Printer(stream, print_generic_format=generic, print_debuginfo=locations)
    else:
        printer = AliasPrinter(stream, generic, locations)
    printer.print_op(op)
    if context is not None:
        printer.print_metadata(context.loaded_dialects)
    named = printer.aliases if isinstance(printer, AliasPrinter) else {}
    definitions = "".join(f"{name} = {attribute}\n" for attribute, name in named.items())
    return f"{definitions}{stream.getvalue()}\n"
