// RUN: crosstile-opt %s | crosstile-opt | filecheck %s
// RUN: crosstile-opt %s --mlir-print-op-generic | crosstile-opt | filecheck %s
// RUN: crosstile-opt %s --mlir-print-op-generic | filecheck %s --check-prefix=GENERIC

// A kernel for the workers of a CPU: ranges of whole grains, blocked loops, a packed operand, the accumulator in the
// output between blocks.
// CHECK-LABEL: tile.kernel @workers(%A : memref<?x?xf32>, %B : memref<?x?xf32>, %C : memref<?x?xf32>) {
tile.kernel @workers(%A : memref<?x?xf32>, %B : memref<?x?xf32>, %C : memref<?x?xf32>) {
  %zero = arith.constant 0 : index
  // CHECK: %M = tile.dim %A, 0 : memref<?x?xf32>
  %M = tile.dim %A, 0 : memref<?x?xf32>
  %K = tile.dim %A, 1 : memref<?x?xf32>
  %N = tile.dim %B, 1 : memref<?x?xf32>
  // CHECK: tile.parallel %i0 to %i1 = %zero to %M grain 8 {
  tile.parallel %i0 to %i1 = %zero to %M grain 8 {
    // CHECK-NEXT: tile.for %j, %nc = %zero to %N step 4096 {
    tile.for %j, %nc = %zero to %N step 4096 {
      // CHECK-NEXT: tile.for %k, %kc = %zero to %K step 512 balanced(8) pipeline(2) {
      tile.for %k, %kc = %zero to %K step 512 balanced(8) pipeline(2) {
        // CHECK-NEXT: %panel = tile.window %B[%k, %j] extent [%kc, %nc] : memref<?x?xf32> -> !tile.window<512x4096xf32>
        %panel = tile.window %B[%k, %j] extent [%kc, %nc] : memref<?x?xf32> -> !tile.window<512x4096xf32>
        // CHECK-NEXT: %packed = tile.stage %panel : !tile.window<512x4096xf32> -> !tile.buffer<512x4096xf32>
        %packed = tile.stage %panel : !tile.window<512x4096xf32> -> !tile.buffer<512x4096xf32>
        %later = arith.cmpi sgt, %k, %zero : index
        tile.for %i, %mc = %i0 to %i1 step 8 {
          // CHECK: %a = tile.window %A[%i, %k] extent [%mc, _] : memref<?x?xf32> -> !tile.window<8x512xf32>
          %a = tile.window %A[%i, %k] extent [%mc, _] : memref<?x?xf32> -> !tile.window<8x512xf32>
          // CHECK-NEXT: %b = tile.window %packed[0, %j + 1] : !tile.buffer<512x4096xf32> -> !tile.window<512x32xf32>
          %b = tile.window %packed[0, %j + 1] : !tile.buffer<512x4096xf32> -> !tile.window<512x32xf32>
          %c = tile.window %C[%i + %i0, %j] extent [%mc, %nc] : memref<?x?xf32> -> !tile.window<8x32xf32>
          // CHECK: %c0 = tile.load %c if %later else 0.0 : !tile.window<8x32xf32> -> !tile.tile<8x32xf32>
          %c0 = tile.load %c if %later else 0.0 : !tile.window<8x32xf32> -> !tile.tile<8x32xf32>
          // CHECK-NEXT: %c1 = tile.contract %a, %b, %c0 extent %kc intrinsic "x86.avx512.fma.1x16x1.f32" unroll 2 : !tile.window<8x512xf32>, !tile.window<512x32xf32> -> !tile.tile<8x32xf32>
          %c1 = tile.contract %a, %b, %c0 extent %kc intrinsic "x86.avx512.fma.1x16x1.f32" unroll 2
              : !tile.window<8x512xf32>, !tile.window<512x32xf32> -> !tile.tile<8x32xf32>
          // CHECK-NEXT: tile.store %c1, %c : !tile.tile<8x32xf32>, !tile.window<8x32xf32>
          tile.store %c1, %c : !tile.tile<8x32xf32>, !tile.window<8x32xf32>
        }
      }
    }
  }
  // CHECK: tile.return
  tile.return
}

