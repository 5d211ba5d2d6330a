"""The rule for ``tile.contract``: a loop over k whose accumulator stays in registers.

    %c1 = tile.contract %a, %b, %c0 extent %kc intrinsic "x86.avx512.fma.1x16x1.f32" : 4x512, 512x64 -> 4x64
    ==>
    %c1 = scf.for %k = %zero to %kc step %one iter_args(%c = %c0) -> (!mma.fragment<4x64xf32, ...>) {
      %column = mma.load %A[%i, %k0 + %k] extent [%mr, _] clamp [0]    4x1, each row in all lanes
      %row = mma.load %panel[%k, %j]                                   1x64
      %next = mma.mma %column, %row, %c {intrinsic = ...}
      scf.yield %next
    }

Rows and columns beyond the extents that nothing depends on are read without masks: rows as copies of the last valid
one, columns of a packed panel as they are.

An instruction that takes words of G neighbours in k makes steps of G. What is left of k when it is no multiple of G is
one more step, in which both factors are read as zero beyond the extent: a right one that was computed into panels of
words is read whole, and masked.

Factors narrower than the instruction takes, f16 or bf16 where it multiplies f32, are widened in registers.

Where k is several dimensions in one - ``d0 floordiv 9`` and ``d0 mod 9`` of a convolution's channels and places of the
filter - the loop goes over the outermost of them, and what repeats in it is written out: no step of k divides. Where
nothing repeats, ``unroll`` says how many steps are written out. What is left of k follows in a loop of single steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import gcd, lcm

from xdsl.dialects import arith
from xdsl.ir import SSAValue
from xdsl.ir.affine import AffineConstantExpr, AffineSymExpr

from crosstile.dialects import mma, tile
from crosstile.dialects.arith import CmpiOp
from crosstile.dialects.tile.types import capacity_type
from crosstile.ir.index_math import Index
from crosstile.lowering.affine_steps import period
from crosstile.lowering.divisibility import constant_value, known_multiple
from crosstile.lowering.linear_index import Linear, Term
from crosstile.lowering.loops import build_for
from crosstile.lowering.tile_to_mma import tile_units
from crosstile.lowering.tile_to_mma.fetching import Fetching, RowFetching
from crosstile.lowering.tile_to_mma.intrinsic import check_tiles, choose_intrinsic
from crosstile.lowering.tile_to_mma.packed import ends_in_zeros, lies_in_blocks
from crosstile.lowering.tile_to_mma.panels import choose_panels, computed_panels, coordinate_parts, home_words
from crosstile.lowering.tile_to_mma.places import (
    Place,
    number,
    place_of_buffer,
    place_of_window,
    store_to_scratch,
    window_of,
)
from crosstile.lowering.tile_to_mma.state import TileLowering
from crosstile.lowering.tile_to_mma.uses import is_at_least_one, is_unused_beyond, same_index
from crosstile.lowering.tile_to_mma.widening import widen
from crosstile.targets.model import MmaIntrinsic

LONGEST_REPETITION = 32
"""So many steps of k may be written out; more of them would not fit the cache of decoded instructions."""


@dataclass(frozen=True)
class Factor:
    """One factor: its place, and the extents that its window has in the old program."""

    place: Place
    extents: tuple[SSAValue | None, SSAValue | None] = (None, None)


def lower_contract(op: tile.ContractOp, lowering: TileLowering) -> None:
    """A loop over k; nothing is read if there is no valid row."""
    row = choose_intrinsic(op, lowering)
    m, n = capacity_type(op.accumulator).get_shape()
    if row.in_tiles:
        check_tiles(row, m, n, lowering)
        tile_units.lower_contract(op, row, lowering)
        return
    product = Product.of(op, row, (m, n), lowering)
    lowering.replace(op, product.multiply(lowering, lowering.value(op.accumulator), (m, n)))


@dataclass(frozen=True)
class Product:
    """A contraction, to be computed one register tile after the other.

    ``rows`` is the extent of its rows, as an old value, if it has one; ``clamped`` says that nothing depends on rows
    beyond it.
    """

    op: tile.ContractOp
    row: MmaIntrinsic
    lhs: Place
    rhs: Place
    rows: SSAValue | None
    clamped: bool

    @staticmethod
    def of(op: tile.ContractOp, row: MmaIntrinsic, shape: tuple[int, int], lowering: TileLowering) -> Product:
        """The product ``op`` in register tiles of ``shape``."""
        (m, n), lhs, rhs = shape, factor(op.lhs, lowering), factor(op.rhs, lowering)
        rows, columns = lhs.extents[0], rhs.extents[1]
        clamped = rows is not None and is_unused_beyond(op.result, 0, rows)
        left = lhs.place.without_extent(1) if _is_covered(lhs.extents[1], op) else lhs.place
        right = rhs.place.without_extent(0) if _is_covered(rhs.extents[0], op) else rhs.place
        is_whole = _is_whole_panels(rhs.place, n) or lies_in_blocks(rhs.place, 1, n)
        if columns is not None and is_whole and is_unused_beyond(op.result, 1, columns):
            right = right.without_extent(1)
        if clamped and lies_in_blocks(lhs.place, 0, m):
            left = left.without_extent(0)
        return Product(op, row, left, right, rows, clamped)

    def multiply(
        self,
        lowering: TileLowering,
        accumulator: SSAValue,
        shape: tuple[int, int],
        at: tuple[Index, Index] | None = None,
        all_rows: bool = False,
    ) -> SSAValue:
        """One register tile, summed into ``accumulator``: the one and only, or that of ``shape`` at ``at``.

        ``all_rows``: all its rows are valid. Otherwise the first is, if it has a place; those that are not are copies
        of the last valid one if nothing depends on them.
        """
        (m, n), row, op = shape, self.row, self.op
        left, right = self.lhs, self.rhs
        if at is not None:
            left = left.part(lowering, (m, left.shape[1]), {0: at[0]} if at[0] != 0 else {})
            right = right.part(lowering, (right.shape[0], n), {1: at[1]} if at[1] != 0 else {})
        left = left.without_extent(0) if all_rows else left
        clamp = [0] if self.clamped and not all_rows else []
        trips = self._trips(self.rows if clamp and at is None else None, lowering)
        column_type = lowering.factor((m, row.k), capacity_type(op.lhs).element_type, row.lhs)
        line_type = lowering.factor((row.k, n), capacity_type(op.rhs).element_type, row.rhs)
        sum_type = capacity_type(op.accumulator)
        widens = row.lhs.element == row.rhs.element == str(sum_type.element_type)

        fetching = Fetching.of(op, m, n, lowering) if at is not None else RowFetching.of(op, lowering)

        def fetch(k: Index | Linear, count: int) -> None:
            start = k if isinstance(k, Linear) else lowering.linear.of_new(k)
            if isinstance(fetching, RowFetching):
                fetching.fetch(lowering, start, count)
            elif fetching is not None and at is not None:
                fetching.fetch(lowering, at[0], start, count)

        def step(left: Place, right: Place, k: Index | Linear, sum_: SSAValue, end: Index | None = None) -> SSAValue:
            column = left.part(lowering, (m, row.k), {1: k}).load(lowering, column_type, clamp=clamp)
            line = right.part(lowering, (row.k, n), {0: k}).load(lowering, line_type)
            if end is not None and not isinstance(k, Linear):
                valid = lowering.index.value(lowering.index.sub(end, k))
                line = lowering.insert(mma.MaskOp(line, [valid, None], 0)).result
            if widens:
                column, line = (widen(lowering, value, sum_type.element_type) for value in (column, line))
            return lowering.insert(mma.MmaOp(column, line, sum_, row.name)).result

        def steps(
            begin: Index, end: Index, left: Place, right: Place, accumulator: SSAValue, masked: bool = False
        ) -> SSAValue:
            """Single steps; ``masked``: of the right factor nothing counts from ``end`` on."""
            if isinstance(begin, int) and begin == end:
                return accumulator
            bounds = lowering.index.bounds(begin, end, row.k)

            def one(k: SSAValue, sums: Sequence[SSAValue]) -> Sequence[SSAValue]:
                result = step(left, right, k, sums[0], end if masked else None)
                fetch(k, row.k)
                return [result]

            return build_for(lowering, bounds, [accumulator], one, "k")[0]

        def repeats(count: Index, length: int, accumulator: SSAValue) -> SSAValue:
            def repeat(number: SSAValue, sums: Sequence[SSAValue]) -> Sequence[SSAValue]:
                begin = Linear(0, (Term(number, length, 1),))
                result = reduce(lambda sum_, at: step(left, right, begin + at, sum_), range(0, length, row.k), sums[0])
                fetch(begin, length)
                return [result]

            return build_for(lowering, lowering.index.bounds(0, count, 1), [accumulator], repeat, "k")[0]

        result, begin = accumulator, 0
        if (length := self._written_out(left, right, at is None or all_rows)) > row.k:
            count = lowering.index.floor_div(trips, length)
            result, begin = repeats(count, length, result), lowering.index.mul(count, length)
            if op.extent is not None and known_multiple(op.extent) % length == 0:
                begin = trips
        whole = lowering.index.round_down(trips, row.k)
        result = steps(begin, whole, left, right, result)
        if row.k > 1 and not (isinstance(whole, int) and whole == trips):
            filled = _is_zero_beyond(op, lowering) or ends_in_zeros(op, row.k)
            masked = not filled and _has_whole_words(op, lowering)
            right_tail = right if filled or masked else right.cut(lowering, 0, trips)
            result = steps(whole, trips, left.cut(lowering, 1, trips), right_tail, result, masked)
        return result

    def _written_out(self, left: Place, right: Place, is_whole: bool) -> int:
        """How far k goes in one trip of the loop: what repeats, else in a whole tile as far as the program asks for."""
        repetition = _repetition(left, right) if self.row.k == 1 else 1
        unroll = 1 if self.op.unroll is None or not is_whole else self.op.unroll.value.data
        return repetition if repetition > 1 else unroll * self.row.k

    def _trips(self, rows: SSAValue | None, lowering: TileLowering) -> Index:
        """How far k goes; not at all if rows are clamped to the last valid one and there is none."""
        k = capacity_type(self.op.lhs).get_shape()[1]
        extent: Index = k if self.op.extent is None else lowering.as_index(self.op.extent)
        if rows is None or is_at_least_one(rows):
            return extent
        index = lowering.index
        some = index.build(CmpiOp(index.value(0), lowering.value(rows), "slt")).result
        return index.build(arith.SelectOp(some, index.value(extent), index.value(0))).result


def _repetition(left: Place, right: Place) -> int:
    """After how many steps of k both factors have moved by a constant; 1 if that is too many to be written out."""
    lengths = period(left.map.results, 1), period(right.map.results, 0)
    length = 1 if None in lengths else lcm(*(length for length in lengths if length is not None))
    return length if length <= LONGEST_REPETITION else 1


def factor(value: SSAValue, lowering: TileLowering) -> Factor:
    """Where a factor is: a window or a tile in scratch as it is, a buffer, or a tile put into scratch first."""
    shape = capacity_type(value).get_shape()
    match value.type:
        case tile.WindowType():
            window = window_of(value, lowering)
            rows, columns = window.extents_by_dim
            return Factor(place_of_window(window, lowering), (rows, columns))
        case tile.BufferType():
            return Factor(place_of_buffer(lowering.value(value), shape))
        case _:
            new = lowering.value(value)
            home = store_to_scratch(new, lowering) if isinstance(new.type, mma.FragmentType) else new
            return Factor(place_of_buffer(home, shape))


def _is_covered(extent: SSAValue | None, op: tile.ContractOp) -> bool:
    """Whether a factor is valid for all of the contraction's k."""
    return extent is not None and same_index(extent, op.extent)


