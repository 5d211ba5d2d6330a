// RUN: crosstile-opt %s --decompose --canonicalize --nn-to-nest --fuse --fuse-factors=target=x86-64-avx512 --split-input-file | filecheck %s
// RUN: crosstile-opt %s --decompose --canonicalize --nn-to-nest --fuse --fuse-factors=target=x86-64-avx512 --choose-schedule=target=x86-64-avx512 --split-input-file | filecheck %s --check-prefix=SCHEDULE
// RUN: crosstile-opt %s --decompose --canonicalize --nn-to-nest --fuse --fuse-factors=target=x86-64-avx512-bf16 --split-input-file | filecheck %s --check-prefix=WORDS
// RUN: crosstile-opt %s --decompose --canonicalize --nn-to-nest --fuse --fuse-factors=target=x86-64-amx --split-input-file | filecheck %s --check-prefix=TILES
// RUN: crosstile-opt %s --decompose --canonicalize --nn-to-nest --fuse --fuse-factors=target=x86-64-avx512-vnni --offset-signs=target=x86-64-avx512-vnni --split-input-file | filecheck %s --check-prefix=BYTES

// An activation of the left factor moves into the product's kernel. Its blocks are staged before the panels of the right
// factor; of few rows all of k is, and the right factor is read in place.

// CHECK-LABEL: func.func @activation
// CHECK:         nest.kernel @relu_matmul (%x_1 = %x : tensor<?x?xf32>, %w_1 = %w : tensor<?x?xf32>)
// CHECK-NEXT:      %[[A:.*]] = nest.generic [m : parallel, k : parallel] ins(%x_1 (m, k)
// CHECK:             arith.maximumf
// CHECK:           nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate f32 ins(%[[A]] (m, k), %w_1 (k, n)
// CHECK-NOT:     nest.kernel
// SCHEDULE-LABEL: func.func @activation
// SCHEDULE:      m <= 32 : #nest.schedule<loops = [m : 32, k : 4096 balanced 8, k : 32, n : 48, m : 8], parallel = n grain 48, lane = n, stage = [0],
// SCHEDULE-SAME: #nest.schedule<loops = [k : 1024 balanced 8, m : 1020 balanced 6, n : 128, m : 24, n : 64, m : 6], parallel = m grain 6, lane = n, stage = [0, 1],
func.func @activation(%x: tensor<?x?xf32>, %w: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %a = nn.relu %x : tensor<?x?xf32>
  %y = nn.matmul %a, %w accumulate f32 : tensor<?x?xf32>, tensor<?x?xf32>
  func.return %y : tensor<?x?xf32>
}

// -----

// A norm, whose sums are over what the product sums over, and what follows the product.

// CHECK-LABEL: func.func @norm
// CHECK:         nest.kernel @rms_norm_matmul_add
// CHECK:           nest.generic [m : parallel, k : reduction] combiner<add>
// CHECK:           nest.generic [m : parallel, n : parallel, k : reduction] combiner<add>
// CHECK:           nest.generic [m : parallel, n : parallel]
// CHECK-NOT:     nest.kernel
func.func @norm(%x: tensor<?x64xf32>, %g: tensor<64xf32>, %w: tensor<64x96xf32>, %b: tensor<96xf32>) -> tensor<?x96xf32> {
  %a = nn.rms_norm %x, %g epsilon 1.0e-5 : tensor<?x64xf32>, tensor<64xf32>
  %p = nn.matmul %a, %w accumulate f32 : tensor<?x64xf32>, tensor<64x96xf32>
  %y = nn.add %p, %b : tensor<?x96xf32>, tensor<96xf32>
  func.return %y : tensor<?x96xf32>
}

// -----

// Weights that are widened and scaled, in the order in which they lie: panels are computed where they would be packed.

// CHECK-LABEL: func.func @dequantised
// CHECK:         nest.kernel @mul_matmul
// CHECK:           nest.generic [n : parallel, k : parallel] ins(%w_1 (n, k), %s_1 (n, 0)
// CHECK:           nest.generic [m : parallel, n : parallel, k : reduction]
// CHECK-NOT:     nest.kernel
// SCHEDULE-LABEL: func.func @dequantised
// SCHEDULE:      #nest.schedule<loops = [k : 1024 balanced 8, m : 2046 balanced 6, n : 128, m : 24, n : 64, m : 6], parallel = m grain 6, lane = n, stage = [1],
func.func @dequantised(%x: tensor<?x?xf32>, %w: tensor<?x?xi8>, %s: tensor<?x1xf32>) -> tensor<?x?xf32> {
  %c = nn.cast %w : tensor<?x?xi8> -> tensor<?x?xf32>
  %v = nn.mul %c, %s : tensor<?x?xf32>, tensor<?x1xf32>
  %y = nn.matmul %x, %v {transpose_b} accumulate f32 : tensor<?x?xf32>, tensor<?x?xf32>
  func.return %y : tensor<?x?xf32>
}

