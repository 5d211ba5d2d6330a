"""What lets a process that compiles one program be quick: less work while the compiler is imported and runs.

Importing a dialect of xDSL parses the assembly format of each of its operations, and compiles five methods of each of
its dataclasses from text; but a compilation reads a few operations, prints none, and calls one method in six.
``define_lazily`` is called before the first dialect is imported and defers both to the first use: then a malformed
format becomes an error, and a method replaces what stood for it in its class. What was imported before stays as it is,
and so do the dataclasses of everybody else. Private interfaces, of xDSL and of the standard library, are touched here::

    define_lazily()
    from xdsl.dialects import arith         # no format parsed
    print(arith.AddiOp(a, b))               # that of arith.addi parsed
"""

from __future__ import annotations

import dataclasses
import gc
import inspect
from collections.abc import Callable, Generator
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
def define_lazily() -> None:
    """From now on formats of operations are parsed, and methods of dataclasses made, when they are first used."""
    _make_methods_lazily()
    _read_formats_lazily()


_PACKAGES = ("xdsl", "crosstile")
"""The packages whose dataclasses wait for their methods."""
_MAKER = ["name", "args", "body", "globals", "locals", "return_type"]
"""The parameters of ``dataclasses._create_fn`` in Python 3.11 and 3.12; later versions have no such function."""


def _make_methods_lazily() -> None:
    """Let methods of dataclasses be compiled when they are first called, where Python makes each by itself."""
    make: Callable[..., Any] | None = getattr(dataclasses, "_create_fn", None)
    if make is None or list(inspect.signature(make).parameters) != _MAKER:
        return

    def make_lazily(name: str, *rest: Any, **options: Any) -> Any:
        known: dict[str, Any] = options.get("globals") or {}
        if str(known.get("__name__")).partition(".")[0] not in _PACKAGES:
            return make(name, *rest, **options)
        return _deferred(name, lambda: make(name, *rest, **options))

    setattr(dataclasses, "_create_fn", make_lazily)  # noqa: B010  (the name is private)


def _deferred(name: str, make: Callable[[], Any]) -> Any:
    """A method ``name`` that at its first call is made and takes its own place in its class."""
    made = cache(make)

    def method(self: Any, *arguments: Any, **named: Any) -> Any:
        function = made()
        for owner in type(self).__mro__:
            if vars(owner).get(name) is method:
                function.__qualname__ = method.__qualname__
                setattr(owner, name, function)
                break
        return function(self, *arguments, **named)

    method.__name__ = name
    return method


def _read_formats_lazily() -> None:
    """Let the format of an operation that is defined be parsed when it is first used."""
    from xdsl.irdl import OpDef, operations

    define_accessors = operations.get_accessors_from_op_def

    def define_with_format(op_def: OpDef, custom_verify: Any | None) -> dict[str, Any]:
        text, op_def.assembly_format = op_def.assembly_format, None
        accessors = define_accessors(op_def, custom_verify)
        op_def.assembly_format = text
        if text is not None:
            accessors |= _format_accessors(text, op_def)
        return accessors

    operations.get_accessors_from_op_def = define_with_format


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
