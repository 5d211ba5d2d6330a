// RUN: crosstile-opt %s --fuse | filecheck %s

// A product and a sum that may be contracted and meet in one body are rounded once; without the flag they are two.

// CHECK-LABEL: func.func @contracted
// CHECK:         %[[FMA:.*]] = math.fma %{{.*}}, %{{.*}}, %{{.*}} : f32
// CHECK-NEXT:    %[[SUM:.*]] = arith.addf %[[FMA]],
// CHECK-NEXT:    nest.yield %[[SUM]]
func.func @contracted(%x: tensor<?xf32>, %g: tensor<?xf32>, %b: tensor<?xf32>) -> tensor<?xf32> {
  %c = nest.generic [i : parallel] ins(%x (i), %g (i) : tensor<?xf32>, tensor<?xf32>) -> (i) : tensor<?xf32> {
  ^bb0(%p: f32, %q: f32):
    %t = arith.mulf %p, %q fastmath<contract> : f32
    nest.yield %t : f32
  }
  %d = nest.generic [i : parallel] ins(%c (i), %b (i) : tensor<?xf32>, tensor<?xf32>) -> (i) : tensor<?xf32> {
  ^bb0(%p: f32, %q: f32):
    %t = arith.addf %q, %p fastmath<contract> : f32
    %s = arith.addf %t, %q : f32
    nest.yield %s : f32
  }
  func.return %d : tensor<?xf32>
}

// A contraction and its epilogue are one kernel: bias and relu merge into one nest, and the zero into its body.

// CHECK-LABEL: func.func @epilogue
// CHECK-NEXT:    %r = nest.kernel @matmul_add_relu (%x_1 = %x : tensor<?x64xf32>, %w_1 = %w : tensor<64x10xf32>, %b_1 = %b : tensor<10xf32>) -> (tensor<?x10xf32>) {
// CHECK-NEXT:      %c = nest.generic [m : parallel, n : parallel, k : reduction]
// CHECK:           %r_1 = nest.generic [m : parallel, n : parallel] ins(%c (m, n), %b_1 (n) :
// CHECK:             arith.addf
// CHECK-NEXT:        arith.maximumf
// CHECK-NEXT:        nest.yield
// CHECK:           nest.yield %r_1 : tensor<?x10xf32>
// CHECK-NEXT:    }
// CHECK-NEXT:    func.return %r
func.func @epilogue(%x: tensor<?x64xf32>, %w: tensor<64x10xf32>, %b: tensor<10xf32>) -> tensor<?x10xf32> {
  %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
      ins(%x (m, k), %w (k, n) : tensor<?x64xf32>, tensor<64x10xf32>) -> (m, n) : tensor<?x10xf32> {
  ^bb0(%p: f32, %q: f32):
    %t = arith.mulf %p, %q : f32
    nest.yield %t : f32
  }
  %d = nest.generic [i : parallel, j : parallel] ins(%c (i, j), %b (j) : tensor<?x10xf32>, tensor<10xf32>)
      -> (i, j) : tensor<?x10xf32> {
  ^bb0(%p: f32, %q: f32):
    %t = arith.addf %p, %q : f32
    nest.yield %t : f32
  }
  %zero = nest.generic [] -> () : tensor<f32> {
    %z = arith.constant 0.0 : f32
    nest.yield %z : f32
  }
  %r = nest.generic [i : parallel, j : parallel] ins(%d (i, j), %zero () : tensor<?x10xf32>, tensor<f32>)
      -> (i, j) : tensor<?x10xf32> {
  ^bb0(%p: f32, %z: f32):
    %t = arith.maximumf %p, %z : f32
    nest.yield %t : f32
  }
  func.return %r : tensor<?x10xf32>
}

// Softmax is one kernel of four nests: exp has two users and is not repeated, the subtraction merges into it.

