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
from xdsl.dialects.builtin import DYNAMIC_INDEX, IntegerAttr, LocationAttr, MemRefType
from xdsl.ir import Block, BlockArgument, Operation, SSAValue
from xdsl.ir.affine import (
    AffineBinaryOpExpr,
    AffineBinaryOpKind,
    AffineConstantExpr,
    AffineExpr,
    AffineMap,
    AffineSymExpr,
)
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


Origin = Dimension | AffineExpr | int
"""A size that can be computed before anything runs."""


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
        self._checks: dict[tuple[Origin, Origin], None] = {}
        self._sizes: dict[AffineExpr, None] = {}
        memrefs = [value for value in inputs if isa(value.type, MemRefType)]
        dims = [Dimension(value, dim) for value in memrefs for dim in dynamic_dims(cast(MemRefType, value.type))]
        self._dimensions = dims
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
        return self.map(known) if len(known) == len(expressions) else None

    def map(self, expressions: Sequence[AffineExpr]) -> AffineMap:
        """These expressions of the inputs' dynamic dimensions as one map."""
        return AffineMap(0, len(self._symbols), tuple(expressions))

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
        """The one dynamic size of ``type_``, a reshape of ``source``: all elements over the static sizes, none 0."""
        rest = prod(size for size in type_.get_shape() if size != DYNAMIC_INDEX)
        count = self.product(source, range(len(_shape(source))))
        if rest == 1:
            return count
        expression = None if count.expression is None else count.expression // rest
        return Computed(self.index.floor_div(count.value, rest), expression)

    def product(self, source: SSAValue, dims: Sequence[int]) -> Computed:
        """The number of elements of ``source`` along ``dims``."""
        value = self.index.product([self.size(source, dim) for dim in dims])
        expression = AffineExpr.constant(1)
        for dim in dims:
            factor = self.expression(source, dim)
            constants = (isinstance(part, AffineConstantExpr) for part in (expression, factor))
            if factor is None or not any(constants):
                # A product of two dimensions is no affine expression.
                return Computed(value)
            expression = expression * factor
        return Computed(value, expression)

    def computed(self, value: SSAValue) -> Computed:
        """A size that the program computes; it is checked not to be negative if it can be."""
        expression = self._expression_of(value)
        if expression is not None and not isinstance(expression, AffineSymExpr | AffineConstantExpr):
            self._sizes[expression] = None
        return Computed(value, expression)

    def _expression_of(self, value: SSAValue) -> AffineExpr | None:
        """``value`` as an expression of the inputs' dynamic dimensions, if it is a linear one with divisions."""
        match value.owner:
            case arith.ConstantOp(value=IntegerAttr() as constant):
                return AffineExpr.constant(constant.value.data)
            case memref.DimOp() as dim:
                position = self._expression_of(dim.index)
                if isinstance(position, AffineConstantExpr):
                    return self.expression(dim.source, position.value)
            case arith.AddiOp() | arith.SubiOp() | arith.MuliOp() | arith.FloorDivSIOp() | arith.DivUIOp() as op:
                lhs, rhs = (self._expression_of(operand) for operand in op.operands)
                if lhs is None or rhs is None:
                    return None
                if isinstance(op, arith.AddiOp):
                    return lhs + rhs
                if not isinstance(rhs, AffineConstantExpr):
                    return None
                if isinstance(op, arith.FloorDivSIOp | arith.DivUIOp):
                    return lhs if rhs.value == 1 else lhs // rhs.value if rhs.value > 0 else None
                return lhs - rhs.value if isinstance(op, arith.SubiOp) else lhs * rhs.value
            case _:
                pass
        return None

    # Checks

    def require_equal(self, places: Sequence[tuple[SSAValue, int]], known: int | None) -> None:
        """These (memref, dimension) are of one size, ``known`` if that is static: what is not so is to be checked."""
        origins = dict.fromkeys(self._comparable(self.origin(value, dim)) for value, dim in places)
        dynamic = [origin for origin in origins if isinstance(origin, Dimension | AffineExpr)]
        # The others are compared with what is computed, else with the first.
        dynamic.sort(key=lambda origin: isinstance(origin, Dimension))
        expected = known if known is not None else dynamic[0] if dynamic else None
        for found in dynamic:
            if expected is not None and found != expected:
                self._checks[found, expected] = None

    def _comparable(self, origin: Dimension | Computed | int) -> Origin | None:
        """What can be computed from the inputs' dimensions alone: a dimension, a number or an expression."""
        if not isinstance(origin, Computed):
            return origin
        match origin.expression:
            case AffineConstantExpr() as constant:
                return constant.value
            case AffineSymExpr() as symbol:
                return self._dimensions[symbol.position]
            case expression:
                return expression

    def insert_checks(self, block: Block, location: LocationAttr) -> None:
        """Compare sizes at the beginning of ``block``: one ``cf.assert`` for each pair and each computed size."""
        first = block.first_op
        assert first is not None

        def insert(op: Operation) -> None:
            op.location = location
            block.insert_op_before(op, first)

        index = IndexBuilder(insert)

        def read(size: Origin) -> SSAValue:
            if isinstance(size, int):
                return index.value(size)
            if isinstance(size, Dimension):
                insert(op := memref.DimOp(size.value, index.value(size.dim)))
                return op.result
            match size:
                case AffineConstantExpr():
                    return index.value(size.value)
                case AffineSymExpr():
                    return read(self._dimensions[size.position])
                case AffineBinaryOpExpr(kind=AffineBinaryOpKind.Add):
                    return index.value(index.add(read(size.lhs), read(size.rhs)))
                case AffineBinaryOpExpr(kind=AffineBinaryOpKind.Mul):
                    return index.value(index.mul(read(size.lhs), read(size.rhs)))
                case AffineBinaryOpExpr(kind=AffineBinaryOpKind.FloorDiv):
                    insert(division := arith.FloorDivSIOp(read(size.lhs), read(size.rhs)))
                    return division.result
                case _:
                    raise AssertionError(f"no size is computed as {size}")

        for size in self._sizes:
            insert(legal := arith.CmpiOp(read(size), index.value(0), "sge"))
            insert(cf.AssertOp(legal.result, f"a computed size, {self._text(size)}, must not be negative"))
        for found, expected in self._checks:
            insert(equal := arith.CmpiOp(read(found), read(expected), "eq"))
            insert(cf.AssertOp(equal.result, f"{self._text(found)} must be {self._text(expected)}"))

    def _text(self, size: Origin) -> str:
        match size:
            case AffineSymExpr():
                return str(self._dimensions[size.position])
            case AffineBinaryOpExpr():
                lhs, rhs = self._text(size.lhs), self._text(size.rhs)
                return f"({lhs} {size.kind.get_token()} {rhs})"
            case _:
                return str(size)
