"""The Python interface: compile a program, call it with NumPy arrays.

import crosstile
f = crosstile.compile("examples/matmul.mlir")
c = f(a, b)
f(a, b, out=c, threads=2)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import combinations
from typing import Any, cast

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.x86.launch import ArgumentRule, Array, HostFunction, is_plain
from crosstile.tools.program import Compiled, Program

SMALL_ELEMENTS = 1 << 16
"""Up to so many elements in arguments and results together, one thread is as fast as several."""


def default_threads() -> int:
    """``CROSSTILE_NUM_THREADS``, or the processors this process may use."""
    text = os.environ.get("CROSSTILE_NUM_THREADS")
    if text is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise CrosstileError(f"CROSSTILE_NUM_THREADS must be a positive number, found '{text}'")
    return int(text)


def choose_workers(threads: int | None, arrays: Sequence[Array]) -> int:
    """How many workers run a call on ``arrays``: ``threads``, or by default one for small ones and else all."""
    if threads is None:
        return 1 if sum(array.size for array in arrays) <= SMALL_ELEMENTS else default_threads()
    if threads < 1:
        raise CrosstileError(f"threads must be a positive number, found {threads}")
    return threads


class CompiledFunction:
    """A program compiled for this machine: call it with one array per argument, get one array per result."""

    def __init__(self, compiled: Compiled):
        self._compiled = compiled

    def __call__(self, *arguments: object, out: Any = None, threads: int | None = None) -> Any:
        """The results: an array, or a tuple of several.

        Arguments are arrays of exactly the program's element types and shapes, with any strides; contiguous ones are
        not copied. ``out`` is an array, or a tuple of one per result, to write to. ``threads`` is how many workers
        share each kernel; by default one for small arrays and else all processors. Raises CrosstileError for an
        argument of the wrong type, rank or shape, saying which.
        """
        function = self._compiled.function
        inputs = function.check_inputs(arguments)
        results = function.new_outputs(inputs)
        given = self._given_outputs(out, results)
        outputs: list[Array] = []
        for array, result in zip(given, results, strict=True):
            usable = array is not None and _is_usable(array, [*inputs, *outputs])
            outputs.append(array if array is not None and usable else result)
        function(inputs, outputs, choose_workers(threads, [*inputs, *outputs]))
        for array, output in zip(given, outputs, strict=True):
            if array is not None and array is not output:
                array[...] = output
        returned = tuple(output if array is None else array for array, output in zip(given, outputs, strict=True))
        return returned[0] if len(returned) == 1 else returned

    @property
    def host_function(self) -> HostFunction:
        """What runs on contiguous arrays, without looking at them."""
        return self._compiled.function

    @property
    def kernels(self) -> list[str]:
        """The names of the kernels the program became, variants included."""
        return list(self._compiled.kernels)

    @property
    def compile_seconds(self) -> dict[str, float]:
        """The seconds each phase of the compilation took."""
        return dict(self._compiled.seconds)

    def _given_outputs(self, out: Any, results: list[Array]) -> list[Array | None]:
        """The arrays of ``out``, checked; None for each that was not given."""
        if out is None:
            return [None] * len(results)
        arrays = list(cast("Sequence[object]", out)) if isinstance(out, tuple | list) else [out]
        if len(arrays) != len(results):
            expected = "1 array" if len(results) == 1 else f"{len(results)} arrays"
            raise CrosstileError(f"out: expected {expected}, found {len(arrays)}")
        given = [self._given_output(position, *pair) for position, pair in enumerate(zip(arrays, results, strict=True))]
        for (first, one), (second, other) in combinations(enumerate(given), 2):
            if np.shares_memory(one, other):
                raise CrosstileError(f"out: results {first} and {second} share memory")
        return [*given]

    def _given_output(self, position: int, given: object, result: Array) -> Array:
        name = f"out: result {position}"
        if not isinstance(given, np.ndarray):
            raise CrosstileError(f"{name} must be a NumPy array to write to, found a {type(given).__name__}")
        array = ArgumentRule(name, result.dtype, result.shape).check(cast(Array, given))
        if not array.flags.writeable:
            raise CrosstileError(f"{name} is a read-only array")
        return array


def _is_usable(array: Array, others: Sequence[Array]) -> bool:
    """Whether results may be written straight to ``array``: contiguous, and nobody else's memory."""
    return is_plain(array) and not any(np.may_share_memory(array, other) for other in others)


def compile(
    source: str | os.PathLike[str] | ModuleOp, target: str = "host", entry: str | None = None, start: str = "nn"
) -> CompiledFunction:
    """Compile a program: a path, its text, or a module.

    ``target`` is a machine this process runs on, ``entry`` the function (``main``, or the only one), ``start`` the
    level the program is written on. Raises CrosstileError for anything wrong with the program, with its place.
    """
    return CompiledFunction(Program.load(source, target, start, entry).compile())
