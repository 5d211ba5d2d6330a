"""Calling a compiled host function with NumPy arrays: checks, words, the arena, workers. Imports no compiler.

The entry takes the address of 64-bit words: per memref the data pointer and then its dynamic dimensions, then the arena
with its size, then stage, part and parts. One worker runs everything in one call; several are called once per stage
each, from a pool of threads, as calls release the interpreter lock. What depends on the shapes only - the shapes of the
results, the words that are no addresses, the size of the arena - is a ``Plan``, worked out once and kept::

    arguments -> check -> plan of their shapes -> words -> main.entry(words)
"""

from __future__ import annotations

import ctypes
import struct
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from crosstile.ir.diagnostics import CrosstileError
from crosstile.targets.signature import ARENA_SUFFIX, ENTRY_SUFFIX, ArrayType, HostSignature
from crosstile.targets.x86.available import ASKED_BYTES, allocate, require_memory
from crosstile.targets.x86.linking import LinkedProgram, ProgramCode
from crosstile.targets.x86.run import LoadedObject
from crosstile.targets.x86.workers import Team, team, worthwhile_workers

Array = np.ndarray[Any, np.dtype[Any]]
ALIGNMENT = 64
"""Bytes of a cache line; what the arena is aligned to."""
LARGE_BYTES = 1 << 14
"""Results of so many bytes are aligned like the arena; NumPy aligns its arrays to 16 bytes."""
KEPT_BYTES = 1 << 20
"""An arena is given back when a later call needs less than a quarter of it, unless it is as small as this."""
BYTE = np.dtype(np.uint8)
KEPT_PLANS = 1024
"""So many combinations of shapes are remembered per function."""
_WORD_BYTES = 8
EVERYTHING = -1
"""The stage that stands for all stages in one call."""
PLAIN = 0x101
"""``flags.num`` of an array that is row-major, contiguous and aligned."""
PLAIN_OUTPUT = 0x501
"""The same of one that may be written to."""
_DATA_OFFSET = 2 * ctypes.sizeof(ctypes.c_void_p)
"""Bytes from the start of an array object to its data pointer: NumPy's binary interface (PyArrayObject_fields)."""


_at = ctypes.c_size_t.from_address


def _slow_address(array: Array) -> int:
    return array.ctypes.data


def _fast_address(array: Array) -> int:
    """Five times as fast as ``array.ctypes.data``: reads the pointer from the array object."""
    return _at(id(array) + _DATA_OFFSET).value


def _choose_address() -> Callable[[Array], int]:
    """The fast way where array objects are laid out as expected: in CPython with its global lock."""
    if sys.implementation.name == "cpython" and object.__basicsize__ == _DATA_OFFSET:
        samples = [np.zeros(size) for size in (1, 7, 4096)]
        if all(_fast_address(sample) == _slow_address(sample) for sample in samples):
            return _fast_address
    return _slow_address


address_of = _choose_address()
"""The address of an array's first element."""


def dtype_called(name: str) -> np.dtype[Any]:
    """The element type with NumPy's or ml_dtypes' ``name``."""
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))


@dataclass(frozen=True)
class ArgumentRule:
    """What an argument must be: element type and shape (None for a dimension of any size)."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]

    @classmethod
    def of(cls, name: str, type_: ArrayType) -> ArgumentRule:
        """The rule for arguments of a type."""
        return cls(name, dtype_called(type_.dtype), type_.shape)

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


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An uninitialised array; a large one begins at a cache line, so that no store of a whole line touches two."""
    size = prod(shape) * dtype.itemsize
    if size < LARGE_BYTES:
        return np.empty(shape, dtype)
    raw = allocate((size + ALIGNMENT,), BYTE, f"a result of shape {shape}")
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def is_plain(array: Array) -> bool:
    """Whether machine code can take ``array`` as it is: row-major, contiguous and aligned."""
    return array.flags.c_contiguous and array.flags.aligned


def plain(array: Array) -> Array:
    """``array``, copied only if it is not contiguous or not aligned."""
    return array if is_plain(array) else np.array(array, order="C")


@dataclass(slots=True, eq=False)
class Plan:
    """What of a call follows from the shapes of its inputs."""

    result_shapes: tuple[tuple[int, ...], ...]
    words: list[int]
    """All words of a call by one worker, with 0 for addresses that differ; an arena of 0 bytes needs none."""
    allocations: list[tuple[tuple[int, ...], np.dtype[Any]]]
    """Shape and type of each result."""
    arena_bytes: int
    """Scratch memory for one worker."""
    elements: int
    """The elements of inputs and results together."""
    workers: int
    """So many workers at most are worth waking."""
    is_ready: bool = False
    """Whether the kernels that these shapes choose are compiled."""


class Bound(NamedTuple):
    """An argument that is the same in every call: its elements as the program reads them, and its shape."""

    packed: Array
    shape: tuple[int, ...]


