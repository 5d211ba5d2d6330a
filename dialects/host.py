"""The host function: the part of a program that runs outside kernels, from the ``tile`` level down.

It is a ``func.func`` on memrefs in destination-passing style - inputs first, then one memref per result - and these
attributes say the rest::

    func.func @main(%x : memref<?x64xf32>, %w : memref<64x10xf32>, %y : memref<?x10xf32>) attributes {
        crosstile.inputs = 2 : index, crosstile.result_shapes = [affine_map<()[s0] -> (s0, 10)>]} {
      tile.launch @matmul_0(%x, %w, %y : ...) {stage = 0 : index}
      func.return
    }

The symbols of a result's shape are the dynamic dimensions of the inputs, in order, so a caller can allocate results
before the call. ``crosstile.operations`` has one map for each nest that the function computes, whose results multiplied
are about how many operations that takes: ``affine_map<()[s0] -> (2, s0, 64, 10)>``. Launches of one stage are variants
of each other: one of them runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    AffineMapAttr,
    ArrayAttr,
    IndexType,
    IntegerAttr,
    MemRefType,
    ModuleOp,
)
from xdsl.dialects.cf import AssertOp
from xdsl.dialects.func import FuncOp
from xdsl.dialects.memref import CopyOp
from xdsl.ir import Attribute
from xdsl.ir.affine import (
    AffineBinaryOpExpr,
    AffineBinaryOpKind,
    AffineConstantExpr,
    AffineExpr,
    AffineMap,
    AffineSymExpr,
)

from crosstile.dialects.packing import packed_layout
from crosstile.dialects.tile.launch import LaunchOp
from crosstile.targets.signature import ArrayType, Expression, HostSignature

INPUTS = "crosstile.inputs"
RESULT_SHAPES = "crosstile.result_shapes"
OPERATIONS = "crosstile.operations"

_OPERATORS = {
    AffineBinaryOpKind.Add: "+",
    AffineBinaryOpKind.Mul: "*",
    AffineBinaryOpKind.FloorDiv: "floordiv",
    AffineBinaryOpKind.CeilDiv: "ceildiv",
    AffineBinaryOpKind.Mod: "mod",
}


def host_attributes(
    inputs: int, result_shapes: Sequence[AffineMap], operations: Sequence[AffineMap] = ()
) -> dict[str, Attribute]:
    """The attributes that make a ``func.func`` a host function; without ``operations`` its work is not known."""
    found: dict[str, Attribute] = {INPUTS: IntegerAttr(inputs, IndexType()), RESULT_SHAPES: _maps(result_shapes)}
    return found | ({OPERATIONS: _maps(operations)} if operations else {})


def _maps(maps: Sequence[AffineMap]) -> ArrayAttr[AffineMapAttr]:
    return ArrayAttr([AffineMapAttr(map_) for map_ in maps])


def is_host(function: FuncOp) -> bool:
    """Whether ``function`` is a host function."""
    return INPUTS in function.attributes


def host_functions(module: ModuleOp) -> Iterator[FuncOp]:
    """The host functions of ``module``, in order."""
    return (op for op in module.ops if isinstance(op, FuncOp) and is_host(op))


def host_signature(function: FuncOp) -> HostSignature:
    """What a caller must know of a host function at any level where it takes memrefs, as plain data.

    Arguments after the results (arena, part) are not part of it. The kernels are those beside it in its module.
    """
    from crosstile.dialects import mma, tile
    from crosstile.dialects.nn.weights import weight_arguments

    count = function.attributes[INPUTS]
    assert isinstance(count, IntegerAttr)
    types = [
        _array_type(cast(MemRefType, type_)) for type_ in function.function_type.inputs if isinstance(type_, MemRefType)
    ]
    shapes, operations = (_sizes(function.attributes.get(name)) for name in (RESULT_SHAPES, OPERATIONS))
    inputs = count.value.data
    module = function.parent_op()
    beside = module.ops if isinstance(module, ModuleOp) else ()
    return HostSignature(
        function.sym_name.data,
        tuple(types[:inputs]),
        tuple(types[inputs : inputs + len(shapes)]),
        shapes,
        argument_names(function)[:inputs],
        tuple(check.msg.data for check in function.walk() if isinstance(check, AssertOp)),
        stage_count(function),
        tuple(op.sym_name.data for op in beside if isinstance(op, tile.KernelOp | mma.KernelOp)),
        {argument.name_hint or str(argument.index): argument.index for argument in weight_arguments(function)},
        operations,
    )


def _sizes(maps: Attribute | None) -> tuple[tuple[Expression, ...], ...]:
    """The results of each map, as plain data."""
    if maps is None:
        return ()
    return tuple(
        tuple(_expression(size) for size in map_.data.results) for map_ in cast(ArrayAttr[AffineMapAttr], maps)
    )


def argument_names(function: FuncOp) -> tuple[str, ...]:
    """The arguments as the program calls them: ``'x'``, or their position."""
    arguments = function.body.block.args if function.body.blocks else ()
    return tuple(
        f"argument {at}" + (f" ('{arg.name_hint}')" if arg.name_hint else "") for at, arg in enumerate(arguments)
    )


def _array_type(type_: MemRefType) -> ArrayType:
    from crosstile.dialects.element_types import dtype_of  # imports NumPy

    shape = tuple(None if size == DYNAMIC_INDEX else size for size in type_.get_shape())
    return ArrayType(dtype_of(type_.element_type).name, shape, packed_layout(type_))


def _expression(expression: AffineExpr) -> Expression:
    """An expression of symbols as plain data."""
    match expression:
        case AffineConstantExpr(value=value):
            return value
        case AffineSymExpr(position=position):
            return f"s{position}"
        case AffineBinaryOpExpr(kind=kind, lhs=left, rhs=right):
            return [_OPERATORS[kind], _expression(left), _expression(right)]
        case _:
            raise AssertionError(f"the shape of a result depends on symbols only, found {expression}")


def stage_count(function: FuncOp) -> int:
    """How many stages follow each other in a host function: those of its launches, and one for copies at the end."""
    launches = [op for op in function.walk() if isinstance(op, LaunchOp)]
    stages = 1 + max((0 if op.stage is None else op.stage.value.data for op in launches), default=-1)
    return stages + any(isinstance(op, CopyOp) for op in function.walk())
