// RUN: crosstile-opt %s --split-input-file --decompose --canonicalize --nn-to-nest --fuse --fuse-attention --fuse-row-chains=target=x86-64-avx512 | filecheck %s
// RUN: crosstile-opt %s --split-input-file --decompose --canonicalize --nn-to-nest --fuse --fuse-attention --fuse-row-chains=target=sm_80 | filecheck %s --check-prefix=WARPS
// RUN: crosstile-opt %s --split-input-file --decompose --canonicalize --nn-to-nest --fuse --fuse-row-chains=target=x86-64-avx512 --choose-schedule=target=x86-64-avx512 | filecheck %s --check-prefix=SCHEDULE

// A softmax whose sum stays in order, between two products: one kernel of the same nests. Its rows wait in scratch if
// they are not too long.

// CHECK-LABEL: func.func @in_order
// CHECK:         nest.kernel @matmul_softmax_matmul
// CHECK:           %[[S:.*]] = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add>
// CHECK:           nest.generic [m : parallel, n : reduction] combiner<max> accumulate f32 ins(%[[S]]
// CHECK:           math.exp
// CHECK:           nest.generic [m : parallel, n : reduction] combiner<add>
// CHECK:           arith.divf
// CHECK:           nest.generic [m : parallel, n1 : parallel, n : reduction] combiner<add>
// CHECK-NOT:     nest.kernel
// WARPS-LABEL: func.func @in_order
// WARPS-COUNT-3: nest.kernel
// SCHEDULE-LABEL: func.func @in_order
// SCHEDULE:      m <= 16 and n <= 8192 : #nest.schedule<loops = [m : 16, n : 64, k : 64, n1 : 64], grid = [m], lane = m, stage = [0], {{.*}} keep = 8192>
// SCHEDULE-SAME: n <= 2688 : #nest.schedule<loops = [m : 48, n : 64, k : 64, n1 : 64], grid = [m], lane = m, stage = [0], {{.*}} keep = 2688>
func.func @in_order(%q: tensor<?x64xf32>, %k: tensor<?x64xf32>, %v: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %s = nn.matmul %q, %k {transpose_b} accumulate f32 : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x?xf32>
  %w = nn.softmax %s dim 1 fastmath<none> : tensor<?x?xf32>
  %y = nn.matmul %w, %v accumulate f32 : tensor<?x?xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
  func.return %y : tensor<?x64xf32>
}

// -----

// A norm in order, and what follows the second product.

// CHECK-LABEL: func.func @norm
// CHECK-COUNT-1: nest.kernel
// CHECK-NOT:     nest.kernel
func.func @norm(%x: tensor<?x64xf32>, %a: tensor<64x96xf32>, %g: tensor<96xf32>, %b: tensor<96x64xf32>) -> tensor<?x64xf32> {
  %s = nn.matmul %x, %a accumulate f32 : tensor<?x64xf32>, tensor<64x96xf32>
  %n = nn.rms_norm %s, %g epsilon 1.0e-5 fastmath<none> : tensor<?x96xf32>, tensor<96xf32>
  %p = nn.matmul %n, %b accumulate f32 : tensor<?x96xf32>, tensor<96x64xf32>
  %y = nn.add %p, %x : tensor<?x64xf32>, tensor<?x64xf32>
  func.return %y : tensor<?x64xf32>
}

// -----

// Where lanes may share the sum of a row, products have kernels that are blocked for caches.

// CHECK-LABEL: func.func @any_order
// CHECK-COUNT-3: nest.kernel
func.func @any_order(%x: tensor<?x64xf32>, %a: tensor<64x96xf32>, %g: tensor<96xf32>, %b: tensor<96x64xf32>) -> tensor<?x64xf32> {
  %s = nn.matmul %x, %a accumulate f32 : tensor<?x64xf32>, tensor<64x96xf32>
  %n = nn.rms_norm %s, %g epsilon 1.0e-5 : tensor<?x96xf32>, tensor<96xf32>
  %y = nn.matmul %n, %b accumulate f32 : tensor<?x96xf32>, tensor<96x64xf32>
  func.return %y : tensor<?x64xf32>
}

// -----

// The weights are wanted as well, so they are in memory: the kernels stay apart.

// CHECK-LABEL: func.func @weights
// CHECK-COUNT-3: nest.kernel
func.func @weights(%q: tensor<?x64xf32>, %k: tensor<?x64xf32>) -> (tensor<?x64xf32>, tensor<?x?xf32>) {
  %s = nn.matmul %q, %k {transpose_b} accumulate f32 : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x?xf32>
  %w = nn.softmax %s dim 1 fastmath<none> : tensor<?x?xf32>
  %y = nn.matmul %w, %k accumulate f32 : tensor<?x?xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
  func.return %y, %w : tensor<?x64xf32>, tensor<?x?xf32>
}

// -----

// A head of unknown size would have to be whole in a block.

// CHECK-LABEL: func.func @unknown_head
// CHECK-COUNT-3: nest.kernel
func.func @unknown_head(%q: tensor<?x?xf32>, %k: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %s = nn.matmul %q, %k {transpose_b} accumulate f32 : tensor<?x?xf32>, tensor<?x?xf32> -> tensor<?x?xf32>
  %w = nn.softmax %s dim 1 fastmath<none> : tensor<?x?xf32>
  %y = nn.matmul %w, %k accumulate f32 : tensor<?x?xf32>, tensor<?x?xf32> -> tensor<?x?xf32>
  func.return %y : tensor<?x?xf32>
}
