"""Calling a compiled host function with NumPy arrays: checks, words, the arena, workers.

The entry takes the address of 64-bit words: per memref the data pointer and then its dynamic dimensions, then the arena
with its size, then stage, part and parts. One worker runs everything in one call; several are called once per stage
each, from a pool of threads, as calls release the interpreter lock.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from xdsl.dialects.builtin import DYNAMIC_INDEX, MemRefType
from xdsl.ir import Attribute

from crosstile.dialects.element_types import dtype_of
from crosstile.dialects.host import ARENA_SUFFIX, HostSignature
from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.x86.run import LoadedObject

Array = np.ndarray[Any, np.dtype[Any]]
ALIGNMENT = 64
"""Bytes; what the arena is aligned to."""
KEPT_BYTES = 1 << 20
"""An arena is given back when a later call needs less than a quarter of it, unless it is as small as this."""
EVERYTHING = -1
"""The stage that stands for all stages in one call."""


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    """Threads that are kept for the life of the process."""
    return ThreadPoolExecutor(workers, thread_name_prefix="crosstile")


if hasattr(os, "register_at_fork"):
    # Threads do not survive in the child of a fork: it makes its own.
    os.register_at_fork(after_in_child=_pool.cache_clear)


@dataclass(frozen=True)
class ArgumentRule:
    """What an argument must be: element type and shape (None for a dimension of any size)."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]

    @classmethod
    def of(cls, name: str, type_: MemRefType[Attribute]) -> ArgumentRule:
        """The rule for arguments of a memref type."""
        shape = tuple(None if size == DYNAMIC_INDEX else size for size in type_.get_shape())
        return cls(name, np.dtype(dtype_of(type_.element_type)), shape)

    def check(self, value: object) -> Array:
        """``value`` as an array if it fits; a CrosstileError that says what it is and what was expected if not."""
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise CrosstileError(
                f"{self.name}: expected {self}, but a {type(value).__name__} is not an array: {error}"
            ) from error
        if array.dtype != self.dtype or array.ndim != len(self.shape) or self._wrong_dimensions(array):
            raise CrosstileError(f"{self.name}: expected {self}, found {array.dtype} of shape {array.shape}")
        return array

    def _wrong_dimensions(self, array: Array) -> bool:
        return any(size not in (None, found) for size, found in zip(self.shape, array.shape, strict=True))

    def __str__(self) -> str:
        sizes = ", ".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.dtype} of shape ({sizes}{',' if len(self.shape) == 1 else ''})"


def is_plain(array: Array) -> bool:
    """Whether machine code can take ``array`` as it is: row-major, contiguous and aligned."""
    return array.flags.c_contiguous and array.flags.aligned


def plain(array: Array) -> Array:
    """``array``, copied only if it is not contiguous or not aligned."""
    return array if is_plain(array) else np.array(array, order="C")


@dataclass
class HostFunction:
    """A host function that runs: ``function(inputs, outputs, workers)`` writes ``outputs``.

    ``checks`` are the messages of the run-time checks, in order; ``stages`` how many launches follow each other;
    ``names`` the arguments' names in messages.
    """

    signature: HostSignature
    loaded: LoadedObject
    checks: Sequence[str]
    stages: int
    names: Sequence[str]
    input_rules: list[ArgumentRule] = field(init=False)
    output_rules: list[ArgumentRule] = field(init=False)
    _entry: Callable[[int], int] = field(init=False)
    _arena_size: Callable[..., int] = field(init=False)
    _scratch: threading.local = field(init=False, default_factory=threading.local)

    def __post_init__(self) -> None:
        name = self.signature.name
        self._entry = self.loaded.entry(name)
        count = sum(1 + type_.get_shape().count(DYNAMIC_INDEX) for type_ in self._types)
        self._arena_size = self.loaded.function(name + ARENA_SUFFIX, *[ctypes.c_int64] * (count + 2))
        names = [
            *self.names,
            *(f"argument {position}" for position in range(len(self.names), len(self.signature.inputs))),
        ]
        rules = zip(names, self.signature.inputs, strict=False)
        self.input_rules = [ArgumentRule.of(name, type_) for name, type_ in rules]
        self.output_rules = [
            ArgumentRule.of(f"result {position}", type_) for position, type_ in enumerate(self.signature.results)
        ]

    @property
    def _types(self) -> list[MemRefType[Attribute]]:
        return [*self.signature.inputs, *self.signature.results]

    def check_inputs(self, inputs: Sequence[object]) -> list[Array]:
        """The inputs as contiguous arrays; what is contiguous already is not copied."""
        if len(inputs) != len(self.input_rules):
            expected = ", ".join(f"{rule.name}: {rule}" for rule in self.input_rules)
            raise CrosstileError(
                f"@{self.signature.name} takes {len(self.input_rules)} arguments ({expected}), found {len(inputs)}"
            )
        return [plain(rule.check(value)) for rule, value in zip(self.input_rules, inputs, strict=True)]

    def new_outputs(self, inputs: Sequence[Array]) -> list[Array]:
        """Uninitialised arrays for the results."""
        shapes = self.signature.shapes_of_results([array.shape for array in inputs])
        return [np.empty(shape, rule.dtype) for shape, rule in zip(shapes, self.output_rules, strict=True)]

    def __call__(self, inputs: Sequence[Array], outputs: Sequence[Array], workers: int = 1) -> None:
        """Run on contiguous arrays of the right types."""
        words = self._words(inputs, outputs)
        arena = self._reserve(self._arena_size(*words, workers))
        words += [arena.ctypes.data, arena.nbytes]
        if workers == 1:
            self._run(words, EVERYTHING, 0, 1)
            return
        pool = _pool(workers - 1)
        for stage in range(self.stages):
            others = [pool.submit(self._run, words, stage, part, workers) for part in range(1, workers)]
            try:
                self._run(words, stage, 0, workers)
            finally:
                wait(others)
            for other in others:
                other.result()

    def arena_size(self, inputs: Sequence[Array], outputs: Sequence[Array], workers: int = 1) -> int:
        """The bytes of scratch memory that a call on these arrays needs: temporaries and the workers' own."""
        return self._arena_size(*self._words(inputs, outputs), workers)

    def _words(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> list[int]:
        """Per array its address and its dynamic dimensions."""
        words: list[int] = []
        for array, type_ in zip([*inputs, *outputs], self._types, strict=True):
            words.append(array.ctypes.data)
            words += [
                size for size, known in zip(array.shape, type_.get_shape(), strict=True) if known == DYNAMIC_INDEX
            ]
        return words

    def _run(self, words: Sequence[int], stage: int, part: int, parts: int) -> None:
        buffer = (ctypes.c_int64 * (len(words) + 3))(*words, stage, part, parts)
        status = self._entry(ctypes.addressof(buffer))
        if status > 0:
            raise CrosstileError(f"@{self.signature.name}: {self.checks[status - 1]}")
        if status < 0:
            raise CrosstileError(f"internal error: @{self.signature.name} was given too small an arena")

    def _reserve(self, size: int) -> Array:
        """Scratch memory of at least ``size`` bytes, aligned; each calling thread keeps its own from call to call."""
        arena: Array | None = getattr(self._scratch, "arena", None)
        if arena is None or arena.nbytes < size or arena.nbytes > 4 * max(size, KEPT_BYTES):
            raw = np.empty(size + ALIGNMENT, np.uint8)
            start = -raw.ctypes.data % ALIGNMENT
            arena = self._scratch.arena = raw[start : start + size]
        return arena
