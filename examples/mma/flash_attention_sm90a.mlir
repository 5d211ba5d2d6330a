// Attention for NVIDIA sm_90a (H100): O = softmax(scale * Q K^T) V for every head, bf16 with f32 accumulation.
//
//   Q [heads, M, 128], K and V [heads, N, 128] in bf16, O [heads, M, 128] in f32; any M, any N of at least 1.
//   %scale is log2(e) times the usual 1 / sqrt(128): exponentials are taken to base 2, which the hardware has.
//
// One block computes 128 rows of one head. Scores never leave registers: for each block of 128 keys the softmax is
// continued with its running maximum (%max) and sum (%sum), and the output accumulated so far is rescaled (Milakov and
// Gimelshein, arXiv 1805.02867; Dao, arXiv 2307.08691).
//
// Roles: @load copies Q once, through a ring of one slot, and keeps rings of 2 slots of K and of V filled. @compute, two
// warpgroups of 64 rows each, overlaps the two products: while the tensor cores multiply the weights of one block by V,
// the other units compute the exponentials of the next (Shah et al., arXiv 2407.08608, section 3.2):
//
//   tensor cores    S1 = Q K1^T | O += P0 V0    | S2 = Q K2^T | O += P1 V1   |
//   other units                 | P1 = exp2(S1) |             | P2 = exp2(S2)|
//
// Products finish in order, so "await in_flight 1" after starting S and then O waits for S alone.
//
// Layouts: the accumulator of S = Q K^T has its elements exactly where the left operand of P V wants them (both are
// #scores), so weights go from one product to the next without moving between lanes. A row is spread over 4 lanes, and
// what is one number per row is replicated in them (#row, stride 0).

#scores = #mma.layout<tile(128, 128) warp(2:8192, 4:2048) register(16:8, 2:1024, 2:1) lane(8:128, 4:2)>
#row    = #mma.layout<tile(128, 1) warp(8:16) register(2:8) lane(8:1, 4:0)>

!scores  = !mma.fragment<128x128xf32, #scores>
!weights = !mma.fragment<128x128xbf16, #scores>
!row     = !mma.fragment<128x1xf32, #row>
!pending = !mma.pending<!mma.fragment<128x128xf32, #scores>>

// 128 columns of bf16 are two panels of 128 bytes. K is read transposed, through a view.
!ring_q  = !mma.ring<1 x 128x128xbf16, affine_map<(r, c) -> (c floordiv 64, r, c mod 64)>, #mma.swizzle<128>>
!ring_kv = !mma.ring<2 x 128x128xbf16, affine_map<(r, c) -> (c floordiv 64, r, c mod 64)>, #mma.swizzle<128>>
!write   = !mma.slot<write 128x128xbf16, affine_map<(r, c) -> (c floordiv 64, r, c mod 64)>, #mma.swizzle<128>>
!read    = !mma.slot<read 128x128xbf16, affine_map<(r, c) -> (c floordiv 64, r, c mod 64)>, #mma.swizzle<128>>
!read_t  = !mma.slot<read 128x128xbf16, affine_map<(c, r) -> (c floordiv 64, r, c mod 64)>, #mma.swizzle<128>>

!memory = memref<?x?x128xbf16>

