"""The host function: the part of a program that runs outside kernels, from the ``tile`` level down.

It is a ``func.func`` on memrefs in destination-passing style - inputs first, then one memref per result - and these
attributes say the rest::

    func.func @main(%x : memref<?x64xf32>, %w : memref<64x10xf32>, %y : memref<?x10xf32>) attributes {
        crosstile.inputs = 2 : index, crosstile.result_shapes = [affine_map<()[s0] -> (s0, 10)>]} {
      tile.launch @matmul_0(%x, %w, %y : ...) {stage = 0 : index}
      func.return
    }

The symbols of a result's shape are the dynamic dimensions of the inputs, in order, so a caller can allocate results
before the call. Launches of one stage are variants of each other: one of them runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from xdsl.dialects.func import FuncOp
from xdsl.dialects.memref import CopyOp
from xdsl.ir import Attribute
from xdsl.ir.affine import AffineMap

from crosstile.dialects.tile.launch import LaunchOp

INPUTS = "crosstile.inputs"
RESULT_SHAPES = "crosstile.result_shapes"
ARENA_SUFFIX = ".arena"
"""``@main.arena`` computes the bytes of scratch memory that ``@main`` needs."""


@dataclass(frozen=True)
class HostSignature:
    """What a caller must know of a host function: its name, the types of inputs and results, the results' shapes."""

    name: str
    inputs: tuple[MemRefType, ...]
    results: tuple[MemRefType, ...]
    result_shapes: tuple[AffineMap, ...]

    def dynamic_dims(self) -> list[tuple[int, int]]:
        """(input, dimension) of every dynamic dimension: what the symbols of ``result_shapes`` stand for."""
        return [
            (position, dim)
            for position, type_ in enumerate(self.inputs)
            for dim, size in enumerate(type_.get_shape())
            if size == DYNAMIC_INDEX
        ]

    def shapes_of_results(self, input_shapes: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
        """The shapes of the results for inputs of the given shapes."""
        symbols = [input_shapes[position][dim] for position, dim in self.dynamic_dims()]
        return [shape.eval((), symbols) for shape in self.result_shapes]


def host_attributes(inputs: int, result_shapes: Sequence[AffineMap]) -> dict[str, Attribute]:
    """The attributes that make a ``func.func`` a host function."""
    shapes = ArrayAttr([AffineMapAttr(shape) for shape in result_shapes])
    return {INPUTS: IntegerAttr(inputs, IndexType()), RESULT_SHAPES: shapes}


def is_host(function: FuncOp) -> bool:
    """Whether ``function`` is a host function."""
    return INPUTS in function.attributes


def host_functions(module: ModuleOp) -> Iterator[FuncOp]:
    """The host functions of ``module``, in order."""
    return (op for op in module.ops if isinstance(op, FuncOp) and is_host(op))


def host_signature(function: FuncOp) -> HostSignature:
    """The signature of a host function; arguments after the results (arena, part) are not part of it."""
    count = function.attributes[INPUTS]
    shapes = function.attributes[RESULT_SHAPES]
    assert isinstance(count, IntegerAttr) and isinstance(shapes, ArrayAttr)
    types = [cast(MemRefType, type_) for type_ in function.function_type.inputs if isinstance(type_, MemRefType)]
    maps = tuple(shape.data for shape in cast(ArrayAttr[AffineMapAttr], shapes))
    inputs = count.value.data
    return HostSignature(function.sym_name.data, tuple(types[:inputs]), tuple(types[inputs : inputs + len(maps)]), maps)


def stage_count(function: FuncOp) -> int:
    """How many stages follow each other in a host function: those of its launches, and one for copies at the end."""
    launches = [op for op in function.walk() if isinstance(op, LaunchOp)]
    stages = 1 + max((0 if op.stage is None else op.stage.value.data for op in launches), default=-1)
    return stages + any(isinstance(op, CopyOp) for op in function.walk())
