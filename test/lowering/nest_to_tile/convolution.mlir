// RUN: crosstile-opt %s --split-input-file --decompose --nn-to-nest --fuse | filecheck %s --check-prefix=NEST
// RUN: crosstile-opt %s --split-input-file --decompose --nn-to-nest --fuse --choose-schedule=target=x86-64-avx512 --nest-to-tile | filecheck %s

// A convolution with its bias is one kernel. Rows of the image are staged with their padding, as one run of places of
// which each row has 57: a row's padding is the next one's. The sum is one contraction over channels and places of the
// filter. The filter is read in place.

// NEST-LABEL: func.func @main
// NEST:         nest.kernel @conv2d_add
// NEST:           ins(%{{.*}} (n, c, h + r - 1, w + s - 1) clip, %{{.*}} (o, c, r, s) :
// NEST:           ins(%{{.*}} (n, o, h, w), %{{.*}} (o, 0, 0) :

// CHECK:      tile.kernel @conv2d_add(%x : memref<?x64x56x56xf32>, %w : memref<64x64x3x3xf32>,
// CHECK:        tile.parallel
// CHECK:          tile.for %n
// CHECK:            tile.for %h, %h_extent = %{{.*}} step [[ROWS:[0-9]+]] {
// CHECK:              %[[ROWS_OF_X:.*]] = tile.window %x by affine_map<(d0, d1, d2)[s0, s1, s2, s3]
// CHECK-SAME:           -> ((s1 + s2), (d0 + s3), ((d1 + s0) + -1), (d2 + -1))> {{.*}} clip
// CHECK-NEXT:         %[[IMAGE:.*]] = tile.stage %[[ROWS_OF_X]] : {{.*}} -> !tile.buffer<64x{{[0-9]+}}x57xf32>
// CHECK:              tile.for %w_1, %w_extent = %{{.*}} step 48 {
// CHECK:                tile.for %o, %o_extent = %{{.*}} step 8 {
// CHECK:                  %[[FILTER:.*]] = tile.window %w by
// CHECK-SAME:               ((d0 + s0), ((d1 floordiv 9) + s1), ((d1 floordiv 3) mod 3), (d1 mod 3))
// CHECK:                  %[[PLACES:.*]] = tile.window %[[IMAGE]] by affine_map<(d0, d1)[s0] -> ((d0 floordiv 9),
// CHECK-SAME:               floordiv 57), ({{.*}} mod 57))> [%w_1]
// CHECK:                  tile.contract %[[FILTER]], %[[PLACES]], %{{.*}} extent %[[K:.*]] intrinsic "x86.avx512.fma.1x16x1.f32"
// CHECK:                  tile.map
// CHECK:                  tile.window %{{.*}} by
// CHECK-SAME:               ((d1 + [[W:s[0-9]]]) floordiv 57)), ((d1 + [[W]]) mod 57))> {{.*}} clip
// CHECK:                  tile.store
func.func @main(%x: tensor<?x64x56x56xf32>, %w: tensor<64x64x3x3xf32>, %b: tensor<64x1x1xf32>) -> tensor<?x64x56x56xf32> {
  %c = nn.conv2d %x, %w nchw padding [1, 1, 1, 1] accumulate f32 : tensor<?x64x56x56xf32>, tensor<64x64x3x3xf32>
  %y = nn.add %c, %b : tensor<?x64x56x56xf32>, tensor<64x1x1xf32>
  func.return %y : tensor<?x64x56x56xf32>
}

// -----

// Where rows have no known length they are not folded. Neighbours that a stride of 2 takes apart are apart in the buffer:
// rows that are even and rows that are odd.

// NEST-LABEL: func.func @strided
// NEST:           ins(%{{.*}} (n, c, h * 2 + r - 1, w + s - 1) clip, %{{.*}} (o, c, r, s), %{{.*}} (h), %{{.*}} (w) :

// CHECK:      tile.kernel @conv2d(%x : memref<?x5x?x?xf32>, %w : memref<7x5x3x3xf32>,
// CHECK:              %[[BLOCK:.*]] = tile.window %x by affine_map<(d0, d1, d2, d3)[s0, s1, s2, s3, s4]
// CHECK-SAME:           -> ((s2 + s3), (d0 + s4), ((((d2 * 2) + (s0 * 2)) + -2) + d1), ((d3 + s1) + -1))>
// CHECK-NEXT:         %[[IMAGE:.*]] = tile.stage %[[BLOCK]] : !tile.window<5x2x
// CHECK:              tile.for %h_1, %{{.*}} step 1 {
// CHECK:                tile.window %[[IMAGE]] by affine_map<(d0, d1)[s0, s1] -> ((d0 floordiv 9),
// CHECK-SAME:             ((((d0 floordiv 3) mod 3) + -1) mod 2),

// Sizes that are computed are checked, and not to be negative.
// CHECK:      func.func @strided
// CHECK:        cf.assert %{{.*}}, "a computed size, ((dimension 2 of argument 0 ('x') + 1) floordiv 2), must not be negative"
func.func @strided(%x: tensor<?x5x?x?xf32>, %w: tensor<7x5x3x3xf32>) -> tensor<?x7x?x?xf32> {
  %c = nn.conv2d %x, %w nchw strides [2, 1] padding [1, 1, 1, 1] accumulate f32
      : tensor<?x5x?x?xf32>, tensor<7x5x3x3xf32> -> tensor<?x7x?x?xf32>
  func.return %c : tensor<?x7x?x?xf32>
}

// -----

// Of a filter of 49 places the seven of a row are one contraction, in loops over channels and rows; the sums stay in
// registers.

// CHECK:      tile.kernel @conv2d(
// CHECK:        %[[IMAGE:.*]] = tile.stage
// CHECK:        tile.for %c_1, %{{.*}} step 1 iter_args
// CHECK:          tile.for %r, %{{.*}} step 1 iter_args
// CHECK:            %[[FILTER:.*]] = tile.window %w by affine_map<{{.*}} -> ((d0 + s0), (s1 + s2), s3, d1)>
// CHECK:            tile.contract %[[FILTER]], %{{.*}} extent %c7 intrinsic
func.func @places(%x: tensor<1x5x?x20xf32>, %w: tensor<9x5x7x7xf32>) -> tensor<1x9x?x20xf32> {
  %y = nn.conv2d %x, %w nchw padding [3, 3, 3, 3] accumulate f32 : tensor<1x5x?x20xf32>, tensor<9x5x7x7xf32>
  func.return %y : tensor<1x9x?x20xf32>
}

// -----

// Where each channel is a group, nothing is reshaped, and what follows is in the same kernel.

// NEST-LABEL: func.func @by_channel
// NEST:         nest.kernel @conv2d_relu
// NEST:           nest.generic [n : parallel, g : parallel, h : parallel, w : parallel, r : reduction, s : reduction]
// NEST-SAME:        ins(%{{.*}} (n, g, h + r - 1, w + s - 1) clip, %{{.*}} (g, 0, r, s)
// NEST-NOT:     nest.kernel
// CHECK:      tile.kernel @conv2d_relu(
// CHECK:        tile.stage %{{.*}} -> !tile.buffer<1x
func.func @by_channel(%x: tensor<?x20x9x9xf32>, %w: tensor<20x1x3x3xf32>) -> tensor<?x20x9x9xf32> {
  %c = nn.conv2d %x, %w nchw padding [1, 1, 1, 1] groups 20 accumulate f32
      : tensor<?x20x9x9xf32>, tensor<20x1x3x3xf32>
  %y = nn.relu %c : tensor<?x20x9x9xf32>
  func.return %y : tensor<?x20x9x9xf32>
}
