// A 3x3 convolution with stride 2 and padding 1, NCHW, as a matrix product over windows ("implicit GEMM").
//
//   y[n, f, oh, ow] = sum over c, kh, kw of w[f, c, kh, kw] * x[n, c, 2*oh + kh - 1, 2*ow + kw - 1]
//
// Number the 9 * C places of the filter by k = 9*c + 3*kh + kw. Then y is the product of two matrices,
//
//   w'[f, k]  = w[f, k floordiv 9, (k mod 9) floordiv 3, k mod 3]
//   x'[k, ow] = x[n, k floordiv 9, 2*oh + (k mod 9) floordiv 3 - 1, 2*ow + k mod 3 - 1]
//
// and a contract computes it. Neither matrix exists in memory: each is a *window*, whose affine map says where element
// (k, ow) of a block is in x. `clip` makes elements outside the image invalid, so they read as zero: that is the
// padding, and no padded copy of the image is made. x' repeats every pixel up to nine times; staging one 72x32 block of
// it makes the contract read contiguous rows.
//
// One instance of the kernel computes, in one row of one image, up to 8 filters and 32 columns.
tile.kernel @conv2d(%x : memref<?x?x?x?xf32>, %w : memref<?x?x3x3xf32>, %y : memref<?x?x?x?xf32>) {
  %zero = arith.constant 0 : index
  %f0 = arith.constant 0.0 : f32
  %images = tile.dim %x, 0 : memref<?x?x?x?xf32>
  %channels = tile.dim %x, 1 : memref<?x?x?x?xf32>
  %filters = tile.dim %w, 0 : memref<?x?x3x3xf32>
  %height = tile.dim %y, 2 : memref<?x?x?x?xf32>
  %width = tile.dim %y, 3 : memref<?x?x?x?xf32>
  %K = affine.apply affine_map<()[s0] -> (s0 * 9)> ()[%channels]
  tile.parallel (%n, %oh, %f, %ow), (%nc, %ohc, %fc, %owc) = (%zero, %zero, %zero, %zero)
      to (%images, %height, %filters, %width) step (1, 1, 8, 32) {
    %start = tile.splat %f0 : f32 -> !tile.tile<8x32xf32>
    %sum = tile.for %k, %kc = %zero to %K step 72 iter_args(%acc = %start) -> (!tile.tile<8x32xf32>) {
      %ww = tile.window %w by affine_map<(d0, d1)[s0, s1] ->
              (s0 + d0, (s1 + d1) floordiv 9, ((s1 + d1) mod 9) floordiv 3, (s1 + d1) mod 3)> [%f, %k] extent [%fc, %kc]
          : memref<?x?x3x3xf32> -> !tile.window<8x72xf32>
      %xw = tile.window %x by affine_map<(d0, d1)[s0, s1, s2, s3] ->
              (s0, (s1 + d0) floordiv 9, s2 * 2 + ((s1 + d0) mod 9) floordiv 3 - 1, (s3 + d1) * 2 + (s1 + d0) mod 3 - 1)>
              [%n, %k, %oh, %ow] extent [%kc, %owc] clip
          : memref<?x?x?x?xf32> -> !tile.window<72x32xf32>
      %patches = tile.stage %xw : !tile.window<72x32xf32> -> !tile.buffer<72x32xf32>
      %next = tile.contract %ww, %patches, %acc extent %kc intrinsic "x86.avx512.fma.1x16x1.f32"
          : !tile.window<8x72xf32>, !tile.buffer<72x32xf32> -> !tile.tile<8x32xf32>
      tile.yield %next : !tile.tile<8x32xf32>
    }
    %yw = tile.window %y by affine_map<(d0, d1)[s0, s1, s2, s3] -> (s0, s1 + d0, s2, s3 + d1)> [%n, %f, %oh, %ow]
        extent [%fc, %owc] : memref<?x?x?x?xf32> -> !tile.window<8x32xf32>
    tile.store %sum, %yw : !tile.tile<8x32xf32>, !tile.window<8x32xf32>
  }
  tile.return
}
