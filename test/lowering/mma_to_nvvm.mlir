// RUN: crosstile-opt %s --split-input-file --mma-to-nvvm | filecheck %s

!lhs = !mma.fragment<16x16xbf16, #mma.layout<tile(16, 16) register(2:8, 2:128, 2:1) lane(8:16, 4:2)>>
!rhs = !mma.fragment<16x8xbf16, #mma.layout<tile(16, 8) register(2:64, 2:8) lane(8:1, 4:16)>>
!acc = !mma.fragment<16x8xf32, #mma.layout<tile(16, 8) register(2:64, 2:1) lane(8:8, 4:2)>>

// Two numbers of bf16 share a word. A swizzled tile is read by ldmatrix: rows of the left factor as they lie, the right
// factor, of which columns are wanted and rows are contiguous, transposed. The result's neighbours are stored together
// where they are aligned: N is a multiple of 4, as the rows of C are.
// CHECK-LABEL: llvm.func @product(
// CHECK-SAME:    %C: !llvm.ptr<1>, %C_1: i32, %C_2: i32) attributes {nvvm.kernel, nvvm.reqntid = array<i32: 32>
// CHECK:         nvvm.ldmatrix %{{.*}} {layout = #nvvm.mma_layout<row>, num = 4 : i32}
// CHECK:         nvvm.ldmatrix %{{.*}} {layout = #nvvm.mma_layout<col>, num = 2 : i32}
// CHECK:         %[[D:.*]] = nvvm.mma.sync A[%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}] B[%{{.*}}, %{{.*}}] C[
// CHECK-SAME:      shape = #nvvm.shape<m = 16, n = 8, k = 16>
// CHECK-SAME:      (i32, i32, f32) -> !llvm.struct<(f32, f32, f32, f32)>
// CHECK:         llvm.extractvalue %[[D]][0]
// CHECK:         scf.if
// CHECK:           llvm.store %{{.*}}, %{{.*}} : vector<2xf32>, !llvm.ptr<1>
mma.kernel @product(%C: memref<?x?xf32>) target "sm_80" warps(1) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %M = memref.dim %C, %c0 : memref<?x?xf32>
  %N = memref.dim %C, %c1 : memref<?x?xf32>
  %zero = arith.constant 0.0 : f32
  mma.parallel (%i, %j), (%mc, %nc) = (%c0, %c0) to (%M, %N) step (16, 8) {
    %a = mma.alloc : !mma.buffer<16x32xbf16, #mma.swizzle<64>>
    %b = mma.alloc : !mma.buffer<16x64xbf16, #mma.swizzle<128>>
    %lhs = mma.load %a[%c0, %c0] : !mma.buffer<16x32xbf16, #mma.swizzle<64>> -> !lhs
    %rhs = mma.load %b[%c0, %c0] : !mma.buffer<16x64xbf16, #mma.swizzle<128>> -> !rhs
    %start = mma.splat %zero : f32 -> !acc
    %sum = mma.mma %lhs, %rhs, %start {intrinsic = "nvidia.mma.m16n8k16.f32.bf16"} : !lhs, !rhs, !acc
    mma.store %sum, %C[%i, %j] extent [%mc, %nc] : !acc, memref<?x?xf32>
  }
}

// -----

!tile = !mma.fragment<8x8xf32, #mma.layout<tile(8, 8) register(2:1) lane(8:8, 4:2)>>
!row = !mma.fragment<8x1xf32, #mma.layout<tile(8, 1) lane(8:1, 4:0)>>

// Inside a lane first, then lanes two apart and one apart; the running maximum comes last, on the left.
// CHECK-LABEL: llvm.func @maximum(
// CHECK:         %[[OWN:.*]] = arith.maximumf %{{.*}}, %{{.*}} : f32
// CHECK:         %[[FAR:.*]] = nvvm.shfl.sync bfly %{{.*}}, %[[OWN]], %{{.*}}, %{{.*}} : f32 -> f32
// CHECK-NEXT:    %[[PAIR:.*]] = arith.maximumf %[[OWN]], %[[FAR]] : f32
// CHECK:         %[[NEAR:.*]] = nvvm.shfl.sync bfly %{{.*}}, %[[PAIR]], %{{.*}}, %{{.*}} : f32 -> f32
// CHECK-NEXT:    %[[ALL:.*]] = arith.maximumf %[[PAIR]], %[[NEAR]] : f32
// CHECK-NEXT:    arith.maximumf %{{.*}}, %[[ALL]] : f32
mma.kernel @maximum(%X: memref<8x8xf32>, %Y: memref<8xf32>) target "sm_80" warps(1) {
  %c0 = arith.constant 0 : index
  %low = arith.constant -1.0 : f32
  %before = mma.splat %low : f32 -> !row
  %x = mma.load %X[%c0, %c0] : memref<8x8xf32> -> !tile
  %max = mma.reduce max %x into %before dims [1] : !tile -> !row
  mma.store %max, %Y by affine_map<(r, c)[s] -> (s + r)>[%c0] : !row, memref<8xf32>
}

