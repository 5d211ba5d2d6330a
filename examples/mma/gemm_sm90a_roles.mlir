// A matrix product for NVIDIA sm_90a (H100): C [M, N] f32 = A [M, K] * B [K, N], bf16 with f32 accumulation, any sizes.
//
// One block of 12 warps computes 128 x 256 of C, and its warps have two roles:
// - @load, one warpgroup of which one thread works: keeps a ring of 4 slots filled by tensor copies (TMA, PTX ISA
//   cp.async.bulk.tensor). It gives its registers away (registers(40), PTX ISA setmaxnreg).
// - @compute, two warpgroups: each multiplies 64 of the 128 rows by wgmma, straight out of shared memory, into 128
//   registers per thread.
// The rings are the only thing they share. A ring's slot has two barriers in shared memory (mbarrier): "full", which
// mma.wait waits for and the arrival of the copies completes, and "free", which mma.acquire waits for and mma.release
// completes.
//
// A product is asynchronous too: mma.mma_async starts it and goes on. Two are kept in flight; a slot can be released only
// when the product that reads it has finished, one step later, so the previous step's slots travel round the loop:
//
//   @load      | 0 | 1 | 2 | 3 |            | 4 |        | 5 |
//   @compute       start 0, start 1, await 0, release 0, start 2, await 1, release 1, ...
//
// Shared memory is stored as wgmma reads it (PTX ISA, "Shared Memory Matrix Layout"): rows of 128 bytes, swizzled; B as
// four panels of 64 columns. Blocks of k beyond the edge are zeros in both operands, which the copies fill in.

#acc = #mma.layout<tile(128, 256) warp(2:16384, 4:4096) register(32:8, 2:2048, 2:1) lane(8:256, 4:2)>

!acc     = !mma.fragment<128x256xf32, #acc>
!pending = !mma.pending<!mma.fragment<128x256xf32, #acc>>

!ring_a  = !mma.ring<4 x 128x64xbf16, #mma.swizzle<128>>
!write_a = !mma.slot<write 128x64xbf16, #mma.swizzle<128>>
!read_a  = !mma.slot<read 128x64xbf16, #mma.swizzle<128>>
!ring_b  = !mma.ring<4 x 64x256xbf16, affine_map<(k, n) -> (n floordiv 64, k, n mod 64)>, #mma.swizzle<128>>
!write_b = !mma.slot<write 64x256xbf16, affine_map<(k, n) -> (n floordiv 64, k, n mod 64)>, #mma.swizzle<128>>
!read_b  = !mma.slot<read 64x256xbf16, affine_map<(k, n) -> (n floordiv 64, k, n mod 64)>, #mma.swizzle<128>>

mma.kernel @gemm(%A: memref<?x?xbf16>, %B: memref<?x?xbf16>, %C: memref<?x?xf32>) target "sm_90a" warps(12) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c64 = arith.constant 64 : index
  %M = memref.dim %A, %c0 : memref<?x?xbf16>
  %K = memref.dim %A, %c1 : memref<?x?xbf16>
  %N = memref.dim %B, %c1 : memref<?x?xbf16>
  // At least one step: with K = 0 it multiplies zeros.
  %blocks = arith.ceildivsi %K, %c64 : index
  %steps = arith.maxsi %blocks, %c1 : index

  mma.parallel (%i, %j), (%mc, %nc) = (%c0, %c0) to (%M, %N) step (128, 256) {
    %ring_a = mma.ring : !ring_a
    %ring_b = mma.ring : !ring_b
    mma.roles {
      role @load warps(4) registers(40) {
        scf.for %t = %c0 to %steps step %c1 {
          %k = arith.muli %t, %c64 : index
          %k_rest = arith.subi %K, %k : index
          %kc = arith.minsi %k_rest, %c64 : index
          %a = mma.acquire %ring_a : !ring_a
          mma.copy_async %A[%i, %k] extent [%mc, %kc] to %a : memref<?x?xbf16> to !write_a
          mma.commit %a : !write_a
          %b = mma.acquire %ring_b : !ring_b
          mma.copy_async %B[%k, %j] extent [%kc, %nc] to %b : memref<?x?xbf16> to !write_b
          mma.commit %b : !write_b
        }
      }

      role @compute warps(8) registers(232) {
        %zero = arith.constant 0.0 : f32
        %start = mma.splat %zero : f32 -> !acc
        %a0, %b0 = mma.wait %ring_a, %ring_b : !ring_a, !ring_b
        %p0 = mma.mma_async %a0, %b0, %start {intrinsic = "nvidia.wgmma.m64n256k16.f32.bf16"} : !read_a, !read_b, !acc
        %p_last, %a_last, %b_last = scf.for %t = %c1 to %steps step %c1
            iter_args(%p = %p0, %a_before = %a0, %b_before = %b0) -> (!pending, !read_a, !read_b) {
          %a, %b = mma.wait %ring_a, %ring_b : !ring_a, !ring_b
          %q = mma.mma_async %a, %b, %p {intrinsic = "nvidia.wgmma.m64n256k16.f32.bf16"} : !read_a, !read_b, !pending
          %one_left = mma.await %q in_flight 1 : !pending -> !pending
          mma.release %a_before, %b_before : !read_a, !read_b
          scf.yield %one_left, %a, %b : !pending, !read_a, !read_b
        }
        %acc = mma.await %p_last : !pending -> !acc
        mma.release %a_last, %b_last : !read_a, !read_b
        mma.store %acc, %C[%i, %j] extent [%mc, %nc] : !acc, memref<?x?xf32>
      }
    }
  }
}
