// RUN: crosstile-opt %s | crosstile-opt | filecheck %s
// RUN: crosstile-opt --mlir-print-op-generic %s | crosstile-opt | filecheck %s
// RUN: crosstile-opt --mlir-print-op-generic %s | filecheck %s --check-prefix=GENERIC

// CHECK-LABEL: func.func @elementwise
func.func @elementwise(%x: tensor<?x64xf32> {nn.dims = ["N", "_"]}, %b: tensor<64xf32>, %i: tensor<1x?xi32>) {
  // CHECK: %half = nn.constant dense<5.000000e-01> : tensor<f32>
  %half = nn.constant dense<0.5> : tensor<f32>
  // CHECK-NEXT: nn.neg %x : tensor<?x64xf32>
  // CHECK-NEXT: nn.abs %x : tensor<?x64xf32>
  // CHECK-NEXT: nn.log %x : tensor<?x64xf32>
  // CHECK-NEXT: nn.sigmoid %x : tensor<?x64xf32>
  // CHECK-NEXT: nn.exp %x fastmath<afn> : tensor<?x64xf32>
  // CHECK-NEXT: nn.tanh %x : tensor<?x64xf32>
  // CHECK-NEXT: nn.erf %x : tensor<?x64xf32>
  // CHECK-NEXT: nn.sqrt %x : tensor<?x64xf32>
  // CHECK-NEXT: nn.rsqrt %x : tensor<?x64xf32>
  // CHECK-NEXT: nn.relu %x : tensor<?x64xf32>
  // CHECK-NEXT: nn.silu %x : tensor<?x64xf32>
  // CHECK-NEXT: nn.gelu %x : tensor<?x64xf32>
  // CHECK-NEXT: nn.gelu %x approximate tanh {note = 1 : i32} : tensor<?x64xf32>
  // GENERIC: "nn.exp"(%x) <{fastmath = #arith.fastmath<afn>}>
  // GENERIC: "nn.gelu"(%x) <{fastmath = #arith.fastmath<none>, approximate = "none"}>
  %0 = nn.neg %x : tensor<?x64xf32>
  %abs = nn.abs %x : tensor<?x64xf32>
  %log = nn.log %x : tensor<?x64xf32>
  %sigmoid = nn.sigmoid %x : tensor<?x64xf32>
  %1 = nn.exp %x fastmath<afn> : tensor<?x64xf32>
  %2 = nn.tanh %x : tensor<?x64xf32>
  %3 = nn.erf %x : tensor<?x64xf32>
  %4 = nn.sqrt %x : tensor<?x64xf32>
  %5 = nn.rsqrt %x : tensor<?x64xf32>
  %6 = nn.relu %x : tensor<?x64xf32>
  %7 = nn.silu %x : tensor<?x64xf32>
  %8 = nn.gelu %x approximate none : tensor<?x64xf32>
  %9 = nn.gelu %x approximate tanh {note = 1 : i32} : tensor<?x64xf32>

  // The type of the result is printed where it is not the first operand's.
  // CHECK: nn.add %x, %b : tensor<?x64xf32>, tensor<64xf32>{{$}}
  // CHECK-NEXT: nn.sub %b, %x : tensor<64xf32>, tensor<?x64xf32> -> tensor<?x64xf32>
  // CHECK-NEXT: nn.mul %half, %b : tensor<f32>, tensor<64xf32> -> tensor<64xf32>
  // CHECK-NEXT: nn.div %x, %half : tensor<?x64xf32>, tensor<f32>
  // CHECK-NEXT: nn.max %x, %x : tensor<?x64xf32>, tensor<?x64xf32>
  // CHECK-NEXT: nn.min %i, %i : tensor<1x?xi32>, tensor<1x?xi32>
  // CHECK-NEXT: nn.cast %i : tensor<1x?xi32> -> tensor<1x?xf64>
  %10 = nn.add %x, %b : tensor<?x64xf32>, tensor<64xf32>
  %11 = nn.sub %b, %x : tensor<64xf32>, tensor<?x64xf32>
  %12 = nn.mul %half, %b : tensor<f32>, tensor<64xf32>
  %13 = nn.div %x, %half : tensor<?x64xf32>, tensor<f32> -> tensor<?x64xf32>
  %14 = nn.max %x, %x : tensor<?x64xf32>, tensor<?x64xf32>
  %15 = nn.min %i, %i : tensor<1x?xi32>, tensor<1x?xi32>
  %16 = nn.cast %i : tensor<1x?xi32> -> tensor<1x?xf64>
  func.return
}

