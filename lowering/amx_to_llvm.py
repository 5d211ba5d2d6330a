"""Rules for ``amx``: calls of the intrinsics with which LLVM allocates tile registers and configures them.

%d = amx.tile_mulf %a, %b, %c : !amx.tile<16x32xbf16>, !amx.tile<16x32xbf16>, !amx.tile<16x16xf32>
==> %d = llvm.call_intrinsic "llvm.x86.tdpbf16ps.internal"(%c16, %c64, %c64, %c, %a, %b)
           : (i16, i16, i16, !llvm.x86_amx, !llvm.x86_amx, !llvm.x86_amx) -> !llvm.x86_amx

A tile is a value of type ``!llvm.x86_amx``; every intrinsic is told rows and bytes of its rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xdsl.dialects.builtin import i16
from xdsl.dialects.llvm import CallIntrinsicOp
from xdsl.ir import Attribute, Operation, SSAValue

from crosstile.dialects.amx import TileLoadOp, TileMulFOp, TileMulIOp, TileStoreOp, TileType, TileZeroOp
from crosstile.dialects.llvm import X86AmxType
from crosstile.lowering.driver import Lowering, Rule
from crosstile.lowering.llvm_types import constant, element_bytes
from crosstile.lowering.memref_descriptor import MemRef, as_value, multiply


def _shape(lowering: Lowering, type_: Attribute) -> list[SSAValue]:
    """Rows, and bytes of a row."""
    assert isinstance(type_, TileType)
    return [constant(lowering, number, i16) for number in (type_.get_shape()[0], type_.row_bytes)]


def _place(lowering: Lowering, op: TileLoadOp | TileStoreOp) -> list[SSAValue]:
    """The address of the first row, and the distance of two rows in bytes."""
    source = MemRef.of(lowering, op.base)
    strides = source.strides(lowering)
    if strides[-1] != 1:
        raise lowering.error(f"the rows of a tile are dense in memory, which {source.type} is not")
    address = source.address(lowering, lowering.flatten(op.indices))
    step = strides[-2] if op.stride is None else lowering.value(op.stride)
    return [address, as_value(lowering, multiply(lowering, step, element_bytes(source.type.element_type)))]


def lower_zero(op: TileZeroOp, lowering: Lowering) -> None:
    """``amx.tile_zero``."""
    _call(op, "llvm.x86.tilezero.internal", _shape(lowering, op.res.type), lowering)


def lower_load(op: TileLoadOp, lowering: Lowering) -> None:
    """``amx.tile_load``."""
    hint = "t1" if op.nontemporal else ""
    operands = [*_shape(lowering, op.res.type), *_place(lowering, op)]
    _call(op, f"llvm.x86.tileloadd{hint}64.internal", operands, lowering)


def lower_store(op: TileStoreOp, lowering: Lowering) -> None:
    """``amx.tile_store``."""
    operands = [*_shape(lowering, op.val.type), *_place(lowering, op), lowering.value(op.val)]
    lowering.insert(CallIntrinsicOp("llvm.x86.tilestored64.internal", operands, []))


def lower_multiply_floats(op: TileMulFOp, lowering: Lowering) -> None:
    """``amx.tile_mulf``."""
    _multiply(op, "llvm.x86.tdpbf16ps.internal", lowering)


def lower_multiply_bytes(op: TileMulIOp, lowering: Lowering) -> None:
    """``amx.tile_muli``."""
    signs = "".join("s" if zext is None else "u" for zext in (op.isZextLhs, op.isZextRhs))
    _multiply(op, f"llvm.x86.tdpb{signs}d.internal", lowering)


def _multiply(op: TileMulFOp | TileMulIOp, name: str, lowering: Lowering) -> None:
    """m, bytes of a row of the result, bytes of a row of the left factor, then the three tiles."""
    m, columns = _shape(lowering, op.acc.type)
    _, depth = _shape(lowering, op.lhs.type)
    tiles = [lowering.value(tile) for tile in (op.acc, op.lhs, op.rhs)]
    _call(op, name, [m, columns, depth, *tiles], lowering)


def _call(op: Operation, name: str, operands: Sequence[SSAValue], lowering: Lowering) -> None:
    lowering.replace(op, lowering.insert(CallIntrinsicOp(name, operands, [X86AmxType()])).results[0])


RULES: Mapping[type[Operation], Rule] = {
    TileZeroOp: lower_zero,
    TileLoadOp: lower_load,
    TileStoreOp: lower_store,
    TileMulFOp: lower_multiply_floats,
    TileMulIOp: lower_multiply_bytes,
}
