// RUN: crosstile-opt %s --split-input-file --verify-diagnostics --tile-to-mma=target=x86-64-avx512

tile.kernel @too_wide(%A : memref<16x8xf32>, %B : memref<8x32xf32>) {
  %zero = arith.constant 0 : index
  %f0 = arith.constant 0.0 : f32
  %aw = tile.window %A[%zero, %zero] : memref<16x8xf32> -> !tile.window<16x8xf32>
  %bw = tile.window %B[%zero, %zero] : memref<8x32xf32> -> !tile.window<8x32xf32>
  %acc = tile.splat %f0 : f32 -> !tile.tile<16x32xf32>
  // expected-error @+1 {{a register tile of 16x32 f32 needs 16*2 registers and 2 + 1 for its factors, 35 in all; x86-64-avx512 has 32: at most 14 rows of 32 columns fit}}
  %r = tile.contract %aw, %bw, %acc : !tile.window<16x8xf32>, !tile.window<8x32xf32> -> !tile.tile<16x32xf32>
}

// -----

tile.kernel @ragged_lanes(%x : memref<4x20xf32>) {
  %zero = arith.constant 0 : index
  %w = tile.window %x[%zero, %zero] : memref<4x20xf32> -> !tile.window<4x20xf32>
  // expected-error @+1 {{a tile of shape 4x20 does not fill vector registers of 16 lanes: its last dimension must be 1 or a multiple of 16; the nearest legal size is 16 or 32}}
  %t = tile.load %w : !tile.window<4x20xf32> -> !tile.tile<4x20xf32>
}

// -----

tile.kernel @too_large(%x : memref<8x128xf32>) {
  %zero = arith.constant 0 : index
  %w = tile.window %x[%zero, %zero] : memref<8x128xf32> -> !tile.window<8x128xf32>
  // expected-error @+1 {{a tile of 8x128 f32 takes 64 registers of 16 lanes; x86-64-avx512 has 32, which hold up to 512 elements}}
  %t = tile.load %w : !tile.window<8x128xf32> -> !tile.tile<8x128xf32>
}

// -----

tile.kernel @another_machine(%A : memref<4x8xf32>, %B : memref<8x16xf32>) {
  %zero = arith.constant 0 : index
  %f0 = arith.constant 0.0 : f32
  %aw = tile.window %A[%zero, %zero] : memref<4x8xf32> -> !tile.window<4x8xf32>
  %bw = tile.window %B[%zero, %zero] : memref<8x16xf32> -> !tile.window<8x16xf32>
  %acc = tile.splat %f0 : f32 -> !tile.tile<4x16xf32>
  // expected-error @+1 {{x86.avx2.fma.1x8x1.f32 is no instruction of x86-64-avx512; it has x86.avx512.fma.1x16x1.f32}}
  %r = tile.contract %aw, %bw, %acc intrinsic "x86.avx2.fma.1x8x1.f32"
    : !tile.window<4x8xf32>, !tile.window<8x16xf32> -> !tile.tile<4x16xf32>
}

// -----

tile.kernel @mixed_types(%A : memref<4x8xf32>, %B : memref<8x16xf32>) {
  %zero = arith.constant 0 : index
  %f0 = arith.constant 0.0 : f64
  %aw = tile.window %A[%zero, %zero] : memref<4x8xf32> -> !tile.window<4x8xf32>
  %bw = tile.window %B[%zero, %zero] : memref<8x16xf32> -> !tile.window<8x16xf32>
  %acc = tile.splat %f0 : f64 -> !tile.tile<4x16xf64>
  // expected-error @+1 {{machine x86-64-avx512 has no intrinsic for f32 x f32 + f64; it has f32 x f32 + f32, f64 x f64 + f64}}
  %r = tile.contract %aw, %bw, %acc : !tile.window<4x8xf32>, !tile.window<8x16xf32> -> !tile.tile<4x16xf64>
}
