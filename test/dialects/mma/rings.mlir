// RUN: crosstile-opt %s | crosstile-opt | filecheck %s
// RUN: crosstile-opt --mlir-print-op-generic %s | crosstile-opt | filecheck %s

#acc = #mma.layout<tile(64, 128) warp(4:2048) register(16:8, 2:1024, 2:1) lane(8:128, 4:2)>
!acc = !mma.fragment<64x128xf32, #acc>
!pending = !mma.pending<!mma.fragment<64x128xf32, #acc>>
!ring_a = !mma.ring<4 x 64x64xbf16, #mma.swizzle<128>>
!write_a = !mma.slot<write 64x64xbf16, #mma.swizzle<128>>
!read_a = !mma.slot<read 64x64xbf16, #mma.swizzle<128>>
!ring_b = !mma.ring<4 x 64x128xbf16>
!write_b = !mma.slot<write 64x128xbf16>
!read_b = !mma.slot<read 64x128xbf16>

// Two roles and what stands between them.
// CHECK-LABEL: mma.kernel @roles
mma.kernel @roles(%A: memref<?x?xbf16>, %B: memref<?x?xbf16>, %C: memref<?x?xf32>, %m: index) warps(8) {
  %zero = arith.constant 0 : index
  // CHECK: %ring_a = mma.ring : !mma.ring<4 x 64x64xbf16, #mma.swizzle<128>>
  %ring_a = mma.ring : !ring_a
  %ring_b = mma.ring : !ring_b
  // CHECK: mma.roles {
  // CHECK-NEXT: role @load warps(4) registers(40) {
  mma.roles {
    role @load warps(4) registers(40) {
      // CHECK-NEXT: %a = mma.acquire %ring_a : !mma.ring<4 x 64x64xbf16, #mma.swizzle<128>>
      %a = mma.acquire %ring_a : !ring_a
      %b = mma.acquire %ring_b : !ring_b
      // CHECK: mma.copy_async %A[%m, %zero] extent [%m, _] to %a : memref<?x?xbf16> to !mma.slot<write 64x64xbf16, #mma.swizzle<128>>
      mma.copy_async %A[%m, %zero] extent [%m] to %a : memref<?x?xbf16> to !write_a
      // CHECK: mma.copy_async %B[%zero, %zero] clip to %b : memref<?x?xbf16> to !mma.slot<write 64x128xbf16>
      mma.copy_async %B[%zero, %zero] clip to %b : memref<?x?xbf16> to !write_b
      // CHECK: mma.commit %a, %b : !mma.slot<write 64x64xbf16, #mma.swizzle<128>>, !mma.slot<write 64x128xbf16>
      mma.commit %a, %b : !write_a, !write_b
    }
    // CHECK: role @compute warps(4) {
    role @compute warps(4) {
      %z = arith.constant 0.0 : f32
      %start = mma.splat %z : f32 -> !acc
      // CHECK: , %{{.*}} = mma.wait %ring_a, %ring_b : !mma.ring<4 x 64x64xbf16, #mma.swizzle<128>>, !mma.ring<4 x 64x128xbf16>
      %a, %b = mma.wait %ring_a, %ring_b : !ring_a, !ring_b
      // CHECK: %p = mma.mma_async %{{.*}}, %{{.*}}, %start {intrinsic = "nvidia.wgmma.m64n128k16.f32.bf16"} : !mma.slot<read 64x64xbf16,
      %p = mma.mma_async %a, %b, %start {intrinsic = "nvidia.wgmma.m64n128k16.f32.bf16"} : !read_a, !read_b, !acc
      // CHECK: %q = mma.mma_async %{{.*}}, %{{.*}}, %p {intrinsic
      %q = mma.mma_async %a, %b, %p {intrinsic = "nvidia.wgmma.m64n128k16.f32.bf16"} : !read_a, !read_b, !pending
      // CHECK: %r = mma.await %q in_flight 1 : !mma.pending<!mma.fragment<64x128xf32, {{.*}}>> -> !mma.pending<
      %r = mma.await %q in_flight 1 : !pending -> !pending
      // CHECK: %c = mma.await %r : !mma.pending<!mma.fragment<64x128xf32, {{.*}}>> -> !mma.fragment<64x128xf32,
      %c = mma.await %r : !pending -> !acc
      // CHECK: mma.release %{{.*}}, %{{.*}} : !mma.slot<read 64x64xbf16, #mma.swizzle<128>>, !mma.slot<read 64x128xbf16>
      mma.release %a, %b : !read_a, !read_b
      mma.store %c, %C[%zero, %zero] : !acc, memref<?x?xf32>
    }
  }
}