def _is_zero_beyond(op: tile.ContractOp, lowering: TileLowering) -> bool:
    """Whether the right factor holds zeros beyond k, as far as the instruction's words reach: it is packed so."""
    if home_words(op.rhs, lowering) is not None:
        return True
    window = op.rhs.owner
    if isinstance(window, tile.WindowOp):
        if not same_index(window.extents_by_dim[0], op.extent) or not _begins_at_zero(window):
            return False
        stage = window.source.owner
    else:
        stage = window
    if not isinstance(stage, tile.StageOp) or not isinstance(source := stage.source.owner, tile.WindowOp):
        return False
    if number(stage.pad) not in (None, 0) or not same_index(source.extents_by_dim[0], op.extent):
        return False
    return choose_panels(stage.result, lowering) is not None


def _has_whole_words(op: tile.ContractOp, lowering: TileLowering) -> bool:
    """Whether all of the word at the end of k is there to be read, though what is beyond k may be anything."""
    window = op.rhs.owner
    if not isinstance(window, tile.WindowOp) or not _begins_at_zero(window):
        return False
    return computed_panels(window.source, lowering) is not None


def _begins_at_zero(window: tile.WindowOp) -> bool:
    indices, constant = coordinate_parts(window, 0)
    return constant == 0 and all(constant_value(index) == 0 for index in indices)


def _is_whole_panels(place: Place, width: int) -> bool:
    """Whether ``width`` columns can be read at ``place`` although not all are valid: scratch that has them all."""
    type_ = place.source.type
    if not isinstance(type_, mma.BufferType):
        return False
    size, column = type_.get_shape()[-1], _column(place)
    return (size % width == 0 and column % width == 0) or (column == 0 and width <= size)


def _column(place: Place) -> int:
    """A number that divides the column at which ``place`` begins."""
    multiple = 0
    for part in place.map.results[-1].dfs():
        if isinstance(part, AffineSymExpr):
            symbol = place.symbols[part.position]
            multiple = gcd(multiple, 1 if isinstance(symbol, SSAValue) else symbol.multiple)
        elif isinstance(part, AffineConstantExpr):
            multiple = gcd(multiple, part.value)
    return multiple
