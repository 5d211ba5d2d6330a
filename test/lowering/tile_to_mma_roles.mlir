// RUN: crosstile-opt %s --tile-to-mma=target=sm_90a | filecheck %s

// One role copies both factors, the other multiplies and keeps one product in flight. B lies along k in memory: it is
// copied as it lies and read transposed. The result goes through scratch, from where it is copied in blocks. Both blocks of a cluster read the same of B, and copy it for each other.
// CHECK-LABEL: mma.kernel @gemm(
// CHECK-SAME:    target "sm_90a" warps(12)
// CHECK:         mma.parallel {{.*}} step (128, 128) raster 4 cluster [2, 1] persistent 1 {
// CHECK-DAG:     %[[A:.*]] = mma.ring : !mma.ring<4 x 128x64xbf16, #mma.swizzle<128>>
// CHECK-DAG:     %[[B:.*]] = mma.ring : !mma.ring<4 x 128x64xbf16, #mma.swizzle<128>>
// CHECK-DAG:     %[[PIECE:.*]] = mma.alloc : !mma.buffer<128x64xf32, #{{.*}}, #mma.swizzle<128>>
// CHECK:         role @load warps(4) registers(40)
// CHECK:           scf.for %k
// CHECK:             mma.copy_async %A[%i, %k] extent [%mc, %kc]
// CHECK:             mma.copy_async %B[%j, %k] extent [%nc, %kc] to %{{.*}} multicast [0] :
// CHECK:         role @compute warps(8) registers(232)
// CHECK:           %[[A0:.*]], %[[B0:.*]] = mma.wait
// CHECK-NEXT:      %[[T0:.*]] = mma.view %[[B0]] by affine_map<(d0, d1) -> (d1, d0)>
// CHECK-NEXT:      %[[P0:.*]] = mma.mma_async %[[A0]], %[[T0]], %start
// CHECK-NEXT:      scf.for {{.*}} iter_args(%[[P:.*]] = %[[P0]], %[[AB:.*]] = %[[A0]], %[[BB:.*]] = %[[B0]])
// CHECK-NEXT:        mma.wait
// CHECK-NEXT:        mma.view
// CHECK-NEXT:        %[[Q:.*]] = mma.mma_async {{.*}}, %[[P]] {
// CHECK-NEXT:        mma.await %[[Q]] in_flight 1
// CHECK-NEXT:        mma.release %[[AB]], %[[BB]]
// CHECK:           mma.await
// CHECK-NEXT:      mma.release
// CHECK-NEXT:      mma.store {{.*}}, %C[%i, %j] extent [%mc, %nc] through %[[PIECE]] :
tile.kernel @gemm(%A : memref<?x?xbf16>, %B : memref<?x?xbf16>, %C : memref<?x?xf32>) {
  %zero = arith.constant 0 : index
  %f0 = arith.constant 0.0 : f32
  %M = tile.dim %A, 0 : memref<?x?xbf16>
  %K = tile.dim %A, 1 : memref<?x?xbf16>
  %N = tile.dim %B, 0 : memref<?x?xbf16>
  tile.parallel (%i, %j), (%mc, %nc) = (%zero, %zero) to (%M, %N) step (128, 128) raster 4 cluster [2, 1] persistent 1 {
    %start = tile.splat %f0 : f32 -> !tile.tile<128x128xf32>
    %sum = tile.for %k, %kc = %zero to %K step 64 iter_args(%acc = %start) -> (!tile.tile<128x128xf32>)
        pipeline(4) role {
      %aw = tile.window %A[%i, %k] extent [%mc, %kc] : memref<?x?xbf16> -> !tile.window<128x64xbf16>
      %bw = tile.window %B by affine_map<(d0, d1)[s0, s1] -> (s0 + d1, s1 + d0)> [%j, %k] extent [%kc, %nc]
          : memref<?x?xbf16> -> !tile.window<64x128xbf16>
      %a = tile.stage %aw : !tile.window<128x64xbf16> -> !tile.buffer<128x64xbf16>
      %b = tile.stage %bw : !tile.window<64x128xbf16> -> !tile.buffer<64x128xbf16>
      %next = tile.contract %a, %b, %acc extent %kc
          : !tile.buffer<128x64xbf16>, !tile.buffer<64x128xbf16> -> !tile.tile<128x128xf32>
      tile.yield %next : !tile.tile<128x128xf32>
    }
    %cw = tile.window %C[%i, %j] extent [%mc, %nc] : memref<?x?xf32> -> !tile.window<128x128xf32>
    tile.store %sum, %cw : !tile.tile<128x128xf32>, !tile.window<128x128xf32>
  }
}