// -----

// A value that something else reads is in memory anyway.

// CHECK-LABEL: func.func @read_twice
// CHECK:         nest.kernel @relu (
// CHECK:         nest.kernel @matmul (
func.func @read_twice(%x: tensor<?x?xf32>, %w: tensor<?x?xf32>) -> (tensor<?x?xf32>, tensor<?x?xf32>) {
  %a = nn.relu %x : tensor<?x?xf32>
  %y = nn.matmul %a, %w accumulate f32 : tensor<?x?xf32>, tensor<?x?xf32>
  func.return %a, %y : tensor<?x?xf32>, tensor<?x?xf32>
}

// -----

// The right factor would be computed for every block of 2046 rows. Where these are known to be all, it is fused; blocks
// of 1020 rows, beside a left factor that has to be packed as well, are not enough for it to pay.

// CHECK-LABEL: func.func @dear
// CHECK:         nest.kernel @exp_tanh (
// CHECK:         nest.kernel @matmul (
// CHECK-LABEL: func.func @dear_once
// CHECK:         nest.kernel @exp_tanh_1_matmul_1 (
func.func @dear(%x: tensor<?x?xf32>, %w: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %e0 = nn.exp %w : tensor<?x64xf32>
  %e1 = nn.tanh %e0 : tensor<?x64xf32>
  %e2 = nn.exp %e1 : tensor<?x64xf32>
  %e3 = nn.tanh %e2 : tensor<?x64xf32>
  %e4 = nn.exp %e3 : tensor<?x64xf32>
  %e5 = nn.tanh %e4 : tensor<?x64xf32>
  %e6 = nn.exp %e5 : tensor<?x64xf32>
  %e7 = nn.tanh %e6 : tensor<?x64xf32>
  %e8 = nn.exp %e7 : tensor<?x64xf32>
  %y = nn.matmul %x, %e8 {transpose_a} accumulate f32 : tensor<?x?xf32>, tensor<?x64xf32>
  func.return %y : tensor<?x64xf32>
}
func.func @dear_once(%x: tensor<?x100xf32>, %w: tensor<?x64xf32>) -> tensor<100x64xf32> {
  %e0 = nn.exp %w : tensor<?x64xf32>
  %e1 = nn.tanh %e0 : tensor<?x64xf32>
  %e2 = nn.exp %e1 : tensor<?x64xf32>
  %e3 = nn.tanh %e2 : tensor<?x64xf32>
  %e4 = nn.exp %e3 : tensor<?x64xf32>
  %e5 = nn.tanh %e4 : tensor<?x64xf32>
  %e6 = nn.exp %e5 : tensor<?x64xf32>
  %e7 = nn.tanh %e6 : tensor<?x64xf32>
  %e8 = nn.exp %e7 : tensor<?x64xf32>
  %y = nn.matmul %x, %e8 {transpose_a} accumulate f32 : tensor<?x100xf32>, tensor<?x64xf32>
  func.return %y : tensor<100x64xf32>
}

// -----

// A sum over what the product does not sum over needs all of it first.

// CHECK-LABEL: func.func @other_sums
// CHECK:         nest.kernel @softmax
// CHECK:         nest.kernel @matmul (
func.func @other_sums(%x: tensor<?x?xf32>, %w: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %a = nn.softmax %x dim 0 : tensor<?x?xf32>
  %y = nn.matmul %a, %w accumulate f32 : tensor<?x?xf32>, tensor<?x?xf32>
  func.return %y : tensor<?x?xf32>
}

// -----

// Factors of bf16 are computed too: in their own type where an instruction multiplies words of two k, else they are
// widened where they are staged. On tile registers kernels stay kernels.

