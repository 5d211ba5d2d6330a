// RUN: crosstile-opt %s --split-input-file --overlap-products | filecheck %s

!ring = !mma.ring<2 x 16x16xbf16, #mma.swizzle<32>>
!slot = !mma.slot<read 16x16xbf16, #mma.swizzle<32>>
#left = #mma.layout<tile(64, 16) warp(4:256) register(2:8, 2:128, 2:1) lane(8:16, 4:2)>
!sums = !mma.fragment<64x16xf32, #left>
!weights = !mma.fragment<64x16xbf16, #left>
!pending = !mma.pending<!sums>

// Scores and weights of the first trip are computed in front. In the loop the next scores are started, then the product
// of the weights before; while that runs the next weights are computed. The next values are waited for before it ends.
// CHECK-LABEL: mma.kernel @overlapped(
// CHECK:         %[[SOME:.*]] = arith.cmpi slt, %c0, %n
// CHECK-NEXT:    %last, %o = scf.if %[[SOME]]
// CHECK:           %[[K0:.*]] = mma.wait %ring_k
// CHECK-NEXT:      %[[P0:.*]] = mma.mma_async %q, %[[K0]]
// CHECK-NEXT:      %[[S0:.*]] = mma.await %[[P0]] :
// CHECK-NEXT:      mma.release %[[K0]]
// CHECK:           %[[LAST0:.*]] = mma.map (%[[S0]]
// CHECK:           %[[W0:.*]] = mma.map (%[[LAST0]]
// CHECK:           %[[V0:.*]] = mma.wait %ring_v
// CHECK:           %[[SCALED0:.*]] = mma.map (%start
// CHECK:           %[[R0:.*]], %[[R1:.*]], %[[R2:.*]], %[[R3:.*]] = scf.for %{{.*}} = %{{.*}} to %n step %c1 iter_args(%{{.*}} = %[[LAST0]], %[[W:.*]] = %[[W0]], %[[V:.*]] = %[[V0]], %[[O:.*]] = %[[SCALED0]])
// CHECK:             %[[K1:.*]] = mma.wait %ring_k
// CHECK-NEXT:        %[[P1:.*]] = mma.mma_async %q, %[[K1]]
// CHECK-NEXT:        %[[P2:.*]] = mma.mma_async %[[W]], %[[V]], %[[O]]
// CHECK-NEXT:        %[[S1:.*]] = mma.await %[[P1]] in_flight 1
// CHECK-NEXT:        mma.release %[[K1]]
// CHECK:             %[[LAST1:.*]] = mma.map (%[[S1]]
// CHECK:             %[[W1:.*]] = mma.map (%[[LAST1]]
// CHECK:             %[[V1:.*]] = mma.wait %ring_v
// CHECK-NEXT:        %[[O1:.*]] = mma.await %[[P2]] :
// CHECK-NEXT:        mma.release %[[V]]
// CHECK:             %[[SCALED1:.*]] = mma.map (%[[O1]], %[[LAST1]]
// CHECK:             scf.yield %[[LAST1]], %[[W1]], %[[V1]], %[[SCALED1]]
// CHECK:           %[[P3:.*]] = mma.mma_async %[[R1]], %[[R2]], %[[R3]]
// CHECK-NEXT:      %[[O3:.*]] = mma.await %[[P3]] :
// CHECK-NEXT:      mma.release %[[R2]]
// CHECK-NEXT:      scf.yield %[[R0]], %[[O3]]
// CHECK-NEXT:    } else {
// CHECK-NEXT:      scf.yield %start, %start
mma.kernel @overlapped(%n: index, %C: memref<64x16xf32>) target "sm_90a" warps(4) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %half = arith.constant 0.0 : bf16
  %ring_k = mma.ring : !ring
  %ring_v = mma.ring : !ring
  %q = mma.splat %half : bf16 -> !weights
  %start = mma.splat %zero : f32 -> !sums
  %last, %o = scf.for %t = %c0 to %n step %c1 iter_args(%last_before = %start, %o_before = %start) -> (!sums, !sums) {
    %k = mma.wait %ring_k : !ring
    %s_pending = mma.mma_async %q, %k, %start {intrinsic = "nvidia.wgmma.m64n16k16.f32.bf16"} : !weights, !slot, !sums
    %s = mma.await %s_pending : !pending -> !sums
    mma.release %k : !slot
    %last_now = mma.map (%s, %last_before : !sums, !sums) -> !sums {
    ^bb0(%a: f32, %b: f32):
      %sum = arith.addf %a, %b : f32
      mma.yield %sum : f32
    }
    %scaled = mma.map (%o_before, %last_now : !sums, !sums) -> !sums {
    ^bb0(%a: f32, %b: f32):
      %product = arith.mulf %a, %b : f32
      mma.yield %product : f32
    }
    %v = mma.wait %ring_v : !ring
    %w = mma.map (%last_now : !sums) -> !weights {
    ^bb0(%a: f32):
      %narrow = arith.truncf %a : f32 to bf16
      mma.yield %narrow : bf16
    }
    %o_pending = mma.mma_async %w, %v, %scaled {intrinsic = "nvidia.wgmma.m64n16k16.f32.bf16"} : !weights, !slot, !sums
    %o_now = mma.await %o_pending : !pending -> !sums
    mma.release %v : !slot
    scf.yield %last_now, %o_now : !sums, !sums
  }
  mma.store %o, %C[%c0, %c0] : !sums, memref<64x16xf32>
}

