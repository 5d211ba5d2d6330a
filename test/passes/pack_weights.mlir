// RUN: crosstile-opt %s --pack-weights="target=x86-64-avx512-bf16 arguments=true" --choose-schedule=target=x86-64-avx512 | filecheck %s
// RUN: crosstile-opt %s --pack-weights=target=x86-64-avx512 | filecheck %s --check-prefix=CONSTANTS
// RUN: crosstile-opt %s --pack-weights="target=x86-64-amx arguments=true" --choose-schedule=target=x86-64-amx | filecheck %s --check-prefix=TILES

// A weight is laid out in panels as wide as the register tile, row by row. Every schedule reads the same panels and stages
// nothing; few rows walk through them one after the other, more than a register tile's a block at a time, and fetch the next.

// CHECK-LABEL: func.func @product
// CHECK-SAME:    %w: tensor<?x?xf32, affine_map<(d0, d1) -> ((d1 floordiv 64), d0, (d1 mod 64))>> {nn.weight}
// CHECK:         nest.kernel @product
// CHECK-SAME:    %b = %w : tensor<?x?xf32, affine_map<(d0, d1) -> ((d1 floordiv 64), d0, (d1 mod 64))>>
// CHECK-SAME:    schedules [m <= 1 : #nest.schedule<loops = [n : 64, k : 4096 balanced 8, m : 1],
// CHECK-SAME:      m <= 4 : #nest.schedule<loops = [n : 64, k : 4096 balanced 8, m : 4],
// CHECK-SAME:      m <= 16 : #nest.schedule<loops = [n : 64, k : 64 balanced 8, m : 4],{{.*}}, prefetch = 16384>
// CHECK-NOT:     stage
// CHECK:           nest.generic
// CONSTANTS-LABEL: func.func @product
// CONSTANTS-SAME:    %w: tensor<?x?xf32> {nn.weight}
func.func @product(%x : tensor<?x?xf32>, %w : tensor<?x?xf32> {nn.weight}) -> tensor<?x?xf32> {
  %y = nest.kernel @product (%a = %x : tensor<?x?xf32>, %b = %w : tensor<?x?xf32>) -> (tensor<?x?xf32>) {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (m, k), %b (k, n) : tensor<?x?xf32>, tensor<?x?xf32>) -> (m, n) : tensor<?x?xf32> {
    ^bb0(%p : f32, %q : f32):
      %t = arith.mulf %p, %q : f32
      nest.yield %t : f32
    }
    nest.yield %c : tensor<?x?xf32>
  }
  func.return %y : tensor<?x?xf32>
}

// Instructions that take words of two bf16 find them together. A transposed weight has the same panels.

// CHECK-LABEL: func.func @words
// CHECK-SAME:    %w: tensor<96x?xbf16, affine_map<(d0, d1) -> ((d0 floordiv 32), (d1 floordiv 2), (d0 mod 32), (d1 mod 2))>> {nn.weight}
func.func @words(%x : tensor<?x?xbf16>, %w : tensor<96x?xbf16> {nn.weight}) -> tensor<?x96xf32> {
  %y = nest.kernel @words (%a = %x : tensor<?x?xbf16>, %b = %w : tensor<96x?xbf16>) -> (tensor<?x96xf32>)
      schedules [#nest.schedule<loops = [n : 96, k : 512 balanced 8, m : 64, n : 32, m : 8], parallel = m, lane = n,
                                stage = [1], intrinsic = "x86.avx512.vdpbf16ps.1x16x2.f32.bf16">] {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (m, k), %b (n, k) : tensor<?x?xbf16>, tensor<96x?xbf16>) -> (m, n) : tensor<?x96xf32> {
    ^bb0(%p : bf16, %q : bf16):
      %e = arith.extf %p : bf16 to f32
      %f = arith.extf %q : bf16 to f32
      %t = arith.mulf %e, %f : f32
      nest.yield %t : f32
    }
    nest.yield %c : tensor<?x96xf32>
  }
  func.return %y : tensor<?x96xf32>
}

