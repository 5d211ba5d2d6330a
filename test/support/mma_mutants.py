"""Programs of the mma level with one piece of synchronisation missing, and what finds each of them out.

Three kinds of mutants, made on the parsed module:

- *deleted*: one wait, commit, acquire, release, await or barrier is gone. Where others use its results it gives on an
  operand of the same type (an await that stays pending), else the program no longer hangs together (``unbound``);
- *stale*: the results of one of these are replaced by values of the same types that were there before it;
- *weakened*: its ``in_flight`` is one more than before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xdsl.dialects.builtin import IntegerAttr, ModuleOp, i64
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.rewriter import Rewriter

from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.verification import verify_module

SYNCHRONISATION = ("mma.wait", "mma.commit", "mma.acquire", "mma.release", "mma.await", "mma.barrier")


@dataclass(frozen=True)
class Mutant:
    """A module without one piece of synchronisation; ``module`` is None if nothing well-formed is left of it."""

    kind: str
    op: str
    line: int
    module: ModuleOp | None

    def __str__(self) -> str:
        return f"{self.kind}-{self.op.removeprefix('mma.')}-line{self.line}"


def mutants(module: ModuleOp) -> Iterator[Mutant]:
    """All mutants of ``module``, in the order of its text."""
    for position, op in enumerate(module.walk()):
        if op.name not in SYNCHRONISATION:
            continue
        line = line_of(op)
        yield Mutant("deleted", op.name, line, _deleted(*_copy(module, position)))
        if op.results and (stale := _stale(*_copy(module, position))) is not None:
            yield Mutant("stale", op.name, line, stale)
        if "in_flight" in op.properties or op.name == "mma.await":
            yield Mutant("weakened", op.name, line, _weakened(*_copy(module, position)))


def line_of(op: Operation) -> int:
    """The line of the file at which ``op`` stands."""
    from crosstile.ir.diagnostics import first_file_location

    place = first_file_location(op.location)
    return 0 if place is None else place.line.data


def verdict(mutant: Mutant) -> str | None:
    """What finds the mutant out before it runs: ``unbound``, or the verifier's message; None if nothing does."""
    if mutant.module is None:
        return "unbound"
    try:
        verify_module(mutant.module)
    except CrosstileError as error:
        return error.message
    return None


def _copy(module: ModuleOp, position: int) -> tuple[ModuleOp, Operation]:
    copy = module.clone()
    for original, cloned in zip(module.walk(), copy.walk(), strict=True):
        cloned.location = original.location
    return copy, next(op for number, op in enumerate(copy.walk()) if number == position)


def _deleted(module: ModuleOp, op: Operation) -> ModuleOp | None:
    if any(result.first_use is not None for result in op.results):
        passed_on = [operand for operand in op.operands if [operand.type] == [result.type for result in op.results]]
        if not passed_on:
            return None
        op.results[0].replace_all_uses_with(passed_on[0])
    Rewriter.erase_op(op)
    return module


def _stale(module: ModuleOp, op: Operation) -> ModuleOp | None:
    for result in op.results:
        before = _earlier_value(op, result.type)
        if before is None:
            return None
        result.replace_all_uses_with(before)
    Rewriter.erase_op(op)
    return module


def _weakened(module: ModuleOp, op: Operation) -> ModuleOp:
    old = op.properties.get("in_flight")
    count = old.value.data if isinstance(old, IntegerAttr) else 0
    op.properties["in_flight"] = IntegerAttr(count + 1, i64)
    return module


def _earlier_value(op: Operation, type_: Attribute) -> SSAValue | None:
    """The nearest value of ``type_`` that is defined before ``op`` in its block or a block around it."""
    at: Operation | None = op
    while at is not None:
        earlier = at.prev_op
        while earlier is not None:
            for result in earlier.results:
                if result.type == type_:
                    return result
            earlier = earlier.prev_op
        block: Block | None = at.parent_block()
        if block is None:
            return None
        for argument in block.args:
            if argument.type == type_:
                return argument
        at = block.parent_op()
    return None
