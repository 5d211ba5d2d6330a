// The products of a mixture of experts on NVIDIA sm_80 (A100): every token times the matrix of the expert it was sent to.
//
//   Y[s, :] = X[rows[s], :] * W[e, :, :]     for offsets[e] <= s < offsets[e + 1], in bf16, Y in f32
//
// A router has sorted the tokens by expert: expert e owns the slots offsets[e] to offsets[e + 1] of the result, ragged
// groups, some of them empty, and slot s belongs to token rows[s]. The tokens are not copied together first: the
// asynchronous copies gather them. %tokens holds the row numbers of a block of 64 slots where the copies need them, two
// lanes to a row, and is the row index of mma.copy_async. Beyond the end of the group row numbers are -1 ("pad -1"):
// a negative index reads nothing and fills the row of the slot with zeros.
//
// One block of 4 warps computes one expert's slots for 128 columns, 64 slots at a time. The ring is that of
// gemm_sm80_ring.mlir, which explains the groups and the barrier of a step; what is new is that it goes on from one
// block of slots to the next. No barrier stands between the two: of the ring's 4 slots the first three copies of a block
// overwrite those that were not the last to be read, and the last step's barrier has freed these.

#lhs = #mma.layout<tile(64, 16) warp(2:512, 2:0) register(2:256, 2:8, 2:128, 2:1) lane(8:16, 4:2)>
#rhs = #mma.layout<tile(16, 128) warp(2:0, 2:64) register(8:8, 2:1024, 2:128) lane(8:1, 4:256)>
#acc = #mma.layout<tile(64, 128) warp(2:4096, 2:64) register(2:2048, 8:8, 2:1024, 2:1) lane(8:128, 4:2)>
#two_lanes_a_row = #mma.layout<tile(64, 1) warp(4:16) lane(16:1, 2:0)>

!lhs    = !mma.fragment<64x16xbf16, #lhs>
!rhs    = !mma.fragment<16x128xbf16, #rhs>
!acc    = !mma.fragment<64x128xf32, #acc>
!tokens = !mma.fragment<64x1xindex, #two_lanes_a_row>

!ring_x  = !mma.ring<4 x 64x32xbf16, #mma.swizzle<64>, groups>
!write_x = !mma.slot<write 64x32xbf16, #mma.swizzle<64>>
!read_x  = !mma.slot<read 64x32xbf16, #mma.swizzle<64>>
!ring_w  = !mma.ring<4 x 32x128xbf16, affine_map<(k, n) -> (n floordiv 64, k, n mod 64)>, #mma.swizzle<128>, groups>
!write_w = !mma.slot<write 32x128xbf16, affine_map<(k, n) -> (n floordiv 64, k, n mod 64)>, #mma.swizzle<128>>
!read_w  = !mma.slot<read 32x128xbf16, affine_map<(k, n) -> (n floordiv 64, k, n mod 64)>, #mma.swizzle<128>>

mma.kernel @grouped_matmul(%X: memref<?x?xbf16>, %W: memref<?x?x?xbf16>, %rows: memref<?xindex>,
                           %offsets: memref<?xindex>, %Y: memref<?x?xf32>) target "sm_80" warps(4) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c3 = arith.constant 3 : index
  %c16 = arith.constant 16 : index
  %c32 = arith.constant 32 : index
  %c64 = arith.constant 64 : index
  %zero = arith.constant 0.0 : f32
  %experts = memref.dim %W, %c0 : memref<?x?x?xbf16>
  %K = memref.dim %W, %c1 : memref<?x?x?xbf16>
  %N = memref.dim %W, %c2 : memref<?x?x?xbf16>
  %steps = arith.ceildivsi %K, %c32 : index

  mma.parallel (%e, %j), (%ec, %nc) = (%c0, %c0) to (%experts, %N) step (1, 128) {
    %ring_x = mma.ring : !ring_x
    %ring_w = mma.ring : !ring_w
    %next_expert = arith.addi %e, %c1 : index
    %begin = memref.load %offsets[%e] : memref<?xindex>
    %end = memref.load %offsets[%next_expert] : memref<?xindex>

    scf.for %s = %begin to %end step %c64 {
      %sc = arith.subi %end, %s : index
      %tokens = mma.load %rows by affine_map<(r, c)[s] -> (s + r)>[%s] extent [%sc, _] pad -1
          : memref<?xindex> -> !tokens

      scf.for %t = %c0 to %c3 step %c1 {
        %exists = arith.cmpi slt, %t, %steps : index
        scf.if %exists {
          %k = arith.muli %t, %c32 : index
          %k_rest = arith.subi %K, %k : index
          %kc = arith.minsi %k_rest, %c32 : index
          %x = mma.acquire %ring_x : !ring_x
          %w = mma.acquire %ring_w : !ring_w
          mma.copy_async %X[%tokens : !tokens, %k] extent [_, %kc] to %x : memref<?x?xbf16> to !write_x
          mma.copy_async %W[%e, %k, %j] extent [%kc, %nc] to %w : memref<?x?x?xbf16> to !write_w
          mma.commit %x, %w : !write_x, !write_w
        } else {
          mma.commit empty
        }
      }

      %start = mma.splat %zero : f32 -> !acc
      %sum = scf.for %t = %c0 to %steps step %c1 iter_args(%acc = %start) -> (!acc) {
        %x, %w = mma.wait %ring_x, %ring_w in_flight 2 : !ring_x, !ring_w
        mma.barrier

        %ahead = arith.addi %t, %c3 : index
        %exists = arith.cmpi slt, %ahead, %steps : index
        scf.if %exists {
          %k = arith.muli %ahead, %c32 : index
          %k_rest = arith.subi %K, %k : index
          %kc = arith.minsi %k_rest, %c32 : index
          %x_next = mma.acquire %ring_x : !ring_x
          %w_next = mma.acquire %ring_w : !ring_w
          mma.copy_async %X[%tokens : !tokens, %k] extent [_, %kc] to %x_next : memref<?x?xbf16> to !write_x
          mma.copy_async %W[%e, %k, %j] extent [%kc, %nc] to %w_next : memref<?x?x?xbf16> to !write_w
          mma.commit %x_next, %w_next : !write_x, !write_w
        } else {
          mma.commit empty
        }

        %next = scf.for %kk = %c0 to %c32 step %c16 iter_args(%inner = %acc) -> (!acc) {
          %lhs = mma.load %x[%c0, %kk] : !read_x -> !lhs
          %rhs = mma.load %w[%kk, %c0] : !read_w -> !rhs
          %product = mma.mma %lhs, %rhs, %inner {intrinsic = "nvidia.mma.m16n8k16.f32.bf16"} : !lhs, !rhs, !acc
          scf.yield %product : !acc
        }
        mma.release %x, %w : !read_x, !read_w
        scf.yield %next : !acc
      }
      mma.store %sum, %Y[%s, %j] extent [%sc, %nc] : !acc, memref<?x?xf32>
    }
  }
}
