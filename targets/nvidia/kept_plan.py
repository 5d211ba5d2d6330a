"""Plans of calls as plain data, for the cache on disk.

Level: run time. In: a :class:`CallPlan`. Out: what ``json.dumps`` takes, and the plan again, without the compiler::

    {"workspace": 256000, "buffers": [["input", 0, [1000, 64], "float32", "x", 0], ...],
     "steps": [["kernel", "norm", [[0, 0, [1000, 64], [64, 1], 4], [2, 0, [1000, 64], [64, 1], 4]]], ...]}

A view is [buffer, offset, shape, strides, bytes of an element]. The data of constants is not part of it: they are the
same for all shapes, and are kept by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from crosstile.targets.nvidia.call_plan import (
    Array,
    Buffer,
    CallPlan,
    CopyStep,
    FillStep,
    KernelStep,
    Step,
    View,
)
from crosstile.targets.x86.launch import dtype_called

Data = dict[str, Any]


def plan_to_json(plan: CallPlan) -> Data:
    """``plan`` but for the data of its constants."""
    buffers = [[one.kind, one.number, one.shape, one.dtype.name, one.name, one.offset] for one in plan.buffers]
    return {"workspace": plan.workspace, "buffers": buffers, "steps": [_step_to_json(step) for step in plan.steps]}


def plan_from_json(data: Mapping[str, Any], constant: Callable[[str], Array]) -> CallPlan:
    """The plan that ``plan_to_json`` described; ``constant`` has the data of constants by name.

    Raises KeyError, TypeError or ValueError for what it did not describe, and what ``constant`` raises.
    """
    buffers: list[Buffer] = []
    for kind, number, shape, dtype, name, offset in data["buffers"]:
        held = constant(name) if kind == "constant" else None
        buffers.append(Buffer(kind, int(number), tuple(shape), dtype_called(dtype), name, held, int(offset)))
    return CallPlan(tuple(buffers), tuple(map(_step, data["steps"])), int(data["workspace"]))


def _step_to_json(step: Step) -> list[Any]:
    match step:
        case KernelStep(kernel, arguments):
            return ["kernel", kernel, [_view_to_json(one) if isinstance(one, View) else one for one in arguments]]
        case FillStep(target, data):
            return ["fill", _view_to_json(target), data.hex()]
        case CopyStep(source, target):
            return ["copy", _view_to_json(source), _view_to_json(target)]


def _step(row: list[Any]) -> Step:
    match row:
        case ["kernel", name, arguments]:
            return KernelStep(name, tuple(_view(one) if isinstance(one, list) else one for one in arguments))
        case ["fill", target, data]:
            return FillStep(_view(target), bytes.fromhex(data))
        case ["copy", source, target]:
            return CopyStep(_view(source), _view(target))
        case _:
            raise ValueError(f"no step of a call: {row}")


def _view_to_json(view: View) -> list[Any]:
    return [view.buffer, view.offset, view.shape, view.strides, view.element_bytes]


def _view(row: Any) -> View:
    buffer, offset, shape, strides, element_bytes = row
    return View(buffer, offset, tuple(shape), tuple(strides), element_bytes)
