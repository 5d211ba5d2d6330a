// RUN: crosstile-opt %s --nn-to-nest | filecheck %s
// RUN: crosstile-opt %s --nn-to-nest --fuse | filecheck %s --check-prefix=FUSED

// Broadcasting is a matter of index maps; a constant is part of the body.

// CHECK-LABEL: func.func @broadcasting
// CHECK-NEXT:    %a = nest.generic [i : parallel, j : parallel] ins(%x (i, j), %c (i, 0) : tensor<?x8xf32>, tensor<?x1xf32>) -> (i, j) : tensor<?x8xf32> {
// CHECK-NEXT:    ^bb0(%0: f32, %1: f32):
// CHECK-NEXT:      %2 = arith.subf %0, %1 fastmath<nnan> : f32
// CHECK:         %b = nest.generic [i : parallel, j : parallel] ins(%r (j), %a (i, j) : tensor<8xf32>, tensor<?x8xf32>)
// CHECK:         %h = nest.generic [i : parallel, j : parallel] ins(%b (i, j) : tensor<?x8xf32>) -> (i, j)
// CHECK-NEXT:    ^bb0(%[[P:.*]]: f32):
// CHECK-NEXT:      %[[HALF:.*]] = arith.constant 5.000000e-01 : f32
// CHECK-NEXT:      arith.maximumf %[[P]], %[[HALF]] : f32
// CHECK:         func.return %h
func.func @broadcasting(%x: tensor<?x8xf32>, %c: tensor<?x1xf32>, %r: tensor<8xf32>) -> tensor<?x8xf32> {
  %a = nn.sub %x, %c fastmath<nnan> : tensor<?x8xf32>, tensor<?x1xf32>
  %b = nn.div %r, %a : tensor<8xf32>, tensor<?x8xf32> -> tensor<?x8xf32>
  %half = nn.constant dense<0.5> : tensor<f32>
  %h = nn.max %b, %half : tensor<?x8xf32>, tensor<f32>
  func.return %h : tensor<?x8xf32>
}

// The same operand twice is read once.

// CHECK-LABEL: func.func @square
// CHECK-NEXT:    nest.generic [i : parallel] ins(%x (i) : tensor<?xi32>) -> (i) : tensor<?xi32> {
// CHECK-NEXT:    ^bb0(%[[P:.*]]: i32):
// CHECK-NEXT:      arith.muli %[[P]], %[[P]] : i32
func.func @square(%x: tensor<?xi32>) -> tensor<?xi32> {
  %y = nn.mul %x, %x : tensor<?xi32>, tensor<?xi32>
  func.return %y : tensor<?xi32>
}

// CHECK-LABEL: func.func @functions
// CHECK:           math.exp
// CHECK:           math.tanh
// CHECK:           math.erf
// CHECK:           math.sqrt
// CHECK:           math.rsqrt
// CHECK:           arith.negf
func.func @functions(%x: tensor<f32>) -> tensor<f32> {
  %0 = nn.exp %x : tensor<f32>
  %1 = nn.tanh %0 : tensor<f32>
  %2 = nn.erf %1 : tensor<f32>
  %3 = nn.sqrt %2 : tensor<f32>
  %4 = nn.rsqrt %3 : tensor<f32>
  %5 = nn.neg %4 : tensor<f32>
  func.return %5 : tensor<f32>
}

// What a product may lose stays with it.

// CHECK-LABEL: func.func @precision
// CHECK-NEXT:    nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32 precision tf32
func.func @precision(%a: tensor<?x4xf32>, %b: tensor<8x?xf32>) -> tensor<4x8xf32> {
  %c = nn.contract [m, n, k] %a (k, m), %b (n, k) -> (m, n) accumulate f32 precision tf32
      : tensor<?x4xf32>, tensor<8x?xf32> -> tensor<4x8xf32>
  func.return %c : tensor<4x8xf32>
}

// A contraction keeps its maps; operands are widened to the accumulator type first, and what is narrower than that is
// rounded in a nest of its own, which becomes an epilogue.

