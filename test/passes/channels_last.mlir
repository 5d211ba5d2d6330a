// RUN: crosstile-opt %s --channels-last=target=x86-64-avx512 | filecheck %s
// RUN: crosstile-opt %s --channels-last=target=x86-64-avx512 --nn-to-nest --fuse | filecheck %s --check-prefix=FUSED
// RUN: crosstile-opt %s --channels-last=target=nvidia-sm_80 | filecheck %s --check-prefix=WARPS

// Words of neighbours in k are channels only if these come last. The transpositions stay kernels of their own.

// CHECK-LABEL: func.func @narrow
// CHECK-NEXT:    %[[X:.*]] = nn.transpose %x [0, 2, 3, 1] : tensor<?x64x?x56xbf16>
// CHECK-NEXT:    %[[W:.*]] = nn.transpose %w [2, 3, 1, 0] : tensor<32x64x3x3xbf16>
// CHECK-NEXT:    %[[C:.*]] = nn.conv2d %[[X]], %[[W]] nhwc padding [1, 1, 1, 1] accumulate f32 : tensor<?x?x56x64xbf16>, tensor<3x3x64x32xbf16> -> tensor<?x?x56x32xf32>
// CHECK-NEXT:    %{{.*}} = nn.transpose %[[C]] [0, 3, 1, 2] : tensor<?x?x56x32xf32>
// FUSED-LABEL: func.func @narrow
// FUSED:         nest.kernel @transpose
// FUSED:         nest.kernel @transpose_1
// FUSED:         nest.kernel @conv2d
// FUSED:           (n, h, w, o) : tensor<?x?x56x32xf32>
// FUSED:         nest.kernel @transpose_2
func.func @narrow(%x: tensor<?x64x?x56xbf16>, %w: tensor<32x64x3x3xbf16>) -> tensor<?x32x?x56xf32> {
  %y = nn.conv2d %x, %w nchw padding [1, 1, 1, 1] accumulate f32
      : tensor<?x64x?x56xbf16>, tensor<32x64x3x3xbf16> -> tensor<?x32x?x56xf32>
  func.return %y : tensor<?x32x?x56xf32>
}

// A stride costs lanes that are not neighbours; few products for each element of the result are not worth moving it.

// CHECK-LABEL: func.func @stride
// CHECK:         nn.conv2d %{{.*}} nhwc strides [1, 2]
// CHECK:         nn.conv2d %{{.*}} nchw strides [1, 2]
func.func @stride(%x: tensor<1x64x9x9xf32>, %w: tensor<8x64x2x2xf32>, %x1: tensor<1x3x9x9xf32>, %w1: tensor<8x3x2x2xf32>)
    -> (tensor<1x8x8x4xf32>, tensor<1x8x8x4xf32>) {
  %y = nn.conv2d %x, %w nchw strides [1, 2] accumulate f32 : tensor<1x64x9x9xf32>, tensor<8x64x2x2xf32>
  %z = nn.conv2d %x1, %w1 nchw strides [1, 2] accumulate f32 : tensor<1x3x9x9xf32>, tensor<8x3x2x2xf32>
  func.return %y, %z : tensor<1x8x8x4xf32>, tensor<1x8x8x4xf32>
}

// Others stay: of f32 without a stride, in groups, of an unknown number of channels. Blocks of warps would fill a step of k
// up with zeros: there those stay that have no more channels than the filter has columns.

// WARPS-LABEL: func.func @others
// WARPS:         nn.conv2d %{{.*}} nhwc accumulate f32
// WARPS:         nn.conv2d %{{.*}} nchw groups 2
// WARPS:         nn.conv2d %{{.*}} nhwc accumulate f32

// CHECK-LABEL: func.func @others
// CHECK-NOT:     nn.transpose
// CHECK:         func.return
func.func @others(%x: tensor<1x64x9x9xf32>, %w: tensor<8x64x3x3xf32>, %x1: tensor<1x4x9x9xf16>, %w1: tensor<4x2x3x3xf16>,
                  %x2: tensor<1x?x9x9xf16>, %w2: tensor<4x?x3x3xf16>)
    -> (tensor<1x8x7x7xf32>, tensor<1x4x7x7xf32>, tensor<1x4x7x7xf32>) {
  %y = nn.conv2d %x, %w nchw accumulate f32 : tensor<1x64x9x9xf32>, tensor<8x64x3x3xf32>
  %z = nn.conv2d %x1, %w1 nchw groups 2 accumulate f32
      : tensor<1x4x9x9xf16>, tensor<4x2x3x3xf16> -> tensor<1x4x7x7xf32>
  %u = nn.conv2d %x2, %w2 nchw accumulate f32 : tensor<1x?x9x9xf16>, tensor<4x?x3x3xf16> -> tensor<1x4x7x7xf32>
  func.return %y, %z, %u : tensor<1x8x7x7xf32>, tensor<1x4x7x7xf32>, tensor<1x4x7x7xf32>
}

// Groups of several channels, whose filter is transposed as a whole.

// CHECK-LABEL: func.func @groups
// CHECK:         nn.conv2d %x, %w nchw
// WARPS-LABEL: func.func @groups
// WARPS:         %[[W:.*]] = nn.transpose %w [2, 3, 1, 0] : tensor<32x16x3x3xbf16>
// WARPS:         nn.conv2d %{{.*}}, %[[W]] nhwc groups 2 accumulate f32 : tensor<1x9x9x32xbf16>, tensor<3x3x16x32xbf16>
func.func @groups(%x: tensor<1x32x9x9xbf16>, %w: tensor<32x16x3x3xbf16>) -> tensor<1x32x7x7xbf16> {
  %y = nn.conv2d %x, %w nchw groups 2 accumulate f32 : tensor<1x32x9x9xbf16>, tensor<32x16x3x3xbf16>
  func.return %y : tensor<1x32x7x7xbf16>
}
