// RUN: crosstile-opt %s --nest-to-tile | filecheck %s

// Loops as the schedule lists them; the rhs is staged once n and k are entered, the chain goes on in the result, and
// the epilogue runs after the last block of k. Whole register tiles have no extents, so that no load has a mask.

// CHECK-LABEL: tile.kernel @product_relu(%a : memref<?x?xf32>, %b : memref<?x?xf32>, %bias : memref<?xf32>, %r : memref<?x?xf32>) {
// CHECK:         tile.parallel %begin to %end = %{{.*}} grain 4 {
// CHECK:           tile.for %n, %n_extent = {{.*}} step 4096 {
// CHECK:             tile.for %k, %k_extent = {{.*}} step 512 balanced(8) {
// CHECK:               %[[WINDOW:.*]] = tile.window %b[%k, %n] extent [%[[KC:.*]], %n_extent] : memref<?x?xf32> -> !tile.window<512x4096xf32>
// CHECK:               %[[PACKED:.*]] = tile.stage %[[WINDOW]]
// CHECK-DAG:           %[[LAST:.*]] = arith.cmpi sge
// CHECK-DAG:           %[[CONTINUED:.*]] = arith.cmpi sgt, %k
// CHECK:               tile.for %m, %m_extent = {{.*}} step 256 {
// CHECK:                 tile.for %n_1, %n_extent_1 = {{.*}} to %n_extent step 64 {
// CHECK:                   tile.for %m_1, %m_extent_1 = {{.*}} to %m_extent step 4 {
// CHECK:                     %[[ROWS:.*]] = arith.cmpi sge, %m_extent_1, %{{.*}}
// CHECK:                     %[[WHOLE:.*]] = arith.andi %[[ROWS]], %{{.*}}
// CHECK:                     scf.if %[[WHOLE]] {
// CHECK-NEXT:                  tile.window %r[%begin + %m + %m_1, %n + %n_1] : memref
// CHECK:                     } else {
// CHECK:                     %[[C:.*]] = tile.window %r[%begin + %m + %m_1, %n + %n_1] extent [%m_extent_1, %n_extent_1]
// CHECK:                     %[[OLD:.*]] = tile.load %[[C]] if %[[CONTINUED]] else 0.0
// CHECK:                     %[[A:.*]] = tile.window %a[%begin + %m + %m_1, %k] extent [%m_extent_1, %[[KC]]]
// CHECK:                     %[[B:.*]] = tile.window %[[PACKED]][0, %n_1] extent [%[[KC]], %n_extent_1]
// CHECK:                     %[[NEW:.*]] = tile.contract %[[A]], %[[B]], %[[OLD]] extent %[[KC]] intrinsic "x86.avx512.fma.1x16x1.f32"
// CHECK:                     scf.if %[[LAST]] {
// CHECK:                       tile.load
// CHECK:                       %[[SUM:.*]] = tile.map (%[[NEW]], %{{.*}} : !tile.tile<4x64xf32>, !tile.tile<1x64xf32>)
// CHECK:                       tile.store %{{.*}}, %[[C]]
// CHECK:                     } else {
// CHECK-NEXT:                  tile.store %[[NEW]], %[[C]]
// CHECK-LABEL: func.func @main(%x: memref<?x?xf32>, %w: memref<?x?xf32>, %v: memref<?xf32>, %{{.*}}: memref<?x?xf32>)
// CHECK-SAME:    crosstile.inputs = 3 : index
// CHECK-SAME:    crosstile.result_shapes = [affine_map<()[s0, s1, s2, s3, s4] -> (s0, s3)>]
// CHECK-SAME:    crosstile.operations = [affine_map<()[s0, s1, s2, s3, s4] -> (2, s0, s3, s1)>, affine_map<()[s0, s1, s2, s3, s4] -> (2, s0, s3)>]
// CHECK:         cf.assert %{{.*}}, "dimension 0 of argument 2 ('v') must be dimension 1 of argument 1 ('w')"
// CHECK:         %[[ROWS:.*]] = memref.dim %w, %{{.*}}
// CHECK:         %[[COLUMNS:.*]] = memref.dim %x, %{{.*}}
// CHECK:         arith.cmpi eq, %[[ROWS]], %[[COLUMNS]]
// CHECK:         cf.assert %{{.*}}, "dimension 0 of argument 1 ('w') must be dimension 1 of argument 0 ('x')"
// CHECK:         tile.launch @product_relu(%x, %w, %v, %
func.func @main(%x : tensor<?x?xf32>, %w : tensor<?x?xf32>, %v : tensor<?xf32>) -> tensor<?x?xf32> {
  %y = nest.kernel @product_relu (%a = %x : tensor<?x?xf32>, %b = %w : tensor<?x?xf32>, %bias = %v : tensor<?xf32>) -> (tensor<?x?xf32>)
      schedules [#nest.schedule<loops = [n : 4096, k : 512 balanced 8, m : 256, n : 64, m : 4], parallel = m grain 4,
                                lane = n, stage = [1], intrinsic = "x86.avx512.fma.1x16x1.f32">] {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (m, k), %b (k, n) : tensor<?x?xf32>, tensor<?x?xf32>) -> (m, n) : tensor<?x?xf32> {
    ^bb0(%p : f32, %q : f32):
      %t = arith.mulf %p, %q : f32
      nest.yield %t : f32
    }
    %r = nest.generic [m : parallel, n : parallel]
        ins(%c (m, n), %bias (n) : tensor<?x?xf32>, tensor<?xf32>) -> (m, n) : tensor<?x?xf32> {
    ^bb0(%p : f32, %q : f32):
      %zero = arith.constant 0.0 : f32
      %s = arith.addf %p, %q : f32
      %t = arith.maximumf %s, %zero : f32
      nest.yield %t : f32
    }
    nest.yield %r : tensor<?x?xf32>
  }
  func.return %y : tensor<?x?xf32>
}

