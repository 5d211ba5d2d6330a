"""Which values of a swept kernel are worth keeping from one sweep to the next, and where.

What is elementwise is computed again in every sweep that uses it. Where that is dear - the exponentials of a softmax,
used by the sum and by the quotient - and a result of the kernel lies along the same axes in the same element type, the
value waits in that result's memory: the first sweep stores it there, later ones load it, and the last one overwrites it
with the result, each element after it was read. The row is in the nearest cache all the while.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence

from xdsl.dialects import math
from xdsl.ir import Operation, SSAValue

from crosstile.dialects.nest.analysis import element_type
from crosstile.dialects.nest.axes import Axis, AxisOrUnit, KernelAxes, axes_among
from crosstile.dialects.nest.generic import GenericOp

CHEAP: tuple[type[Operation], ...] = (math.AbsFOp, math.CopySignOp, math.FmaOp, math.CeilOp, math.FloorOp)
"""Functions that cost no more than reading their result from memory."""


def kept_values(axes: KernelAxes, outputs: Sequence[SSAValue]) -> dict[SSAValue, SSAValue]:
    """Values to keep, each with the result of the kernel in whose memory it waits."""
    sweeps = [nest.inputs for nest in axes.nests if nest.combiner is not None]
    uses: dict[SSAValue, int] = {}
    for roots in (*sweeps, outputs):
        for value in elementwise_before(roots):
            uses[value] = uses.get(value, 0) + 1
    free = [output for output in outputs if output not in uses or uses[output] == 1]
    kept: dict[SSAValue, SSAValue] = {}
    for value, count in uses.items():
        if count < 2 or not is_dear(value) or value in outputs:
            continue
        home = next((output for output in free if _fits(axes, value, output)), None)
        if home is not None:
            kept[value] = home
            free.remove(home)
    return kept


def is_row(axes: KernelAxes, along: Sequence[AxisOrUnit], lane: Axis | None) -> bool:
    """Whether one row along ``lane`` of a value along ``along`` exists at a time: all else is looped over outside."""
    others = [axis for axis in axes_among(along) if axis != lane]
    return lane is not None and along[-1:] == (lane,) and all(axis in axes.parallel() for axis in others)


def elementwise_before(roots: Iterable[SSAValue], kept: Container[SSAValue] = ()) -> Iterator[SSAValue]:
    """The results of elementwise nests that computing ``roots`` needs, each once; reductions end the search.

    Values that are ``kept`` are among them, but not what those are computed from.
    """
    seen: set[SSAValue] = set()
    pending = list(roots)
    while pending:
        value = pending.pop()
        nest = value.owner
        if value in seen or not isinstance(nest, GenericOp) or nest.combiner is not None:
            continue
        seen.add(value)
        yield value
        pending += [] if value in kept else nest.inputs


def is_dear(value: SSAValue) -> bool:
    """Whether computing an elementwise ``value`` costs more than reading it from a cache."""
    nest = value.owner
    assert isinstance(nest, GenericOp)
    return any(op.dialect_name() == "math" and not isinstance(op, CHEAP) for op in nest.body.block.ops)


def _fits(axes: KernelAxes, value: SSAValue, output: SSAValue) -> bool:
    """Whether ``output`` is computed elementwise, along the axes of ``value``, in its element type."""
    nest = output.owner
    if not isinstance(nest, GenericOp) or nest.combiner is not None or element_type(output) != element_type(value):
        return False
    return set(axes.of_result(output)) == set(axes.of_result(value))
