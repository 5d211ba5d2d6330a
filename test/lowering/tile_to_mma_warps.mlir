// RUN: crosstile-opt %s --split-input-file --tile-to-mma=target=sm_80 | filecheck %s

// Four warps share an accumulator of 128x128, each a quarter. Stages become rings that are filled three trips ahead.
// CHECK-DAG:     #[[ROWS:.*]] = #mma.layout<tile(128, 16) warp(2:1024, 2:0) register(4:256, 2:8, 2:128, 2:1) lane(8:16, 4:2)>
// CHECK-DAG:     #[[COLUMNS:.*]] = #mma.layout<tile(16, 128) warp(2:0, 2:64) register(8:8, 2:1024, 2:128) lane(8:1, 4:256)>
// CHECK-LABEL: mma.kernel @pipelined(
// CHECK-SAME:    target "sm_80" warps(4)
// CHECK:         mma.parallel
// CHECK-DAG:       %[[A:.*]] = mma.ring : !mma.ring<4 x 128x32xbf16, #mma.swizzle<64>, groups>
// CHECK-DAG:       %[[B:.*]] = mma.ring : !mma.ring<4 x 32x128xbf16, #map, #mma.swizzle<128>, groups>
// CHECK:           scf.for
// CHECK:             scf.if
// CHECK:               mma.acquire %[[A]]
// CHECK:               mma.copy_async %A[%i, %{{.*}}] extent [%mc, %{{.*}}] to
// CHECK:               mma.acquire %[[B]]
// CHECK:               mma.commit
// CHECK:             } else {
// CHECK-NEXT:          mma.commit empty
// CHECK:           scf.for %trip
// CHECK-NEXT:        mma.wait %[[A]], %[[B]] in_flight 2
// CHECK-NEXT:        mma.barrier
// CHECK:             scf.for %kk
// CHECK:               mma.load {{.*}}#[[ROWS]]>
// CHECK:               mma.load {{.*}}#[[COLUMNS]]>
// CHECK:               mma.mma {{.*}} {intrinsic = "nvidia.mma.m16n8k16.f32.bf16"}
// CHECK:             mma.release
tile.kernel @pipelined(%A : memref<?x?xbf16>, %B : memref<?x?xbf16>, %C : memref<?x?xf32>) {
  %zero = arith.constant 0 : index
  %f0 = arith.constant 0.0 : f32
  %M = tile.dim %A, 0 : memref<?x?xbf16>
  %K = tile.dim %A, 1 : memref<?x?xbf16>
  %N = tile.dim %B, 1 : memref<?x?xbf16>
  tile.parallel (%i, %j), (%mc, %nc) = (%zero, %zero) to (%M, %N) step (128, 128) {
    %start = tile.splat %f0 : f32 -> !tile.tile<128x128xf32>
    %sum = tile.for %k, %kc = %zero to %K step 32 iter_args(%acc = %start) -> (!tile.tile<128x128xf32>) pipeline(4) {
      %aw = tile.window %A[%i, %k] extent [%mc, %kc] : memref<?x?xbf16> -> !tile.window<128x32xbf16>
      %bw = tile.window %B[%k, %j] extent [%kc, %nc] : memref<?x?xbf16> -> !tile.window<32x128xbf16>
      %a = tile.stage %aw : !tile.window<128x32xbf16> -> !tile.buffer<128x32xbf16>
      %b = tile.stage %bw : !tile.window<32x128xbf16> -> !tile.buffer<32x128xbf16>
      %next = tile.contract %a, %b, %acc extent %kc
          : !tile.buffer<128x32xbf16>, !tile.buffer<32x128xbf16> -> !tile.tile<128x128xf32>
      tile.yield %next : !tile.tile<128x128xf32>
    }
    %cw = tile.window %C[%i, %j] extent [%mc, %nc] : memref<?x?xf32> -> !tile.window<128x128xf32>
    tile.store %sum, %cw : !tile.tile<128x128xf32>, !tile.window<128x128xf32>
  }
}

// -----

// What is computed with an accumulator is laid out like it: a bias as its projection, replicated along rows.
// CHECK-DAG:     #[[ROW:.*]] = #mma.layout<tile(1, 16) lane(8:0, 4:2) register(2:8, 2:1)>
// CHECK-LABEL: mma.kernel @epilogue(
// CHECK:         %[[BIAS:.*]] = mma.load %bias{{.*}}#[[ROW]]>
// CHECK:         mma.map (%r, %[[BIAS]]
// CHECK-NOT:     mma.relayout
tile.kernel @epilogue(%A : memref<16x16xf16>, %B : memref<16x16xf16>, %bias : memref<16xf32>, %C : memref<16x16xf32>) {
  %zero = arith.constant 0 : index
  %f0 = arith.constant 0.0 : f32
  %start = tile.splat %f0 : f32 -> !tile.tile<16x16xf32>
  %aw = tile.window %A[%zero, %zero] : memref<16x16xf16> -> !tile.window<16x16xf16>
  %bw = tile.window %B[%zero, %zero] : memref<16x16xf16> -> !tile.window<16x16xf16>
  %r = tile.contract %aw, %bw, %start : !tile.window<16x16xf16>, !tile.window<16x16xf16> -> !tile.tile<16x16xf32>
  %vw = tile.window %bias[%zero] : memref<16xf32> -> !tile.window<1x16xf32>
  %v = tile.load %vw : !tile.window<1x16xf32> -> !tile.tile<1x16xf32>
  %s = tile.map (%r, %v : !tile.tile<16x16xf32>, !tile.tile<1x16xf32>) -> !tile.tile<16x16xf32> {
  ^bb0(%x : f32, %b : f32):
    %y = arith.addf %x, %b : f32
    tile.yield %y : f32
  }
  %cw = tile.window %C[%zero, %zero] : memref<16x16xf32> -> !tile.window<16x16xf32>
  tile.store %s, %cw : !tile.tile<16x16xf32>, !tile.window<16x16xf32>
}

