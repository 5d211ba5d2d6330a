"""What passes and lowerings ask of nests: sizes of iterators, kinds of nests, the root of a kernel.

A size is an int when it is static, else the ``SizeSource`` (value, dimension) where it can be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from xdsl.dialects import arith
from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute, OpResult, SSAValue
from xdsl.ir.affine import (
    AffineBinaryOpExpr,
    AffineBinaryOpKind,
    AffineConstantExpr,
    AffineDimExpr,
    AffineExpr,
    AffineMap,
)

from crosstile.dialects.nest.attributes import IteratorKind
from crosstile.dialects.nest.generic import GenericOp, IndexOp
from crosstile.dialects.nest.kernel import KernelOp


@dataclass(frozen=True)
class SizeSource:
    """Dimension ``dim`` of ``value``, a tensor: where a dynamic size can be read."""

    value: SSAValue
    dim: int


Size = int | SizeSource
FOLDING = (IteratorKind.REDUCTION, IteratorKind.SCAN)
"""The kinds of iterators that a combiner folds along."""


def shape_of(value: SSAValue) -> tuple[int, ...]:
    """The shape of a tensor value; -1 for ``?``."""
    return cast(TensorType[Attribute], value.type).get_shape()


def element_type(value: SSAValue) -> Attribute:
    """The element type of a tensor value."""
    return cast(TensorType[Attribute], value.type).element_type


def iterator_sizes(generic: GenericOp) -> tuple[Size | None, ...]:
    """The size of every iterator: a static size of any tensor it indexes plainly, else the first input it indexes.

    None where nothing gives the size (which the verifier rejects).
    """
    reads = list(zip(generic.inputs, generic.input_maps, strict=True))
    return sizes_from(len(generic.iterators), reads, list(zip(generic.result_types, generic.result_maps, strict=True)))


def sizes_from(
    count: int, reads: Sequence[tuple[SSAValue, AffineMap]], results: Sequence[tuple[Attribute, AffineMap]]
) -> tuple[Size | None, ...]:
    """The sizes of ``count`` iterators of a nest that reads and writes at these maps."""
    sizes: list[Size | None] = [None] * count
    for value, map_ in reads:
        for dim, (extent, expression) in enumerate(zip(shape_of(value), map_.results, strict=True)):
            if isinstance(expression, AffineDimExpr) and not isinstance(sizes[expression.position], int):
                if extent >= 0:
                    sizes[expression.position] = extent
                elif sizes[expression.position] is None:
                    sizes[expression.position] = SizeSource(value, dim)
    for type_, map_ in results:
        shape = cast(TensorType[Attribute], type_).get_shape()
        for extent, expression in zip(shape, map_.results, strict=True):
            if isinstance(expression, AffineDimExpr) and extent >= 0:
                known = sizes[expression.position]
                sizes[expression.position] = known if isinstance(known, int) else extent
    return tuple(sizes)


def trace_size(size: Size) -> Size:
    """Follow a size through the nests that compute its tensor, to a static size or a value that no nest computes."""
    while isinstance(size, SizeSource):
        extent = shape_of(size.value)[size.dim]
        if extent >= 0:
            return extent
        producer = size.value.owner
        if not isinstance(size.value, OpResult) or not isinstance(producer, GenericOp):
            return size
        expression = producer.result_maps[size.value.index].results[size.dim]
        assert isinstance(expression, AffineDimExpr)
        traced = iterator_sizes(producer)[expression.position]
        assert traced is not None
        size = traced
    return size


def is_plain_map(map_: AffineMap) -> bool:
    """Whether a map consists of distinct iterators and constants 0: what every lowering takes."""
    return map_.is_projected_permutation(allow_zero_in_results=True) or (
        # xDSL counts results against iterators; more constants than iterators are fine.
        all(
            isinstance(result, AffineDimExpr) or (isinstance(result, AffineConstantExpr) and result.value == 0)
            for result in map_.results
        )
        and len(used := [result.position for result in map_.results if isinstance(result, AffineDimExpr)])
        == len(set(used))
    )


@dataclass(frozen=True)
class LinearIndex:
    """An index ``constant + sum of factor * iterator``: ``terms`` are (position of an iterator, factor)."""

    terms: tuple[tuple[int, int], ...]
    constant: int = 0


def linear_index(expression: AffineExpr) -> LinearIndex | None:
    """``expression`` as a sum of multiples of distinct iterators; None if it divides."""
    match expression:
        case AffineConstantExpr():
            return LinearIndex((), expression.value)
        case AffineDimExpr():
            return LinearIndex(((expression.position, 1),))
        case AffineBinaryOpExpr():
            lhs, rhs = linear_index(expression.lhs), linear_index(expression.rhs)
            if lhs is None or rhs is None:
                return None
            if expression.kind is AffineBinaryOpKind.Add:
                factors = dict(lhs.terms)
                for position, factor in rhs.terms:
                    factors[position] = factors.get(position, 0) + factor
                terms = tuple((position, factor) for position, factor in factors.items() if factor)
                return LinearIndex(terms, lhs.constant + rhs.constant)
            if expression.kind is AffineBinaryOpKind.Mul and not rhs.terms:
                terms = tuple((position, factor * rhs.constant) for position, factor in lhs.terms)
                return LinearIndex(terms if rhs.constant else (), lhs.constant * rhs.constant)
            return None
        case _:
            return None


def is_linear_map(map_: AffineMap) -> bool:
    """Whether every index of a map is a sum of multiples of iterators and a constant."""
    return all(linear_index(result) is not None for result in map_.results)


def is_elementwise(generic: GenericOp) -> bool:
    """Whether every iterator is parallel and every result is indexed by all of them: no value is folded."""
    return generic.combiner is None


def is_reduction(generic: GenericOp) -> bool:
    """Whether a combiner folds values (scans included)."""
    return generic.combiner is not None


def is_contraction(generic: GenericOp) -> bool:
    """Whether the nest is a sum of products of two inputs, either of which may be read through a window.

    The body multiplies its first two arguments, each possibly cast to the accumulator type first, and yields the
    product; further inputs give sizes. Both are indexed by every reduction iterator, by iterators alone or, as in a
    convolution, by sums of their multiples. Batch iterators (in both inputs and the result) are allowed.
    """
    combiner = generic.combiner
    if combiner is None or combiner.data != "add" or len(generic.inputs) < 2 or len(generic.results) != 1:
        return False
    if generic.positions(IteratorKind.SCAN, IteratorKind.PAYLOAD):
        return False
    if not all(is_linear_map(map_) for map_ in generic.input_maps) or not is_plain_map(generic.result_maps[0]):
        return False
    lhs, rhs = (map_.used_dims() for map_ in generic.input_maps[:2])
    if not set(generic.positions(IteratorKind.REDUCTION)) <= lhs & rhs:
        return False
    return _multiplies_arguments(generic)


def _multiplies_arguments(generic: GenericOp) -> bool:
    (product,) = generic.yield_op.arguments
    owner = product.owner
    if not isinstance(owner, arith.MulfOp | arith.MuliOp):
        return False
    factors = [_strip_cast(factor) for factor in owner.operands]
    arguments = generic.body.block.args
    if any(argument.uses for argument in arguments[2:]):
        return False
    return factors in ([arguments[0], arguments[1]], [arguments[1], arguments[0]])


def _strip_cast(value: SSAValue) -> SSAValue:
    owner = value.owner
    return owner.operands[0] if isinstance(owner, arith.ExtFOp | arith.ExtSIOp | arith.ExtUIOp) else value


def depends_on(generic: GenericOp) -> dict[SSAValue, set[int]]:
    """The iterators, by position, along which each value of the body may vary."""
    found: dict[SSAValue, set[int]] = {
        argument: map_.used_dims() for argument, map_ in zip(generic.body.block.args, generic.input_maps, strict=True)
    }
    for op in generic.body.block.ops:
        used = set[int]().union(*(found[operand] for operand in op.operands))
        if isinstance(op, IndexOp):
            used.add(op.position)
        found.update(dict.fromkeys(op.results, used))
    return found


def root_generic(kernel: KernelOp) -> GenericOp:
    """The nest that a kernel's schedules speak of.

    The first contraction, or else the first nest that folds, or else the first with the most iterators.
    """
    generics = kernel.generics
    for wanted in (is_contraction, is_reduction):
        for generic in generics:
            if wanted(generic):
                return generic
    return max(generics, key=lambda generic: len(generic.iterators))
