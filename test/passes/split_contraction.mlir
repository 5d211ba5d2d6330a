// RUN: crosstile-opt %s --decompose --nn-to-nest --fuse --split-contraction=target=nvidia-sm_90a --split-input-file | filecheck %s
// RUN: crosstile-opt %s --decompose --nn-to-nest --fuse --split-contraction=target=x86-64-avx512 --split-input-file | filecheck %s --check-prefix CORE

// One block of the result, and 132 multiprocessors: parts of k are blocks of their own, no element moves. What follows
// the product is done with the sum of the parts, which are added in their order.

// CHECK-LABEL: func.func @main
// CHECK:         %[[A:.*]] = tensor.expand_shape %a {{\[}}[0 : i64], [1 : i64, 2 : i64]] output_shape [64, [[PARTS:[0-9]+]], [[K:[0-9]+]]]
// CHECK:         %[[B:.*]] = tensor.expand_shape %b {{\[}}[0 : i64, 1 : i64], [2 : i64]] output_shape {{\[}}[[PARTS]], [[K]], 64]
// CHECK:         %[[P:.*]] = nest.kernel @matmul_relu_parts (%[[X:.*]] = %[[A]] : {{.*}}, %[[Y:.*]] = %[[B]] : {{.*}}) -> (tensor<[[PARTS]]x64x64xf32>) {
// CHECK:           nest.generic [part : parallel, m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
// CHECK-SAME:        ins(%[[X]] (m, part, k), %[[Y]] (part, k, n) : {{.*}}) -> (part, m, n) : tensor<[[PARTS]]x64x64xf32> {
// CHECK:         nest.kernel @matmul_relu (%[[S:.*]] = %[[P]] : tensor<[[PARTS]]x64x64xf32>) -> (tensor<64x64xf32>) {
// CHECK:           %[[C:.*]] = nest.generic [m : parallel, n : parallel, part : reduction] combiner<add> accumulate f32 ins(%[[S]] (part, m, n)
// CHECK-NEXT:      ^bb0(%[[E:.*]]: f32):
// CHECK-NEXT:        nest.yield %[[E]] : f32
// CHECK:           nest.generic [m : parallel, n : parallel] ins(%[[C]] (m, n)
// CHECK:             arith.maximumf

// A core is one unit.

// CORE-LABEL:  func.func @main
// CORE-NOT:      expand_shape
func.func @main(%a: tensor<64x8192xbf16>, %b: tensor<8192x64xbf16>) -> tensor<64x64xf32> {
  %c = nn.matmul %a, %b accumulate f32 fastmath<reassoc> : tensor<64x8192xbf16>, tensor<8192x64xbf16> -> tensor<64x64xf32>
  %d = nn.relu %c : tensor<64x64xf32>
  func.return %d : tensor<64x64xf32>
}

// -----

// Sums of floats are one chain unless the program says otherwise.

// CHECK-LABEL: func.func @chain
// CHECK-NOT:     expand_shape
func.func @chain(%a: tensor<64x8192xbf16>, %b: tensor<8192x64xbf16>) -> tensor<64x64xf32> {
  %c = nn.matmul %a, %b accumulate f32 : tensor<64x8192xbf16>, tensor<8192x64xbf16> -> tensor<64x64xf32>
  func.return %c : tensor<64x64xf32>
}

// -----

// Those of integers are the same in any order.

// CHECK-LABEL: func.func @exact
// CHECK:         nest.kernel @matmul_parts
// CHECK:           combiner<add> accumulate i32
// CHECK:         nest.kernel @matmul
func.func @exact(%a: tensor<64x16384xi8>, %b: tensor<64x16384xi8>) -> tensor<64x64xi32> {
  %c = nn.matmul %a, %b accumulate i32 {transpose_b} : tensor<64x16384xi8>, tensor<64x16384xi8> -> tensor<64x64xi32>
  func.return %c : tensor<64x64xi32>
}

// -----

