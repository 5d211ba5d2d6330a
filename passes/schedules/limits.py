"""What a machine cannot run of a schedule that a person or a tuner wrote: registers, caches.

Level: nest. In: a kernel with a schedule that names an instruction. Out: nothing, or an error that says the limit, the
value, and the nearest that is legal. ::

    loops = [n : 4096, k : 512, m : 256, n : 64, m : 14]
    error: the register tile m : 14, n : 64 takes 61 registers, 14*4 of them accumulators; x86-64-avx512 has 32: the
           nearest that fit are m : 6, n : 64 and m : 14, n : 16
"""

from __future__ import annotations

from crosstile.dialects.nest.analysis import element_type
from crosstile.dialects.nest.axes import Axis, KernelAxes, axes_among
from crosstile.dialects.nest.contraction_roles import ContractionRoles, contraction_roles
from crosstile.dialects.nest.kernel import KernelOp
from crosstile.dialects.nest.schedule import Schedule
from crosstile.dialects.precision import TF32
from crosstile.ir.diagnostics import CrosstileError, op_error
from crosstile.passes.schedules.register_tiles import bits
from crosstile.targets.model import Machine, MmaIntrinsic

WHOLE_STEPS = 8
"""Advice for k is a multiple of this, which whole words of every instruction divide."""


def check_schedules(kernel: KernelOp, machine: Machine) -> None:
    """Raise a CrosstileError for the first schedule of ``kernel`` that ``machine`` cannot run."""
    axes = KernelAxes(kernel)
    roles = contraction_roles(axes)
    if roles is None or kernel.schedules is None:
        return  # what has no matrix product of its own is refused where its tiles are placed
    for guarded in kernel.schedules:
        schedule = guarded.schedule.data
        row = next((row for row in machine.intrinsics if row.name == schedule.intrinsic), None)
        if row is not None and row.lhs.element == TF32 and roles.nest.precision is None:
            raise _error(
                kernel, f"{row.name} cuts factors off to tf32, which the product does not allow: precision tf32"
            )
        if row is None or schedule.grid or schedule.lane != roles.n.name:
            continue
        problem = _registers(schedule, roles, row, machine) or _scratch(axes, schedule, roles, machine)
        if problem is not None:
            raise _error(kernel, problem)


def _error(kernel: KernelOp, problem: str) -> CrosstileError:
    return op_error(kernel, f"choose-schedule: the schedule of @{kernel.kernel_name.data} does not fit: {problem}")


def _tile(schedule: Schedule, axis: Axis | None) -> int:
    """The innermost step along ``axis``: a side of the register tile."""
    steps = () if axis is None else schedule.steps(axis.name)
    return steps[-1] if steps else 1


def _registers(schedule: Schedule, roles: ContractionRoles, row: MmaIntrinsic, machine: Machine) -> str | None:
    rows, columns = _tile(schedule, roles.m), _tile(schedule, roles.n)
    vectors, available = columns // row.n, machine.vector_registers
    if row.m != 1 or columns % row.n:
        return None  # what does not fill the lanes is refused where the tile is placed
    if (needed := rows * vectors + vectors + 1) <= available:
        return None
    fewer_rows = (available - 1 - vectors) // vectors
    fewer_vectors = (available - 1) // (rows + 1)
    nearest = [f"{roles.m} : {fewer_rows}, {roles.n} : {columns}"] if fewer_rows > 0 and roles.m is not None else []
    if fewer_vectors > 0:
        nearest.append(
            (f"{roles.m} : {rows}, " if roles.m is not None else "") + f"{roles.n} : {fewer_vectors * row.n}"
        )
    return (
        f"the register tile {roles.m} : {rows}, {roles.n} : {columns} takes {needed} registers, {rows}*{vectors} of "
        f"them accumulators; {machine.name} has {available}: the nearest that fits is {' or '.join(nearest)}"
    )


def _scratch(axes: KernelAxes, schedule: Schedule, roles: ContractionRoles, machine: Machine) -> str | None:
    """A factor packed on the way must stay in the last cache until it has been used."""
    caches = [memory for memory in machine.memories if memory.name != "main"]
    if not caches:
        return None
    last = max(caches, key=lambda memory: memory.capacity)
    for position in schedule.stage:
        block = _staged_block(axes, schedule, roles, position)
        size = bits(element_type(roles.nest.inputs[position])) // 8
        for step in block.values():
            size *= step
        if size <= last.capacity:
            continue
        advice: list[str] = []
        for axis, step in block.items():
            most = last.capacity * step // size
            tile = WHOLE_STEPS if axis == roles.k else _tile(schedule, axis)
            if most := most - most % tile if most >= tile else 0:
                advice.append(f"{axis} : {most}")
        blocks = ", ".join(f"{axis} : {step}" for axis, step in block.items())
        nearest = f"the nearest that fits is {' or '.join(advice)}" if advice else "make all of its blocks smaller"
        return (
            f"input {position} is packed in blocks of {blocks}, {size} bytes; {last.name} of {machine.name} holds "
            f"{last.capacity}: {nearest}"
        )
    return None


def _staged_block(axes: KernelAxes, schedule: Schedule, roles: ContractionRoles, position: int) -> dict[Axis, int]:
    """The steps of the loops over a factor's axes where the last of these is entered: how much is packed together."""
    wanted = axes_among(axes.of_operand(roles.nest, position))
    held = {axis for axis in (roles.m, roles.n, roles.k) if axis in wanted}
    found: dict[Axis, int] = {}
    for loop in schedule.loops:
        axis = axes.by_name(loop.iterator)
        if axis is not None and axis in wanted:
            found[axis] = loop.step
        if len(found) == len(wanted):
            break
    return {axis: step for axis, step in found.items() if axis in held}
