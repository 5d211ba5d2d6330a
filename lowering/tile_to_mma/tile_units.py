"""Contractions on tile registers (AMX): packed factors, accumulators in tiles, edges through scratch.

    %c1 = tile.contract %a, %b, %c0 extent %kc intrinsic "x86.amx.tdpbf16ps.16x16x32.f32.bf16" : 32x512, 512x32 -> 32x32
    ==>
    %c1 = scf.for %k = %zero to %kc step %c32 iter_args(%c = %c0) -> (!mma.fragment<32x32xf32, ... row(16:32) ...>) {
      %left = mma.load %a[%ir, %k]                         32x32, 2 tile registers
      %right = mma.load %b[%k, %jr] {nontemporal}          32x32, 2 tile registers of pairs of rows
      scf.yield (mma.mma %left, %right, %c)
    }

Tile registers are read and written whole. So both factors are read from scratch that is packed for them, zero beyond
the end of k, or the right one from memory that is packed so: where neither is, it is packed here. Accumulators that an
extent may cut go through scratch row by row when it does. The factor that another trip of the innermost loop reads
again stays in the first-level cache, and the other goes by it.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects import arith, scf
from xdsl.dialects.builtin import AffineMapAttr
from xdsl.ir import Operation, SSAValue

from crosstile.dialects import mma, tile
from crosstile.dialects.arith import CmpiOp
from crosstile.dialects.packing import packed_layout
from crosstile.dialects.tile.types import capacity_type
from crosstile.ir.diagnostics import CrosstileError
from crosstile.ir.index_math import Index
from crosstile.lowering.affine_steps import coefficient
from crosstile.lowering.constants import scalar_attribute
from crosstile.lowering.divisibility import constant_value, known_multiple
from crosstile.lowering.loops import build_for, build_if
from crosstile.lowering.tile_registers import is_in_tiles
from crosstile.lowering.tile_to_mma.filling import Filling, block_shape
from crosstile.lowering.tile_to_mma.intrinsic import choose_intrinsic, neighbours
from crosstile.lowering.tile_to_mma.packed import ends_in_zeros, lies_in_blocks
from crosstile.lowering.tile_to_mma.panels import (
    Panels,
    choose_panels,
    coordinate_parts,
    home_words,
    panels_of,
    round_up,
)
from crosstile.lowering.tile_to_mma.places import (
    Place,
    number,
    place_of_buffer,
    place_of_window,
    store_to_scratch,
    whole_buffer,
    window_of,
)
from crosstile.lowering.tile_to_mma.state import TileLowering
from crosstile.lowering.tile_to_mma.uses import same_index
from crosstile.targets.model import MmaIntrinsic
from crosstile.targets.packing import Part


def lower_contract(op: tile.ContractOp, row: MmaIntrinsic, lowering: TileLowering) -> None:
    """A loop over k in steps of the instruction's, whose accumulators stay in tile registers."""
    m, n = capacity_type(op.accumulator).get_shape()
    left, right = (_packed(op, row, is_rhs, (m, n)[is_rhs], lowering) for is_rhs in (False, True))
    accumulator = _in_tiles(lowering.value(op.accumulator), row, lowering)
    result = _multiply(op, row, (left, right), accumulator, lowering)
    lowering.replace(op, result if _stays_in_tiles(op.result, lowering) else _in_vectors(op.result, result, lowering))


def multiply_in_scratch(
    op: tile.ContractOp, row: MmaIntrinsic, shape: tuple[int, int], home: SSAValue, rows: Index, lowering: TileLowering
) -> None:
    """The first ``rows`` rows of a product whose sums are in scratch, to ``home``: one tile of ``shape`` at a time."""
    (m, n), (_, columns) = shape, capacity_type(op.accumulator).get_shape()
    left, right = (_packed(op, row, is_rhs, shape[is_rhs], lowering) for is_rhs in (False, True))
    type_ = lowering.factor(shape, capacity_type(op.accumulator).element_type, row.accumulator)
    initial = op.accumulator.owner
    is_zero = isinstance(initial, tile.SplatOp)
    sums, target = (None if is_zero else whole_buffer(lowering.value(op.accumulator))), whole_buffer(home)

    def tile_at(i: Index, j: Index) -> None:
        at = {dim: start for dim, start in enumerate((i, j)) if start != 0}
        if sums is None:
            assert isinstance(initial, tile.SplatOp)
            accumulator = lowering.insert(mma.SplatOp(lowering.value(initial.scalar), type_)).result
        else:
            accumulator = sums.part(lowering, shape, at).load(lowering, type_)
        rows_of_left = left.part(lowering, (m, left.shape[1]), {0: i}) if i != 0 else left
        columns_of_right = right.part(lowering, (right.shape[0], n), {1: j}) if j != 0 else right
        result = _multiply(op, row, (rows_of_left, columns_of_right), accumulator, lowering)
        target.part(lowering, shape, at).store(lowering, result)

    def panel(j: Index) -> None:
        lowering.repeat(0, rows, m, lambda i: tile_at(i, j), "part")

    lowering.repeat(0, columns, n, panel, "part")


