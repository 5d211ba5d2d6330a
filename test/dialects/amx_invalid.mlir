// RUN: crosstile-opt %s --split-input-file --verify-diagnostics

func.func @rows() {
  // expected-error @+1 {{a tile has 1 to 16 rows, not 17}}
  %t = amx.tile_zero : !amx.tile<17x16xf32>
  func.return
}

// -----

func.func @bytes() {
  // expected-error @+1 {{a row of a tile has 4 to 64 bytes, a multiple of 4; 33 of bf16 are 66}}
  %t = amx.tile_zero : !amx.tile<16x33xbf16>
  func.return
}

// -----

func.func @element() {
  // expected-error @+1 {{a tile holds f32, f16, bf16, i8 or i32, not f64}}
  %t = amx.tile_zero : !amx.tile<16x8xf64>
  func.return
}

// -----

func.func @shapes(%a: !amx.tile<16x32xbf16>, %b: !amx.tile<8x32xbf16>, %c: !amx.tile<16x16xf32>) {
  // expected-error @+1 {{do not multiply into !amx.tile<16x16xf32>: expects lhs m x k, rhs k/2 x 2n in words of 2}}
  %t = amx.tile_mulf %a, %b, %c : !amx.tile<16x32xbf16>, !amx.tile<8x32xbf16>, !amx.tile<16x16xf32>
  func.return
}

// -----

func.func @types(%a: !amx.tile<16x64xi8>, %c: !amx.tile<16x16xf32>) {
  // expected-error @+1 {{multiplies i8 by i8 into f32; expects two tiles of i8 and one of i32}}
  %t = amx.tile_muli %a, %a, %c : !amx.tile<16x64xi8>, !amx.tile<16x64xi8>, !amx.tile<16x16xf32>
  func.return
}

// -----

func.func @stride(%a: memref<?xbf16>, %i: index) {
  // expected-error @+1 {{rows of memref<?xbf16> need a stride: it has 1 dimensions, not 2 or more}}
  %t = amx.tile_load %a[%i] : memref<?xbf16> into !amx.tile<16x32xbf16>
  func.return
}

// -----

func.func @memory(%a: memref<?x?xf32>, %i: index) {
  // expected-error @+1 {{memory of f32 holds no rows of !amx.tile<16x32xbf16>}}
  %t = amx.tile_load %a[%i, %i] : memref<?x?xf32> into !amx.tile<16x32xbf16>
  func.return
}
