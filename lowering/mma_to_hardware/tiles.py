"""Rules for fragments in tile registers: rows from and to memory, and products of them, one operation per register.

    %c = mma.load %C[%i, %j] : memref<?x?xf32> -> !mma.fragment<32x32xf32, #mma.layout<... row(16:32) lane(16:1) ...>>
    ==>
      %c0 = amx.tile_load %flat[%at], %n : memref<?xf32> into !amx.tile<16x16xf32>        4 of them
    %d = mma.mma %a, %b, %c {intrinsic = "x86.amx.tdpbf16ps.16x16x32.f32.bf16"}
    ==>
      %d0 = amx.tile_mulf %a0, %b0, %c0 : ...                                              4 for each step of k

The loads of a step's factors move between its products, so that the first of these starts early.
Rows are read and written whole: ``tile-to-mma`` takes what an extent cuts through scratch. Rows of words, those of a
right factor, must stand in memory as words.
"""

from __future__ import annotations

from xdsl.dialects import arith
from xdsl.dialects.builtin import FloatAttr, IntegerAttr
from xdsl.ir import Attribute, SSAValue
from xdsl.ir.affine import AffineBinaryOpExpr, AffineConstantExpr, AffineDimExpr, AffineMap
from xdsl.traits import MemoryEffectKind, get_effects

from crosstile.dialects import amx, mma
from crosstile.ir.index_math import Index
from crosstile.lowering.affine_steps import coefficient
from crosstile.lowering.linear_index import Linear
from crosstile.lowering.mma_to_hardware.access import Access
from crosstile.lowering.mma_to_hardware.state import HardwareLowering, tile_type
from crosstile.lowering.tile_registers import TileRegisters, is_in_tiles, tile_registers_of
from crosstile.targets.model import MmaIntrinsic
from crosstile.targets.numerics import EvenOddChains, IntegerDot


def lives_in_tiles(type_: Attribute) -> bool:
    """Whether a fragment of this type lives in tile registers."""
    return isinstance(type_, mma.FragmentType) and is_in_tiles(type_.layout.data)


def lower_load(op: mma.LoadOp, lowering: HardwareLowering) -> None:
    """One load per register."""
    if op.condition is not None:
        raise lowering.error("tile registers are loaded unconditionally; branch around the load")
    access = _access(op, op.source, op.result.type, lowering)
    registers = tile_registers_of(op.result.type.layout.data)
    step = _row_step(access, registers)
    hint = amx.NONTEMPORAL in op.attributes
    loaded: list[SSAValue] = []
    for start in registers.starts:
        flat, at = access.address([Linear(coordinate) for coordinate in start])
        load = amx.TileLoadOp(flat, [at], tile_type(op.result.type), step, hint)
        loaded.append(lowering.insert(load).res)
    lowering.map_value(op.result, *loaded)


def lower_store(op: mma.StoreOp, lowering: HardwareLowering) -> None:
    """One store per register."""
    access = _access(op, op.destination, op.value_type, lowering)
    registers = tile_registers_of(op.value_type.layout.data)
    step = _row_step(access, registers)
    for value, start in zip(lowering.values(op.value), registers.starts, strict=True):
        flat, at = access.address([Linear(coordinate) for coordinate in start])
        lowering.insert(amx.TileStoreOp(flat, [at], value, step))


def _access(
    op: mma.LoadOp | mma.StoreOp, memory: SSAValue, fragment: mma.FragmentType, lowering: HardwareLowering
) -> Access:
    access = Access(lowering, op, memory, fragment)
    origin = [Linear()] * len(access.shape)
    if access.extents or access.all_conditions(origin):
        raise lowering.error("rows of tile registers are read and written whole, and here not all elements are valid")
    return access


def _row_step(access: Access, registers: TileRegisters) -> SSAValue:
    """How far apart in memory the rows of a register are, in elements; an error unless its rows are dense."""
    lowering = access.lowering
    step = _step_in_memory(access, registers) if access.memory.storage is None else _step_in_storage(access, registers)
    if step is None:
        what = f"words of {registers.group} neighbours down a column" if registers.down else "rows"
        raise lowering.error(f"memory does not hold the {what} that a tile register takes next to each other; pack it")
    return lowering.index.value(step)


def _step_in_memory(access: Access, registers: TileRegisters) -> Index | None:
    if registers.down or access.step(1, registers.columns) != 1:
        return None
    index = access.lowering.index
    steps = [coefficient(result, 0) for result in access.map.results]
    if None in steps:
        return None
    return index.sum([index.mul(stride, step or 0) for step, stride in zip(steps, access.memory.strides, strict=True)])


