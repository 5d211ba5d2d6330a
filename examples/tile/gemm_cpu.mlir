// C = A * B in f32, blocked for the caches and registers of one CPU core, rows split over workers.
//
// Every element of C is a sum over k, and a core can only multiply what is in its registers. So the program is a nest of
// blocks, each the size of one memory of the machine:
//
//   registers   a 4x64 tile of C: 16 vectors of 16 lanes, which stay put while k runs. One step of k is a row of B
//               (4 vectors) and four numbers of A, each broadcast over the lanes: 16 fma for 8 loads.
//   L1          the 512x64 sliver of B that all row tiles of the block read: used again 64 times.
//   L2          256 rows of A by 512 columns, read in place: four broadcast streams need no copy.
//   L3          512x4096 of B, *packed* by tile.stage, so that a sliver is contiguous however wide B is.
//
// Between two blocks of k the sum rests in C itself and is loaded *into* the next chain of fma, never added to it
// afterwards. Each element is therefore one chain over all of k, and the result does not depend on any block size,
// nor on how many workers there are. A first block of k starts from zero instead of from C: `if %k > 0 else 0.0`.
//
// The last block of each loop is shorter. Its extent goes into the windows: what is beyond reads as zero and is never
// written, so there is no second copy of the program for the edges. `balanced(8)` cuts K = 520 into 264 + 256 rather
// than 512 + 8, because a short block pays for the traffic of C and gets little work for it.
tile.kernel @gemm(%A : memref<?x?xf32>, %B : memref<?x?xf32>, %C : memref<?x?xf32>) {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %M = tile.dim %A, 0 : memref<?x?xf32>
  %K = tile.dim %A, 1 : memref<?x?xf32>
  %N = tile.dim %B, 1 : memref<?x?xf32>
  // A sum over nothing is zero and has to be written too: the loop over k runs at least once.
  %K1 = arith.maxsi %K, %one : index
  tile.parallel %i0 to %i1 = %zero to %M grain 4 {
    tile.for %j, %nc = %zero to %N step 4096 {
      tile.for %k, %kx = %zero to %K1 step 512 balanced(8) {
        %left = arith.subi %K, %k : index
        %kc = arith.minsi %kx, %left : index
        %later = arith.cmpi sgt, %k, %zero : index
        %panel = tile.window %B[%k, %j] extent [%kc, %nc] : memref<?x?xf32> -> !tile.window<512x4096xf32>
        %b = tile.stage %panel : !tile.window<512x4096xf32> -> !tile.buffer<512x4096xf32>
        tile.for %i, %mc = %i0 to %i1 step 256 {
          tile.for %jr, %nr = %zero to %nc step 64 {
            %bw = tile.window %b[0, %jr] extent [%kc, %nr] : !tile.buffer<512x4096xf32> -> !tile.window<512x64xf32>
            tile.for %ir, %mr = %zero to %mc step 4 {
              %aw = tile.window %A[%i + %ir, %k] extent [%mr, %kc] : memref<?x?xf32> -> !tile.window<4x512xf32>
              %cw = tile.window %C[%i + %ir, %j + %jr] extent [%mr, %nr] : memref<?x?xf32> -> !tile.window<4x64xf32>
              %c0 = tile.load %cw if %later else 0.0 : !tile.window<4x64xf32> -> !tile.tile<4x64xf32>
              %c1 = tile.contract %aw, %bw, %c0 extent %kc intrinsic "x86.avx512.fma.1x16x1.f32"
                  : !tile.window<4x512xf32>, !tile.window<512x64xf32> -> !tile.tile<4x64xf32>
              tile.store %c1, %cw : !tile.tile<4x64xf32>, !tile.window<4x64xf32>
            }
          }
        }
      }
    }
  }
  tile.return
}
