"""Two products with folds between them: a block of rows of the first one's result waits in scratch, never in memory.

    tile.parallel (%b, %h, %m), (...) = ... step (1, 1, 48) {       grid = [b, h, m]
      %q = tile.stage (window of Q at %b, %h, %m)
      %row = tile.alloc : !tile.buffer<4096x48xf32>                 keep = 4096: n by m, what waits between sweeps
      %max = tile.for %n ... step 64 iter_args(-inf) {              one sweep for each fold: here the maximum
        %s = tile.contract (window of K at %b, %h, %n), %q, 0       and what is elementwise over it
        tile.store %s, (window of %row at %n)
        tile.reduce max %s into ... dims [0] }
      %sum = tile.for %n ... { %p = exp(tile.load of %row - %max); tile.store %p; tile.contract (ones), %p, ... }
      %acc = tile.for %n ... iter_args(0) { %w = (tile.load of %row) / %sum; tile.contract (window of V), %w, ... }
      what follows the product; tile.store }

Rows of the result lie across lanes (``lane = m``), so that both products read keys and values as they lie in memory and
no fold crosses lanes. Nothing is reordered: a sum is one chain over n, a product with ones, and each element of a
product one chain over its k, so all bits are those of one kernel after the other. Without ``keep`` nothing waits: every
sweep computes its scores again, which gives the same numbers.

Where a softmax gives zeros to what a mask hides from all rows of the block, those keys are not visited. The product
would still add zero times a value for each of them, which changes what was summed if the value is infinite or no
number, and may turn a negative zero into a positive one. So the sums of these zeros, the same for all rows, are added
(``_nothing``)::

      %z = tile.for %n = %end to %keys ... step 1 iter_args(-0.0) { ... + 0 * (tile.load of V at %n) }
      %result = %acc + %z
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from xdsl.dialects import arith
from xdsl.dialects.builtin import f32
from xdsl.ir import SSAValue

from crosstile.dialects import tile
from crosstile.dialects.mma.intrinsics import find_intrinsic
from crosstile.dialects.nest.attention_pattern import Attention, find_softmax
from crosstile.dialects.nest.attention_roles import AttentionRoles
from crosstile.dialects.nest.generic import GenericOp
from crosstile.dialects.nest.kept_values import elementwise_before, is_dear
from crosstile.ir.index_math import Index
from crosstile.lowering.nest_to_tile.attention import AttentionKernel
from crosstile.lowering.nest_to_tile.kernel_builder import Home
from crosstile.lowering.nest_to_tile.places import Place, TileShape
from crosstile.lowering.nest_to_tile.row_values import compute_before
from crosstile.lowering.nest_to_tile.score_blocks import ScoreBlocks
from crosstile.passes.schedules.register_tiles import round_up

IDENTITIES = {"add": 0.0, "max": -inf, "min": inf}
"""What folds begin with."""
ZERO_VECTORS = 4
"""Vectors of values that are multiplied by zero side by side."""


@dataclass(frozen=True)
class RowChainKernel(AttentionKernel):
    """One chain of two products, its schedule, and the results that the kernel stores."""

    def _lower(self, roles: AttentionRoles, place: Place) -> None:
        _Rows(self, roles).build(place)


class _Rows(ScoreBlocks):
    """The state of lowering one block of rows."""

    def __init__(self, kernel: RowChainKernel, roles: AttentionRoles):
        builder = kernel.builder
        nests = builder.axes.nests
        chain = next((nest for nest in nests if nest.combiner is None and roles.n in builder.axes.of_nest(nest)), None)
        chain = chain if chain is not None and roles.scores.results[0] in chain.inputs else None
        super().__init__(builder, roles, kernel.schedule, chain)
        if self._key_dim != 0:
            raise self._lowering.error(f"a chain of two products has '{roles.m}' across lanes, got lane = {roles.n}")
        self._outputs = kernel.outputs
        self._folds = [nest for nest in nests if nest.combiner is not None and nest not in self._products]
        self._ones: SSAValue | None = None
        self._query_tile: SSAValue | None = None
        softmax = find_softmax(roles.weighted)
        self._hidden = softmax if softmax is not None and self._gives_zeros(softmax) else None
        """The softmax that gives zeros to what the mask hides, if that is known."""

    @property
    def _products(self) -> tuple[GenericOp, GenericOp]:
        return self.roles.scores, self.roles.weighted

    def _gives_zeros(self, softmax: Attention) -> bool:
        """Whether what is hidden has weight 0 in a row that has any weights, and the mask's ends are those of rows."""
        visible = self._visible
        return (
            softmax.divides_by_total
            and softmax.chain is self._chain
            and visible is not None
            and bool(visible.mask.bounds)
        )

    # The sweeps

    def build(self, place: Place) -> None:
        """One sweep over the keys for each fold, and one for the product."""
        roles, rows = self.roles, self._scores
        if self._visible is not None:
            self._visible.load_scalars()
        if roles.d in place.spans:
            self._query_tile = self._query(place)
        if any(nest.combiner is not None and nest.combiner.data == "add" for nest in self._folds):
            one = rows.constant(f32, 1.0)
            self._ones = self._lowering.insert(tile.StageOp(rows.splat(one, (1, self._step(roles.n))))).result
        rows.compute_with({roles.scores.results[0]: self._root, **({} if self._chain is None else self._chained)})
        rows.keep(self._homes())
        bounds = self._bounds(place)
        for nest in self._folds:
            self._fold(place, nest, bounds)
            rows.end_sweep()
        self._multiply(place, bounds)
        for output in self._outputs:
            along = self._axes.of_result(output)
            self._sums.store(place, self._sums.tile(place, output, along), output, along)

    def _root(self, place: Place) -> SSAValue:
        return self._dot(place, self._query_tile)

    @property
    def _chained(self) -> dict[SSAValue, Callable[[Place], SSAValue]]:
        assert self._chain is not None
        return {self._chain.results[0]: lambda place: self._score(place, self._query_tile)}

    def _bounds(self, place: Place) -> tuple[Index, Index]:
        """The keys that are visited: where zeros are known for all rows, those that some row sees, and at least one.

        A row that sees none has no maximum, or no sum to divide by, which the one key is there to tell.
        """
        if self._hidden is None or self._visible is None:
            return self._scores.bounds(place, self.roles.n)
        index, keys = self._index, self._scores.size(self.roles.n)
        first, end = self._visible.range(place)
        if any(not bound.is_upper for bound in self._visible.mask.bounds):
            last = index.maximum(index.sub(keys, 1), 0)
            first = index.minimum(first, index.round_down(last, self._step(self.roles.n)))
        return first, index.minimum(index.maximum(end, index.add(first, 1)), keys)

    def _compute_before(self, place: Place, nests: Sequence[SSAValue | GenericOp]) -> None:
        """Compute what rows have in common before the sweep that needs it."""
        owners = [nest if isinstance(nest, GenericOp) else nest.owner for nest in nests]
        compute_before(self._scores, place, [nest for nest in owners if isinstance(nest, GenericOp)], [self.roles.n])

    def _fold(self, place: Place, nest: GenericOp, bounds: tuple[Index, Index]) -> None:
        """One sweep, after which the result of ``nest`` is a tile of the place."""
        rows, roles = self._scores, self.roles
        assert nest.combiner is not None
        kind = nest.combiner.data
        initial = rows.splat(rows.constant(f32, IDENTITIES[kind]), rows.shape.of((roles.m,)))

        def block(inside: Place, carried: list[SSAValue]) -> Sequence[SSAValue]:
            values = rows.map(inside, nest, f32, rows.shape.of((roles.n, roles.m)))
            length = self._length(inside)
            if kind == "add":
                assert self._ones is not None
                sums = tile.ContractOp(self._ones, values, carried[0], length, self.schedule.intrinsic)
                return [self._lowering.insert(sums).result]
            return [self._lowering.insert(tile.ReduceOp(kind, values, [0], [length], carried[0])).result]

        self._compute_before(place, [nest])
        (result,) = rows.loop(place, roles.n, bounds, self._step(roles.n), [initial], block)
        place.tiles[nest.results[0], self._axes.of_result(nest.results[0]), False] = result

    def _multiply(self, place: Place, bounds: tuple[Index, Index]) -> None:
        """The last sweep: weights by values."""
        roles, rows, sums = self.roles, self._scores, self._sums
        weights, product = roles.weighted.inputs[roles.score], roles.weighted.results[0]
        along = self._axes.of_operand(roles.weighted, roles.score)
        shape = sums.shape.of((roles.m, roles.e))
        initial = sums.splat(self._zero, shape)
        self._compute_before(place, [weights])

        def block(inside: Place, carried: list[SSAValue]) -> Sequence[SSAValue]:
            factor = rows.tile(inside, weights, along)
            value = self._factor(inside, roles.weighted, roles.value, (roles.n, roles.e))
            return [self._product(factor, value, carried[0], self._length(inside), None)]

        if self._hidden is not None and bounds[0] != 0:
            initial = self._plus(initial, self._nothing(place, (0, bounds[0]), 0.0))
        (result,) = rows.loop(place, roles.n, bounds, self._step(roles.n), [initial], block)
        if self._hidden is not None:
            result = self._plus(result, self._nothing(place, (bounds[1], rows.size(roles.n)), -0.0))
        place.tiles[product, self._axes.of_result(product), False] = result

    # What waits between sweeps

    def _homes(self) -> dict[SSAValue, Home]:
        """A buffer for each value that is kept; one that replaces another takes its buffer."""
        roles, keep = self.roles, self.schedule.keep
        if keep is None:
            return {}
        step = self._step(roles.n)
        homes: dict[SSAValue, Home] = {}
        sweeps = [list(nest.inputs) for nest in self._folds]
        sweeps.append([roles.weighted.inputs[roles.score]])
        first = self._first()
        for at, roots in enumerate(sweeps):
            for value in elementwise_before(roots, homes):
                later = any(value in elementwise_before(after, homes) for after in sweeps[at + 1 :])
                if value in homes or not later or not (value is first or is_dear(value)):
                    continue
                homes[value] = self._home(value, sweeps[at + 1 :], homes, -(-keep // step) * step)
        return homes

    def _first(self) -> SSAValue:
        """What is kept of the first product."""
        return self.roles.scores.results[0] if self._chain is None else self._chain.results[0]

    def _home(
        self, value: SSAValue, later: Sequence[Sequence[SSAValue]], homes: dict[SSAValue, Home], room: int
    ) -> Home:
        """A buffer for ``value``: that of a value it is computed from, if none of the ``later`` sweeps reads that."""
        roles = self.roles
        kept = {*homes, value}
        needed = {each for roots in later for each in elementwise_before(roots, kept)}
        before = set(elementwise_before([value], homes))
        old = next((home for each, home in homes.items() if each in before and each not in needed), None)
        if old is not None:
            return old
        assert roles.m is not None
        columns = self._step(roles.m)
        buffer = self._lowering.insert(tile.AllocOp(tile.BufferType([room, columns], f32))).result
        return Home(buffer, (roles.n, roles.m), block={roles.m: columns})

    # What is hidden

    def _nothing(self, place: Place, keys: tuple[Index, Index], start: float) -> SSAValue:
        """Zero times the values of these ``keys``, added to ``start``: a column of the product's rows."""
        roles, across = self.roles, self._step(self.roles.e)
        lanes = 1 if self.schedule.intrinsic is None else find_intrinsic(self.schedule.intrinsic).n
        width = min(ZERO_VECTORS * lanes, round_up(across, lanes))
        rows = self._scores.of_shape(TileShape(roles.n, 1, roles.e, width))
        buffer = self._lowering.insert(tile.AllocOp(tile.BufferType([1, round_up(across, width)], f32))).result
        values, along = roles.weighted.inputs[roles.value], self._axes.of_operand(roles.weighted, roles.value)
        initial = rows.splat(rows.constant(f32, start), (1, width))

        def zero_added(elements: Sequence[SSAValue]) -> SSAValue:
            zero = self._lowering.insert(arith.MulfOp(self._zero, elements[1])).result
            return self._lowering.insert(arith.AddfOp(elements[0], zero)).result

        def key(inside: Place, carried: list[SSAValue]) -> Sequence[SSAValue]:
            return [rows.compute([carried[0], rows.tile(inside, values, along)], (1, width), zero_added)]

        def piece(inside: Place, _: list[SSAValue]) -> Sequence[SSAValue]:
            (total,) = rows.loop(inside, roles.n, keys, 1, [initial], key)
            window = rows.window(inside, buffer, (None, roles.e), (1, width), {roles.e: 1}.get)
            self._lowering.insert(tile.StoreOp(total, window))
            return ()

        rows.loop(place, roles.e, rows.bounds(place, roles.e), width, (), piece)
        column = self._sums.window(place, buffer, (None, roles.e), (across, 1), {roles.e: 0}.get)
        return self._lowering.insert(tile.LoadOp(column)).result

    def _plus(self, sums: SSAValue, column: SSAValue) -> SSAValue:
        """The sums of all rows and what is the same for all."""

        def total(elements: Sequence[SSAValue]) -> SSAValue:
            return self._lowering.insert(arith.AddfOp(elements[0], elements[1])).result

        return self._sums.compute([sums, column], self._sums.shape.of((self.roles.m, self.roles.e)), total)