// CHECK-LABEL: func.func @contraction
func.func @contraction(%a: tensor<?x64xf32>, %b: tensor<10x64xf32>, %p: tensor<8x?x16xbf16>, %q: tensor<8x16x?xbf16>) {
  // CHECK-NEXT: nn.matmul %a, %b {transpose_b} accumulate f32 : tensor<?x64xf32>, tensor<10x64xf32> -> tensor<?x10xf32>
  // CHECK-NEXT: nn.matmul %b, %b {transpose_a} accumulate f64 fastmath<reassoc> {note} :
  // CHECK-SAME: tensor<10x64xf32>, tensor<10x64xf32> -> tensor<64x64xf64>
  // GENERIC: "nn.matmul"(%a, %b) <{transpose_b, accumulator_type = f32, fastmath = #arith.fastmath<none>}>
  %0 = nn.matmul %a, %b {transpose_b} accumulate f32 : tensor<?x64xf32>, tensor<10x64xf32>
  %1 = nn.matmul %b, %b {transpose_a, note} accumulate f64 fastmath<reassoc>
      : tensor<10x64xf32>, tensor<10x64xf32> -> tensor<64x64xf64>
  // CHECK-NEXT: nn.matmul %a, %b {transpose_b} accumulate f32 precision tf32 fastmath<reassoc> : tensor<?x64xf32>
  %tf32 = nn.matmul %a, %b {transpose_b} accumulate f32 precision tf32 fastmath<reassoc>
      : tensor<?x64xf32>, tensor<10x64xf32>
  // CHECK-NEXT: nn.batch_matmul %p, %q accumulate f32 : tensor<8x?x16xbf16>, tensor<8x16x?xbf16> -> tensor<8x?x?xbf16>
  // CHECK-NEXT: nn.batch_matmul %p, %p {transpose_a} accumulate f32 : tensor<8x?x16xbf16>, tensor<8x?x16xbf16> -> tensor<8x16x16xf32>
  %bmm = nn.batch_matmul %p, %q accumulate f32 : tensor<8x?x16xbf16>, tensor<8x16x?xbf16>
  %gram = nn.batch_matmul %p, %p {transpose_a} accumulate f32
      : tensor<8x?x16xbf16>, tensor<8x?x16xbf16> -> tensor<8x16x16xf32>
  // CHECK-NEXT: nn.contract [b, m, n, k] %p (b, m, k), %q (b, k, n) -> (b, m, n) accumulate f32 :
  // CHECK-SAME: tensor<8x?x16xbf16>, tensor<8x16x?xbf16> -> tensor<8x?x?xbf16>
  // CHECK-NEXT: nn.contract [k0, m, n, k1] %p (k0, m, k1), %q (k0, k1, n) -> (n, m) accumulate f32 :
  // CHECK-SAME: tensor<8x?x16xbf16>, tensor<8x16x?xbf16> -> tensor<?x?xf32>
  // GENERIC: indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d3)>,
  %2 = nn.contract [batch, i, j, k] %p (batch, i, k), %q (batch, k, j) -> (batch, i, j) accumulate f32
      : tensor<8x?x16xbf16>, tensor<8x16x?xbf16>
  %3 = nn.contract [b, i, j, k] %p (b, i, k), %q (b, k, j) -> (j, i) accumulate f32
      : tensor<8x?x16xbf16>, tensor<8x16x?xbf16> -> tensor<?x?xf32>
  func.return
}

// CHECK-LABEL: func.func @convolution
func.func @convolution(%x: tensor<?x6x?x9xf32>, %w: tensor<8x6x3x2xf32>, %v: tensor<4x2x6x8xf32>, %y: tensor<2x?x9x12xf32>) {
  // CHECK-NEXT: nn.conv2d %x, %w nchw accumulate f32 : tensor<?x6x?x9xf32>, tensor<8x6x3x2xf32> -> tensor<?x8x?x8xf32>
  // CHECK-NEXT: nn.conv2d %y, %v nhwc strides [1, 2] padding [1, 2, 3, 0] dilations [2, 3] groups 2 accumulate f64
  // CHECK-SAME: fastmath<reassoc> : tensor<2x?x9x12xf32>, tensor<4x2x6x8xf32> -> tensor<2x?x5x8xf64>
  // GENERIC: "nn.conv2d"(%x, %w) <{layout = "nchw", strides = array<i64: 1, 1>, padding = array<i64: 0, 0, 0, 0>,
  %0 = nn.conv2d %x, %w nchw accumulate f32 : tensor<?x6x?x9xf32>, tensor<8x6x3x2xf32>
  %1 = nn.conv2d %y, %v nhwc strides [1, 2] padding [1, 2, 3, 0] dilations [2, 3] groups 2 accumulate f64
      fastmath<reassoc> : tensor<2x?x9x12xf32>, tensor<4x2x6x8xf32> -> tensor<2x?x5x8xf64>
  func.return
}

