"""A program's object code in this process, where kernels join as calls come to need them. Imports no compiler.

The host functions are one object, each kernel is another. A kernel that is launched under a condition on the sizes - a
variant for few rows, another for few columns - is compiled when sizes first choose it. Which ones sizes choose, the
host function itself says: it is linked a second time, with every kernel a stub that notes that it was called::

    linked = LinkedProgram(code, ["main.entry"])
    linked.add(linked.chosen_by(lambda loaded: loaded.entry("main")(words)))     # matmul_2 compiled, everything linked
    linked.loaded.entry("main")(words)
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from crosstile.targets.signature import KERNEL_SUFFIX
from crosstile.targets.x86.run import LoadedObject

_STUB = ctypes.CFUNCTYPE(None)
"""A kernel's arguments are its caller's business, so a function without any can stand for it."""


@dataclass
class ProgramCode:
    """Object code: ``host`` with the host functions, ``kernels`` those compiled so far, ``missing`` the others' names.

    ``compile_kernel`` makes the object code of a missing one.
    """

    host: bytes
    kernels: dict[str, bytes]
    missing: set[str]
    compile_kernel: Callable[[str], bytes]

    def complete(self, names: Iterable[str]) -> None:
        """Compile those of ``names`` that are missing."""
        for name in sorted(self.missing.intersection(names)):
            self.kernels[name] = self.compile_kernel(name)
            self.missing.remove(name)


class LinkedProgram:
    """``code`` linked into this process; ``loaded`` has ``symbols``, and is another object after kernels were added."""

    def __init__(self, code: ProgramCode, symbols: Sequence[str]):
        self.code = code
        self._symbols = symbols
        self.loaded = self._link()

    def chosen_by(self, run: Callable[[LoadedObject], object]) -> set[str]:
        """The missing kernels among those that host functions launch when ``run`` calls them; no kernel runs."""
        called: set[str] = set()
        names = [*self.code.kernels, *self.code.missing]
        stubs = {name: _STUB(partial(called.add, name)) for name in names}
        run(LoadedObject([self.code.host], self._symbols, {_symbol(name): _address(stubs[name]) for name in names}))
        return called & self.code.missing

    def add(self, names: Iterable[str]) -> None:
        """Compile missing kernels and link everything anew; what was linked before stays valid while it is in use."""
        self.code.complete(names)
        self.loaded = self._link()

    def _link(self) -> LoadedObject:
        nowhere = {_symbol(name): _address(_never) for name in self.code.missing}
        return LoadedObject([self.code.host, *self.code.kernels.values()], self._symbols, nowhere)


@_STUB
def _never() -> None:
    """Stands for a missing kernel, which only sizes that were not asked about could choose."""
    raise AssertionError("a kernel was launched that is not compiled")


def _symbol(name: str) -> str:
    return name + KERNEL_SUFFIX


def _address(function: Any) -> int:
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return address