mma.kernel @attention(%Q: !memory, %K: !memory, %V: !memory, %O: memref<?x?x128xf32>, %scale: f32)
    target "sm_90a" warps(12) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c128 = arith.constant 128 : index
  %heads = memref.dim %Q, %c0 : !memory
  %M = memref.dim %Q, %c1 : !memory
  %N = memref.dim %K, %c1 : !memory
  %blocks = arith.ceildivsi %N, %c128 : index

  mma.parallel (%h, %i), (%hc, %mc) = (%c0, %c0) to (%heads, %M) step (1, 128) {
    %ring_q = mma.ring : !ring_q
    %ring_k = mma.ring : !ring_kv
    %ring_v = mma.ring : !ring_kv
    mma.roles {
      role @load warps(4) registers(40) {
        %q = mma.acquire %ring_q : !ring_q
        mma.copy_async %Q[%h, %i, %c0] extent [%mc, _] to %q : !memory to !write
        mma.commit %q : !write
        scf.for %t = %c0 to %blocks step %c1 {
          %j = arith.muli %t, %c128 : index
          %j_rest = arith.subi %N, %j : index
          %nc = arith.minsi %j_rest, %c128 : index
          %k = mma.acquire %ring_k : !ring_kv
          mma.copy_async %K[%h, %j, %c0] extent [%nc, _] to %k : !memory to !write
          mma.commit %k : !write
          %v = mma.acquire %ring_v : !ring_kv
          mma.copy_async %V[%h, %j, %c0] extent [%nc, _] to %v : !memory to !write
          mma.commit %v : !write
        }
      }

      role @compute warps(8) registers(232) {
        %zero = arith.constant 0.0 : f32
        %nothing = mma.splat %zero : f32 -> !scores
        %no_sum = mma.splat %zero : f32 -> !row
        %q = mma.wait %ring_q : !ring_q

        // The first block's scores; there is no product to overlap them with.
        %k0 = mma.wait %ring_k : !ring_kv
        %k0_t = mma.view %k0 by affine_map<(c, r) -> (r, c)> : !read -> !read_t
        %s0_pending = mma.mma_async %q, %k0_t, %nothing {intrinsic = "nvidia.wgmma.m64n128k16.f32.bf16"} : !read, !read_t, !scores
        %s0 = mma.await %s0_pending : !pending -> !scores
        mma.release %k0 : !read
        %s0_valid = mma.mask %s0 extent [_, %N] else -inf : !scores
        %max0 = mma.reduce max %s0_valid dims [1] : !scores -> !row
        %p0 = mma.map (%s0_valid, %max0 : !scores, !row) -> !scores {
        ^bb0(%s: f32, %m: f32):
          %below = arith.subf %s, %m : f32
          %scaled = arith.mulf %below, %scale : f32
          %e = math.exp2 %scaled : f32
          mma.yield %e : f32
        }
        %sum0 = mma.reduce add %p0 into %no_sum dims [1] : !scores -> !row
        %w0 = mma.map (%p0 : !scores) -> !weights {
        ^bb0(%p: f32):
          %narrow = arith.truncf %p : f32 to bf16
          mma.yield %narrow : bf16
        }

        %max, %sum, %w, %o = scf.for %t = %c1 to %blocks step %c1
            iter_args(%max_before = %max0, %sum_before = %sum0, %w_before = %w0, %o_before = %nothing)
            -> (!row, !row, !weights, !scores) {
          %j = arith.muli %t, %c128 : index
          %nc = arith.subi %N, %j : index

          // Start the scores of this block, then the output of the one before, and wait for the scores only.
          %k = mma.wait %ring_k : !ring_kv
          %k_t = mma.view %k by affine_map<(c, r) -> (r, c)> : !read -> !read_t
          %s_pending = mma.mma_async %q, %k_t, %nothing {intrinsic = "nvidia.wgmma.m64n128k16.f32.bf16"} : !read, !read_t, !scores
          %v = mma.wait %ring_v : !ring_kv
          %o_pending = mma.mma_async %w_before, %v, %o_before {intrinsic = "nvidia.wgmma.m64n128k16.f32.bf16"} : !weights, !read, !scores
          %scores = mma.await %s_pending in_flight 1 : !pending -> !scores
          mma.release %k : !read

          %valid = mma.mask %scores extent [_, %nc] else -inf : !scores
          %max_now = mma.reduce max %valid into %max_before dims [1] : !scores -> !row
          %p = mma.map (%valid, %max_now : !scores, !row) -> !scores {
          ^bb0(%s: f32, %m: f32):
            %below = arith.subf %s, %m : f32
            %scaled = arith.mulf %below, %scale : f32
            %e = math.exp2 %scaled : f32
            mma.yield %e : f32
          }
          %correction = mma.map (%max_before, %max_now : !row, !row) -> !row {
          ^bb0(%old: f32, %new: f32):
            %below = arith.subf %old, %new : f32
            %scaled = arith.mulf %below, %scale : f32
            %e = math.exp2 %scaled : f32
            mma.yield %e : f32
          }
          %sum_scaled = mma.map (%sum_before, %correction : !row, !row) -> !row {
          ^bb0(%l: f32, %c: f32):
            %scaled = arith.mulf %l, %c : f32
            mma.yield %scaled : f32
          }
          %sum_now = mma.reduce add %p into %sum_scaled dims [1] : !scores -> !row
          %w_now = mma.map (%p : !scores) -> !weights {
          ^bb0(%e: f32):
            %narrow = arith.truncf %e : f32 to bf16
            mma.yield %narrow : bf16
          }

          %o_done = mma.await %o_pending : !pending -> !scores
          mma.release %v : !read
          %o_now = mma.map (%o_done, %correction : !scores, !row) -> !scores {
          ^bb0(%x: f32, %c: f32):
            %scaled = arith.mulf %x, %c : f32
            mma.yield %scaled : f32
          }
          scf.yield %max_now, %sum_now, %w_now, %o_now : !row, !row, !weights, !scores
        }

        %v_last = mma.wait %ring_v : !ring_kv
        %last_pending = mma.mma_async %w, %v_last, %o {intrinsic = "nvidia.wgmma.m64n128k16.f32.bf16"} : !weights, !read, !scores
        %total = mma.await %last_pending : !pending -> !scores
        mma.release %v_last : !read
        mma.release %q : !read
        %output = mma.map (%total, %sum : !scores, !row) -> !scores {
        ^bb0(%x: f32, %l: f32):
          %mean = arith.divf %x, %l : f32
          mma.yield %mean : f32
        }
        mma.store %output, %O[%h, %i, %c0] extent [%mc, _] : !scores, memref<?x?x128xf32>
      }
    }
  }
}
