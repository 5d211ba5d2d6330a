"""Mistakes that a compiler makes, put into programs: what ``crosstile check`` has to find.

Each is a function that changes a module in place. Those for the nest level work on any operator: they change the bodies
of nests, with ``nest.index`` to tell the last step or row from the others. Sizes must be static.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from xdsl.builder import Builder
from xdsl.dialects import arith
from xdsl.dialects.builtin import AnyFloat, FloatAttr, IntegerAttr, ModuleOp, TensorType, bf16
from xdsl.dialects.func import ReturnOp
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.utils.hints import isa

from crosstile.dialects.interpreter import Observer
from crosstile.dialects.nest.attributes import IteratorKind
from crosstile.dialects.nest.generic import GenericOp, IndexOp
from crosstile.dialects.nest.kernel import KernelOp

Mistake = Callable[[ModuleOp], None]


def generics(module: ModuleOp) -> list[GenericOp]:
    return [op for op in module.walk() if isinstance(op, GenericOp)]


def last_generics(module: ModuleOp) -> list[GenericOp]:
    """The nests whose results their kernels yield."""
    kernels = [op for op in module.walk() if isinstance(op, KernelOp)]
    owners = [value.owner for kernel in kernels for value in kernel.yield_op.arguments]
    return [owner for owner in owners if isinstance(owner, GenericOp)]


def size_of(op: GenericOp, position: int) -> int:
    """The static size of an iterator."""
    for value, map_ in zip([*op.inputs, *op.results], op.indexing_maps, strict=True):
        for dim, expression in enumerate(map_.data.results):
            if getattr(expression, "position", None) == position:
                assert isa(value.type, TensorType[Attribute])
                return value.type.get_shape()[dim]
    raise AssertionError("the iterator has no size")


def rewrite_yield(op: GenericOp, change: Callable[[Builder, SSAValue], SSAValue]) -> None:
    """Let the body yield ``change(value)`` for its first value."""
    last = op.body.block.last_op
    assert last is not None
    last.operands[0] = change(Builder(InsertPoint.before(last)), last.operands[0])


def replaced_at_last(op: GenericOp, position: int, value: float) -> None:
    """At the last step of an iterator the body yields ``value``."""
    size = size_of(op, position)

    def change(builder: Builder, original: SSAValue) -> SSAValue:
        index = builder.insert(IndexOp(op.iterator_names[position])).results[0]
        last = builder.insert(arith.ConstantOp(IntegerAttr.from_index_int_value(size - 1))).result
        is_last = builder.insert(arith.CmpiOp(index, last, "eq")).result
        assert isa(original.type, AnyFloat)
        constant = builder.insert(arith.ConstantOp(FloatAttr(value, original.type))).result
        return builder.insert(arith.SelectOp(is_last, constant, original)).result

    rewrite_yield(op, change)


def drop_last_k(module: ModuleOp) -> None:
    """Every reduction misses its last element."""
    for op in generics(module):
        if op.combiner is not None:
            identity = op.combiner.row.components[0].identity
            replaced_at_last(op, op.positions(IteratorKind.REDUCTION)[-1], float(identity))


def leave_last_row(module: ModuleOp) -> None:
    """The last row of every kernel's result is not computed."""
    for op in last_generics(module):
        replaced_at_last(op, 0, 0.0)


def accumulate_in_bf16(module: ModuleOp) -> None:
    """Sums are accumulated in bf16; where nothing is summed, results are rounded to it."""
    for op in generics(module):
        if op.combiner is None:
            rewrite_yield(op, lambda builder, value: widened(builder, shortened(builder, value), value.type))
            continue
        rewrite_yield(op, shortened)
        op.accumulator_type = bf16
        wide = op.results[0].type
        assert isa(wide, TensorType[Attribute])
        result = Rewriter.replace_value_with_new_type(op.results[0], TensorType(bf16, wide.get_shape()))
        for use in list(result.uses):
            user = use.operation
            if isinstance(user, GenericOp):
                argument = Rewriter.replace_value_with_new_type(user.body.block.args[use.index], bf16)
                uses = list(argument.uses)
                start = Builder(InsertPoint.at_start(user.body.block))
                longer = widened(start, argument, wide.element_type)
                for inner in uses:
                    inner.operation.operands[inner.index] = longer
            else:
                widen_outside(user, use.index, wide)


def widen_outside(yield_op: Operation, position: int, wide: TensorType[Attribute]) -> None:
    """Let the kernel have a result in bf16, and everyone else its old type."""
    kernel = yield_op.parent_op()
    assert isinstance(kernel, KernelOp)
    narrow = TensorType(bf16, wide.get_shape())
    result = Rewriter.replace_value_with_new_type(kernel.results[position], narrow)
    uses = list(result.uses)
    longer = widened(Builder(InsertPoint.after(kernel)), result, wide)
    for use in uses:
        use.operation.operands[use.index] = longer


def shortened(builder: Builder, value: SSAValue) -> SSAValue:
    return builder.insert(arith.TruncFOp(value, bf16)).result


def widened(builder: Builder, value: SSAValue, type_: Any) -> SSAValue:
    return builder.insert(arith.ExtFOp(value, type_)).result


def epilogue_twice(module: ModuleOp) -> None:
    """The last elementwise body of every kernel is applied to its own result again."""
    for op in last_generics(module):
        if op.combiner is not None:
            continue
        body = op.body.block
        *ops, last = body.ops
        again: dict[SSAValue, SSAValue] = {body.args[0]: last.operands[0]}
        for inner in ops:
            clone = inner.clone(again)
            body.insert_op_before(clone, last)
        last.operands[0] = again[last.operands[0]]


def observer(mistake: Callable[[Any], None]) -> Observer:
    """An observer that makes a mistake in what the function returns, whichever operation computes it."""

    def observe(op: Operation, results: Sequence[Any]) -> Sequence[Any]:
        returned = [any(isinstance(use.operation, ReturnOp) for use in result.uses) for result in op.results]
        if not any(returned):
            return results
        changed = [np.array(result) for result in results]
        for result in changed:
            mistake(result)
        return changed

    return observe


def _swap_columns(array: Any) -> None:
    array[..., [0, 1]] = array[..., [1, 0]]


def _lose_row(array: Any) -> None:
    array[-1] = 0.0


def _round(array: Any) -> None:
    array[...] = array.astype(ml_dtypes.bfloat16)


NEST_MISTAKES: dict[str, Mistake] = {
    "last k dropped": drop_last_k,
    "last row unwritten": leave_last_row,
    "bf16 accumulation": accumulate_in_bf16,
    "epilogue applied twice": epilogue_twice,
}
OBSERVED_MISTAKES: dict[str, Observer] = {
    "two columns swapped": observer(_swap_columns),
    "last row lost": observer(_lose_row),
    "rounded to bf16": observer(_round),
}
