// A matrix product for one AVX-512 core: C [M, N] = A [M, K] * B [K, N], all f32, any sizes.
//
// What the machine wants (see docs/mma.md for the words):
// - The accumulator stays in registers: 4 rows of 64 columns are 16 of the 32 vector registers. A step along k loads one
//   row of B into 4 registers (!b), broadcasts 4 numbers of A (!a, replicated over the lanes: stride 0) and issues
//   16 fused multiply-adds, each the outer product "1x16x1".
// - B is packed once per block of 512 x 4096 into panels of 64 columns, so that the innermost loop reads it in one
//   stream; the buffer's affine map says where an element is stored. A is read in place: its 4 rows stay in L1.
// - The order of loops keeps a panel (512 x 64, 128 KiB) in L2 and the packed block (8 MiB) in L3.
//
// Ragged edges cost no masks in the inner loop: rows of A beyond the edge repeat the last row ("clamp"), columns of the
// packed panel beyond it are zero, and only the final store is masked. The accumulator is loaded into the chain, not
// added to it afterwards: each element is one sequential fma chain over k, whatever the block sizes are.

#rows    = #mma.layout<tile(4, 1) register(4:1) lane(16:0)>
#columns = #mma.layout<tile(1, 64) register(4:16) lane(16:1)>
#tile    = #mma.layout<tile(4, 64) register(4:64, 4:16) lane(16:1)>
#packing = #mma.layout<tile(8, 64) register(8:64, 4:16) lane(16:1)>

!a     = !mma.fragment<4x1xf32, #rows>
!b     = !mma.fragment<1x64xf32, #columns>
!c     = !mma.fragment<4x64xf32, #tile>
!block = !mma.fragment<8x64xf32, #packing>
!panel = !mma.buffer<512x4096xf32, affine_map<(k, n) -> (n floordiv 64, k, n mod 64)>>

mma.kernel @gemm(%A: memref<?x?xf32>, %B: memref<?x?xf32>, %C: memref<?x?xf32>) target "x86-64-avx512" {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  %c8 = arith.constant 8 : index
  %c64 = arith.constant 64 : index
  %c256 = arith.constant 256 : index
  %c512 = arith.constant 512 : index
  %c4096 = arith.constant 4096 : index
  %M = memref.dim %A, %c0 : memref<?x?xf32>
  %K = memref.dim %A, %c1 : memref<?x?xf32>
  %N = memref.dim %B, %c1 : memref<?x?xf32>
  // With K = 0 there is one empty block of k, which stores the zeros.
  %K_end = arith.maxsi %K, %c1 : index

  mma.parallel %i_begin to %i_end = %c0 to %M grain 4 {
    %panel = mma.alloc : !panel
    scf.for %j = %c0 to %N step %c4096 {
      %j_rest = arith.subi %N, %j : index
      %nc = arith.minsi %j_rest, %c4096 : index
      scf.for %k = %c0 to %K_end step %c512 {
        %k_rest = arith.subi %K, %k : index
        %kc = arith.minsi %k_rest, %c512 : index
        %continues = arith.cmpi sgt, %k, %c0 : index

        // Pack B: 8 rows of a panel at a time. Columns beyond the edge are zero, rows beyond it are never read.
        scf.for %jr = %c0 to %nc step %c64 {
          %nr = arith.subi %nc, %jr : index
          %j_at = arith.addi %j, %jr : index
          scf.for %kr = %c0 to %kc step %c8 {
            %kr_rest = arith.subi %kc, %kr : index
            %k_at = arith.addi %k, %kr : index
            %b = mma.load %B[%k_at, %j_at] extent [%kr_rest, %nr] pad 0.0 : memref<?x?xf32> -> !block
            mma.store %b, %panel[%kr, %jr] : !block, !panel
          }
        }

        scf.for %i = %i_begin to %i_end step %c256 {
          %i_rest = arith.subi %i_end, %i : index
          %mc = arith.minsi %i_rest, %c256 : index
          scf.for %jr = %c0 to %nc step %c64 {
            %nr = arith.subi %nc, %jr : index
            %j_at = arith.addi %j, %jr : index
            scf.for %ir = %c0 to %mc step %c4 {
              %mr = arith.subi %mc, %ir : index
              %i_at = arith.addi %i, %ir : index
              %start = mma.load %C[%i_at, %j_at] extent [%mr, %nr] if %continues else 0.0 : memref<?x?xf32> -> !c
              %sum = scf.for %p = %c0 to %kc step %c1 iter_args(%acc = %start) -> (!c) {
                %k_at = arith.addi %k, %p : index
                %a = mma.load %A[%i_at, %k_at] extent [%mr, _] clamp [0] : memref<?x?xf32> -> !a
                %b = mma.load %panel[%p, %jr] : !panel -> !b
                %next = mma.mma %a, %b, %acc {intrinsic = "x86.avx512.fma.1x16x1.f32"} : !a, !b, !c
                scf.yield %next : !c
              }
              mma.store %sum, %C[%i_at, %j_at] extent [%mr, %nr] : !c, memref<?x?xf32>
            }
          }
        }
      }
    }
  }
}