// A left factor that was computed stays where the first product left it: the accumulator's registers are the factor's. A
// slot that one product alone reads is released as soon as that has ended.
// CHECK-LABEL: mma.kernel @weights(
// CHECK:         role @compute
// CHECK:           mma.wait
// CHECK:           scf.for
// CHECK:             %[[K:.*]] = mma.wait
// CHECK:             %[[P:.*]] = mma.mma_async {{.*}} {intrinsic = "nvidia.wgmma.m64n64k16.f32.bf16"}
// CHECK-NEXT:        %[[S:.*]] = mma.await %[[P]]
// CHECK-NEXT:        mma.release %[[K]]
// CHECK-NEXT:        %[[W:.*]] = mma.map (%[[S]]
// CHECK:             %[[V:.*]] = mma.wait
// CHECK-NEXT:        %[[N:.*]] = mma.mma_async %[[W]], %[[V]],
// CHECK-NEXT:        mma.await %[[N]]
// CHECK-NEXT:        mma.release %[[V]]
// CHECK-NOT:         mma.relayout
tile.kernel @weights(%Q : memref<?x64xbf16>, %K : memref<?x64xbf16>, %V : memref<?x64xbf16>, %Y : memref<?x64xf32>) {
  %zero = arith.constant 0 : index
  %f0 = arith.constant 0.0 : f32
  %M = tile.dim %Q, 0 : memref<?x64xbf16>
  %N = tile.dim %K, 0 : memref<?x64xbf16>
  tile.parallel (%i), (%mc) = (%zero) to (%M) step (64) {
    %qw = tile.window %Q[%i, %zero] extent [%mc, _] : memref<?x64xbf16> -> !tile.window<64x64xbf16>
    %q = tile.stage %qw : !tile.window<64x64xbf16> -> !tile.buffer<64x64xbf16>
    %start = tile.splat %f0 : f32 -> !tile.tile<64x64xf32>
    %sum = tile.for %j, %nc = %zero to %N step 64 iter_args(%acc = %start) -> (!tile.tile<64x64xf32>) pipeline(2) role {
      %kw = tile.window %K by affine_map<(d0, d1)[s0, s1] -> (s0 + d1, s1 + d0)> [%j, %zero] extent [_, %nc]
          : memref<?x64xbf16> -> !tile.window<64x64xbf16>
      %vw = tile.window %V[%j, %zero] extent [%nc, _] : memref<?x64xbf16> -> !tile.window<64x64xbf16>
      %k = tile.stage %kw : !tile.window<64x64xbf16> -> !tile.buffer<64x64xbf16>
      %s = tile.contract %q, %k, %start
          : !tile.buffer<64x64xbf16>, !tile.buffer<64x64xbf16> -> !tile.tile<64x64xf32>
      %w = tile.map (%s : !tile.tile<64x64xf32>) -> !tile.tile<64x64xbf16> {
      ^bb0(%one: f32):
        %narrow = arith.truncf %one : f32 to bf16
        tile.yield %narrow : bf16
      }
      %v = tile.stage %vw : !tile.window<64x64xbf16> -> !tile.buffer<64x64xbf16>
      %next = tile.contract %w, %v, %acc extent %nc
          : !tile.tile<64x64xbf16>, !tile.buffer<64x64xbf16> -> !tile.tile<64x64xf32>
      tile.yield %next : !tile.tile<64x64xf32>
    }
    %yw = tile.window %Y[%i, %zero] extent [%mc, _] : memref<?x64xf32> -> !tile.window<64x64xf32>
    tile.store %sum, %yw : !tile.tile<64x64xf32>, !tile.window<64x64xf32>
  }
}

