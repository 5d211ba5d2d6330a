"""What a call of a host function does on a device, as a list: found once for each combination of shapes.

Level: run time. In: a module at the ``mma`` level and the shapes of the inputs. Out: a :class:`CallPlan`, which has the
buffers of the call and its steps in order, with sizes worked out, variants chosen and checks passed, so that a
call only puts addresses in::

    func.func @main(%x : memref<?x64xf32>, %y : memref<?x64xf32>) ... {
      %h = memref.alloc(%m) : memref<?x64xf32>            plan_call(module, "main", [(1000, 64)], ...)
      tile.launch @norm(%x, %h : ...)                     buffers: input 0, result 0, temporary of 256000 bytes
      tile.launch @add(%h, %y : ...)                      steps: launch norm, launch add

The host function is interpreted on arrays at addresses that nothing is stored at: views, sizes and strides are NumPy's,
and no element is ever touched. Numbers that the host computes and stores become fills. Temporaries that are not in use
at the same time share the workspace.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from crosstile.ir.diagnostics import op_error

if TYPE_CHECKING:
    from xdsl.dialects import memref
    from xdsl.dialects.builtin import ModuleOp
    from xdsl.ir import Operation

    from crosstile.dialects.interpreter import Interpreter, Meaning
    from crosstile.dialects.tile.launch import LaunchOp
    from crosstile.targets.signature import HostSignature

Array = NDArray[Any]

ALIGNMENT = 256
"""Bytes; every buffer begins at a multiple of it, as what the driver allocates does."""
FIRST_ADDRESS = 1 << 40
PURE = ("affine", "arith", "cf", "func", "math", "scf")
"""The dialects whose operations look at no element of a memref, but for two of affine's."""