// CHECK-LABEL: func.func @reduction
func.func @reduction(%x: tensor<?x4x?xf32>, %v: tensor<?xf32>) {
  // CHECK-NEXT: nn.reduce add %x dims [2] keep_dims : tensor<?x4x?xf32> -> tensor<?x4x1xf32>
  // CHECK-NEXT: nn.reduce max %x dims [0, 1] fastmath<none> : tensor<?x4x?xf32> -> tensor<?xf32>
  // CHECK-NEXT: nn.softmax %x dim 1 : tensor<?x4x?xf32>
  // CHECK-NEXT: nn.layer_norm %x, %v, %v epsilon 1.0e-05 : tensor<?x4x?xf32>, tensor<?xf32>, tensor<?xf32>
  // CHECK-NEXT: nn.rms_norm %x, %v epsilon 0.0 fastmath<none> : tensor<?x4x?xf32>, tensor<?xf32>
  // GENERIC: "nn.reduce"(%x) <{kind = "add", dims = array<i64: 2>, keep_dims, fastmath = #arith.fastmath<reassoc>}>
  %0 = nn.reduce add %x dims [2] keep_dims : tensor<?x4x?xf32>
  %1 = nn.reduce max %x dims [0, 1] fastmath<none> : tensor<?x4x?xf32> -> tensor<?xf32>
  %2 = nn.softmax %x dim 1 fastmath<reassoc> : tensor<?x4x?xf32>
  %3 = nn.layer_norm %x, %v, %v epsilon 0.00001 : tensor<?x4x?xf32>, tensor<?xf32>, tensor<?xf32>
  %4 = nn.rms_norm %x, %v epsilon 0.0 fastmath<none> : tensor<?x4x?xf32>, tensor<?xf32>
  func.return
}

// CHECK-LABEL: func.func @attention
func.func @attention(%q: tensor<?x8x?x64xbf16>, %k: tensor<?x2x?x64xbf16>, %v: tensor<?x2x?x32xbf16>,
                     %b: tensor<8x1x?xbf16>, %s: tensor<4x?xf64>) {
  // CHECK-NEXT: nn.attention %q, %k, %v accumulate f32 :
  // CHECK-SAME: tensor<?x8x?x64xbf16>, tensor<?x2x?x64xbf16>, tensor<?x2x?x32xbf16> -> tensor<?x8x?x32xbf16>
  // CHECK-NEXT: nn.attention %q, %k, %v bias %b causal scale 0.25 accumulate f32 fastmath<none> :
  // CHECK-SAME: tensor<?x2x?x32xbf16>, tensor<8x1x?xbf16> -> tensor<?x8x?x32xbf16>
  // CHECK-NEXT: nn.causal_mask %s : tensor<4x?xf64>
  // GENERIC: "nn.attention"(%q, %k, %v) <{accumulator_type = f32, fastmath = #arith.fastmath<reassoc>}>
  %0 = nn.attention %q, %k, %v accumulate f32 : tensor<?x8x?x64xbf16>, tensor<?x2x?x64xbf16>, tensor<?x2x?x32xbf16>
  %1 = nn.attention %q, %k, %v bias %b causal scale 0.25 accumulate f32 fastmath<none>
      : tensor<?x8x?x64xbf16>, tensor<?x2x?x64xbf16>, tensor<?x2x?x32xbf16>, tensor<8x1x?xbf16>
  %2 = nn.causal_mask %s : tensor<4x?xf64>
  func.return
}

// CHECK-LABEL: func.func @reshaping
func.func @reshaping(%x: tensor<?x64xf32>, %v: tensor<1x1xf32>, %n: index) {
  // CHECK-NEXT: nn.transpose %x [1, 0] : tensor<?x64xf32> -> tensor<64x?xf32>
  // CHECK-NEXT: nn.reshape %x : tensor<?x64xf32> -> tensor<?x8x8xf32>
  // CHECK-NEXT: nn.reshape %x sizes [%n, %n] : tensor<?x64xf32> -> tensor<?x?xf32>
  // CHECK-NEXT: nn.broadcast %v dims [1, 2] sizes [%n] : tensor<1x1xf32> -> tensor<3x?x1xf32>
  // CHECK-NEXT: nn.broadcast %x dims [1, 2] : tensor<?x64xf32> -> tensor<3x?x64xf32>
  %0 = nn.transpose %x [1, 0] : tensor<?x64xf32>
  %1 = nn.reshape %x : tensor<?x64xf32> -> tensor<?x8x8xf32>
  %2 = nn.reshape %x sizes [%n, %n] : tensor<?x64xf32> -> tensor<?x?xf32>
  %3 = nn.broadcast %v dims [1, 2] sizes [%n] : tensor<1x1xf32> -> tensor<3x?x1xf32>
  %4 = nn.broadcast %x dims [1, 2] : tensor<?x64xf32> -> tensor<3x?x64xf32>
  func.return
}

// CHECK-LABEL: @products_of_integers
func.func @products_of_integers(%a: tensor<?x64xi8>, %b: tensor<64x10xi8>) -> tensor<?x10xi32> {
  // CHECK: nn.matmul %a, %b {unsigned_a} accumulate i32 : tensor<?x64xi8>, tensor<64x10xi8> -> tensor<?x10xi32>
  %c = nn.matmul %a, %b {unsigned_a} accumulate i32 : tensor<?x64xi8>, tensor<64x10xi8> -> tensor<?x10xi32>
  // CHECK: nn.contract [m, n, k] %a (m, k), %b (k, n) -> (m, n) {unsigned_b} accumulate i32 :
  %d = nn.contract [m, n, k] %a (m, k), %b (k, n) -> (m, n) {unsigned_b} accumulate i32
      : tensor<?x64xi8>, tensor<64x10xi8> -> tensor<?x10xi32>
  %e = nn.add %c, %d : tensor<?x10xi32>, tensor<?x10xi32>
  func.return %e : tensor<?x10xi32>
}
