// RUN: crosstile-opt %s --tile-to-mma=target=x86-64-avx512-bf16 | filecheck %s
// RUN: crosstile-opt %s --tile-to-mma=target=x86-64-avx512-bf16 --mma-to-hardware | filecheck %s --check-prefix=HARDWARE

// A right factor that is computed two rows at a time: scratch has panels of words, and rows are interleaved on the way to
// it. Of an odd row at the end of k half a word is computed, and what is beside it masked where it is read.

// CHECK:       #[[WORDS_MAP:.*]] = affine_map<(d0, d1) -> ((d1 floordiv 64), (d0 floordiv 2), (d1 mod 64), (d0 mod 2))>
// CHECK:       #[[WORDS:.*]] = #mma.layout<tile(2, 64) element(2:64)
// CHECK-LABEL: mma.kernel @computed
// CHECK:         %[[P:.*]] = mma.alloc : !mma.buffer<32x64xbf16, #[[WORDS_MAP]]>
// CHECK:         scf.for
// CHECK:           arith.maximumf
// CHECK:           %[[W:.*]] = mma.relayout {{.*}} -> !mma.fragment<2x64xbf16, #[[WORDS]]>
// CHECK-NEXT:      mma.store %[[W]], %[[P]]
// CHECK:         scf.for
// CHECK:           mma.load %[[P]]{{.*}} !mma.fragment<2x64xbf16, #[[WORDS]]>
// CHECK:           mma.mma {{.*}} {intrinsic = "x86.avx512.vdpbf16ps.1x16x2.f32.bf16"}
// CHECK:         scf.for
// CHECK:           %[[V:.*]] = mma.load %[[P]]{{.*}} !mma.fragment<2x64xbf16, #[[WORDS]]>
// CHECK:           mma.mask %[[V]]
// CHECK:           mma.mma

// HARDWARE:       func.func private @computed
// HARDWARE-COUNT-4: vector.shuffle {{.*}}[0, 16, 1, 17, 2, 18, 3, 19,
// HARDWARE-COUNT-4: vector.store {{.*}} vector<32xbf16>
// HARDWARE:         x86vector.avx512.dot
tile.kernel @computed(%A : memref<6x?xbf16>, %B : memref<?x64xbf16>, %C : memref<6x64xf32>, %k : index) {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  tile.parallel (%i), (%c) = (%zero) to (%one) step (1) {
    %p = tile.alloc : !tile.buffer<32x64xbf16>
    tile.for %r, %left = %zero to %k step 2 {
      %bw = tile.window %B[%r, %zero] extent [%left, _] : memref<?x64xbf16> -> !tile.window<2x64xbf16>
      %b = tile.load %bw : !tile.window<2x64xbf16> -> !tile.tile<2x64xbf16>
      %m = tile.map (%b : !tile.tile<2x64xbf16>) -> !tile.tile<2x64xbf16> {
      ^bb0(%x : bf16):
        %z = arith.constant 0.0 : bf16
        %t = arith.maximumf %x, %z : bf16
        tile.yield %t : bf16
      }
      %pw = tile.window %p[%r, %zero] : !tile.buffer<32x64xbf16> -> !tile.window<2x64xbf16>
      tile.store %m, %pw : !tile.tile<2x64xbf16>, !tile.window<2x64xbf16>
    }
    %aw = tile.window %A[%zero, %zero] extent [_, %k] : memref<6x?xbf16> -> !tile.window<6x32xbf16>
    %qw = tile.window %p[%zero, %zero] extent [%k, _] : !tile.buffer<32x64xbf16> -> !tile.window<32x64xbf16>
    %cw = tile.window %C[%zero, %zero] : memref<6x64xf32> -> !tile.window<6x64xf32>
    %sum = tile.load %cw : !tile.window<6x64xf32> -> !tile.tile<6x64xf32>
    %d = tile.contract %aw, %qw, %sum extent %k : !tile.window<6x32xbf16>, !tile.window<32x64xbf16> -> !tile.tile<6x64xf32>
    tile.store %d, %cw : !tile.tile<6x64xf32>, !tile.window<6x64xf32>
  }
}
