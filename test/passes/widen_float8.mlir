// RUN: crosstile-opt %s --decompose --widen-float8=target=nvidia-sm_90a | filecheck %s
// RUN: crosstile-opt %s --decompose --widen-float8=target=nvidia-sm_80 | filecheck %s --check-prefix SM80
// RUN: crosstile-opt %s --decompose --widen-float8=target=x86-64-avx2 | filecheck %s --check-prefix SM80

// What the machine multiplies, and the program allows it to sum, stays, whichever dimension is contiguous.

// CHECK-LABEL: @allowed
// CHECK-NEXT:    nn.contract {{.*}} accumulate f32 precision fast_accumulation : tensor<?x?xf8E4M3FN>, tensor<?x?xf8E4M3FN>
// SM80-LABEL:  @allowed
// SM80-NEXT:     nn.cast %a : tensor<?x?xf8E4M3FN> -> tensor<?x?xbf16>
// SM80-NEXT:     nn.cast %b : tensor<?x?xf8E4M3FN> -> tensor<?x?xbf16>
// SM80-NEXT:     nn.contract {{.*}} accumulate f32 : tensor<?x?xbf16>, tensor<?x?xbf16> -> tensor<?x?xf32>
func.func @allowed(%a: tensor<?x?xf8E4M3FN>, %b: tensor<?x?xf8E4M3FN>) -> tensor<?x?xf32> {
  %c = nn.matmul %a, %b {transpose_b} accumulate f32 precision fast_accumulation
      : tensor<?x?xf8E4M3FN>, tensor<?x?xf8E4M3FN>
  func.return %c : tensor<?x?xf32>
}

// CHECK-LABEL: @columns
// CHECK-NEXT:    nn.contract {{.*}} accumulate f32 precision fast_accumulation : tensor<?x?xf8E5M2>, tensor<?x?xf8E5M2>
func.func @columns(%a: tensor<?x?xf8E5M2>, %b: tensor<?x?xf8E5M2>) -> tensor<?x?xf32> {
  %c = nn.matmul %a, %b accumulate f32 precision fast_accumulation : tensor<?x?xf8E5M2>, tensor<?x?xf8E5M2>
  func.return %c : tensor<?x?xf32>
}

// CHECK-LABEL: @mixed
// CHECK-NEXT:    nn.contract {{.*}} : tensor<?x?xf8E4M3FN>, tensor<?x?xf8E5M2> -> tensor<?x?xf32>
// SM80-LABEL:  @mixed
// SM80:          nn.contract {{.*}} : tensor<?x?xbf16>, tensor<?x?xbf16> -> tensor<?x?xf32>
func.func @mixed(%a: tensor<?x?xf8E4M3FN>, %b: tensor<?x?xf8E5M2>) -> tensor<?x?xf32> {
  %c = nn.matmul %a, %b accumulate f32 precision fast_accumulation : tensor<?x?xf8E4M3FN>, tensor<?x?xf8E5M2>
  func.return %c : tensor<?x?xf32>
}

// Sums of f32, and factors of which neighbours are of different products of a stack, are products of bf16, which holds
// every number of both types.

// CHECK-LABEL: @exact
// CHECK:         nn.contract {{.*}} accumulate f32 : tensor<?x?xbf16>, tensor<?x?xbf16> -> tensor<?x?xf32>
func.func @exact(%a: tensor<?x?xf8E5M2>, %b: tensor<?x?xf8E5M2>) -> tensor<?x?xf32> {
  %c = nn.matmul %a, %b {transpose_b} accumulate f32 : tensor<?x?xf8E5M2>, tensor<?x?xf8E5M2>
  func.return %c : tensor<?x?xf32>
}

// CHECK-LABEL: @stacked
// CHECK:         nn.contract {{.*}} : tensor<?x?x?xbf16>, tensor<?x?x?xbf16> -> tensor<?x?x?xf32>
func.func @stacked(%a: tensor<?x?x?xf8E5M2>, %b: tensor<?x?x?xf8E5M2>) -> tensor<?x?x?xf32> {
  %c = nn.contract [batch, m, n, k] %a (m, k, batch), %b (batch, k, n) -> (batch, m, n)
      accumulate f32 precision fast_accumulation : tensor<?x?x?xf8E5M2>, tensor<?x?x?xf8E5M2> -> tensor<?x?x?xf32>
  func.return %c : tensor<?x?x?xf32>
}