@dataclass(frozen=True, eq=False)
class Buffer:
    """Memory of a call: input or result ``number``, a temporary, or a constant of the program with its ``data``.

    ``offset`` is where a temporary lies in the workspace.
    """

    kind: Literal["input", "result", "temporary", "constant"]
    number: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    name: str = ""
    data: Array | None = None
    offset: int = 0

    @property
    def size(self) -> int:
        """Its bytes."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class View:
    """A strided array in a buffer: ``offset`` in bytes, ``strides`` in elements."""

    buffer: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    element_bytes: int

    @property
    def size(self) -> int:
        """Its bytes."""
        return prod(self.shape) * self.element_bytes


@dataclass(frozen=True)
class KernelStep:
    """Launch ``kernel`` on these arguments."""

    kernel: str
    arguments: tuple[View | int | float, ...]


@dataclass(frozen=True)
class FillStep:
    """Write the bytes of one element."""

    target: View
    data: bytes


@dataclass(frozen=True)
class CopyStep:
    """Copy one contiguous array to another."""

    source: View
    target: View


Step = KernelStep | FillStep | CopyStep


@dataclass(frozen=True, eq=False)
class CallPlan:
    """The buffers and steps of a call; ``workspace`` is how many bytes its temporaries take together."""

    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    workspace: int

    def of_kind(self, kind: str) -> list[Buffer]:
        """The inputs, results, temporaries or constants in order."""
        return [buffer for buffer in self.buffers if buffer.kind == kind]


def plan_call(
    module: ModuleOp, entry: str, signature: HostSignature, shapes: Sequence[tuple[int, ...]], dtypes: Sequence[Any]
) -> CallPlan:
    """The plan of a call of the host function ``entry`` on inputs of these shapes and types.

    Raises :class:`CrosstileError` for a check of the program that fails, and for what a host function for a device
    cannot do, naming the operation.
    """
    from crosstile.dialects.interpreter import Interpreter
    from crosstile.targets.x86.launch import dtype_called

    trace = _Trace()
    for number, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True)):
        trace.add("input", number, shape, np.dtype(dtype))
    results = signature.shapes_of_results(shapes)
    types = [dtype_called(type_.dtype) for type_ in signature.results]
    for number, shape in enumerate(results):
        trace.add("result", number, shape, types[number])
    interpreter = Interpreter(module, _meanings(trace))
    interpreter.call(entry, trace.arrays.copy())
    return trace.plan()


class _Nowhere:
    """Bytes at an address that nothing is stored at, for NumPy."""

    def __init__(self, address: int, size: int):
        self.__array_interface__ = {"version": 3, "shape": (size,), "typestr": "|u1", "data": (address, False)}


@dataclass
class _Trace:
    """What was met so far; ``arrays`` are the buffers as arrays at ``starts``."""

    buffers: list[Buffer] = field(default_factory=list[Buffer])
    arrays: list[Array] = field(default_factory=list[Array])
    starts: list[int] = field(default_factory=list[int])
    steps: list[Step] = field(default_factory=list[Step])
    constants: dict[str, Array] = field(default_factory=dict[str, Array])
    stored: dict[tuple[int, int], Any] = field(default_factory=dict[tuple[int, int], Any])
    end: int = FIRST_ADDRESS

    def add(self, kind: Any, number: int, shape: tuple[int, ...], dtype: np.dtype[Any], **more: Any) -> Array:
        """A new buffer, as an array."""
        buffer = Buffer(kind, number, shape, dtype, **more)
        array = np.asarray(_Nowhere(self.end, buffer.size)).view(dtype).reshape(shape)
        self.buffers.append(buffer)
        self.arrays.append(array)
        self.starts.append(self.end)
        self.end += -(-max(buffer.size, 1) // ALIGNMENT) * ALIGNMENT
        return array

    def view(self, array: Array) -> View:
        """Where ``array`` lies. One without elements may lie anywhere: it is at the start of a buffer."""
        address = array.ctypes.data
        buffer = max(0, bisect_right(self.starts, address) - 1)
        offset = address - self.starts[buffer] if array.size else 0
        strides = tuple(stride // array.itemsize for stride in array.strides)
        return View(buffer, offset, array.shape, strides, array.itemsize)

    def element(self, array: Array, indices: Sequence[int]) -> View:
        """One element of ``array``."""
        return self.view(array[(*(slice(index, index + 1) for index in indices), ...)])

    def plan(self) -> CallPlan:
        """The plan, its temporaries placed in the workspace."""
        lives: dict[int, tuple[int, int]] = {}
        for position, step in enumerate(self.steps):
            for view in _views(step):
                lives[view.buffer] = (lives.get(view.buffer, (position, position))[0], position)
        placed = {at: life for at, life in lives.items() if self.buffers[at].kind == "temporary"}
        offsets, workspace = _place({at: self.buffers[at].size for at in placed}, placed)
        buffers = [
            Buffer(one.kind, one.number, one.shape, one.dtype, one.name, one.data, offsets.get(at, 0))
            for at, one in enumerate(self.buffers)
        ]
        return CallPlan(tuple(buffers), tuple(self.steps), workspace)


def _views(step: Step) -> list[View]:
    match step:
        case KernelStep():
            return [one for one in step.arguments if isinstance(one, View)]
        case FillStep():
            return [step.target]
        case CopyStep():
            return [step.source, step.target]


def _place(sizes: Mapping[int, int], lives: Mapping[int, tuple[int, int]]) -> tuple[dict[int, int], int]:
    """Offsets such that buffers that live at the same time do not overlap, and the bytes they take together.

    The largest goes first, each to the lowest place that is free all its life.
    """
    offsets: dict[int, int] = {}
    total = 0
    for at in sorted(sizes, key=lambda one: (-sizes[one], one)):
        size = -(-max(sizes[at], 1) // ALIGNMENT) * ALIGNMENT
        first, last = lives[at]
        offset = 0
        for other in sorted(offsets, key=offsets.__getitem__):
            end = offsets[other] + -(-max(sizes[other], 1) // ALIGNMENT) * ALIGNMENT
            if lives[other][0] <= last and first <= lives[other][1] and offsets[other] < offset + size and offset < end:
                offset = end
        offsets[at] = offset
        total = max(total, offset + size)
    return offsets, total


def _meanings(trace: _Trace) -> dict[type[Operation], Meaning]:
    """What the operations of a host function mean on arrays that have no elements: those that look at none as ever."""
    from xdsl.dialects import affine, memref

    from crosstile.dialects.memory_meaning import MEANINGS as MEMORY
    from crosstile.dialects.tile.launch import LaunchOp
    from crosstile.dialects.upstream_meaning import MEANINGS as UPSTREAM

    views = (
        memref.AssumeAlignmentOp,
        memref.CastOp,
        memref.CollapseShapeOp,
        memref.DeallocOp,
        memref.DimOp,
        memref.ExpandShapeOp,
        memref.MemorySpaceCastOp,
        memref.RankOp,
        memref.ReinterpretCastOp,
        memref.SubviewOp,
        memref.ViewOp,
    )
    table = {op: meaning for op, meaning in UPSTREAM.items() if op.name.partition(".")[0] in PURE}
    for touching in (affine.LoadOp, affine.StoreOp):
        table.pop(touching)
    table |= {op: MEMORY[op] for op in views}
    return table | {
        memref.AllocOp: partial(_allocate, trace),
        memref.AllocaOp: partial(_allocate, trace),
        memref.GetGlobalOp: partial(_constant, trace),
        memref.StoreOp: partial(_store, trace),
        memref.LoadOp: partial(_load, trace),
        memref.CopyOp: partial(_copy, trace),
        LaunchOp: partial(_launch, trace),
    }


def _allocate(trace: _Trace, interpreter: Interpreter, op: memref.AllocOp, operands: Sequence[Any]) -> Sequence[Any]:
    from crosstile.dialects.memory_meaning import element_dtype, filled_shape

    shape = filled_shape(op.memref.type, operands[: len(op.dynamic_sizes)])
    return (trace.add("temporary", 0, shape, element_dtype(op.memref.type), name=op.memref.name_hint or ""),)


def _constant(
    trace: _Trace, interpreter: Interpreter, op: memref.GetGlobalOp, operands: Sequence[Any]
) -> Sequence[Any]:
    from crosstile.dialects.memory_meaning import get_global

    name = op.name_.string_value()
    if name not in trace.constants:
        (data,) = get_global(interpreter, op, operands)
        trace.constants[name] = trace.add("constant", 0, data.shape, data.dtype, name=name, data=data)
    return (trace.constants[name],)


def _store(trace: _Trace, interpreter: Interpreter, op: memref.StoreOp, operands: Sequence[Any]) -> Sequence[Any]:
    from crosstile.dialects.memory_meaning import check_indices

    value, target, *indices = operands
    view = trace.element(target, check_indices(op, target.shape, indices))
    data = np.asarray(value, target.dtype)
    trace.stored[view.buffer, view.offset] = data[()]
    trace.steps.append(FillStep(view, data.tobytes()))
    return ()


def _load(trace: _Trace, interpreter: Interpreter, op: memref.LoadOp, operands: Sequence[Any]) -> Sequence[Any]:
    from crosstile.dialects.memory_meaning import check_indices

    source, *indices = operands
    view = trace.element(source, check_indices(op, source.shape, indices))
    if (view.buffer, view.offset) not in trace.stored:
        raise op_error(op, "the host reads a number in the device's memory; legal: one that the host has stored itself")
    return (trace.stored[view.buffer, view.offset],)


def _copy(trace: _Trace, interpreter: Interpreter, op: memref.CopyOp, operands: Sequence[Any]) -> Sequence[Any]:
    source, target = operands
    if source.shape != target.shape:
        raise op_error(op, f"'memref.copy' from shape {source.shape} to {target.shape}")
    if source.size and not (source.flags.c_contiguous and target.flags.c_contiguous):
        raise op_error(op, "'memref.copy' on a device takes contiguous arrays")
    if source.size:
        trace.steps.append(CopyStep(trace.view(source), trace.view(target)))
    return ()


def _launch(trace: _Trace, interpreter: Interpreter, op: LaunchOp, operands: Sequence[Any]) -> Sequence[Any]:
    arguments = tuple(
        trace.view(cast("Array", one)) if isinstance(one, np.ndarray) else _scalar(one) for one in operands
    )
    trace.stored.clear()  # a kernel may write anywhere
    trace.steps.append(KernelStep(op.kernel.string_value(), arguments))
    return ()


def _scalar(value: Any) -> int | float:
    return cast("int | float", value.item() if isinstance(value, np.generic) else value)