// -----

!tile = !mma.fragment<1x512xf32, #mma.layout<tile(1, 512) register(4:1) lane(32:4) warp(4:128)>>
!row = !mma.fragment<1x1xf32, #mma.layout<tile(1, 1) lane(32:0) warp(4:0)>>

// What all lanes of a warp have found its first one stores, next to what other warps have, and all load it at once.
// CHECK-LABEL: llvm.func @warps(
// CHECK:         arith.maximumf
// CHECK:         scf.if
// CHECK-NEXT:      llvm.store %{{.*}}, %{{.*}} : f32, !llvm.ptr<3>
// CHECK:         nvvm.barrier0
// CHECK:         llvm.load %{{.*}} : !llvm.ptr<3> -> vector<4xf32>
// CHECK-COUNT-3: arith.maximumf
// CHECK-NOT:     llvm.load
mma.kernel @warps(%X: memref<512xf32>, %Y: memref<1xf32>) target "sm_80" warps(4) {
  %c0 = arith.constant 0 : index
  %x = mma.load %X by affine_map<(r, c)[s] -> (s + c)>[%c0] : memref<512xf32> -> !tile
  %max = mma.reduce max %x dims [1] : !tile -> !row
  mma.store %max, %Y by affine_map<(r, c)[s] -> (s + r)>[%c0] : !row, memref<1xf32>
}

// -----

!ring = !mma.ring<4 x 32x32xbf16, #mma.swizzle<64>, groups>

// Sixteen bytes a thread; what lies beyond the edge is filled up with zeros. The loop carries where the ring stands.
// CHECK-LABEL: llvm.func @copies(
// CHECK:         scf.for %{{.*}} iter_args(%[[AT:.*]] = %{{.*}}) -> (index) {
// CHECK:           nvvm.cp.async.shared.global %{{.*}}, %{{.*}}, 16, cache = cg, %{{.*}} : !llvm.ptr<3>, !llvm.ptr<1>, i32
// CHECK:           nvvm.cp.async.commit.group
// CHECK:           scf.yield
mma.kernel @copies(%A: memref<?x?xbf16>, %rows: index, %columns: index) target "sm_80" warps(4) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  %c32 = arith.constant 32 : index
  %ring = mma.ring : !ring
  scf.for %t = %c0 to %c4 step %c1 {
    %k = arith.muli %t, %c32 : index
    %slot = mma.acquire %ring : !ring
    mma.copy_async %A[%c0, %k] extent [%rows, %columns] to %slot : memref<?x?xbf16> to !mma.slot<write 32x32xbf16, #mma.swizzle<64>>
    mma.commit %slot : !mma.slot<write 32x32xbf16, #mma.swizzle<64>>
  }
}

// -----

!lhs = !mma.fragment<16x16xf16, #mma.layout<tile(16, 16) register(2:8, 2:128, 2:1) lane(8:16, 4:2)>>
!rhs = !mma.fragment<16x8xf16, #mma.layout<tile(16, 8) register(2:64, 2:8) lane(8:1, 4:16)>>
!acc = !mma.fragment<16x8xf16, #mma.layout<tile(16, 8) register(2:64, 2:1) lane(8:8, 4:2)>>

