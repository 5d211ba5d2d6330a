// A matrix product for NVIDIA sm_80 (A100): C [M, N] f32 = A [M, K] * B [K, N], bf16 with f32 accumulation, any sizes.
//
// One block of 4 warps computes 128 x 128 of C, each warp a quarter of 64 x 64 in 128 registers per thread. Operands are
// staged through a ring of 4 slots in shared memory by cp.async, three blocks of k ahead. All warps copy and all warps
// multiply: there are no roles, so both rings use the protocol "groups" (PTX ISA, cp.async.commit_group and
// cp.async.wait_group).
//
//   groups committed   | 0 | 1 | 2 |     before the loop
//   step t             commits group t + 3, empty if there is nothing left to copy, so that ...
//                      ... "in_flight 2" always means: slot t has arrived, t + 1 and t + 2 may be on their way.
//
// mma.wait makes a slot readable only for the warp whose copies it waited for. The one mma.barrier of a step does two
// things: it shows slot t to all warps, and it tells that all warps have done with slot t - 1, which is the one that the
// copies issued right after it overwrite. Blocks of k beyond the edge are filled up with zeros by the copies, in both
// operands, so the product needs no masks.
//
// The fragments have the register layouts of mma.m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16"), repeated over
// the warp's quarter; mma.load from a slot is ldmatrix. The right operand is replicated over the two warps of a column,
// the left one over the two of a row: stride 0.

#lhs = #mma.layout<tile(128, 16) warp(2:1024, 2:0) register(4:256, 2:8, 2:128, 2:1) lane(8:16, 4:2)>
#rhs = #mma.layout<tile(16, 128) warp(2:0, 2:64) register(8:8, 2:1024, 2:128) lane(8:1, 4:256)>
#acc = #mma.layout<tile(128, 128) warp(2:8192, 2:64) register(4:2048, 8:8, 2:1024, 2:1) lane(8:128, 4:2)>

!lhs = !mma.fragment<128x16xbf16, #lhs>
!rhs = !mma.fragment<16x128xbf16, #rhs>
!acc = !mma.fragment<128x128xf32, #acc>

!ring_a  = !mma.ring<4 x 128x32xbf16, #mma.swizzle<64>, groups>
!write_a = !mma.slot<write 128x32xbf16, #mma.swizzle<64>>
!read_a  = !mma.slot<read 128x32xbf16, #mma.swizzle<64>>
!ring_b  = !mma.ring<4 x 32x128xbf16, affine_map<(k, n) -> (n floordiv 64, k, n mod 64)>, #mma.swizzle<128>, groups>
!write_b = !mma.slot<write 32x128xbf16, affine_map<(k, n) -> (n floordiv 64, k, n mod 64)>, #mma.swizzle<128>>
!read_b  = !mma.slot<read 32x128xbf16, affine_map<(k, n) -> (n floordiv 64, k, n mod 64)>, #mma.swizzle<128>>

mma.kernel @gemm(%A: memref<?x?xbf16>, %B: memref<?x?xbf16>, %C: memref<?x?xf32>) target "sm_80" warps(4) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c3 = arith.constant 3 : index
  %c16 = arith.constant 16 : index
  %c32 = arith.constant 32 : index
  %zero = arith.constant 0.0 : f32
  %M = memref.dim %A, %c0 : memref<?x?xbf16>
  %K = memref.dim %A, %c1 : memref<?x?xbf16>
  %N = memref.dim %B, %c1 : memref<?x?xbf16>
  %steps = arith.ceildivsi %K, %c32 : index

  mma.parallel (%i, %j), (%mc, %nc) = (%c0, %c0) to (%M, %N) step (128, 128) {
    %ring_a = mma.ring : !ring_a
    %ring_b = mma.ring : !ring_b

    // Three blocks of k on their way before the first product.
    scf.for %t = %c0 to %c3 step %c1 {
      %exists = arith.cmpi slt, %t, %steps : index
      scf.if %exists {
        %k = arith.muli %t, %c32 : index
        %k_rest = arith.subi %K, %k : index
        %kc = arith.minsi %k_rest, %c32 : index
        %a = mma.acquire %ring_a : !ring_a
        %b = mma.acquire %ring_b : !ring_b
        mma.copy_async %A[%i, %k] extent [%mc, %kc] to %a : memref<?x?xbf16> to !write_a
        mma.copy_async %B[%k, %j] extent [%kc, %nc] to %b : memref<?x?xbf16> to !write_b
        mma.commit %a, %b : !write_a, !write_b
      } else {
        mma.commit empty
      }
    }

    %start = mma.splat %zero : f32 -> !acc
    %sum = scf.for %t = %c0 to %steps step %c1 iter_args(%acc = %start) -> (!acc) {
      %a, %b = mma.wait %ring_a, %ring_b in_flight 2 : !ring_a, !ring_b
      mma.barrier

      %ahead = arith.addi %t, %c3 : index
      %exists = arith.cmpi slt, %ahead, %steps : index
      scf.if %exists {
        %k = arith.muli %ahead, %c32 : index
        %k_rest = arith.subi %K, %k : index
        %kc = arith.minsi %k_rest, %c32 : index
        %a_next = mma.acquire %ring_a : !ring_a
        %b_next = mma.acquire %ring_b : !ring_b
        mma.copy_async %A[%i, %k] extent [%mc, %kc] to %a_next : memref<?x?xbf16> to !write_a
        mma.copy_async %B[%k, %j] extent [%kc, %nc] to %b_next : memref<?x?xbf16> to !write_b
        mma.commit %a_next, %b_next : !write_a, !write_b
      } else {
        mma.commit empty
      }

      %next = scf.for %kk = %c0 to %c32 step %c16 iter_args(%inner = %acc) -> (!acc) {
        %lhs = mma.load %a[%c0, %kk] : !read_a -> !lhs
        %rhs = mma.load %b[%kk, %c0] : !read_b -> !rhs
        %product = mma.mma %lhs, %rhs, %inner {intrinsic = "nvidia.mma.m16n8k16.f32.bf16"} : !lhs, !rhs, !acc
        scf.yield %product : !acc
      }
      mma.release %a, %b : !read_a, !read_b
      scf.yield %next : !acc
    }
    mma.store %sum, %C[%i, %j] extent [%mc, %nc] : !acc, memref<?x?xf32>
  }
}
