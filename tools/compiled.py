"""Compiled programs: object code, what a caller must know of it, and the way to it past the compiler.

``compile_source`` looks for the object code of a program in the cache on disk and only if it is not there imports the
compiler. So a cached program is read, looked up, loaded and run without xDSL::

    compiled = compile_source("examples/matmul.mlir")
    compiled.function([a, b], [c])
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.start_up import paused_collector, read_formats_lazily
from crosstile.targets.signature import HostSignature
from crosstile.targets.x86.launch import Compiled, HostFunction
from crosstile.targets.x86.linking import ProgramCode
from crosstile.tools.command_line import read_source
from crosstile.tools.object_cache import ObjectCache, object_cache, object_key, part_key

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from crosstile.tools.program import Program


def compile_source(
    source: str | os.PathLike[str] | ModuleOp,
    target: str = "host",
    start: str = "nn",
    entry: str | None = None,
    bound: bool = False,
) -> Compiled:
    """Compile a program: a path, its text, or a module. Raises what ``Program.load`` and ``Program.compile`` raise.

    ``bound``: its weights are packed ahead of calls.
    """
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
    key = None if cache is None else object_key(text, target, start, entry, bound)
    if cache is not None and key is not None:
        load = partial(_load, name, text, target, start, entry, bound)
        if (compiled := _cached(cache, key, load, begin)) is not None:
            return compiled
    with paused_collector():
        if isinstance(source, str | os.PathLike):
            program = _load(name, text, target, start, entry, bound)
        else:
            from crosstile.tools.program import Program

            program = Program.load(source, target, start, entry, bound)
        compiled = program.compile()
    if cache is not None and key is not None:
        _keep(cache, key, compiled)
    return compiled


def _load(name: str, text: str, target: str, start: str, entry: str | None, bound: bool) -> Program:
    read_formats_lazily()
    from crosstile.tools.program import Program

    return Program.of_text(name, text, target, start, entry, bound)


def compile_program(program: Program, target: str) -> Compiled:
    """``program.compile()``, from the cache if it is there; the program must be as it was read."""
    cache = object_cache()
    begin = perf_counter()
    key = ""
    if cache is not None and program.text is not None:
        key = object_key(program.text, target, program.start, program.entry, program.bound)
    if cache is not None and key and (compiled := _cached(cache, key, lambda: program, begin)) is not None:
        return compiled
    with paused_collector():
        compiled = program.compile()
    if cache is not None and key:
        _keep(cache, key, compiled)
    return compiled


def _cached(cache: ObjectCache, key: str, load: Callable[[], Program], begin: float) -> Compiled | None:
    """The cached object of ``key``, loaded; None if there is none that can be.

    ``load`` gives the program if a kernel is needed that is not in the cache.
    """
    found = cache.load(key)
    if found is None:
        return None
    seconds: dict[str, float] = {}

    @functools.cache
    def program() -> Program:
        return load()

    def compile_kernel(name: str) -> bytes:
        with paused_collector():
            code = program().compile_kernel(name)
        seconds.update(program().seconds)
        return code

    try:
        signature, code = _unpack(*found)
        code.compile_kernel = partial(_kept_kernel, cache, key, compile_kernel)
        seconds["cache"] = perf_counter() - begin
        function = HostFunction(signature, code)
    except (CrosstileError, AttributeError, KeyError, TypeError, ValueError):
        return None  # what this version cannot use is built again
    seconds["load"] = perf_counter() - begin - seconds["cache"]
    return Compiled(function, seconds, code)


def _keep(cache: ObjectCache, key: str, compiled: Compiled) -> None:
    """Store what was compiled, and from now on what is compiled later."""
    code = compiled.code
    description = {
        "signature": compiled.function.signature.to_json(),
        "kernels": {name: len(kernel) for name, kernel in code.kernels.items()},
        "missing": sorted(code.missing),
    }
    cache.store(key, description, b"".join([code.host, *code.kernels.values()]))
    code.compile_kernel = partial(_kept_kernel, cache, key, code.compile_kernel)


def _unpack(description: Mapping[str, Any], data: bytes) -> tuple[HostSignature, ProgramCode]:
    """What ``_keep`` stored; an AttributeError, KeyError, TypeError or ValueError for anything else."""
    kernels: dict[str, bytes] = {}
    end = len(data)
    for name, size in reversed(description["kernels"].items()):
        kernels[name], end = data[end - size : end], end - size
    signature = HostSignature.from_json(description["signature"])
    return signature, ProgramCode(data[:end], kernels, set(description["missing"]), _no_compiler)


def _no_compiler(name: str) -> bytes:
    raise AssertionError(f"nothing compiles kernel {name}")


def _kept_kernel(cache: ObjectCache, key: str, compile_kernel: Callable[[str], bytes], name: str) -> bytes:
    """The object code of a kernel of the program ``key``, from the cache or else compiled and kept there."""
    kernel_key = part_key(key, name)
    if (found := cache.load(kernel_key)) is not None:
        return found[1]
    code = compile_kernel(name)
    cache.store(kernel_key, {"kernel": name}, code)
    return code
