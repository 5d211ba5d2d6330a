// RUN: crosstile-opt %s --decompose --nn-to-nest --fuse --choose-schedule=target=x86-64-amx --nest-to-tile | filecheck %s
// RUN: crosstile-opt %s --decompose --nn-to-nest --fuse --choose-schedule=target=x86-64-amx --nest-to-tile --tile-to-mma=target=x86-64-amx | filecheck %s --check-prefix=MMA

// On tile registers the places of the filter are written out, and what channels lack to a whole instruction is zero in
// both factors: 40 channels take 64 steps of k at each place.

// CHECK:      tile.kernel @conv2d(
// CHECK:        %[[IMAGE:.*]] = tile.stage %{{.*}} -> !tile.buffer<5x33x64xbf16>
// CHECK:        %[[FILTER:.*]] = tile.stage %{{.*}} -> !tile.buffer<128x32xbf16>
// CHECK:        %[[B0:.*]] = tile.window %[[FILTER]][0, 0]
// CHECK:        %[[C0:.*]] = tile.contract %{{.*}}, %{{.*}}, %{{.*}} extent %c64 intrinsic "x86.amx.tdpbf16ps.16x16x32.f32.bf16" : !tile.window<32x64xbf16>, !tile.window<64x32xbf16>
// CHECK:        %[[B1:.*]] = tile.window %[[FILTER]][64, 0]
// CHECK-NEXT:   tile.contract %{{.*}}, %[[B1]], %[[C0]] extent %c64

// Rows of the image are loaded as they lie in its buffer; the filter's words are packed.

// MMA:        #[[WORDS:.*]] = affine_map<(d0, d1) -> ((d1 floordiv 16), (d0 floordiv 2), (d1 mod 16), (d0 mod 2))>
// MMA:        %[[IMAGE:.*]] = mma.alloc : !mma.buffer<5x33x64xbf16>
// MMA:        %[[FILTER:.*]] = mma.alloc : !mma.buffer<128x32xbf16, #[[WORDS]]>
// MMA:        %[[A:.*]] = mma.load %[[IMAGE]][{{.*}}] {nontemporal} : !mma.buffer<5x33x64xbf16> -> !mma.fragment<32x32xbf16
// MMA-NEXT:   %[[B:.*]] = mma.load %[[FILTER]]
// MMA-NEXT:   mma.mma %[[A]], %[[B]],
func.func @main(%x: tensor<1x5x33x40xbf16>, %w: tensor<1x2x40x32xbf16>) -> tensor<1x5x32x32xf32> {
  %y = nn.conv2d %x, %w nhwc accumulate f32
      : tensor<1x5x33x40xbf16>, tensor<1x2x40x32xbf16> -> tensor<1x5x32x32xf32>
  func.return %y : tensor<1x5x32x32xf32>
}
