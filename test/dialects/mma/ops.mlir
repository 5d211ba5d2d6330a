// RUN: crosstile-opt %s | crosstile-opt | filecheck %s
// RUN: crosstile-opt --mlir-print-op-generic %s | crosstile-opt | filecheck %s
// RUN: crosstile-opt --mlir-print-op-generic %s | filecheck %s --check-prefix=GENERIC

#rows = #mma.layout<tile(8, 1) register(8:1) lane(16:0)>
#columns = #mma.layout<tile(1, 64) register(4:16) lane(16:1)>
#tile = #mma.layout<tile(8, 64) register(8:64, 4:16) lane(16:1)>
!a = !mma.fragment<8x1xf32, #rows>
!b = !mma.fragment<1x64xf32, #columns>
!c = !mma.fragment<8x64xf32, #tile>
!rows = !mma.fragment<8x1xindex, #rows>

// CHECK: #[[PANELS:map]] = affine_map<(d0, d1) -> ((d1 floordiv 64), d0, (d1 mod 64))>
// CHECK-DAG: #[[COLUMNS:layout.*]] = #mma.layout<tile(1, 64) register(4:16) lane(16:1)>
// CHECK-DAG: #[[ROWS:layout.*]] = #mma.layout<tile(8, 1) register(8:1) lane(16:0)>
// CHECK-DAG: #[[OTHER:layout.*]] = #mma.layout<tile(8, 64) register(4:16, 8:64) lane(16:1)>
// CHECK-DAG: #[[EXCHANGED:layout.*]] = #mma.layout<tile(64, 8) lane(8:1) register(64:8)>
// CHECK-DAG: #[[SWAPPED:map.*]] = affine_map<(d0, d1) -> (d1, d0)>

// CHECK-LABEL: mma.kernel @types(
// CHECK-SAME: %packed: !mma.buffer<512x4096xf32, #[[PANELS]]>
// CHECK-SAME: %shared: !mma.buffer<128x64xbf16, #mma.swizzle<128>, #mma.memory<shared>>
// CHECK-SAME: %ring: !mma.ring<4 x 128x64xbf16, #mma.swizzle<64>, groups>
// CHECK-SAME: %slot: !mma.slot<write 128x64xbf16>
// CHECK-SAME: %pending: !mma.pending<!mma.fragment<1x64xf32, #[[COLUMNS]]>>
mma.kernel @types(
  %packed: !mma.buffer<512x4096xf32, affine_map<(k, n) -> (n floordiv 64, k, n mod 64)>>,
  %shared: !mma.buffer<128x64xbf16, #mma.memory<shared>, #mma.swizzle<128>>,
  %ring: !mma.ring<4 x 128x64xbf16, #mma.swizzle<64>, groups>,
  %slot: !mma.slot<write 128x64xbf16>,
  %pending: !mma.pending<!b>) {
}

// CHECK-LABEL: mma.kernel @workers(
// CHECK-SAME: ) target "x86-64-avx512" attributes {note = 1 : i32} {
// GENERIC: "mma.kernel"() <{sym_name = "workers", target = "x86-64-avx512"}>
mma.kernel @workers(%M: index) target "x86-64-avx512" attributes {note = 1 : i32} {
  %zero = arith.constant 0 : index
  // CHECK: mma.parallel %begin to %end = %zero to %M grain 8 {
  // GENERIC: "mma.parallel"(%zero, %M) <{grain = 8 : i64, operandSegmentSizes = array<i32: 1, 1>}>
  mma.parallel %begin to %end = %zero to %M grain 8 {
  }
  // CHECK-NOT: mma.return
}

// CHECK-LABEL: mma.kernel @grid(
// CHECK-SAME: ) target "sm_90a" warps(12) {
mma.kernel @grid(%M: index, %N: index, %B: memref<?x64xbf16>) target "sm_90a" warps(12) {
  %zero = arith.constant 0 : index
  // CHECK: mma.parallel (%i, %j), (%mc, %nc) = (%zero, %zero) to (%M, %N) step (128, 256) raster 8 descending cluster [2, 1] persistent 1 {
  mma.parallel (%i, %j), (%mc, %nc) = (%zero, %zero) to (%M, %N) step (128, 256) raster 8 descending cluster [2, 1] persistent 1 {
    %ring = mma.ring : !mma.ring<2 x 64x64xbf16>
    mma.roles {
      role @all warps(12) {
        %slot = mma.acquire %ring : !mma.ring<2 x 64x64xbf16>
        // CHECK: mma.copy_async %B[%j, %zero] to %slot multicast [0] : memref<?x64xbf16> to !mma.slot<write 64x64xbf16>
        mma.copy_async %B[%j, %zero] to %slot multicast [0] : memref<?x64xbf16> to !mma.slot<write 64x64xbf16>
      }
    }
  }
}