// CHECK-LABEL: func.func @softmax
// CHECK-NEXT:    nest.kernel @exp_sum (
// CHECK:           %max = nest.generic [i : parallel, j : reduction] combiner<max>
// CHECK:           %exp = nest.generic [i : parallel, j : parallel] ins(%x_1 (i, j), %max (i, 0) :
// CHECK:             arith.subf
// CHECK-NEXT:        math.exp
// CHECK:           %sum = nest.generic [i : parallel, j : reduction] combiner<add> accumulate f32 fastmath<reassoc>
// CHECK:           nest.generic [i : parallel, j : parallel] ins(%exp (i, j), %sum (i, 0) :
// CHECK:             arith.divf
// CHECK-NOT:     nest.kernel
// CHECK:         func.return
func.func @softmax(%x: tensor<?x10xf32>) -> tensor<?x10xf32> {
  %max = nest.generic [i : parallel, j : reduction] combiner<max> accumulate f32 ins(%x (i, j) : tensor<?x10xf32>)
      -> (i, 0) : tensor<?x1xf32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  %sub = nest.generic [m : parallel, n : parallel] ins(%x (m, n), %max (m, 0) : tensor<?x10xf32>, tensor<?x1xf32>)
      -> (m, n) : tensor<?x10xf32> {
  ^bb0(%p: f32, %q: f32):
    %t = arith.subf %p, %q : f32
    nest.yield %t : f32
  }
  %exp = nest.generic [i : parallel, j : parallel] ins(%sub (i, j) : tensor<?x10xf32>) -> (i, j) : tensor<?x10xf32> {
  ^bb0(%p: f32):
    %t = math.exp %p : f32
    nest.yield %t : f32
  }
  %sum = nest.generic [a : parallel, b : reduction] combiner<add> accumulate f32 fastmath<reassoc>
      ins(%exp (a, b) : tensor<?x10xf32>) -> (a, 0) : tensor<?x1xf32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  %div = nest.generic [i : parallel, j : parallel] ins(%exp (i, j), %sum (i, 0) : tensor<?x10xf32>, tensor<?x1xf32>)
      -> (i, j) : tensor<?x10xf32> {
  ^bb0(%p: f32, %q: f32):
    %t = arith.divf %p, %q : f32
    nest.yield %t : f32
  }
  func.return %div : tensor<?x10xf32>
}

// A reduction stays out of the kernel of the contraction it reads, and the epilogue with two users is not repeated.

// CHECK-LABEL: func.func @contraction_then_reduction
// CHECK:         %[[R:.*]] = nest.kernel @matmul_relu
// CHECK:         nest.kernel @max_sub ({{.*}} = %[[R]] :
// CHECK:           combiner<max>
// CHECK:           arith.subf
// CHECK:         func.return
func.func @contraction_then_reduction(%x: tensor<?x64xf32>, %w: tensor<64x10xf32>) -> tensor<?x10xf32> {
  %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
      ins(%x (m, k), %w (k, n) : tensor<?x64xf32>, tensor<64x10xf32>) -> (m, n) : tensor<?x10xf32> {
  ^bb0(%p: f32, %q: f32):
    %t = arith.mulf %p, %q : f32
    nest.yield %t : f32
  }
  %r = nest.generic [i : parallel, j : parallel] ins(%c (i, j) : tensor<?x10xf32>) -> (i, j) : tensor<?x10xf32> {
  ^bb0(%p: f32):
    %z = arith.constant 0.0 : f32
    %t = arith.maximumf %p, %z : f32
    nest.yield %t : f32
  }
  %max = nest.generic [i : parallel, j : reduction] combiner<max> accumulate f32 ins(%r (i, j) : tensor<?x10xf32>)
      -> (i, 0) : tensor<?x1xf32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  %sub = nest.generic [m : parallel, n : parallel] ins(%r (m, n), %max (m, 0) : tensor<?x10xf32>, tensor<?x1xf32>)
      -> (m, n) : tensor<?x10xf32> {
  ^bb0(%p: f32, %q: f32):
    %t = arith.subf %p, %q : f32
    nest.yield %t : f32
  }
  func.return %sub : tensor<?x10xf32>
}

// Transpositions fold into a contraction, before it into its index maps and after it into its result.

// CHECK-LABEL: func.func @transpositions
// CHECK-NEXT:    nest.kernel @matmul (
// CHECK:           ins(%x_1 (k, m), %w_1 (k, n) : tensor<64x?xf32>, tensor<64x10xf32>) -> (n, m) : tensor<10x?xf32>
// CHECK-NOT:       nest.generic
// CHECK:         func.return
func.func @transpositions(%x: tensor<64x?xf32>, %w: tensor<64x10xf32>) -> tensor<10x?xf32> {
  %xt = nest.generic [i : parallel, j : parallel] ins(%x (i, j) : tensor<64x?xf32>) -> (j, i) : tensor<?x64xf32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
      ins(%xt (m, k), %w (k, n) : tensor<?x64xf32>, tensor<64x10xf32>) -> (m, n) : tensor<?x10xf32> {
  ^bb0(%p: f32, %q: f32):
    %t = arith.mulf %p, %q : f32
    nest.yield %t : f32
  }
  %ct = nest.generic [i : parallel, j : parallel] ins(%c (j, i) : tensor<?x10xf32>) -> (i, j) : tensor<10x?xf32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  func.return %ct : tensor<10x?xf32>
}

