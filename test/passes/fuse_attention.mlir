// RUN: crosstile-opt %s --decompose --canonicalize --nn-to-nest --fuse --fuse-attention --split-input-file | filecheck %s
// RUN: crosstile-opt %s --decompose --canonicalize --nn-to-nest --fuse --fuse-attention=target=sm_80 --split-input-file | filecheck %s --check-prefix=WARPS

// The named operator: scores and mask, one fold over the keys, one quotient behind it.

// CHECK-LABEL: func.func @named
// CHECK:         nest.kernel @attention (%q_1 = %q : tensor<?x8x?x64xf32>, %k_1 = %k : tensor<?x8x?x64xf32>, %[[SHIFT:.*]] = %{{.*}} : tensor<index>, %v_1 = %v
// CHECK-NEXT:      %[[S:.*]] = nest.generic [b0 : parallel, b1 : parallel, m : parallel, n : parallel, k : reduction] combiner<add>
// CHECK:           %[[MASKED:.*]] = nest.generic [b0 : parallel, b1 : parallel, m : parallel, n : parallel] ins(%[[S]] (b0, b1, m, n), %[[SHIFT]] () :
// CHECK:             arith.select
// CHECK:           %maximum, %total, %weighted = nest.generic [b0 : parallel, b1 : parallel, m : parallel, e : payload, n : reduction] combiner<softmax_weighted_sum> accumulate f32 fastmath<reassoc> ins(%[[MASKED]] (b0, b1, m, n), %v_1 (b0, b1, n, e) :
// CHECK-SAME:        -> (b0, b1, m, 0) : tensor<?x8x?x1xf32>, (b0, b1, m, 0) : tensor<?x8x?x1xf32>, (b0, b1, m, e) : tensor<?x8x?x64xf32>
// CHECK:           %[[FLOOR:.*]] = nest.generic {{.*}} ins(%total
// CHECK:             arith.maximumf
// CHECK:           nest.generic [b0 : parallel, b1 : parallel, m : parallel, e : parallel] ins(%weighted (b0, b1, m, e), %[[FLOOR]] (b0, b1, m, 0) :
// CHECK:             arith.divf
// CHECK-NOT:     nest.kernel
// CHECK:         func.return
func.func @named(%q: tensor<?x8x?x64xf32>, %k: tensor<?x8x?x64xf32>, %v: tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32> {
  %y = nn.attention %q, %k, %v causal accumulate f32
      : tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>
  func.return %y : tensor<?x8x?x64xf32>
}

// -----

// Written with contractions and a softmax, with a bias and a soft cap: the same kernel. Nothing raises the total, so the
// answer without keys is selected.

// CHECK-LABEL: func.func @soft_cap
// CHECK:         %[[N:.*]] = tensor.dim %v, %{{.*}}
// CHECK:         %[[KEYS:.*]] = tensor.from_elements %[[N]] : tensor<index>
// CHECK-NEXT:    nest.kernel @attention (
// CHECK-NEXT:      nest.generic [{{.*}}] combiner<add>
// CHECK:             arith.mulf
// CHECK:             math.tanh
// CHECK:             arith.addf
// CHECK:           nest.generic [{{.*}}] combiner<softmax_weighted_sum>
// CHECK:             arith.divf
// CHECK:             arith.cmpi sgt
// CHECK-NEXT:        arith.select
// CHECK-NOT:     nest.kernel
// CHECK:         func.return
func.func @soft_cap(%q: tensor<?x?x64xf32>, %k: tensor<?x?x64xf32>, %v: tensor<?x?x32xf32>, %b: tensor<?x?xf32>)
    -> tensor<?x?x32xf32> {
  %cap = nn.constant dense<30.0> : tensor<f32>
  %s = nn.batch_matmul %q, %k {transpose_b} accumulate f32
      : tensor<?x?x64xf32>, tensor<?x?x64xf32> -> tensor<?x?x?xf32>
  %r = nn.div %s, %cap : tensor<?x?x?xf32>, tensor<f32>
  %t = nn.tanh %r : tensor<?x?x?xf32>
  %c = nn.mul %t, %cap : tensor<?x?x?xf32>, tensor<f32>
  %d = nn.add %c, %b : tensor<?x?x?xf32>, tensor<?x?xf32>
  %w = nn.softmax %d dim 2 : tensor<?x?x?xf32>
  %y = nn.batch_matmul %w, %v accumulate f32 : tensor<?x?x?xf32>, tensor<?x?x32xf32> -> tensor<?x?x32xf32>
  func.return %y : tensor<?x?x32xf32>
}

// -----

// Written with primitives only, the weights by a reciprocal, what follows joined: the same kernel.

// CHECK-LABEL: func.func @primitives
// CHECK:         nest.kernel @attention (
// CHECK:           combiner<softmax_weighted_sum>
// CHECK:             arith.divf
// CHECK:             arith.mulf
// CHECK:             arith.addf
// CHECK-NOT:     nest.kernel
// CHECK:         func.return
func.func @primitives(%q: tensor<?x16xf32>, %k: tensor<40x16xf32>, %v: tensor<40x16xf32>, %r: tensor<?x16xf32>)
    -> tensor<?x16xf32> {
  %one = nn.constant dense<1.0> : tensor<f32>
  %s = nn.contract [m, n, k] %q (m, k), %k (n, k) -> (m, n) accumulate f32 : tensor<?x16xf32>, tensor<40x16xf32>
      -> tensor<?x40xf32>
  %m = nn.reduce max %s dims [1] keep_dims : tensor<?x40xf32> -> tensor<?x1xf32>
  %d = nn.sub %s, %m : tensor<?x40xf32>, tensor<?x1xf32> -> tensor<?x40xf32>
  %e = nn.exp %d : tensor<?x40xf32>
  %l = nn.reduce add %e dims [1] keep_dims : tensor<?x40xf32> -> tensor<?x1xf32>
  %i = nn.div %one, %l : tensor<f32>, tensor<?x1xf32> -> tensor<?x1xf32>
  %w = nn.mul %e, %i : tensor<?x40xf32>, tensor<?x1xf32> -> tensor<?x40xf32>
  %y = nn.contract [m, n, k] %w (m, k), %v (k, n) -> (m, n) accumulate f32 : tensor<?x40xf32>, tensor<40x16xf32>
      -> tensor<?x16xf32>
  %z = nn.add %y, %r : tensor<?x16xf32>, tensor<?x16xf32>
  func.return %z : tensor<?x16xf32>
}

// -----

// In bf16: scores and sums are f32, and nobody rounds the weights of a row before the kernel that multiplies them does.

// CHECK-LABEL: func.func @narrow
// CHECK:         nest.kernel @attention (
// CHECK:           %maximum, %total, %weighted = nest.generic {{.*}} combiner<softmax_weighted_sum> accumulate f32 fastmath<reassoc> ins(%{{.*}}, %v_1 (0, b1, n, e) : tensor<1x2x?x?xf32>, tensor<1x2x?x8xbf16>)
// CHECK-SAME:        (0, b1, m, e) : tensor<1x2x?x8xf32>
// CHECK-NEXT:      ^bb0(%[[SCORE:.*]]: f32, %[[VALUE:.*]]: bf16):
// CHECK-NEXT:        nest.yield %[[SCORE]], %[[VALUE]] : f32, bf16
// CHECK:             %[[QUOTIENT:.*]] = arith.divf
// CHECK-NEXT:        nest.yield %[[QUOTIENT]] : f32
// CHECK:             arith.truncf
// CHECK-NOT:     nest.kernel
// CHECK:         func.return
func.func @narrow(%q: tensor<1x2x?x8xbf16>, %k: tensor<1x2x?x8xbf16>, %v: tensor<1x2x?x8xbf16>) -> tensor<1x2x?x8xbf16> {
  %y = nn.attention %q, %k, %v accumulate f32 : tensor<1x2x?x8xbf16>, tensor<1x2x?x8xbf16>, tensor<1x2x?x8xbf16>
  func.return %y : tensor<1x2x?x8xbf16>
}

// -----

// Written out in bf16 with scores of f32, a soft cap and a bias: the weights are rounded before the quotient.

// CHECK-LABEL: func.func @narrow_soft_cap
// CHECK:         nest.kernel @attention (
// CHECK:           combiner<add>
// CHECK:             math.tanh
// CHECK:             arith.addf
// CHECK:           combiner<softmax_weighted_sum> {{.*}} : tensor<?x?x?xf32>, tensor<?x?x32xbf16>)
// CHECK:             arith.divf
// CHECK:             arith.truncf
// CHECK-NOT:     nest.kernel
// CHECK:         func.return
func.func @narrow_soft_cap(%q: tensor<?x?x64xbf16>, %k: tensor<?x?x64xbf16>, %v: tensor<?x?x32xbf16>, %b: tensor<?x?xf32>)
    -> tensor<?x?x32xbf16> {
  %cap = nn.constant dense<30.0> : tensor<f32>
  %s = nn.batch_matmul %q, %k {transpose_b} accumulate f32
      : tensor<?x?x64xbf16>, tensor<?x?x64xbf16> -> tensor<?x?x?xf32>
  %r = nn.div %s, %cap : tensor<?x?x?xf32>, tensor<f32>
  %t = nn.tanh %r : tensor<?x?x?xf32>
  %c = nn.mul %t, %cap : tensor<?x?x?xf32>, tensor<f32>
  %d = nn.add %c, %b : tensor<?x?x?xf32>, tensor<?x?xf32>
  %w = nn.softmax %d dim 2 : tensor<?x?x?xf32>
  %n = nn.cast %w : tensor<?x?x?xf32> -> tensor<?x?x?xbf16>
  %y = nn.batch_matmul %n, %v accumulate f32 : tensor<?x?x?xbf16>, tensor<?x?x32xbf16> -> tensor<?x?x32xbf16>
  func.return %y : tensor<?x?x32xbf16>
}

// -----

// Everything in f16, scores too: they are rounded, and widened where they are summed.

// CHECK-LABEL: func.func @scores_rounded
// CHECK:         nest.kernel @attention (
// CHECK:           combiner<add>
// CHECK:             arith.truncf
// CHECK-NEXT:        arith.constant 1.250000e-01 : f16
// CHECK-NEXT:        arith.mulf {{.*}} : f16
// CHECK-NEXT:        arith.addf {{.*}} : f16
// CHECK-NEXT:        arith.extf {{.*}} : f16 to f32
// CHECK:           combiner<softmax_weighted_sum>
// CHECK-NOT:     nest.kernel
// CHECK:         func.return
func.func @scores_rounded(%q: tensor<?x?x64xf16>, %k: tensor<?x?x64xf16>, %v: tensor<?x?x32xf16>, %b: tensor<?x?xf16>)
    -> tensor<?x?x32xf16> {
  %scale = nn.constant dense<0.125> : tensor<f16>
  %s = nn.batch_matmul %q, %k {transpose_b} accumulate f32
      : tensor<?x?x64xf16>, tensor<?x?x64xf16> -> tensor<?x?x?xf16>
  %r = nn.mul %s, %scale : tensor<?x?x?xf16>, tensor<f16>
  %d = nn.add %r, %b : tensor<?x?x?xf16>, tensor<?x?xf16>
  %w = nn.softmax %d dim 2 : tensor<?x?x?xf16>
  %y = nn.batch_matmul %w, %v accumulate f32 : tensor<?x?x?xf16>, tensor<?x?x32xf16> -> tensor<?x?x32xf16>
  func.return %y : tensor<?x?x32xf16>
}

// -----

// Primitives in bf16, the weights by a reciprocal.

// CHECK-LABEL: func.func @narrow_primitives
// CHECK:         nest.kernel @attention (
// CHECK:           combiner<softmax_weighted_sum>
// CHECK:             arith.divf
// CHECK:             arith.mulf
// CHECK:             arith.truncf
// CHECK-NOT:     nest.kernel
// CHECK:         func.return
func.func @narrow_primitives(%q: tensor<?x16xbf16>, %k: tensor<40x16xbf16>, %v: tensor<40x16xbf16>) -> tensor<?x16xbf16> {
  %one = nn.constant dense<1.0> : tensor<f32>
  %s = nn.contract [m, n, k] %q (m, k), %k (n, k) -> (m, n) accumulate f32 : tensor<?x16xbf16>, tensor<40x16xbf16>
      -> tensor<?x40xf32>
  %m = nn.reduce max %s dims [1] keep_dims : tensor<?x40xf32> -> tensor<?x1xf32>
  %d = nn.sub %s, %m : tensor<?x40xf32>, tensor<?x1xf32> -> tensor<?x40xf32>
  %e = nn.exp %d : tensor<?x40xf32>
  %l = nn.reduce add %e dims [1] keep_dims : tensor<?x40xf32> -> tensor<?x1xf32>
  %i = nn.div %one, %l : tensor<f32>, tensor<?x1xf32> -> tensor<?x1xf32>
  %w = nn.mul %e, %i : tensor<?x40xf32>, tensor<?x1xf32> -> tensor<?x40xf32>
  %n = nn.cast %w : tensor<?x40xf32> -> tensor<?x40xbf16>
  %y = nn.contract [m, n, k] %n (m, k), %v (k, n) -> (m, n) accumulate f32 : tensor<?x40xbf16>, tensor<40x16xbf16>
      -> tensor<?x16xbf16>
  func.return %y : tensor<?x16xbf16>
}

// -----

// One query of each head, as a language model has it for each new word: one kernel on a core, without an iterator of the
// queries, and three on blocks of warps, whose rows would stand empty.

// CHECK-LABEL: func.func @one_query
// CHECK:         nest.kernel @attention
// CHECK:           combiner<softmax_weighted_sum> accumulate f32 fastmath<reassoc> ins(%{{.*}} (0, b1, 0, n), %v_1 (0, b1, n, e) :
// CHECK-NOT:     nest.kernel
// CHECK:         func.return
// WARPS-LABEL: func.func @one_query
// WARPS-COUNT-3: nest.kernel
func.func @one_query(%q: tensor<1x8x1x64xf32>, %k: tensor<1x8x?x64xf32>, %v: tensor<1x8x?x64xf32>) -> tensor<1x8x1x64xf32> {
  %y = nn.attention %q, %k, %v causal accumulate f32
      : tensor<1x8x1x64xf32>, tensor<1x8x?x64xf32>, tensor<1x8x?x64xf32>
  func.return %y : tensor<1x8x1x64xf32>
}

// -----

// Its heads that share keys are rows, of which blocks are made.

// CHECK-LABEL: func.func @one_query_of_shared_keys
// CHECK:         nest.kernel @attention
// CHECK:           nest.generic [b1 : parallel, m0 : parallel, n : parallel, k : reduction] combiner<add>
// CHECK-NOT:     nest.kernel
// CHECK:         func.return
// WARPS-LABEL: func.func @one_query_of_shared_keys
// WARPS-COUNT-1: nest.kernel @attention
// WARPS-NOT:     nest.kernel
// WARPS:         func.return
func.func @one_query_of_shared_keys(%q: tensor<1x8x1x64xf32>, %k: tensor<1x2x?x64xf32>, %v: tensor<1x2x?x64xf32>)
    -> tensor<1x8x1x64xf32> {
  %y = nn.attention %q, %k, %v accumulate f32
      : tensor<1x8x1x64xf32>, tensor<1x2x?x64xf32>, tensor<1x2x?x64xf32>
  func.return %y : tensor<1x8x1x64xf32>
}

// -----

// The sum must stay in order: three kernels.

// CHECK-LABEL: func.func @in_order
// CHECK-COUNT-3: nest.kernel
// CHECK:         func.return
func.func @in_order(%q: tensor<?x8x?x64xf32>) -> tensor<?x8x?x64xf32> {
  %y = nn.attention %q, %q, %q accumulate f32 fastmath<none>
      : tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>, tensor<?x8x?x64xf32>
  func.return %y : tensor<?x8x?x64xf32>
}

// -----

// The weights are wanted as well: three kernels.

// CHECK-LABEL: func.func @weights
// CHECK-COUNT-3: nest.kernel
// CHECK:         func.return
func.func @weights(%q: tensor<?x64xf32>, %k: tensor<?x64xf32>) -> (tensor<?x64xf32>, tensor<?x?xf32>) {
  %s = nn.matmul %q, %k {transpose_b} accumulate f32 : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x?xf32>
  %w = nn.softmax %s dim 1 : tensor<?x?xf32>
  %y = nn.matmul %w, %k accumulate f32 : tensor<?x?xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
  func.return %y, %w : tensor<?x64xf32>, tensor<?x?xf32>
}

// -----

// Heads of any size: one kernel on a core. A block of warps holds whole heads, of at most 256.

// CHECK-LABEL: func.func @unknown_head
// CHECK-COUNT-1: nest.kernel @attention
// CHECK-NOT:     nest.kernel
// CHECK:         func.return
// WARPS-LABEL: func.func @unknown_head
// WARPS-COUNT-3: nest.kernel
func.func @unknown_head(%q: tensor<?x?xf32>, %k: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %s = nn.matmul %q, %k {transpose_b} accumulate f32 : tensor<?x?xf32>, tensor<?x?xf32> -> tensor<?x?xf32>
  %w = nn.softmax %s dim 1 : tensor<?x?xf32>
  %y = nn.matmul %w, %k accumulate f32 : tensor<?x?xf32>, tensor<?x?xf32> -> tensor<?x?xf32>
  func.return %y : tensor<?x?xf32>
}

// -----

// CHECK-LABEL: func.func @large_head
// CHECK-COUNT-1: nest.kernel @attention
// CHECK-NOT:     nest.kernel
// CHECK:         func.return
// WARPS-LABEL: func.func @large_head
// WARPS-COUNT-3: nest.kernel
func.func @large_head(%q: tensor<?x512xf32>, %k: tensor<?x512xf32>) -> tensor<?x512xf32> {
  %s = nn.matmul %q, %k {transpose_b} accumulate f32 : tensor<?x512xf32>, tensor<?x512xf32> -> tensor<?x?xf32>
  %w = nn.softmax %s dim 1 : tensor<?x?xf32>
  %y = nn.matmul %w, %k accumulate f32 : tensor<?x?xf32>, tensor<?x512xf32> -> tensor<?x512xf32>
  func.return %y : tensor<?x512xf32>
}

// -----

// A softmax over the queries is no attention: each key's weights add up to 1, not each query's.

// CHECK-LABEL: func.func @other_dimension
// CHECK-COUNT-3: nest.kernel
// CHECK:         func.return
func.func @other_dimension(%q: tensor<?x64xf32>, %k: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %s = nn.matmul %q, %k {transpose_b} accumulate f32 : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x?xf32>
  %w = nn.softmax %s dim 0 : tensor<?x?xf32>
  %y = nn.matmul %w, %k accumulate f32 : tensor<?x?xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
  func.return %y : tensor<?x64xf32>
}
