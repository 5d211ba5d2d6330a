// RUN: crosstile-opt %s --split-input-file --verify-diagnostics --mma-to-nvvm | filecheck %s

!from_ring = !mma.ring<2 x 64x128xi8, #mma.swizzle<128>>
!from = !mma.slot<read 64x128xi8, #mma.swizzle<128>>
!write = !mma.slot<write 64x128xi8, #mma.swizzle<128>>
!to_ring = !mma.ring<2 x 128x64xi8, #mma.swizzle<64>>
!to = !mma.slot<write 128x64xi8, #mma.swizzle<64>>
!read = !mma.slot<read 128x64xi8, #mma.swizzle<64>>

// Two roles share a group of four warps, which trade registers once. Warps take turns at 16 columns, each with all rows:
// 32 of them are four 8x8 matrices of pairs, two permutations for each pair of words, four matrices of rows of the
// result. The lanes meet once, to say that they have read and written, and show what they wrote to the products.
// CHECK-LABEL: llvm.func @exchange(
// CHECK-DAG:     %[[THREE:.*]] = arith.constant 3 : i32
// CHECK-DAG:     nvvm.mbarrier.init.shared %{{.*}}, %[[THREE]]
// CHECK-COUNT-1: nvvm.setmaxregister decrease 56
// CHECK:         nvvm.cp.async.bulk.tensor.shared.cluster.global
// CHECK:         nvvm.mbarrier.try_wait.parity.shared
// CHECK:         nvvm.mbarrier.try_wait.parity.shared
// CHECK:         scf.for %column = %{{.*}} to %c128{{.*}} step %c48
// CHECK:           %[[W:.*]] = nvvm.ldmatrix %{{.*}} {layout = #nvvm.mma_layout<col>, num = 4 : i32}
// CHECK:           nvvm.ldmatrix %{{.*}} {layout = #nvvm.mma_layout<col>, num = 4 : i32}
// CHECK:           %[[W0:.*]] = llvm.extractvalue %[[W]][0]
// CHECK:           %[[W1:.*]] = llvm.extractvalue %[[W]][1]
// CHECK:           %[[P0:.*]] = nvvm.prmt #nvvm.permute_mode<default> %[[FIRST:.*]], %[[W0]], %[[W1]] : i32
// CHECK-NEXT:      %[[P1:.*]] = nvvm.prmt #nvvm.permute_mode<default> %[[SECOND:.*]], %[[W0]], %[[W1]] : i32
// CHECK-NEXT:      %[[P2:.*]] = nvvm.prmt #nvvm.permute_mode<default> %[[FIRST]],
// CHECK-NEXT:      %[[P3:.*]] = nvvm.prmt #nvvm.permute_mode<default> %[[SECOND]],
// CHECK:           nvvm.stmatrix %{{.*}}, %[[P0]], %[[P1]], %[[P2]], %[[P3]] {layout = #nvvm.mma_layout<row>}
// CHECK-COUNT-4:   nvvm.prmt
// CHECK:           nvvm.stmatrix
// CHECK-NOT:       nvvm.stmatrix
// CHECK:         nvvm.fence.proxy
// CHECK-NEXT:    nvvm.bar.warp.sync
// CHECK-COUNT-2: nvvm.mbarrier.arrive.shared
// CHECK-NOT:     nvvm.bar.warp.sync
// CHECK-NOT:     nvvm.setmaxregister decrease 56
// CHECK:         nvvm.setmaxregister decrease 232
mma.kernel @exchange(%A: memref<?x128xi8>) target "sm_90a" warps(8) {
  %c0 = arith.constant 0 : index
  %from = mma.ring : !from_ring
  %to = mma.ring : !to_ring
  mma.roles {
    role @load warps(1) registers(56) {
      %s = mma.acquire %from : !from_ring
      mma.copy_async %A[%c0, %c0] to %s : memref<?x128xi8> to !write
      mma.commit %s : !write
    }
    role @exchange warps(3) registers(56) {
      %a = mma.wait %from : !from_ring
      %b = mma.acquire %to : !to_ring
      mma.copy_transposed %a to %b : !from to !to
      mma.commit %b : !to
      mma.release %a : !from
    }
    role @compute warps(4) registers(232) {
      %b = mma.wait %to : !to_ring
      mma.release %b : !read
    }
  }
}