// CHECK-LABEL: mma.kernel @memory(
mma.kernel @memory(%A: memref<?x?xf32>, %C: memref<?x?xf32>, %x: memref<?xf32>, %rows: memref<?xindex>, %i: index, %n: index, %more: i1) {
  // CHECK: %scratch = mma.alloc : !mma.buffer<8x64xf32>
  %scratch = mma.alloc : !mma.buffer<8x64xf32>
  // CHECK: mma.load %A[%i, %n] : memref<?x?xf32> -> !mma.fragment<8x64xf32,
  %plain = mma.load %A[%i, %n] : memref<?x?xf32> -> !c
  // CHECK: mma.load %A[%i, %n] extent [%n, _] clip if %more else 0.0 pad -inf clamp [0] : memref<?x?xf32> ->
  // GENERIC: "mma.load"(%A, %i, %n, %n, %more)
  // GENERIC-SAME: extent_dims = array<i64: 0>
  %all = mma.load %A[%i, %n] extent [%n] clip if %more else 0.0 pad -inf clamp [0] : memref<?x?xf32> -> !c
  // CHECK: mma.load %x by affine_map<(d0, d1)[s0] -> ((s0 + d1))>[%i] extent [_, %n] : memref<?xf32> ->
  %mapped = mma.load %x by affine_map<(r, c)[j] -> (j + c)>[%i] extent [_, %n] : memref<?xf32> -> !b
  %gathered = mma.load %rows by affine_map<(r, c)[i] -> (i + r)>[%i] extent [%n] pad -1 : memref<?xindex> -> !rows
  // CHECK: mma.load %A[%gathered : !mma.fragment<8x1xindex, #[[ROWS]]>, %n] :
  %rows_of_a = mma.load %A[%gathered : !rows, %n] : memref<?x?xf32> -> !a
  // CHECK: mma.store %all, %scratch[%i, %n] extent [_, %n] : !mma.fragment<8x64xf32, {{.*}}>, !mma.buffer<8x64xf32>
  mma.store %all, %scratch[%i, %n] extent [_, %n] : !c, !mma.buffer<8x64xf32>
  // CHECK: mma.store %all, %C[%i, %n] extent [_, %n] through %scratch : !mma.fragment<8x64xf32, {{.*}}>, memref<?x?xf32>, !mma.buffer<8x64xf32>
  mma.store %all, %C[%i, %n] extent [_, %n] through %scratch : !c, memref<?x?xf32>, !mma.buffer<8x64xf32>
  // CHECK: mma.view %scratch by affine_map<(d0, d1) -> (d1, d0)> : !mma.buffer<8x64xf32> ->
  // CHECK-SAME: !mma.buffer<64x8xf32, #[[SWAPPED]]>
  %t = mma.view %scratch by affine_map<(n, m) -> (m, n)>
    : !mma.buffer<8x64xf32> -> !mma.buffer<64x8xf32, affine_map<(n, m) -> (m, n)>>
}

// CHECK-LABEL: mma.kernel @arithmetic(
mma.kernel @arithmetic(%a: !a, %b: !b, %c: !c, %s: f32, %n: index) {
  // CHECK: mma.mma %a, %b, %c {intrinsic = "x86.avx512.fma.1x16x1.f32"} : !mma.fragment<8x1xf32, {{.*}}>, !mma.fragment<1x64xf32,
  %d = mma.mma %a, %b, %c {intrinsic = "x86.avx512.fma.1x16x1.f32"} : !a, !b, !c
  // CHECK: mma.reduce max %d dims [1] extent [_, %n] : !mma.fragment<8x64xf32, {{.*}}> -> !mma.fragment<8x1xf32,
  %m = mma.reduce max %d dims [1] extent [_, %n] : !c -> !a
  // CHECK: mma.reduce add %d into %m dims [1] :
  %l = mma.reduce add %d into %m dims [1] : !c -> !a
  // CHECK: mma.map (%d, %l : !mma.fragment<8x64xf32, {{.*}}>, !mma.fragment<8x1xf32, {{.*}}>) -> !mma.fragment<8x64xf32, {{.*}}> {
  // CHECK-NEXT: ^bb0(%x: f32, %y: f32):
  %e = mma.map (%d, %l : !c, !a) -> !c {
  ^bb0(%x: f32, %y: f32):
    %z = arith.divf %x, %y : f32
    mma.yield %z : f32
  }
  // CHECK: mma.mask %e extent [_, %n] else -inf : !mma.fragment<8x64xf32,
  %masked = mma.mask %e extent [_, %n] else -inf : !c
  // CHECK: mma.splat %s : f32 -> !mma.fragment<8x64xf32,
  %splat = mma.splat %s : f32 -> !c
  // CHECK: mma.iota dim 1 start %n : !mma.fragment<8x1xindex,
  %iota = mma.iota dim 1 start %n : !rows
  // CHECK: mma.relayout %masked : !mma.fragment<8x64xf32, {{.*}}> -> !mma.fragment<8x64xf32, #[[OTHER]]>
  %other = mma.relayout %masked : !c -> !mma.fragment<8x64xf32, #mma.layout<tile(8, 64) register(4:16, 8:64) lane(16:1)>>
  // CHECK: mma.transpose %masked : !mma.fragment<8x64xf32, {{.*}}> -> !mma.fragment<64x8xf32, #[[EXCHANGED]]>
  %exchanged = mma.transpose %masked : !c -> !mma.fragment<64x8xf32, #mma.layout<tile(64, 8) lane(8:1) register(64:8)>>
}
