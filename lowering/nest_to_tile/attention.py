"""Attention: a block of queries meets the keys block by block and keeps a running maximum, sum and weighted sum.

    tile.parallel (%b, %h, %m), (...) = ... step (1, 1, 64) {       grid = [b, h, m]
      %q = tile.stage (window of Q at %b, %h, %m)                   if the schedule stages the queries
      %m, %l, %acc = tile.for %n, ... step 64 iter_args(-inf, 0, 0) {
        %s0 = tile.contract %q, (window of K at %b, %h, %n), 0
        %s  = bias, soft cap, ... of %s0
        %s1 = scf.if (some query does not see some key of the block) { mask of %s } else { %s }
        %m2 = tile.reduce maxnum %s1 into %m
        %b  = 0 if %m2 is -inf else -%m2 * unit                     a row that has seen nothing: inf - inf is NaN
        %a  = exp2(%m * unit + %b)      %p = exp2(%s1 * unit + %b)
        %l2 = tile.reduce add %p into %l * %a
        %c2 = tile.contract %p, (window of V at %b, %h, %n), %acc * %a }
      the quotient and what follows; tile.store }

The combiner ``softmax_weighted_sum`` in block form (``dialects/nest/block_forms.py``), with the scores computed on the
way. With ``lane = n`` rows of the blocks are queries, as written here, or the heads that share keys, or a single row.
With ``lane = m`` all blocks are transposed, keys by queries and values by queries: then K and V are read as they lie in
memory, and no reduction crosses lanes.

With ``lane = n ordered`` the weights of a row are added up one after the other, as rows of keys are, so that few
queries, which are best as rows, have the bits that they have among many. A product with ones adds like that::

      %l2 = tile.contract %p, (window of ones, 64x16), %l * %a

Exponentials are powers of two: the unit of the scores, log2(e), is part of the difference, which is one fma. A constant
that all scores are multiplied by becomes part of the unit. (The rounding of the shift is common to all weights of a row
and cancels.)

Keys that a mask hides from all queries of a block are not visited (``dialects/nest/visible_range.py``). Blocks begin at
multiples of the step whatever is hidden, so a result depends neither on the block of queries nor on workers. Blocks
that all queries see are not masked.

The dimension of a value may be blocked in the grid: scores are then computed for each of its blocks. That of a query
and a key is summed over in blocks unless it is known, by its type or the schedule's guard, to fit one::

      %s0 = tile.for %d, ... iter_args(0) { tile.contract (window of Q at %m, %d), (window of K at %n, %d), ... }

With ``prefetch`` the product of queries and keys fetches the block of values meanwhile, and the product of weights and
values the next block of keys, if a block has no more bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from xdsl.dialects import arith, math
from xdsl.dialects.builtin import FloatAttr, f32
from xdsl.dialects.utils import FastMathFlag
from xdsl.ir import SSAValue
from xdsl.ir.affine import AffineMap

from crosstile.dialects import tile
from crosstile.dialects.mma.intrinsics import find_intrinsic
from crosstile.dialects.nest.attention_roles import AttentionRoles
from crosstile.dialects.nest.axes import Axis
from crosstile.dialects.nest.generic import GenericOp
from crosstile.dialects.nest.schedule import GuardAttr, Schedule
from crosstile.lowering.nest_to_tile.grid import build_grid
from crosstile.lowering.nest_to_tile.kernel_builder import KernelBuilder
from crosstile.lowering.nest_to_tile.places import Place, Span
from crosstile.lowering.nest_to_tile.score_blocks import ScoreBlocks

LOG2_E = 1.4426950408889634


@dataclass(frozen=True)
class AttentionKernel:
    """One attention, its schedule, and the results that the kernel stores."""

    builder: KernelBuilder
    roles: AttentionRoles
    schedule: Schedule
    guard: GuardAttr
    outputs: Sequence[SSAValue]

    def build(self) -> None:
        """The grid over blocks of queries, and of values if they are blocked."""
        roles, builder = self._roles_of_schedule(), self.builder
        wanted = [*roles.outer, *([] if roles.m is None else [roles.m])]
        if roles.e.name in self.schedule.grid:
            wanted.append(roles.e)
        grid = [axis for name in self.schedule.grid if (axis := builder.axes.by_name(name)) is not None]
        if set(grid) != set(wanted) or any(self.schedule.steps(axis.name) != (1,) for axis in roles.outer):
            names = ", ".join(axis.name for axis in wanted)
            but = "" if roles.m is None else f" but '{roles.m}'"
            raise builder.lowering.error(
                f"attention runs on a grid of [{names}], one step of each{but}, got grid "
                f"[{', '.join(self.schedule.grid)}]"
            )
        blocks = [(axis, self.schedule.steps(axis.name)[0]) for axis in grid]
        build_grid(builder, blocks, lambda place: self._block(place, roles), self.schedule.order)

    def _roles_of_schedule(self) -> AttentionRoles:
        """The roles with the axis as m that the schedule has across lanes, or of which it has several in a block."""
        rows, schedule = self.roles.rows, self.schedule
        chosen = [axis for axis in rows if axis.name == schedule.lane]
        chosen = chosen or [axis for axis in rows if schedule.steps(axis.name) not in ((), (1,))]
        return self.roles.along(chosen[0]) if chosen else self.roles

    def _block(self, place: Place, roles: AttentionRoles) -> None:
        """One block of queries; what is not blocked of a head is whole in it."""
        schedule = self.schedule
        whole = [axis for axis in (roles.d, roles.e) if axis not in place.spans]
        if roles.e in whole and not self._fits(roles.e):
            raise self.builder.lowering.error(
                f"the loop over '{roles.e}' must cover it in one step or be in the grid, got "
                f"{schedule.steps(roles.e.name)} for a size of {'?' if roles.e.size is None else roles.e.size}"
            )
        for axis in whole:
            if self._fits(axis):
                place = Place({**place.spans, axis: Span((), self.builder.size(axis))}, place.tiles)
        self._lower(roles, place)

    def _lower(self, roles: AttentionRoles, place: Place) -> None:
        """The loops over keys of the block of queries at ``place``."""
        _QueryBlock(self, roles).build(place)

    def _fits(self, axis: Axis) -> bool:
        """Whether one step of the loop over ``axis`` is known to cover it, by its size or by the guard."""
        guarded = [one.most for one in self.guard.data if one.iterator.lower() == axis.name.lower()]
        known = [bound for bound in (axis.size, *guarded) if bound is not None]
        return bool(known) and min(known) <= max(self.schedule.steps(axis.name), default=0)


class _QueryBlock(ScoreBlocks):
    """The state of lowering one block of queries."""

    def __init__(self, kernel: AttentionKernel, roles: AttentionRoles):
        builder = kernel.builder
        nest = roles.weighted.inputs[roles.score].owner
        chain = nest if isinstance(nest, GenericOp) and nest is not roles.scores else None
        super().__init__(builder, roles, kernel.schedule, chain)
        self.outputs = kernel.outputs
        self._flags = arith.FastMathFlagsAttr("none" if self._value_type is None else [FastMathFlag.APPROX_FUNC])
        """Of exponentials: what an instruction for them is off by is far less than that rounding."""
        self._lanes = 1 if self.schedule.intrinsic is None else find_intrinsic(self.schedule.intrinsic).n
        """As many sums of weights as the tiles of an ordered sum are wide; all are the same."""
        self._ones: SSAValue | None = None
        self._one = builder.constant(f32, 1.0)
        self._least = builder.constant(f32, -inf)
        scale = self._scale()
        self._folds_scale = scale is not None
        self._unit = builder.constant(f32, LOG2_E * (scale or 1.0))
        self._minus_unit = builder.constant(f32, -LOG2_E * (scale or 1.0))

    # The block of queries

    def build(self, place: Place) -> None:
        """The loop over keys, and what follows it, for the queries at ``place``."""
        roles, scores, sums = self.roles, self._scores, self._sums
        if self._visible is not None:
            self._visible.load_scalars()
        query = self._query(place) if roles.d in place.spans else None
        row_shape = scores.shape.of((roles.m,))
        if self.schedule.ordered:
            self._ones = self._lowering.insert(tile.StageOp(scores.splat(self._one, (1, self._lanes)))).result
        initial = [
            scores.splat(self._least, row_shape),
            scores.splat(self._zero, (row_shape[0], self._lanes) if self.schedule.ordered else row_shape),
            sums.splat(self._zero, sums.shape.of((roles.m, roles.e))),
        ]

        def keys(inside: Place, carried: list[SSAValue]) -> Sequence[SSAValue]:
            return self._fold(self._up_to_the_last_key(inside), query, carried)

        step, pipeline, role = self._step(roles.n), self.schedule.pipeline, self.schedule.role
        bounds = scores.bounds(place, roles.n) if self._visible is None else self._visible.range(place)
        results = scores.loop(place, roles.n, bounds, step, initial, keys, pipeline=pipeline, role=role)
        if self.schedule.ordered:  # the same number in all lanes
            results[1] = self._lowering.insert(tile.ReduceOp("maxnum", results[1], [1])).result
        for result, value in zip(roles.weighted.results, results, strict=True):
            place.tiles[result, self._axes.of_result(result), False] = value
        for output in self.outputs:
            along = self._axes.of_result(output)
            sums.store(place, sums.tile(place, output, along), output, along)

    def _up_to_the_last_key(self, place: Place) -> Place:
        """The block of keys at ``place`` with those that are hidden from all its queries, if a role copies blocks.

        It copies boxes of memory where all blocks end with the keys themselves. The mask hides the others anyway.
        """
        keys, step = self.roles.n, self._step(self.roles.n)
        if not self.schedule.role or self._visible is None or not self._visible.mask.bounds:
            return place
        span, size = place.spans[keys], self._scores.size(keys)
        whole = isinstance(size, int) and size % step == 0
        rest = self._index.sub(size, self._index.sum(span.starts))
        extent = step if whole else self._index.minimum(step, rest)
        return replace(place, spans={**place.spans, keys: Span(span.starts, extent)})

    # One block of keys

    def _fold(self, place: Place, query: SSAValue | None, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        """The state after the block of keys at ``place``."""
        roles, builder = self.roles, self._scores
        maximum, total, weighted = carried
        score = self._of_keys(place, self._score(place, query))
        rows = builder.shape.of((roles.m,))
        new_maximum = self._reduce("maxnum", place, score, maximum)
        shift = builder.compute([new_maximum], rows, self._shift)
        rescale = builder.compute([maximum, shift], rows, self._rescale)
        weights = builder.compute([score, shift], builder.shape.of((roles.m, roles.n)), self._weight)
        new_total = self._sum(place, weights, builder.combine(arith.MulfOp, total, rescale))
        kept = builder.combine(arith.MulfOp, weighted, rescale)
        value = self._factor(place, roles.weighted, roles.value, (roles.n, roles.e))
        # Of the inputs that a schedule stages, those of the root nest come first, then the values.
        value = self._staged(value, len(roles.scores.inputs))
        after = self._ahead(place, roles.scores, roles.key, roles.d, self._step(roles.n))
        if self._value_type is not None:
            weights = builder.compute([weights], builder.shape.of((roles.m, roles.n)), self._rounded)
        return new_maximum, new_total, self._product(weights, value, kept, self._length(place), after)

    def _of_keys(self, place: Place, scores: SSAValue) -> SSAValue:
        """The scores with -inf, whose weight is 0, beyond the last key, where they are reduced across lanes.

        There the order of a sum must not depend on how many keys there are.
        """
        length = self._length(place)
        if length is None or self._key_dim == 0:
            return scores
        return self._lowering.insert(tile.MaskOp(scores, [None, length], FloatAttr(-inf, f32))).result

    def _reduce(self, kind: str, place: Place, values: SSAValue, into: SSAValue) -> SSAValue:
        length = self._length(place)
        extents = [] if length is None or self._key_dim == 1 else [length]
        return self._lowering.insert(tile.ReduceOp(kind, values, [self._key_dim], extents, into)).result

    def _sum(self, place: Place, weights: SSAValue, into: SSAValue) -> SSAValue:
        """The weights of each row, added to ``into``."""
        if not self.schedule.ordered:
            return self._reduce("add", place, weights, into)
        assert self._ones is not None
        across = AffineMap.from_callable(lambda _, lane: (0, lane))
        ones = tile.WindowOp(self._ones, [], (self._step(self.roles.n), self._lanes), [None, None], across)
        factors = weights, self._lowering.insert(ones).result
        return self._lowering.insert(tile.ContractOp(*factors, into, self._length(place))).result

    # Exponentials, as powers of two

    def _scale(self) -> float | None:
        """The positive constant that scores are the product times, if that and the mask are all there is to them."""
        if self._chain is None or self._visible is None or self.roles.weighted.results[0].uses:
            return None
        op, argument = self._visible.mask.value.owner, self._chain.body.block.args[0]
        if not isinstance(op, arith.MulfOp) or self._chain.inputs[0] is not self.roles.scores.results[0]:
            return None
        factors = [factor for factor in op.operands if factor is not argument]
        constant = factors[0].owner if len(factors) == 1 else None
        if not isinstance(constant, arith.ConstantOp) or not isinstance(constant.value, FloatAttr):
            return None
        return scale if (scale := constant.value.value.data) > 0 else None

    def _shift(self, values: Sequence[SSAValue]) -> SSAValue:
        """What is added to scores: minus the maximum, or 0 for a row that has seen nothing but -inf."""
        nothing = self._lowering.insert(arith.CmpfOp(values[0], self._least, "oeq")).result
        shift = self._lowering.insert(arith.MulfOp(values[0], self._minus_unit)).result
        return self._lowering.insert(arith.SelectOp(nothing, self._zero, shift)).result

    def _rescale(self, values: Sequence[SSAValue]) -> SSAValue:
        """2 to the old maximum, rounded as when it was the shift, less the new one."""
        scaled = self._lowering.insert(arith.MulfOp(values[0], self._unit)).result
        difference = self._lowering.insert(arith.AddfOp(scaled, values[1])).result
        return self._lowering.insert(math.Exp2Op(difference, self._flags)).result

    def _weight(self, values: Sequence[SSAValue]) -> SSAValue:
        """2 to the score less the maximum."""
        difference = self._lowering.insert(math.FmaOp(values[0], self._unit, values[1])).result
        return self._lowering.insert(math.Exp2Op(difference, self._flags)).result

    def _rounded(self, values: Sequence[SSAValue]) -> SSAValue:
        """The weight as a number of the values' type, and of the type that products take."""
        assert self._value_type is not None
        rounded = self._lowering.insert(arith.TruncFOp(values[0], self._value_type)).result
        if self._factor_type is None:
            return rounded
        return self._lowering.insert(arith.ExtFOp(rounded, self._factor_type)).result