// -----

mma.kernel @few_rows() target "sm_90a" warps(4) {
  %from = mma.ring : !mma.ring<2 x 16x32xi8, #mma.swizzle<32>>
  %to = mma.ring : !mma.ring<2 x 32x16xi8>
  %a = mma.wait %from : !mma.ring<2 x 16x32xi8, #mma.swizzle<32>>
  %b = mma.acquire %to : !mma.ring<2 x 32x16xi8>
  // expected-error @+1 {{copies 16x32 elements of i8; expects 8 bits each, and multiples of 32x16}}
  mma.copy_transposed %a to %b : !mma.slot<read 16x32xi8, #mma.swizzle<32>> to !mma.slot<write 32x16xi8>
}

// -----

mma.kernel @rows_of_48() target "sm_90a" warps(4) {
  %from = mma.ring : !mma.ring<2 x 32x48xi8>
  %to = mma.ring : !mma.ring<2 x 48x32xi8, #mma.swizzle<32>>
  %a = mma.wait %from : !mma.ring<2 x 32x48xi8>
  %b = mma.acquire %to : !mma.ring<2 x 48x32xi8, #mma.swizzle<32>>
  // expected-error @+1 {{copies from and to rows as wide as the swizzle, 32, 64 or 128 bytes; not so is !mma.slot<read 32x48xi8>}}
  mma.copy_transposed %a to %b : !mma.slot<read 32x48xi8> to !mma.slot<write 48x32xi8, #mma.swizzle<32>>
}

// -----

mma.kernel @unequal() target "sm_90a" warps(8) {
  // expected-error @+1 {{roles @load and @compute share 4 warps, which have one number of registers, but ask for 40 and 232}}
  mma.roles {
    role @load warps(1) registers(40) {}
    role @compute warps(7) registers(232) {}
  }
}

// -----

#acc = #mma.layout<tile(64, 32) warp(4:512) register(4:8, 2:256, 2:1) lane(8:32, 4:2)>

// Memory has n contiguous, and the instruction reads bytes along k.
mma.kernel @across(%start: !mma.fragment<64x32xi32, #acc>) target "sm_90a" warps(4) {
  %ring_a = mma.ring : !mma.ring<2 x 64x32xi8, #mma.swizzle<32>>
  %ring_b = mma.ring : !mma.ring<2 x 32x32xi8, #mma.swizzle<32>>
  %a, %b = mma.wait %ring_a, %ring_b : !mma.ring<2 x 64x32xi8, #mma.swizzle<32>>, !mma.ring<2 x 32x32xi8, #mma.swizzle<32>>
  // expected-error @+1 {{nvidia.wgmma.m64n32k32.i32.si8 reads the rhs with k contiguous; not so is !mma.slot<read 32x32xi8, #mma.swizzle<32>>: mma.copy_transposed makes it so}}
  %p = mma.mma_async %a, %b, %start {intrinsic = "nvidia.wgmma.m64n32k32.i32.si8"} : !mma.slot<read 64x32xi8, #mma.swizzle<32>>, !mma.slot<read 32x32xi8, #mma.swizzle<32>>, !mma.fragment<64x32xi32, #acc>
  %c = mma.await %p : !mma.pending<!mma.fragment<64x32xi32, #acc>> -> !mma.fragment<64x32xi32, #acc>
  mma.release %a, %b : !mma.slot<read 64x32xi8, #mma.swizzle<32>>, !mma.slot<read 32x32xi8, #mma.swizzle<32>>
}