class HostFunction:
    """A host function that runs: ``function(inputs, outputs, workers)`` writes ``outputs``; ``signature`` describes it.

    It may be called from several threads at once.
    """

    def __init__(self, signature: HostSignature, code: ProgramCode):
        name = signature.name
        self.signature = signature
        self._linked = LinkedProgram(code, [name + ENTRY_SUFFIX, name + ARENA_SUFFIX])
        self._linking = threading.Lock()
        self.input_rules = [ArgumentRule.of(*pair) for pair in zip(signature.names, signature.inputs, strict=True)]
        self.output_rules = [
            ArgumentRule.of(f"result {position}", type_) for position, type_ in enumerate(signature.results)
        ]
        types = [*signature.inputs, *signature.results]
        self._bound: dict[int, Bound] = {}
        self.slots: list[int] = []
        """Where among the words the address of each argument and result stands."""
        count = 0
        for type_ in types:
            self.slots.append(count)
            count += 1 + type_.shape.count(None)
        self._arena_slot = count
        self._use(self._linked.loaded)
        self._pack = struct.Struct(f"={count + 5}q").pack
        self._types = types
        self._item_sizes = [rule.dtype.itemsize for rule in (*self.input_rules, *self.output_rules)]
        self._dtypes = [rule.dtype for rule in self.input_rules]
        self._result_dtypes = [rule.dtype for rule in self.output_rules]
        self._plans: dict[tuple[Any, ...], Plan] = {}
        self._scratch = threading.local()

    def _use(self, loaded: LoadedObject) -> None:
        """From now on call the functions of ``loaded``."""
        self.loaded = loaded
        """The code that runs now."""
        self._entry = loaded.entry(self.signature.name)
        self._entry_address = loaded.address(self.signature.name + ENTRY_SUFFIX)
        self._arena_size: Callable[..., int] = loaded.function(
            self.signature.name + ARENA_SUFFIX, *[ctypes.c_int64] * (self._arena_slot + 2)
        )

    @property
    def code(self) -> ProgramCode:
        """The object code so far."""
        return self._linked.code

    def bind(self, arrays: Mapping[int, object]) -> HostFunction:
        """A function of the other arguments: those at these positions are laid out now as the program reads them.

        Nothing written to the arrays later is seen. Raises a CrosstileError for an array of the wrong type or shape.
        """
        signature, bound = self.signature, copy(self)
        bound._bound = {}
        for position, value in arrays.items():
            array = self.input_rules[position].check(value)
            layout = signature.inputs[position].layout
            packed = np.array(array, order="C") if layout is None else layout.pack(array)
            bound._bound[position] = Bound(packed, array.shape)
        free = [position for position in range(len(self.input_rules)) if position not in bound._bound]
        bound.input_rules = [self.input_rules[position] for position in free]
        bound._dtypes = [self._dtypes[position] for position in free]
        bound.slots = [slot for at, slot in enumerate(self.slots) if at not in bound._bound]
        bound._plans, bound._scratch = {}, threading.local()
        return bound

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
        return self.empty_results(self.keep_plan(inputs))

    def fitting_plan(self, arguments: tuple[Any, ...]) -> Plan | None:
        """The plan for arguments that machine code can take as they are; None for others, or if none was made.

        A plan of these very shapes exists only if they were checked when it was made.
        """
        dtypes = self._dtypes
        if len(arguments) != len(dtypes):
            return None
        shapes: list[Any] = []
        for array, dtype in zip(arguments, dtypes, strict=True):
            if type(array) is not np.ndarray or array.dtype is not dtype or array.flags.num & PLAIN != PLAIN:
                return None
            shapes.append(array.shape)
        return self._plans.get(tuple(shapes))

    def keep_plan(self, inputs: Sequence[Array]) -> Plan:
        """The plan for checked inputs, kept for the next call with these shapes."""
        shapes = tuple(array.shape for array in inputs)
        plan = self._plans.get(shapes)
        if plan is None:
            if len(self._plans) >= KEPT_PLANS:
                self._plans.clear()
            plan = self._plans[shapes] = self._plan(shapes)
        return plan

    def _plan(self, shapes: Sequence[tuple[int, ...]]) -> Plan:
        remaining = iter(shapes)
        shapes = [
            self._bound[at].shape if at in self._bound else next(remaining) for at in range(len(self.signature.inputs))
        ]
        result_shapes = self.signature.shapes_of_results(shapes)
        words: list[int] = []
        for at, (type_, shape) in enumerate(zip(self._types, [*shapes, *result_shapes], strict=True)):
            if at not in self._bound and type_.layout is not None:
                raise CrosstileError(f"{self.signature.names[at]} is read packed: it must be bound before the call")
            words.append(address_of(self._bound[at].packed) if at in self._bound else 0)
            words += [size for size, known in zip(shape, type_.shape, strict=True) if known is None]
        counts = [prod(shape) for shape in [*shapes, *result_shapes]]
        size = sum(count * each for count, each in zip(counts, self._item_sizes, strict=True))
        arena_bytes = self._arena_size(*words, 1)
        allocations = list(zip(result_shapes, self._result_dtypes, strict=True))
        workers = worthwhile_workers(self.signature.operation_count(shapes), size)
        return Plan(result_shapes, [*words, 0, 0, EVERYTHING, 0, 1], allocations, arena_bytes, sum(counts), workers)

    def empty_results(self, plan: Plan) -> list[Array]:
        """Uninitialised arrays for the results; a CrosstileError if there is no memory for them and for the arena."""
        size = sum(prod(shape) * dtype.itemsize for shape, dtype in plan.allocations)
        if size + plan.arena_bytes >= ASKED_BYTES:
            shapes = ", ".join(str(shape) for shape, _ in plan.allocations)
            what = f"the results of @{self.signature.name} of shape {shapes} and its temporaries"
            require_memory(size + plan.arena_bytes, what)
        return [empty(shape, dtype) for shape, dtype in plan.allocations]

    def is_plain_output(self, plan: Plan, out: Any) -> bool:
        """Whether ``out`` is the one result's array, which machine code can write as it is."""
        return (
            type(out) is np.ndarray
            and [(out.shape, out.dtype)] == plan.allocations
            and out.flags.num & PLAIN_OUTPUT == PLAIN_OUTPUT
        )

    def __call__(self, inputs: Sequence[Array], outputs: Sequence[Array], workers: int = 1) -> None:
        """Run on contiguous arrays of the right types and shapes."""
        self.run(self.keep_plan(inputs), inputs, outputs, workers)

    def run(self, plan: Plan, inputs: Sequence[Array], outputs: Sequence[Array], workers: int) -> None:
        """Run on contiguous arrays of the right types and of the plan's shapes."""
        words = plan.words.copy()
        for slot, array in zip(self.slots, (*inputs, *outputs), strict=True):
            words[slot] = address_of(array)
        if not plan.is_ready:
            self._make_ready(plan, words)
        if workers > 1:
            with team(workers) as helpers:
                self._share(words, helpers)
            return
        self.call(plan, words)

    def call(self, plan: Plan, words: list[int]) -> None:
        """Run by this thread alone on the addresses in ``words``, which is changed; ``plan`` must be ready."""
        if plan.arena_bytes:
            words[self._arena_slot : self._arena_slot + 2] = self._reserve(plan.arena_bytes)
        status = self._entry(self._pack(*words))
        if status:
            self._fail(status)

    def _make_ready(self, plan: Plan, words: Sequence[int]) -> None:
        """Compile the kernels that the shapes of ``plan`` choose, if any of them was never needed before."""
        with self._linking:
            if self._linked.code.missing:
                size = self._arena_size(*words[: self._arena_slot], 1)
                packed = self._pack(*words[: self._arena_slot], *self._reserve(size), EVERYTHING, 0, 1)
                chosen = self._linked.chosen_by(lambda loaded: self._try(loaded, packed))
                if chosen:
                    self._linked.add(chosen)
            if self.loaded is not self._linked.loaded:
                self._use(self._linked.loaded)
        plan.is_ready = True

    def _try(self, loaded: LoadedObject, packed: bytes) -> None:
        status = loaded.entry(self.signature.name)(packed)
        if status:
            self._fail(status)

    def compile_all(self) -> None:
        """Compile the kernels that no call has needed so far."""
        with self._linking:
            if self._linked.code.missing:
                self._linked.add(self._linked.code.missing)
                self._use(self._linked.loaded)

    def _share(self, words: list[int], helpers: Team) -> None:
        """Run all stages, each by all helpers at once."""
        shared = words[: self._arena_slot]
        shared += self._reserve(self._arena_size(*shared, helpers.parts))
        parts = [self._pack(*shared, 0, part, helpers.parts) for part in range(helpers.parts)]
        status = helpers.run(self._entry_address, parts, _WORD_BYTES * len(shared), self.signature.stages)
        if status:
            self._fail(status)

    def arena_size(self, inputs: Sequence[Array], outputs: Sequence[Array], workers: int = 1) -> int:
        """The bytes of scratch memory that a call on these arrays needs: temporaries and the workers' own."""
        return self._arena_size(*self.keep_plan(inputs).words[: self._arena_slot], workers)

    def _fail(self, status: int) -> None:
        if status > 0:
            raise CrosstileError(f"@{self.signature.name}: {self.signature.checks[status - 1]}")
        raise CrosstileError(f"internal error: @{self.signature.name} was given too small an arena")

    def _reserve(self, size: int) -> tuple[int, int]:
        """Address and bytes of scratch memory of at least ``size`` bytes; each calling thread keeps its own."""
        kept: tuple[Array, int, int] | None = getattr(self._scratch, "arena", None)
        if kept is None or kept[2] < size or kept[2] > 4 * max(size, KEPT_BYTES):
            what = f"the temporaries of @{self.signature.name}"
            self._scratch.arena = kept = None  # what is too small is given back first
            require_memory(size, what)
            raw = allocate((size + ALIGNMENT,), BYTE, what)
            address = raw.ctypes.data
            kept = self._scratch.arena = (raw, address + -address % ALIGNMENT, size)
        return kept[1:]


@dataclass
class Compiled:
    """A compiled host function, the seconds each phase took so far, and its object code."""

    function: HostFunction
    seconds: dict[str, float]
    code: ProgramCode

    @property
    def kernels(self) -> list[str]:
        """The names of the kernels the program became, variants included."""
        return list(self.function.signature.kernels)