// One program: commit groups, counted waits, barriers.
// CHECK-LABEL: mma.kernel @groups
mma.kernel @groups(%A: memref<?x?xbf16>) warps(4) {
  %zero = arith.constant 0 : index
  %ring = mma.ring : !mma.ring<2 x 64x64xbf16, groups>
  %s = mma.acquire %ring : !mma.ring<2 x 64x64xbf16, groups>
  mma.copy_async %A[%zero, %zero] to %s : memref<?x?xbf16> to !mma.slot<write 64x64xbf16>
  // CHECK: mma.commit %s : !mma.slot<write 64x64xbf16>
  mma.commit %s : !mma.slot<write 64x64xbf16>
  // CHECK-NEXT: mma.commit empty
  mma.commit empty
  // CHECK-NEXT: mma.wait %ring in_flight 1 : !mma.ring<2 x 64x64xbf16, groups>
  %t = mma.wait %ring in_flight 1 : !mma.ring<2 x 64x64xbf16, groups>
  // CHECK-NEXT: mma.barrier
  mma.barrier
  mma.release %t : !mma.slot<read 64x64xbf16>
}

// The slot that a product reads may be released once an await that covers the product stands on every path.
// CHECK-LABEL: mma.kernel @carried
mma.kernel @carried(%start: !acc, %n: index) warps(4) {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %ring_a = mma.ring : !ring_a
  %ring_b = mma.ring : !ring_b
  %a0, %b0 = mma.wait %ring_a, %ring_b : !ring_a, !ring_b
  %p0 = mma.mma_async %a0, %b0, %start {intrinsic = "nvidia.wgmma.m64n128k16.f32.bf16"} : !read_a, !read_b, !acc
  %p, %a, %b = scf.for %t = %one to %n step %one iter_args(%before = %p0, %a_before = %a0, %b_before = %b0) -> (!pending, !read_a, !read_b) {
    %a_now, %b_now = mma.wait %ring_a, %ring_b : !ring_a, !ring_b
    %q = mma.mma_async %a_now, %b_now, %before {intrinsic = "nvidia.wgmma.m64n128k16.f32.bf16"} : !read_a, !read_b, !pending
    %r = mma.await %q in_flight 1 : !pending -> !pending
    // CHECK: mma.release %a_before, %b_before
    mma.release %a_before, %b_before : !read_a, !read_b
    scf.yield %r, %a_now, %b_now : !pending, !read_a, !read_b
  }
  %c = mma.await %p : !pending -> !acc
  mma.release %a, %b : !read_a, !read_b
}

// One role copies, the next exchanges rows and columns on the way to a third, which multiplies.
// CHECK-LABEL: mma.kernel @exchanged
mma.kernel @exchanged() warps(4) {
  %from = mma.ring : !mma.ring<2 x 32x64xi8, #mma.swizzle<64>>
  %to = mma.ring : !mma.ring<2 x 64x32xi8, #mma.swizzle<32>>
  %a = mma.wait %from : !mma.ring<2 x 32x64xi8, #mma.swizzle<64>>
  %b = mma.acquire %to : !mma.ring<2 x 64x32xi8, #mma.swizzle<32>>
  // CHECK: mma.copy_transposed %a to %b : !mma.slot<read 32x64xi8, #mma.swizzle<64>> to !mma.slot<write 64x32xi8, #mma.swizzle<32>>
  mma.copy_transposed %a to %b : !mma.slot<read 32x64xi8, #mma.swizzle<64>> to !mma.slot<write 64x32xi8, #mma.swizzle<32>>
  mma.commit %b : !mma.slot<write 64x32xi8, #mma.swizzle<32>>
  mma.release %a : !mma.slot<read 32x64xi8, #mma.swizzle<64>>
}
