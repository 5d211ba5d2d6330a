// RUN: crosstile-opt %s | crosstile-opt | FileCheck %s

// Every operation of the dialect reads what it prints; syntax and names are upstream's.

// CHECK-LABEL: llvm.func @threads
llvm.func @threads(%v: f32, %mask: i32, %distance: i32, %clamp: i32) {
  // CHECK: %{{.*}} = nvvm.read.ptx.sreg.tid.x : i32
  %t = nvvm.read.ptx.sreg.tid.x : i32
  // CHECK: %{{.*}} = nvvm.read.ptx.sreg.ctaid.y : i32
  %b = nvvm.read.ptx.sreg.ctaid.y : i32
  // CHECK: %{{.*}} = nvvm.shfl.sync bfly %mask, %v, %distance, %clamp : f32 -> f32
  %x = nvvm.shfl.sync bfly %mask, %v, %distance, %clamp : f32 -> f32
  // CHECK: %{{.*}} = nvvm.elect.sync -> i1
  %p = nvvm.elect.sync -> i1
  // CHECK: nvvm.setmaxregister increase 232
  nvvm.setmaxregister increase 232
  // CHECK: nvvm.bar.warp.sync %mask : i32
  nvvm.bar.warp.sync %mask : i32
  llvm.return
}

// CHECK-LABEL: llvm.func @barriers
llvm.func @barriers(%b: !llvm.ptr<3>, %n: i32, %p: i1) {
  // CHECK: nvvm.barrier0
  nvvm.barrier0
  // CHECK: nvvm.barrier id = %n number_of_threads = %n
  nvvm.barrier id = %n number_of_threads = %n
  // CHECK: nvvm.mbarrier.init.shared %b, %n, predicate = %p : !llvm.ptr<3>, i32, i1
  nvvm.mbarrier.init.shared %b, %n, predicate = %p : !llvm.ptr<3>, i32, i1
  // CHECK: nvvm.mbarrier.init.shared %b, %n : !llvm.ptr<3>, i32
  nvvm.mbarrier.init.shared %b, %n : !llvm.ptr<3>, i32
  // CHECK: nvvm.fence.mbarrier.init
  nvvm.fence.mbarrier.init
  // CHECK: nvvm.fence.proxy {kind = #nvvm.proxy_kind<async.shared>, space = #nvvm.shared_space<cta>}
  nvvm.fence.proxy {kind = #nvvm.proxy_kind<async.shared>, space = #nvvm.shared_space<cta>}
  // CHECK: %{{.*}} = nvvm.mbarrier.arrive.shared %b : !llvm.ptr<3> -> i64
  %s = nvvm.mbarrier.arrive.shared %b : !llvm.ptr<3> -> i64
  // CHECK: nvvm.mbarrier.arrive.expect_tx.shared %b, %n, predicate = %p : !llvm.ptr<3>, i32, i1
  nvvm.mbarrier.arrive.expect_tx.shared %b, %n, predicate = %p : !llvm.ptr<3>, i32, i1
  // CHECK: nvvm.mbarrier.try_wait.parity.shared %b, %n, %n : !llvm.ptr<3>, i32, i32
  nvvm.mbarrier.try_wait.parity.shared %b, %n, %n : !llvm.ptr<3>, i32, i32
  llvm.return
}

// CHECK-LABEL: llvm.func @clusters
llvm.func @clusters(%b: !llvm.ptr<3>, %map: !llvm.ptr, %n: i32, %mask: i16, %p: i1) {
  // CHECK: nvvm.cluster.arrive.relaxed {aligned}
  nvvm.cluster.arrive.relaxed {aligned}
  // CHECK: nvvm.cluster.wait {aligned}
  nvvm.cluster.wait {aligned}
  // CHECK: nvvm.cluster.arrive
  nvvm.cluster.arrive
  // CHECK: %[[RANK:.*]] = nvvm.read.ptx.sreg.cluster.ctarank : i32
  %rank = nvvm.read.ptx.sreg.cluster.ctarank : i32
  // CHECK: %[[REMOTE:.*]] = nvvm.mapa %b, %[[RANK]] : !llvm.ptr<3> -> !llvm.ptr<7>
  %remote = nvvm.mapa %b, %rank : !llvm.ptr<3> -> !llvm.ptr<7>
  // CHECK: nvvm.mbarrier.arrive %[[REMOTE]] : !llvm.ptr<7>
  nvvm.mbarrier.arrive %remote : !llvm.ptr<7>
  // CHECK: nvvm.cp.async.bulk.tensor.shared.cluster.global %b, %map, %b, box[%n, %n] multicast_mask = %mask predicate = %p : !llvm.ptr<3>, !llvm.ptr
  nvvm.cp.async.bulk.tensor.shared.cluster.global %b, %map, %b, box[%n, %n] multicast_mask = %mask predicate = %p : !llvm.ptr<3>, !llvm.ptr
  llvm.return
}

// CHECK-LABEL: llvm.func @copies
llvm.func @copies(%to: !llvm.ptr<3>, %from: !llvm.ptr<1>, %map: !llvm.ptr, %n: i32, %p: i1) {
  // CHECK: nvvm.cp.async.shared.global %to, %from, 16, cache = cg, %n : !llvm.ptr<3>, !llvm.ptr<1>, i32
  nvvm.cp.async.shared.global %to, %from, 16, cache = cg, %n : !llvm.ptr<3>, !llvm.ptr<1>, i32
  // CHECK: nvvm.cp.async.shared.global %to, %from, 4, cache = ca : !llvm.ptr<3>, !llvm.ptr<1>
  nvvm.cp.async.shared.global %to, %from, 4, cache = ca : !llvm.ptr<3>, !llvm.ptr<1>
  // CHECK: nvvm.cp.async.commit.group
  nvvm.cp.async.commit.group
  // CHECK: nvvm.cp.async.wait.group 2
  nvvm.cp.async.wait.group 2
  // CHECK: nvvm.cp.async.mbarrier.arrive.shared %to {noinc = true} : !llvm.ptr<3>
  nvvm.cp.async.mbarrier.arrive.shared %to {noinc = true} : !llvm.ptr<3>
  // CHECK: nvvm.prefetch.tensormap %map : !llvm.ptr
  nvvm.prefetch.tensormap %map : !llvm.ptr
  // CHECK: nvvm.cp.async.bulk.tensor.shared.cluster.global %to, %map, %to, box[%n, %n] predicate = %p : !llvm.ptr<3>, !llvm.ptr
  nvvm.cp.async.bulk.tensor.shared.cluster.global %to, %map, %to, box[%n, %n] predicate = %p : !llvm.ptr<3>, !llvm.ptr
  // CHECK: nvvm.cp.async.bulk.tensor.global.shared.cta %map, %to, box[%n, %n] predicate = %p : !llvm.ptr, !llvm.ptr<3>
  nvvm.cp.async.bulk.tensor.global.shared.cta %map, %to, box[%n, %n] predicate = %p : !llvm.ptr, !llvm.ptr<3>
  // CHECK: nvvm.cp.async.bulk.commit.group
  nvvm.cp.async.bulk.commit.group
  // CHECK: nvvm.cp.async.bulk.wait_group 1 {read}
  nvvm.cp.async.bulk.wait_group 1 {read}
  // CHECK: nvvm.cp.async.bulk.wait_group 0
  nvvm.cp.async.bulk.wait_group 0
  llvm.return
}

// CHECK-LABEL: llvm.func @products
llvm.func @products(%p: !llvm.ptr<3>, %a: i32, %c: f32, %d: i64, %s: !llvm.struct<(f32, f32, f32, f32)>) {
  // CHECK: nvvm.mma.sync A[%a, %a, %a, %a] B[%a, %a] C[%c, %c, %c, %c] {layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>, multiplicandAPtxType = #nvvm.mma_type<bf16>, multiplicandBPtxType = #nvvm.mma_type<bf16>, shape = #nvvm.shape<m = 16, n = 8, k = 16>} : (i32, i32, f32) -> !llvm.struct<(f32, f32, f32, f32)>
  %0 = nvvm.mma.sync A[%a, %a, %a, %a] B[%a, %a] C[%c, %c, %c, %c] {layoutA = #nvvm.mma_layout<row>, layoutB = #nvvm.mma_layout<col>, multiplicandAPtxType = #nvvm.mma_type<bf16>, multiplicandBPtxType = #nvvm.mma_type<bf16>, shape = #nvvm.shape<m = 16, n = 8, k = 16>} : (i32, i32, f32) -> !llvm.struct<(f32, f32, f32, f32)>
  // CHECK: nvvm.ldmatrix %p {layout = #nvvm.mma_layout<col>, num = 4 : i32} : (!llvm.ptr<3>) -> !llvm.struct<(i32, i32, i32, i32)>
  %1 = nvvm.ldmatrix %p {num = 4 : i32, layout = #nvvm.mma_layout<col>} : (!llvm.ptr<3>) -> !llvm.struct<(i32, i32, i32, i32)>
  // CHECK: nvvm.stmatrix %p, %a, %a {layout = #nvvm.mma_layout<row>} : !llvm.ptr<3>, i32, i32
  nvvm.stmatrix %p, %a, %a {layout = #nvvm.mma_layout<row>} : !llvm.ptr<3>, i32, i32
  // CHECK: nvvm.prmt #nvvm.permute_mode<default> %a, %a, %a : i32
  %word = nvvm.prmt #nvvm.permute_mode<default> %a, %a, %a : i32
  // CHECK: nvvm.wgmma.fence.aligned
  nvvm.wgmma.fence.aligned
  // CHECK: nvvm.wgmma.mma_async %d, %d, <m = 64, n = 8, k = 16>, D[%s, <one>], A[<bf16>, <one>, <row>], B[<bf16>, <one>, <col>] : !llvm.struct<(f32, f32, f32, f32)> -> !llvm.struct<(f32, f32, f32, f32)>
  %2 = nvvm.wgmma.mma_async %d, %d, #nvvm.shape<m = 64, n = 8, k = 16>, D [%s, #nvvm.wgmma_scale_out<one>], A [<bf16>, #nvvm.wgmma_scale_in<one>, <row>], B [<bf16>, #nvvm.wgmma_scale_in<one>, <col>] : !llvm.struct<(f32, f32, f32, f32)> -> !llvm.struct<(f32, f32, f32, f32)>
  // CHECK: nvvm.wgmma.mma_async [%a, %a, %a, %a], %d, <m = 64, n = 8, k = 16>, D[%{{.*}}, <one>]
  %3 = nvvm.wgmma.mma_async [%a, %a, %a, %a], %d, <m = 64, n = 8, k = 16>, D[%2, <one>], A[<bf16>, <one>, <row>], B[<bf16>, <one>, <row>] : !llvm.struct<(f32, f32, f32, f32)> -> !llvm.struct<(f32, f32, f32, f32)>
  // CHECK: nvvm.wgmma.commit.group.sync.aligned
  nvvm.wgmma.commit.group.sync.aligned
  // CHECK: nvvm.wgmma.wait.group.sync.aligned 1
  nvvm.wgmma.wait.group.sync.aligned 1
  llvm.return
}
