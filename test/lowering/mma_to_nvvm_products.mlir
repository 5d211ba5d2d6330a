// RUN: crosstile-opt %s --split-input-file --mma-to-nvvm | filecheck %s

!left = !mma.buffer<64x32xbf16, #mma.swizzle<64>>
!stored = !mma.buffer<8x32xbf16, #mma.swizzle<64>>
!right = !mma.buffer<32x8xbf16, affine_map<(k, n) -> (n, k)>, #mma.swizzle<64>>
!acc = !mma.fragment<64x8xf32, #mma.layout<tile(64, 8) warp(4:128) register(2:64, 2:1) lane(8:8, 4:2)>>

// A descriptor's lower word is the address in units of 16 bytes beside a constant, so that a step of k is one addition
// to what is computed once. A view of scratch is the same scratch. Products stand between a fence and a commit; awaited,
// they are registers.
// CHECK-LABEL: llvm.func @in_flight(
// CHECK:         %[[A:.*]] = arith.index_cast %{{.*}} : i32 to index
// CHECK:         %[[B:.*]] = arith.addi %[[A]], %c4096
// CHECK:         nvvm.wgmma.fence.aligned
// CHECK:         %[[LEFT:.*]] = arith.shrsi %[[A]], %c4
// CHECK:         arith.addi %[[LEFT]], %{{.*}} : index
// CHECK:         arith.ori
// CHECK:         %[[RIGHT:.*]] = arith.shrsi %[[B]], %c4
// CHECK:         %[[ONE:.*]] = nvvm.wgmma.mma_async %{{.*}}, %{{.*}}, <m = 64, n = 8, k = 16>, D[%{{.*}}, <one>], A[<bf16>, <one>, <row>], B[<bf16>, <one>, <col>]
// CHECK-NOT:     arith.shrsi
// CHECK:         arith.addi %[[LEFT]]
// CHECK:         arith.addi %[[RIGHT]]
// CHECK:         %[[TWO:.*]] = nvvm.wgmma.mma_async %{{.*}}, %{{.*}}, <m = 64, n = 8, k = 16>, D[%[[ONE]], <one>]
// CHECK:         nvvm.wgmma.commit.group.sync.aligned
// CHECK-NEXT:    nvvm.wgmma.wait.group.sync.aligned 0
// CHECK-NEXT:    llvm.extractvalue %[[TWO]][0]
mma.kernel @in_flight(%C: memref<64x8xf32>) target "sm_90a" warps(4) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %a = mma.alloc : !left
  %b = mma.alloc : !stored
  %turned = mma.view %b by affine_map<(k, n) -> (n, k)> : !stored -> !right
  %start = mma.splat %zero : f32 -> !acc
  %p = mma.mma_async %a, %turned, %start {intrinsic = "nvidia.wgmma.m64n8k16.f32.bf16"} : !left, !right, !acc
  %c = mma.await %p : !mma.pending<!acc> -> !acc
  mma.store %c, %C[%c0, %c0] : !acc, memref<64x8xf32>
}

// -----

!lane = !mma.fragment<1x32xf32, #mma.layout<tile(1, 32) lane(32:1)>>
!same = !mma.fragment<1x1xf32, #mma.layout<tile(1, 1) lane(32:0)>>

// Where every lane multiplies by itself, a product is an fma.
// CHECK-LABEL: llvm.func @scalars(
// CHECK:         math.fma %{{.*}}, %{{.*}}, %{{.*}} : f32
mma.kernel @scalars(%A: memref<1x1xf32>, %B: memref<1x32xf32>, %C: memref<1x32xf32>) target "sm_80" warps(1) {
  %c0 = arith.constant 0 : index
  %a = mma.load %A[%c0, %c0] : memref<1x1xf32> -> !same
  %b = mma.load %B[%c0, %c0] : memref<1x32xf32> -> !lane
  %c = mma.load %C[%c0, %c0] : memref<1x32xf32> -> !lane
  %d = mma.mma %a, %b, %c {intrinsic = "nvidia.fma.1x1x1.f32"} : !same, !lane, !lane
  mma.store %d, %C[%c0, %c0] : !lane, memref<1x32xf32>
}

// -----

!lhs = !mma.fragment<16x8xf32, #mma.layout<tile(16, 8) register(2:4, 2:64) lane(8:8, 4:1)>>
!rhs = !mma.fragment<8x8xf32, #mma.layout<tile(8, 8) register(2:32) lane(8:1, 4:8)>>
!sum = !mma.fragment<16x8xf32, #mma.layout<tile(16, 8) register(2:64, 2:1) lane(8:8, 4:2)>>

// Factors of tf32 are rounded: one that products alone read, where it is loaded; one that is stored too, as it is multiplied.
// CHECK-LABEL: llvm.func @rounded(
// CHECK:         llvm.load
// CHECK:         %[[BITS:.*]] = llvm.bitcast %[[X:.*]] : f32 to i32
// CHECK:         %[[POWER:.*]] = arith.andi %[[BITS]], %{{.*}} : i32
// CHECK:         %[[FLOAT:.*]] = llvm.bitcast %[[POWER]] : i32 to f32
// CHECK:         math.fma %[[FLOAT]], %{{.*}}, %[[X]] : f32
// CHECK:         llvm.store
// CHECK-COUNT-2: math.fma
// CHECK-NOT:     math.fma
// CHECK:         nvvm.mma.sync
mma.kernel @rounded(%A: memref<16x8xf32>, %B: memref<8x8xf32>, %C: memref<16x8xf32>) target "sm_80" warps(1) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %start = mma.splat %zero : f32 -> !sum
  %a = mma.load %A[%c0, %c0] : memref<16x8xf32> -> !lhs
  %b = mma.load %B[%c0, %c0] : memref<8x8xf32> -> !rhs
  mma.store %b, %B[%c0, %c0] : !rhs, memref<8x8xf32>
  %c = mma.mma %a, %b, %start {intrinsic = "nvidia.mma.m16n8k8.f32.tf32"} : !lhs, !rhs, !sum
  mma.store %c, %C[%c0, %c0] : !sum, memref<16x8xf32>
}
