// O = softmax(scale * Q * K^T) * V for one CPU core, causal, with a length of its own for every sequence.
//
// The matrix of scores has as many numbers as queries times keys and is never stored. A block of 32 queries meets the
// keys 64 at a time and keeps, per query, three things that are enough to finish later:
//
//   m    the largest score so far
//   l    the sum of exp(score - m)
//   acc  the sum of exp(score - m) * V, a row of 64 numbers
//
// When a block brings a larger score, what was summed up was too large by exp(m_new - m_old): l and acc are multiplied
// by alpha = exp(m_old - m_new) and the block is added. At the end the answer is acc / l. (This is the combiner
// `softmax_weighted_sum` of the nest level, in block form.)
//
// Causal: queries are the last positions of the sequence, so query i sees the keys up to i + length - queries. Key
// blocks beyond the last query are not visited at all, and inside a block hidden keys score -inf, whose exp is 0. That
// hides the padding of the last block as well: it lies behind the last key of the last query.
// A query that sees nothing has m = -inf and must not compute inf - inf: it subtracts 0 instead, and ends with l = 0,
// for which the answer is 0.
//
// K is read transposed by the window's map, not by moving data: element (d, j) of the window is K[s, j, d].
tile.kernel @attention(%Q : memref<?x?x64xf32>, %K : memref<?x?x64xf32>, %V : memref<?x?x64xf32>,
                       %lengths : memref<?xindex>, %O : memref<?x?x64xf32>, %scale : f32) {
  %zero = arith.constant 0 : index
  %f0 = arith.constant 0.0 : f32
  %minus_infinity = arith.constant 0xFF800000 : f32
  %sequences = tile.dim %Q, 0 : memref<?x?x64xf32>
  %queries = tile.dim %Q, 1 : memref<?x?x64xf32>
  tile.parallel (%s, %i), (%sc, %mc) = (%zero, %zero) to (%sequences, %queries) step (1, 32) {
    %length = memref.load %lengths[%s] : memref<?xindex>
    %shift = arith.subi %length, %queries : index
    %last = arith.addi %i, %mc : index
    %end = arith.addi %last, %shift : index

    %qw = tile.window %Q[%s, %i, 0] extent [%mc, _] : memref<?x?x64xf32> -> !tile.window<32x64xf32>
    %q0 = tile.load %qw : !tile.window<32x64xf32> -> !tile.tile<32x64xf32>
    %q = tile.map (%q0 : !tile.tile<32x64xf32>) -> !tile.tile<32x64xf32> {
    ^bb0(%x : f32):
      %y = arith.mulf %x, %scale : f32
      tile.yield %y : f32
    }
    // The last key that each query sees.
    %first_seen = arith.addi %i, %shift : index
    %row = tile.iota dim 0 start %first_seen : !tile.tile<32x1xindex>
    %no_score = tile.splat %f0 : f32 -> !tile.tile<32x64xf32>
    %m0 = tile.splat %minus_infinity : f32 -> !tile.tile<32x1xf32>
    %l0 = tile.splat %f0 : f32 -> !tile.tile<32x1xf32>

    %m, %l, %acc = tile.for %j, %jc = %zero to %end step 64
        iter_args(%m1 = %m0, %l1 = %l0, %acc1 = %no_score)
        -> (!tile.tile<32x1xf32>, !tile.tile<32x1xf32>, !tile.tile<32x64xf32>) {
      %kw = tile.window %K by affine_map<(d0, d1)[s0, s1] -> (s0, s1 + d1, d0)> [%s, %j] extent [_, %jc]
          : memref<?x?x64xf32> -> !tile.window<64x64xf32>
      %s0 = tile.contract %q, %kw, %no_score intrinsic "x86.avx512.fma.1x16x1.f32"
          : !tile.tile<32x64xf32>, !tile.window<64x64xf32> -> !tile.tile<32x64xf32>
      %column = tile.iota dim 1 start %j : !tile.tile<1x64xindex>
      %s1 = tile.map (%s0, %row, %column : !tile.tile<32x64xf32>, !tile.tile<32x1xindex>, !tile.tile<1x64xindex>)
          -> !tile.tile<32x64xf32> {
      ^bb0(%x : f32, %r : index, %c : index):
        %seen = arith.cmpi sle, %c, %r : index
        %y = arith.select %seen, %x, %minus_infinity : f32
        tile.yield %y : f32
      }
      %m2 = tile.reduce max %s1 into %m1 dims [1] : !tile.tile<32x64xf32> -> !tile.tile<32x1xf32>
      %base = tile.map (%m2 : !tile.tile<32x1xf32>) -> !tile.tile<32x1xf32> {
      ^bb0(%x : f32):
        %nothing = arith.cmpf oeq, %x, %minus_infinity : f32
        %y = arith.select %nothing, %f0, %x : f32
        tile.yield %y : f32
      }
      %alpha = tile.map (%m1, %base : !tile.tile<32x1xf32>, !tile.tile<32x1xf32>) -> !tile.tile<32x1xf32> {
      ^bb0(%x : f32, %b : f32):
        %d = arith.subf %x, %b : f32
        %y = math.exp %d : f32
        tile.yield %y : f32
      }
      %p = tile.map (%s1, %base : !tile.tile<32x64xf32>, !tile.tile<32x1xf32>) -> !tile.tile<32x64xf32> {
      ^bb0(%x : f32, %b : f32):
        %d = arith.subf %x, %b : f32
        %y = math.exp %d : f32
        tile.yield %y : f32
      }
      %l2 = tile.map (%l1, %alpha : !tile.tile<32x1xf32>, !tile.tile<32x1xf32>) -> !tile.tile<32x1xf32> {
      ^bb0(%x : f32, %a : f32):
        %y = arith.mulf %x, %a : f32
        tile.yield %y : f32
      }
      %l3 = tile.reduce add %p into %l2 dims [1] : !tile.tile<32x64xf32> -> !tile.tile<32x1xf32>
      %acc2 = tile.map (%acc1, %alpha : !tile.tile<32x64xf32>, !tile.tile<32x1xf32>) -> !tile.tile<32x64xf32> {
      ^bb0(%x : f32, %a : f32):
        %y = arith.mulf %x, %a : f32
        tile.yield %y : f32
      }
      %vw = tile.window %V[%s, %j, 0] extent [%jc, _] : memref<?x?x64xf32> -> !tile.window<64x64xf32>
      %acc3 = tile.contract %p, %vw, %acc2 extent %jc intrinsic "x86.avx512.fma.1x16x1.f32"
          : !tile.tile<32x64xf32>, !tile.window<64x64xf32> -> !tile.tile<32x64xf32>
      tile.yield %m2, %l3, %acc3 : !tile.tile<32x1xf32>, !tile.tile<32x1xf32>, !tile.tile<32x64xf32>
    }

    %o = tile.map (%acc, %l : !tile.tile<32x64xf32>, !tile.tile<32x1xf32>) -> !tile.tile<32x64xf32> {
    ^bb0(%x : f32, %total : f32):
      %nothing = arith.cmpf oeq, %total, %f0 : f32
      %quotient = arith.divf %x, %total : f32
      %y = arith.select %nothing, %f0, %quotient : f32
      tile.yield %y : f32
    }
    %ow = tile.window %O[%s, %i, 0] extent [%mc, _] : memref<?x?x64xf32> -> !tile.window<32x64xf32>
    tile.store %o, %ow : !tile.tile<32x64xf32>, !tile.window<32x64xf32>
  }
  tile.return
}
