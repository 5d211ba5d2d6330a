// RUN: crosstile-opt %s --nn-to-nest --fuse --choose-schedule=target=nvidia-sm_90a --nest-to-tile | filecheck %s
// RUN: crosstile-opt %s --nn-to-nest --fuse --choose-schedule=target=nvidia-sm_90a --nest-to-tile --tile-to-mma=target=nvidia-sm_90a --mma-to-nvvm | filecheck %s --check-prefix COPIES

// Rows of a block count through a rectangle of pixels, 8 lines of 8, of which every other column is read. One loop goes
// through the places of the filter, s fastest. What lies beyond an edge, of the image or of the result, is clipped.

// CHECK-LABEL: tile.kernel @conv2d
// CHECK:         tile.parallel (%h, %[[W:.*]], %o), {{.*}} step (8, 8, 64) persistent 1
// CHECK:           tile.for %trip, %{{.*}} = %c0 to %c9 step 1 iter_args{{.*}} pipeline(4) role
// CHECK:             %[[S:.*]] = arith.remui %trip, %c3 : index
// CHECK:             %[[R:.*]] = arith.divui %trip, %c3 : index
// CHECK:             tile.window %x by affine_map<(d0, d1)[s0, s1, s2, s3] -> (0, (((s0 + (d0 floordiv 8)) + s1) + -1), ((((s2 * 2) + ((d0 mod 8) * 2)) + s3) + -1), d1)> [%h, %[[R]], %[[W]], %[[S]]] clip : memref<1x40x28x64xbf16> -> !tile.window<64x64xbf16>
// CHECK:             tile.window %w[%[[R]], %[[S]], 0, %o] : memref<3x3x64x64xbf16> -> !tile.window<64x64xbf16>
// CHECK:             tile.contract
// CHECK:           tile.window %y by affine_map<(d0, d1)[s0, s1, s2] -> (0, (s0 + (d0 floordiv 8)), (s1 + (d0 mod 8)), (s2 + d1))> [%h, %[[W]], %o] clip

// The block of the image is one box of it: 8 lines, and 8 columns of 15, by all 64 channels. The 16 rows of a warp are one
// box of the result, 2 lines of 8 columns.

// COPIES-LABEL: llvm.func @conv2d
// COPIES-SAME:    {argument = 0 : i64, element = bf16, {{.*}}, box = [1 : i64, 8 : i64, 15 : i64, 64 : i64], swizzle = 128 : i64, steps = [1 : i64, 1 : i64, 2 : i64, 1 : i64]}
// COPIES-SAME:    {argument = 2 : i64, {{.*}}, box = [1 : i64, 2 : i64, 8 : i64, 64 : i64], swizzle = 128 : i64}
// COPIES-NOT:     nvvm.cp.async.shared.global
// COPIES:         nvvm.cp.async.bulk.tensor.shared.cluster.global %{{.*}}, %tensor_map, %{{.*}}, box[%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}]
// COPIES-NOT:     nvvm.cp.async.shared.global
// COPIES:         nvvm.cp.async.bulk.tensor.global.shared.cta %tensor_map_2, %{{.*}}, box[%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}]
// COPIES-NOT:     llvm.store {{.*}} !llvm.ptr<1>
// COPIES:         llvm.return
func.func @main(%x: tensor<1x40x28x64xbf16>, %w: tensor<3x3x64x64xbf16>) -> tensor<1x40x14x64xbf16> {
  %y = nn.conv2d %x, %w nhwc strides [1, 2] padding [1, 1, 1, 1] accumulate f32
      : tensor<1x40x28x64xbf16>, tensor<3x3x64x64xbf16>
  func.return %y : tensor<1x40x14x64xbf16>
}