// A value used outside is one more result; a repeated read is read once; an unused nest disappears.

// CHECK-LABEL: func.func @several_results
// CHECK-NEXT:    %a, %b = nest.kernel @exp_mul (%x_1 = %x : tensor<?xf32>) -> (tensor<?xf32>, tensor<?xf32>) {
// CHECK-NEXT:      %a_1 = nest.generic [i : parallel] ins(%x_1 (i) : tensor<?xf32>)
// CHECK:           %b_1 = nest.generic [i : parallel] ins(%a_1 (i) : tensor<?xf32>)
// CHECK-NEXT:      ^bb0(%[[A:.*]]: f32):
// CHECK-NEXT:        arith.mulf %[[A]], %[[A]] : f32
// CHECK:           nest.yield %a_1, %b_1
// CHECK-NOT:     tanh
// CHECK:         func.return %a, %b
func.func @several_results(%x: tensor<?xf32>) -> (tensor<?xf32>, tensor<?xf32>) {
  %a = nest.generic [i : parallel] ins(%x (i) : tensor<?xf32>) -> (i) : tensor<?xf32> {
  ^bb0(%p: f32):
    %t = math.exp %p : f32
    nest.yield %t : f32
  }
  %unused = nest.generic [i : parallel] ins(%a (i) : tensor<?xf32>) -> (i) : tensor<?xf32> {
  ^bb0(%p: f32):
    %t = math.tanh %p : f32
    nest.yield %t : f32
  }
  %b = nest.generic [i : parallel] ins(%a (i), %a (i) : tensor<?xf32>, tensor<?xf32>) -> (i) : tensor<?xf32> {
  ^bb0(%p: f32, %q: f32):
    %t = arith.mulf %p, %q : f32
    nest.yield %t : f32
  }
  func.return %a, %b : tensor<?xf32>, tensor<?xf32>
}

// What computes is not repeated along a broadcast dimension; what only moves data is.

// CHECK-LABEL: func.func @broadcasts
// CHECK:         nest.kernel @exp (
// CHECK:         nest.kernel @add (
// CHECK:           ins(%{{.*}} (j), %y_1 (i, j) :
// CHECK:         func.return
func.func @broadcasts(%x: tensor<8xf32>, %y: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %e = nest.generic [i : parallel] ins(%x (i) : tensor<8xf32>) -> (i) : tensor<8xf32> {
  ^bb0(%p: f32):
    %t = math.exp %p : f32
    nest.yield %t : f32
  }
  %wide = nest.generic [i : parallel, j : parallel] ins(%e (j), %y (i, j) : tensor<8xf32>, tensor<?x8xf32>)
      -> (i, j) : tensor<?x8xf32> {
  ^bb0(%p: f32, %size: f32):
    nest.yield %p : f32
  }
  %s = nest.generic [i : parallel, j : parallel] ins(%wide (i, j), %y (i, j) : tensor<?x8xf32>, tensor<?x8xf32>)
      -> (i, j) : tensor<?x8xf32> {
  ^bb0(%p: f32, %q: f32):
    %t = arith.addf %p, %q : f32
    nest.yield %t : f32
  }
  func.return %s : tensor<?x8xf32>
}

// A value that leaves the kernel and comes back changed keeps its producers and consumers apart.

// CHECK-LABEL: func.func @round_trip
// CHECK:         nest.kernel @exp_1
// CHECK:         nest.call @outside
// CHECK:         nest.kernel @add_1
// CHECK:         func.return
func.func @round_trip(%x: tensor<8xf32>) -> tensor<8xf32> {
  %e = nest.generic [i : parallel] ins(%x (i) : tensor<8xf32>) -> (i) : tensor<8xf32> {
  ^bb0(%p: f32):
    %t = math.exp %p : f32
    nest.yield %t : f32
  }
  %o = nest.call @outside(%e) : (tensor<8xf32>) -> tensor<8xf32>
  %s = nest.generic [i : parallel] ins(%e (i), %o (i) : tensor<8xf32>, tensor<8xf32>) -> (i) : tensor<8xf32> {
  ^bb0(%p: f32, %q: f32):
    %t = arith.addf %p, %q : f32
    nest.yield %t : f32
  }
  func.return %s : tensor<8xf32>
}

