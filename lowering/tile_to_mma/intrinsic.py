"""Which instruction a ``tile.contract`` becomes, and whether its register tile fits the machine.

tile.contract ... intrinsic "x86.avx512.vdpbf16ps.1x16x2.f32.bf16" : 4x512 bf16, 512x64 bf16 -> 4x64 f32
==> 16 accumulators, 4 registers of the right factor and one of the left: 21 of 32
"""

from __future__ import annotations

from xdsl.utils.exceptions import VerifyException

from crosstile.dialects import tile
from crosstile.dialects.mma.intrinsics import find_intrinsic
from crosstile.dialects.tile.types import capacity_type
from crosstile.lowering.tile_to_mma.state import TileLowering
from crosstile.lowering.vector_registers import registers_needed
from crosstile.targets.model import MmaIntrinsic, UnknownNameError


def choose_intrinsic(op: tile.ContractOp, lowering: TileLowering) -> MmaIntrinsic:
    """The instruction that the contraction names, or the machine's fastest for its types."""
    machine = lowering.machine
    types = [capacity_type(value).element_type for value in (op.lhs, op.rhs, op.accumulator)]
    try:
        row = machine.choose(*map(str, types)) if op.intrinsic is None else find_intrinsic(op.intrinsic.data)
    except (UnknownNameError, VerifyException) as error:
        raise lowering.error(str(error.args[0])) from error
    if row not in machine.intrinsics:
        legal = ", ".join(known.name for known in machine.intrinsics)
        raise lowering.error(f"{row.name} is no instruction of {machine.name}; it has {legal}")
    if row.m != 1 or row.n != lowering.lanes:
        raise lowering.error(
            f"{row.name} is a {row.m}x{row.n}x{row.k} product; tiles of this kernel lie across {lowering.lanes} lanes, "
            f"so an outer product of 1x{lowering.lanes}x{row.k} is needed"
        )
    return row


def check_registers(op: tile.ContractOp, row: MmaIntrinsic, lowering: TileLowering) -> None:
    """The accumulator, one row of the right factor and one number of the left fit the registers."""
    m, n = capacity_type(op.accumulator).get_shape()
    if n % row.n:
        return  # the accumulator's layout is refused with the nearest legal width
    vectors, available = n // row.n, lowering.machine.vector_registers
    needed = registers_needed(m, vectors)
    if needed > available:
        rows = (available - 1 - vectors) // vectors
        advice = f"at most {rows} rows of {n} columns fit" if rows > 0 else f"{n} columns do not fit at all"
        raise lowering.error(
            f"a register tile of {m}x{n} {capacity_type(op.accumulator).element_type} needs {m}*{vectors} registers "
            f"and {vectors} + 1 for its factors, {needed} in all; {lowering.machine.name} has {available}: {advice}"
        )