// -----

!ring = !mma.ring<2 x 16x16xbf16, #mma.swizzle<32>>
!single = !mma.ring<1 x 16x16xbf16, #mma.swizzle<32>>
!slot = !mma.slot<read 16x16xbf16, #mma.swizzle<32>>
#left = #mma.layout<tile(64, 16) warp(4:256) register(2:8, 2:128, 2:1) lane(8:16, 4:2)>
!sums = !mma.fragment<64x16xf32, #left>
!weights = !mma.fragment<64x16xbf16, #left>
!pending = !mma.pending<!sums>

// The next values are waited for while the product before reads its own: that takes two slots.
// CHECK-LABEL: mma.kernel @one_slot(
// CHECK-NOT:     scf.if
mma.kernel @one_slot(%n: index, %C: memref<64x16xf32>) target "sm_90a" warps(4) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %half = arith.constant 0.0 : bf16
  %ring_k = mma.ring : !ring
  %ring_v = mma.ring : !single
  %q = mma.splat %half : bf16 -> !weights
  %start = mma.splat %zero : f32 -> !sums
  %last, %o = scf.for %t = %c0 to %n step %c1 iter_args(%last_before = %start, %o_before = %start) -> (!sums, !sums) {
    %k = mma.wait %ring_k : !ring
    %s_pending = mma.mma_async %q, %k, %start {intrinsic = "nvidia.wgmma.m64n16k16.f32.bf16"} : !weights, !slot, !sums
    %s = mma.await %s_pending : !pending -> !sums
    mma.release %k : !slot
    %last_now = mma.map (%s, %last_before : !sums, !sums) -> !sums {
    ^bb0(%a: f32, %b: f32):
      %sum = arith.addf %a, %b : f32
      mma.yield %sum : f32
    }
    %scaled = mma.map (%o_before, %last_now : !sums, !sums) -> !sums {
    ^bb0(%a: f32, %b: f32):
      %product = arith.mulf %a, %b : f32
      mma.yield %product : f32
    }
    %v = mma.wait %ring_v : !single
    %w = mma.map (%last_now : !sums) -> !weights {
    ^bb0(%a: f32):
      %narrow = arith.truncf %a : f32 to bf16
      mma.yield %narrow : bf16
    }
    %o_pending = mma.mma_async %w, %v, %scaled {intrinsic = "nvidia.wgmma.m64n16k16.f32.bf16"} : !weights, !slot, !sums
    %o_now = mma.await %o_pending : !pending -> !sums
    mma.release %v : !slot
    scf.yield %last_now, %o_now : !sums, !sums
  }
  mma.store %o, %C[%c0, %c0] : !sums, memref<64x16xf32>
}

// -----

!ring = !mma.ring<2 x 16x16xbf16, #mma.swizzle<32>>
!slot = !mma.slot<read 16x16xbf16, #mma.swizzle<32>>
#left = #mma.layout<tile(64, 16) warp(4:256) register(2:8, 2:128, 2:1) lane(8:16, 4:2)>
!sums = !mma.fragment<64x16xf32, #left>
!weights = !mma.fragment<64x16xbf16, #left>
!pending = !mma.pending<!sums>

