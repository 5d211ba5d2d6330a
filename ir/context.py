"""The context every tool parses in: all dialects registered, none loaded until its first op, type or attribute."""

from __future__ import annotations

from collections.abc import Callable

from xdsl.context import Context
from xdsl.dialect_interfaces.op_asm import OpAsmDialectInterface
from xdsl.ir import Dialect

from crosstile.ir.registry import dialect_factories


def make_context(allow_unregistered: bool = False) -> Context:
    """A context that knows every dialect of crosstile and of xDSL.

    ``allow_unregistered`` makes ops, types and attributes of unknown dialects legal in generic form.
    """
    context = Context(allow_unregistered=allow_unregistered)
    for name, factory in dialect_factories().items():
        context.register_dialect(name, _with_own_resources(factory))
    return context


def _with_own_resources(factory: Callable[[], Dialect]) -> Callable[[], Dialect]:
    """xDSL keeps the resources of all modules of a process in the dialect; here they belong to the context."""

    def make() -> Dialect:
        dialect = factory()
        if not dialect.has_interface(OpAsmDialectInterface):
            return dialect
        return Dialect(dialect.name, list(dialect.operations), list(dialect.attributes), [OpAsmDialectInterface()])

    return make
