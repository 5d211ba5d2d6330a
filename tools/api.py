"""The Python interface: compile a program, call it with NumPy arrays.

import crosstile
f = crosstile.compile("examples/matmul.mlir")
c = f(a, b)
f(a, b, out=c, threads=2)

A program whose object code is in the cache (docs/cache.md) is run without importing the compiler.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import numpy as np

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.host import default_target
from crosstile.targets.x86.launch import ArgumentRule, Array, HostFunction, Plan, is_plain
from crosstile.targets.x86.quick_call import quick_call
from crosstile.targets.x86.workers import check_threads, default_threads
from crosstile.tools.command_line import read_source
from crosstile.tools.compiled import Compiled, compile_source

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from crosstile.tools.gpu_function import GpuFunction
    from crosstile.tools.prepared import PreparedFunction

GpuTarget = Literal["sm_80", "sm_90a", "sm_90a-h200", "nvidia-sm_80", "nvidia-sm_90a", "nvidia-sm_90a-h200"]
"""The targets whose programs run on a GPU, for type checkers."""


def choose_workers(threads: int | None, plan: Plan) -> int:
    """How many workers run a call: ``threads``, or by default as many of all as its work is worth."""
    if threads is None:
        return 1 if plan.workers == 1 else min(plan.workers, default_threads())
    return check_threads("threads", threads)


class CompiledFunction:
    """A program compiled for this machine: call it with one array per argument, get one array per result."""

    def __init__(self, compiled: Compiled, compile_bound: Callable[[], Compiled] | None = None):
        self._compiled = compiled
        self._function = compiled.function
        self._quick = quick_call(compiled.function)
        self._compile_bound = compile_bound
        self._bound: Compiled | None = None

    def __call__(self, *arguments: object, out: Any = None, threads: int | None = None) -> Any:
        """The results: an array, or a tuple of several.

        Arguments are arrays of exactly the program's element types and shapes, with any strides; contiguous ones are
        not copied. ``out`` is an array, or a tuple of one per result, to write to. ``threads`` is how many workers
        share each kernel; by default as many processors as the work is worth. Raises CrosstileError for an
        argument of the wrong type, rank or shape, saying which.
        """
        if threads is None:
            result = self._quick(arguments, out)
            if result is not None:
                return result
        function = self._function
        plan = function.fitting_plan(arguments)
        if plan is None:
            inputs: Sequence[Array] = function.check_inputs(arguments)
            plan = function.keep_plan(inputs)
        else:
            inputs = cast("tuple[Array, ...]", arguments)
        workers = choose_workers(threads, plan)
        if out is None:
            results = function.empty_results(plan)
            function.run(plan, inputs, results, workers)
            return results[0] if len(results) == 1 else tuple(results)
        if function.is_plain_output(plan, out) and not any(np.may_share_memory(out, array) for array in inputs):
            function.run(plan, inputs, (out,), workers)
            return out
        results = function.empty_results(plan)
        given = self._given_outputs(out, results)
        outputs: list[Array] = []
        for array, result in zip(given, results, strict=True):
            outputs.append(array if _is_usable(array, [*inputs, *outputs]) else result)
        function.run(plan, inputs, outputs, workers)
        for array, output in zip(given, outputs, strict=True):
            if array is not output:
                array[...] = output
        return given[0] if len(given) == 1 else tuple(given)

    def compile_all(self) -> None:
        """Compile the kernels that no call has needed so far, so that calls of any sizes start at once.

        A kernel has a variant for each class of sizes, and one is compiled when sizes first choose it.
        """
        self._function.compile_all()

    def bind(self, **weights: object) -> PreparedFunction:
        """This function with its weights, the arguments marked ``{nn.weight}``, given once and kept packed.

        It is compiled for packed weights at the first binding. Results are the same to the last bit. Raises a
        CrosstileError for names that are not exactly the program's weights, and for arrays that do not fit.
        """
        from crosstile.tools.prepared import PreparedFunction, check_weights

        check_weights(self._function.signature, weights)
        if self._bound is None:
            if self._compile_bound is None:
                raise CrosstileError("the function was not compiled from a program: it cannot be compiled for weights")
            self._bound = self._compile_bound()
        return PreparedFunction(self._bound, weights)

    @property
    def weight_names(self) -> tuple[str, ...]:
        """The arguments that ``bind`` takes, in the order of the program."""
        return tuple(self._compiled.function.signature.weights)

    @property
    def host_function(self) -> HostFunction:
        """What runs on contiguous arrays, without looking at them."""
        return self._function

    @property
    def kernels(self) -> list[str]:
        """The names of the kernels the program became, variants included."""
        return self._compiled.kernels

    @property
    def compile_seconds(self) -> dict[str, float]:
        """The seconds each phase of the compilation took."""
        return dict(self._compiled.seconds)

    def _given_outputs(self, out: Any, results: list[Array]) -> list[Array]:
        """The arrays of ``out``, checked."""
        arrays = list(cast("Sequence[object]", out)) if isinstance(out, tuple | list) else [out]
        if len(arrays) != len(results):
            expected = "1 array" if len(results) == 1 else f"{len(results)} arrays"
            raise CrosstileError(f"out: expected {expected}, found {len(arrays)}")
        given = [self._given_output(position, *pair) for position, pair in enumerate(zip(arrays, results, strict=True))]
        for (first, one), (second, other) in combinations(enumerate(given), 2):
            if np.shares_memory(one, other):
                raise CrosstileError(f"out: results {first} and {second} share memory")
        return given

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


@overload
def compile(  # pyright: ignore[reportOverlappingOverload] - other strings than these are CPUs
    source: str | os.PathLike[str] | ModuleOp, target: GpuTarget, entry: str | None = None, start: str = "nn"
) -> GpuFunction: ...


@overload
def compile(
    source: str | os.PathLike[str] | ModuleOp, target: str | None = None, entry: str | None = None, start: str = "nn"
) -> CompiledFunction: ...


def compile(
    source: str | os.PathLike[str] | ModuleOp, target: str | None = None, entry: str | None = None, start: str = "nn"
) -> CompiledFunction | GpuFunction:
    """Compile a program: a path, its text, or a module.

    ``target`` is a machine this process runs on, by default that of ``CROSSTILE_TARGET``, else this one; ``entry`` is
    the function (``main``, or the only one), ``start`` the level the program is written on. Object code is kept on disk
    (docs/cache.md). For a GPU the result is a ``GpuFunction``, whose kernels are compiled when calls need them. Raises
    CrosstileError for anything wrong with the program, with its place.
    """
    target = default_target() if target is None else target
    if target != "host":
        from crosstile.tools.targets import find_machine

        if find_machine(target).warp_lanes is not None:
            from crosstile.tools.device_code import DeviceCode
            from crosstile.tools.gpu_function import GpuFunction

            return GpuFunction(DeviceCode.of_source(source, target, start, entry))
    compiled = compile_source(source, target, start, entry)
    if not compiled.function.signature.weights:
        return CompiledFunction(compiled)
    # A file or a module may change before the first binding.
    kept = read_source(source)[1] if isinstance(source, str | os.PathLike) else source.clone()
    return CompiledFunction(compiled, lambda: compile_source(kept, target, start, entry, bound=True))