// Bytes of which memory has n contiguous: a third role exchanges rows and columns, since the instruction reads them along k.
// The slots of the two rings of B are as many as those of A, which is copied as it is.
// CHECK-LABEL: mma.kernel @bytes(
// CHECK-SAME:    target "sm_90a" warps(12)
// CHECK:         %[[A:.*]] = mma.ring : !mma.ring<4 x 128x128xi8, #mma.swizzle<128>>
// CHECK:         %[[FROM:.*]] = mma.ring : !mma.ring<2 x 128x256xi8, #{{.*}}, #mma.swizzle<128>>
// CHECK:         %[[B:.*]] = mma.ring : !mma.ring<2 x 256x128xi8, #mma.swizzle<128>>
// CHECK:         role @load warps(1) registers(56)
// CHECK:           mma.acquire %[[A]]
// CHECK:           mma.acquire %[[FROM]]
// CHECK:         role @exchange warps(3) registers(56)
// CHECK:           scf.for %k
// CHECK-NEXT:        %[[READ:.*]] = mma.wait %[[FROM]]
// CHECK-NEXT:        %[[WRITE:.*]] = mma.acquire %[[B]]
// CHECK-NEXT:        mma.copy_transposed %[[READ]] to %[[WRITE]]
// CHECK-NEXT:        mma.commit %[[WRITE]]
// CHECK-NEXT:        mma.release %[[READ]]
// CHECK:         role @compute warps(8) registers(224)
// CHECK:           %{{.*}}, %[[B0:.*]] = mma.wait %[[A]], %[[B]]
// CHECK-NEXT:      mma.view %[[B0]] by affine_map<(d0, d1) -> (d1, d0)>
// CHECK-NEXT:      mma.mma_async
tile.kernel @bytes(%A : memref<?x?xi8>, %B : memref<?x?xi8>, %C : memref<?x?xi32>) {
  %zero = arith.constant 0 : index
  %i0 = arith.constant 0 : i32
  %M = tile.dim %A, 0 : memref<?x?xi8>
  %K = tile.dim %A, 1 : memref<?x?xi8>
  %N = tile.dim %B, 1 : memref<?x?xi8>
  tile.parallel (%i, %j), (%mc, %nc) = (%zero, %zero) to (%M, %N) step (128, 256) {
    %start = tile.splat %i0 : i32 -> !tile.tile<128x256xi32>
    %sum = tile.for %k, %kc = %zero to %K step 128 iter_args(%acc = %start) -> (!tile.tile<128x256xi32>)
        pipeline(4) role {
      %aw = tile.window %A[%i, %k] extent [%mc, %kc] : memref<?x?xi8> -> !tile.window<128x128xi8>
      %bw = tile.window %B[%k, %j] extent [%kc, %nc] : memref<?x?xi8> -> !tile.window<128x256xi8>
      %a = tile.stage %aw : !tile.window<128x128xi8> -> !tile.buffer<128x128xi8>
      %b = tile.stage %bw : !tile.window<128x256xi8> -> !tile.buffer<128x256xi8>
      %next = tile.contract %a, %b, %acc extent %kc intrinsic "nvidia.wgmma.m64n256k32.i32.si8"
          : !tile.buffer<128x128xi8>, !tile.buffer<128x256xi8> -> !tile.tile<128x256xi32>
      tile.yield %next : !tile.tile<128x256xi32>
    }
    %cw = tile.window %C[%i, %j] extent [%mc, %nc] : memref<?x?xi32> -> !tile.window<128x256xi32>
    tile.store %sum, %cw : !tile.tile<128x256xi32>, !tile.window<128x256xi32>
  }
}
