// RUN: crosstile-opt --decompose %s | filecheck %s

// CHECK-LABEL: func.func @matmul
func.func @matmul(%a: tensor<?x8xbf16>, %b: tensor<4x8xbf16>) -> tensor<?x4xf32> {
  // CHECK-NEXT: nn.contract [m, n, k] %a (m, k), %b (n, k) -> (m, n) accumulate f32
  // CHECK-SAME: : tensor<?x8xbf16>, tensor<4x8xbf16> -> tensor<?x4xf32>
  %0 = nn.matmul %a, %b {transpose_b} accumulate f32 : tensor<?x8xbf16>, tensor<4x8xbf16> -> tensor<?x4xf32>
  func.return %0 : tensor<?x4xf32>
}

// CHECK-LABEL: func.func @batch_matmul
func.func @batch_matmul(%a: tensor<2x?x?x8xf32>, %b: tensor<2x?x4x8xf32>) -> tensor<2x?x?x4xf32> {
  // CHECK-NEXT: nn.contract [b0, b1, m, n, k] %a (b0, b1, m, k), %b (b0, b1, n, k) -> (b0, b1, m, n) accumulate f32
  %0 = nn.batch_matmul %a, %b {transpose_b} accumulate f32 : tensor<2x?x?x8xf32>, tensor<2x?x4x8xf32>
  func.return %0 : tensor<2x?x?x4xf32>
}

// CHECK-LABEL: func.func @relu
func.func @relu(%x: tensor<4xf32>, %i: tensor<4xi32>) -> (tensor<4xf32>, tensor<4xi32>) {
  // CHECK-NEXT: %[[ZERO:.*]] = nn.constant dense<0.000000e+00> : tensor<f32>
  // CHECK-NEXT: nn.max %x, %[[ZERO]] fastmath<nnan> {nn.origin = "relu"} : tensor<4xf32>, tensor<f32>
  // CHECK-NEXT: %[[ZERO:.*]] = nn.constant dense<0> : tensor<i32>
  // CHECK-NEXT: nn.max %i, %[[ZERO]]{{.*}} : tensor<4xi32>, tensor<i32>
  %0 = nn.relu %x fastmath<nnan> : tensor<4xf32>
  %1 = nn.relu %i : tensor<4xi32>
  func.return %0, %1 : tensor<4xf32>, tensor<4xi32>
}

// CHECK-LABEL: func.func @gelu
func.func @gelu(%x: tensor<?xf64>) -> tensor<?xf64> {
  // CHECK-NEXT: %[[SCALE:.*]] = nn.constant dense<0.70710678118654757> : tensor<f64>
  // CHECK-NEXT: %[[SCALED:.*]] = nn.mul %x, %[[SCALE]]
  // CHECK-NEXT: %[[ERF:.*]] = nn.erf %[[SCALED]]
  // CHECK-NEXT: %[[HALF:.*]] = nn.constant dense<5.000000e-01>
  // CHECK-NEXT: %[[HALVED:.*]] = nn.mul %x, %[[HALF]]
  // CHECK-NEXT: %[[ONE:.*]] = nn.constant dense<1.000000e+00>
  // CHECK-NEXT: %[[SUM:.*]] = nn.add %[[ERF]], %[[ONE]]
  // CHECK-NEXT: nn.mul %[[HALVED]], %[[SUM]]{{.*}} : tensor<?xf64>, tensor<?xf64>
  %0 = nn.gelu %x : tensor<?xf64>
  func.return %0 : tensor<?xf64>
}

// CHECK-LABEL: func.func @softmax
func.func @softmax(%x: tensor<?x?xf32>) -> tensor<?x?xf32> {
  // CHECK-NEXT: %[[MAX:.*]] = nn.reduce max %x dims [0] keep_dims fastmath<none>{{.*}} : tensor<?x?xf32> -> tensor<1x?xf32>
  // CHECK-NEXT: %[[SHIFTED:.*]] = nn.sub %x, %[[MAX]]{{.*}} : tensor<?x?xf32>, tensor<1x?xf32>
  // CHECK-NEXT: %[[EXP:.*]] = nn.exp %[[SHIFTED]]
  // CHECK-NEXT: %[[SUM:.*]] = nn.reduce add %[[EXP]] dims [0] keep_dims fastmath<none>
  // CHECK-NEXT: nn.div %[[EXP]], %[[SUM]]{{.*}} : tensor<?x?xf32>, tensor<1x?xf32>
  %0 = nn.softmax %x dim 0 fastmath<none> : tensor<?x?xf32>
  func.return %0 : tensor<?x?xf32>
}

