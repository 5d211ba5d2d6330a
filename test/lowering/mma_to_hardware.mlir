// RUN: crosstile-opt %s --split-input-file --mma-to-hardware | filecheck %s

!a = !mma.fragment<2x1xf32, #mma.layout<tile(2, 1) lane(16:0) register(2:1)>>
!b = !mma.fragment<1x32xf32, #mma.layout<tile(1, 32) lane(16:1) register(2:16)>>
!c = !mma.fragment<2x32xf32, #mma.layout<tile(2, 32) lane(16:1) register(4:16)>>

// The accumulator is carried in its registers. Clamped rows are computed before the loop over k, which holds loads and
// multiply-adds only; a number of the left factor is read where it is used.
// CHECK-LABEL: func.func private @inner_loop(
// CHECK:         %[[LAST:.*]] = arith.subi %rows, %{{.*}} : index
// CHECK-NEXT:    %{{.*}} = arith.minsi %{{.*}}, %[[LAST]] : index
// CHECK:         scf.for %k = {{.*}} iter_args(%sum = %{{.*}}, %sum_1 = %{{.*}}, %sum_2 = %{{.*}}, %sum_3 = %{{.*}})
// CHECK-NEXT:      %[[AT:.*]] = arith.muli %k, %{{.*}} : index
// CHECK-NEXT:      %[[B0:.*]] = vector.load %{{.*}}[%[[AT]]]
// CHECK-NEXT:      arith.addi
// CHECK-NEXT:      %[[B1:.*]] = vector.load
// CHECK-NEXT:      %[[A0:.*]] = memref.load %{{.*}}[%k]
// CHECK-NEXT:      %[[V0:.*]] = vector.broadcast %[[A0]] : f32 to vector<16xf32>
// CHECK-NEXT:      vector.fma %[[V0]], %[[B0]], %sum : vector<16xf32>
// CHECK-NEXT:      vector.fma %[[V0]], %[[B1]], %sum_1 : vector<16xf32>
// CHECK-NEXT:      %[[A1:.*]] = memref.load %{{.*}}[%k]
// CHECK-NEXT:      %[[V1:.*]] = vector.broadcast %[[A1]] : f32 to vector<16xf32>
// CHECK-NEXT:      vector.fma %[[V1]], %[[B0]], %sum_2 : vector<16xf32>
// CHECK-NEXT:      vector.fma %[[V1]], %[[B1]], %sum_3 : vector<16xf32>
// CHECK-NEXT:      scf.yield
mma.kernel @inner_loop(%A : memref<?x?xf32>, %B : memref<?x32xf32>, %C : memref<?x32xf32>, %i : index, %rows : index)
    target "x86-64-avx512" {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %K = memref.dim %A, %one : memref<?x?xf32>
  %start = mma.load %C[%i, %zero] extent [%rows, _] : memref<?x32xf32> -> !c
  %end = scf.for %k = %zero to %K step %one iter_args(%sum = %start) -> (!c) {
    %a = mma.load %A[%i, %k] extent [%rows, _] clamp [0] : memref<?x?xf32> -> !a
    %b = mma.load %B[%k, %zero] : memref<?x32xf32> -> !b
    %next = mma.mma %a, %b, %sum {intrinsic = "x86.avx512.fma.1x16x1.f32"} : !a, !b, !c
    scf.yield %next : !c
  }
  mma.store %end, %C[%i, %zero] extent [%rows, _] : !c, memref<?x32xf32>
}

// -----

!b = !mma.fragment<1x16xf32, #mma.layout<tile(1, 16) lane(8:1) register(2:8)>>
!p = !mma.buffer<4x32xf32, affine_map<(d0, d1) -> (d1 floordiv 16, d0, d1 mod 16)>>

// A register that starts at a multiple of its lanes lies in one panel: one vector access, no division in the loop.
// CHECK-LABEL: func.func private @panel(
// CHECK-SAME:    %scratch: memref<?xi8>
// CHECK-SAME:    crosstile.scratch = 512 : index
// CHECK:         %panel = memref.view %scratch[%{{.*}} : memref<?xi8> to memref<128xf32>
// CHECK:         scf.for %j
// CHECK:           %[[N:.*]] = arith.shrsi %j, %c4 : index
// CHECK-NEXT:      %[[BASE:.*]] = arith.muli %[[N]], %c64 : index
// CHECK-NEXT:      %[[AT:.*]] = arith.addi %[[BASE]], %c16 : index
// CHECK-NEXT:      vector.store %{{.*}}, %panel[%[[AT]]] : memref<128xf32>, vector<8xf32>
mma.kernel @panel(%B : memref<4x?xf32>) target "x86-64-avx2" {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %c16 = arith.constant 16 : index
  %N = memref.dim %B, %one : memref<4x?xf32>
  %panel = mma.alloc : !p
  scf.for %j = %zero to %N step %c16 {
    %f = mma.load %B[%one, %j] : memref<4x?xf32> -> !b
    mma.store %f, %panel[%one, %j] : !b, !p
  }
}