// -----

// Without a product, neighbouring lanes take neighbouring elements, four at a time where there are enough.
// CHECK-DAG:     #[[BOTH:.*]] = #mma.layout<tile(2, 128) register(4:1) warp(2:128) lane(32:4)>
// CHECK-LABEL: mma.kernel @sweep(
// CHECK-SAME:    warps(2)
// CHECK:         mma.load {{.*}}#[[BOTH]]>
tile.kernel @sweep(%x : memref<2x128xf32>, %y : memref<2x1xf32>) {
  %zero = arith.constant 0 : index
  %w = tile.window %x[%zero, %zero] : memref<2x128xf32> -> !tile.window<2x128xf32>
  %t = tile.load %w : !tile.window<2x128xf32> -> !tile.tile<2x128xf32>
  %s = tile.reduce add %t dims [1] : !tile.tile<2x128xf32> -> !tile.tile<2x1xf32>
  %yw = tile.window %y[%zero, %zero] : memref<2x1xf32> -> !tile.window<2x1xf32>
  tile.store %s, %yw : !tile.tile<2x1xf32>, !tile.window<2x1xf32>
}

// -----

// Several products: few warps, each with several rows of blocks for which it loads factors once, and steps of k written
// out. The copies of the next trip start behind the first product. What that leaves in registers, rounded, is the left
// factor of the second as it stands.
// CHECK-LABEL: mma.kernel @weights(
// CHECK-SAME:    warps(4)
// CHECK:         scf.for
// CHECK:           mma.barrier
// CHECK:           %[[S0:.*]] = mma.mma
// CHECK-NOT:       scf.for
// CHECK:           %[[S1:.*]] = mma.mma {{.*}}, %[[S0]] {
// CHECK:           mma.copy_async %K
// CHECK:           mma.copy_async %V
// CHECK:           %[[W:.*]] = mma.map (%[[S1]]
// CHECK-NOT:       mma.relayout
// CHECK:           mma.mma %[[W]],
tile.kernel @weights(%Q : memref<?x32xbf16>, %K : memref<?x32xbf16>, %V : memref<?x32xbf16>, %Y : memref<?x32xf32>) {
  %zero = arith.constant 0 : index
  %f0 = arith.constant 0.0 : f32
  %M = tile.dim %Q, 0 : memref<?x32xbf16>
  %N = tile.dim %K, 0 : memref<?x32xbf16>
  tile.parallel (%i), (%mc) = (%zero) to (%M) step (128) {
    %qw = tile.window %Q[%i, %zero] extent [%mc, _] : memref<?x32xbf16> -> !tile.window<128x32xbf16>
    %q = tile.stage %qw : !tile.window<128x32xbf16> -> !tile.buffer<128x32xbf16>
    %none = tile.splat %f0 : f32 -> !tile.tile<128x64xf32>
    %start = tile.splat %f0 : f32 -> !tile.tile<128x32xf32>
    %sum = tile.for %j, %nc = %zero to %N step 64 iter_args(%acc = %start) -> (!tile.tile<128x32xf32>) pipeline(2) {
      %kw = tile.window %K by affine_map<(d0, d1)[s0, s1] -> (s0 + d1, s1 + d0)> [%j, %zero] extent [_, %nc]
          : memref<?x32xbf16> -> !tile.window<32x64xbf16>
      %vw = tile.window %V[%j, %zero] extent [%nc, _] : memref<?x32xbf16> -> !tile.window<64x32xbf16>
      %k = tile.stage %kw : !tile.window<32x64xbf16> -> !tile.buffer<32x64xbf16>
      %v = tile.stage %vw : !tile.window<64x32xbf16> -> !tile.buffer<64x32xbf16>
      %s = tile.contract %q, %k, %none
          : !tile.buffer<128x32xbf16>, !tile.buffer<32x64xbf16> -> !tile.tile<128x64xf32>
      %w = tile.map (%s : !tile.tile<128x64xf32>) -> !tile.tile<128x64xbf16> {
      ^bb0(%one: f32):
        %narrow = arith.truncf %one : f32 to bf16
        tile.yield %narrow : bf16
      }
      %next = tile.contract %w, %v, %acc extent %nc
          : !tile.tile<128x64xbf16>, !tile.buffer<64x32xbf16> -> !tile.tile<128x32xf32>
      tile.yield %next : !tile.tile<128x32xf32>
    }
    %yw = tile.window %Y[%i, %zero] extent [%mc, _] : memref<?x32xf32> -> !tile.window<128x32xf32>
    tile.store %sum, %yw : !tile.tile<128x32xf32>, !tile.window<128x32xf32>
  }
}
