"""Which keys of attention are visited, and in which blocks of them some query does not see some key.

The ends of what a mask shows (``dialects/nest/visible_range.py``) at a block of queries, as index arithmetic. With
``causal``, of the 48 queries from ``%m`` on, whose last one sees the keys up to ``%m + 47 + %shift``::

    %end = arith.minsi %keys, %m + 48 + %shift                    the range: keys behind it are not visited
    %hidden = arith.cmpi sgt, %n + 63, %m + %shift                the first query does not see the last of 64 keys
"""

from __future__ import annotations

from dataclasses import dataclass, field

from xdsl.dialects import arith, memref
from xdsl.ir import SSAValue

from crosstile.dialects.nest.axes import Axis
from crosstile.dialects.nest.generic import GenericOp
from crosstile.dialects.nest.visible_range import Bound, Mask
from crosstile.ir.index_math import Index
from crosstile.lowering.nest_to_tile.kernel_builder import KernelBuilder
from crosstile.lowering.nest_to_tile.places import Place


@dataclass(frozen=True)
class VisibleKeys:
    """The ``mask`` that the body of ``nest`` lays over the ``keys``, which are visited in blocks of ``step``."""

    builder: KernelBuilder
    nest: GenericOp
    mask: Mask
    keys: Axis
    step: int
    _scalars: dict[SSAValue, SSAValue] = field(default_factory=dict[SSAValue, SSAValue])
    """The inputs of rank 0 that bounds of the mask depend on."""

    def load_scalars(self) -> None:
        """Load what the ends depend on, to be used from here on."""
        for position in sorted({position for bound in self.mask.bounds for position, _ in bound.inputs}):
            value = self.nest.inputs[position]
            load = memref.LoadOp.get(self.builder.memory[value], [])
            self._scalars[value] = self.builder.lowering.insert(load).res

    def range(self, place: Place) -> tuple[Index, Index]:
        """The keys that some query of the block sees, the first rounded down to a multiple of the step."""
        index = self.builder.index
        first: Index = 0
        end: Index = self.builder.size(self.keys)
        for bound in self.mask.bounds:
            edge = self._edge(place, bound, everywhere=False)
            if bound.is_upper:
                end = index.minimum(end, index.add(edge, 1))
            else:
                first = index.maximum(first, edge)
        return index.round_down(first, self.step), end

    def is_partly_hidden(self, place: Place) -> SSAValue:
        """Whether some query does not see some key of the full block at ``place``."""
        index, result = self.builder.index, None
        start = index.sum(place.spans[self.keys].starts)
        for bound in self.mask.bounds:
            edge = self._edge(place, bound, everywhere=True)
            last = index.add(start, self.step - 1)
            sides, predicate = ((last, edge), "sgt") if bound.is_upper else ((start, edge), "slt")
            here = index.build(arith.CmpiOp(index.value(sides[0]), index.value(sides[1]), predicate)).result
            result = here if result is None else index.build(arith.OrIOp(result, here)).result
        assert result is not None
        return result

    def _edge(self, place: Place, bound: Bound, everywhere: bool) -> Index:
        """The last (of an upper bound) or first key that some query of the block sees, or that all of them see."""
        index = self.builder.index
        edge: Index = bound.constant
        if bound.row is not None:
            span = place.spans[self.builder.axes.of_nest(self.nest)[bound.row]]
            row = index.sum(span.starts)
            if ((bound.factor > 0) == bound.is_upper) != everywhere:
                row = index.add(row, index.sub(span.extent, 1))
            edge = index.add(edge, index.mul(row, bound.factor))
        for position, factor in bound.inputs:
            edge = index.add(edge, index.mul(self._scalars[self.nest.inputs[position]], factor))
        return edge
