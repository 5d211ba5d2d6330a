// RUN: crosstile-opt --split-input-file --verify-diagnostics %s

// Kernels and loops

// expected-error @+1 {{argument 1 is a tensor<4xf32>; a kernel takes memrefs, indices and scalars}}
tile.kernel @argument(%x : memref<4xf32>, %y : tensor<4xf32>) {
  tile.return
}

// -----

// expected-error @+1 {{has 2 'tile.parallel'; a kernel has at most one}}
tile.kernel @two(%n : index) {
  tile.parallel %b to %e = %n to %n grain 1 {
  }
  tile.parallel %b to %e = %n to %n grain 1 {
  }
  tile.return
}

// -----

// expected-error @+1 {{stores outside its 'tile.parallel', where every worker would write the same elements}}
tile.kernel @outside(%x : memref<4xf32>, %n : index, %f : f32) {
  tile.parallel %b to %e = %n to %n grain 1 {
  }
  %t = tile.splat %f : f32 -> !tile.tile<4xf32>
  %w = tile.window %x[0] : memref<4xf32> -> !tile.window<4xf32>
  tile.store %t, %w : !tile.tile<4xf32>, !tile.window<4xf32>
  tile.return
}

// -----

tile.kernel @nested(%n : index) {
  tile.for %i, %ic = %n to %n step 4 {
    // expected-error @+1 {{expects parent op 'tile.kernel'}}
    tile.parallel %b to %e = %n to %n grain 1 {
    }
  }
  tile.return
}

// -----

tile.kernel @grid(%n : index) {
  // expected-error @+1 {{a grid of 2 dimensions needs 2 positive steps, found [8]}}
  tile.parallel (%i, %j), (%ic, %jc) = (%n, %n) to (%n, %n) step (8) {
  }
  tile.return
}

// -----

tile.kernel @raster(%n : index) {
  // expected-error @+1 {{a raster is a positive number of rows of a grid of 2 dimensions or more, found 0 of a grid of 2}}
  tile.parallel (%i, %j), (%ic, %jc) = (%n, %n) to (%n, %n) step (8, 8) raster 0 {
  }
  tile.return
}

// -----

tile.kernel @grain(%n : index) {
  // expected-error @+1 {{ranges for workers have 1 dimension and a positive grain, found 1 and 0}}
  tile.parallel %b to %e = %n to %n grain 0 {
  }
  tile.return
}

// -----

tile.kernel @dim(%x : memref<4x?xf32>) {
  // expected-error @+1 {{asks for dimension 2 of memref<4x?xf32>; legal are 0 to 1}}
  %n = tile.dim %x, 2 : memref<4x?xf32>
  tile.return
}

// -----

tile.kernel @balanced(%n : index) {
  // expected-error @+1 {{balanced(7) must divide step 512, or a block could exceed the step}}
  tile.for %k, %kc = %n to %n step 512 balanced(7) {
  }
  tile.return
}

// -----

tile.kernel @step(%n : index) {
  // expected-error @+1 {{step must be positive, found 0}}
  tile.for %k, %kc = %n to %n step 0 {
  }
  tile.return
}

// -----

tile.kernel @carried(%n : index, %f : f32) {
  %t = tile.splat %f : f32 -> !tile.tile<4xf32>
  // expected-error @+1 {{yields (f32), but carries (!tile.tile<4xf32>)}}
  %r = tile.for %k, %kc = %n to %n step 4 iter_args(%acc = %t) -> (!tile.tile<4xf32>) {
    tile.yield %f : f32
  }
  tile.return
}

// -----

tile.kernel @window_carried(%x : memref<4xf32>, %n : index) {
  %w = tile.window %x[0] : memref<4xf32> -> !tile.window<4xf32>
  // expected-error @+1 {{carries a !tile.window<4xf32>; a loop carries tiles and scalars}}
  %r = tile.for %k, %kc = %n to %n step 4 iter_args(%acc = %w) -> (!tile.window<4xf32>) {
    tile.yield %acc : !tile.window<4xf32>
  }
  tile.return
}

// -----

// Launches

tile.kernel @k(%x : memref<?x4xf32>, %n : index) {
  tile.return
}
func.func @count(%x: memref<?x4xf32>) {
  // expected-error @+1 {{@k takes 2 arguments, found 1}}
  tile.launch @k(%x : memref<?x4xf32>)
  func.return
}

// -----