// A loop that does something else, which others see, is left alone.
// CHECK-LABEL: mma.kernel @stores(
// CHECK-NOT:     scf.if
mma.kernel @stores(%n: index, %C: memref<64x16xf32>) target "sm_90a" warps(4) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %half = arith.constant 0.0 : bf16
  %ring_k = mma.ring : !ring
  %ring_v = mma.ring : !ring
  %q = mma.splat %half : bf16 -> !weights
  %start = mma.splat %zero : f32 -> !sums
  %last, %o = scf.for %t = %c0 to %n step %c1 iter_args(%last_before = %start, %o_before = %start) -> (!sums, !sums) {
    %k = mma.wait %ring_k : !ring
    %s_pending = mma.mma_async %q, %k, %start {intrinsic = "nvidia.wgmma.m64n16k16.f32.bf16"} : !weights, !slot, !sums
    %s = mma.await %s_pending : !pending -> !sums
    mma.release %k : !slot
    %last_now = mma.map (%s, %last_before : !sums, !sums) -> !sums {
    ^bb0(%a: f32, %b: f32):
      %sum = arith.addf %a, %b : f32
      mma.yield %sum : f32
    }
    %scaled = mma.map (%o_before, %last_now : !sums, !sums) -> !sums {
    ^bb0(%a: f32, %b: f32):
      %product = arith.mulf %a, %b : f32
      mma.yield %product : f32
    }
    mma.store %s, %C[%c0, %c0] : !sums, memref<64x16xf32>
    %v = mma.wait %ring_v : !ring
    %w = mma.map (%last_now : !sums) -> !weights {
    ^bb0(%a: f32):
      %narrow = arith.truncf %a : f32 to bf16
      mma.yield %narrow : bf16
    }
    %o_pending = mma.mma_async %w, %v, %scaled {intrinsic = "nvidia.wgmma.m64n16k16.f32.bf16"} : !weights, !slot, !sums
    %o_now = mma.await %o_pending : !pending -> !sums
    mma.release %v : !slot
    scf.yield %last_now, %o_now : !sums, !sums
  }
  mma.store %o, %C[%c0, %c0] : !sums, memref<64x16xf32>
}

// -----

!ring = !mma.ring<2 x 16x16xbf16, #mma.swizzle<32>>
!slot = !mma.slot<read 16x16xbf16, #mma.swizzle<32>>
#left = #mma.layout<tile(64, 16) warp(4:256) register(2:8, 2:128, 2:1) lane(8:16, 4:2)>
!sums = !mma.fragment<64x16xf32, #left>
!weights = !mma.fragment<64x16xbf16, #left>
!pending = !mma.pending<!sums>

// So is one whose second factor needs what the second product of the trip before has summed up.
// CHECK-LABEL: mma.kernel @needs_sums(
// CHECK-NOT:     scf.if
mma.kernel @needs_sums(%n: index, %C: memref<64x16xf32>) target "sm_90a" warps(4) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %half = arith.constant 0.0 : bf16
  %ring_k = mma.ring : !ring
  %ring_v = mma.ring : !ring
  %q = mma.splat %half : bf16 -> !weights
  %start = mma.splat %zero : f32 -> !sums
  %last, %o = scf.for %t = %c0 to %n step %c1 iter_args(%last_before = %start, %o_before = %start) -> (!sums, !sums) {
    %k = mma.wait %ring_k : !ring
    %s_pending = mma.mma_async %q, %k, %start {intrinsic = "nvidia.wgmma.m64n16k16.f32.bf16"} : !weights, !slot, !sums
    %s = mma.await %s_pending : !pending -> !sums
    mma.release %k : !slot
    %last_now = mma.map (%s, %last_before : !sums, !sums) -> !sums {
    ^bb0(%a: f32, %b: f32):
      %sum = arith.addf %a, %b : f32
      mma.yield %sum : f32
    }
    %scaled = mma.map (%o_before, %last_now : !sums, !sums) -> !sums {
    ^bb0(%a: f32, %b: f32):
      %product = arith.mulf %a, %b : f32
      mma.yield %product : f32
    }
    %v = mma.wait %ring_v : !ring
    %w = mma.map (%scaled : !sums) -> !weights {
    ^bb0(%a: f32):
      %narrow = arith.truncf %a : f32 to bf16
      mma.yield %narrow : bf16
    }
    %o_pending = mma.mma_async %w, %v, %scaled {intrinsic = "nvidia.wgmma.m64n16k16.f32.bf16"} : !weights, !slot, !sums
    %o_now = mma.await %o_pending : !pending -> !sums
    mma.release %v : !slot
    scf.yield %last_now, %o_now : !sums, !sums
  }
  mma.store %o, %C[%c0, %c0] : !sums, memref<64x16xf32>
}
