"""Rules for reductions of fragments: inside lanes, then across lanes, then across warps.

    %m = mma.reduce max %s into %before dims [1] : 128x128 over lanes 4 to a row -> 128x1
    ==> 2 chains of arith.maximumf over 32 registers, nvvm.shfl.sync bfly 2, then 1, then %before on the left

Lanes that hold parts of one result exchange them in a butterfly, the farthest first; warps do so through shared memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from xdsl.dialects import arith, llvm
from xdsl.dialects.builtin import AnyFloat, Float32Type, IndexType, IntegerType, i32, i64
from xdsl.ir import Attribute, SSAValue

from crosstile.dialects import mma
from crosstile.dialects.mma.kernel import integer_list
from crosstile.dialects.mma.reduction import in_pairs
from crosstile.dialects.nvvm.synchronisation import ShuffleOp
from crosstile.lowering.linear_index import Linear, Term
from crosstile.lowering.loops import run_if
from crosstile.lowering.mma_to_nvvm.arithmetic import masked
from crosstile.lowering.mma_to_nvvm.fragments import LANES, Digit, memory_bytes, registers_of
from crosstile.lowering.mma_to_nvvm.kernel_state import ALL_LANES
from crosstile.lowering.mma_to_nvvm.memory import read, read_together, write
from crosstile.lowering.mma_to_nvvm.rings import may_run_again, meet
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering
from crosstile.lowering.reductions import COMBINE_FLOATS, COMBINE_INTEGERS, Combine, combined, folded, identity

EXCHANGED = (Float32Type, IndexType)
COMBINE: dict[str, Combine] = {**COMBINE_FLOATS, "maxnum": lambda a, b: [arith.MaxnumfOp(a, b)]}
"""One instruction each here: the maximum of PTX skips NaN (PTX ISA 8.7, Floating Point Instructions: max)."""
EXTREMES = ("max", "min")
"""Kinds of reductions whose order does not matter, and that are found in a tree. So is the largest of numbers (maxnum),
which attention folds, where products run asynchronously. Between ``mma.sync`` it is a chain: ptxas hides it there, and
needs fewer registers."""
VECTOR_BYTES = 16
"""What one access of a thread moves at most."""


def lower_reduce(op: mma.ReduceOp, lowering: NvvmLowering) -> None:
    """Registers in increasing order, lanes and warps in a butterfly, then ``into`` on the left.

    The order matters to sums only: the extremes of a lane's registers are found in a tree, where few wait for others.
    """
    value_type, result_type = op.value_type, op.result.type
    element, dims = value_type.element_type, integer_list(op.dims)
    combine = (COMBINE if isinstance(element, AnyFloat) else COMBINE_INTEGERS)[op.kind.data]
    filling = identity(op.kind.data, element, 32)
    elements = masked(lowering, op.value, integer_list(op.extent_dims), op.extents, filling)
    source, result = registers_of(op.value_type.layout.data), registers_of(result_type.layout.data)
    crossing = [digit for digit in source.digits if digit.step and digit.dim in dims]
    into = [] if op.into is None else lowering.elements(op.into)
    begun: dict[int, SSAValue] = {} if crossing else dict(enumerate(into))
    if op.kind.data == "maxnum" and not begun:  # the first may be NaN, which is not greater than what it begins with
        begun = dict.fromkeys(range(len(result.starts)), lowering.constant(filling, element))
    parts = {number: [value] for number, value in begun.items()}
    for value, start in zip(elements, source.starts, strict=True):
        number = result.holding([0 if dim in dims else at for dim, at in enumerate(start)])
        parts.setdefault(number, []).append(value)
    if op.kind.data in (*EXTREMES, *(["maxnum"] if lowering.kernel.has_products_in_flight else [])):
        found = {number: in_pairs(partial(combined, lowering, combine), values) for number, values in parts.items()}
    else:
        found = folded(lowering, combine, op.kind.data, parts, bool(crossing))
    reduced = [found[number] for number in range(len(result.starts))]
    for distance in _distances(crossing, "lane", lowering):
        moved = _from_lane(lowering, reduced, distance, element)
        reduced = [combined(lowering, combine, a, b) for a, b in zip(reduced, moved, strict=True)]
    if any(digit.axis == "warp" for digit in crossing):
        reduced = _across_warps(op, lowering, reduced, crossing, combine)
    if crossing and into:
        reduced = [combined(lowering, combine, a, b) for a, b in zip(into, reduced, strict=True)]
    lowering.set_elements(op.result, reduced)


def _from_lane(lowering: NvvmLowering, values: Sequence[SSAValue], distance: int, element: Attribute) -> list[SSAValue]:
    """The values of the lane ``distance`` away."""
    mask, offset, clamp = lowering.integer(ALL_LANES), lowering.integer(distance), lowering.integer(LANES - 1)

    def shuffled(word: SSAValue) -> SSAValue:
        return lowering.insert(ShuffleOp("bfly", mask, word, offset, clamp)).res

    moved: list[SSAValue] = []
    for value in values:
        if isinstance(element, EXCHANGED) or element == i32:
            moved.append(shuffled(value))
            continue
        if not isinstance(element, IntegerType | AnyFloat) or element.bitwidth > 64:
            raise lowering.error(f"lanes exchange numbers of up to 64 bits, not {element}")
        whole = IntegerType(element.bitwidth)
        bits = value if element == whole else lowering.insert(llvm.BitcastOp(value, whole)).result
        if element.bitwidth > 32:
            bits = _joined(lowering, [shuffled(half) for half in _halves(lowering, bits)])
        else:
            word = shuffled(lowering.insert(arith.ExtUIOp(bits, i32)).result)
            bits = lowering.insert(arith.TruncIOp(word, whole)).result
        moved.append(bits if value.type == whole else lowering.insert(llvm.BitcastOp(bits, value.type)).result)
    return moved


def _halves(lowering: NvvmLowering, bits: SSAValue) -> list[SSAValue]:
    """The low and the high word of an ``i64``."""
    shift = lowering.constant(32, i64)
    high = lowering.insert(arith.ShRUIOp(bits, shift)).result
    return [lowering.insert(arith.TruncIOp(half, i32)).result for half in (bits, high)]


def _joined(lowering: NvvmLowering, halves: Sequence[SSAValue]) -> SSAValue:
    """The ``i64`` of a low and a high word."""
    low, high = (lowering.insert(arith.ExtUIOp(half, i64)).result for half in halves)
    raised = lowering.insert(arith.ShLIOp(high, lowering.constant(32, i64))).result
    return lowering.insert(arith.OrIOp(low, raised)).result


def _distances(crossing: Sequence[Digit], axis: str, lowering: NvvmLowering) -> list[int]:
    """How far apart the lanes or warps of a butterfly are, the farthest first."""
    found: list[int] = []
    for digit in sorted((digit for digit in crossing if digit.axis == axis), key=lambda digit: -digit.weight):
        if digit.size & (digit.size - 1):
            raise lowering.error(f"crosses {digit.size} {axis}s, which is no power of two")
        distance = digit.size // 2
        while distance:
            found.append(digit.weight * distance)
            distance //= 2
    return found


def _across_warps(
    op: mma.ReduceOp, lowering: NvvmLowering, values: Sequence[SSAValue], crossing: Sequence[Digit], combine: Combine
) -> list[SSAValue]:
    """The butterfly over warps: each stores what it has, all meet once, each loads the others' and combines them."""
    distances = _distances(crossing, "warp", lowering)
    masks = [0]
    for distance in distances:
        masks += [mask ^ distance for mask in masks]
    alike = sum(_distances(crossing, "lane", lowering)) == LANES - 1
    if alike and len(masks) == lowering.program.warps:
        exchanged = _exchange_alike(lowering, values)
    else:
        exchanged = _exchange(lowering, values, masks)
    result: list[SSAValue] = []
    for parts in exchanged:
        for distance in distances:
            parts = {
                mask: combined(lowering, combine, part, parts[mask ^ distance])
                for mask, part in parts.items()
                if not mask & distance
            }
        result.append(parts[0])
    if may_run_again(op):
        meet(lowering)  # nobody stores the next time before all have loaded
    return result