tile.kernel @k(%x : memref<?x4xf32>) {
  tile.return
}
func.func @type(%x: memref<?x5xf32>) {
  // expected-error @+1 {{argument 0 of @k is a memref<?x4xf32>, found an incompatible memref<?x5xf32>}}
  tile.launch @k(%x : memref<?x5xf32>)
  func.return
}

// -----

func.func @g() {
  func.return
}
func.func @name() {
  // expected-error @+1 {{@g must name a 'tile.kernel' or 'mma.kernel', found a 'func.func'}}
  tile.launch @g()
  func.return
}

// -----

// Windows

tile.kernel @coordinates(%x : memref<4x4xf32>, %i : index) {
  // expected-error @+1 {{has 1 coordinates, memref<4x4xf32> has 2 dimensions; the short form names every dimension of the source}}
  %w = tile.window %x[%i] : memref<4x4xf32> -> !tile.window<4xf32>
  tile.return
}

// -----

tile.kernel @elements(%x : memref<4xf32>) {
  // expected-error @+1 {{!tile.window<4xf64> has other elements than memref<4xf32>}}
  %w = tile.window %x[0] : memref<4xf32> -> !tile.window<4xf64>
  tile.return
}

// -----

tile.kernel @map(%x : memref<4x4xf32>, %i : index) {
  // expected-error @+1 {{its map takes 1 tile coordinates and 1 indices to 1 coordinates; this window of memref<4x4xf32> needs 2, 1 and 2}}
  %w = tile.window %x by affine_map<(d0)[s0] -> (d0 + s0)> [%i] : memref<4x4xf32> -> !tile.window<4x4xf32>
  tile.return
}

// -----

tile.kernel @extents(%x : memref<4x4xf32>, %i : index) {
  // expected-error @+1 {{has 1 extents for the 2 dimensions of the window}}
  %w = tile.window %x[%i, 0] extent [%i] : memref<4x4xf32> -> !tile.window<4x4xf32>
  tile.return
}

// -----

tile.kernel @gather_shape(%x : memref<?x?xf32>) {
  %rows = tile.iota dim 0 : !tile.tile<8x1xindex>
  // expected-error @+1 {{index 0 is a !tile.tile<8x1xindex>; a tile of indices has index elements and in each dimension the size of !tile.window<16x4xf32>, or 1}}
  %w = tile.window %x[%rows : !tile.tile<8x1xindex>, 0] : memref<?x?xf32> -> !tile.window<16x4xf32>
  tile.return
}

// -----

tile.kernel @gather_sum(%x : memref<?x?xf32>, %i : index) {
  %rows = tile.iota dim 0 : !tile.tile<8x1xindex>
  // expected-error @+1 {{a tile of indices is a whole coordinate and stands alone; add to it with 'tile.map'}}
  %w = tile.window %x[%rows : !tile.tile<8x1xindex> + %i, 0] : memref<?x?xf32> -> !tile.window<8x4xf32>
  tile.return
}

// -----

tile.kernel @gather_map(%x : memref<?xf32>) {
  %rows = tile.iota dim 0 : !tile.tile<8xindex>
  // expected-error @+1 {{index 0 is a tile of indices, which are whole coordinates, but its map computes}}
  %w = tile.window %x by affine_map<(d0)[s0] -> (s0 + d0)> [%rows : !tile.tile<8xindex>] : memref<?xf32> -> !tile.window<8xf32>
  tile.return
}

// -----

// expected-error @+1 {{'tile.window' has a capacity of one or more positive constant sizes}}
func.func private @capacity(!tile.window<?xf32>)

// -----

// expected-error @+1 {{elements are f64, f32, f16, bf16, an 8-bit float, index, i1, i8, i16, i32 or i64, found i7}}
func.func private @element(!tile.tile<4xi7>)

// -----

// Memory

tile.kernel @condition(%x : memref<4xf32>, %c : i1) {
  %w = tile.window %x[0] : memref<4xf32> -> !tile.window<4xf32>
  // expected-error @+1 {{a condition and the value to load otherwise come together: 'if %condition else 0.0'}}
  %t = tile.load %w if %c : !tile.window<4xf32> -> !tile.tile<4xf32>
  tile.return
}

// -----

tile.kernel @pad(%x : memref<4xindex>) {
  %w = tile.window %x[0] : memref<4xindex> -> !tile.window<4xindex>
  // expected-error @+1 {{expected a literal of type index, found 0.5}}
  %t = tile.load %w pad 0.5 : !tile.window<4xindex> -> !tile.tile<4xindex>
  tile.return
}

// -----