// A kernel over a grid, with loop-carried tiles.
// CHECK-LABEL: tile.kernel @grid(%A : memref<?x?xbf16>, %n : index, %scale : f32) attributes {note = "kept"} {
tile.kernel @grid(%A : memref<?x?xbf16>, %n : index, %scale : f32) attributes {note = "kept"} {
  %zero = arith.constant 0 : index
  // CHECK: tile.parallel (%i, %j), (%mc, %nc) = (%zero, %zero) to (%n, %n) step (128, 256) raster 8 descending persistent 2 {
  // GENERIC: "tile.parallel"{{.*}}steps = array<i64: 128, 256>
  tile.parallel (%i, %j), (%mc, %nc) = (%zero, %zero) to (%n, %n) step (128, 256) raster 8 descending persistent 2 {
    %f = arith.constant 0.0 : f32
    // CHECK: %start = tile.splat %f : f32 -> !tile.tile<16x1xf32>
    %start = tile.splat %f : f32 -> !tile.tile<16x1xf32>
    // CHECK-NEXT: %sum = tile.for %k, %kc = %zero to %n step 64 iter_args(%acc = %start) -> (!tile.tile<16x1xf32>) pipeline(4) {
    %sum = tile.for %k, %kc = %zero to %n step 64 iter_args(%acc = %start) -> (!tile.tile<16x1xf32>) pipeline(4) {
      // CHECK-NEXT: %w = tile.window %A by affine_map<(d0, d1)[s0, s1] -> ((s0 + d1), ((s1 + d0) floordiv 2))> [%i, %k] extent [_, %kc] clip : memref<?x?xbf16> -> !tile.window<16x64xbf16>
      %w = tile.window %A by affine_map<(d0, d1)[s0, s1] -> (s0 + d1, (s1 + d0) floordiv 2)> [%i, %k] extent [_, %kc] clip
          : memref<?x?xbf16> -> !tile.window<16x64xbf16>
      // CHECK-NEXT: %t = tile.load %w pad -inf : !tile.window<16x64xbf16> -> !tile.tile<16x64xbf16>
      %t = tile.load %w pad -inf : !tile.window<16x64xbf16> -> !tile.tile<16x64xbf16>
      // CHECK-NEXT: %wide = tile.map (%t, %acc : !tile.tile<16x64xbf16>, !tile.tile<16x1xf32>) -> !tile.tile<16x64xf32> {
      // CHECK-NEXT: ^bb0(%x: bf16, %y: f32):
      %wide = tile.map (%t, %acc : !tile.tile<16x64xbf16>, !tile.tile<16x1xf32>) -> !tile.tile<16x64xf32> {
      ^bb0(%x : bf16, %y : f32):
        %e = arith.extf %x : bf16 to f32
        %r = arith.mulf %e, %scale : f32
        tile.yield %r : f32
      }
      // CHECK: %masked = tile.mask %wide extent [_, %kc] else -0.1 : !tile.tile<16x64xf32>
      %masked = tile.mask %wide extent [_, %kc] else -0.1 : !tile.tile<16x64xf32>
      // CHECK-NEXT: %next = tile.reduce add %masked into %acc dims [1] extent [%kc] : !tile.tile<16x64xf32> -> !tile.tile<16x1xf32>
      %next = tile.reduce add %masked into %acc dims [1] extent [%kc] : !tile.tile<16x64xf32> -> !tile.tile<16x1xf32>
      // CHECK-NEXT: tile.yield %next : !tile.tile<16x1xf32>
      tile.yield %next : !tile.tile<16x1xf32>
    }
    // CHECK: %all = tile.reduce max %sum dims [0, 1] : !tile.tile<16x1xf32> -> !tile.tile<1x1xf32>
    %all = tile.reduce max %sum dims [0, 1] : !tile.tile<16x1xf32> -> !tile.tile<1x1xf32>
    // CHECK-NEXT: %turned = tile.transpose %sum [1, 0] : !tile.tile<16x1xf32> -> !tile.tile<1x16xf32>
    %turned = tile.transpose %sum [1, 0] : !tile.tile<16x1xf32> -> !tile.tile<1x16xf32>
    // CHECK-NEXT: %flat = tile.reshape %turned : !tile.tile<1x16xf32> -> !tile.tile<16xf32>
    %flat = tile.reshape %turned : !tile.tile<1x16xf32> -> !tile.tile<16xf32>
    // CHECK-NEXT: %staged = tile.stage %sum : !tile.tile<16x1xf32> -> !tile.buffer<16x1xf32>
    %staged = tile.stage %sum : !tile.tile<16x1xf32> -> !tile.buffer<16x1xf32>
  }
  tile.return
}

// Gather and scatter through a tile of indices.
// CHECK-LABEL: tile.kernel @gather
tile.kernel @gather(%A : memref<?x?xf32>, %rows : memref<?xindex>, %n : index) {
  // CHECK: %places = tile.iota dim 0 start %n : !tile.tile<128x1xindex>
  %places = tile.iota dim 0 start %n : !tile.tile<128x1xindex>
  // CHECK-NEXT: %w = tile.window %A[%places : !tile.tile<128x1xindex>, %n] extent [%n, _] : memref<?x?xf32> -> !tile.window<128x64xf32>
  %w = tile.window %A[%places : !tile.tile<128x1xindex>, %n] extent [%n, _] : memref<?x?xf32> -> !tile.window<128x64xf32>
  %i = tile.iota dim 1 : !tile.tile<4x8xi32>
  tile.return
}

// Scratch that is written and read, and a store past the caches.
// CHECK-LABEL: tile.kernel @scratch
tile.kernel @scratch(%A : memref<?x?xf32>, %n : index, %large : i1) {
  // CHECK: %row = tile.alloc : !tile.buffer<1x512xf32>
  %row = tile.alloc : !tile.buffer<1x512xf32>
  %w = tile.window %A[%n, %n] : memref<?x?xf32> -> !tile.window<1x64xf32>
  %t = tile.load %w : !tile.window<1x64xf32> -> !tile.tile<1x64xf32>
  %kept = tile.window %row[0, %n] : !tile.buffer<1x512xf32> -> !tile.window<1x64xf32>
  tile.store %t, %kept : !tile.tile<1x64xf32>, !tile.window<1x64xf32>
  // CHECK: tile.store %t, %w nontemporal if %large : !tile.tile<1x64xf32>, !tile.window<1x64xf32>
  tile.store %t, %w nontemporal if %large : !tile.tile<1x64xf32>, !tile.window<1x64xf32>
  tile.return
}

// The host side.
// CHECK-LABEL: func.func @main
func.func @main(%a: memref<4x?xbf16>, %n: index, %s: f32) {
  // CHECK: tile.launch @grid(%a, %n, %s : memref<4x?xbf16>, index, f32) {stage = 1 : i64}
  tile.launch @grid(%a, %n, %s : memref<4x?xbf16>, index, f32) {stage = 1}
  func.return
}
