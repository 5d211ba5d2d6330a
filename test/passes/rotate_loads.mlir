// RUN: crosstile-opt %s --split-input-file --rotate-loads | filecheck %s

!ring = !mma.ring<2 x 16x32xbf16, groups>
!slot = !mma.slot<read 16x32xbf16>
!factor = !mma.fragment<16x16xbf16, #mma.layout<tile(16, 16) register(2:8, 2:128, 2:1) lane(8:16, 4:2)>>
!other = !mma.fragment<16x8xbf16, #mma.layout<tile(16, 8) register(2:64, 2:8) lane(8:1, 4:16)>>
!sum = !mma.fragment<16x8xf32, #mma.layout<tile(16, 8) register(2:64, 2:1) lane(8:8, 4:2)>>

// The first step's factor is loaded ahead of the loop. In a trip the second step's is loaded before the products of the
// first, then the slot is released, and the next trip's first factor is loaded before the products of the second. The
// copies stay where they were, before the products.
// CHECK-LABEL: mma.kernel @rotated(
// CHECK:         scf.if
// CHECK:           %[[SLOT:.*]] = mma.wait
// CHECK-NEXT:      mma.barrier
// CHECK:           %[[FIRST:.*]] = mma.load %[[SLOT]]
// CHECK:           scf.for %[[T:[^ ]*]] = {{.*}} iter_args(%[[ACC:.*]] = %{{.*}}, %[[HERE:.*]] = %[[SLOT]], %[[LOADED:.*]] = %[[FIRST]])
// CHECK:             %[[SECOND:.*]] = mma.load %[[HERE]]
// CHECK:             mma.commit empty
// CHECK:             %[[PART:.*]] = mma.mma %[[LOADED]], %{{.*}}, %[[ACC]]
// CHECK:             mma.release %[[HERE]]
// CHECK:             %[[NEXT:.*]] = arith.addi %[[T]]
// CHECK:             arith.cmpi slt, %[[NEXT]]
// CHECK:             scf.if
// CHECK:               mma.wait
// CHECK-NEXT:          mma.barrier
// CHECK:               mma.load
// CHECK:             } else {
// CHECK-NEXT:          scf.yield %[[HERE]], %[[LOADED]]
// CHECK:             mma.mma %[[SECOND]], %{{.*}}, %[[PART]]
// CHECK:         } else {
mma.kernel @rotated(%n: index, %B: memref<16x8xbf16>, %C: memref<16x8xf32>) target "sm_80" warps(1) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c16 = arith.constant 16 : index
  %c32 = arith.constant 32 : index
  %zero = arith.constant 0.0 : f32
  %ring = mma.ring : !ring
  %b = mma.load %B[%c0, %c0] : memref<16x8xbf16> -> !other
  %start = mma.splat %zero : f32 -> !sum
  %result = scf.for %t = %c0 to %n step %c1 iter_args(%acc = %start) -> (!sum) {
    %slot = mma.wait %ring in_flight 1 : !ring
    mma.barrier
    mma.commit empty
    %next = scf.for %k = %c0 to %c32 step %c16 iter_args(%inner = %acc) -> (!sum) {
      %a = mma.load %slot[%c0, %k] : !slot -> !factor
      %more = mma.mma %a, %b, %inner {intrinsic = "nvidia.mma.m16n8k16.f32.bf16"} : !factor, !other, !sum
      scf.yield %more : !sum
    }
    mma.release %slot : !slot
    scf.yield %next : !sum
  }
  mma.store %result, %C[%c0, %c0] : !sum, memref<16x8xf32>
}

// -----

!ring = !mma.ring<2 x 16x32xbf16, groups>
!slot = !mma.slot<read 16x32xbf16>
!factor = !mma.fragment<16x16xbf16, #mma.layout<tile(16, 16) register(2:8, 2:128, 2:1) lane(8:16, 4:2)>>
!other = !mma.fragment<16x8xbf16, #mma.layout<tile(16, 8) register(2:64, 2:8) lane(8:1, 4:16)>>
!sum = !mma.fragment<16x8xf32, #mma.layout<tile(16, 8) register(2:64, 2:1) lane(8:8, 4:2)>>

// What a trip stores depends on the slot, so that it must be held: left alone. So is a kernel whose copies go through
// registers element by element.
// CHECK-LABEL: mma.kernel @held(
// CHECK-NOT:     scf.if
// CHECK:         scf.for
// CHECK-NEXT:      mma.wait
mma.kernel @held(%n: index, %B: memref<16x8xbf16>, %C: memref<16x16xbf16>) target "sm_80" warps(1) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c16 = arith.constant 16 : index
  %c32 = arith.constant 32 : index
  %zero = arith.constant 0.0 : f32
  %ring = mma.ring : !ring
  %b = mma.load %B[%c0, %c0] : memref<16x8xbf16> -> !other
  %start = mma.splat %zero : f32 -> !sum
  %result = scf.for %t = %c0 to %n step %c1 iter_args(%acc = %start) -> (!sum) {
    %slot = mma.wait %ring in_flight 1 : !ring
    mma.barrier
    %next = scf.for %k = %c0 to %c32 step %c16 iter_args(%inner = %acc) -> (!sum) {
      %a = mma.load %slot[%c0, %k] : !slot -> !factor
      %more = mma.mma %a, %b, %inner {intrinsic = "nvidia.mma.m16n8k16.f32.bf16"} : !factor, !other, !sum
      scf.yield %more : !sum
    }
    %kept = mma.load %slot[%c0, %c0] : !slot -> !factor
    mma.store %kept, %C[%c0, %c0] : !factor, memref<16x16xbf16>
    mma.release %slot : !slot
    scf.yield %next : !sum
  }
}
