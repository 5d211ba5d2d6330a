// C = A * B in f32, blocked for the caches and registers of one CPU core, rows split over workers.
//
// Every element of C is a sum over k, and a core can only multiply what is in its registers. So the program is a nest of
// blocks, each the size of one memory of the machine:
//
//   registers   a 6x64 tile of C: 24 vectors of 16 lanes, which stay put while k runs. One step of k is a row of B
//               (4 vectors) and six numbers of A, each broadcast over the lanes: 24 fma for 10 loads.
//   L2          the 512x64 sliver of B that all row tiles of the block stream through: used again 42 times; and
//               252 rows of A by 512 columns, read in place: six broadcast streams need no copy.
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
  tile.parallel %i0 to %i1 = %zero to %M grain 6 {
    tile.for %j, %nc = %zero to %N step 4096 {
      tile.for %k, %kx = %zero to %K1 step 512 balanced(8) {
        %left = arith.subi %K, %k : index
        %kc = arith.minsi %kx, %left : index
        %later = arith.cmpi sgt, %k, %zero : index
        %panel = tile.window %B[%k, %j] extent [%kc, %nc] : memref<?x?xf32> -> !tile.window<512x4096xf32>
        %b = tile.stage %panel : !tile.window<512x4096xf32> -> !tile.buffer<512x4096xf32>
        tile.for %i, %mc = %i0 to %i1 step 252 {
          tile.for %jr, %nr = %zero to %nc step 64 {
            %bw = tile.window %b[0, %jr] extent [%kc, %nr] : !tile.buffer<512x4096xf32> -> !tile.window<512x64xf32>
            tile.for %ir, %mr = %zero to %mc step 6 {
              %aw = tile.window %A[%i + %ir, %k] extent [%mr, %kc] : memref<?x?xf32> -> !tile.window<6x512xf32>
              %cw = tile.window %C[%i + %ir, %j + %jr] extent [%mr, %nr] : memref<?x?xf32> -> !tile.window<6x64xf32>
              %c0 = tile.load %cw if %later else 0.0 : !tile.window<6x64xf32> -> !tile.tile<6x64xf32>
              %c1 = tile.contract %aw, %bw, %c0 extent %kc intrinsic "x86.avx512.fma.1x16x1.f32"
                  : !tile.window<6x512xf32>, !tile.window<512x64xf32> -> !tile.tile<6x64xf32>
              tile.store %c1, %cw : !tile.tile<6x64xf32>, !tile.window<6x64xf32>
            }
          }
        }
      }
    }
  }
  tile.return
}

// The host function, which `crosstile run --from tile` calls. The result has the rows of A and the columns of B.
func.func @main(%A : memref<?x?xf32> {nn.dims = ["M", "K"]}, %B : memref<?x?xf32> {nn.dims = ["K", "N"]}, %C : memref<?x?xf32>) attributes {
    crosstile.inputs = 2 : index, crosstile.result_shapes = [affine_map<()[s0, s1, s2, s3] -> (s0, s3)>]} {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %columns = memref.dim %A, %one : memref<?x?xf32>
  %rows = memref.dim %B, %zero : memref<?x?xf32>
  %same = arith.cmpi eq, %columns, %rows : index
  cf.assert %same, "A must have as many columns as B has rows"
  tile.launch @gemm(%A, %B, %C : memref<?x?xf32>, memref<?x?xf32>, memref<?x?xf32>) {stage = 0}
  func.return
}
