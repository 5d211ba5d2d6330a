"""Which iterators of several nests are one and the same loop: the equivalence behind fusion and behind a kernel's axes.

Two iterators are the same if a value that one nest produces and another reads connects them, and, as far as it
contradicts nothing, if they walk the same dimension of the same outside value. Two iterators of one nest never are.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import OpResult, SSAValue
from xdsl.ir.affine import AffineConstantExpr, AffineDimExpr

from crosstile.dialects.nest.analysis import is_linear_map
from crosstile.dialects.nest.attributes import IteratorKind
from crosstile.dialects.nest.generic import GenericOp

IteratorKey = tuple[GenericOp, int]
"""An iterator: its nest and its position there."""


class SharedIterators:
    """The classes of iterators of ``nests``, which stand in program order.

    ``general`` is the first nest with an index that is no sum of multiples of iterators, ``conflict`` the first that
    reads a value of another nest where shared loops have not computed it; both are None if the nests can share loops.
    """

    def __init__(self, nests: Sequence[GenericOp]):
        self.nests = nests
        self.general: GenericOp | None = next((nest for nest in nests if not _all_simple(nest)), None)
        self.conflict: GenericOp | None = None
        self._parent: dict[IteratorKey, IteratorKey] = {
            (nest, position): (nest, position) for nest in nests for position in range(len(nest.iterators))
        }
        self._members: dict[IteratorKey, list[IteratorKey]] = {key: [key] for key in self._parent}
        self._unite_by_values()
        self._unite_by_inputs()

    def representative(self, nest: GenericOp, position: int) -> IteratorKey:
        """The iterator that stands for the class of this one."""
        key = (nest, position)
        while self._parent[key] != key:
            key = self._parent[key]
        return key

    def classes(self) -> dict[IteratorKey, list[IteratorKey]]:
        """The members of every class, by representative."""
        return self._members

    def of_nest(self, nest: GenericOp, *kinds: IteratorKind) -> list[IteratorKey]:
        """The representatives of the iterators of ``nest`` of ``kinds``, or of any kind if none is given."""
        positions = nest.positions(*(kinds or tuple(IteratorKind)))
        return [self.representative(nest, position) for position in positions]

    def _unite(self, first: IteratorKey, second: IteratorKey) -> bool:
        """Make two iterators the same; refused if that would make two iterators of one nest the same."""
        first, second = self.representative(*first), self.representative(*second)
        if first == second:
            return True
        nests = {nest for nest, _ in self._members[first]}
        if any(nest in nests for nest, _ in self._members[second]):
            return False
        self._parent[second] = first
        self._members[first] += self._members.pop(second)
        return True

    def _unite_by_values(self) -> None:
        inside = set(self.nests)
        for nest in self.nests:
            for operand, read in zip(nest.inputs, nest.input_maps, strict=True):
                producer = operand.owner
                if not isinstance(operand, OpResult) or not isinstance(producer, GenericOp) or producer not in inside:
                    continue
                for source, target in zip(producer.result_maps[operand.index].results, read.results, strict=True):
                    if isinstance(target, AffineConstantExpr) or not isinstance(source, AffineDimExpr):
                        continue
                    if not isinstance(target, AffineDimExpr) or not self._unite(
                        (producer, source.position), (nest, target.position)
                    ):
                        self.conflict = self.conflict or nest

    def _unite_by_inputs(self) -> None:
        inside = set(self.nests)
        first_use: dict[tuple[SSAValue, int], IteratorKey] = {}
        for nest in self.nests:
            for operand, read in zip(nest.inputs, nest.input_maps, strict=True):
                if operand.owner in inside:
                    continue
                for dim, expression in enumerate(read.results):
                    if isinstance(expression, AffineDimExpr):
                        key = (nest, expression.position)
                        self._unite(first_use.setdefault((operand, dim), key), key)


def _all_simple(nest: GenericOp) -> bool:
    return all(is_linear_map(map_.data) for map_ in nest.indexing_maps)
