"""The context every tool parses in: all dialects registered, none loaded until its first op, type or attribute."""

from __future__ import annotations

from xdsl.context import Context

from crosstile.ir.registry import dialect_factories


def make_context(allow_unregistered: bool = False) -> Context:
    """A context that knows every dialect of crosstile and of xDSL.

    ``allow_unregistered`` makes ops, types and attributes of unknown dialects legal in generic form.
    """
    context = Context(allow_unregistered=allow_unregistered)
    for name, factory in dialect_factories().items():
        context.register_dialect(name, factory)
    return context
