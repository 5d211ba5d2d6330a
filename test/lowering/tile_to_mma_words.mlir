// RUN: crosstile-opt %s --tile-to-mma=target=x86-64-amx --split-input-file | filecheck %s
// RUN: crosstile-opt %s --tile-to-mma=target=x86-64-avx512-bf16 --split-input-file | filecheck %s --check-prefix=DOT

// A factor that is computed, in scratch: in panels of words, zero beyond the end of k as far as an instruction reaches. The
// sums exceed the tile registers: they are in scratch too, and computed in register tiles of 2x2 tile registers. What
// becomes of them before the product is a sweep of its own.

// CHECK:       #[[WORDS_MAP:.*]] = affine_map<(d0, d1) -> ((d1 floordiv 16), (d0 floordiv 2), (d1 mod 16), (d0 mod 2))>
// CHECK-LABEL: mma.kernel @weighted
// CHECK:         %[[P:.*]] = mma.alloc : !mma.buffer<64x64xbf16, #[[WORDS_MAP]]>
// CHECK:         scf.for %row = %{{.*}} to %{{.*}} step %c2 {
// CHECK:           arith.truncf
// CHECK:           %[[VALID:.*]] = mma.mask {{.*}} else 0.0
// CHECK-NEXT:      %[[WORDS:.*]] = mma.relayout %[[VALID]]
// CHECK-NEXT:      mma.store %[[WORDS]], %[[P]]
// CHECK:         scf.for
// CHECK:           arith.addf
// CHECK:         scf.for %part{{.*}} step %c32 {
// CHECK-NEXT:      scf.for %part{{.*}} step %c32 {
// CHECK:             %[[C:.*]] = mma.load %o[
// CHECK:             scf.for %k = {{.*}} step %c32 iter_args({{.*}} = %[[C]])
// CHECK:               mma.mma {{.*}} {intrinsic = "x86.amx.tdpbf16ps.16x16x32.f32.bf16"}
// CHECK:             mma.store {{.*}} !mma.fragment<32x32xf32

// Words are the same without tile registers, and the register tile is one of vectors.

// DOT:         #[[WORDS_MAP:.*]] = affine_map<(d0, d1) -> ((d1 floordiv 64), (d0 floordiv 2), (d1 mod 64), (d0 mod 2))>
// DOT:         #[[WORDS:.*]] = #mma.layout<tile(2, 64) element(2:64)
// DOT-LABEL:   mma.kernel @weighted
// DOT:           %[[P:.*]] = mma.alloc : !mma.buffer<64x64xbf16, #[[WORDS_MAP]]>
// DOT:           mma.relayout
// DOT:           mma.load %[[P]]{{.*}} !mma.fragment<2x64xbf16, #[[WORDS]]>
// DOT:         mma.mma {{.*}} {intrinsic = "x86.avx512.vdpbf16ps.1x16x2.f32.bf16"}
tile.kernel @weighted(%S : memref<64x64xf32>, %V : memref<?x64xbf16>, %O : memref<64x64xf32>, %n : index) {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  tile.parallel (%i), (%c) = (%zero) to (%one) step (1) {
    %sw = tile.window %S[%zero, %zero] : memref<64x64xf32> -> !tile.window<64x64xf32>
    %s = tile.load %sw : !tile.window<64x64xf32> -> !tile.tile<64x64xf32>
    %p = tile.map (%s : !tile.tile<64x64xf32>) -> !tile.tile<64x64xbf16> {
    ^bb0(%x : f32):
      %t = arith.truncf %x : f32 to bf16
      tile.yield %t : bf16
    }
    %ow = tile.window %O[%zero, %zero] : memref<64x64xf32> -> !tile.window<64x64xf32>
    %o = tile.load %ow : !tile.window<64x64xf32> -> !tile.tile<64x64xf32>
    %twice = tile.map (%o : !tile.tile<64x64xf32>) -> !tile.tile<64x64xf32> {
    ^bb0(%x : f32):
      %t = arith.addf %x, %x : f32
      tile.yield %t : f32
    }
    %vw = tile.window %V by affine_map<(d0, d1)[s0] -> (s0 + d1, d0)> [%zero] extent [_, %n] : memref<?x64xbf16> -> !tile.window<64x64xbf16>
    %v = tile.stage %vw : !tile.window<64x64xbf16> -> !tile.buffer<64x64xbf16>
    %r = tile.contract %v, %p, %twice extent %n : !tile.buffer<64x64xbf16>, !tile.tile<64x64xbf16> -> !tile.tile<64x64xf32>
    tile.store %r, %ow : !tile.tile<64x64xf32>, !tile.window<64x64xf32>
  }
}
