// RUN: crosstile-opt %s | crosstile-opt | filecheck %s
// RUN: crosstile-opt --mlir-print-op-generic %s | crosstile-opt | filecheck %s
// RUN: crosstile-opt --mlir-print-op-generic %s | filecheck %s --check-prefix=GENERIC

// CHECK-LABEL: func.func @kernel
func.func @kernel(%x: tensor<?x64xf32>, %w: tensor<64x10xf32>) -> tensor<?x10xf32> {
  // CHECK: nest.kernel @matmul_relu (%a = %x : tensor<?x64xf32>, %b = %w : tensor<64x10xf32>) -> (tensor<?x10xf32>)
  // CHECK-SAME: schedules [N <= 16 and K mod 8 == 0 : #nest.schedule<loops = [n : 4096, k : 512 balanced 8, n : 16],
  // CHECK-SAME: parallel = m grain 4, lane = n, stage = [1], intrinsic = "x86.avx512.fma.1x16x1.f32", unroll = 2>,
  // CHECK-SAME: #nest.schedule<loops = [m : 8]>] {
  // GENERIC: kernel_name = "matmul_relu"
  // GENERIC-SAME: #nest.guarded_schedule<N <= 16 and K mod 8 == 0 : #nest.schedule<
  // GENERIC-SAME: #nest.guarded_schedule<#nest.schedule<loops = [m : 8]>>
  %y = nest.kernel @matmul_relu (%a = %x : tensor<?x64xf32>, %b = %w : tensor<64x10xf32>) -> (tensor<?x10xf32>)
      schedules [
        N <= 16 and K mod 8 == 0 :
          #nest.schedule<stage = [1], loops = [n : 4096, k : 512 balanced 8, n : 16], unroll = 2, lane = n,
                         intrinsic = "x86.avx512.fma.1x16x1.f32", parallel = m grain 4>,
        true : #nest.schedule<loops = [m : 8]>] {
    // CHECK: nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32 fastmath<reassoc>
    // CHECK-SAME: ins(%a (m, k), %b (k, n) : tensor<?x64xf32>, tensor<64x10xf32>) -> (m, n) : tensor<?x10xf32> {
    // CHECK-NEXT: ^bb0(%p: f32, %q: f32):
    // CHECK: nest.yield %t : f32
    // GENERIC: iterators = [#nest.iterator<m : parallel>, #nest.iterator<n : parallel>, #nest.iterator<k : reduction>]
    // GENERIC-SAME: combiner = #nest.combiner<add>, accumulator_type = f32
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32 fastmath<reassoc>
        ins(%a (m, k), %b (k, n) : tensor<?x64xf32>, tensor<64x10xf32>) -> (m, n) : tensor<?x10xf32> {
    ^bb0(%p: f32, %q: f32):
      %t = arith.mulf %p, %q : f32
      nest.yield %t : f32
    }
    // CHECK: -> (m, n) : tensor<?x10xf32> attributes {note = 1 : i32} {
    %r = nest.generic [m : parallel, n : parallel] ins(%c (m, n) : tensor<?x10xf32>)
        -> (m, n) : tensor<?x10xf32> attributes {note = 1 : i32} {
    ^bb0(%p: f32):
      %zero = arith.constant 0.0 : f32
      %t = arith.maximumf %p, %zero : f32
      nest.yield %t : f32
    }
    // CHECK: nest.yield %r : tensor<?x10xf32>
    nest.yield %r : tensor<?x10xf32>
  }
  func.return %y : tensor<?x10xf32>
}

// CHECK-LABEL: func.func @maps
func.func @maps(%x: tensor<?x9x8xf32>, %w: tensor<3x8xf32>, %h: tensor<4xf32>, %e: tensor<?x4x1x6xf32>)
    -> tensor<?x4xf32> {
  // A convolution with stride 2: the input is read at an affine place.
  // CHECK: ins(%x (b, h * 2 + r, c), %w (r, c), %{{.*}} (h) : tensor<?x9x8xf32>, tensor<3x8xf32>, tensor<4xf32>)
  %y = nest.generic [b : parallel, h : parallel, r : reduction, c : reduction] combiner<add> accumulate f32
      ins(%x (b, 2 * h + r, c), %w (r, c), %h (h) : tensor<?x9x8xf32>, tensor<3x8xf32>, tensor<4xf32>)
      -> (b, h) : tensor<?x4xf32> {
  ^bb0(%p: f32, %q: f32, %size: f32):
    %t = arith.mulf %p, %q : f32
    nest.yield %t : f32
  }
  // CHECK: ins(%e ((i * 3 + 2) floordiv 2, i mod 4 mod 3, 0, i * -1 + 5) : tensor<?x4x1x6xf32>)
  %z = nest.generic [i : parallel] ins(%e (((i + 1) * 3 - 1) floordiv 2, i mod 4 mod 3, 0, 5 - i) : tensor<?x4x1x6xf32>)
      -> (i) : tensor<5xf32> {
  ^bb0(%p: f32):
    nest.yield %p : f32
  }
  func.return %y : tensor<?x4xf32>
}

