// The selective scan of a state space model (Mamba): a recurrence over L whose coefficients depend on the input.
//
//   h[d, n] = exp(delta[t, d] * A[d, n]) * h[d, n] + delta[t, d] * x[t, d] * B[t, n]        h = a * h + b
//   y[t, d] = sum over n of h[d, n] * C[t, n]
//
// Step t needs step t - 1, so time is a loop. All channels d and all 16 numbers n of a channel's state are independent:
// the state is a 32x16 tile that the loop carries and that never leaves the registers. What a step reads is
// small (two columns of 32 channels, two rows of 16) and broadcast over the tile: a dimension of size 1 is repeated.
//
// The grid is over sequences and blocks of channels. (a, b) pairs combine associatively, (a1, b1) then (a2, b2) being
// (a2 * a1, a2 * b1 + b2): that is the combiner `affine` of the nest level, and with it long sequences can be cut into
// chunks that run in parallel. With enough sequences and channels to fill the machine, this plain loop does least work.
tile.kernel @selective_scan(%x : memref<?x?x?xf32>, %delta : memref<?x?x?xf32>, %A : memref<?x16xf32>,
                            %B : memref<?x?x16xf32>, %C : memref<?x?x16xf32>, %y : memref<?x?x?xf32>) {
  %zero = arith.constant 0 : index
  %f0 = arith.constant 0.0 : f32
  %sequences = tile.dim %x, 0 : memref<?x?x?xf32>
  %length = tile.dim %x, 1 : memref<?x?x?xf32>
  %channels = tile.dim %x, 2 : memref<?x?x?xf32>
  tile.parallel (%s, %d), (%sc, %dc) = (%zero, %zero) to (%sequences, %channels) step (1, 32) {
    %aw = tile.window %A[%d, 0] extent [%dc, _] : memref<?x16xf32> -> !tile.window<32x16xf32>
    %a = tile.load %aw : !tile.window<32x16xf32> -> !tile.tile<32x16xf32>
    %h0 = tile.splat %f0 : f32 -> !tile.tile<32x16xf32>
    %last = tile.for %t, %tc = %zero to %length step 1 iter_args(%h = %h0) -> (!tile.tile<32x16xf32>) {
      %xw = tile.window %x by affine_map<(d0, d1)[s0, s1, s2] -> (s0, s1, s2 + d0)> [%s, %t, %d] extent [%dc, _]
          : memref<?x?x?xf32> -> !tile.window<32x1xf32>
      %deltaw = tile.window %delta by affine_map<(d0, d1)[s0, s1, s2] -> (s0, s1, s2 + d0)> [%s, %t, %d] extent [%dc, _]
          : memref<?x?x?xf32> -> !tile.window<32x1xf32>
      %bw = tile.window %B[%s, %t, 0] : memref<?x?x16xf32> -> !tile.window<1x16xf32>
      %cw = tile.window %C[%s, %t, 0] : memref<?x?x16xf32> -> !tile.window<1x16xf32>
      %xt = tile.load %xw : !tile.window<32x1xf32> -> !tile.tile<32x1xf32>
      %deltat = tile.load %deltaw : !tile.window<32x1xf32> -> !tile.tile<32x1xf32>
      %bt = tile.load %bw : !tile.window<1x16xf32> -> !tile.tile<1x16xf32>
      %ct = tile.load %cw : !tile.window<1x16xf32> -> !tile.tile<1x16xf32>
      %next = tile.map (%h, %a, %deltat, %xt, %bt : !tile.tile<32x16xf32>, !tile.tile<32x16xf32>, !tile.tile<32x1xf32>,
                        !tile.tile<32x1xf32>, !tile.tile<1x16xf32>) -> !tile.tile<32x16xf32> {
      ^bb0(%state : f32, %rate : f32, %step : f32, %input : f32, %gate : f32):
        %exponent = arith.mulf %step, %rate : f32
        %decay = math.exp %exponent : f32
        %scaled = arith.mulf %step, %input : f32
        %added = arith.mulf %scaled, %gate : f32
        %kept = arith.mulf %decay, %state : f32
        %sum = arith.addf %kept, %added : f32
        tile.yield %sum : f32
      }
      %terms = tile.map (%next, %ct : !tile.tile<32x16xf32>, !tile.tile<1x16xf32>) -> !tile.tile<32x16xf32> {
      ^bb0(%state : f32, %weight : f32):
        %term = arith.mulf %state, %weight : f32
        tile.yield %term : f32
      }
      %yt = tile.reduce add %terms dims [1] : !tile.tile<32x16xf32> -> !tile.tile<32x1xf32>
      %yw = tile.window %y by affine_map<(d0, d1)[s0, s1, s2] -> (s0, s1, s2 + d0)> [%s, %t, %d] extent [%dc, _]
          : memref<?x?x?xf32> -> !tile.window<32x1xf32>
      tile.store %yt, %yw : !tile.tile<32x1xf32>, !tile.window<32x1xf32>
      tile.yield %next : !tile.tile<32x16xf32>
    }
  }
  tile.return
}
