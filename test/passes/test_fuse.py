"""Fusion changes no bit of any result, on generated programs and on programs of the shapes people write."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects import arith, math
from xdsl.dialects.builtin import FunctionType, ModuleOp, TensorType, f32
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Operation, Region, SSAValue
from xdsl.ir.affine import AffineExpr, AffineMap

from crosstile.dialects.interpreter import Interpreter
from crosstile.dialects.nest import meaning
from crosstile.dialects.nest.analysis import shape_of
from crosstile.dialects.nest.attributes import IteratorAttr
from crosstile.dialects.nest.generic import GenericOp, YieldOp
from crosstile.dialects.nest.kernel import KernelOp
from crosstile.dialects.upstream_meaning import MEANINGS as UPSTREAM
from crosstile.ir.context import make_context
from crosstile.ir.printing import print_module
from crosstile.ir.verification import verify_module
from crosstile.passes.fuse import FusePass

SIZES = (0, 1, 3, 4)
DRAW = Any


def iterators(*kinds: str) -> list[IteratorAttr]:
    return [IteratorAttr.of(f"i{position}", kind) for position, kind in enumerate(kinds)]


def pick(*positions: int | None, of: int) -> AffineMap:
    """A map to iterators by position, None standing for the constant 0."""
    zero = AffineExpr.constant(0)
    results = tuple(zero if position is None else AffineExpr.dimension(position) for position in positions)
    return AffineMap(of, 0, results)


def elementwise(draw: DRAW, values: list[SSAValue]) -> Operation:
    """tanh, a copy, a difference or a product of one or two values, of the same or broadcastable shapes."""
    first = draw(st.sampled_from(values))
    rows, columns = shape_of(first)
    fitting = [
        value for value in values if shape_of(value) in {(rows, columns), (rows, 1), (1, columns), (columns, rows)}
    ]
    second = draw(st.sampled_from(fitting))
    transposed = shape_of(second) == (columns, rows) and (shape_of(second) != (rows, columns) or draw(st.booleans()))
    at = (
        (1, 0)
        if transposed
        else tuple(
            None if size == 1 and full != 1 else dim
            for dim, (size, full) in enumerate(zip(shape_of(second), (rows, columns), strict=True))
        )
    )
    block = Block(arg_types=[f32, f32])
    p, q = block.args
    match draw(st.sampled_from(["tanh", "copy", "sub", "mul"])):
        case "tanh":
            tanh = math.TanhOp(p)
            body: list[Operation] = [tanh, arith.AddfOp(tanh, q)]
        case "copy":
            body = []
        case "sub":
            body = [arith.SubfOp(p, q)]
        case _:
            body = [arith.MulfOp(p, q)]
    block.add_ops([*body, YieldOp(body[-1].results[0] if body else q)])
    written = (1, 0) if draw(st.booleans()) else (0, 1)
    result = TensorType(f32, [(rows, columns)[dim] for dim in written])
    maps = [pick(0, 1, of=2), pick(*at, of=2), pick(*written, of=2)]
    return GenericOp([first, second], iterators("parallel", "parallel"), maps, block, [result])


def reduction(draw: DRAW, values: list[SSAValue]) -> Operation:
    """The sum or maximum of rows, kept as a column."""
    value = draw(st.sampled_from(values))
    block = Block(arg_types=[f32])
    block.add_op(YieldOp(block.args[0]))
    combiner = draw(st.sampled_from(["add", "max"]))
    along = draw(st.integers(0, 1))
    kinds = ["parallel", "parallel"]
    kinds[along] = "reduction"
    kept = [None if dim == along else dim for dim in range(2)]
    result = TensorType(f32, [1 if dim == along else size for dim, size in enumerate(shape_of(value))])
    maps = [pick(0, 1, of=2), pick(*kept, of=2)]
    return GenericOp([value], iterators(*kinds), maps, block, [result], combiner, f32)


def contraction(draw: DRAW, values: list[SSAValue]) -> Operation:
    """A matrix product of two values that share a size."""
    lhs = draw(st.sampled_from(values))
    fitting = [value for value in values if shape_of(lhs)[1] in shape_of(value)]
    if not fitting:
        return reduction(draw, values)
    rhs = draw(st.sampled_from(fitting))
    transposed = shape_of(rhs)[0] != shape_of(lhs)[1]
    columns = shape_of(rhs)[0 if transposed else 1]
    block = Block(arg_types=[f32, f32])
    product = arith.MulfOp(block.args[0], block.args[1])
    block.add_ops([product, YieldOp(product.result)])
    maps = [pick(0, 2, of=3), pick(1, 2, of=3) if transposed else pick(2, 1, of=3), pick(0, 1, of=3)]
    result = TensorType(f32, [shape_of(lhs)[0], columns])
    return GenericOp([lhs, rhs], iterators("parallel", "parallel", "reduction"), maps, block, [result], "add", f32)


@st.composite
def programs(draw: DRAW) -> ModuleOp:
    """A function of a few nests that returns some of their values."""
    types = draw(st.lists(st.tuples(st.sampled_from(SIZES), st.sampled_from(SIZES)), min_size=1, max_size=3))
    block = Block(arg_types=[TensorType(f32, type_) for type_ in types])
    values: list[SSAValue] = list(block.args)
    for make in draw(
        st.lists(st.sampled_from([elementwise, elementwise, reduction, contraction]), min_size=1, max_size=9)
    ):
        op = make(draw, values)
        block.add_op(op)
        values.extend(op.results)
    returned = [*draw(st.lists(st.sampled_from(values), max_size=2)), values[-1]]
    block.add_op(ReturnOp(*returned))
    function = FunctionType.from_lists([value.type for value in block.args], [value.type for value in returned])
    return ModuleOp([FuncOp("f", function, Region(block))])


def evaluate(module: ModuleOp, arguments: list[Any]) -> tuple[Any, ...]:
    return Interpreter(module, UPSTREAM, meaning.MEANINGS).call("f", arguments)


@settings(max_examples=150, deadline=None)
@given(programs())
def test_fusion_changes_no_bit(module: ModuleOp):
    function = next(iter(module.ops))
    rng = np.random.default_rng(0)
    arguments = [rng.standard_normal(shape_of(value)).astype(np.float32) for value in function.regions[0].block.args]
    verify_module(module)
    before = evaluate(module, arguments)
    text = print_module(module)
    FusePass().apply(make_context(), module)
    verify_module(module)
    for op in module.walk():
        assert not isinstance(op, GenericOp) or isinstance(op.parent_op(), KernelOp), "a nest outside of kernels"
    for one, two in zip(before, evaluate(module, arguments), strict=True):
        np.testing.assert_array_equal(one, two, err_msg=text + print_module(module))
    once = print_module(module)
    FusePass().apply(make_context(), module)
    assert print_module(module) == once, "fusing twice changes something"