// CHECK-LABEL: func.func @contract
// CHECK-NEXT:    nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32
// CHECK-SAME:      ins(%a (k, m), %b (n, k) : tensor<?x4xbf16>, tensor<8x?xbf16>) -> (m, n) : tensor<4x8xf32> {
// CHECK:           arith.extf
// CHECK:           arith.extf
// CHECK:           arith.mulf {{.*}} : f32
// CHECK:         nest.generic [i : parallel, j : parallel] ins(%{{.*}} (i, j) : tensor<4x8xf32>) -> (i, j) : tensor<4x8xbf16> {
// CHECK:           arith.truncf
func.func @contract(%a: tensor<?x4xbf16>, %b: tensor<8x?xbf16>) -> tensor<4x8xbf16> {
  %c = nn.contract [m, n, k] %a (k, m), %b (n, k) -> (m, n) accumulate f32 : tensor<?x4xbf16>, tensor<8x?xbf16> -> tensor<4x8xbf16>
  func.return %c : tensor<4x8xbf16>
}

// Nothing to sum: a product.

// CHECK-LABEL: func.func @outer
// CHECK-NEXT:    nest.generic [m : parallel, n : parallel] ins(%a (m), %b (n) : tensor<?xf32>, tensor<8xf32>) -> (m, n) : tensor<?x8xf32>
func.func @outer(%a: tensor<?xf32>, %b: tensor<8xf32>) -> tensor<?x8xf32> {
  %c = nn.contract [m, n] %a (m), %b (n) -> (m, n) accumulate f32 : tensor<?xf32>, tensor<8xf32> -> tensor<?x8xf32>
  func.return %c : tensor<?x8xf32>
}

// CHECK-LABEL: func.func @reduce
// CHECK-NEXT:    nest.generic [i : parallel, j : reduction, k : parallel] combiner<max> accumulate f32 fastmath<reassoc>
// CHECK-SAME:      ins(%x (i, j, k) : tensor<?x?x4xf32>) -> (i, 0, k) : tensor<?x1x4xf32>
// CHECK:         nest.generic [i : reduction, j : reduction, k : parallel] combiner<add> accumulate f32
// CHECK-SAME:      ins(%0 (i, j, k) : tensor<?x1x4xf32>) -> (k) : tensor<4xf32>
func.func @reduce(%x: tensor<?x?x4xf32>) -> tensor<4xf32> {
  %0 = nn.reduce max %x dims [1] keep_dims : tensor<?x?x4xf32> -> tensor<?x1x4xf32>
  %1 = nn.reduce add %0 dims [0, 1] fastmath<none> : tensor<?x1x4xf32> -> tensor<4xf32>
  func.return %1 : tensor<4xf32>
}

// CHECK-LABEL: func.func @transpose
// CHECK-NEXT:    nest.generic [i : parallel, j : parallel, k : parallel] ins(%x (k, i, j) : tensor<?x4x5xf32>) -> (i, j, k) : tensor<4x5x?xf32>
func.func @transpose(%x: tensor<?x4x5xf32>) -> tensor<4x5x?xf32> {
  %y = nn.transpose %x [1, 2, 0] : tensor<?x4x5xf32> -> tensor<4x5x?xf32>
  func.return %y : tensor<4x5x?xf32>
}

// A size that no operand has comes in through a tensor that nobody reads, until a neighbour has the size.

// CHECK-LABEL: func.func @broadcast
// CHECK-NEXT:    %[[SIZE:.*]] = tensor.empty(%n) : tensor<?xf32>
// CHECK-NEXT:    nest.generic [i : parallel, j : parallel] ins(%v (j), %[[SIZE]] (i) : tensor<8xf32>, tensor<?xf32>) -> (i, j)
// FUSED-LABEL: func.func @broadcast
// FUSED:         nest.generic [i : parallel, j : parallel] ins(%v_1 (j), %x_1 (i, j) :
func.func @broadcast(%v: tensor<8xf32>, %x: tensor<?x8xf32>, %n: index) -> tensor<?x8xf32> {
  %b = nn.broadcast %v dims [1] sizes [%n] : tensor<8xf32> -> tensor<?x8xf32>
  %y = nn.add %b, %x : tensor<?x8xf32>, tensor<?x8xf32>
  func.return %y : tensor<?x8xf32>
}

// A reshape costs nothing.

