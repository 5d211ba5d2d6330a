// RUN: crosstile-opt %s --split-input-file --mma-to-nvvm | filecheck %s

!ring = !mma.ring<4 x 64x64xbf16, #mma.swizzle<128>>
!write = !mma.slot<write 64x64xbf16, #mma.swizzle<128>>
!read = !mma.slot<read 64x64xbf16, #mma.swizzle<128>>

// Slots of both rings are filled, waited for and released together: they share their barriers, where two copies arrive,
// one wait is enough for each side, one arrival for the release, and one number says where both stand. The barriers
// of slot %n are at a constant and %n times 16, its elements at a constant and %n times 8192.
// CHECK-LABEL: llvm.func @joint_rings(
// CHECK-DAG:     %[[TWO:.*]] = arith.constant 2 : i32
// CHECK:         nvvm.mbarrier.init.shared %{{.*}}, %[[TWO]]
// CHECK:         scf.for %{{.*}} iter_args(%[[NUMBER:.*]] = %{{.*}}) -> (index) {
// CHECK:           nvvm.mbarrier.try_wait.parity.shared
// CHECK:           nvvm.mbarrier.arrive.expect_tx.shared
// CHECK:           nvvm.cp.async.bulk.tensor.shared.cluster.global
// CHECK-NOT:       nvvm.mbarrier.try_wait
// CHECK:           nvvm.mbarrier.arrive.expect_tx.shared
// CHECK:           nvvm.cp.async.bulk.tensor.shared.cluster.global
// CHECK:         scf.for %{{.*}} iter_args(%[[TURN:.*]] = %{{.*}}) -> (index) {
// CHECK:           %[[SLOT:.*]] = arith.remui %[[TURN]], %{{.*}} : index
// CHECK:           %[[AT:.*]] = arith.muli %[[SLOT]], %c16{{.*}} : index
// CHECK:           nvvm.mbarrier.try_wait.parity.shared
// CHECK-NOT:       nvvm.mbarrier.try_wait
// CHECK:           nvvm.mbarrier.arrive.shared
// CHECK-NOT:       nvvm.mbarrier.arrive
// CHECK:           scf.yield
mma.kernel @joint_rings(%A: memref<?x64xbf16>, %B: memref<?x64xbf16>) target "sm_90a" warps(5) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c9 = arith.constant 9 : index
  %a = mma.ring : !ring
  %b = mma.ring : !ring
  mma.roles {
    role @load warps(1) {
      scf.for %t = %c0 to %c9 step %c1 {
        %to_a = mma.acquire %a : !ring
        mma.copy_async %A[%c0, %c0] to %to_a : memref<?x64xbf16> to !write
        mma.commit %to_a : !write
        %to_b = mma.acquire %b : !ring
        mma.copy_async %B[%c0, %c0] to %to_b : memref<?x64xbf16> to !write
        mma.commit %to_b : !write
      }
    }
    role @compute warps(4) {
      scf.for %t = %c0 to %c9 step %c1 {
        %of_a, %of_b = mma.wait %a, %b : !ring, !ring
        mma.release %of_a, %of_b : !read, !read
      }
    }
  }
}

// -----

!ring = !mma.ring<3 x 64x64xbf16, #mma.swizzle<128>>
!read = !mma.slot<read 64x64xbf16, #mma.swizzle<128>>

// Three slots: the slot and the parity of the round are carried apart. Rings that are released one after the other keep
// barriers of their own.
// CHECK-LABEL: llvm.func @separate_rings(
// CHECK:         scf.for %{{.*}} iter_args(%{{.*}} = %{{.*}}, %{{.*}} = %{{.*}}) -> (index, index) {
// CHECK-COUNT-2:   nvvm.mbarrier.try_wait.parity.shared
// CHECK:           nvvm.mbarrier.arrive.shared
// CHECK:           nvvm.mbarrier.arrive.shared
mma.kernel @separate_rings(%A: memref<?x64xbf16>, %B: memref<?x64xbf16>) target "sm_90a" warps(5) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c9 = arith.constant 9 : index
  %a = mma.ring : !ring
  %b = mma.ring : !ring
  scf.for %t = %c0 to %c9 step %c1 {
    %of_a, %of_b = mma.wait %a, %b : !ring, !ring
    mma.release %of_a : !read
    mma.release %of_b : !read
  }
}