// Two contractions are two kernels; what needs both joins the later one, and the order of the block follows.

// CHECK-LABEL: func.func @two_contractions
// CHECK:         %c = nest.kernel @matmul_1
// CHECK:         nest.kernel @matmul_add ({{.*}} = %y : {{.*}} = %w : {{.*}} = %c :
// CHECK:         func.return
func.func @two_contractions(%x: tensor<8x8xf32>, %y: tensor<8x8xf32>, %w: tensor<8x8xf32>) -> tensor<8x8xf32> {
  %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
      ins(%x (m, k), %w (k, n) : tensor<8x8xf32>, tensor<8x8xf32>) -> (m, n) : tensor<8x8xf32> {
  ^bb0(%p: f32, %q: f32):
    %t = arith.mulf %p, %q : f32
    nest.yield %t : f32
  }
  %d = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
      ins(%y (m, k), %w (k, n) : tensor<8x8xf32>, tensor<8x8xf32>) -> (m, n) : tensor<8x8xf32> {
  ^bb0(%p: f32, %q: f32):
    %t = arith.mulf %p, %q : f32
    nest.yield %t : f32
  }
  %s = nest.generic [i : parallel, j : parallel] ins(%c (i, j), %d (i, j) : tensor<8x8xf32>, tensor<8x8xf32>)
      -> (i, j) : tensor<8x8xf32> {
  ^bb0(%p: f32, %q: f32):
    %t = arith.addf %p, %q : f32
    nest.yield %t : f32
  }
  func.return %s : tensor<8x8xf32>
}

// Kernels that are there stay, with their schedules and names.

// CHECK-LABEL: func.func @kept
// CHECK:         nest.kernel @mine {{.*}} schedules [#nest.schedule<lane = i>]
// CHECK:         nest.kernel @exp_2
func.func @kept(%x: tensor<8xf32>) -> tensor<8xf32> {
  %k = nest.kernel @mine (%a = %x : tensor<8xf32>) -> (tensor<8xf32>) schedules [#nest.schedule<lane = i>] {
    %n = nest.generic [i : parallel] ins(%a (i) : tensor<8xf32>) -> (i) : tensor<8xf32> {
    ^bb0(%p: f32):
      %t = arith.negf %p : f32
      nest.yield %t : f32
    }
    nest.yield %n : tensor<8xf32>
  }
  %e = nest.generic [i : parallel] ins(%k (i) : tensor<8xf32>) -> (i) : tensor<8xf32> {
  ^bb0(%p: f32):
    %t = math.exp %p : f32
    nest.yield %t : f32
  }
  func.return %e : tensor<8xf32>
}

// A copy in another order becomes the order in which its producer writes, in three dimensions too.

// CHECK-LABEL: func.func @write_in_another_order
// CHECK-NEXT:    nest.kernel @sum (
// CHECK-NEXT:      nest.generic [i : parallel, j : parallel, k : parallel, l : reduction]
// CHECK-SAME:        ins(%x_1 (i, j, k, l) : tensor<2x3x4x5xf32>) -> (j, k, i) : tensor<3x4x2xf32>
// CHECK-NOT:       nest.generic
// CHECK:         func.return
func.func @write_in_another_order(%x: tensor<2x3x4x5xf32>) -> tensor<3x4x2xf32> {
  %s = nest.generic [i : parallel, j : parallel, k : parallel, l : reduction] combiner<add> accumulate f32
      ins(%x (i, j, k, l) : tensor<2x3x4x5xf32>) -> (i, j, k) : tensor<2x3x4xf32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  %t = nest.generic [a : parallel, b : parallel, c : parallel] ins(%s (c, a, b) : tensor<2x3x4xf32>)
      -> (a, b, c) : tensor<3x4x2xf32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  func.return %t : tensor<3x4x2xf32>
}

// What reads widened floats widens them itself, so that the sum of bf16 stays bf16 in memory.