// CHECK-LABEL: func.func @reshape
// CHECK-NEXT:    %[[FLAT:.*]] = tensor.collapse_shape %x {{.*}} : tensor<?x64xf32> into tensor<?xf32>
// CHECK:         %[[COUNT:.*]] = tensor.dim %[[FLAT]]
// CHECK:         %[[ROWS:.*]] = arith.divui %[[COUNT]],
// CHECK:         tensor.expand_shape %[[FLAT]] {{.*}} output_shape [%[[ROWS]], 8, 8] : tensor<?xf32> into tensor<?x8x8xf32>
// CHECK-NEXT:    func.return
func.func @reshape(%x: tensor<?x64xf32>) -> tensor<?x8x8xf32> {
  %y = nn.reshape %x : tensor<?x64xf32> -> tensor<?x8x8xf32>
  func.return %y : tensor<?x8x8xf32>
}

// CHECK-LABEL: func.func @constants
// CHECK-NEXT:    arith.constant dense<[1.000000e+00, 2.000000e+00]> : tensor<2xf32>
// CHECK-NEXT:    nest.generic [i : parallel] -> (i) : tensor<3xf32>
func.func @constants() -> (tensor<2xf32>, tensor<3xf32>) {
  %a = nn.constant dense<[1.0, 2.0]> : tensor<2xf32>
  %b = nn.constant dense<3.0> : tensor<3xf32>
  func.return %a, %b : tensor<2xf32>, tensor<3xf32>
}

// CHECK-LABEL: func.func @casts
// CHECK:           arith.truncf {{.*}} : f32 to f16
// CHECK:           arith.extf {{.*}} : f16 to f32
// CHECK:           arith.truncf {{.*}} : f32 to bf16
// CHECK:           arith.cmpf une
// CHECK:           arith.extui {{.*}} : i1 to i32
// CHECK:           arith.sitofp {{.*}} : i32 to f64
func.func @casts(%x: tensor<4xf32>) -> tensor<4xf64> {
  %0 = nn.cast %x : tensor<4xf32> -> tensor<4xf16>
  %1 = nn.cast %0 : tensor<4xf16> -> tensor<4xbf16>
  %2 = nn.cast %1 : tensor<4xbf16> -> tensor<4xi1>
  %3 = nn.cast %2 : tensor<4xi1> -> tensor<4xi32>
  %4 = nn.cast %3 : tensor<4xi32> -> tensor<4xf64>
  func.return %4 : tensor<4xf64>
}

// A size is read where no nest computes it.
// CHECK-LABEL: func.func @size_of_a_sum
func.func @size_of_a_sum(%x: tensor<?x?xf32>, %y: tensor<?x?xf32>) -> index {
  // CHECK: nest.generic
  // CHECK: %[[ONE:.*]] = arith.constant 1 : index
  // CHECK-NEXT: tensor.dim %x, %[[ONE]] : tensor<?x?xf32>
  %one = arith.constant 1 : index
  %sum = nn.add %x, %y : tensor<?x?xf32>, tensor<?x?xf32>
  %n = tensor.dim %sum, %one : tensor<?x?xf32>
  func.return %n : index
}

// Column - row is at most columns - rows, which is a constant or comes in as a tensor of rank 0.

// CHECK-LABEL: func.func @causal_mask
func.func @causal_mask(%x: tensor<2x4x6xf32>, %y: tensor<4x?xf32>) -> (tensor<2x4x6xf32>, tensor<4x?xf32>) {
  // CHECK-NEXT: nest.generic [i : parallel, j : parallel, k : parallel] ins(%x (i, j, k) : tensor<2x4x6xf32>)
  // CHECK: %[[ROW:.*]] = nest.index j
  // CHECK-NEXT: %[[COLUMN:.*]] = nest.index k
  // CHECK-NEXT: %[[MORE:.*]] = arith.constant 2 : index
  // CHECK-NEXT: %[[FAR:.*]] = arith.subi %[[COLUMN]], %[[ROW]] : index
  // CHECK-NEXT: arith.cmpi sle, %[[FAR]], %[[MORE]] : index
  // CHECK-NEXT: arith.constant 0xff800000 : f32
  // CHECK-NEXT: arith.select
  // CHECK: %[[SIZE:.*]] = tensor.from_elements %{{.*}} : tensor<index>
  // CHECK-NEXT: nest.generic [i : parallel, j : parallel]
  // CHECK-SAME: ins(%y (i, j), %[[SIZE]] () : tensor<4x?xf32>, tensor<index>)
  %0 = nn.causal_mask %x : tensor<2x4x6xf32>
  %1 = nn.causal_mask %y : tensor<4x?xf32>
  func.return %0, %1 : tensor<2x4x6xf32>, tensor<4x?xf32>
}
