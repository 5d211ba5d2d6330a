"""The meaning of the upstream dialects that our levels use: control flow here, the rest merged from beside.

``func``, ``scf``, ``cf`` and ``affine`` are below; ``arith``, ``math``, ``memref``, ``tensor`` and ``vector`` have
files of their own. ``MEANINGS`` holds all of them::

    Interpreter(module, upstream_meaning.MEANINGS).call("main", [x])
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, cast

import numpy as np
from xdsl.dialects import affine, cf, func, scf
from xdsl.dialects.builtin import DenseIntElementsAttr
from xdsl.ir import Operation
from xdsl.ir.affine import AffineConstraintKind, AffineExpr, AffineMap

from crosstile.dialects import (
    amx_meaning,
    arith_meaning,
    math_meaning,
    memory_meaning,
    vector_meaning,
    x86vector_meaning,
)
from crosstile.dialects.interpreter import Branch, Interpreter, Meanings
from crosstile.ir.diagnostics import op_error

_DIALECTS = (arith_meaning, math_meaning, memory_meaning, vector_meaning, x86vector_meaning, amx_meaning)
MEANINGS = Meanings({op: meaning for dialect in _DIALECTS for op, meaning in dialect.MEANINGS.items()})


# func and cf


@MEANINGS.of(func.CallOp)
def call(interpreter: Interpreter, op: func.CallOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Run the callee."""
    return interpreter.call(op.callee.string_value(), operands)


@MEANINGS.of(cf.BranchOp)
def branch(interpreter: Interpreter, op: cf.BranchOp, operands: Sequence[Any]) -> Any:
    """Go on with the successor."""
    return Branch(op.successor, operands)


@MEANINGS.of(cf.ConditionalBranchOp)
def conditional_branch(interpreter: Interpreter, op: cf.ConditionalBranchOp, operands: Sequence[Any]) -> Any:
    """Go on with one of two successors."""
    split = 1 + len(op.then_arguments)
    if operands[0]:
        return Branch(op.then_block, operands[1:split])
    return Branch(op.else_block, operands[split:])


