"""Blocks of scores: what kernels of two products share, one of queries and keys and one of what is made of the scores.

    %q = tile.stage (window of Q at %b, %h, %m)                   if the schedule stages the queries
    %s = tile.contract %q, (window of K at %b, %h, %n), 0         keys by queries, if queries lie across lanes
    %t = scf.if (some query does not see some key of the block) { mask of %s } else { %s }

In: the roles of the axes (``dialects/nest/attention_roles.py``) and a schedule. ``attention`` folds the blocks into a
running maximum and weighted sums, ``row_chains`` keeps whole rows of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects import scf
from xdsl.dialects.builtin import f32
from xdsl.ir import Attribute, Block, Region, SSAValue

from crosstile.dialects import tile
from crosstile.dialects.mma.intrinsics import find_intrinsic
from crosstile.dialects.nest.analysis import element_type
from crosstile.dialects.nest.attention_roles import AttentionRoles
from crosstile.dialects.nest.axes import Axis
from crosstile.dialects.nest.generic import GenericOp
from crosstile.dialects.nest.schedule import Schedule
from crosstile.dialects.nest.visible_range import mask_of
from crosstile.lowering.llvm_types import element_bytes
from crosstile.lowering.nest_to_tile.kernel_builder import KernelBuilder
from crosstile.lowering.nest_to_tile.places import Place, Span, TileShape
from crosstile.lowering.nest_to_tile.visible_keys import VisibleKeys


@dataclass(frozen=True)
class _Sides:
    """What stands in the rows and in the lanes of the two kinds of blocks, and along which dimension keys lie."""

    scores: TileShape
    sums: TileShape
    key_dim: int


class ScoreBlocks:
    """The state of lowering one block of queries, and the blocks of scores that it makes with those of keys."""

    def __init__(self, builder: KernelBuilder, roles: AttentionRoles, schedule: Schedule, chain: GenericOp | None):
        """``chain``: what is elementwise between the product and the scores, if there is anything."""
        self.roles = roles
        self.schedule = schedule
        self._lowering = builder.lowering
        self._index = builder.index
        self._axes = builder.axes
        sides = self._sides()
        self._key_dim = sides.key_dim
        self._scores = builder.of_shape(sides.scores)
        self._sums = builder.of_shape(sides.sums)
        self._chain = chain
        self._visible: VisibleKeys | None = None
        """The keys that the scores show, if there is anything that could hide some."""
        if chain is not None:
            mask = mask_of(chain, self._axes.of_nest(chain).index(roles.n))
            self._visible = VisibleKeys(self._scores, chain, mask, roles.n, self._step(roles.n))
        values = element_type(roles.weighted.inputs[roles.value])
        self._value_type = None if values == f32 else values
        """The type to which weights are rounded, if it is narrower than theirs."""
        self._factor_type = self._widened()
        """f32 if factors are narrower and the schedule's instruction multiplies that."""
        self._zero = builder.constant(f32, 0.0)
        self._folds_scale = False
        """Whether a constant that all scores are multiplied by is left to what reads them."""

    # What the schedule says

    def _sides(self) -> _Sides:
        roles = self.roles
        m, n, e = (self._step(axis) for axis in (roles.m, roles.n, roles.e))
        if self.schedule.lane == roles.n.name:
            return _Sides(TileShape(roles.m, m, roles.n, n), TileShape(roles.m, m, roles.e, e), 1)
        if roles.m is not None and self.schedule.lane == roles.m.name:
            return _Sides(TileShape(roles.n, n, roles.m, m), TileShape(roles.e, e, roles.m, m), 0)
        legal = f"{roles.n} or {roles.m}" if roles.m is not None else f"{roles.n}"
        raise self._lowering.error(f"attention has {legal} across lanes, got the schedule's lane {self.schedule.lane}")

    def _widened(self) -> Attribute | None:
        if self._value_type is None or self.schedule.intrinsic is None:
            return None
        return f32 if find_intrinsic(self.schedule.intrinsic).lhs.element == str(f32) else None

    def _step(self, axis: Axis | None) -> int:
        if axis is None:
            return 1
        steps = self.schedule.steps(axis.name)
        if not steps:
            raise self._lowering.error(f"the schedule has no loop over '{axis}', which attention needs")
        return steps[0]

    # Factors

    def _query(self, place: Place) -> SSAValue:
        roles = self.roles
        window = self._factor(place, roles.scores, roles.query, (roles.m, roles.d))
        return self._staged(window, roles.query)

    def _staged(self, window: SSAValue, position: int) -> SSAValue:
        """The window in scratch, in the type that products take, if the schedule stages the input at ``position``."""
        if position not in self.schedule.stage:
            return window
        return self._lowering.insert(tile.StageOp(window, element=self._factor_type)).result

    def _factor(self, place: Place, nest: GenericOp, position: int, order: tuple[Axis | None, Axis | None]) -> SSAValue:
        """The window on a factor, its dimensions in ``order``, or the other way around where lanes are queries."""
        order = order if self._key_dim == 1 else (order[1], order[0])
        shape = (self._step(order[0]), self._step(order[1]))
        along = self._axes.of_operand(nest, position)
        source = self._scores.memory[nest.inputs[position]]
        dimensions = {axis: at for at, axis in enumerate(order) if axis is not None}
        return self._scores.window(place, source, along, shape, dimensions.get)

    def _product(
        self, lhs: SSAValue, rhs: SSAValue, sums: SSAValue, extent: SSAValue | None, ahead: SSAValue | None
    ) -> SSAValue:
        """A product of matrices, or with queries across lanes of their transposes."""
        factors = (lhs, rhs) if self._key_dim == 1 else (rhs, lhs)
        # A number of steps that is not known would leave some to a second loop.
        intrinsic, unroll = self.schedule.intrinsic, self.schedule.unroll if extent is None else None
        return self._lowering.insert(tile.ContractOp(*factors, sums, extent, intrinsic, unroll, ahead)).result

    def _ahead(self, place: Place, nest: GenericOp, position: int, axis: Axis, after: int) -> SSAValue | None:
        """The rows of keys or values ``after`` so many from the place, if the schedule has them fetched ahead."""
        n, steps = self.roles.n, (self._step(self.roles.n), self._step(axis))
        source = nest.inputs[position]
        size = steps[0] * steps[1] * element_bytes(element_type(source))
        if self.schedule.prefetch is None or size > self.schedule.prefetch or axis.size is None:
            return None
        span = place.spans[n]
        starts = span.starts if after == 0 else (*span.starts, after)
        there = Place({**place.spans, n: Span(starts, steps[0])})
        memory, along = self._scores.memory[source], self._axes.of_operand(nest, position)
        return self._scores.window(there, memory, along, steps, {n: 0, axis: 1}.get)

    # One block of scores

    def _length(self, place: Place, axis: Axis | None = None) -> SSAValue | None:
        """How much of ``axis``, or how many keys, there are in the block; None if it is known to be full."""
        axis = axis or self.roles.n
        extent = place.spans[axis].extent
        return None if extent == self._step(axis) else self._index.value(extent)

    def _dot(self, place: Place, query: SSAValue | None) -> SSAValue:
        """The products of the block of queries with that of keys; ``query`` is None if a head is summed in blocks."""
        roles, builder = self.roles, self._scores
        zero = builder.splat(self._zero, builder.shape.of((roles.m, roles.n)))

        def product(place: Place, query: SSAValue, sums: SSAValue, ahead: SSAValue | None) -> SSAValue:
            key = self._staged(self._factor(place, roles.scores, roles.key, (roles.d, roles.n)), roles.key)
            return self._product(query, key, sums, self._length(place, roles.d), ahead)

        if query is not None:
            return product(place, query, zero, self._ahead(place, roles.weighted, roles.value, roles.e, 0))

        def block(inside: Place, carried: list[SSAValue]) -> Sequence[SSAValue]:
            return [product(inside, self._query(inside), carried[0], None)]

        return builder.loop(place, roles.d, builder.bounds(place, roles.d), self._step(roles.d), [zero], block)[0]

    def _score(self, place: Place, query: SSAValue | None) -> SSAValue:
        """The block of scores, minus infinity where hidden, anything beyond the last key."""
        roles, builder = self.roles, self._scores
        shape = builder.shape.of((roles.m, roles.n))
        root = roles.scores.results[0]
        product = self._dot(place, query)
        nest, visible = self._chain, self._visible
        if nest is None or visible is None:
            return product
        mask = visible.mask
        place.tiles[root, self._axes.of_result(root), False] = product
        plain = product if self._folds_scale else builder.map(place, nest, f32, shape, mask.value)
        if mask.is_exact and not mask.bounds:
            return plain

        def masked(place: Place) -> SSAValue:
            return builder.map(place, nest, f32, shape, known={mask.value: plain})

        if not mask.is_exact:
            return masked(place)
        with self._lowering.at(hidden := Block()):
            self._lowering.insert(scf.YieldOp(masked(place.branch())))
        with self._lowering.at(seen := Block()):
            self._lowering.insert(scf.YieldOp(plain))
        condition = visible.is_partly_hidden(place)
        return self._lowering.insert(scf.IfOp(condition, [plain.type], Region(hidden), Region(seen))).results[0]
