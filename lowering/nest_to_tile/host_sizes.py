"""Sizes in a host function: every dynamic one is traced back to a dimension of an input.

``HostSizes`` knows, for the memrefs of the function being built, where each dynamic size comes from. From that follow
the sizes of temporaries, the shapes of results as expressions of the inputs' dimensions, and the run-time checks: which
dimensions of inputs the program takes to be equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import cast

from xdsl.dialects import arith, cf, memref
from xdsl.dialects.builtin import DYNAMIC_INDEX, LocationAttr, MemRefType
from xdsl.ir import Block, BlockArgument, Operation, SSAValue
from xdsl.ir.affine import AffineConstantExpr, AffineExpr, AffineMap
from xdsl.utils.hints import isa

from crosstile.ir.index_math import Index, IndexBuilder
from crosstile.lowering.hoisting import Hoister


@dataclass(frozen=True)
class Dimension:
    """Dimension ``dim`` of the memref ``value``: where a size comes from."""

    value: SSAValue
    dim: int

    def __str__(self) -> str:
        argument = cast(BlockArgument, self.value)
        name = f" ('{argument.name_hint}')" if argument.name_hint else ""
        return f"dimension {self.dim} of argument {argument.index}{name}"


@dataclass(frozen=True)
class Computed:
    """A size that is computed: its value, and as an expression of the inputs' dynamic dimensions if it is one."""

    value: Index
    expression: AffineExpr | None = None


def dynamic_dims(type_: MemRefType) -> list[int]:
    """The dimensions whose size is not static."""
    return [dim for dim, size in enumerate(type_.get_shape()) if size == DYNAMIC_INDEX]


def _shape(value: SSAValue) -> tuple[int, ...]:
    return cast(MemRefType, value.type).get_shape()


class HostSizes:
    """The sizes of one host function with the given ``inputs``; ``index`` builds arithmetic in it."""

    def __init__(self, inputs: Sequence[SSAValue], index: Hoister):
        self.index = index
        self._known: dict[Dimension, Dimension | Computed] = {}
        self._checks: dict[tuple[Dimension, Dimension | int], None] = {}
        memrefs = [value for value in inputs if isa(value.type, MemRefType)]
        dims = [Dimension(value, dim) for value in memrefs for dim in dynamic_dims(cast(MemRefType, value.type))]
        self._symbols = {dimension: AffineExpr.symbol(position) for position, dimension in enumerate(dims)}

    def record(self, value: SSAValue, dim: int, size: Dimension | Computed) -> None:
        """The dynamic dimension ``dim`` of ``value`` is of this ``size``."""
        self._known[Dimension(value, dim)] = size

    def size(self, value: SSAValue, dim: int) -> Index:
        """The size of ``value`` along ``dim``, traced back to the inputs."""
        match self.origin(value, dim):
            case Computed() as computed:
                return computed.value
            case Dimension() as dimension:
                position = self.index.value(dimension.dim)
                return self.index.build(memref.DimOp(dimension.value, position)).result
            case known:
                return known

    def origin(self, value: SSAValue, dim: int) -> Dimension | Computed | int:
        """Where a size comes from: a number if it is static, the dimension of an input, or a computation."""
        known = _shape(value)[dim]
        if known != DYNAMIC_INDEX:
            return known
        source = self._known.get(Dimension(value, dim))
        if isinstance(source, Dimension):
            return self.origin(source.value, source.dim)
        return source or Dimension(value, dim)

    def result_shape(self, value: SSAValue) -> AffineMap | None:
        """The shape of ``value`` from the inputs' dynamic dimensions; None if it is no expression of them."""
        expressions = [self.expression(value, dim) for dim in range(len(_shape(value)))]
        known = [expression for expression in expressions if expression is not None]
        return AffineMap(0, len(self._symbols), tuple(known)) if len(known) == len(expressions) else None

    def expression(self, value: SSAValue, dim: int) -> AffineExpr | None:
        """The size of ``value`` along ``dim`` from the inputs' dynamic dimensions; None if it is no expression."""
        match self.origin(value, dim):
            case Computed() as computed:
                return computed.expression
            case Dimension() as dimension:
                return self._symbols.get(dimension)
            case known:
                return AffineExpr.constant(known)

    def inferred(self, source: SSAValue, type_: MemRefType) -> Computed:
        """The one dynamic size of ``type_``, a reshape of ``source``: all elements over the static sizes."""
        rest = prod(size for size in type_.get_shape() if size != DYNAMIC_INDEX)
        if rest == 0:
            return Computed(0, AffineExpr.constant(0))
        dims = range(len(_shape(source)))
        value = self.index.floor_div(self.index.product([self.size(source, dim) for dim in dims]), rest)
        expression = AffineExpr.constant(1)
        for dim in dims:
            factor = self.expression(source, dim)
            constants = (isinstance(part, AffineConstantExpr) for part in (expression, factor))
            if factor is None or not any(constants):
                # A product of two dimensions is no affine expression.
                return Computed(value)
            expression = expression * factor
        return Computed(value, expression // rest)

    # Checks

    def require_equal(self, places: Sequence[tuple[SSAValue, int]], known: int | None) -> None:
        """These (memref, dimension) are of one size, ``known`` if that is static: what is not so is to be checked."""
        origins = dict.fromkeys(self.origin(value, dim) for value, dim in places)
        dynamic = [origin for origin in origins if isinstance(origin, Dimension)]
        expected = known if known is not None else dynamic[0] if dynamic else None
        for found in dynamic:
            if expected is not None and found != expected:
                self._checks[found, expected] = None

    def insert_checks(self, block: Block, location: LocationAttr) -> None:
        """Compare sizes at the beginning of ``block``: one ``cf.assert`` for each pair."""
        first = block.first_op
        assert first is not None

        def insert(op: Operation) -> None:
            op.location = location
            block.insert_op_before(op, first)

        index = IndexBuilder(insert)

        def read(size: Dimension | int) -> SSAValue:
            if isinstance(size, int):
                return index.value(size)
            insert(op := memref.DimOp(size.value, index.value(size.dim)))
            return op.result

        for found, expected in self._checks:
            insert(equal := arith.CmpiOp(read(found), read(expected), "eq"))
            insert(cf.AssertOp(equal.result, f"{found} must be {expected}"))