def _multiply(
    op: tile.ContractOp, row: MmaIntrinsic, factors: tuple[Place, Place], accumulator: SSAValue, lowering: TileLowering
) -> SSAValue:
    """The loop over k of the sums in the tile registers ``accumulator``."""
    assert isinstance(accumulator.type, mma.FragmentType)
    (m, n), (left, right) = accumulator.type.get_shape(), factors
    left_type = lowering.factor((m, row.k), capacity_type(op.lhs).element_type, row.lhs)
    right_type = lowering.factor((row.k, n), capacity_type(op.rhs).element_type, row.rhs)
    left_moves, right_moves = _moves(op, op.lhs), _moves(op, op.rhs)
    left_passes, right_passes = left_moves and not right_moves, right_moves and not left_moves

    def step(k: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        column = left.part(lowering, (m, row.k), {1: k}).load(lowering, left_type, nontemporal=left_passes)
        line = right.part(lowering, (row.k, n), {0: k}).load(lowering, right_type, nontemporal=right_passes)
        return [lowering.insert(mma.MmaOp(column, line, carried[0], row.name)).result]

    bounds = lowering.index.bounds(0, _extent(op, lowering), row.k)
    return build_for(lowering, bounds, [accumulator], step, "k")[0]


def _extent(op: tile.ContractOp, lowering: TileLowering) -> Index:
    return capacity_type(op.lhs).get_shape()[1] if op.extent is None else lowering.as_index(op.extent)


# Factors


def _packed(op: tile.ContractOp, row: MmaIntrinsic, is_rhs: bool, width: int, lowering: TileLowering) -> Place:
    """Where a factor is packed for the instruction, in panels of ``width``: where ``tile.stage`` put it, its home in
    scratch, or scratch that is filled here."""
    value = op.rhs if is_rhs else op.lhs
    k = 0 if is_rhs else 1
    shape = capacity_type(value).get_shape()
    panels = panels_of(row, is_rhs, width)
    if (words := home_words(value, lowering)) is not None and words.panels == panels:
        return place_of_buffer(lowering.value(value), shape)
    place = _staged(op, value, k, panels, lowering)
    if place is None:
        place = _packed_ahead(op, row, lowering) if is_rhs else _rows_in_scratch(op, row, lowering)
    if place is not None:
        return place.without_extent(0, 1)
    if isinstance(value.type, tile.WindowType):
        source = place_of_window(window_of(value, lowering), lowering)
    elif isinstance(value.type, tile.BufferType) or lowering.in_scratch(value):
        source = place_of_buffer(lowering.value(value), shape)
    else:
        source = place_of_buffer(store_to_scratch(lowering.value(value), lowering), shape)
    element = capacity_type(value).element_type
    multiples = block_shape(lowering, source.map, panels, element)
    whole = [round_up(size, multiple) for size, multiple in zip(shape, multiples, strict=True)]
    type_ = mma.BufferType.of(whole, element, AffineMapAttr(panels.map()))
    target = place_of_buffer(lowering.insert(mma.AllocOp(type_)).result, shape)
    extent = _extent(op, lowering)
    limits = (extent, shape[1]) if is_rhs else (shape[0], extent)
    Filling.of(lowering, source, target, panels, limits, element, None).build()
    return target


def _staged(op: tile.ContractOp, value: SSAValue, k: int, panels: Panels, lowering: TileLowering) -> Place | None:
    """The place of a factor in a staged buffer that is packed as wanted and zero beyond the end of k."""
    window = value.owner
    stage = window.source.owner if isinstance(window, tile.WindowOp) else window
    if not isinstance(stage, tile.StageOp) or not isinstance(source := stage.source.owner, tile.WindowOp):
        return None
    if choose_panels(stage.result, lowering) != panels:
        return None
    indices, constant = coordinate_parts(window, k) if isinstance(window, tile.WindowOp) else ([], 0)
    begins_at_zero = constant == 0 and all(constant_value(index) == 0 for index in indices)
    zero_beyond = number(stage.pad) in (None, 0) and same_index(source.extents_by_dim[k], op.extent)
    in_steps = _is_in_steps(op, panels.depth) and constant % panels.depth == 0
    in_steps = in_steps and all(known_multiple(index) % panels.depth == 0 for index in indices)
    if not in_steps and not (begins_at_zero and zero_beyond):
        return None
    if not isinstance(window, tile.WindowOp):
        return place_of_buffer(lowering.value(value), capacity_type(value).get_shape())
    return place_of_window(window, lowering)


def _is_in_steps(op: tile.ContractOp, depth: int) -> bool:
    """Whether k is a multiple of the instruction's steps, and valid to its end, so that nothing lies beyond it."""
    extent = capacity_type(op.lhs).get_shape()[1] if op.extent is None else constant_value(op.extent)
    valid = all(
        not isinstance(window := value.owner, tile.WindowOp) or window.extents_by_dim[k] is None
        for value, k in ((op.lhs, 1), (op.rhs, 0))
    )
    return valid and extent is not None and extent % depth == 0


def _rows_in_scratch(op: tile.ContractOp, row: MmaIntrinsic, lowering: TileLowering) -> Place | None:
    """The place of a left factor in a staged buffer of more dimensions, whose rows hold k as it is, for whole steps."""
    window = op.lhs.owner
    if not isinstance(window, tile.WindowOp) or not isinstance(window.source.owner, tile.StageOp):
        return None
    *outer, last = window.map.data.results
    dense = coefficient(last, 1) == 1 and coefficient(last, 0) == 0 and all(coefficient(at, 1) == 0 for at in outer)
    regular = all(coefficient(at, 0) is not None for at in outer)
    whole = window.extents_by_dim == [None, None] and _is_in_steps(op, row.k)
    return place_of_window(window, lowering) if len(outer) > 1 and dense and regular and whole else None


def _packed_ahead(op: tile.ContractOp, row: MmaIntrinsic, lowering: TileLowering) -> Place | None:
    """The place of a right factor that lies in memory tile register by tile register, zero beyond the end of k."""
    window = op.rhs.owner
    if not isinstance(window, tile.WindowOp) or (layout := packed_layout(window.source.type)) is None:
        return None
    place = place_of_window(window, lowering)
    walked = [[coefficient(result, dim) for dim in (0, 1)] for result in place.map.results]
    if sorted(walked, key=str) != [[0, 1], [1, 0]]:
        return None
    k, n, group = walked.index([1, 0]), walked.index([0, 1]), neighbours(row, is_rhs=True)
    is_plain = layout.parts[-3:] == (Part(k, group, row.k), Part(n, 1, row.n), Part(k, 1, group))
    if not is_plain or not lies_in_blocks(place, 1, place.shape[1]) or not ends_in_zeros(op, row.k):
        return None
    return place


def _moves(op: tile.ContractOp, value: SSAValue) -> bool:
    """Whether a factor is another one in each trip of the innermost loop."""
    loop = op.parent_op()
    while isinstance(loop, scf.IfOp):
        loop = loop.parent_op()
    window = value.owner
    if not isinstance(loop, tile.ForOp) or not isinstance(window, tile.WindowOp):
        return False
    return loop.body.block.args[0] in window.indices


# Accumulators


def accumulator_type(value: SSAValue, lowering: TileLowering) -> mma.FragmentType | None:
    """The type of a tile that nothing but a contraction on tile registers reads; None for other tiles."""
    if lowering.in_scratch(value):
        return None
    users = [use.operation for use in value.uses]
    contracts = [user for user in users if isinstance(user, tile.ContractOp) and user.accumulator is value]
    if not contracts or len(contracts) != len(users):
        return None
    try:
        row = choose_intrinsic(contracts[0], lowering)
    except CrosstileError:
        return None  # refused when the contraction itself is lowered, where the error belongs
    if not row.in_tiles:
        return None
    type_ = capacity_type(value)
    m, n = type_.get_shape()
    return lowering.factor((m, n), type_.element_type, row.accumulator)


def load_accumulator(op: tile.LoadOp, type_: mma.FragmentType, lowering: TileLowering) -> SSAValue:
    """Whole rows of memory into tile registers; through scratch where an extent cuts them."""
    place = place_of_window(window_of(op.window, lowering), lowering)
    pad = number(op.pad)

    def read() -> list[SSAValue]:
        def through_scratch() -> list[SSAValue]:
            buffer = _scratch(type_, lowering)
            _copy_rows(place, buffer, type_, lowering, pad)
            return [buffer.load(lowering, type_)]

        full = _is_full(place, lowering)
        if full is None:
            return [place.without_extent(0, 1).load(lowering, type_)]
        whole = place.without_extent(0, 1)
        return list(build_if(lowering, full, lambda: [whole.load(lowering, type_)], through_scratch))

    if op.condition is None:
        return read()[0]
    otherwise = number(op.otherwise)
    assert otherwise is not None
    return build_if(lowering, lowering.value(op.condition), read, lambda: [_splat(otherwise, type_, lowering)])[0]


def store_result(place: Place, value: SSAValue, lowering: TileLowering) -> None:
    """Tile registers to whole rows of memory; through scratch where an extent cuts them."""
    type_ = value.type
    assert isinstance(type_, mma.FragmentType)
    full = _is_full(place, lowering)
    if full is None:
        place.without_extent(0, 1).store(lowering, value)
        return

    def directly() -> list[SSAValue]:
        place.without_extent(0, 1).store(lowering, value)
        return []

    def through_scratch() -> list[SSAValue]:
        buffer = _scratch(type_, lowering)
        buffer.store(lowering, value)
        _copy_rows(buffer, place, type_, lowering)
        return []

    build_if(lowering, full, directly, through_scratch)


def _is_full(place: Place, lowering: TileLowering) -> SSAValue | None:
    """Whether all elements of a place are valid; None if they are known to be."""
    index = lowering.index
    result: SSAValue | None = None
    for extent, size in zip(place.extents, place.shape, strict=True):
        if extent is None or (isinstance(extent, int) and extent >= size):
            continue
        reached = index.build(CmpiOp(index.value(extent), index.value(size), "sge")).result
        result = reached if result is None else index.build(arith.AndIOp(result, reached)).result
    return result


def _scratch(type_: mma.FragmentType, lowering: TileLowering) -> Place:
    buffer = lowering.insert(mma.AllocOp(mma.BufferType.of(type_.get_shape(), type_.get_element_type()))).result
    return place_of_buffer(buffer, type_.get_shape())


def _copy_rows(
    source: Place, target: Place, type_: mma.FragmentType, lowering: TileLowering, pad: float | int | None = None
) -> None:
    """One row after the other, through vector registers; rows beyond the target's extent are left out."""
    rows, columns = type_.get_shape()
    row_type = lowering.fragment((1, columns), type_.get_element_type())
    extent = target.extents[0]
    end: Index = rows if extent is None else lowering.index.minimum(extent, rows)

    def copy(row: SSAValue, _carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        value = source.part(lowering, (1, columns), {0: row}).load(lowering, row_type, pad)
        target.without_extent(0).part(lowering, (1, columns), {0: row}).store(lowering, value)
        return []

    build_for(lowering, lowering.index.bounds(0, end, 1), [], copy, "row")


def _splat(value: float | int, type_: mma.FragmentType, lowering: TileLowering) -> SSAValue:
    constant = lowering.index.build(arith.ConstantOp(scalar_attribute(value, type_.get_element_type()))).result
    return lowering.insert(mma.SplatOp(constant, type_)).result


def _in_tiles(value: SSAValue, row: MmaIntrinsic, lowering: TileLowering) -> SSAValue:
    """A fragment in tile registers; one in vector registers is moved through scratch."""
    assert isinstance(value.type, mma.FragmentType)
    if is_in_tiles(value.type.layout.data):
        return value
    m, n = value.type.get_shape()
    type_ = lowering.factor((m, n), value.type.get_element_type(), row.accumulator)
    return place_of_buffer(store_to_scratch(value, lowering), (m, n)).load(lowering, type_)


def _in_vectors(old: SSAValue, value: SSAValue, lowering: TileLowering) -> SSAValue:
    """A fragment in vector registers, moved there through scratch."""
    place = place_of_buffer(store_to_scratch(value, lowering), capacity_type(old).get_shape())
    return place.load(lowering, lowering.fragment_type(old))


def _stays_in_tiles(value: SSAValue, lowering: TileLowering) -> bool:
    """Whether all that becomes of a product is to be stored, or to be added to by another."""
    return all(_takes_tiles(use.operation, value, lowering) for use in value.uses)


def _takes_tiles(user: Operation, value: SSAValue, lowering: TileLowering) -> bool:
    match user:
        case tile.StoreOp():
            return user.value is value
        case tile.StageOp():
            return True
        case tile.ContractOp():
            return user.accumulator is value and choose_intrinsic(user, lowering).in_tiles
        case _:
            return False
