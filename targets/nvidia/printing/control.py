"""Rules for structured control flow: loops tested at their end, branches, short branches as predicated instructions.

What a loop carries has registers of its own for the whole loop; at its end all are copied at once. An instruction
that adds to a register (``mma``, ``wgmma``) writes it in place if nobody else reads it, so the copies are few.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from xdsl.dialects import llvm, scf
from xdsl.dialects.builtin import VectorType
from xdsl.ir import Block, Operation, SSAValue
from xdsl.utils.hints import isa

from crosstile.lowering.convert_scf_to_cf import constant_integer
from crosstile.targets.nvidia.printing.registers import Text

MOST_PREDICATED = 8
"""The longest branch whose instructions are predicated instead."""
PrintBlock = Callable[[Block], None]


def print_for(op: scf.ForOp, text: Text, print_block: PrintBlock) -> None:
    """A guard for zero trips, the body, the test at its end."""
    *body, terminator = op.body.block.ops
    del body
    index, *carried = op.body.block.args
    counter = text.one(index)
    targets: list[str] = []
    for value, argument in zip(op.iter_args, carried, strict=True):
        initial = _sources(value, text)
        if may_overwrite(value, op) and not set(initial) & set(targets):
            # A product in flight writes these registers: they must not be copied before it is waited for.
            text.alias(argument, tuple(initial))
        else:
            for to, source in zip(text.define(argument), initial, strict=True):
                text.move(to, source)
        targets += text.registers(argument)
    text.move(counter, text.operand(op.lb))
    exit_label, head = text.new_label("exit"), text.new_label("loop")
    bounds = constant_integer(op.lb), constant_integer(op.ub)
    guarded = bounds[0] is None or bounds[1] is None or bounds[0] >= bounds[1]
    upper, step = text.operand(op.ub), text.operand(op.step)
    if guarded:
        empty = text.register("p")
        text.line(f"setp.ge.s32 {empty}, {counter}, {upper}")
        text.line(f"@{empty} bra {exit_label}")
    text.label(head)
    text.forget_location()
    print_block(op.body.block)
    text.locate(op)
    sources = [register for value in terminator.operands for register in _sources(value, text)]
    text.copy(targets, sources)
    again = text.register("p")
    text.line(f"add.s32 {counter}, {counter}, {step}")
    text.line(f"setp.lt.s32 {again}, {counter}, {upper}")
    text.line(f"@{again} bra {head}")
    if guarded:
        text.label(exit_label)
    text.forget_location()
    for result, argument in zip(op.results, carried, strict=True):
        text.alias(result, text.registers(argument))


def _sources(value: SSAValue, text: Text) -> Sequence[str]:
    constant = text.constant(value)
    return text.registers(value) if constant is None else (constant,)


def print_if(op: scf.IfOp, text: Text, print_block: PrintBlock) -> None:
    """Two branches that copy what they yield, or predicated instructions where they are short."""
    condition = text.get(op.cond)
    results = [register for result in op.results for register in text.define(result)]
    parts: list[list[str]] = []
    for region in (op.true_region, op.false_region):
        with text.aside() as lines:
            if region.blocks:
                text.forget_location()
                print_block(region.block)
                assert region.block.last_op is not None
                sources = [register for value in region.block.last_op.operands for register in _sources(value, text)]
                loaded = _load_into(results, sources, lines)
                for to, source in zip(results, sources, strict=True):
                    if not loaded:
                        text.move(to, source)
        parts.append(lines)
    text.forget_location()
    yes, no = parts
    if all(_may_be_predicated(line) for line in yes + no) and _count(yes) + _count(no) <= MOST_PREDICATED:
        # What stands in for a load comes first: a register that a load will write cannot be written before it arrived.
        # Constants stand there whether it loads or not: ptxas would select between them and what the register held.
        always = _loads_all(results, yes) and all(_is_constant_move(line) for line in no)
        text.lines += no if always else [_predicated(line, f"@!{condition}") for line in no]
        text.lines += [_predicated(line, f"@{condition}") for line in yes]
        return
    exit_label, other = text.new_label("endif"), text.new_label("else")
    text.line(f"@!{condition} bra {other if no else exit_label}")
    text.lines += yes
    if no:
        text.line(f"bra {exit_label}")
        text.label(other)
        text.lines += no
    text.label(exit_label)


def _load_into(results: Sequence[str], sources: Sequence[str], lines: list[str]) -> bool:
    """Whether a branch yields what its last instruction loads; that then loads the results, and nothing is moved.

    A move would have to wait for the load, and the loads after it for that.
    """
    last = lines[-1] if lines else ""
    group = ", ".join(sources)
    start, separator, address = last.partition(f"{{{group}}}, " if len(sources) > 1 else f" {group}, ")
    if not sources or not separator or not start.startswith("\tld.") or set(sources) & set(results):
        return False
    moved = f"{{{', '.join(results)}}}, " if len(results) > 1 else f" {results[0]}, "
    lines[-1] = f"{start}{moved}{address}"
    return True


def _loads_all(results: Sequence[str], lines: Sequence[str]) -> bool:
    """Whether the last instruction of a branch loads all of ``results``, and nothing else writes them."""
    last = lines[-1] if lines else ""
    return last.startswith("\tld.") and bool(results) and all(re.search(rf"{one}\b", last) for one in results)


def _is_constant_move(line: str) -> bool:
    return line.startswith("\t.loc") or (line.startswith("\tmov.") and "%" not in line.partition(", ")[2])


def _count(lines: Sequence[str]) -> int:
    return sum(not line.startswith("\t.loc") for line in lines)


def _may_be_predicated(line: str) -> bool:
    return line.startswith("\t") and not line.startswith("\t@") and "sync" not in line and " bra " not in line


def _predicated(line: str, condition: str) -> str:
    return line if line.startswith("\t.loc") else f"\t{condition} {line.lstrip()}"


def may_overwrite(value: SSAValue, user: Operation) -> bool:
    """Whether ``user``, the only reader of ``value``, may write its result into the registers of ``value``."""
    if len(list(value.uses)) != 1:
        return False
    owner = value.owner
    if isinstance(owner, Block):
        return owner is user.parent and isinstance(owner.parent_op(), scf.ForOp)
    if owner.parent is not user.parent or owner.name == "arith.constant" or isinstance(owner, llvm.UndefOp):
        return isinstance(owner, llvm.UndefOp)
    if isinstance(owner, llvm.InsertValueOp):
        return may_overwrite(owner.container, owner) and may_overwrite(owner.value, owner)
    if isinstance(owner, llvm.BitcastOp) and isa(value.type, VectorType):
        return may_overwrite(owner.arg, owner)  # a word under another name
    if isinstance(owner, llvm.ExtractValueOp):
        struct = owner.container
        positions = [
            tuple(use.operation.position.iter_values())
            for use in struct.uses
            if isinstance(use.operation, llvm.ExtractValueOp)
        ]
        distinct = len(positions) == len(set(positions)) == len(list(struct.uses))
        struct_owner = struct.owner
        inside = struct_owner is user.parent if isinstance(struct_owner, Block) else struct_owner.parent is user.parent
        return distinct and inside and not isinstance(struct_owner, llvm.InsertValueOp)
    return owner.name in OWNING


OWNING = frozenset(
    (
        *("nvvm.mma.sync", "nvvm.wgmma.mma_async", "scf.for", "scf.if", "llvm.load"),
        *("arith.addf", "arith.mulf", "arith.subf", "arith.divf", "math.fma", "math.exp2", "arith.select"),
    )
)
"""Operations whose results are in registers of their own."""
