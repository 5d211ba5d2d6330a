"""When rows of memory begin at multiples of so many bytes: what wide accesses and copies of blocks need.

Level: nest. In: the axes of a kernel. Out: the guard under which all of its arrays have such rows. Arrays are
contiguous, so that a row of N elements of bf16 is a multiple of 16 bytes if N is one of 8; where arrays begin is
checked when the kernel is launched. Dimensions of one element do not count: a bias of ``Nx1x1`` is one row. ::

    [k mod 8 == 0 and n mod 4 == 0 : #nest.schedule<..., aligned = 16>, #nest.schedule<...>]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from xdsl.dialects.builtin import DYNAMIC_INDEX, TensorType
from xdsl.ir import BlockArgument, SSAValue
from xdsl.utils.hints import isa

from crosstile.dialects.nest.axes import KernelAxes
from crosstile.dialects.nest.schedule import Comparison, GuardAttr, GuardedScheduleAttr, ScheduleAttr
from crosstile.passes.schedules.register_tiles import bits

ALIGNMENT = 16
"""Bytes that one thread reads, writes or copies at once at most, and that copies of whole blocks take rows to be."""


def aligned_variants(axes: KernelAxes, schedules: Sequence[GuardedScheduleAttr]) -> list[GuardedScheduleAttr]:
    """``schedules``, each preceded by the same for aligned rows, or replaced by it if rows are known to be."""
    guard = rows_guard(axes, ALIGNMENT)
    if guard is None:
        return list(schedules)
    result: list[GuardedScheduleAttr] = []
    for guarded in schedules:
        schedule = replace(guarded.schedule.data, aligned=ALIGNMENT)
        result.append(GuardedScheduleAttr(GuardAttr((*guarded.guard.data, *guard)), ScheduleAttr(schedule)))
        result += [guarded] if guard else []
    return result


def rows_guard(axes: KernelAxes, width: int) -> tuple[Comparison, ...] | None:
    """The guard under which rows of all arrays of a kernel are multiples of ``width`` bytes; None if there is none."""
    kernel = axes.kernel
    conditions: dict[str, Comparison] = {}
    for value in (*kernel.body.block.args, *kernel.yield_op.arguments):
        if not isa(value.type, TensorType) or not value.uses:
            continue
        dims = [dim for dim, size in enumerate(value.type.get_shape()) if size != 1]
        if len(dims) < 2:
            continue
        unit = max(1, width * 8 // bits(value.type.get_element_type()))
        size = value.type.get_shape()[dims[-1]]
        if size != DYNAMIC_INDEX:
            if size % unit:
                return None
            continue
        name = _iterator(axes, value, dims[-1])
        if name is None:
            return None
        known = conditions.get(name)
        if known is None or (known.modulus or 1) < unit:
            conditions[name] = Comparison(name, "==", 0, unit)
    return tuple(conditions.values())


def _iterator(axes: KernelAxes, value: SSAValue, dim: int) -> str | None:
    """The root's iterator along dimension ``dim`` of ``value``."""
    root = axes.of_nest(axes.root)
    if isinstance(value, BlockArgument):
        return next((axis.name for axis in root if (value, dim) in axes.places(axis)), None)
    along = axes.of_result(value)[dim]
    return next((axis.name for axis in root if axis == along), None)
