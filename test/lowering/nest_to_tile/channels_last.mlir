// RUN: crosstile-opt %s --split-input-file --decompose --nn-to-nest --fuse --choose-schedule=target=x86-64-avx512 --nest-to-tile | filecheck %s

// Channels last: a block of the image is staged with its padding, and all of the filter for the columns of a register
// tile. Sums stay in registers over all places of the filter. A stride is only a distance between the rows of the left
// factor.

// CHECK:      tile.kernel @conv2d_add_relu(%x : memref<?x?x56x64xf32>, %w : memref<3x3x64x64xf32>,
// CHECK:        %[[IMAGE:.*]] = tile.stage %{{.*}} -> !tile.buffer<[[ROWS:[0-9]+]]x57x64xf32>
// CHECK:        tile.for %o, %{{.*}} step 64 {
// CHECK:          tile.window %w by affine_map<(d0, d1)[s0] -> ((d0 floordiv 192), ((d0 floordiv 64) mod 3), (d0 mod 64), (d1 + s0))> [%o]
// CHECK-NEXT:     %[[FILTER:.*]] = tile.stage %{{.*}} -> !tile.buffer<576x64xf32>
// CHECK:          tile.for %h_1, %{{.*}} step 1 {
// CHECK:            tile.for %w_2, %{{.*}} step 4 {
// CHECK:              %[[SUM:.*]] = tile.for %r, %{{.*}} step 1 iter_args(%{{.*}} = %{{.*}}) -> (!tile.tile<4x64xf32>) {
// CHECK:                tile.for %s, %{{.*}} step 1 iter_args
// CHECK-NEXT:             %[[A:.*]] = tile.window %[[IMAGE]] by affine_map<(d0, d1)[s0, s1, s2, s3] -> (((s0 * 2) + s1), (((s2 * 2) + (d0 * 2)) + s3), d1)>
// CHECK-NEXT:             %[[B:.*]] = tile.window %[[FILTER]] by affine_map<(d0, d1)[s0, s1] -> (((d0 + (s0 * 192)) + (s1 * 64)), d1)> [%r, %s]
// CHECK-NEXT:             tile.contract %[[A]], %[[B]], %{{.*}} extent %c64 intrinsic "x86.avx512.fma.1x16x1.f32"
// CHECK:              tile.map (%[[SUM]],
// CHECK:              tile.store
func.func @main(%x: tensor<?x?x56x64xf32>, %w: tensor<3x3x64x64xf32>, %b: tensor<64xf32>) -> tensor<?x?x28x64xf32> {
  %c = nn.conv2d %x, %w nhwc strides [2, 2] padding [1, 1, 1, 1] accumulate f32
      : tensor<?x?x56x64xf32>, tensor<3x3x64x64xf32> -> tensor<?x?x28x64xf32>
  %d = nn.add %c, %b : tensor<?x?x28x64xf32>, tensor<64xf32>
  %y = nn.relu %d : tensor<?x?x28x64xf32>
  func.return %y : tensor<?x?x28x64xf32>
}

// -----

// Of an unknown number of channels both factors are read in place if nothing is padded.

// CHECK:      tile.kernel @conv2d(
// CHECK-NOT:    tile.stage
// CHECK:        tile.contract
// CHECK:        func.func @unpadded
func.func @unpadded(%x: tensor<1x8x8x?xf32>, %w: tensor<2x2x?x32xf32>) -> tensor<1x7x7x32xf32> {
  %y = nn.conv2d %x, %w nhwc accumulate f32 : tensor<1x8x8x?xf32>, tensor<2x2x?x32xf32>
  func.return %y : tensor<1x7x7x32xf32>
}

// -----

// Numbers of f16 are widened where they are staged.

// CHECK:      tile.kernel @conv2d(
// CHECK:        tile.stage %{{.*}} : !tile.window<9x14x5xf16> -> !tile.buffer<9x14x5xf32>
// CHECK:        tile.stage %{{.*}} : !tile.window<45x16xf16> -> !tile.buffer<45x16xf32>
// CHECK:        tile.contract %{{.*}} intrinsic "x86.avx512.fma.1x16x1.f32"
func.func @widened(%x: tensor<1x7x7x5xf16>, %w: tensor<3x3x5x16xf16>) -> tensor<1x7x7x16xf32> {
  %y = nn.conv2d %x, %w nhwc padding [1, 1, 1, 1] accumulate f32
      : tensor<1x7x7x5xf16>, tensor<3x3x5x16xf16> -> tensor<1x7x7x16xf32>
  func.return %y : tensor<1x7x7x16xf32>
}