// -----

!s = !mma.fragment<1x32xf32, #mma.layout<tile(1, 32) lane(16:1) register(2:16)>>
!m = !mma.fragment<1x1xf32, #mma.layout<tile(1, 1) lane(16:0)>>

// Registers in increasing order, then lanes 8, 4, 2 and 1 apart; every lane holds the sum.
// CHECK-LABEL: func.func private @row_sum(
// CHECK:         %[[R0:.*]] = vector.load
// CHECK:         %[[R1:.*]] = vector.load
// CHECK-NEXT:    %[[S:.*]] = arith.addf %[[R0]], %[[R1]] : vector<16xf32>
// CHECK-NEXT:    %[[T:.*]] = vector.shuffle %[[S]], %[[S]] [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7]
// CHECK-NEXT:    arith.addf %[[S]], %[[T]] : vector<16xf32>
// CHECK:         vector.shuffle {{.*}} [4, 5, 6, 7, 0, 1, 2, 3, 12,
// CHECK:         vector.shuffle {{.*}} [2, 3, 0, 1, 6,
// CHECK:         vector.shuffle {{.*}} [1, 0, 3, 2, 5,
// CHECK-NEXT:    arith.addf
// CHECK:         vector.extract {{.*}} : f32 from vector<16xf32>
// CHECK-NEXT:    memref.store
mma.kernel @row_sum(%x : memref<1x32xf32>, %y : memref<1x1xf32>) target "x86-64-avx512" {
  %zero = arith.constant 0 : index
  %s = mma.load %x[%zero, %zero] : memref<1x32xf32> -> !s
  %m = mma.reduce add %s dims [1] : !s -> !m
  mma.store %m, %y[%zero, %zero] : !m, memref<1x1xf32>
}

// -----

!b = !mma.fragment<1x16xf32, #mma.layout<tile(1, 16) lane(16:1)>>
!p = !mma.buffer<4x32xf32, affine_map<(d0, d1) -> (d1 floordiv 16, d0, d1 mod 16)>>

// A register that may straddle two panels is stored element by element.
// CHECK-LABEL: func.func private @straddles(
// CHECK-NOT:     vector.store
// CHECK:         memref.store
mma.kernel @straddles(%B : memref<4x?xf32>, %j : index) target "x86-64-avx512" {
  %zero = arith.constant 0 : index
  %panel = mma.alloc : !p
  %f = mma.load %B[%zero, %j] : memref<4x?xf32> -> !b
  mma.store %f, %panel[%zero, %j] : !b, !p
}

// -----

!f = !mma.fragment<4x4xf64, #mma.layout<tile(4, 4) lane(4:1) register(4:4)>>

// Four registers of four lanes, two in a unit of 128 bits: one round inside of units, one across them.
// CHECK-LABEL: func.func private @transpose(
// CHECK:         %[[R0:.*]] = vector.load
// CHECK:         %[[R1:.*]] = vector.load
// CHECK:         %[[R2:.*]] = vector.load
// CHECK:         %[[R3:.*]] = vector.load
// CHECK-NEXT:    %[[A0:.*]] = vector.shuffle %[[R0]], %[[R1]] [0, 4, 2, 6] :
// CHECK-NEXT:    %[[A1:.*]] = vector.shuffle %[[R0]], %[[R1]] [1, 5, 3, 7] :
// CHECK-NEXT:    %[[B0:.*]] = vector.shuffle %[[R2]], %[[R3]] [0, 4, 2, 6] :
// CHECK-NEXT:    %[[B1:.*]] = vector.shuffle %[[R2]], %[[R3]] [1, 5, 3, 7] :
// CHECK-NEXT:    %[[C0:.*]] = vector.shuffle %[[A0]], %[[B0]] [0, 1, 4, 5] :
// CHECK-NEXT:    %[[C2:.*]] = vector.shuffle %[[A0]], %[[B0]] [2, 3, 6, 7] :
// CHECK-NEXT:    %[[C1:.*]] = vector.shuffle %[[A1]], %[[B1]] [0, 1, 4, 5] :
// CHECK-NEXT:    %[[C3:.*]] = vector.shuffle %[[A1]], %[[B1]] [2, 3, 6, 7] :
// CHECK:         vector.store %[[C0]]
// CHECK:         vector.store %[[C1]]
// CHECK:         vector.store %[[C2]]
// CHECK:         vector.store %[[C3]]
mma.kernel @transpose(%A : memref<4x4xf64>, %B : memref<4x4xf64>) target "x86-64-avx2" {
  %zero = arith.constant 0 : index
  %f = mma.load %A[%zero, %zero] : memref<4x4xf64> -> !f
  %t = mma.transpose %f : !f -> !f
  mma.store %t, %B[%zero, %zero] : !f, memref<4x4xf64>
}

