"""A map of many operations on many registers, as a loop over groups of registers instead of one copy per register.

A register tile of 6x64 has 24 registers; gelu on each, unrolled, is a thousand instructions that are run once per tile
and take longer to compile than the product they follow. Here the registers go through the stack, a group at a time::

    %y = mma.map (%x, %bias : 6x64, 1x64) -> 6x64 { ... math.erf ... }
    ==>
      %stack = memref.alloca() : memref<384xf32>
      vector.store %x_0, %stack[%c0] ...                  24 of them
      scf.for %at = 0 to 384 step 64 {                    a row of 4 registers
        %r0 = vector.load %stack[%at] ...
        the body on 4 registers, with %bias_0 .. %bias_3, which all groups share
        vector.store %s0, %stack[%at] ...
      }
      %y_0 = vector.load %stack[%c0] ...                  24 of them
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects import memref, vector
from xdsl.dialects.builtin import MemRefType, VectorType
from xdsl.ir import SSAValue

from crosstile.dialects import mma
from crosstile.lowering.loops import build_for
from crosstile.lowering.mma_to_hardware.state import HardwareLowering
from crosstile.passes.math_formulas import FORMULAS, formula_length

MOST_UNROLLED = 512
"""Operations; as many as a copy per register may have in all."""

Body = Callable[[Sequence[Sequence[SSAValue]]], Sequence[SSAValue]]
"""The map's body on a few registers: from each one's arguments to each one's result."""


def is_rolled(op: mma.MapOp, registers: int, group: int) -> bool:
    """Whether ``op`` on so many registers becomes a loop over groups of ``group``."""
    kinds = [type(inner) for inner in op.body.block.ops]
    length = sum(formula_length(kind) if kind in FORMULAS else 1 for kind in kinds)
    return registers > group and registers % group == 0 and length * registers > MOST_UNROLLED


def roll(
    lowering: HardwareLowering, arguments: Sequence[Sequence[SSAValue]], group: int, type_: VectorType, body: Body
) -> list[SSAValue] | None:
    """The results of ``body`` for the arguments of every register; None if they cannot go through one array.

    Inputs that repeat from group to group stay in registers; the others must have the type of the results.
    """
    count, inputs = len(arguments), len(arguments[0])
    first = arguments[:group]
    moving = [
        which
        for which in range(inputs)
        if any(arguments[at][which] is not first[at % group][which] for at in range(count))
    ]
    if any(each[which].type != type_ for each in arguments for which in moving) or not moving:
        return None
    (lanes,) = type_.get_shape()
    index, slot = lowering.index, count * lanes
    stack_type = MemRefType(type_.element_type, [slot * len(moving)])
    stack = index.build(memref.AllocaOp.get(type_.element_type, alignment=64, shape=[slot * len(moving)])).memref
    assert stack.type == stack_type

    def place(at: SSAValue | int, number: int, which: int) -> SSAValue:
        return index.value(index.add(at, moving.index(which) * slot + number * lanes))

    for number, each in enumerate(arguments):
        for which in moving:
            lowering.insert(vector.StoreOp(each[which], stack, [place(0, number, which)]))

    def step(at: SSAValue, _carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        loaded = [list(each) for each in first]
        for number, each in enumerate(loaded):
            for which in moving:
                each[which] = lowering.insert(vector.LoadOp(stack, [place(at, number, which)], type_)).result
        for number, result in enumerate(body(loaded)):
            lowering.insert(vector.StoreOp(result, stack, [place(at, number, moving[0])]))
        return []

    build_for(lowering, index.bounds(0, slot, group * lanes), [], step, "at")
    return [
        lowering.insert(vector.LoadOp(stack, [place(0, number, moving[0])], type_)).result for number in range(count)
    ]
