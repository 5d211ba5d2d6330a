"""The ``tile`` dialect: one kernel as a program of blocks of data, written by a lowering or by hand.

One row-scaling kernel; see docs/tile.md for the ideas and examples/tile/ for whole kernels::

    tile.kernel @scale(%x : memref<?x?xf32>, %factor : f32) {
      %zero = arith.constant 0 : index
      %m = tile.dim %x, 0 : memref<?x?xf32>
      %n = tile.dim %x, 1 : memref<?x?xf32>
      tile.parallel (%i, %j), (%mc, %nc) = (%zero, %zero) to (%m, %n) step (8, 64) {
        %w = tile.window %x[%i, %j] extent [%mc, %nc] : memref<?x?xf32> -> !tile.window<8x64xf32>
        %t = tile.load %w : !tile.window<8x64xf32> -> !tile.tile<8x64xf32>
        %u = tile.map (%t : !tile.tile<8x64xf32>) -> !tile.tile<8x64xf32> {
        ^bb0(%e : f32):
          %r = arith.mulf %e, %factor : f32
          tile.yield %r : f32
        }
        tile.store %u, %w : !tile.tile<8x64xf32>, !tile.window<8x64xf32>
      }
      tile.return
    }

Files: ``types``, ``kernel`` (kernel, parallel, dim), ``loops`` (for, yield), ``launch``, ``window``, ``memory`` (alloc,
load, store, stage), ``compute`` (contract, map, reduce), ``shape`` (splat, iota, mask, transpose, reshape), ``meaning``
(what all of it computes, in NumPy).
"""

from xdsl.ir import Dialect

from crosstile.dialects.tile.compute import ContractOp, MapOp, ReduceOp
from crosstile.dialects.tile.kernel import DimOp, KernelOp, ParallelOp, ReturnOp
from crosstile.dialects.tile.launch import LaunchOp
from crosstile.dialects.tile.loops import ForOp, YieldOp
from crosstile.dialects.tile.memory import AllocOp, LoadOp, StageOp, StoreOp
from crosstile.dialects.tile.shape import IotaOp, MaskOp, ReshapeOp, SplatOp, TransposeOp
from crosstile.dialects.tile.types import BufferType, TileType, WindowType
from crosstile.dialects.tile.window import WindowOp

Tile = Dialect(
    "tile",
    [
        KernelOp,
        ReturnOp,
        ParallelOp,
        ForOp,
        YieldOp,
        DimOp,
        WindowOp,
        AllocOp,
        LoadOp,
        StoreOp,
        StageOp,
        ContractOp,
        MapOp,
        ReduceOp,
        MaskOp,
        SplatOp,
        IotaOp,
        TransposeOp,
        ReshapeOp,
        LaunchOp,
    ],
    [TileType, BufferType, WindowType],
)