// Narrow floats are computed in f32 and rounded once.
// CHECK-LABEL: func.func @narrow_softmax
func.func @narrow_softmax(%x: tensor<?x?xbf16>) -> tensor<?x?xbf16> {
  // CHECK-NEXT: %[[X:.*]] = nn.cast %x{{.*}} : tensor<?x?xbf16> -> tensor<?x?xf32>
  // CHECK-NEXT: %[[MAX:.*]] = nn.reduce max %[[X]] dims [1] keep_dims
  // CHECK-NEXT: nn.sub %[[X]], %[[MAX]]
  // CHECK:      %[[Y:.*]] = nn.div {{.*}} : tensor<?x?xf32>, tensor<?x1xf32>
  // CHECK-NEXT: nn.cast %[[Y]]{{.*}} : tensor<?x?xf32> -> tensor<?x?xbf16>
  // CHECK-NEXT: func.return
  %0 = nn.softmax %x dim 1 : tensor<?x?xbf16>
  func.return %0 : tensor<?x?xbf16>
}

// What frees the order of the sum also lets exponentials be approximate and quotients be products.
// CHECK-LABEL: func.func @free_softmax
func.func @free_softmax(%x: tensor<?x?xf32>) -> tensor<?x?xf32> {
  // CHECK: nn.exp %{{.*}} fastmath<afn>
  // CHECK: nn.div %{{.*}} fastmath<arcp>
  %0 = nn.softmax %x dim 1 : tensor<?x?xf32>
  func.return %0 : tensor<?x?xf32>
}

// A maximum rounds nothing.
// CHECK-LABEL: func.func @narrow_relu
// CHECK-NOT: nn.cast
// CHECK:     nn.max %x
// CHECK-NOT: nn.cast
// CHECK:     func.return
func.func @narrow_relu(%x: tensor<?xf16>) -> tensor<?xf16> {
  %0 = nn.relu %x : tensor<?xf16>
  func.return %0 : tensor<?xf16>
}

// A row length that is only known at run time is read where it is needed. What frees the order of the sum lets its reciprocal
// be a factor, the root be approximate, and the last product and sum be rounded once.
// CHECK-LABEL: func.func @layer_norm
func.func @layer_norm(%x: tensor<4x?xf32>, %g: tensor<?xf32>, %b: tensor<?xf32>) -> tensor<4x?xf32> {
  // CHECK-NEXT: %[[SUM:.*]] = nn.reduce add %x dims [1] keep_dims{{.*}} : tensor<4x?xf32> -> tensor<4x1xf32>
  // CHECK-NEXT: %[[DIM:.*]] = arith.constant 1 : index
  // CHECK-NEXT: %[[LENGTH:.*]] = tensor.dim %x, %[[DIM]] : tensor<4x?xf32>
  // CHECK-NEXT: %[[INTEGER:.*]] = arith.index_cast %[[LENGTH]] : index to i64
  // CHECK-NEXT: %[[FLOAT:.*]] = arith.sitofp %[[INTEGER]] : i64 to f32
  // CHECK-NEXT: %[[ONE:.*]] = arith.constant 1.000000e+00 : f32
  // CHECK-NEXT: %[[QUOTIENT:.*]] = arith.divf %[[ONE]], %[[FLOAT]] : f32
  // CHECK-NEXT: %[[RECIPROCAL:.*]] = tensor.from_elements %[[QUOTIENT]] : tensor<f32>
  // CHECK-NEXT: %[[MEAN:.*]] = nn.mul %[[SUM]], %[[RECIPROCAL]]{{.*}} : tensor<4x1xf32>, tensor<f32>
  // CHECK-NEXT: %[[CENTRED:.*]] = nn.sub %x, %[[MEAN]]
  // CHECK: nn.rsqrt %{{.*}} fastmath<afn>
  // CHECK: nn.mul %{{.*}}, %g fastmath<contract>{{.*}} : tensor<4x?xf32>, tensor<?xf32>
  // CHECK-NEXT: nn.add %{{.*}}, %b fastmath<contract>{{.*}} : tensor<4x?xf32>, tensor<?xf32>
  %0 = nn.layer_norm %x, %g, %b epsilon 1.0e-5 : tensor<4x?xf32>, tensor<?xf32>, tensor<?xf32>
  func.return %0 : tensor<4x?xf32>
}

