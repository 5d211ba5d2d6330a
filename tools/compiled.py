"""Compiled programs: object code, what a caller must know of it, and the way to it past the compiler.

``compile_source`` looks for the object code of a program in the cache on disk and only if it is not there imports the
compiler. So a cached program is read, looked up, loaded and run without xDSL::

    compiled = compile_source("examples/matmul.mlir")
    compiled.function([a, b], [c])
"""

from __future__ import annotations

import os
from time import perf_counter
from typing import TYPE_CHECKING

from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.start_up import paused_collector, read_formats_lazily
from crosstile.targets.signature import HostSignature
from crosstile.targets.x86.launch import Compiled, HostFunction
from crosstile.tools.command_line import read_source
from crosstile.tools.object_cache import ObjectCache, object_cache, object_key

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from crosstile.tools.program import Program


def compile_source(
    source: str | os.PathLike[str] | ModuleOp, target: str = "host", start: str = "nn", entry: str | None = None
) -> Compiled:
    """Compile a program: a path, its text, or a module. Raises what ``Program.load`` and ``Program.compile`` raise."""
    begin = perf_counter()
    if isinstance(source, str | os.PathLike):
        name, text = read_source(source)
    else:
        from xdsl.dialects.builtin import ModuleOp

        from crosstile.ir.printing import print_module
        from crosstile.ir.verification import verify_module

        if type(source) is not ModuleOp:
            raise CrosstileError(f"a program is a path, a text or a module, found a {type(source).__name__}")
        verify_module(source)
        name, text = "<module>", print_module(source)
    cache = object_cache()
    key = None if cache is None else object_key(text, target, start, entry)
    if cache is not None and key is not None and (compiled := _cached(cache, key, begin)) is not None:
        return compiled
    with paused_collector():
        read_formats_lazily()
        from crosstile.tools.program import Program

        if isinstance(source, str | os.PathLike):
            program = Program.of_text(name, text, target, start, entry)
        else:
            program = Program.load(source, target, start, entry)
        compiled = program.compile()
    if cache is not None and key is not None:
        _keep(cache, key, compiled)
    return compiled


def compile_program(program: Program, target: str) -> Compiled:
    """``program.compile()``, from the cache if it is there; the program must be as it was read."""
    cache = object_cache()
    begin = perf_counter()
    key = (
        "" if cache is None or program.text is None else object_key(program.text, target, program.start, program.entry)
    )
    if cache is not None and key and (compiled := _cached(cache, key, begin)) is not None:
        return compiled
    with paused_collector():
        compiled = program.compile()
    if cache is not None and key:
        _keep(cache, key, compiled)
    return compiled


def _cached(cache: ObjectCache, key: str, begin: float) -> Compiled | None:
    """The cached object of ``key``, loaded; None if there is none that can be."""
    found = cache.load(key)
    if found is None:
        return None
    description, code = found
    looked_up = perf_counter()
    try:
        function = HostFunction(HostSignature.from_json(description), code)
    except (CrosstileError, KeyError, TypeError, ValueError):
        return None  # what this version cannot use is built again
    return Compiled(function, {"cache": looked_up - begin, "load": perf_counter() - looked_up}, code)


def _keep(cache: ObjectCache, key: str, compiled: Compiled) -> None:
    cache.store(key, compiled.function.signature.to_json(), compiled.code)