// Sums in f16 are pairs: two words of an accumulator that has four registers in f32.
// CHECK-LABEL: llvm.func @half_sums(
// CHECK:         nvvm.mma.sync A[{{.*}}] B[{{.*}}] C[%{{[^,]*}}, %{{[^,]*}}] {{.*}} -> !llvm.struct<(vector<2xf16>, vector<2xf16>)>
// CHECK:         llvm.bitcast %{{.*}} : vector<2xf16> to i32
mma.kernel @half_sums(%A: memref<16x16xf16>, %B: memref<16x8xf16>, %C: memref<16x8xf16>) target "sm_80" warps(1) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f16
  %lhs = mma.load %A[%c0, %c0] : memref<16x16xf16> -> !lhs
  %rhs = mma.load %B[%c0, %c0] : memref<16x8xf16> -> !rhs
  %start = mma.splat %zero : f16 -> !acc
  %sum = mma.mma %lhs, %rhs, %start {intrinsic = "nvidia.mma.m16n8k16.f16"} : !lhs, !rhs, !acc
  mma.store %sum, %C[%c0, %c0] : !acc, memref<16x8xf16>
}

// -----

// Blocks stay: each role takes every instance whose number is the block's plus a multiple of the number of blocks, and a
// ring goes on from one to the next.
// CHECK-LABEL: llvm.func @persistent(
// CHECK-SAME:    crosstile.persistent = 1 : i64
// CHECK:         nvvm.mbarrier.init.shared
// CHECK:         nvvm.fence.mbarrier.init
// CHECK-NEXT:    nvvm.barrier0
// CHECK:         scf.if
// CHECK:           scf.for %{{.*}} = %[[BLOCK:.*]] to %[[COUNT:.*]] step %[[BLOCKS:.*]] iter_args(%[[SLOT:.*]] = %{{.*}}) -> (index) {
// CHECK:             %[[NEXT:.*]] = arith.addi %[[SLOT]], %{{.*}} : index
// CHECK:             nvvm.cp.async.bulk.tensor
// CHECK:             scf.yield %[[NEXT]] : index
// CHECK:         scf.if
// CHECK:           scf.for %{{.*}} = %[[BLOCK]] to %[[COUNT]] step %[[BLOCKS]] iter_args(
// CHECK:             nvvm.mbarrier.try_wait
// CHECK:             nvvm.mbarrier.arrive.shared
mma.kernel @persistent(%A: memref<?x32xf32>, %C: memref<?x32xf32>) target "sm_90a" warps(8) {
  %c0 = arith.constant 0 : index
  %M = memref.dim %A, %c0 : memref<?x32xf32>
  mma.parallel (%i), (%mc) = (%c0) to (%M) step (16) persistent 1 {
    %ring = mma.ring : !mma.ring<2 x 16x32xf32>
    mma.roles {
      role @load warps(4) {
        %slot = mma.acquire %ring : !mma.ring<2 x 16x32xf32>
        mma.copy_async %A[%i, %c0] extent [%mc, _] to %slot : memref<?x32xf32> to !mma.slot<write 16x32xf32>
        mma.commit %slot : !mma.slot<write 16x32xf32>
      }
      role @store warps(4) {
        %full = mma.wait %ring : !mma.ring<2 x 16x32xf32>
        %rows = mma.load %full[%c0, %c0] : !mma.slot<read 16x32xf32> -> !mma.fragment<16x32xf32, #mma.layout<tile(16, 32) warp(4:128) register(4:32) lane(32:1)>>
        mma.release %full : !mma.slot<read 16x32xf32>
        mma.store %rows, %C[%i, %c0] extent [%mc, _] : !mma.fragment<16x32xf32, #mma.layout<tile(16, 32) warp(4:128) register(4:32) lane(32:1)>>, memref<?x32xf32>
      }
    }
  }
}

// -----