// CHECK-LABEL: func.func @words
// CHECK:         nest.kernel @relu_matmul (
// CHECK-NOT:     nest.kernel
// CHECK-LABEL: func.func @right_words
// WORDS-LABEL: func.func @words
// WORDS:         nest.kernel @relu_matmul (
// WORDS-NOT:     nest.kernel
// WORDS-LABEL: func.func @right_words
// WORDS-NEXT:    {{.*}}nest.kernel @{{relu[_0-9]*_matmul[_0-9]*}} (
// WORDS-NOT:     nest.kernel
// WORDS:         func.return
// TILES-LABEL: func.func @words
// TILES:         nest.kernel @relu (
// TILES:         nest.kernel @matmul (
func.func @words(%x: tensor<?x?xbf16>, %w: tensor<?x?xbf16>) -> tensor<?x?xf32> {
  %a = nn.relu %x : tensor<?x?xbf16>
  %y = nn.matmul %a, %w accumulate f32 : tensor<?x?xbf16>, tensor<?x?xbf16> -> tensor<?x?xf32>
  func.return %y : tensor<?x?xf32>
}
func.func @right_words(%x: tensor<?x?xbf16>, %w: tensor<?x?xbf16>) -> tensor<?x?xf32> {
  %a = nn.relu %w : tensor<?x?xbf16>
  %y = nn.matmul %x, %a accumulate f32 : tensor<?x?xbf16>, tensor<?x?xbf16> -> tensor<?x?xf32>
  func.return %y : tensor<?x?xf32>
}

// -----

// Numbers are rounded to bytes where these are staged, and if the instruction takes unsigned ones, their signs are flipped
// there too. Without an instruction for bytes, and on tile registers, the kernels stay two.

// BYTES-LABEL: func.func @quantised
// BYTES:         nest.kernel @column_sums
// BYTES:         nest.kernel @mul_matmul (
// BYTES:           %[[A:.*]] = nest.generic [m : parallel, k : parallel]
// BYTES:             arith.fptosi
// BYTES:           %[[U:.*]] = nest.generic [m : parallel, k : parallel] ins(%[[A]] (m, k)
// BYTES:             arith.xori
// BYTES:           nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate i32 ins(%[[U]] (m, k)
// BYTES-NOT:     nest.kernel
// TILES-LABEL: func.func @quantised
// TILES:         nest.kernel @mul (
// TILES:         nest.kernel @matmul (
// CHECK-LABEL: func.func @quantised
// CHECK:         nest.kernel @mul (
// CHECK:         nest.kernel @matmul (
func.func @quantised(%x: tensor<?x?xf32>, %s: tensor<?xf32>, %w: tensor<?x?xi8>) -> tensor<?x?xi32> {
  %p = nn.mul %x, %s : tensor<?x?xf32>, tensor<?xf32>
  %a = nn.cast %p : tensor<?x?xf32> -> tensor<?x?xi8>
  %y = nn.matmul %a, %w accumulate i32 : tensor<?x?xi8>, tensor<?x?xi8> -> tensor<?x?xi32>
  func.return %y : tensor<?x?xi32>
}

// -----

// Rows of bytes that are longer than a block of k stay in memory between two kernels, and so do few rows whose signs are to
// be flipped: the right factor's are flipped then.

// BYTES-LABEL: func.func @long_rows
// BYTES:         nest.kernel @relu (
// BYTES:         nest.kernel @matmul (
// BYTES-LABEL: func.func @few_rows
// BYTES:         nest.kernel @{{relu[_0-9]*}} (
// BYTES:         nest.kernel @row_sums
// BYTES:         nest.kernel @{{matmul[_0-9]*}} (
// BYTES-NOT:     nest.kernel
// BYTES-LABEL: func.func @one_block
// BYTES-NEXT:    {{.*}}nest.kernel @{{relu[_0-9]*_matmul[_0-9]*}} (
// BYTES-NOT:     nest.kernel
// BYTES:         func.return
func.func @long_rows(%x: tensor<?x2056xi8>, %w: tensor<2056x?xi8>) -> tensor<?x?xi32> {
  %a = nn.relu %x : tensor<?x2056xi8>
  %y = nn.matmul %a, %w {unsigned_a} accumulate i32 : tensor<?x2056xi8>, tensor<2056x?xi8> -> tensor<?x?xi32>
  func.return %y : tensor<?x?xi32>
}
func.func @few_rows(%x: tensor<32x?xi8>, %w: tensor<?x?xi8>) -> tensor<32x?xi32> {
  %a = nn.relu %x : tensor<32x?xi8>
  %y = nn.matmul %a, %w accumulate i32 : tensor<32x?xi8>, tensor<?x?xi8> -> tensor<32x?xi32>
  func.return %y : tensor<32x?xi32>
}
func.func @one_block(%x: tensor<?x2048xi8>, %w: tensor<2048x?xi8>) -> tensor<?x?xi32> {
  %a = nn.relu %x : tensor<?x2048xi8>
  %y = nn.matmul %a, %w {unsigned_a} accumulate i32 : tensor<?x2048xi8>, tensor<2048x?xi8> -> tensor<?x?xi32>
  func.return %y : tensor<?x?xi32>
}