// CHECK-LABEL: func.func @argmax
func.func @argmax(%x: tensor<?x?xf32>) -> (tensor<?xf32>, tensor<?x1xindex>) {
  // CHECK: %{{.*}}, %{{.*}} = nest.generic [m : parallel, n : reduction] combiner<argmax> accumulate f32
  // CHECK-SAME: -> (m) : tensor<?xf32>, (m, 0) : tensor<?x1xindex> {
  // CHECK: %i = nest.index n
  %v, %at = nest.generic [m : parallel, n : reduction] combiner<argmax> accumulate f32 ins(%x (m, n) : tensor<?x?xf32>)
      -> (m) : tensor<?xf32>, (m, 0) : tensor<?x1xindex> {
  ^bb0(%p: f32):
    %i = nest.index n
    nest.yield %p, %i : f32, index
  }
  func.return %v, %at : tensor<?xf32>, tensor<?x1xindex>
}

// CHECK-LABEL: func.func @attention
func.func @attention(%s: tensor<?x?xf32>, %v: tensor<?x64xf32>) -> tensor<?x64xf32> {
  // CHECK: [m : parallel, d : payload, n : reduction] combiner<softmax_weighted_sum> accumulate f32
  %m, %l, %o = nest.generic [m : parallel, d : payload, n : reduction] combiner<softmax_weighted_sum> accumulate f32
      ins(%s (m, n), %v (n, d) : tensor<?x?xf32>, tensor<?x64xf32>)
      -> (m) : tensor<?xf32>, (m) : tensor<?xf32>, (m, d) : tensor<?x64xf32> {
  ^bb0(%p: f32, %q: f32):
    nest.yield %p, %q : f32, f32
  }
  func.return %o : tensor<?x64xf32>
}

// CHECK-LABEL: func.func @without_inputs
func.func @without_inputs() -> tensor<4xindex> {
  // CHECK: nest.generic [i : parallel] -> (i) : tensor<4xindex> {
  %y = nest.generic [i : parallel] -> (i) : tensor<4xindex> {
    %i = nest.index i
    nest.yield %i : index
  }
  // CHECK: nest.generic [] -> () : tensor<f32> {
  %z = nest.generic [] -> () : tensor<f32> {
    %one = arith.constant 1.0 : f32
    nest.yield %one : f32
  }
  func.return %y : tensor<4xindex>
}

// CHECK-LABEL: func.func @call
func.func @call(%x: tensor<?xf32>) -> tensor<8xf32> {
  // CHECK: nest.call @top_k(%x) : (tensor<?xf32>) -> tensor<8xf32>
  %y = nest.call @top_k(%x) : (tensor<?xf32>) -> tensor<8xf32>
  func.return %y : tensor<8xf32>
}

// CHECK-LABEL: func.func @clipped
func.func @clipped(%x: tensor<?xf32>, %w: tensor<3xf32>, %size: tensor<?xf32>) -> tensor<?xf32> {
  // CHECK: ins(%x (h * 2 + r - 1) clip, %w (r), %size (h) : tensor<?xf32>, tensor<3xf32>, tensor<?xf32>)
  // CHECK-SAME: -> (h) : tensor<?xf32> {
  %y = nest.generic [h : parallel, r : reduction] combiner<add> accumulate f32
      ins(%x (h * 2 + r - 1) clip, %w (r), %size (h) : tensor<?xf32>, tensor<3xf32>, tensor<?xf32>)
      -> (h) : tensor<?xf32> {
  ^bb0(%p: f32, %q: f32, %s: f32):
    %t = arith.mulf %p, %q : f32
    nest.yield %t : f32
  }
  func.return %y : tensor<?xf32>
}