@MEANINGS.of(cf.AssertOp)
def assertion(interpreter: Interpreter, op: cf.AssertOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Stop with the message if the condition is false."""
    if not operands[0]:
        raise op_error(op, f"assertion failed: {op.msg.data}")
    return ()


# scf


@MEANINGS.of(scf.IfOp)
def conditional(interpreter: Interpreter, op: scf.IfOp, operands: Sequence[Any]) -> Sequence[Any]:
    """One of the two regions."""
    region = op.true_region if operands[0] else op.false_region
    return interpreter.run_region(region, ()) if region.blocks else ()


@MEANINGS.of(scf.ForOp)
def for_loop(interpreter: Interpreter, op: scf.ForOp, operands: Sequence[Any]) -> Sequence[Any]:
    """From the lower bound up to but not including the upper one."""
    lower, upper, step, *values = operands
    if step <= 0:
        raise op_error(op, f"'scf.for' step must be positive, found {step}")
    for index in range(int(lower), int(upper), int(step)):
        start = index if isinstance(lower, int) else type(lower)(index)
        values = interpreter.run_block(op.body.block, (start, *values))
    return values


@MEANINGS.of(scf.WhileOp)
def while_loop(interpreter: Interpreter, op: scf.WhileOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The first region decides, the second computes."""
    values = operands
    while True:
        proceed, *values = interpreter.run_block(op.before_region.block, values)
        if not proceed:
            return values
        values = interpreter.run_block(op.after_region.block, values)


@MEANINGS.of(scf.ParallelOp)
def parallel_loop(interpreter: Interpreter, op: scf.ParallelOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Every point of the grid, in row-major order; reductions combine in that order."""
    rank = len(op.lowerBound)
    lower, upper, steps = operands[:rank], operands[rank : 2 * rank], operands[2 * rank : 3 * rank]
    totals = list(operands[3 * rank :])
    for point in product(*(range(*bounds) for bounds in zip(lower, upper, steps, strict=True))):
        partial = interpreter.run_block(op.body.block, point)
        terminator = cast(scf.ReduceOp, op.body.block.last_op)
        for position, region in enumerate(terminator.reductions):
            (totals[position],) = interpreter.run_block(region.block, (totals[position], partial[position]))
    return totals


@MEANINGS.of(scf.ExecuteRegionOp)
def execute_region(interpreter: Interpreter, op: scf.ExecuteRegionOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The region, once."""
    return interpreter.run_region(op.regions[0], ())


@MEANINGS.of(scf.IndexSwitchOp)
def index_switch(interpreter: Interpreter, op: scf.IndexSwitchOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The region of the case that equals the operand, or the default."""
    for case, region in zip(cast("Sequence[int]", op.cases.get_values()), op.case_regions, strict=True):
        if case == operands[0]:
            return interpreter.run_block(region.block, ())
    return interpreter.run_block(op.default_region.block, ())


# affine


def evaluate_map(map_: AffineMap, dims: Sequence[Any], symbols: Sequence[Any]) -> list[Any]:
    """The results of ``map_``; dims and symbols may be integers or arrays of indices, which broadcast."""
    return [evaluate_expression(result, dims, symbols) for result in map_.results]


def evaluate_expression(expression: AffineExpr, dims: Sequence[Any], symbols: Sequence[Any]) -> Any:
    """The value of an affine expression at integers or arrays of indices."""
    return expression.eval(cast("Sequence[int]", dims), cast("Sequence[int]", symbols))


def _apply_map(map_: AffineMap, operands: Sequence[Any]) -> list[int]:
    return evaluate_map(map_, operands[: map_.num_dims], operands[map_.num_dims :])


@MEANINGS.of(affine.ApplyOp)
def apply(interpreter: Interpreter, op: affine.ApplyOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The value of the map."""
    return _apply_map(op.map.data, operands)


@MEANINGS.of(affine.MinOp)
def affine_min(interpreter: Interpreter, op: affine.MinOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The least result of the map."""
    return (min(_apply_map(op.map.data, operands)),)


@MEANINGS.of(affine.ForOp)
def affine_for(interpreter: Interpreter, op: affine.ForOp, operands: Sequence[Any]) -> Sequence[Any]:
    """From the largest lower bound to the least upper bound."""
    lowers, uppers = len(op.lowerBoundOperands), len(op.upperBoundOperands)
    lower = max(_apply_map(op.lowerBoundMap.data, operands[:lowers]))
    upper = min(_apply_map(op.upperBoundMap.data, operands[lowers : lowers + uppers]))
    values = operands[lowers + uppers :]
    for index in range(lower, upper, op.step.value.data):
        values = interpreter.run_block(op.body.block, (index, *values))
    return values


_HOLDS: dict[AffineConstraintKind, Callable[[int, int], bool]] = {
    AffineConstraintKind.eq: operator.eq,
    AffineConstraintKind.ge: operator.ge,
    AffineConstraintKind.le: operator.le,
}


@MEANINGS.of(affine.IfOp)
def affine_if(interpreter: Interpreter, op: affine.IfOp, operands: Sequence[Any]) -> Sequence[Any]:
    """The first region if every constraint of the set holds."""
    condition = op.condition.data
    dims, symbols = operands[: condition.num_dims], operands[condition.num_dims :]
    satisfied = all(
        _HOLDS[constraint.kind](
            evaluate_expression(constraint.lhs, dims, symbols), evaluate_expression(constraint.rhs, dims, symbols)
        )
        for constraint in condition.constraints
    )
    region = op.then_region if satisfied else op.else_region
    return interpreter.run_region(region, ()) if region.blocks else ()


@MEANINGS.of(affine.LoadOp)
def affine_load(interpreter: Interpreter, op: affine.LoadOp, operands: Sequence[Any]) -> Sequence[Any]:
    """One element at the place the map gives."""
    source, *indices = operands
    return (source[memory_meaning.check_indices(op, source.shape, _apply_map(op.map.data, indices))],)


@MEANINGS.of(affine.StoreOp)
def affine_store(interpreter: Interpreter, op: affine.StoreOp, operands: Sequence[Any]) -> Sequence[Any]:
    """One element at the place the map gives."""
    value, target, *indices = operands
    target[memory_meaning.check_indices(op, target.shape, _apply_map(op.map.data, indices))] = value
    return ()


@MEANINGS.of(affine.ParallelOp)
def affine_parallel(interpreter: Interpreter, op: affine.ParallelOp, operands: Sequence[Any]) -> Sequence[Any]:
    """Every point of the grid, in row-major order."""
    if op.results:
        raise op_error(op, "'affine.parallel' with reductions has no executable meaning here; use 'scf.parallel'")
    uppers = op.lowerBoundsMap.data
    split = uppers.num_dims + uppers.num_symbols
    lower = _grouped(op, op.lowerBoundsMap.data, op.lowerBoundsGroups, operands[:split], max)
    upper = _grouped(op, op.upperBoundsMap.data, op.upperBoundsGroups, operands[split:], min)
    steps = [step.value.data for step in op.steps]
    for point in product(*(range(*bounds) for bounds in zip(lower, upper, steps, strict=True))):
        interpreter.run_block(op.body.block, point)
    return ()


def _grouped(op: Operation, map_: AffineMap, groups: DenseIntElementsAttr, operands: Sequence[Any], choose: Any):
    values = iter(_apply_map(map_, operands))
    counts = cast("Sequence[int]", groups.get_values())
    return [choose(next(values) for _ in range(int(count))) for count in np.asarray(counts)]
