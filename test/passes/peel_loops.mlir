// RUN: crosstile-opt %s --split-input-file --peel-loops | filecheck %s

!ring = !mma.ring<2 x 16x32xbf16, groups>
!write = !mma.slot<write 16x32xbf16>
!factor = !mma.fragment<16x16xbf16, #mma.layout<tile(16, 16) register(2:8, 2:128, 2:1) lane(8:16, 4:2)>>
!other = !mma.fragment<16x8xbf16, #mma.layout<tile(16, 8) register(2:64, 2:8) lane(8:1, 4:16)>>
!sum = !mma.fragment<16x8xf32, #mma.layout<tile(16, 8) register(2:64, 2:1) lane(8:8, 4:2)>>

// Copies are a trip ahead. In trips below n - 1 and (K - 32) div 32 there is a next trip and it is whole: no branch, and
// an extent of 32. The other trips are as they were.
// CHECK-LABEL: mma.kernel @peeled(
// CHECK-DAG:     %[[LAST:.*]] = arith.addi %n, %{{.*}} : index
// CHECK-DAG:     %[[SOME:.*]] = arith.maxsi %[[LAST]]
// CHECK-DAG:     %[[REST:.*]] = arith.addi %K, %{{.*}} : index
// CHECK-DAG:     %[[LEFT:.*]] = arith.maxsi %[[REST]]
// CHECK-DAG:     %[[WHOLE:.*]] = arith.divui %[[LEFT]]
// CHECK:         arith.minsi %[[SOME]], %[[WHOLE]]
// CHECK:         %[[END:.*]] = arith.minsi
// CHECK-NEXT:    %[[SUM:.*]] = scf.for %{{.*}} = %c0 to %[[END]] step %c1
// CHECK-NOT:       scf.if
// CHECK:           %[[FULL:.*]] = arith.constant 32
// CHECK:           mma.copy_async %A[%c0, %{{.*}}] extent [_, %[[FULL]]]
// CHECK:         scf.for %{{.*}} = %[[END]] to %n step %c1 iter_args(%{{.*}} = %[[SUM]])
// CHECK:           %[[CUT:.*]] = arith.minsi
// CHECK:           scf.if
// CHECK:             mma.copy_async %A[%c0, %{{.*}}] extent [_, %[[CUT]]]
mma.kernel @peeled(%n: index, %K: index, %A: memref<16x?xbf16>, %C: memref<16x8xf32>) target "sm_80" warps(1) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c32 = arith.constant 32 : index
  %zero = arith.constant 0.0 : f32
  %half = arith.constant 0.0 : bf16
  %ring = mma.ring : !ring
  %a = mma.splat %half : bf16 -> !factor
  %b = mma.splat %half : bf16 -> !other
  %start = mma.splat %zero : f32 -> !sum
  %result = scf.for %t = %c0 to %n step %c1 iter_args(%acc = %start) -> (!sum) {
    %ahead = arith.addi %t, %c1 : index
    %exists = arith.cmpi slt, %ahead, %n : index
    %k = arith.muli %ahead, %c32 : index
    %rest = arith.subi %K, %k : index
    %kc = arith.minsi %rest, %c32 : index
    scf.if %exists {
      %slot = mma.acquire %ring : !ring
      mma.copy_async %A[%c0, %k] extent [_, %kc] to %slot : memref<16x?xbf16> to !write
      mma.commit %slot : !write
    }
    %next = mma.mma %a, %b, %acc {intrinsic = "nvidia.mma.m16n8k16.f32.bf16"} : !factor, !other, !sum
    scf.yield %next : !sum
  }
  mma.store %result, %C[%c0, %c0] : !sum, memref<16x8xf32>
}

// -----

!ring = !mma.ring<2 x 16x32xbf16, groups>
!write = !mma.slot<write 16x32xbf16>

// A loop that only copies is left alone: nothing waits for its masks.
// CHECK-LABEL: mma.kernel @copies_only(
// CHECK:         scf.for
// CHECK-NOT:     scf.for
mma.kernel @copies_only(%n: index, %K: index, %A: memref<16x?xbf16>) target "sm_80" warps(1) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c32 = arith.constant 32 : index
  %ring = mma.ring : !ring
  scf.for %t = %c0 to %n step %c1 {
    %k = arith.muli %t, %c32 : index
    %rest = arith.subi %K, %k : index
    %kc = arith.minsi %rest, %c32 : index
    %slot = mma.acquire %ring : !ring
    mma.copy_async %A[%c0, %k] extent [_, %kc] to %slot : memref<16x?xbf16> to !write
    mma.commit %slot : !write
  }
}

// -----

#left = #mma.layout<tile(64, 16) warp(4:256) register(2:8, 2:128, 2:1) lane(8:16, 4:2)>
#sums = #mma.layout<tile(64, 32) warp(4:512) register(4:8, 2:256, 2:1) lane(8:32, 4:2)>
!sums = !mma.fragment<64x32xf32, #sums>

// A loop that masks products of what another role copies: the trips whose columns are all there, and are not beyond a
// limit, have neither mask nor branch.
// CHECK-LABEL: mma.kernel @masked(
// CHECK:         %[[STEADY:.*]] = scf.for
// CHECK-NOT:       scf.if
// CHECK:           mma.mask {{.*}} extent [_, %[[ALL:.*]]]
// CHECK:           scf.yield
// CHECK:         scf.for {{.*}} iter_args(%{{.*}} = %[[STEADY]])
// CHECK:           scf.if
// CHECK:           mma.mask
mma.kernel @masked(%n: index, %N: index, %limit: index, %C: memref<64x32xf32>) target "sm_90a" warps(4) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c31 = arith.constant 31 : index
  %c32 = arith.constant 32 : index
  %zero = arith.constant 0.0 : f32
  %half = arith.constant 0.0 : bf16
  %a = mma.splat %half : bf16 -> !mma.fragment<64x16xbf16, #left>
  %b = mma.alloc : !mma.buffer<16x32xbf16, #mma.swizzle<64>>
  %start = mma.splat %zero : f32 -> !sums
  %result = scf.for %t = %c0 to %N step %c32 iter_args(%acc = %start) -> (!sums) {
    %rest = arith.subi %N, %t : index
    %nc = arith.minsi %rest, %c32 : index
    %p = mma.mma_async %a, %b, %acc {intrinsic = "nvidia.wgmma.m64n32k16.f32.bf16"}
        : !mma.fragment<64x16xbf16, #left>, !mma.buffer<16x32xbf16, #mma.swizzle<64>>, !sums
    %s = mma.await %p : !mma.pending<!sums> -> !sums
    %last = arith.addi %t, %c31 : index
    %hides = arith.cmpi sgt, %last, %limit : index
    %hidden = scf.if %hides -> (!sums) {
      %none = mma.splat %zero : f32 -> !sums
      scf.yield %none : !sums
    } else {
      scf.yield %s : !sums
    }
    %masked = mma.mask %hidden extent [_, %nc] else 0.0 : !sums
    scf.yield %masked : !sums
  }
  mma.store %result, %C[%c0, %c0] : !sums, memref<64x32xf32>
}