tile.kernel @read_only(%x : memref<4xf32>) {
  %w = tile.window %x[0] : memref<4xf32> -> !tile.window<4xf32>
  %b = tile.stage %w : !tile.window<4xf32> -> !tile.buffer<4xf32>
  %t = tile.load %w : !tile.window<4xf32> -> !tile.tile<4xf32>
  %v = tile.window %b[0] : !tile.buffer<4xf32> -> !tile.window<4xf32>
  // expected-error @+1 {{writes a window of !tile.buffer<4xf32>; a staged buffer is read-only}}
  tile.store %t, %v : !tile.tile<4xf32>, !tile.window<4xf32>
  tile.return
}

// -----

tile.kernel @one_place(%x : memref<?xf32>, %f : f32) {
  %t = tile.splat %f : f32 -> !tile.tile<8x4xf32>
  %w = tile.window %x[0] : memref<?xf32> -> !tile.window<8x4xf32>
  // expected-error @+1 {{dimension 0 of the window does not move it, so 8 elements would be written to one place}}
  tile.store %t, %w : !tile.tile<8x4xf32>, !tile.window<8x4xf32>
  tile.return
}

// -----

tile.kernel @store_type(%x : memref<4xf32>, %f : f32) {
  %w = tile.window %x[0] : memref<4xf32> -> !tile.window<4xf32>
  %t = tile.splat %f : f32 -> !tile.tile<2xf32>
  // expected-error @+1 {{!tile.tile<2xf32> and !tile.window<4xf32> must have the same capacity and element type}}
  tile.store %t, %w : !tile.tile<2xf32>, !tile.window<4xf32>
  tile.return
}

// -----

tile.kernel @stage_pad(%f : f32) {
  %t = tile.splat %f : f32 -> !tile.tile<2xf32>
  // expected-error @+1 {{pads a tile, which has no invalid elements; use 'tile.mask' before it}}
  %b = tile.stage %t pad 1.0 : !tile.tile<2xf32> -> !tile.buffer<2xf32>
  tile.return
}

// -----

// Arithmetic

tile.kernel @contract_shape(%f : f32) {
  %a = tile.splat %f : f32 -> !tile.tile<4x8xf32>
  %b = tile.splat %f : f32 -> !tile.tile<4x16xf32>
  %c = tile.splat %f : f32 -> !tile.tile<4x16xf32>
  // expected-error @+1 {{shapes do not agree: !tile.tile<4x8xf32> is [m, k], !tile.tile<4x16xf32> is [k, n], !tile.tile<4x16xf32> must be [m, n]}}
  %d = tile.contract %a, %b, %c : !tile.tile<4x8xf32>, !tile.tile<4x16xf32> -> !tile.tile<4x16xf32>
  tile.return
}

// -----

tile.kernel @contract_unroll(%f : f32) {
  %a = tile.splat %f : f32 -> !tile.tile<4x4xf32>
  // expected-error @+1 {{unrolls 0 steps of k; legal is 1, a step at a time, or more}}
  %d = tile.contract %a, %a, %a unroll 0 : !tile.tile<4x4xf32>, !tile.tile<4x4xf32> -> !tile.tile<4x4xf32>
  tile.return
}

// -----

tile.kernel @contract_type(%f : f32, %g : bf16) {
  %a = tile.splat %f : f32 -> !tile.tile<4x4xf32>
  %c = tile.splat %g : bf16 -> !tile.tile<4x4xbf16>
  // expected-error @+1 {{sums products of f32 and f32 in bf16; operands and accumulator are all floats or all integers}}
  %d = tile.contract %a, %a, %c : !tile.tile<4x4xf32>, !tile.tile<4x4xf32> -> !tile.tile<4x4xbf16>
  tile.return
}

// -----

tile.kernel @map_shape(%f : f32) {
  %t = tile.splat %f : f32 -> !tile.tile<4x2xf32>
  // expected-error @+1 {{input 0 is a !tile.tile<4x2xf32>; in each dimension its size must be 1 or that of !tile.tile<4x8xf32>}}
  %r = tile.map (%t : !tile.tile<4x2xf32>) -> !tile.tile<4x8xf32> {
  ^bb0(%x : f32):
    tile.yield %x : f32
  }
  tile.return
}

// -----

tile.kernel @map_body(%f : f32) {
  %t = tile.splat %f : f32 -> !tile.tile<4xf32>
  // expected-error @+1 {{its body takes (f64), expected (f32)}}
  %r = tile.map (%t : !tile.tile<4xf32>) -> !tile.tile<4xf32> {
  ^bb0(%x : f64):
    tile.yield %f : f32
  }
  tile.return
}

