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
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.start_up import define_lazily, paused_collector
from crosstile.targets.host import default_target
from crosstile.targets.signature import HostSignature
from crosstile.targets.x86.launch import Compiled, HostFunction
from crosstile.targets.x86.linking import ProgramCode
from crosstile.tools.command_line import read_source
from crosstile.tools.object_cache import ObjectCache, object_cache, object_key, part_key

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from crosstile.tools.program import Program


@dataclass(frozen=True)
class Request:
    """The text of a program, which messages call ``name``, and all that decides what it is compiled to."""

    name: str
    text: str
    target: str = "host"
    start: str = "nn"
    entry: str | None = None
    bound: bool = False
    """Whether weights are packed ahead of calls."""

    def key(self) -> str:
        """The name of its object in the cache."""
        return object_key(self.text, self.target, self.start, self.entry, self.bound)

    def load(self) -> Program:
        """The program: imports the compiler, parses and verifies."""
        define_lazily()
        with paused_collector():
            from crosstile.tools.program import Program

            return Program.of_text(self.name, self.text, self.target, self.start, self.entry, self.bound)


def compile_source(
    source: str | os.PathLike[str] | ModuleOp,
    target: str | None = None,
    start: str = "nn",
    entry: str | None = None,
    bound: bool = False,
) -> Compiled:
    """Compile a program: a path, its text, or a module. Raises what ``Program.load`` and ``Program.compile`` raise.

    ``bound``: its weights are packed ahead of calls.
    """
    begin = perf_counter()
    target = default_target() if target is None else target
    if isinstance(source, str | os.PathLike):
        return compile_request(Request(*read_source(source), target, start, entry, bound), begin=begin)
    from xdsl.dialects.builtin import ModuleOp

    from crosstile.ir.printing import print_module
    from crosstile.ir.verification import verify_module
    from crosstile.tools.program import Program

    if type(source) is not ModuleOp:
        raise CrosstileError(f"a program is a path, a text or a module, found a {type(source).__name__}")
    verify_module(source)
    request = Request("<module>", print_module(source), target, start, entry, bound)
    return compile_request(request, lambda: Program.load(source, target, start, entry, bound), begin)


def compile_request(
    request: Request, load: Callable[[], Program] | None = None, begin: float | None = None
) -> Compiled:
    """Compile a program, or take it from the cache; ``load`` gives the program if it is compiled."""
    begin, load = begin or perf_counter(), load or request.load
    cache = object_cache()
    if cache is None:
        return _compile(load)
    key = request.key()
    if (compiled := _cached(cache, key, request.load, begin)) is None:
        compiled = _compile(load)
        _keep(cache, key, compiled)
    return compiled


def _compile(load: Callable[[], Program]) -> Compiled:
    with paused_collector():
        return load().compile()


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
