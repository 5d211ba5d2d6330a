// RUN: crosstile-opt %s --split-input-file --verify-diagnostics --tile-to-mma=target=x86-64-avx512

tile.kernel @ragged_lanes(%x : memref<4x20xf32>) {
  %zero = arith.constant 0 : index
  %w = tile.window %x[%zero, %zero] : memref<4x20xf32> -> !tile.window<4x20xf32>
  // expected-error @+1 {{a tile of shape 4x20 does not fill vector registers of 16 lanes: its last dimension must be 1 or a multiple of 16; the nearest legal size is 16 or 32}}
  %t = tile.load %w : !tile.window<4x20xf32> -> !tile.tile<4x20xf32>
}

// -----

tile.kernel @too_large(%x : memref<8x8x16xf32>) {
  %zero = arith.constant 0 : index
  %w = tile.window %x[%zero, %zero, %zero] : memref<8x8x16xf32> -> !tile.window<8x8x16xf32>
  // expected-error @+1 {{a tile of 8x8x16 f32 takes 64 registers of 16 lanes; x86-64-avx512 has 32, which hold up to 512 elements}}
  %t = tile.load %w : !tile.window<8x8x16xf32> -> !tile.tile<8x8x16xf32>
}

// -----

tile.kernel @too_much_scratch(%A : memref<4096x8xf32>, %B : memref<8x128xf32>, %C : memref<4096x128xf32>) {
  %f0 = arith.constant 0.0 : f32
  %aw = tile.window %A[0, 0] : memref<4096x8xf32> -> !tile.window<4096x8xf32>
  %bw = tile.window %B[0, 0] : memref<8x128xf32> -> !tile.window<8x128xf32>
  %acc = tile.splat %f0 : f32 -> !tile.tile<4096x128xf32>
  // expected-error @+1 {{a tile of 4096x128 f32 takes 2097152 bytes of scratch, beside 0 for other tiles; L2 has 1048576, in which 2048 rows of it would fit}}
  %r = tile.contract %aw, %bw, %acc : !tile.window<4096x8xf32>, !tile.window<8x128xf32> -> !tile.tile<4096x128xf32>
  %cw = tile.window %C[0, 0] : memref<4096x128xf32> -> !tile.window<4096x128xf32>
  tile.store %r, %cw : !tile.tile<4096x128xf32>, !tile.window<4096x128xf32>
}

// -----

tile.kernel @long_row(%x : memref<2x4096xf32>, %y : memref<2x1xf32>) {
  %xw = tile.window %x[0, 0] : memref<2x4096xf32> -> !tile.window<2x4096xf32>
  %t = tile.load %xw : !tile.window<2x4096xf32> -> !tile.tile<2x4096xf32>
  // expected-error @+1 {{reduces rows of 4096 elements; the registers of x86-64-avx512 hold 512: reduce blocks of at most 512 columns into a tile}}
  %r = tile.reduce add %t dims [1] : !tile.tile<2x4096xf32> -> !tile.tile<2x1xf32>
  %yw = tile.window %y[0, 0] : memref<2x1xf32> -> !tile.window<2x1xf32>
  tile.store %r, %yw : !tile.tile<2x1xf32>, !tile.window<2x1xf32>
}

// -----

tile.kernel @turned_in_scratch(%x : memref<64x96xf32>, %y : memref<96x64xf32>) {
  %xw = tile.window %x[0, 0] : memref<64x96xf32> -> !tile.window<64x96xf32>
  %t = tile.load %xw : !tile.window<64x96xf32> -> !tile.tile<64x96xf32>
  // expected-error @+1 {{rearranges a tile of 64x96 that lives in scratch; load or store it through a window that exchanges its dimensions, or stage it}}
  %u = tile.transpose %t [1, 0] : !tile.tile<64x96xf32> -> !tile.tile<96x64xf32>
  %yw = tile.window %y[0, 0] : memref<96x64xf32> -> !tile.window<96x64xf32>
  tile.store %u, %yw : !tile.tile<96x64xf32>, !tile.window<96x64xf32>
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

tile.kernel @mixed_types(%A : memref<4x8xi16>, %B : memref<8x16xi16>) {
  %zero = arith.constant 0 : index
  %i0 = arith.constant 0 : i32
  %aw = tile.window %A[%zero, %zero] : memref<4x8xi16> -> !tile.window<4x8xi16>
  %bw = tile.window %B[%zero, %zero] : memref<8x16xi16> -> !tile.window<8x16xi16>
  %acc = tile.splat %i0 : i32 -> !tile.tile<4x16xi32>
  // expected-error @+1 {{machine x86-64-avx512 has no intrinsic for i16 x i16 + i32; it has f32 x f32 + f32, f64 x f64 + f64}}
  %r = tile.contract %aw, %bw, %acc : !tile.window<4x8xi16>, !tile.window<8x16xi16> -> !tile.tile<4x16xi32>
}

// -----

tile.kernel @persistent(%n : index) {
  %zero = arith.constant 0 : index
  // expected-error @+1 {{its grid is to run by blocks of multiprocessors, persistent 1; x86-64-avx512 has workers, which take a range of the grid each: leave out 'persistent' and 'cluster'}}
  tile.parallel (%i), (%ic) = (%zero) to (%n) step (8) persistent 1 {
  }
}