// -----

tile.kernel @map_scalar(%f : f32) {
  %t = tile.splat %f : f32 -> !tile.tile<4xf32>
  // expected-error @+1 {{its body is scalar, but uses 'tile.splat' on a !tile.tile<4xf32>}}
  %r = tile.map (%t : !tile.tile<4xf32>) -> !tile.tile<4xf32> {
  ^bb0(%x : f32):
    %u = tile.splat %x : f32 -> !tile.tile<4xf32>
    tile.yield %x : f32
  }
  tile.return
}

// -----

tile.kernel @map_yield(%f : f32) {
  // expected-error @+1 {{its body must yield one f32}}
  %r = tile.map () -> !tile.tile<4xf32> {
    tile.yield
  }
  tile.return
}

// -----

tile.kernel @reduce_dims(%f : f32) {
  %t = tile.splat %f : f32 -> !tile.tile<4x8xf32>
  // expected-error @+1 {{dims are one or more of 0 to 1 in ascending order, found [1, 0]}}
  %r = tile.reduce add %t dims [1, 0] : !tile.tile<4x8xf32> -> !tile.tile<1x1xf32>
  tile.return
}

// -----

tile.kernel @reduce_result(%f : f32) {
  %t = tile.splat %f : f32 -> !tile.tile<4x8xf32>
  // expected-error @+1 {{the result is a !tile.tile<4xf32>, expected !tile.tile<4x1xf32>}}
  %r = tile.reduce add %t dims [1] : !tile.tile<4x8xf32> -> !tile.tile<4xf32>
  tile.return
}

// -----

tile.kernel @reduce_kind(%f : f32) {
  %t = tile.splat %f : f32 -> !tile.tile<4x8xf32>
  // expected-error @+1 {{reduces by 'xor'; legal are add, mul, max, min}}
  %r = "tile.reduce"(%t) <{kind = "xor", dims = array<i64: 1>, extent_dims = array<i64>,
      operandSegmentSizes = array<i32: 1, 0, 0>}> : (!tile.tile<4x8xf32>) -> !tile.tile<4x1xf32>
  tile.return
}

// -----

// Shapes

tile.kernel @iota_type() {
  // expected-error @+1 {{numbers elements with index or integers of at least 8 bits, found !tile.tile<4xf32>}}
  %r = tile.iota dim 0 : !tile.tile<4xf32>
  tile.return
}

// -----

tile.kernel @permutation(%f : f32) {
  %t = tile.splat %f : f32 -> !tile.tile<4x8xf32>
  // expected-error @+1 {{[0, 0] is not a permutation of the dimensions of !tile.tile<4x8xf32>}}
  %r = tile.transpose %t [0, 0] : !tile.tile<4x8xf32> -> !tile.tile<4x4xf32>
  tile.return
}

// -----

tile.kernel @reshape(%f : f32) {
  %t = tile.splat %f : f32 -> !tile.tile<4x8xf32>
  // expected-error @+1 {{!tile.tile<4x8xf32> and !tile.tile<33xf32> must have the same number of elements of the same type}}
  %r = tile.reshape %t : !tile.tile<4x8xf32> -> !tile.tile<33xf32>
  tile.return
}

// -----

tile.kernel @mask(%f : f32, %n : index) {
  %t = tile.splat %f : f32 -> !tile.tile<4x8xf32>
  // expected-error @+1 {{expected 'else' and the value of masked elements}}
  %r = tile.mask %t extent [%n, _] : !tile.tile<4x8xf32>
  tile.return
}

// -----

tile.kernel @mask_extents(%f : f32, %n : index) {
  %t = tile.splat %f : f32 -> !tile.tile<4x8xf32>
  // expected-error @+1 {{extent_dims must be some of the dimensions [0, 1] in this order, found [2]}}
  %r = "tile.mask"(%t, %n) <{extent_dims = array<i64: 2>, otherwise = 0.0 : f32}>
      : (!tile.tile<4x8xf32>, index) -> !tile.tile<4x8xf32>
  tile.return
}

// -----

tile.kernel @narrows(%x : memref<4xf32>) {
  %w = tile.window %x[0] : memref<4xf32> -> !tile.window<4xf32>
  // expected-error @+1 {{!tile.window<4xf32> and !tile.buffer<4xbf16> must have the same capacity and element type}}
  %b = tile.stage %w : !tile.window<4xf32> -> !tile.buffer<4xbf16>
  tile.return
}
