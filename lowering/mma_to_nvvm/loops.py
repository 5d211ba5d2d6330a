"""Rules for loops and branches: what they carry, and where the rings that are used inside stand.

    scf.for %k = ... iter_args(%acc = %start) { %slot = mma.wait %ring ... }
    ==>
    scf.for %k = ... iter_args(%acc_0 = ..., ..., %at = %first_slot) { ... }

A ring's place in its round is one more value, or two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects import scf
from xdsl.ir import Block, Region, SSAValue

from crosstile.lowering.mma_to_nvvm.kernel_state import INDEX, Cursor
from crosstile.lowering.mma_to_nvvm.rings import ring_uses
from crosstile.lowering.mma_to_nvvm.state import NvvmLowering


def lower_for(op: scf.ForOp, lowering: NvvmLowering) -> None:
    """A loop that also carries where the rings used in it stand."""
    uses = ring_uses(op, lowering)
    cursors = lowering.kernel.cursors
    carried = [value for use in uses for value in _cursor_values(cursors[use], use, lowering)]
    block = Block(arg_types=[INDEX])
    lowering.map_value(op.body.block.args[0], block.args[0])
    for argument in op.body.block.args[1:]:
        lowering.add_argument(block, argument)
    extra = [block.insert_arg(INDEX, len(block.args)) for _ in carried]
    _set_cursors(uses, extra, lowering)
    with lowering.at(block):
        *inner, terminator = op.body.block.ops
        for old in inner:
            lowering.lower_op(old)
        left = [value for use in uses for value in _cursor_values(cursors[use], use, lowering)]
        yielded = [*lowering.flatten(terminator.operands), *left]
    initial = [*lowering.flatten(op.iter_args), *carried]
    kept = _merge_equal(block, initial, yielded)
    numbers = sorted(set(kept))
    block.add_op(scf.YieldOp(*(yielded[number] for number in numbers)))
    bounds = [lowering.value(value) for value in (op.lb, op.ub, op.step)]
    loop = lowering.insert(
        scf.ForOp(bounds[0], bounds[1], bounds[2], [initial[number] for number in numbers], Region(block))
    )
    remaining = [loop.results[numbers.index(number)] for number in kept]
    for result in op.results:
        count = len(lowering.convert_type(result.type))
        lowering.map_value(result, *remaining[:count])
        remaining = remaining[count:]
    _set_cursors(uses, remaining, lowering)


def loop_over_instances(
    bounds: tuple[SSAValue, SSAValue, SSAValue], role: Block, lowering: NvvmLowering, build: Callable[[SSAValue], None]
) -> None:
    """A loop whose trips are instances of a program, or of its ``role``: rings stand where the one before left them."""
    uses = ring_uses(role, lowering)
    cursors = lowering.kernel.cursors
    carried = [value for use in uses for value in _cursor_values(cursors[use], use, lowering)]
    block = Block(arg_types=[INDEX, *[INDEX] * len(carried)])
    _set_cursors(uses, block.args[1:], lowering)
    with lowering.at(block):
        build(block.args[0])
    block.add_op(scf.YieldOp(*(value for use in uses for value in _cursor_values(cursors[use], use, lowering))))
    loop = lowering.insert(scf.ForOp(*bounds, carried, Region(block)))
    _set_cursors(uses, loop.results, lowering)


def _merge_equal(block: Block, initial: Sequence[SSAValue], yielded: Sequence[SSAValue]) -> list[int]:
    """Carry values that are equal in all trips once: for each the first that is, whose argument the others give way to.

    The slots of joint rings are such, and so is a slot that is carried beside where its ring stood.
    """
    arguments = list(block.args)[1:]
    kept = list(range(len(initial)))
    for number, start in enumerate(initial):
        for first in range(number):
            if kept[first] == first and initial[first] is start and yielded[first] is yielded[number]:
                arguments[number].replace_all_uses_with(arguments[first])
                block.erase_arg(arguments[number])
                kept[number] = first
                break
    return kept


def lower_if(op: scf.IfOp, lowering: NvvmLowering) -> None:
    """A branch that also yields where the rings used in it stand."""
    uses = ring_uses(op, lowering)
    before = dict(lowering.kernel.cursors)
    blocks: list[Block] = []
    with lowering.index.branches():
        for region in (op.true_region, op.false_region):
            lowering.kernel.cursors.clear()
            lowering.kernel.cursors.update(before)
            block = Block()
            yielded: list[SSAValue] = []
            with lowering.at(block):
                if region.blocks:
                    *inner, terminator = region.block.ops
                    for old in inner:
                        lowering.lower_op(old)
                    yielded = lowering.flatten(terminator.operands)
                cursors = lowering.kernel.cursors
                left = [value for use in uses for value in _cursor_values(cursors[use], use, lowering)]
                lowering.insert(scf.YieldOp(*yielded, *left))
            blocks.append(block)
    types = [*lowering.convert_types([result.type for result in op.results])]
    types += [INDEX for use in uses for _ in _cursor_values(before[use], use, lowering)]
    has_else = bool(op.false_region.blocks) or bool(types)
    new = scf.IfOp(lowering.value(op.cond), types, Region(blocks[0]), Region(blocks[1]) if has_else else None)
    lowering.insert(new)
    remaining = list(new.results)
    for result in op.results:
        count = len(lowering.convert_type(result.type))
        lowering.map_value(result, *remaining[:count])
        remaining = remaining[count:]
    _set_cursors(uses, remaining, lowering)


def _cursor_values(cursor: Cursor, use: tuple[SSAValue, str], lowering: NvvmLowering) -> list[SSAValue]:
    return [cursor.number, cursor.phase] if lowering.kernel.rings[use[0]].has_parity else [cursor.number]


def _set_cursors(uses: Sequence[tuple[SSAValue, str]], values: Sequence[SSAValue], lowering: NvvmLowering) -> None:
    rest = list(values)
    for use in uses:
        number = rest.pop(0)
        phase = rest.pop(0) if lowering.kernel.rings[use[0]].has_parity else number
        lowering.kernel.cursors[use] = Cursor(number, phase)