// CHECK-LABEL: func.func @rms_norm
func.func @rms_norm(%x: tensor<?x8xf32>, %g: tensor<8xf32>) -> tensor<?x8xf32> {
  // CHECK-NEXT: %[[SQUARE:.*]] = nn.mul %x, %x
  // CHECK-NEXT: %[[SUM:.*]] = nn.reduce add %[[SQUARE]] dims [1] keep_dims{{.*}} : tensor<?x8xf32> -> tensor<?x1xf32>
  // CHECK-NEXT: %[[SIZE:.*]] = nn.constant dense<8.000000e+00> : tensor<f32>
  // CHECK-NEXT: %[[MEAN:.*]] = nn.div %[[SUM]], %[[SIZE]]
  // CHECK: %[[SCALE:.*]] = nn.rsqrt %{{[^ ]*}} {nn.origin
  // CHECK-NEXT: %[[SCALED:.*]] = nn.mul %x, %[[SCALE]]
  // CHECK-NEXT: nn.mul %[[SCALED]], %g
  %0 = nn.rms_norm %x, %g epsilon 1.0e-5 fastmath<none> : tensor<?x8xf32>, tensor<8xf32>
  func.return %0 : tensor<?x8xf32>
}

// A query that sees no key has the maximum -inf and the sum 0: their lower limits make its weights 0.

// CHECK-LABEL: func.func @attention
func.func @attention(%q: tensor<2x4x?x16xf32>, %k: tensor<2x2x?x16xf32>, %v: tensor<2x2x?x8xf32>,
                     %b: tensor<4x?x?xf32>) -> tensor<2x4x?x8xf32> {
  // CHECK: %[[Q:.*]] = nn.reshape %q{{.*}} -> tensor<2x2x2x?x16xf32>
  // CHECK: %[[B:.*]] = nn.reshape %b sizes [%{{.*}}, %{{.*}}]{{.*}} -> tensor<2x2x?x?xf32>
  // CHECK: %[[S:.*]] = nn.contract [b0, b1, m0, m1, n, k] %[[Q]] (b0, b1, m0, m1, k), %k (b0, b1, n, k)
  // CHECK-SAME: -> (b0, b1, m0, m1, n) accumulate f32 {
  // CHECK: nn.mul %[[S]], %{{.*}}
  // CHECK: nn.add
  // CHECK: nn.causal_mask
  // CHECK: nn.reduce max
  // CHECK-NEXT: nn.constant dense<-3.40282347e+38>
  // CHECK-NEXT: nn.max
  // CHECK: nn.reduce add
  // CHECK-NEXT: nn.constant dense<6.10351562e-05>
  // CHECK-NEXT: nn.max
  // CHECK-NEXT: %[[P:.*]] = nn.div
  // CHECK-NEXT: %[[O:.*]] = nn.contract [b0, b1, m0, m1, n, k] %[[P]] (b0, b1, m0, m1, k), %v (b0, b1, k, n)
  // CHECK-SAME: accumulate f32 {nn.origin = "attention"}
  // CHECK: nn.reshape %[[O]]{{.*}} -> tensor<2x4x?x8xf32>
  %0 = nn.attention %q, %k, %v bias %b causal accumulate f32
      : tensor<2x4x?x16xf32>, tensor<2x2x?x16xf32>, tensor<2x2x?x8xf32>, tensor<4x?x?xf32>
  func.return %0 : tensor<2x4x?x8xf32>
}
