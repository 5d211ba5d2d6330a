// RUN: crosstile-opt %s --nn-to-nest --fuse --choose-schedule=target=nvidia-sm_80 | filecheck %s
// RUN: crosstile-opt %s --nn-to-nest --fuse --choose-schedule=target=nvidia-sm_90a | filecheck %s --check-prefix SM90

// Blocks of a convolution are rectangles of pixels. 56 lines of 56 are whole squares of 8, two images to a block. Where
// a role copies, blocks of the image are boxes.

// CHECK-LABEL: nest.kernel @conv2d
// CHECK-SAME:  schedules [#nest.schedule<loops = [n : 2, h : 8, w : 8, o : 64, r : 1, s : 1, c : 32], grid = [n, h, w, o], lane = o, stage = [0, 1], intrinsic = "nvidia.mma.m16n8k16.f32.bf16", pipeline = 4, aligned = 16>]
// SM90-LABEL:  nest.kernel @conv2d
// SM90-SAME:   schedules [#nest.schedule<loops = [n : 2, h : 8, w : 8, o : 64, r : 1, s : 1, c : 64], grid = [n, h, w, o] persistent 1, lane = o, stage = [0, 1], intrinsic = "nvidia.wgmma.m64n64k16.f32.bf16", pipeline = 4 role, aligned = 16>]
func.func @known(%x: tensor<32x56x56x64xbf16>, %w: tensor<3x3x64x64xbf16>) -> tensor<32x56x56x64xbf16> {
  %y = nn.conv2d %x, %w nhwc padding [1, 1, 1, 1] accumulate f32 : tensor<32x56x56x64xbf16>, tensor<3x3x64x64xbf16>
  func.return %y : tensor<32x56x56x64xbf16>
}

// Of many small images a block has a piece each of many, of few one or some, and then it is small, so that more
// multiprocessors have a block. Where the number is not known there are blocks for 64 images, for 8, and for one.

// CHECK-LABEL: nest.kernel @conv2d
// CHECK-SAME:  schedules [n >= 64 : #nest.schedule<loops = [n : 32, h : 2, w : 2, o : 128, {{[^>]*}}>,
// CHECK-SAME:  n >= 8 : #nest.schedule<loops = [n : 4, h : 2, w : 16, o : 64, {{[^>]*}}>,
// CHECK-SAME:  #nest.schedule<loops = [n : 1, h : 8, w : 8, o : 64, {{[^>]*}}>] {
// SM90-LABEL:  nest.kernel @conv2d
// SM90-SAME:   schedules [n >= 64 : #nest.schedule<loops = [n : 32, h : 2, w : 2, o : 64, {{[^>]*}}>,
// SM90-SAME:   n >= 8 : #nest.schedule<loops = [n : 2, h : 2, w : 16, o : 64, {{[^>]*}}>,
// SM90-SAME:   #nest.schedule<loops = [n : 1, h : 8, w : 8, o : 64, {{[^>]*}}>] {
func.func @images(%x: tensor<?x14x14x256xbf16>, %w: tensor<3x3x256x256xbf16>) -> tensor<?x14x14x256xbf16> {
  %y = nn.conv2d %x, %w nhwc padding [1, 1, 1, 1] accumulate f32 : tensor<?x14x14x256xbf16>, tensor<3x3x256x256xbf16>
  func.return %y : tensor<?x14x14x256xbf16>
}

// Lines and columns that are not known: few of them, or any number.

// CHECK-LABEL: nest.kernel @conv2d
// CHECK-SAME:  schedules [h <= 8 and w <= 8 : #nest.schedule<loops = [h : 8, w : 8, {{[^>]*}}>, #nest.schedule<loops = [h : 8, w : 16, {{[^>]*}}>]
// SM90-LABEL:  nest.kernel @conv2d
// SM90-SAME:   schedules [h <= 8 and w <= 8 : #nest.schedule<loops = [h : 8, w : 8, {{[^>]*}}>, #nest.schedule<loops = [h : 8, w : 16, {{[^>]*}}>]
func.func @any(%x: tensor<1x?x?x64xbf16>, %w: tensor<3x3x64x64xbf16>) -> tensor<1x?x?x64xbf16> {
  %y = nn.conv2d %x, %w nhwc padding [1, 1, 1, 1] accumulate f32 : tensor<1x?x?x64xbf16>, tensor<3x3x64x64xbf16>
  func.return %y : tensor<1x?x?x64xbf16>
}

// Pixels of a box are at most 8 apart: with a stride of 9 all warps copy chunks, and no role does.

// SM90-LABEL:  nest.kernel @conv2d
// SM90-SAME:   schedules [#nest.schedule<loops = [h : 4, w : 16, {{[^>]*}}, grid = [h, w, o], {{[^>]*}}, pipeline = 4, aligned = 16>]
func.func @far(%x: tensor<1x90x90x64xbf16>, %w: tensor<1x1x64x64xbf16>) -> tensor<1x10x10x64xbf16> {
  %y = nn.conv2d %x, %w nhwc strides [9, 9] accumulate f32 : tensor<1x90x90x64xbf16>, tensor<1x1x64x64xbf16>
  func.return %y : tensor<1x10x10x64xbf16>
}

// A bias for each channel, as one for an image with channels first is written, is one row, whose address alone counts.

// CHECK-LABEL: nest.kernel @conv2d_add
// CHECK-SAME:  schedules [#nest.schedule<{{[^>]*}}, aligned = 16>]
// SM90-LABEL:  nest.kernel @conv2d_add
// SM90-SAME:   schedules [#nest.schedule<{{[^>]*}}, pipeline = 4 role, aligned = 16>]
func.func @bias(%x: tensor<1x8x8x16xbf16>, %w: tensor<3x3x16x16xbf16>, %b: tensor<16x1x1xbf16>) -> tensor<1x6x6x16xbf16> {
  %c = nn.conv2d %x, %w nhwc accumulate f32 : tensor<1x8x8x16xbf16>, tensor<3x3x16x16xbf16>
  %t = nn.transpose %b [1, 2, 0] : tensor<16x1x1xbf16>
  %y = nn.add %c, %t : tensor<1x6x6x16xbf16>, tensor<1x1x16xbf16>
  func.return %y : tensor<1x6x6x16xbf16>
}