// A constant is written in its layout at compile time, with nothing asked for.

// CONSTANTS-LABEL: func.func @constant
// CONSTANTS:         %w = arith.constant dense<{{.*}}> : tensor<3x2xf32, affine_map<(d0, d1) -> ((d1 floordiv 16), d0, (d1 mod 16))>>
// CONSTANTS:         nest.kernel @constant (%a = %x : tensor<?x3xf32>, %b = %w : tensor<3x2xf32, affine_map
func.func @constant(%x : tensor<?x3xf32>) -> tensor<?x2xf32> {
  %w = arith.constant dense<[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]> : tensor<3x2xf32>
  %y = nest.kernel @constant (%a = %x : tensor<?x3xf32>, %b = %w : tensor<3x2xf32>) -> (tensor<?x2xf32>) {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (m, k), %b (k, n) : tensor<?x3xf32>, tensor<3x2xf32>) -> (m, n) : tensor<?x2xf32> {
    ^bb0(%p : f32, %q : f32):
      %t = arith.mulf %p, %q : f32
      nest.yield %t : f32
    }
    nest.yield %c : tensor<?x2xf32>
  }
  func.return %y : tensor<?x2xf32>
}

// What something else than a product reads as well stays as it is.

// CHECK-LABEL: func.func @returned
// CHECK-SAME:    %w: tensor<?x?xf32> {nn.weight}
func.func @returned(%x : tensor<?x?xf32>, %w : tensor<?x?xf32> {nn.weight}) -> (tensor<?x?xf32>, tensor<?x?xf32>) {
  %y = nest.kernel @returned (%a = %x : tensor<?x?xf32>, %b = %w : tensor<?x?xf32>) -> (tensor<?x?xf32>) {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (m, k), %b (k, n) : tensor<?x?xf32>, tensor<?x?xf32>) -> (m, n) : tensor<?x?xf32> {
    ^bb0(%p : f32, %q : f32):
      %t = arith.mulf %p, %q : f32
      nest.yield %t : f32
    }
    nest.yield %c : tensor<?x?xf32>
  }
  func.return %y, %w : tensor<?x?xf32>, tensor<?x?xf32>
}

// A tile unit finds its registers one after the other, 32 of k in each, and blocks of k one after the other.

// TILES-LABEL: func.func @tile_unit
// TILES-SAME:    %w: tensor<?x?xbf16, affine_map<(d0, d1) -> ((d1 floordiv 256), (d0 floordiv 32), ((d0 mod 32) floordiv 16), ((d1 mod 256) floordiv 32), ((d1 mod 32) floordiv 2), (d0 mod 16), (d1 mod 2))>> {nn.weight}
// TILES:         nest.kernel @tile_unit
// TILES-SAME:    schedules [m <= 16 : #nest.schedule<loops = [n : 1024, k : 256, m : 16, n : 32], parallel = n grain 32, lane = n, stage = [0],
func.func @tile_unit(%x : tensor<?x?xbf16>, %w : tensor<?x?xbf16> {nn.weight}) -> tensor<?x?xf32> {
  %y = nest.kernel @tile_unit (%a = %x : tensor<?x?xbf16>, %b = %w : tensor<?x?xbf16>) -> (tensor<?x?xf32>) {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (m, k), %b (n, k) : tensor<?x?xbf16>, tensor<?x?xbf16>) -> (m, n) : tensor<?x?xf32> {
    ^bb0(%p : bf16, %q : bf16):
      %e = arith.extf %p : bf16 to f32
      %f = arith.extf %q : bf16 to f32
      %t = arith.mulf %e, %f : f32
      nest.yield %t : f32
    }
    nest.yield %c : tensor<?x?xf32>
  }
  func.return %y : tensor<?x?xf32>
}