def _exchange(lowering: NvvmLowering, values: Sequence[SSAValue], masks: Sequence[int]) -> list[dict[int, SSAValue]]:
    """Of each of ``values`` what the same lane of other warps has: by how the warp's number differs from this one's."""
    element = values[0].type
    size, threads = memory_bytes(element), lowering.program.warps * LANES
    place = lowering.shared_place(lowering.kernel.take(threads * len(values) * size, VECTOR_BYTES))
    thread = lowering.thread()

    def pointer(of: SSAValue, number: int) -> SSAValue:
        return lowering.shared_pointer(place + number * threads * size + Linear(0, (Term(of, size, 1),)))

    for number, value in enumerate(values):
        write(lowering, pointer(thread, number), value)
    meet(lowering)
    others = {
        mask: lowering.index.build(arith.XOrIOp(thread, lowering.index.value(mask * LANES))).result
        for mask in masks
        if mask
    }
    return [
        {0: value, **{mask: read(lowering, pointer(other, number), element) for mask, other in others.items()}}
        for number, value in enumerate(values)
    ]


def _exchange_alike(lowering: NvvmLowering, values: Sequence[SSAValue]) -> list[dict[int, SSAValue]]:
    """Of each of ``values``, which all lanes of a warp have in common, that of every warp: by the warp's number.

    The first lane stores, and all load the same words, as many at once as there are neighbours.
    """
    element, warps = values[0].type, lowering.program.warps
    size = memory_bytes(element)
    place = lowering.shared_place(lowering.kernel.take(warps * len(values) * size, VECTOR_BYTES))
    warp = lowering.digit(Digit("warp", 1, warps, 0, 0))

    own = [
        lowering.shared_pointer(place + number * warps * size + Linear(0, (Term(warp, size, 1),)))
        for number in range(len(values))
    ]

    def store() -> None:
        for pointer, value in zip(own, values, strict=True):
            write(lowering, pointer, value)

    run_if(lowering, lowering.first_lane(), store)
    meet(lowering)
    together = 1 if isinstance(element, IndexType) else min(warps, VECTOR_BYTES // size)
    return [
        {
            first + at: value
            for first in range(0, warps, together)
            for at, value in enumerate(
                read_together(
                    lowering, lowering.shared_pointer(place + (number * warps + first) * size), element, together
                )
            )
        }
        for number in range(len(values))
    ]
