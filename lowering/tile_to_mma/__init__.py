"""``tile-to-mma``: tiles get registers, stages get scratch, contractions get instructions of a machine.

Level: ``tile`` to ``mma``, for cores with vector registers. In: tile kernels, ``scf``, ``arith`` and ``memref`` around
them. Out: kernels of the ``mma`` level for the machine named by ``target``. A tile lies across the lanes of vector
registers by its last dimension; a contraction becomes a loop over k whose accumulator stays in registers::

    %c0 = tile.load %w if %later else 0.0 : !tile.window<4x64xf32> -> !tile.tile<4x64xf32>
    %c1 = tile.contract %a, %b, %c0 extent %kc : !tile.window<4x512xf32>, !tile.window<512x64xf32> -> !tile.tile<...>
    ==>
    %c0 = mma.load %C[%i, %j] extent [%mr, %nr] if %later else 0.0 : ... -> !mma.fragment<4x64xf32, ...>
    %c1 = scf.for %k = %zero to %kc step %one iter_args(%c = %c0) -> (!mma.fragment<4x64xf32, ...>) {
      mma.load 4x1, mma.load 1x64, mma.mma
    }

Files: ``state`` (what rules share), ``places`` (windows), ``uses`` (who depends on what), ``panels`` (how scratch is
laid out), ``filling`` (how it is filled), ``transposition`` (what runs the other way), and rules by subject:
``control``, ``memory``, ``stage``, ``contract``, ``tile_units`` (tile registers), ``arithmetic``. For tiles that
exceed the registers: ``homes`` (their buffers), ``steps`` (what shares a loop), ``register_tiles`` (how much at once),
``sub_tiles`` (the loops), ``carried`` (loops and branches).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from xdsl.dialects import affine, scf
from xdsl.ir import Operation

from crosstile.dialects import tile
from crosstile.ir.diagnostics import CrosstileError
from crosstile.lowering.driver import Lowering, LoweringPass, Rule, keep
from crosstile.lowering.tile_to_mma import arithmetic, carried, control, memory, places
from crosstile.lowering.tile_to_mma.contract import lower_contract
from crosstile.lowering.tile_to_mma.stage import lower_stage
from crosstile.lowering.tile_to_mma.sub_tiles import KernelLowering
from crosstile.lowering.tile_to_mma.warps.rules import RULES as WARP_RULES
from crosstile.lowering.tile_to_mma.warps.state import WarpLowering
from crosstile.targets.host import default_target, resolve_machine
from crosstile.targets.model import UnknownNameError

RULES: Mapping[type[Operation], Rule] = {
    tile.KernelOp: control.lower_kernel,
    tile.ReturnOp: control.lower_return,
    tile.DimOp: control.lower_dim,
    tile.ParallelOp: control.lower_parallel,
    tile.ForOp: control.lower_for,
    tile.YieldOp: control.lower_yield,
    tile.WindowOp: places.lower_window,
    tile.AllocOp: memory.lower_alloc,
    tile.LoadOp: memory.lower_load,
    tile.StoreOp: memory.lower_store,
    tile.StageOp: lower_stage,
    tile.ContractOp: lower_contract,
    tile.MapOp: arithmetic.lower_map,
    tile.ReduceOp: arithmetic.lower_reduce,
    tile.MaskOp: arithmetic.lower_mask,
    tile.SplatOp: arithmetic.lower_splat,
    tile.IotaOp: arithmetic.lower_iota,
    tile.TransposeOp: arithmetic.lower_transpose,
    tile.ReshapeOp: arithmetic.lower_reshape,
    tile.LaunchOp: keep,
    affine.ApplyOp: control.lower_apply,
    scf.IfOp: carried.lower_if,
    scf.YieldOp: carried.lower_scf_yield,
}


@dataclass(frozen=True)
class TileToMmaPass(LoweringPass):
    """Tiles to registers, stages to scratch, contractions to the instructions of the machine ``target``."""

    name = "tile-to-mma"
    rules: ClassVar[Mapping[type[Operation], Rule]] = RULES
    kept_dialects: ClassVar[frozenset[str]] = frozenset(("arith", "cf", "func", "math", "memref", "scf"))

    target: str = field(default_factory=default_target)

    def make_lowering(self, kept_dialects: frozenset[str]) -> Lowering:
        """The driver with the machine."""
        try:
            row = resolve_machine(self.target)
        except UnknownNameError as error:
            raise CrosstileError(f"{self.name}: target: {error.args[0]}") from error
        if row.warp_lanes is not None:
            return WarpLowering(self.name, WARP_RULES, kept_dialects, row)
        return KernelLowering(self.name, self.rules, kept_dialects, row)
