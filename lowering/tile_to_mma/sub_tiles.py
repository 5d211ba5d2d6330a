"""The loops over sub-tiles: how a group of operations on tiles in scratch is computed, some rows and columns at a time.

A sweep over a tile of 64x48, whose rows beyond ``%jc`` nobody needs::

    %p = tile.map (%s, %base : 64x48, 1x48) -> 64x48
    %l1 = tile.reduce add %p into %l0 dims [0] extent [%jc]
    ==>
    %l1 = scf.for %r = %zero to %jc step %c2 iter_args(%l = %l0) -> (!mma.fragment<1x48xf32, ...>) {
      %f = mma.load %home[%r, 0] : !mma.buffer<64x48xf32> -> !mma.fragment<2x48xf32, ...>
      %g = mma.map (%f, %base) ...
      %next = mma.reduce add %g into %l dims [0]
      mma.store %g, %home[%r, 0]
      scf.yield %next
    }                                               and once more for the last row if %jc is odd, one row at a time

A product is a loop over register tiles around the contraction's loop over k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xdsl.dialects import arith
from xdsl.ir import Block, Operation, SSAValue
from xdsl.ir.affine import AffineMap

from crosstile.dialects import mma, tile
from crosstile.dialects.assembly import number_of
from crosstile.dialects.element_types import dtype_of
from crosstile.dialects.reductions import identity
from crosstile.dialects.tile.types import capacity_type
from crosstile.ir.index_math import Index
from crosstile.lowering.constants import scalar_attribute
from crosstile.lowering.loops import build_for
from crosstile.lowering.tile_to_mma import tile_units
from crosstile.lowering.tile_to_mma.arithmetic import count_fragment, map_fragments
from crosstile.lowering.tile_to_mma.contract import Product, store_to_scratch
from crosstile.lowering.tile_to_mma.homes import is_on_tile_unit
from crosstile.lowering.tile_to_mma.intrinsic import check_tiles, choose_intrinsic
from crosstile.lowering.tile_to_mma.memory import load_from, store_to
from crosstile.lowering.tile_to_mma.panels import Words, home_words
from crosstile.lowering.tile_to_mma.places import Place, place_of_window, whole_buffer, window_of
from crosstile.lowering.tile_to_mma.register_tiles import register_tile, sweep_tile
from crosstile.lowering.tile_to_mma.state import TileLowering
from crosstile.lowering.tile_to_mma.steps import Group, Made, Plan
from crosstile.lowering.tile_to_mma.uses import is_unused_beyond, same_index


class KernelLowering(TileLowering):
    """The driver that goes through the steps of a block instead of its operations where tiles live in scratch."""

    def lower_ops(self, block: Block) -> None:
        """Lower the steps of ``block`` at the current place."""
        if not self.rows_in_scratch or isinstance(block.parent_op(), tile.MapOp):
            super().lower_ops(block)
            return
        plan = self.plans[block] = Plan(block, self.in_scratch, lambda op: is_on_tile_unit(op, self.machine))
        for step in plan.steps:
            if isinstance(step, Group):
                with self.about(step.ops[-1]):
                    lower_group(step, self)
            else:
                self.lower_op(step)

    def home_map(self, value: SSAValue) -> AffineMap | None:
        """Panels of words for a factor whose instruction takes words."""
        words = home_words(value, self)
        return None if words is None else words.panels.map()


def lower_group(group: Group, lowering: TileLowering) -> None:
    """The loops of ``group``; what is needed afterwards is in scratch, or in registers if it was reduced over rows."""
    if group.product is None:
        _Sweep(group, lowering).build()
    else:
        _multiply(group, group.product, lowering)


def fill(value: SSAValue, target: Place, lowering: TileLowering) -> None:
    """Copy a tile in scratch, or one that is made where it is used, to ``target``."""
    rows, columns = capacity_type(value).get_shape()
    group = Group(rows, columns)
    shape = sweep_tile(group, lowering)

    def copy(i: Index, j: Index) -> None:
        part = Part(lowering, group, (i, j), shape)
        part.store(part.value(value), target)

    lowering.repeat(
        0, columns, shape[1], lambda j: lowering.repeat(0, rows, shape[0], lambda i: copy(i, j), "part"), "part"
    )


@dataclass
class Part:
    """One sub-tile of a group in the making: where it is, how large, and the fragments of the values in it.

    ``limit`` is an extent, as an old value, below which all rows of this part are known to lie.
    """

    lowering: TileLowering
    group: Group
    at: tuple[Index, Index]
    shape: tuple[int, int]
    limit: SSAValue | None = None
    known: dict[SSAValue, SSAValue] = field(default_factory=dict[SSAValue, SSAValue])

    def value(self, value: SSAValue) -> SSAValue:
        """This part of an old value: computed here, made again, or loaded from its home."""
        if value not in self.known:
            self.known[value] = self._load(value)
        return self.known[value]

    def fragment(self, value: SSAValue) -> mma.FragmentType:
        """The type of this part of an old value."""
        type_ = capacity_type(value)
        return self.lowering.fragment(self._sizes(type_.get_shape()), type_.element_type)

    def store(self, fragment: SSAValue, target: Place) -> None:
        """Put this part of a tile to where it belongs in ``target``."""
        self._place(target).store(self.lowering, fragment)

    def _load(self, value: SSAValue) -> SSAValue:
        lowering, owner = self.lowering, value.owner
        if isinstance(owner, Made) and lowering.in_scratch(value):
            return self._make(owner)
        new = lowering.value(value)
        if isinstance(new.type, mma.FragmentType):
            if self._sizes(new.type.get_shape()) == new.type.get_shape():
                return new
            new = store_to_scratch(new, lowering)
        return self._place(whole_buffer(new)).load(lowering, self.fragment(value))

    def _make(self, op: Made) -> SSAValue:
        type_ = self.fragment(op.result)
        if isinstance(op, tile.SplatOp):
            return self.lowering.insert(mma.SplatOp(self.lowering.value(op.scalar), type_)).result
        dim = op.dim.value.data
        return count_fragment(op, self._offset(dim, capacity_type(op.result).get_shape()), type_, self.lowering)

    # Where it is

    def _sizes(self, shape: Sequence[int]) -> tuple[int, int]:
        """The size of this part of a tile of ``shape``, which may be 1 in either dimension."""
        rows, columns = self.shape
        return rows if shape[0] == self.group.rows else 1, columns if shape[1] == self.group.columns else 1

    def _offset(self, dim: int, shape: Sequence[int]) -> Index:
        return self.at[dim] if shape[dim] == (self.group.rows, self.group.columns)[dim] else 0

    def _place(self, place: Place) -> Place:
        """This part of a place as large as a tile; extents that it lies below are dropped."""
        offsets = {dim: self._offset(dim, place.shape) for dim in range(2)}
        return place.part(self.lowering, self._sizes(place.shape), {d: at for d, at in offsets.items() if at != 0})

    def _window(self, op: tile.LoadOp | tile.StoreOp) -> Place:
        window = window_of(op.window, self.lowering)
        valid = [dim for dim, extent in enumerate(window.extents_by_dim) if self._lies_below(dim, extent)]
        return self._place(place_of_window(window, self.lowering).without_extent(*valid))

    def _lies_below(self, dim: int, extent: SSAValue | None) -> bool:
        return dim == 0 and extent is not None and self.limit is not None and same_index(extent, self.limit)

    def _extent(self, dim: int, extent: SSAValue | None) -> SSAValue | None:
        """What is left of an extent from here on; None if it cuts nothing of this part."""
        if extent is None or self._lies_below(dim, extent):
            return None
        index = self.lowering.index
        return index.value(index.sub(self.lowering.as_index(extent), self.at[dim]))

    # What is computed

    def compute(self, op: Operation, carried: SSAValue | None = None) -> None:
        """This part of the result of ``op``; ``carried`` is what a reduction over rows has come to so far."""
        lowering = self.lowering
        with lowering.about(op):
            match op:
                case tile.LoadOp():
                    self.known[op.result] = load_from(op, self._window(op), lowering)
                case tile.StoreOp():
                    store_to(op, self._window(op), self.value(op.value), lowering)
                case tile.MapOp():
                    inputs = [self.value(value) for value in op.inputs]
                    self.known[op.result] = map_fragments(op, inputs, self.fragment(op.result), lowering)
                case tile.MaskOp():
                    extents = [self._extent(dim, extent) for dim, extent in enumerate(op.extents_by_dim)]
                    mask = mma.MaskOp(self.value(op.value), extents, number_of(op.otherwise))
                    whole = all(extent is None for extent in extents)
                    self.known[op.result] = self.value(op.value) if whole else lowering.insert(mask).result
                case tile.ReduceOp():
                    self.known[op.result] = self._reduce(op, carried)
                case _:
                    assert isinstance(op, Made)
                    self.known[op.result] = self._make(op)

    def _reduce(self, op: tile.ReduceOp, carried: SSAValue | None) -> SSAValue:
        extents: list[SSAValue | None] = [None, None]
        for dim, extent in zip(op.reduced_dims, op.extents_by_dim, strict=True):
            extents[dim] = self._extent(dim, extent)
        into = carried if carried is not None or op.into is None else self.value(op.into)
        reduce = mma.ReduceOp(
            op.kind.data, self.value(op.value), op.reduced_dims, self.fragment(op.result), into, extents
        )
        return self.lowering.insert(reduce).result


class _Sweep:
    """The loop of a group without a contraction."""

    def __init__(self, group: Group, lowering: TileLowering):
        self.group, self.lowering = group, lowering
        self.shape = sweep_tile(group, lowering)
        self.limit = needed_extent(group, 0, lowering)
        self.reductions = [op for op in group.ops if isinstance(op, tile.ReduceOp) and 0 in op.reduced_dims]
        self.homes: dict[SSAValue, SSAValue] = {}
        self.words: dict[SSAValue, Words] = {}
        """The values whose homes are panels of words."""
        for op in group.ops:
            for result in op.results:
                if lowering.in_scratch(result) and any(use.operation not in group.ops for use in result.uses):
                    self.homes[result] = home = _home(result, op, op.operands, lowering)
                    lowering.homes.settle(result, home)
                    if (words := home_words(result, lowering)) is not None:
                        self.words[result] = words
        self.shape = max([self.shape[0], *(words.panels.group for words in self.words.values())]), self.shape[1]

    def build(self) -> None:
        """All of its parts."""
        lowering = self.lowering
        carried = [self._initial(op) for op in self.reductions]
        if self.shape[1] == self.group.columns:
            carried = self._rows(0, carried)
        else:
            end = _bound(needed_extent(self.group, 1, lowering), self.group.columns, lowering)
            lowering.repeat(0, end, self.shape[1], self._column, "part")
        for op, result in zip(self.reductions, carried, strict=True):
            lowering.replace(op, result)

    def _column(self, column: Index) -> None:
        self._rows(column, [])

    def _rows(self, column: Index, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        """The parts below each other from ``column`` on: as many rows at a time as fit, then the rest one by one."""
        index, rows = self.lowering.index, self.shape[0]
        end = _bound(self.limit, self.group.rows, self.lowering)
        whole = index.round_down(end, rows)
        carried = self._loop((0, whole, rows), column, carried, self.limit)
        if whole is end or (isinstance(whole, int) and whole == end):
            return carried
        if self.words:
            end = index.round_up(end, max(words.panels.depth for words in self.words.values()))
        if self.words or self.group.is_transposed:  # in whole blocks, the last of them cut
            return self._loop((whole, end, rows), column, carried, None)
        return self._loop((whole, end, 1), column, carried, self.limit)

    def _loop(
        self, bounds: tuple[Index, Index, int], column: Index, carried: Sequence[SSAValue], limit: SSAValue | None
    ) -> Sequence[SSAValue]:
        lowering, (begin, end, step) = self.lowering, bounds

        def body(i: SSAValue, values: Sequence[SSAValue]) -> Sequence[SSAValue]:
            part = Part(lowering, self.group, (i, column), (step, self.shape[1]), limit)
            remaining = iter(values)
            for op in self.group.ops:
                part.compute(op, next(remaining) if op in self.reductions else None)
            # Stored last, when everything that they may replace has been loaded.
            for value, home in self.homes.items():
                part.store(self._stored(value, part), whole_buffer(home))
            return [part.value(op.result) for op in self.reductions]

        return build_for(lowering, lowering.index.bounds(begin, end, step), list(carried), body, "row")

    def _stored(self, value: SSAValue, part: Part) -> SSAValue:
        """This part of a value as its home is to hold it."""
        fragment, lowering = part.value(value), self.lowering
        if (words := self.words.get(value)) is None:
            return fragment
        if words.extent is not None and not (part.limit is not None and same_index(words.extent, part.limit)):
            left = lowering.index.value(lowering.index.sub(lowering.as_index(words.extent), part.at[0]))
            fragment = lowering.insert(mma.MaskOp(fragment, [left, None], 0.0)).result
        type_ = lowering.words(part.shape, capacity_type(value).element_type, words.panels.group, lowering.lanes)
        return lowering.insert(mma.RelayoutOp(fragment, type_)).result

    def _initial(self, op: tile.ReduceOp) -> SSAValue:
        """What a reduction over rows starts from: what it goes into, or the number that changes nothing."""
        lowering = self.lowering
        if op.into is not None:
            return lowering.value(op.into)
        type_ = lowering.fragment_type(op.result)
        element = type_.get_element_type()
        number = scalar_attribute(identity(op.kind.data, dtype_of(element)).item(), element)
        constant = lowering.index.build(arith.ConstantOp(number)).result
        return lowering.insert(mma.SplatOp(constant, type_)).result


def _multiply(group: Group, op: tile.ContractOp, lowering: TileLowering) -> None:
    """A loop over register tiles, columns outside, so that a panel of the right factor is used for all rows."""
    row = choose_intrinsic(op, lowering)
    rows, columns = register_tile(op, row, lowering)
    if row.in_tiles:
        check_tiles(row, rows, columns, lowering)
        home = _home(op.result, op, [op.accumulator], lowering)
        end = _bound(needed_extent(group, 0, lowering), group.rows, lowering)
        tile_units.multiply_in_scratch(op, row, (rows, columns), home, end, lowering)
        lowering.homes.settle(op.result, home)
        return
    product = Product.of(op, row, (rows, columns), lowering)
    sources = [value for inner in group.ops[:-1] for value in inner.operands]
    home = _home(op.result, op, [op.accumulator, *sources], lowering)
    limit = needed_extent(group, 0, lowering)
    end = _bound(limit, group.rows, lowering)
    is_cut = product.rows is not None and (limit is None or not same_index(product.rows, limit))

    def register_tile_at(i: Index, j: Index, all_rows: bool) -> None:
        part = Part(lowering, group, (i, j), (rows, columns))
        for inner in group.ops[:-1]:
            part.compute(inner)
        initial = part.value(op.accumulator)
        part.store(product.multiply(lowering, initial, (rows, columns), (i, j), all_rows), whole_buffer(home))

    def panel(j: Index) -> None:
        if is_cut:
            lowering.repeat(0, end, rows, lambda i: register_tile_at(i, j, False), "part")
            return
        whole = lowering.index.round_down(end, rows)
        lowering.repeat(0, whole, rows, lambda i: register_tile_at(i, j, True), "part")
        if isinstance(whole, SSAValue) or whole != end:
            lowering.repeat(whole, end, rows, lambda i: register_tile_at(i, j, False), "part")

    lowering.repeat(0, group.columns, columns, panel, "part")
    lowering.homes.settle(op.result, home)


def _home(value: SSAValue, writer: Operation, sources: Sequence[SSAValue], lowering: TileLowering) -> SSAValue:
    """The buffer for a result of ``writer``: that of one of ``sources`` if it is not needed any more."""
    return lowering.homes.choose(value, writer, [source for source in sources if lowering.homes.holds(source)])


def needed_extent(group: Group, dim: int, lowering: TileLowering) -> SSAValue | None:
    """An extent beyond which nothing depends on the rows (``dim`` 0) or columns (1) of the group; None if all are."""
    return next((extent for extent in lowering.extents_seen_from(group.ops[0]) if _is_enough(group, dim, extent)), None)


def _is_enough(group: Group, dim: int, extent: SSAValue) -> bool:
    for op in group.ops:
        match op:
            case tile.StoreOp():
                window = op.window.owner
                if not isinstance(window, tile.WindowOp) or not same_index(window.extents_by_dim[dim], extent):
                    return False
            case tile.ReduceOp() if dim in op.reduced_dims:
                if not same_index(op.extents_by_dim[op.reduced_dims.index(dim)], extent):
                    return False
            case _:
                if not all(is_unused_beyond(result, dim, extent) for result in op.results):
                    return False
    return True


def _bound(limit: SSAValue | None, size: int, lowering: TileLowering) -> Index:
    return size if limit is None else lowering.as_index(limit)