// -----

!v = !mma.fragment<1x32xf32, #mma.layout<tile(1, 32) lane(16:1) register(2:16)>>

// Past the caches, where the condition holds and the row begins at a multiple of a register; asked once per row.
// CHECK-LABEL: func.func private @streamed(
// CHECK:         %[[START:.*]] = "memref.extract_aligned_pointer_as_index"(
// CHECK:         scf.for %i
// CHECK:           %[[AT:.*]] = arith.addi %[[START]]
// CHECK-NEXT:      %[[BITS:.*]] = arith.andi %[[AT]], %c63 : index
// CHECK-NEXT:      %[[ALIGNED:.*]] = arith.cmpi eq, %[[BITS]], %c0 : index
// CHECK-NEXT:      %[[PAST:.*]] = arith.andi %[[ALIGNED]], %large : i1
// CHECK:           scf.for %j
// CHECK:             scf.if %[[PAST]] {
// CHECK:               vector.store {{.*}} {alignment = 64 : i64, nontemporal = true}
// CHECK:               vector.store {{.*}} {alignment = 64 : i64, nontemporal = true}
// CHECK:             } else {
// CHECK-NOT:           nontemporal
// CHECK:         llvm.call_intrinsic "llvm.x86.sse.sfence"() : () -> ()
// CHECK-NEXT:    func.return
mma.kernel @streamed(%x : memref<?x?xf32>, %y : memref<?x?xf32>, %large : i1, %m : index, %n : index)
    target "x86-64-avx512" {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c32 = arith.constant 32 : index
  scf.for %i = %c0 to %m step %c1 {
    scf.for %j = %c0 to %n step %c32 {
      %v = mma.load %x[%i, %j] : memref<?x?xf32> -> !v
      mma.store %v, %y[%i, %j] nontemporal if %large : !v, memref<?x?xf32>
    }
  }
}

// -----

!a = !mma.fragment<16x32xbf16, #mma.layout<tile(16, 32) element(2:1) lane(16:2) row(16:32)>>
!b = !mma.fragment<32x32xbf16, #mma.layout<tile(32, 32) element(2:32) lane(16:1) register(2:16) row(16:64)>>
!c = !mma.fragment<16x32xf32, #mma.layout<tile(16, 32) lane(16:1) register(2:16) row(16:32)>>
!p = !mma.buffer<64x32xbf16, affine_map<(d0, d1) -> (d1 floordiv 16, d0 floordiv 2, d1 mod 16, d0 mod 2)>>

// The second register of the right factor is loaded behind the first product.
// CHECK-LABEL: func.func private @registers(
// CHECK:         scf.for %k
// CHECK:           %[[A:.*]] = amx.tile_load %{{.*}} into !amx.tile<16x32xbf16>
// CHECK:           %[[B0:.*]] = amx.tile_load %{{.*}} into !amx.tile<16x32xbf16>
// CHECK-NEXT:      amx.tile_mulf %[[A]], %[[B0]], %sum
// CHECK-NEXT:      %[[B1:.*]] = amx.tile_load %{{.*}} into !amx.tile<16x32xbf16>
// CHECK-NEXT:      amx.tile_mulf %[[A]], %[[B1]], %sum_1
// CHECK-NEXT:      scf.yield
mma.kernel @registers(%A : memref<16x64xbf16>, %C : memref<16x32xf32>) target "x86-64-amx" {
  %zero = arith.constant 0 : index
  %c32 = arith.constant 32 : index
  %c64 = arith.constant 64 : index
  %panel = mma.alloc : !p
  %start = mma.load %C[%zero, %zero] : memref<16x32xf32> -> !c
  %end = scf.for %k = %zero to %c64 step %c32 iter_args(%sum = %start) -> (!c) {
    %a = mma.load %A[%zero, %k] : memref<16x64xbf16> -> !a
    %b = mma.load %panel[%k, %zero] : !p -> !b
    %next = mma.mma %a, %b, %sum {intrinsic = "x86.amx.tdpbf16ps.16x16x32.f32.bf16"} : !a, !b, !c
    scf.yield %next : !c
  }
  mma.store %end, %C[%zero, %zero] : !c, memref<16x32xf32>
}

