"""The axes of a kernel: which iterators of its nests are one and the same loop.

A kernel of several nests is lowered as loops over *axes* that all of them share; ``shared_iterators`` says which
iterators are the same. Softmax over rows, as four nests::

    maximum  [m : parallel, n : reduction]      axis m = {m of every nest}: parallel in all, so it is a loop around them
    exp      [m, n : parallel]                  axis n = {n of every nest}: swept once per reduction and once at the end
    sum      [m : parallel, n : reduction]
    divide   [m, n : parallel]

Axes carry the names of the root nest's iterators, by which schedules speak of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xdsl.dialects.builtin import DYNAMIC_INDEX
from xdsl.ir import BlockArgument, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineExpr, AffineMap

from crosstile.dialects.nest.analysis import linear_index, root_generic, shape_of
from crosstile.dialects.nest.attributes import IteratorKind
from crosstile.dialects.nest.generic import GenericOp
from crosstile.dialects.nest.kernel import KernelOp
from crosstile.dialects.nest.shared_iterators import IteratorKey, SharedIterators
from crosstile.ir.diagnostics import op_error


@dataclass(frozen=True)
class Axis:
    """One loop of a kernel: its ``size`` if known, and ``source``, the (block argument, dimension) to read it from."""

    name: str
    size: int | None
    source: tuple[BlockArgument, int] | None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class AxisSum:
    """A dimension along which several axes walk, as in a convolution: ``constant + sum of factor * axis``."""

    terms: tuple[tuple[Axis, int], ...]
    constant: int


AxisOrUnit = Axis | AxisSum | None
"""What walks along a dimension of a value; None for a dimension of size 1 that is not looped over."""


def axes_among(along: Iterable[AxisOrUnit]) -> list[Axis]:
    """The axes in ``along``, those in sums included."""
    sums = ([axis for axis, _ in entry.terms] if isinstance(entry, AxisSum) else [entry] for entry in along)
    return [axis for entry in sums for axis in entry if axis is not None]


class KernelAxes:
    """The axes of ``kernel`` and how its nests and values lie along them."""

    def __init__(self, kernel: KernelOp):
        self.kernel = kernel
        self.nests = kernel.generics
        self.root = root_generic(kernel)
        self._shared = SharedIterators(self.nests)
        if (general := self._shared.general) is not None:
            raise op_error(
                general,
                "an index that divides is not built yet in a kernel lowered to tiles: expects sums of multiples of "
                "iterators",
            )
        if (conflict := self._shared.conflict) is not None:
            raise op_error(conflict, "reads a value of the same kernel in two orders: the nests cannot share loops")
        self._axes = self._name_axes()

    # Questions

    def of_nest(self, nest: GenericOp) -> list[Axis]:
        """The axes of the iterators of ``nest``, in order."""
        return [self._axes[self._shared.representative(nest, position)] for position in range(len(nest.iterators))]

    def along(self, nest: GenericOp, map_: AffineMap) -> tuple[AxisOrUnit, ...]:
        """The axis along each dimension of a value that ``nest`` accesses with ``map_``."""
        return tuple(self._walking(nest, expression) for expression in map_.results)

    def _walking(self, nest: GenericOp, expression: AffineExpr) -> AxisOrUnit:
        index = linear_index(expression)
        assert index is not None
        terms = [(self._axes[self._shared.representative(nest, position)], factor) for position, factor in index.terms]
        if isinstance(expression, AffineDimExpr):
            return terms[0][0]
        return AxisSum(tuple(terms), index.constant) if terms or index.constant else None

    def of_operand(self, nest: GenericOp, position: int) -> tuple[AxisOrUnit, ...]:
        """The axis along each dimension of input ``position`` of ``nest``."""
        return self.along(nest, nest.indexing_maps.data[position].data)

    def of_result(self, result: SSAValue) -> tuple[AxisOrUnit, ...]:
        """The axis along each dimension of a result of a nest of this kernel."""
        nest = result.owner
        assert isinstance(nest, GenericOp)
        return self.along(nest, nest.indexing_maps.data[len(nest.inputs) + nest.results.index(result)].data)

    def parallel(self) -> list[Axis]:
        """The axes that are parallel in every nest: the loops that all nests can share, in the root's order."""
        shared = self._kind_in(self.root, IteratorKind.PARALLEL)
        for nest in self.nests:
            here = self._kind_in(nest, IteratorKind.PARALLEL)
            shared = [axis for axis in shared if axis in here]
        return shared

    def all(self) -> list[Axis]:
        """Every axis, the root's first."""
        return list(dict.fromkeys([*self.of_nest(self.root), *self._axes.values()]))

    def reduced(self, nest: GenericOp) -> list[Axis]:
        """The axes that ``nest`` reduces over, in order."""
        return self._kind_in(nest, IteratorKind.REDUCTION)

    def places(self, axis: Axis) -> list[tuple[BlockArgument, int]]:
        """Every (block argument, dimension) that lies along ``axis``: all of them must have one size."""
        found: dict[tuple[BlockArgument, int], None] = {}
        for nest in self.nests:
            for position, operand in enumerate(nest.inputs):
                if isinstance(operand, BlockArgument):
                    along = self.of_operand(nest, position)
                    found.update(dict.fromkeys((operand, dim) for dim, here in enumerate(along) if here == axis))
        return list(found)

    def by_name(self, name: str) -> Axis | None:
        """The axis that schedules call ``name``."""
        return next((axis for axis in self._axes.values() if axis.name.lower() == name.lower()), None)

    # Construction

    def _kind_in(self, nest: GenericOp, kind: IteratorKind) -> list[Axis]:
        axes = self.of_nest(nest)
        return [axis for axis, iterator in zip(axes, nest.iterators, strict=True) if iterator.data.kind is kind]

    def _name_axes(self) -> dict[IteratorKey, Axis]:
        taken: set[str] = set()
        axes: dict[IteratorKey, Axis] = {}
        classes = self._shared.classes()
        ordered = sorted(classes, key=lambda key: not any(nest is self.root for nest, _ in classes[key]))
        for key in ordered:
            members = sorted(classes[key], key=lambda member: member[0] is not self.root)
            name = base = members[0][0].iterators.data[members[0][1]].data.name
            suffix = 0
            while name.lower() in taken:
                suffix += 1
                name = f"{base}{suffix}"
            taken.add(name.lower())
            axes[key] = Axis(name, *self._size(members))
        return axes

    def _size(self, members: list[IteratorKey]) -> tuple[int | None, tuple[BlockArgument, int] | None]:
        """The size of an axis if some value along it has it in its type, and a block argument to read it from."""
        known: int | None = None
        source: tuple[BlockArgument, int] | None = None
        for nest, iterator in members:
            for value, map_ in zip((*nest.inputs, *nest.results), nest.indexing_maps, strict=True):
                for dim, expression in enumerate(map_.data.results):
                    if not isinstance(expression, AffineDimExpr) or expression.position != iterator:
                        continue
                    size = shape_of(value)[dim]
                    known = size if size != DYNAMIC_INDEX else known
                    if source is None and isinstance(value, BlockArgument):
                        source = (value, dim)
        return known, source
