"""``parse(print(m)) == m`` in custom and generic form, for hand-written and for generated modules."""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp

from crosstile.ir.context import make_context
from crosstile.ir.parsing import parse_module
from crosstile.ir.printing import print_module
from crosstile.ir.verification import verify_module


def parse(text: str, allow_unregistered: bool = False) -> ModuleOp:
    """The verified module of ``text``."""
    module = parse_module(text, "test.mlir", make_context(allow_unregistered))
    verify_module(module)
    return module


def assert_round_trips(source: str | ModuleOp, allow_unregistered: bool = False) -> ModuleOp:
    """Print ``source`` in both forms, parse each, and require equal structure, attributes and text; returns it."""
    module = parse(source, allow_unregistered) if isinstance(source, str) else source
    verify_module(module)
    for generic in (False, True):
        text = print_module(module, generic=generic)
        again = parse(text, allow_unregistered)
        form = "generic" if generic else "custom"
        assert module.is_structurally_equivalent(again), (
            f"the {form} form does not read back as the same module:\n{text}"
        )
        assert print_module(again, generic=generic) == text, (
            f"the {form} form prints differently the second time:\n{text}"
        )
    return module
