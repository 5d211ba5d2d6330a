"""Structured control flow built by lowerings: loops and branches whose bodies are filled by a function.

build_for(lowering, bounds, [initial], lambda k, carried: [...], "k")    one body, what it yields is carried
build_if(lowering, condition, lambda: [...], lambda: [...])              one value per branch and result
run_if(lowering, condition, lambda: ...)                                 no results, no else branch
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects import scf
from xdsl.dialects.builtin import IndexType
from xdsl.ir import Block, Region, SSAValue

from crosstile.lowering.driver import Lowering

Bounds = tuple[SSAValue, SSAValue, SSAValue]
"""Lower bound, upper bound and step."""


def build_for(
    lowering: Lowering,
    bounds: Bounds,
    initial: Sequence[SSAValue],
    body: Callable[[SSAValue, Sequence[SSAValue]], Sequence[SSAValue]],
    name: str,
) -> Sequence[SSAValue]:
    """An ``scf.for`` whose index is called ``name``; ``body`` gets it and the carried values, and returns the next."""
    block = Block(arg_types=[IndexType(), *(value.type for value in initial)])
    block.args[0].name_hint = name
    with lowering.at(block):
        lowering.insert(scf.YieldOp(*body(block.args[0], block.args[1:])))
    lower, upper, step = bounds
    return lowering.insert(scf.ForOp(lower, upper, step, list(initial), Region(block))).results


def build_if(
    lowering: Lowering,
    condition: SSAValue,
    then: Callable[[], Sequence[SSAValue]],
    otherwise: Callable[[], Sequence[SSAValue]],
) -> Sequence[SSAValue]:
    """The values of ``then`` or of ``otherwise``, each built in its branch of an ``scf.if``."""
    blocks = (Block(), Block())
    values: list[Sequence[SSAValue]] = []
    for block, build in zip(blocks, (then, otherwise), strict=True):
        with lowering.at(block):
            values.append(build())
            lowering.insert(scf.YieldOp(*values[-1]))
    types = [value.type for value in values[0]]
    return lowering.insert(scf.IfOp(condition, types, Region(blocks[0]), Region(blocks[1]))).results


def run_if(lowering: Lowering, condition: SSAValue | bool, then: Callable[[], None]) -> None:
    """What ``then`` builds, run if ``condition`` holds; a known condition makes no branch."""
    if isinstance(condition, bool):
        if condition:
            then()
        return
    block = Block()
    with lowering.at(block):
        then()
        lowering.insert(scf.YieldOp())
    lowering.insert(scf.IfOp(condition, [], Region(block)))
