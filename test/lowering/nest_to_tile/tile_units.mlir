// RUN: crosstile-opt %s --nest-to-tile | filecheck %s

// A product on tile registers with an epilogue: the product goes to scratch and is read from there, a few rows at a
// time. Blocks of k are whole instructions.

// CHECK-LABEL: tile.kernel @matmul_relu
// CHECK: tile.for %k, %{{.*}} = %{{.*}} to %{{.*}} step 512 balanced(32) {
// CHECK:   %[[PRODUCT:.*]] = tile.contract
// CHECK-SAME: -> !tile.tile<32x32xf32>
// CHECK:   %[[BUFFER:.*]] = tile.stage %[[PRODUCT]] : !tile.tile<32x32xf32> -> !tile.buffer<32x32xf32>
// CHECK:   tile.for %[[ROW:.*]], %{{.*}} = %{{.*}} to %{{.*}} step 4 {
// CHECK:     tile.window %[[BUFFER]][%[[ROW]], 0]{{.*}} : !tile.buffer<32x32xf32> -> !tile.window<4x32xf32>
// CHECK:     tile.map
// CHECK:     tile.store
func.func @main(%x: tensor<?x?xbf16>, %w: tensor<?x?xbf16>) -> tensor<?x?xf32> {
  %y = nest.kernel @matmul_relu (%a = %x : tensor<?x?xbf16>, %b = %w : tensor<?x?xbf16>) -> (tensor<?x?xf32>)
      schedules [#nest.schedule<loops = [n : 1024, k : 512 balanced 8, m : 32, n : 32], parallel = m grain 32, lane = n,
                                stage = [0, 1], intrinsic = "x86.amx.tdpbf16ps.16x16x32.f32.bf16">] {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
        ins(%a (m, k), %b (k, n) : tensor<?x?xbf16>, tensor<?x?xbf16>) -> (m, n) : tensor<?x?xf32> {
    ^bb0(%p: bf16, %q: bf16):
      %u = arith.extf %p : bf16 to f32
      %v = arith.extf %q : bf16 to f32
      %t = arith.mulf %u, %v : f32
      nest.yield %t : f32
    }
    %r = nest.generic [m : parallel, n : parallel] ins(%c (m, n) : tensor<?x?xf32>) -> (m, n) : tensor<?x?xf32> {
    ^bb0(%s: f32):
      %zero = arith.constant 0.0 : f32
      %t = arith.maximumf %s, %zero : f32
      nest.yield %t : f32
    }
    nest.yield %r : tensor<?x?xf32>
  }
  func.return %y : tensor<?x?xf32>
}
