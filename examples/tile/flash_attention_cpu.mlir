// O = softmax(scale * Q * K^T) * V for one CPU core, causal, with a length of its own for every sequence.
//
// The matrix of scores has as many numbers as queries times keys and is never stored. A block of 48 queries meets the
// keys 64 at a time and keeps, per query, three things that are enough to finish later:
//
//   m    the largest score so far
//   l    the sum of 2^(score - m)
//   acc  the sum of 2^(score - m) * V, a column of 64 numbers
//
// When a block brings a larger score, what was summed up was too large by 2^(m_new - m_old): l and acc are multiplied
// by alpha = 2^(m_old - m_new) and the block is added. At the end the answer is acc / l. (This is the combiner
// `softmax_weighted_sum` of the nest level, in block form.) Scores are counted in units of ln 2, so that powers of 2 do
// for powers of e: that factor goes into the scale of the queries.
//
// Everything is transposed: queries are columns and lie across the lanes of vector registers, keys are rows. So
//
//   scores  S^T = K Q^T      64x48   reads K row by row, as it is in memory, against a panel of queries
//   answer  O^T = V^T P^T    64x48   reads V row by row, as it is in memory, against the weights just computed
//   m, l, alpha               1x48   a maximum or a sum over keys adds registers and never crosses lanes
//
// and of all the operands only the 48 queries are transposed, once, and the answer is, once, when it is stored.
//
// Causal: queries are the last positions of the sequence, so query i sees the keys up to i + length - queries. Key
// blocks beyond the last query are not visited, nor is what the last of them has beyond it (its extent). Only blocks
// that the first query does not see whole compare positions: a hidden key scores -inf, whose power of 2 is 0.
// A query that sees nothing has m = -inf and must not compute inf - inf: it subtracts 0 instead, and ends with l = 0,
// for which the answer is 0.
tile.kernel @attention(%Q : memref<?x?x64xf32>, %K : memref<?x?x64xf32>, %V : memref<?x?x64xf32>,
                       %lengths : memref<?xindex>, %O : memref<?x?x64xf32>, %scale : f32) {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %block = arith.constant 64 : index
  %f0 = arith.constant 0.0 : f32
  %minus_infinity = arith.constant 0xFF800000 : f32
  %log2_e = arith.constant 1.44269502 : f32
  %factor = arith.mulf %scale, %log2_e : f32
  %sequences = tile.dim %Q, 0 : memref<?x?x64xf32>
  %queries = tile.dim %Q, 1 : memref<?x?x64xf32>
  tile.parallel (%s, %i), (%sc, %mc) = (%zero, %zero) to (%sequences, %queries) step (1, 48) {
    %length = memref.load %lengths[%s] : memref<?xindex>
    %shift = arith.subi %length, %queries : index
    %last = arith.addi %i, %mc : index
    %end = arith.addi %last, %shift : index

    %qw = tile.window %Q by affine_map<(d0, d1)[s0, s1] -> (s0, s1 + d1, d0)> [%s, %i] extent [_, %mc]
        : memref<?x?x64xf32> -> !tile.window<64x48xf32>
    %qt = tile.stage %qw : !tile.window<64x48xf32> -> !tile.buffer<64x48xf32>
    %qtw = tile.window %qt[0, 0] : !tile.buffer<64x48xf32> -> !tile.window<64x48xf32>
    %q0 = tile.load %qtw : !tile.window<64x48xf32> -> !tile.tile<64x48xf32>
    %q = tile.map (%q0 : !tile.tile<64x48xf32>) -> !tile.tile<64x48xf32> {
    ^bb0(%x : f32):
      %y = arith.mulf %x, %factor : f32
      tile.yield %y : f32
    }
    // The last key that each query sees.
    %first_seen = arith.addi %i, %shift : index
    %seen = tile.iota dim 1 start %first_seen : !tile.tile<1x48xindex>
    %seen_by_all = arith.addi %first_seen, %one : index
    %no_score = tile.splat %f0 : f32 -> !tile.tile<64x48xf32>
    %m0 = tile.splat %minus_infinity : f32 -> !tile.tile<1x48xf32>
    %l0 = tile.splat %f0 : f32 -> !tile.tile<1x48xf32>

    %m, %l, %acc = tile.for %j, %jc = %zero to %end step 64
        iter_args(%m1 = %m0, %l1 = %l0, %acc1 = %no_score)
        -> (!tile.tile<1x48xf32>, !tile.tile<1x48xf32>, !tile.tile<64x48xf32>) {
      %kw = tile.window %K[%s, %j, 0] extent [%jc, _] : memref<?x?x64xf32> -> !tile.window<64x64xf32>
      %s0 = tile.contract %kw, %q, %no_score intrinsic "x86.avx512.fma.1x16x1.f32"
          : !tile.window<64x64xf32>, !tile.tile<64x48xf32> -> !tile.tile<64x48xf32>
      %beyond = arith.addi %j, %block : index
      %partly_hidden = arith.cmpi sgt, %beyond, %seen_by_all : index
      %s1 = scf.if %partly_hidden -> (!tile.tile<64x48xf32>) {
        %key = tile.iota dim 0 start %j : !tile.tile<64x1xindex>
        %masked = tile.map (%s0, %key, %seen : !tile.tile<64x48xf32>, !tile.tile<64x1xindex>, !tile.tile<1x48xindex>)
            -> !tile.tile<64x48xf32> {
        ^bb0(%x : f32, %k : index, %r : index):
          %sees = arith.cmpi sle, %k, %r : index
          %y = arith.select %sees, %x, %minus_infinity : f32
          tile.yield %y : f32
        }
        scf.yield %masked : !tile.tile<64x48xf32>
      } else {
        scf.yield %s0 : !tile.tile<64x48xf32>
      }
      %m2 = tile.reduce maxnum %s1 into %m1 dims [0] extent [%jc] : !tile.tile<64x48xf32> -> !tile.tile<1x48xf32>
      %base = tile.map (%m2 : !tile.tile<1x48xf32>) -> !tile.tile<1x48xf32> {
      ^bb0(%x : f32):
        %nothing = arith.cmpf oeq, %x, %minus_infinity : f32
        %y = arith.select %nothing, %f0, %x : f32
        tile.yield %y : f32
      }
      %alpha = tile.map (%m1, %base : !tile.tile<1x48xf32>, !tile.tile<1x48xf32>) -> !tile.tile<1x48xf32> {
      ^bb0(%x : f32, %b : f32):
        %d = arith.subf %x, %b : f32
        %y = math.exp2 %d : f32
        tile.yield %y : f32
      }
      %p = tile.map (%s1, %base : !tile.tile<64x48xf32>, !tile.tile<1x48xf32>) -> !tile.tile<64x48xf32> {
      ^bb0(%x : f32, %b : f32):
        %d = arith.subf %x, %b : f32
        %y = math.exp2 %d : f32
        tile.yield %y : f32
      }
      %l2 = tile.map (%l1, %alpha : !tile.tile<1x48xf32>, !tile.tile<1x48xf32>) -> !tile.tile<1x48xf32> {
      ^bb0(%x : f32, %a : f32):
        %y = arith.mulf %x, %a : f32
        tile.yield %y : f32
      }
      %l3 = tile.reduce add %p into %l2 dims [0] extent [%jc] : !tile.tile<64x48xf32> -> !tile.tile<1x48xf32>
      %acc2 = tile.map (%acc1, %alpha : !tile.tile<64x48xf32>, !tile.tile<1x48xf32>) -> !tile.tile<64x48xf32> {
      ^bb0(%x : f32, %a : f32):
        %y = arith.mulf %x, %a : f32
        tile.yield %y : f32
      }
      %vw = tile.window %V by affine_map<(d0, d1)[s0, s1] -> (s0, s1 + d1, d0)> [%s, %j] extent [_, %jc]
          : memref<?x?x64xf32> -> !tile.window<64x64xf32>
      %acc3 = tile.contract %vw, %p, %acc2 extent %jc intrinsic "x86.avx512.fma.1x16x1.f32"
          : !tile.window<64x64xf32>, !tile.tile<64x48xf32> -> !tile.tile<64x48xf32>
      tile.yield %m2, %l3, %acc3 : !tile.tile<1x48xf32>, !tile.tile<1x48xf32>, !tile.tile<64x48xf32>
    }

    %o = tile.map (%acc, %l : !tile.tile<64x48xf32>, !tile.tile<1x48xf32>) -> !tile.tile<64x48xf32> {
    ^bb0(%x : f32, %total : f32):
      %nothing = arith.cmpf oeq, %total, %f0 : f32
      %quotient = arith.divf %x, %total : f32
      %y = arith.select %nothing, %f0, %quotient : f32
      tile.yield %y : f32
    }
    %ow = tile.window %O by affine_map<(d0, d1)[s0, s1] -> (s0, s1 + d1, d0)> [%s, %i] extent [_, %mc]
        : memref<?x?x64xf32> -> !tile.window<64x48xf32>
    tile.store %o, %ow : !tile.tile<64x48xf32>, !tile.window<64x48xf32>
  }
  tile.return
}
