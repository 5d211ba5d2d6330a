// RUN: crosstile-opt %s --split-input-file --mma-to-nvvm | filecheck %s

!tile = !mma.fragment<4x32xf32, #mma.layout<tile(4, 32) register(4:32) lane(32:1)>>
!row = !mma.fragment<4x1xf32, #mma.layout<tile(4, 1) register(4:1) lane(32:0)>>
!places = !mma.fragment<1x32xindex, #mma.layout<tile(1, 32) lane(32:1)>>

// Four registers a lane. Whether a column is masked is one comparison for all of them; a row of one number broadcasts;
// coordinates are the lane's and where they start.
// CHECK-LABEL: llvm.func @elementwise(
// CHECK-COUNT-4: llvm.load
// CHECK:         %[[INSIDE:.*]] = arith.cmpi slt
// CHECK-COUNT-4: arith.select %[[INSIDE]]
// CHECK:         arith.addi %{{.*}}, %{{j_1}} : index
// CHECK-COUNT-4: arith.addf %{{.*}}, %one : f32
// CHECK-COUNT-4: llvm.store
mma.kernel @elementwise(%X: memref<4x32xf32>, %P: memref<32xindex>, %n: index, %j: index) target "sm_80" warps(1) {
  %c0 = arith.constant 0 : index
  %one = arith.constant 1.0 : f32
  %x = mma.load %X[%c0, %c0] : memref<4x32xf32> -> !tile
  %m = mma.mask %x extent [_, %n] else -1.0 : !tile
  %at = mma.iota dim 1 start %j : !places
  %r = mma.splat %one : f32 -> !row
  %y = mma.map (%m, %r : !tile, !row) -> !tile {
  ^bb0(%a: f32, %b: f32):
    %s = arith.addf %a, %b : f32
    mma.yield %s : f32
  }
  mma.store %y, %X[%c0, %c0] : !tile, memref<4x32xf32>
}

// -----

!rows = !mma.fragment<4x32xf32, #mma.layout<tile(4, 32) register(4:32) lane(32:1)>>
!same = !mma.fragment<4x32xf32, #mma.layout<tile(4, 32) register(2:32, 2:64) lane(32:1)>>
!other = !mma.fragment<4x32xf32, #mma.layout<tile(4, 32) register(4:1) lane(4:32, 8:4)>>

// Elements that stay in their lane are renamed. Others go through shared memory; where they stay in their warp, its lanes
// alone have to meet before they are read.
// CHECK-LABEL: llvm.func @moved(
// CHECK:         %[[A:.*]] = llvm.load
// CHECK:         %[[B:.*]] = llvm.load
// CHECK:         %[[C:.*]] = llvm.load
// CHECK:         %[[D:.*]] = llvm.load
// CHECK-NOT:     nvvm.barrier0
// CHECK-DAG:     llvm.store %[[A]], %{{.*}} : f32, !llvm.ptr<3>
// CHECK-DAG:     llvm.store %[[C]], %{{.*}} : f32, !llvm.ptr<3>
// CHECK-DAG:     llvm.store %[[B]], %{{.*}} : f32, !llvm.ptr<3>
// CHECK-DAG:     llvm.store %[[D]], %{{.*}} : f32, !llvm.ptr<3>
// CHECK-NOT:     nvvm.barrier0
// CHECK:         nvvm.bar.warp.sync
// CHECK:         llvm.load %{{.*}} : !llvm.ptr<3>
mma.kernel @moved(%X: memref<4x32xf32>) target "sm_80" warps(1) {
  %c0 = arith.constant 0 : index
  %x = mma.load %X[%c0, %c0] : memref<4x32xf32> -> !rows
  %same = mma.relayout %x : !rows -> !same
  %other = mma.relayout %same : !same -> !other
  mma.store %other, %X[%c0, %c0] : !other, memref<4x32xf32>
}

// -----

!rows = !mma.fragment<4x32xf32, #mma.layout<tile(4, 32) register(4:32) lane(32:1)>>
!columns = !mma.fragment<32x4xf32, #mma.layout<tile(32, 4) register(4:1) lane(32:4)>>

// CHECK-LABEL: llvm.func @transposed(
// CHECK:         llvm.store {{.*}} !llvm.ptr<3>
// CHECK:         nvvm.barrier0
// CHECK:         llvm.load %{{.*}} : !llvm.ptr<3>
mma.kernel @transposed(%X: memref<4x32xf32>, %Y: memref<32x4xf32>) target "sm_80" warps(1) {
  %c0 = arith.constant 0 : index
  %x = mma.load %X[%c0, %c0] : memref<4x32xf32> -> !rows
  %y = mma.transpose %x : !rows -> !columns
  mma.store %y, %Y[%c0, %c0] : !columns, memref<32x4xf32>
}
