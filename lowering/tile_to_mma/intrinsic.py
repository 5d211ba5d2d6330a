"""Which instruction a ``tile.contract`` becomes, and whether its register tile fits tile registers.

tile.contract ... intrinsic "x86.avx512.vdpbf16ps.1x16x2.f32.bf16" : 4x512 bf16, 512x64 bf16 -> 4x64 f32
==> 16 accumulators, 4 registers of the right factor and one of the left: 21 of 32
tile.contract ... intrinsic "x86.amx.tdpbf16ps.16x16x32.f32.bf16" : 32x512 bf16, 512x32 bf16 -> 32x32 f32
==> 4 accumulators, 2 tile registers of the right factor and 2 of the left: 8 of 8
"""

from __future__ import annotations

from xdsl.utils.exceptions import VerifyException

from crosstile.dialects import tile
from crosstile.dialects.mma.intrinsics import find_intrinsic
from crosstile.dialects.tile.types import capacity_type
from crosstile.lowering.tile_to_mma.state import TileLowering
from crosstile.lowering.vector_registers import ELEMENT, tile_registers_needed
from crosstile.targets.model import MmaIntrinsic, UnknownNameError


def choose_intrinsic(op: tile.ContractOp, lowering: TileLowering) -> MmaIntrinsic:
    """The instruction that the contraction names, or the machine's fastest for its types or what they widen to."""
    machine = lowering.machine
    types = [capacity_type(value).element_type for value in (op.lhs, op.rhs, op.accumulator)]
    try:
        row = machine.choose_widening(*map(str, types)) if op.intrinsic is None else find_intrinsic(op.intrinsic.data)
    except (UnknownNameError, VerifyException) as error:
        raise lowering.error(str(error.args[0])) from error
    if row not in machine.intrinsics:
        legal = ", ".join(known.name for known in machine.intrinsics)
        raise lowering.error(f"{row.name} is no instruction of {machine.name}; it has {legal}")
    if not row.in_tiles and (row.m != 1 or row.n != lowering.lanes):
        raise lowering.error(
            f"{row.name} is a {row.m}x{row.n}x{row.k} product; tiles of this kernel lie across {lowering.lanes} lanes, "
            f"so an outer product of 1x{lowering.lanes}x{row.k} is needed"
        )
    return row


def neighbours(row: MmaIntrinsic, is_rhs: bool) -> int:
    """How many neighbours in k of a factor an instruction takes from places next to each other in memory."""
    if not is_rhs:
        return row.k
    return 1 if row.rhs.layout is None else row.rhs.layout.size(ELEMENT)


def check_tiles(row: MmaIntrinsic, m: int, n: int, lowering: TileLowering) -> None:
    """The accumulators and one step of both factors fit the tile registers."""
    if m % row.m or n % row.n:
        raise lowering.error(f"{row.name} computes tiles of {row.m}x{row.n}; {m}x{n} is no multiple of that")
    rows, columns = m // row.m, n // row.n
    needed, available = tile_registers_needed(rows, columns), lowering.machine.tile_registers
    if needed > available:
        raise lowering.error(
            f"a register tile of {m}x{n} needs {rows}*{columns} tile registers and {rows} + {columns} for its factors, "
            f"{needed} in all; {lowering.machine.name} has {available}"
        )
