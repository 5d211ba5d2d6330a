"""What lets a process that compiles one program be quick: less work while the compiler is imported and runs.

Importing a dialect of xDSL parses the assembly format of each of its operations, a third of the time it takes; but a
compilation reads a few operations and prints none. ``read_formats_lazily`` is called before the first dialect is
imported and defers that to the first time an operation is parsed or printed, which is then when a malformed format
becomes an error; dialects imported before keep their formats. xDSL's private interface is touched here only::

    read_formats_lazily()
    from xdsl.dialects import arith         # no format parsed
    print(arith.AddiOp(a, b))               # that of arith.addi parsed
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xdsl.irdl.declarative_assembly_format import FormatProgram


@contextmanager
def paused_collector() -> Generator[None]:
    """A compilation makes many small objects that live to its end: collecting cycles meanwhile finds nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@cache
def read_formats_lazily() -> None:
    """From now on the format of an operation that is defined is parsed when it is first used."""
    from xdsl.irdl import OpDef, operations

    define_accessors = operations.get_accessors_from_op_def

    def define_lazily(op_def: OpDef, custom_verify: Any | None) -> dict[str, Any]:
        text, op_def.assembly_format = op_def.assembly_format, None
        accessors = define_accessors(op_def, custom_verify)
        op_def.assembly_format = text
        if text is not None:
            accessors |= _format_accessors(text, op_def)
        return accessors

    operations.get_accessors_from_op_def = define_lazily


def _format_accessors(text: str, op_def: Any) -> dict[str, Any]:
    """``parse`` and ``print`` of an operation with the format ``text``."""

    @cache
    def program() -> FormatProgram:
        from xdsl.irdl.declarative_assembly_format import FormatProgram

        return FormatProgram.from_str(text, op_def)

    @classmethod
    def parse(cls: type[Any], parser: Any) -> Any:
        return program().parse(parser, cls)

    def print_(self: Any, printer: Any) -> None:
        program().print(printer, self)

    return {"parse": parse, "print": print_}
