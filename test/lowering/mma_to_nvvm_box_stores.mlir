// RUN: crosstile-opt %s --split-input-file --mma-to-nvvm | filecheck %s

// Each warp writes its 16 rows of a panel by stmatrix and copies them itself; the piece has two panels, and the third
// is written when the first has been read.
// CHECK-LABEL: llvm.func @halves(
// CHECK-SAME:    tensor_maps = [{argument = 0 : i64, element = bf16, sizes = {{\[\[}}0 : i64, 0 : i64], [0 : i64, 1 : i64]], box = [16 : i64, 64 : i64], swizzle = 128 : i64}]
// CHECK:         nvvm.stmatrix {{.*}} {layout = #nvvm.mma_layout<row>} : !llvm.ptr<3>, i32, i32, i32, i32
// CHECK:         nvvm.fence.proxy
// CHECK:         nvvm.bar.warp.sync
// CHECK:         scf.if
// CHECK:           nvvm.cp.async.bulk.tensor.global.shared.cta %tensor_map, %{{.*}}, box[
// CHECK-NEXT:      nvvm.cp.async.bulk.commit.group
// CHECK-NEXT:    }
// CHECK-NOT:     nvvm.cp.async.bulk.wait_group
// CHECK:           nvvm.cp.async.bulk.commit.group
// CHECK-NEXT:    }
// CHECK-NEXT:    nvvm.cp.async.bulk.wait_group 1 {read}
// CHECK:         nvvm.bar.warp.sync
// CHECK:           nvvm.cp.async.bulk.commit.group
// CHECK-NEXT:    }
// CHECK-NEXT:    nvvm.cp.async.bulk.wait_group 1 {read}
// CHECK-NEXT:    nvvm.bar.warp.sync
// CHECK:           nvvm.cp.async.bulk.commit.group
// CHECK-NEXT:    }
// CHECK-NEXT:    nvvm.cp.async.bulk.wait_group 0 {read}
// CHECK-NEXT:    llvm.return
#sums = #mma.layout<tile(64, 256) warp(4:4096) register(32:8, 2:2048, 2:1) lane(8:256, 4:2)>
#panels = affine_map<(d0, d1) -> (d1 floordiv 64, d0, d1 mod 64)>
mma.kernel @halves(%C: memref<?x?xbf16>) target "sm_90a" warps(4) {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %f0 = arith.constant 0.0 : bf16
  %M = memref.dim %C, %zero : memref<?x?xbf16>
  %N = memref.dim %C, %one : memref<?x?xbf16>
  mma.parallel (%i, %j), (%mc, %nc) = (%zero, %zero) to (%M, %N) step (64, 256) {
    %piece = mma.alloc : !mma.buffer<64x128xbf16, #panels, #mma.swizzle<128>>
    %c = mma.splat %f0 : bf16 -> !mma.fragment<64x256xbf16, #sums>
    mma.store %c, %C[%i, %j] extent [%mc, %nc] through %piece
        : !mma.fragment<64x256xbf16, #sums>, memref<?x?xbf16>, !mma.buffer<64x128xbf16, #panels, #mma.swizzle<128>>
  }
}

// -----

// Pairs of f32: lanes of odd rows write columns 16 to 23 where those of even rows write columns 0 to 7.
// CHECK-LABEL: llvm.func @pairs(
// CHECK-SAME:    box = [16 : i64, 32 : i64], swizzle = 128 : i64}]
// CHECK:         %[[ROW:.*]] = arith.remui %{{.*}}, %c2 : index
// CHECK-NEXT:    %[[ODD:.*]] = arith.cmpi eq, %[[ROW]], %{{.*}} : index
// CHECK:         arith.select %[[ODD]], %{{.*}}, %{{.*}} : f32
// CHECK:         llvm.store %{{.*}}, %{{.*}} : vector<2xf32>, !llvm.ptr<3>
// CHECK-NOT:     llvm.store {{.*}} !llvm.ptr<1>
#sums = #mma.layout<tile(64, 32) warp(4:512) register(4:8, 2:256, 2:1) lane(8:32, 4:2)>
mma.kernel @pairs(%C: memref<?x?xf32>, %A: memref<?xf32>) target "sm_90a" warps(4) {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %M = memref.dim %C, %zero : memref<?x?xf32>
  %N = memref.dim %C, %one : memref<?x?xf32>
  mma.parallel (%i, %j), (%mc, %nc) = (%zero, %zero) to (%M, %N) step (64, 32) {
    %piece = mma.alloc : !mma.buffer<64x32xf32, #mma.swizzle<128>>
    %c = mma.load %A by affine_map<(d0, d1)[s0] -> (s0 + d0 + d1)>[%i] : memref<?xf32> -> !mma.fragment<64x32xf32, #sums>
    mma.store %c, %C[%i, %j] extent [%mc, %nc] through %piece
        : !mma.fragment<64x32xf32, #sums>, memref<?x?xf32>, !mma.buffer<64x32xf32, #mma.swizzle<128>>
  }
}

// -----

// Rows that are not multiples of 16 bytes have no tensor map: each thread stores what it holds, and scratch takes none.
// CHECK-LABEL: llvm.func @unaligned(
// CHECK-SAME:    crosstile.shared = 0 : i64
// CHECK-SAME:    tensor_maps = []
// CHECK-NOT:     bulk
// CHECK:         llvm.store %{{.*}}, %{{.*}} : f32, !llvm.ptr<1>
#sums = #mma.layout<tile(64, 32) warp(4:512) register(4:8, 2:256, 2:1) lane(8:32, 4:2)>
mma.kernel @unaligned(%C: memref<?x?xf32>) target "sm_90a" warps(4) attributes {crosstile.alignment = 4 : i64} {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %f0 = arith.constant 0.0 : f32
  %M = memref.dim %C, %zero : memref<?x?xf32>
  %N = memref.dim %C, %one : memref<?x?xf32>
  mma.parallel (%i, %j), (%mc, %nc) = (%zero, %zero) to (%M, %N) step (64, 32) {
    %piece = mma.alloc : !mma.buffer<64x32xf32, #mma.swizzle<128>>
    %c = mma.splat %f0 : f32 -> !mma.fragment<64x32xf32, #sums>
    mma.store %c, %C[%i, %j] extent [%mc, %nc] through %piece
        : !mma.fragment<64x32xf32, #sums>, memref<?x?xf32>, !mma.buffer<64x32xf32, #mma.swizzle<128>>
  }
}