// -----

!rows = !mma.fragment<2x16xbf16, #mma.layout<tile(2, 16) lane(16:1) register(2:16)>>
!words = !mma.fragment<2x16xbf16, #mma.layout<tile(2, 16) lane(16:1) element(2:16)>>

// Two rows become one register of words, each lane with an element of both.
// CHECK-LABEL: func.func private @words(
// CHECK:         %[[ROW0:.*]] = vector.load {{.*}} vector<16xbf16>
// CHECK:         %[[ROW1:.*]] = vector.load {{.*}} vector<16xbf16>
// CHECK:         %[[WORDS:.*]] = vector.shuffle %[[ROW0]], %[[ROW1]] [0, 16, 1, 17, 2, 18, {{.*}}] : vector<16xbf16>, vector<16xbf16>
// CHECK:         vector.store %[[WORDS]], {{.*}} vector<32xbf16>
mma.kernel @words(%x : memref<2x16xbf16>) target "x86-64-amx" {
  %zero = arith.constant 0 : index
  %b = mma.alloc : !mma.buffer<2x16xbf16, affine_map<(d0, d1) -> (d1 floordiv 16, d0 floordiv 2, d1 mod 16, d0 mod 2)>>
  %f = mma.load %x[%zero, %zero] : memref<2x16xbf16> -> !rows
  %w = mma.relayout %f : !rows -> !words
  mma.store %w, %b[%zero, %zero] : !words, !mma.buffer<2x16xbf16, affine_map<(d0, d1) -> (d1 floordiv 16, d0 floordiv 2, d1 mod 16, d0 mod 2)>>
}

// -----

// An element of packed memory is fetched where it lies in the box: row 2 of the second panel of 64 columns.
// CHECK-LABEL: func.func private @fetch(
// CHECK-DAG:     %[[BOX:.*]] = memref.reinterpret_cast %B
// CHECK-DAG:     %[[AT:.*]] = arith.constant 6528 : index
// CHECK:         memref.prefetch %[[BOX]][%[[AT]]], read, locality<3>, data : memref<12800xf32>
mma.kernel @fetch(%B : memref<100x128xf32, affine_map<(d0, d1) -> (d1 floordiv 64, d0, d1 mod 64)>>)
    target "x86-64-avx512" {
  %c2 = arith.constant 2 : index
  %c64 = arith.constant 64 : index
  memref.prefetch %B[%c2, %c64], read, locality<3>, data
      : memref<100x128xf32, affine_map<(d0, d1) -> (d1 floordiv 64, d0, d1 mod 64)>>
}

// -----

!t = !mma.fragment<2x16xf32, #mma.layout<tile(2, 16) lane(16:1) register(2:16)>>

// Rows that a loop with known bounds keeps inside the memory are not asked for: only columns are.
// CHECK-LABEL: func.func private @known_rows(
// CHECK:         %[[MASK:.*]] = vector.create_mask
// CHECK-NEXT:    scf.for %i
// CHECK-NOT:       cmpi
// CHECK:           vector.maskedstore %{{.*}}[%{{.*}}], %[[MASK]], %t
// CHECK-NOT:       cmpi
// CHECK:           vector.maskedstore %{{.*}}[%{{.*}}], %[[MASK]], %t_1
mma.kernel @known_rows(%C : memref<64x?xf32>, %t : !t) target "x86-64-avx512" {
  %zero = arith.constant 0 : index
  %two = arith.constant 2 : index
  %c64 = arith.constant 64 : index
  scf.for %i = %zero to %c64 step %two {
    mma.store %t, %C[%i, %zero] clip : !t, memref<64x?xf32>
  }
}

// -----

!t = !mma.fragment<2x16xf32, #mma.layout<tile(2, 16) lane(16:1) register(2:16)>>

// The last tile of 63 rows has one that is not there.
// CHECK-LABEL: func.func private @last_row(
// CHECK:         scf.for %i
// CHECK:           vector.maskedstore
// CHECK:           arith.cmpi slt
// CHECK:           vector.maskedstore
mma.kernel @last_row(%C : memref<63x?xf32>, %t : !t) target "x86-64-avx512" {
  %zero = arith.constant 0 : index
  %two = arith.constant 2 : index
  %c64 = arith.constant 64 : index
  scf.for %i = %zero to %c64 step %two {
    mma.store %t, %C[%i, %zero] clip : !t, memref<63x?xf32>
  }
}