// CHECK-LABEL: func.func @widened
// CHECK-NEXT:    nest.kernel @add_sum_mul ({{.*}}) -> (tensor<?x8xbf16>, tensor<?x8xf32>)
// CHECK:           %[[S:.*]] = nest.generic {{.*}} -> (i, j) : tensor<?x8xbf16>
// CHECK:           nest.generic [i : parallel, j : reduction] {{.*}} ins(%[[S]] (i, j) : tensor<?x8xbf16>)
// CHECK-NEXT:      ^bb0(
// CHECK-NEXT:        arith.extf
// CHECK:           nest.generic [i : parallel, j : parallel] ins(%[[S]] (i, j), %{{.*}} : tensor<?x8xbf16>, tensor<?x1xf32>)
// CHECK-NEXT:      ^bb0(
// CHECK-NEXT:        arith.extf
// CHECK-NEXT:        arith.mulf
// CHECK-NOT:     nest.kernel
// CHECK:         func.return
func.func @widened(%x: tensor<?x8xbf16>) -> (tensor<?x8xf32>, tensor<?x8xbf16>) {
  %s = nest.generic [i : parallel, j : parallel] ins(%x (i, j) : tensor<?x8xbf16>) -> (i, j) : tensor<?x8xbf16> {
  ^bb0(%p: bf16):
    %t = arith.addf %p, %p : bf16
    nest.yield %t : bf16
  }
  %w = nest.generic [i : parallel, j : parallel] ins(%s (i, j) : tensor<?x8xbf16>) -> (i, j) : tensor<?x8xf32> {
  ^bb0(%p: bf16):
    %t = arith.extf %p : bf16 to f32
    nest.yield %t : f32
  }
  %sum = nest.generic [i : parallel, j : reduction] combiner<add> accumulate f32 ins(%w (i, j) : tensor<?x8xf32>)
      -> (i, 0) : tensor<?x1xf32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  %y = nest.generic [i : parallel, j : parallel] ins(%w (i, j), %sum (i, 0) : tensor<?x8xf32>, tensor<?x1xf32>)
      -> (i, j) : tensor<?x8xf32> {
  ^bb0(%p: f32, %q: f32):
    %t = arith.mulf %p, %q : f32
    nest.yield %t : f32
  }
  func.return %y, %s : tensor<?x8xf32>, tensor<?x8xbf16>
}

// A contraction's factors have the types of an instruction: what widens one is a kernel of its own.

// CHECK-LABEL: func.func @widened_factor
// CHECK-COUNT-2: nest.kernel
// CHECK:         func.return
func.func @widened_factor(%x: tensor<?x8xbf16>, %v: tensor<8x4xf32>) -> tensor<?x4xf32> {
  %w = nest.generic [i : parallel, j : parallel] ins(%x (i, j) : tensor<?x8xbf16>) -> (i, j) : tensor<?x8xf32> {
  ^bb0(%p: bf16):
    %t = arith.extf %p : bf16 to f32
    nest.yield %t : f32
  }
  %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
      ins(%w (m, k), %v (k, n) : tensor<?x8xf32>, tensor<8x4xf32>) -> (m, n) : tensor<?x4xf32> {
  ^bb0(%p: f32, %q: f32):
    %t = arith.mulf %p, %q : f32
    nest.yield %t : f32
  }
  func.return %c : tensor<?x4xf32>
}

// Iterators of size 1 disappear, in bodies too; layers that keep a dimension of size 1 then share their loops.

// CHECK-LABEL: func.func @unit_dimensions
// CHECK-NEXT:    nest.kernel @
// CHECK:           nest.generic [i : parallel, j : reduction]
// CHECK:           nest.generic [i : parallel] ins({{.*}} (i, 0) : tensor<?x1xi32>) -> (i, 0) : tensor<?x1xi32>
// CHECK:             arith.constant 0 : index
// CHECK-NOT:     nest.kernel
// CHECK:         func.return
func.func @unit_dimensions(%x: tensor<?x8xi32>) -> tensor<?x1xi32> {
  %s = nest.generic [i : parallel, j : reduction] combiner<add> accumulate i32 ins(%x (i, j) : tensor<?x8xi32>)
      -> (i, 0) : tensor<?x1xi32> {
  ^bb0(%p: i32):
    nest.yield %p : i32
  }
  %t = nest.generic [i : parallel, j : parallel] ins(%s (i, j) : tensor<?x1xi32>) -> (i, j) : tensor<?x1xi32> {
  ^bb0(%p: i32):
    %j = nest.index j
    %c = arith.index_cast %j : index to i32
    %r = arith.addi %p, %c : i32
    nest.yield %r : i32
  }
  func.return %t : tensor<?x1xi32>
}