// A vector has no blocks: warps read columns, and there are more of them in parts.

// CHECK-LABEL: func.func @vector
// CHECK:         nest.kernel @matmul_parts
// CHECK:           nest.generic [part : parallel, n : parallel, k : reduction] {{.*}} -> (part, 0, n)
func.func @vector(%a: tensor<1x8192xbf16>, %b: tensor<8192x64xbf16>) -> tensor<1x64xf32> {
  %c = nn.matmul %a, %b accumulate f32 fastmath<reassoc> : tensor<1x8192xbf16>, tensor<8192x64xbf16> -> tensor<1x64xf32>
  func.return %c : tensor<1x64xf32>
}

// -----

// Blocks enough, a short k, a k that nothing divides, a size that is not known: one kernel.

// CHECK-LABEL: func.func @whole
// CHECK-NOT:     expand_shape
func.func @whole(%a: tensor<4096x4096xbf16>, %b: tensor<64x256xbf16>, %c: tensor<64x8191xbf16>, %d: tensor<64x?xbf16>)
    -> (tensor<4096x4096xf32>, tensor<64x64xf32>, tensor<64x64xf32>, tensor<64x64xf32>) {
  %e = nn.matmul %a, %a accumulate f32 fastmath<reassoc> : tensor<4096x4096xbf16>, tensor<4096x4096xbf16> -> tensor<4096x4096xf32>
  %f = nn.matmul %b, %b accumulate f32 fastmath<reassoc> {transpose_b} : tensor<64x256xbf16>, tensor<64x256xbf16> -> tensor<64x64xf32>
  %g = nn.matmul %c, %c accumulate f32 fastmath<reassoc> {transpose_b} : tensor<64x8191xbf16>, tensor<64x8191xbf16> -> tensor<64x64xf32>
  %h = nn.matmul %d, %d accumulate f32 fastmath<reassoc> {transpose_b} : tensor<64x?xbf16>, tensor<64x?xbf16> -> tensor<64x64xf32>
  func.return %e, %f, %g, %h : tensor<4096x4096xf32>, tensor<64x64xf32>, tensor<64x64xf32>, tensor<64x64xf32>
}

// -----

// A split that the schedule says is done on any machine. The rest of the schedule is for the parts, which workers divide.

// CHECK-LABEL: func.func @written
// CORE-LABEL:  func.func @written
// CORE:          nest.kernel @product_parts
// CORE-SAME:       schedules [m <= 4 : #nest.schedule<loops = [part : 1, k : 8, n : 64, m : 1], parallel = part, lane = n>, #nest.schedule<loops = [part : 1, k : 512, n : 64, m : 6], parallel = part, lane = n>]
// CORE:          nest.kernel @product (%{{.*}} = %parts : tensor<8x?x100xf32>) -> (tensor<?x100xf32>) {
func.func @written(%a: tensor<?x4096xf32>, %b: tensor<4096x100xf32>) -> tensor<?x100xf32> {
  %y = nest.kernel @product (%x = %a : tensor<?x4096xf32>, %w = %b : tensor<4096x100xf32>) -> (tensor<?x100xf32>)
      schedules [k < 4096 : #nest.schedule<split = 8>,
                 m <= 4 and k mod 8 == 0 : #nest.schedule<loops = [k : 8, n : 64, m : 1], parallel = n grain 64, lane = n, split = 8>,
                 #nest.schedule<loops = [k : 1024, n : 64, m : 6], parallel = m grain 6, lane = n, split = 8>] {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32 fastmath<reassoc>
        ins(%x (m, k), %w (k, n) : tensor<?x4096xf32>, tensor<4096x100xf32>) -> (m, n) : tensor<?x100xf32> {
    ^bb0(%p: f32, %q: f32):
      %t = arith.mulf %p, %q : f32
      nest.yield %t : f32
    }
    nest.yield %c : tensor<?x100xf32>
  }
  func.return %y : tensor<?x100xf32>
}
