// The products of a mixture of experts: every token is multiplied by the matrix of the expert it was sent to.
//
// A router has sorted the tokens by expert. Slot s of the result belongs to token rows[s], and expert e owns the slots
// from offsets[e] to offsets[e + 1]: ragged groups, some of them empty, whose bounds are numbers in memory.
//
//   y[s, :] = x[rows[s], :] * w[e, :, :]      for offsets[e] <= s < offsets[e + 1]
//
// The tokens of an expert are scattered over x. They are not copied together first: the window of x takes a *tile of
// indices* as its row coordinate, so staging a block of operand A is a gather. A block of 32 slots at the end of a group
// has fewer rows; `pad -1` makes the missing indices negative, and a negative index reads zero and writes nothing.
//
// Every group starts a new block, so no block mixes two experts and no token is multiplied by a wrong matrix. An empty
// group has no blocks.
tile.kernel @grouped_matmul(%x : memref<?x?xf32>, %w : memref<?x?x?xf32>, %rows : memref<?xindex>,
                            %offsets : memref<?xindex>, %y : memref<?x?xf32>) {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %f0 = arith.constant 0.0 : f32
  %experts = tile.dim %w, 0 : memref<?x?x?xf32>
  %K = tile.dim %w, 1 : memref<?x?x?xf32>
  %N = tile.dim %w, 2 : memref<?x?x?xf32>
  tile.parallel (%e, %j), (%ec, %nc) = (%zero, %zero) to (%experts, %N) step (1, 64) {
    %next_expert = arith.addi %e, %one : index
    %begin = memref.load %offsets[%e] : memref<?xindex>
    %end = memref.load %offsets[%next_expert] : memref<?xindex>
    tile.for %s, %sc = %begin to %end step 32 {
      %rw = tile.window %rows by affine_map<(d0, d1)[s0] -> (s0 + d0)> [%s] extent [%sc, _]
          : memref<?xindex> -> !tile.window<32x1xindex>
      %tokens = tile.load %rw pad -1 : !tile.window<32x1xindex> -> !tile.tile<32x1xindex>
      %start = tile.splat %f0 : f32 -> !tile.tile<32x64xf32>
      %sum = tile.for %k, %kc = %zero to %K step 128 iter_args(%acc = %start) -> (!tile.tile<32x64xf32>) {
        %xw = tile.window %x[%tokens : !tile.tile<32x1xindex>, %k] extent [_, %kc]
            : memref<?x?xf32> -> !tile.window<32x128xf32>
        %ww = tile.window %w[%e, %k, %j] extent [%kc, %nc] : memref<?x?x?xf32> -> !tile.window<128x64xf32>
        %a = tile.stage %xw : !tile.window<32x128xf32> -> !tile.buffer<32x128xf32>
        %next = tile.contract %a, %ww, %acc extent %kc intrinsic "x86.avx512.fma.1x16x1.f32"
            : !tile.buffer<32x128xf32>, !tile.window<128x64xf32> -> !tile.tile<32x64xf32>
        tile.yield %next : !tile.tile<32x64xf32>
      }
      %yw = tile.window %y[%s, %j] extent [%sc, %nc] : memref<?x?xf32> -> !tile.window<32x64xf32>
      tile.store %sum, %yw : !tile.tile<32x64xf32>, !tile.window<32x64xf32>
    }
  }
  tile.return
}
