"""Running on this CPU: object code loaded into the process, and its functions by name.

``compile_module`` turns a module in the ``llvm`` dialect into object code and says how long each phase took; it alone
needs, and imports, the compiler.
``LoadedObject`` makes object code callable and frees it when it and its functions are dropped. A function that the
host calls is ``@name.entry(!llvm.ptr) -> i32``, which reads its arguments from an array of 64-bit words::

    compiled = compile_module(module, machine)
    loaded = LoadedObject([compiled.code], ["main.entry"])
    status = loaded.entry("main")(words.ctypes.data)
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets import llvm_codegen
from crosstile.targets.signature import ENTRY_SUFFIX
from crosstile.targets.tile_data import may_use_tiles

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from crosstile.targets.model import Machine

_library_numbers = count()

ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class CompiledModule:
    """Object code for one machine, and the seconds each phase took."""

    code: bytes
    machine: Machine
    seconds: dict[str, float]


def compile_module(module: ModuleOp, machine: Machine) -> CompiledModule:
    """Object code of a module in the ``llvm`` dialect; phases ``llvm-text``, ``llvm-parse``, ``codegen`` are timed."""
    from crosstile.targets.x86.emit import llvm_ir

    seconds: dict[str, float] = {}
    text = _timed(seconds, "llvm-text", lambda: llvm_ir(module, machine))
    parsed = _timed(seconds, "llvm-parse", lambda: llvm_codegen.parse(text))
    code = _timed(seconds, "codegen", lambda: llvm_codegen.object_code(parsed, machine))
    return CompiledModule(code, machine, seconds)


def _timed(seconds: dict[str, float], phase: str, work: Callable[[], ResultT]) -> ResultT:
    start = perf_counter()
    result = work()
    seconds[phase] = perf_counter() - start
    return result


@cache
def _jit() -> Any:
    """The linker into this process, shared by all objects; each object is a library of its own in it."""
    return llvm_codegen.llvm().create_lljit_compiler()


class LoadedObject:
    """Object code in this process. Its memory is freed when the object and the functions taken from it are dropped.

    ``codes`` are objects that call each other, ``symbols`` the functions that will be asked for, ``imports`` the
    addresses of functions that come from elsewhere. Raises a CrosstileError if a function is missing, or if the code
    calls one that neither it nor this process has.
    """

    def __init__(self, codes: Sequence[bytes], symbols: Iterable[str], imports: Mapping[str, int] | None = None):
        self.symbols = tuple(symbols)
        may_use_tiles()  # must come before code that does
        builder = llvm_codegen.llvm().JITLibraryBuilder()
        for code in codes:
            builder.add_object_img(code)
        for symbol, address in (imports or {}).items():
            builder.import_symbol(symbol, address)
        builder.add_current_process()
        for symbol in self.symbols:
            builder.export_symbol(symbol)
        try:
            self._library = builder.link(_jit(), f"crosstile.{next(_library_numbers)}")
        except RuntimeError as error:
            raise CrosstileError(f"the object code cannot be loaded: {error}") from error

    def address(self, symbol: str) -> int:
        """The address of one of ``symbols``."""
        if symbol not in self.symbols:
            raise CrosstileError(f"'{symbol}' was not asked for when loading; known are {', '.join(self.symbols)}")
        return self._library[symbol]

    def function(self, symbol: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        """One of ``symbols`` as a function of ``ctypes`` types; a call releases the interpreter lock."""
        function: Any = ctypes.CFUNCTYPE(result, *arguments)(self.address(symbol))
        function.loaded_object = self  # a function keeps its code alive
        return function

    def entry(self, name: str) -> Callable[[int | bytes], int]:
        """The host's way into function ``name``: takes its words or their address, returns its status."""
        return self.function(name + ENTRY_SUFFIX, ctypes.c_int32, ctypes.c_void_p)
