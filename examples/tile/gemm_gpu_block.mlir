// C = A * B, bf16 operands and an f32 result, as one block of a GPU computes it.
//
// The registers of all warps of a block together hold 128x256 numbers, so that is the tile of C, and the grid is one
// block per tile. A step of k needs 128x64 of A and 64x256 of B; every number of A is used 256 times and every number of
// B 128 times, which is only possible if the whole block shares them: tile.stage puts them into shared memory.
//
// Fetching them takes far longer than multiplying them. `pipeline(4)` therefore asks for four trips of the loop to be in
// flight: the stages of trip t + 3 are issued while trip t multiplies. It is a promise about time and none about values,
// so this program means the same with any depth; how the copies are made asynchronous (a ring of four slots, barriers or
// roles for warps) is decided on the way down to the mma level.
//
// The accumulator is a value carried by the loop and lives in registers from beginning to end. At the edges the extents
// are shorter: staged elements beyond them are zero, so a whole wgmma can run over them and adds nothing.
tile.kernel @gemm(%A : memref<?x?xbf16>, %B : memref<?x?xbf16>, %C : memref<?x?xf32>) {
  %zero = arith.constant 0 : index
  %f0 = arith.constant 0.0 : f32
  %M = tile.dim %A, 0 : memref<?x?xbf16>
  %K = tile.dim %A, 1 : memref<?x?xbf16>
  %N = tile.dim %B, 1 : memref<?x?xbf16>
  tile.parallel (%i, %j), (%mc, %nc) = (%zero, %zero) to (%M, %N) step (128, 256) {
    %start = tile.splat %f0 : f32 -> !tile.tile<128x256xf32>
    %sum = tile.for %k, %kc = %zero to %K step 64 iter_args(%acc = %start) -> (!tile.tile<128x256xf32>) pipeline(4) {
      %aw = tile.window %A[%i, %k] extent [%mc, %kc] : memref<?x?xbf16> -> !tile.window<128x64xbf16>
      %bw = tile.window %B[%k, %j] extent [%kc, %nc] : memref<?x?xbf16> -> !tile.window<64x256xbf16>
      %a = tile.stage %aw : !tile.window<128x64xbf16> -> !tile.buffer<128x64xbf16>
      %b = tile.stage %bw : !tile.window<64x256xbf16> -> !tile.buffer<64x256xbf16>
      %next = tile.contract %a, %b, %acc extent %kc intrinsic "nvidia.wgmma.m64n256k16.f32.bf16"
          : !tile.buffer<128x64xbf16>, !tile.buffer<64x256xbf16> -> !tile.tile<128x256xf32>
      tile.yield %next : !tile.tile<128x256xf32>
    }
    %cw = tile.window %C[%i, %j] extent [%mc, %nc] : memref<?x?xf32> -> !tile.window<128x256xf32>
    tile.store %sum, %cw : !tile.tile<128x256xf32>, !tile.window<128x256xf32>
  }
  tile.return
}