def _step_in_storage(access: Access, registers: TileRegisters) -> int | None:
    """The distance of two rows in a packed buffer, whose periods the block of a register divides or is made of."""
    storage, strides = access.memory.storage, access.memory.strides
    assert storage is not None
    moves = [[coefficient(result, dim) for dim in (0, 1)] for result in access.map.results]
    if sorted(moves, key=str) != [[0, 1], [1, 0]]:
        return None
    walked = [steps.index(1) for steps in moves]  # the dimension of the register that walks along each of the memory's
    block = [registers.block[dim] for dim in walked]
    for start in registers.starts:
        for dim, at in enumerate(access.coordinates([Linear(coordinate) for coordinate in start])):
            for period in _periods(storage, dim):
                if (period % block[dim] and block[dim] % period) or at.multiple % min(period, block[dim]):
                    return None

    def place(row: int, column: int) -> int | None:
        """Where the element of a register is, relative to its first; None if that is known at run time only."""
        if registers.down:
            at = row * registers.group + column % registers.group, column // registers.group
        else:
            at = row, column
        box = storage.eval([at[dim] for dim in walked], ())
        moved = [(steps, stride) for steps, stride in zip(box, strides, strict=True) if steps]
        known = [steps * stride for steps, stride in moved if isinstance(stride, int)]
        return sum(known) if len(known) == len(moved) else None

    step = place(1, 0)
    dense = step is not None and all(
        place(row, column) == row * step + column
        for row in range(registers.rows)
        for column in (*range(2 * registers.group), registers.columns - 1)
    )
    return step if dense else None


def _periods(storage: AffineMap, dim: int) -> set[int]:
    """The constants by which a storage map divides the coordinate ``dim``."""
    return {
        part.rhs.value
        for result in storage.results
        for part in result.dfs()
        if isinstance(part, AffineBinaryOpExpr)
        and isinstance(part.rhs, AffineConstantExpr)
        and part.lhs == AffineDimExpr(dim)
    }


def lower_splat(op: mma.SplatOp, lowering: HardwareLowering) -> None:
    """Zeros, the only number that a tile register can be filled with."""
    known = op.value.owner
    number = known.value if isinstance(known, arith.ConstantOp) else None
    if not isinstance(number, FloatAttr | IntegerAttr) or number.value.data != 0:
        raise lowering.error("a tile register can be filled with zeros only")
    type_ = tile_type(op.result.type)
    starts = tile_registers_of(op.result.type.layout.data).starts
    lowering.map_value(op.result, *(lowering.insert(amx.TileZeroOp(type_)).res for _ in starts))


def lower_product(op: mma.MmaOp, row: MmaIntrinsic, lowering: HardwareLowering) -> None:
    """One product per register of the accumulator and step of k."""
    assert isinstance(op.lhs.type, mma.FragmentType) and isinstance(op.rhs.type, mma.FragmentType)
    lhs, rhs = lowering.values(op.lhs), lowering.values(op.rhs)
    left, right, result = (tile_registers_of(type_.layout.data) for type_ in (op.lhs.type, op.rhs.type, op.result.type))
    accumulators = list(lowering.values(op.accumulator))
    for k in range(0, op.lhs.type.get_shape()[1], row.k):
        for number, (i, j) in enumerate(result.starts):
            factors = lhs[left.holding(i, k)], rhs[right.holding(k, j)]
            for factor in factors:
                _sink_load(factor, lowering)
            accumulators[number] = _multiply_add(row, *factors, accumulators[number], lowering)
    lowering.map_value(op.result, *accumulators)


def _sink_load(factor: SSAValue, lowering: HardwareLowering) -> None:
    """Load a register right before the first product that takes it, if what stands in between writes nothing.

    Products start in order: behind all loads of a step the first of them would wait for the last of these.
    """
    load = factor.owner
    if not isinstance(load, amx.TileLoadOp) or load.parent_block() is not lowering.block or factor.uses:
        return
    between = load.next_op
    while between is not None:
        effects = get_effects(between)
        if effects is None or any(effect.kind != MemoryEffectKind.READ for effect in effects):
            return
        between = between.next_op
    load.detach()
    lowering.insert(load)


def _multiply_add(
    row: MmaIntrinsic, lhs: SSAValue, rhs: SSAValue, accumulator: SSAValue, lowering: HardwareLowering
) -> SSAValue:
    match row.numerics:
        case EvenOddChains():
            return lowering.insert(amx.TileMulFOp(lhs, rhs, accumulator)).res
        case IntegerDot(saturate=False):
            unsigned = row.lhs.element == "ui8", row.rhs.element == "ui8"
            return lowering.insert(amx.TileMulIOp(lhs, rhs, accumulator, unsigned)).res
        case _:
            raise lowering.error(f"no product of tile registers computes like {row.name}: {row.numerics}")
