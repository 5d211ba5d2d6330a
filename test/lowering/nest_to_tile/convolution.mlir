// RUN: crosstile-opt %s --decompose --nn-to-nest --fuse | filecheck %s --check-prefix=NEST
// RUN: crosstile-opt %s --decompose --nn-to-nest --fuse --choose-schedule=target=x86-64-avx512 --nest-to-tile | filecheck %s

// A convolution with its bias is one kernel. The filter is packed for several rows of the image, and the image is read
// through windows that clip; the accumulators stay in the result from one place of the filter to the next.

// NEST-LABEL: func.func @main
// NEST:         nest.kernel @conv2d_add
// NEST:           ins(%{{.*}} (n, c, h * 2 + r - 1, w + s - 1) clip, %{{.*}} (o, c, r, s), %{{.*}} (h) :
// NEST:           ins(%{{.*}} (n, o, h, w), %{{.*}} (o, 0, 0) :

// CHECK:      tile.kernel @conv2d_add(%x : memref<?x5x?x40xf32>, %w : memref<7x5x3x3xf32>,
// CHECK:        tile.parallel
// CHECK:          %[[FILTER:.*]] = tile.window %w by affine_map<(d0, d1)[s0, s1, s2, s3] -> ((s0 + d0), (s1 + d1), s2, s3)>
// CHECK-NEXT:     %[[PACKED:.*]] = tile.stage %[[FILTER]]
// CHECK:          tile.load %{{.*}} if %{{.*}} else 0.0
// CHECK:          %[[IMAGE:.*]] = tile.window %x by affine_map<(d0, d1)[s0, s1, s2, s3, s4, s5, s6, s7]
// CHECK-SAME:       -> ((s0 + s1), (s2 + d0), ((((s3 * 2) + (s4 * 2)) + s5) + -1), (((s6 + d1) + s7) + -1))>
// CHECK-SAME:       clip
// CHECK:          tile.contract %{{.*}}, %[[IMAGE]], %{{.*}} extent %{{.*}} intrinsic "x86.avx512.fma.1x16x1.f32"
// CHECK:          scf.if
// CHECK:            tile.map
// CHECK:            tile.store

// Sizes that are computed are checked, and not to be negative.
// CHECK:      func.func @main
// CHECK:        cf.assert %{{.*}}, "a computed size, ((dimension 2 of argument 0 ('x') + 1) floordiv 2), must not be negative"
func.func @main(%x: tensor<?x5x?x40xf32>, %w: tensor<7x5x3x3xf32>, %b: tensor<7x1x1xf32>) -> tensor<?x7x?x40xf32> {
  %c = nn.conv2d %x, %w nchw strides [2, 1] padding [1, 1, 1, 1] accumulate f32
      : tensor<?x5x?x40xf32>, tensor<7x5x3x3xf32> -> tensor<?x7x?x40xf32>
  %y = nn.add %c, %b : tensor<?x7x?x40xf32>, tensor<7x1x1xf32>
  func.return %y : tensor<?x7x?x40xf32>
}