// A result whose last axis is the first input's: the inputs trade places, and nothing is staged unless it is listed.
// k fits one block: no condition, and the chain starts from zero.

// CHECK-LABEL: tile.kernel @swapped
// CHECK:         %[[ZERO:.*]] = tile.splat
// CHECK:         %[[W:.*]] = tile.window %b[%begin + %n, %k]
// CHECK:         %[[X:.*]] = tile.window %a by affine_map<{{.*}}> [%m, %k]
// CHECK:         tile.contract %[[W]], %[[X]], %[[ZERO]]
// CHECK-NOT:     scf.if
func.func @swapped(%x : tensor<100x64xf32>, %w : tensor<10x64xf32>) -> tensor<10x100xf32> {
  %y = nest.kernel @swapped (%a = %x : tensor<100x64xf32>, %b = %w : tensor<10x64xf32>) -> (tensor<10x100xf32>)
      schedules [#nest.schedule<loops = [k : 64, m : 16, n : 4], parallel = n grain 4, lane = m,
                                intrinsic = "x86.avx512.fma.1x16x1.f32">] {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (m, k), %b (n, k) : tensor<100x64xf32>, tensor<10x64xf32>) -> (n, m) : tensor<10x100xf32> {
    ^bb0(%p : f32, %q : f32):
      %t = arith.mulf %p, %q : f32
      nest.yield %t : f32
    }
    nest.yield %c : tensor<10x100xf32>
  }
  func.return %y : tensor<10x100xf32>
}

// The last columns, where they are no more than 48, have a register tile of 48 columns; whole tiles take two steps of k.

// CHECK-LABEL: tile.kernel @rest
// CHECK:         %[[FEW:.*]] = arith.cmpi sle, %n_extent, %{{.*}} : index
// CHECK:         scf.if %{{.*}} {
// CHECK:           tile.contract %{{.*}} intrinsic "x86.avx512.fma.1x16x1.f32" unroll 2 : {{.*}} -> !tile.tile<6x64xf32>
// CHECK:         } else {
// CHECK-NEXT:      scf.if %[[FEW]] {
// CHECK:             tile.window %{{.*}}[0, 0] extent [_, %n_extent] : !tile.buffer<100x64xf32> -> !tile.window<100x48xf32>
// CHECK:             tile.contract %{{.*}} unroll 2 : {{.*}} -> !tile.tile<6x48xf32>
// CHECK:           } else {
// CHECK:             tile.contract %{{.*}} intrinsic "x86.avx512.fma.1x16x1.f32" : {{.*}} -> !tile.tile<6x64xf32>
func.func @rest(%x : tensor<?x100xf32>, %w : tensor<100x?xf32>) -> tensor<?x?xf32> {
  %y = nest.kernel @rest (%a = %x : tensor<?x100xf32>, %b = %w : tensor<100x?xf32>) -> (tensor<?x?xf32>)
      schedules [#nest.schedule<loops = [k : 100, n : 64, m : 6], lane = n, stage = [1],
                                intrinsic = "x86.avx512.fma.1x16x1.f32", unroll = 2, rest = 48>] {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (m, k), %b (k, n) : tensor<?x100xf32>, tensor<100x?xf32>) -> (m, n) : tensor<?x?xf32> {
    ^bb0(%p : f32, %q : f32):
      %t = arith.mulf %p, %q : f32
      nest.yield %t : f32
    }
    nest.yield %c : tensor<?x?xf32>
  }
  func.return %y : tensor<?x?xf32>
}

// A packed right factor's next block of k is fetched meanwhile: in every step a line of each of two places that are 16 rows
// of the panel apart; tiles of rows take turns with the places.

!w = tensor<?x?xf32, affine_map<(d0, d1) -> (d1 floordiv 64, d0, d1 mod 64)>>

// CHECK-LABEL: tile.kernel @ahead
// CHECK:         tile.for %k, %k_extent = {{.*}} step 64 balanced(8) {
// CHECK:           tile.for %m, %{{.*}} step 4 {
// CHECK:             tile.window %b by affine_map<(d0, d1)[s0, s1] -> ((s0 + ((d0 floordiv 4) + (d1 * 16))), (s1 + ((d0 mod 4) * 16)))>
// CHECK-SAME:          -> !tile.window<64x2xf32>
// CHECK:             tile.contract %{{.*}} unroll 2 ahead %
func.func @ahead(%x : tensor<?x?xf32>, %w : !w) -> tensor<?x?xf32> {
  %y = nest.kernel @ahead (%a = %x : tensor<?x?xf32>, %b = %w : !w) -> (tensor<?x?xf32>)
      schedules [#nest.schedule<loops = [n : 64, k : 64 balanced 8, m : 4], lane = n,
                                intrinsic = "x86.avx512.fma.1x16x1.f32", unroll = 2, prefetch = 16384>] {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (m, k), %b (k, n) : tensor<?x?xf32>, !w) -> (m, n) : tensor<?x?xf32> {
    ^bb0(%p : f32, %q : f32):
      %t = arith.mulf %p, %q : f32
      nest.yield %t : f32
    }
    nest.yield %c : tensor<?x?xf32>
  }
  func.return %y : tensor<?x?xf32>
}