// Both blocks of a cluster read all of B. Each copies half of the rows, into the slots of both, and tells both when it has
// read: a lane for each of them arrives there. They meet before the first copy, and at the end.
// CHECK-LABEL: llvm.func @cluster(
// CHECK-SAME:    box = [16 : i64, 32 : i64]
// CHECK-SAME:    {from = 0 : i64, to = [1 : i64, 0 : i64], step = 16 : i64, cluster = 2 : i64}
// CHECK-SAME:    nvvm.cluster_dim = array<i32: 2, 1, 1>
// CHECK:         nvvm.mbarrier.init.shared %{{.*}}, %{{.*}} : !llvm.ptr<3>, i32
// CHECK:         nvvm.fence.mbarrier.init
// CHECK-NEXT:    nvvm.cluster.arrive.relaxed {aligned}
// CHECK-NEXT:    nvvm.cluster.wait {aligned}
// CHECK:         %[[MASK:.*]] = arith.trunci %{{.*}} : i32 to i16
// CHECK:         nvvm.cp.async.bulk.tensor.shared.cluster.global %{{.*}} multicast_mask = %[[MASK]]
// CHECK:         nvvm.mapa %{{.*}}, %{{.*}} : !llvm.ptr<3> -> !llvm.ptr<7>
// CHECK:         nvvm.mbarrier.arrive %{{.*}} : !llvm.ptr<7>
// CHECK:         nvvm.cluster.arrive {aligned}
// CHECK-NEXT:    nvvm.cluster.wait {aligned}
mma.kernel @cluster(%B: memref<32x32xf32>, %C: memref<?x32xf32>) target "sm_90a" warps(8) {
  %c0 = arith.constant 0 : index
  %M = memref.dim %C, %c0 : memref<?x32xf32>
  mma.parallel (%i), (%mc) = (%c0) to (%M) step (16) cluster [2] {
    %ring = mma.ring : !mma.ring<2 x 32x32xf32>
    mma.roles {
      role @load warps(4) {
        %slot = mma.acquire %ring : !mma.ring<2 x 32x32xf32>
        mma.copy_async %B[%c0, %c0] to %slot multicast [0] : memref<32x32xf32> to !mma.slot<write 32x32xf32>
        mma.commit %slot : !mma.slot<write 32x32xf32>
      }
      role @store warps(4) {
        %full = mma.wait %ring : !mma.ring<2 x 32x32xf32>
        %rows = mma.load %full[%c0, %c0] : !mma.slot<read 32x32xf32> -> !mma.fragment<16x32xf32, #mma.layout<tile(16, 32) warp(4:128) register(4:32) lane(32:1)>>
        mma.release %full : !mma.slot<read 32x32xf32>
        mma.store %rows, %C[%i, %c0] extent [%mc, _] : !mma.fragment<16x32xf32, #mma.layout<tile(16, 32) warp(4:128) register(4:32) lane(32:1)>>, memref<?x32xf32>
      }
    }
  }
}

// -----

// Blocks are counted through groups of 8 rows, column by column; the last group has the rows that are left.
// CHECK-LABEL: llvm.func @raster(
// CHECK-DAG:     %[[X:.*]] = nvvm.read.ptx.sreg.ctaid.x
// CHECK-DAG:     %[[Y:.*]] = nvvm.read.ptx.sreg.ctaid.y
// CHECK:         %[[LINE:.*]] = arith.muli %{{.*}}, %{{.*}} : index
// CHECK-NEXT:    %[[NUMBER:.*]] = arith.addi %[[LINE]], %{{.*}} : index
// CHECK:         %[[SIZE:.*]] = arith.muli %{{.*}}, %{{c8.*}} : index
// CHECK-NEXT:    %[[GROUP:.*]] = arith.divui %[[NUMBER]], %[[SIZE]] : index
// CHECK:         %[[INSIDE:.*]] = arith.subi %[[NUMBER]], %{{.*}} : index
// CHECK:         %[[FIRST:.*]] = arith.muli %[[GROUP]], %{{c8.*}} : index
// CHECK:         %[[HEIGHT:.*]] = arith.minsi
// CHECK-NEXT:    %[[ROW:.*]] = arith.remui %[[INSIDE]], %[[HEIGHT]] : index
// CHECK:         arith.divui %[[INSIDE]], %[[HEIGHT]] : index
mma.kernel @raster(%C: memref<?x?xf32>, %x: f32) target "sm_80" warps(1) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %M = memref.dim %C, %c0 : memref<?x?xf32>
  %N = memref.dim %C, %c1 : memref<?x?xf32>
  %tile = mma.splat %x : f32 -> !mma.fragment<8x8xf32, #mma.layout<tile(8, 8) register(2:1) lane(8:8, 4:2)>>
  mma.parallel (%i, %j), (%mc, %nc) = (%c0, %c0) to (%M, %N) step (8, 8) raster 8 {
    mma.store %tile, %C[%i, %j] extent [%mc, %nc] : !mma.fragment<8x8xf32, #mma.layout<tile(8, 8) register(2:1) lane(8:8, 4:2)>>, memref<?x?xf32>
  }
}
