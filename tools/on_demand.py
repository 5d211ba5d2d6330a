"""A program as ``crosstile run`` needs it: from the cache what is there, from the program's IR what is not.

Besides the object code the cache holds what a run says of a program: its entry and parameters, and how many operations
it asks for on given shapes. A run that was made before imports no compiler; the IR is made when something is missing::

    program = ProgramOnDemand("examples/matmul.mlir", "host", "nn", None)
    program.parameters.names                                # ["a", "b"]
    program.operations([(1000, 1001), (1001, 999)])         # 1_999_998_000
    program.compile().function
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from crosstile.tools.arguments import Parameters
from crosstile.tools.command_line import read_source
from crosstile.tools.compiled import Compiled, Request, compile_request
from crosstile.tools.object_cache import object_cache, object_key, part_key
from crosstile.tools.targets import find_machine

if TYPE_CHECKING:
    from os import PathLike

    from crosstile.targets.model import Machine, MmaIntrinsic
    from crosstile.tools.device_code import DeviceCode
    from crosstile.tools.program import Program

KnownT = TypeVar("KnownT")


class ProgramOnDemand:
    """The program in the file ``path``, written at level ``start``, for the machine ``target``.

    ``bound``: its weights are packed ahead of calls.
    """

    def __init__(self, path: PathLike[str], target: str, start: str, entry: str | None, bound: bool = False):
        self.source, text = read_source(path)
        self._request = Request(self.source, text, target, start, entry, bound)
        self._cache = object_cache()
        self._key = None if self._cache is None else self._request.key()

    @cached_property
    def program(self) -> Program:
        """The program itself, parsed and verified."""
        return self._request.load()

    @cached_property
    def machine(self) -> Machine:
        """The machine it is compiled for."""
        return find_machine(self._request.target)

    @cached_property
    def parameters(self) -> Parameters:
        """What it takes."""
        return self._known("parameters", lambda: Parameters.of(self.program), Parameters.to_json, Parameters.from_json)

    @property
    def entry(self) -> str:
        """The function that is run."""
        return self.parameters.function

    def operations(self, shapes: Sequence[tuple[int, ...]]) -> int | None:
        """The operations it asks for on inputs of ``shapes``; None if it starts where they are not counted."""

        def count() -> int | None:
            from crosstile.tools.operation_count import operations_of

            return operations_of(self.program, shapes)

        return self._known(
            f"operations on {shapes}", count, lambda found: {"operations": found}, lambda data: data["operations"]
        )

    def compile(self) -> Compiled:
        """Its host function, ready to run."""
        return compile_request(self._request, lambda: self.program)

    def device_code(self) -> DeviceCode:
        """Its host function and kernels for a GPU."""
        from crosstile.tools.device_code import DeviceCode

        return DeviceCode(self._request, lambda: self.program)

    def _known(
        self,
        what: str,
        find_out: Callable[[], KnownT],
        to_json: Callable[[KnownT], dict[str, Any]],
        from_json: Callable[[dict[str, Any]], KnownT],
    ) -> KnownT:
        """A fact about the program: from the cache, or else found out and kept."""
        if self._cache is None or self._key is None:
            return find_out()
        key = part_key(self._key, what)
        if (found := self._cache.load(key)) is not None:
            with suppress(KeyError, TypeError, ValueError):  # what this version cannot use is found out again
                return from_json(found[0])
        fact = find_out()
        self._cache.store(key, to_json(fact), b"")
        return fact


def cached_peak_code(machine: Machine, row: MmaIntrinsic) -> bytes:
    """The object code of the loop that measures the peak, from the cache if it is there."""
    from crosstile.targets.x86.peak import peak_code, peak_module

    cache = object_cache()
    if cache is None:
        return peak_code(machine, row)
    text = f"{machine.name} {machine.cpu} {machine.attributes} {peak_module(row)}"
    key = part_key(object_key(text, "host", "peak", None), hashlib.sha256(text.encode()).hexdigest())
    if (found := cache.load(key)) is not None:
        return found[1]
    code = peak_code(machine, row)
    cache.store(key, {}, code)
    return code
