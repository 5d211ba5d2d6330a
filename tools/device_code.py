"""A program for a GPU as calls need it: from the cache on disk what is there, from the compiler what is not.

What is kept are the program's signature, the plan of each combination of shapes, and each kernel that a call needed,
as PTX and how it is launched. A program whose calls were made before runs without importing the compiler::

    code = DeviceCode.of_source("examples/matmul_bf16.mlir", "sm_90a")
    program = DeviceProgram(code, code, device)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.nvidia.kept_plan import plan_from_json, plan_to_json
from crosstile.targets.nvidia.launch import KernelPlan
from crosstile.targets.nvidia.run import CompiledKernel
from crosstile.targets.signature import HostSignature
from crosstile.targets.x86.launch import Array, dtype_called
from crosstile.tools.command_line import read_source
from crosstile.tools.compiled import Request
from crosstile.tools.object_cache import ObjectCache, object_cache, part_key
from crosstile.tools.targets import find_machine

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from crosstile.targets.model import Machine
    from crosstile.targets.nvidia.call_plan import CallPlan
    from crosstile.tools.device import DeviceKernels
    from crosstile.tools.program import Program

FoundT = TypeVar("FoundT")
Description = dict[str, Any]


class DeviceCode(Mapping[str, CompiledKernel]):
    """The host function of a program (``signature``, ``plan``) and its kernels by name, made when they are asked for.

    ``load`` gives the program if something is not in the cache.
    """

    def __init__(self, request: Request, load: Callable[[], Program] | None = None):
        self.machine: Machine = find_machine(request.target)
        self._request, self._load = request, load or request.load
        self._cache: ObjectCache | None = object_cache()
        self._key = "" if self._cache is None else request.key()
        self._cache_seconds = 0.0
        self._needed: dict[str, CompiledKernel] = {}
        self._constants: dict[str, Array] = {}
        self.signature, self._names = self._kept(None, self._describe, _signature_to_json, _signature_from_json)

    @classmethod
    def of_source(
        cls,
        source: str | os.PathLike[str] | ModuleOp,
        target: str,
        start: str = "nn",
        entry: str | None = None,
    ) -> DeviceCode:
        """A program by its path, its text, or as a module. Raises what ``Program.load`` raises."""
        if isinstance(source, str | os.PathLike):
            return cls(Request(*read_source(source), target, start, entry))
        from crosstile.ir.printing import print_module
        from crosstile.ir.verification import verify_module
        from crosstile.tools.program import Program

        verify_module(source)
        module = source.clone()
        request = Request("<module>", print_module(module), target, start, entry)
        return cls(request, lambda: Program.load(module, target, start, entry))

    # The program, where the compiler is needed

    @cached_property
    def _program(self) -> Program:
        return self._load()

    @cached_property
    def _compiler(self) -> DeviceKernels:
        from crosstile.tools.device import DeviceKernels

        return DeviceKernels(self._program)

    def _describe(self) -> tuple[HostSignature, list[str]]:
        return self._host.signature, list(self._compiler)

    @cached_property
    def _host(self) -> Any:
        from crosstile.targets.nvidia.run import HostModule

        return HostModule(self._compiler.host, self._program.entry)

    # What calls need

    def plan(self, shapes: tuple[tuple[int, ...], ...]) -> CallPlan:
        """What a call on inputs of these shapes does; raises :class:`CrosstileError` if the program refuses them."""

        def keep(plan: CallPlan) -> tuple[Description, bytes]:
            for buffer in plan.buffers:
                if buffer.data is not None:
                    self._constants[buffer.name] = buffer.data
                    self._constant(buffer.name)
            return plan_to_json(plan), b""

        return self._kept(
            f"plan {shapes}",
            lambda: self._host.plan(shapes),
            keep,
            lambda description, _: plan_from_json(description, self._constant),
        )

    def _constant(self, name: str) -> Array:
        """A constant of the program, which plans refer to; KeyError where it is not in the cache."""

        def unpack(description: Mapping[str, Any], data: bytes) -> Array:
            array = np.frombuffer(data, dtype_called(description["dtype"]))
            self._constants[name] = array.reshape(tuple(description["shape"]))
            return self._constants[name]

        return self._kept(
            f"constant {name}",
            lambda: self._constants[name],
            lambda array: ({"dtype": array.dtype.name, "shape": array.shape}, array.tobytes()),
            unpack,
        )

    def __getitem__(self, name: str) -> CompiledKernel:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._needed:
            # Its PTX names the file, and lines of it.
            self._needed[name] = self._kept(
                f"kernel {name} of {self._request.name}",
                lambda: self._compiler[name],
                lambda kernel: (kernel.plan.to_json(), kernel.ptx.encode()),
                lambda description, data: CompiledKernel(data.decode(), KernelPlan.from_json(description)),
            )
        return self._needed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @property
    def needed(self) -> list[str]:
        """The names of the kernels that calls have needed so far."""
        return list(self._needed)

    @property
    def seconds(self) -> dict[str, float]:
        """What each phase took so far: reading the cache, and those of the compiler if it was needed."""
        found = {} if self._cache is None else {"cache": self._cache_seconds}
        return found | (self._program.seconds if "_program" in self.__dict__ else {})

    def _kept(
        self,
        what: str | None,
        find: Callable[[], FoundT],
        pack: Callable[[FoundT], tuple[Description, bytes]],
        unpack: Callable[[Description, bytes], FoundT],
    ) -> FoundT:
        """A part of the program, or its description: from the cache, or else made and kept."""
        if self._cache is None:
            return find()
        begin = perf_counter()
        key = self._key if what is None else part_key(self._key, what)
        kept = self._cache.load(key)
        found: FoundT | None = None
        if kept is not None:
            try:
                found = unpack(*kept)
            except (CrosstileError, AttributeError, KeyError, TypeError, ValueError):
                found = None  # what this version cannot use is made again
        self._cache_seconds += perf_counter() - begin
        if found is None:
            found = find()
            self._cache.store(key, *pack(found))
        return found


def _signature_to_json(found: tuple[HostSignature, list[str]]) -> tuple[Description, bytes]:
    signature, names = found
    return {"signature": signature.to_json(), "kernels": names}, b""


def _signature_from_json(description: Description, _: bytes) -> tuple[HostSignature, list[str]]:
    return HostSignature.from_json(description["signature"]), list(description["kernels"])
