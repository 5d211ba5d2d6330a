// RUN: crosstile-opt %s --split-input-file --mma-to-nvvm | filecheck %s

!row = !mma.fragment<1x64xf32, #mma.layout<tile(1, 64) warp(2:32) lane(32:1)>>

// The last dimension of a grid is x. A tile begins at its number times the step, and ends at the bound. What a parameter
// stands for is written down for the host: pointers, sizes, values. %n is the size of a dimension.
// CHECK-LABEL: llvm.func @grid(%A: !llvm.ptr<1>, %A_1: i32, %A_2: i32, %m: i32)
// CHECK-SAME:    crosstile.arguments = {{\[}}[0 : i64, "pointer", 0 : i64], [0 : i64, "size", 0 : i64], [0 : i64, "size", 1 : i64], [1 : i64, "value", 0 : i64]]
// CHECK-SAME:    crosstile.grid = [{from = 0 : i64, to = [0 : i64, 1 : i64], step = 64 : i64}, {from = 0 : i64, to = [1 : i64, -1 : i64], step = 1 : i64}]
// CHECK:         %[[N:.*]] = arith.index_cast %A_2
// CHECK-DAG:     %[[X:.*]] = nvvm.read.ptx.sreg.ctaid.x
// CHECK-DAG:     nvvm.read.ptx.sreg.ctaid.y
// CHECK:         %[[J:.*]] = arith.muli %{{.*}}, %c64
// CHECK:         %[[LEFT:.*]] = arith.subi %[[N]], %[[J]]
// CHECK:         arith.minsi %[[LEFT]], %c64
// CHECK:         llvm.return
mma.kernel @grid(%A: memref<?x?xf32>, %m: index) target "sm_80" warps(2) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %n = memref.dim %A, %c1 : memref<?x?xf32>
  %zero = arith.constant 0.0 : f32
  mma.parallel (%i, %j), (%mc, %nc) = (%c0, %c0) to (%m, %n) step (1, 64) {
    %x = mma.splat %zero : f32 -> !row
    mma.store %x, %A[%i, %j] extent [%mc, %nc] : !row, memref<?x?xf32>
  }
}

// -----

!one = !mma.fragment<1xf32, #mma.layout<tile(1) lane(32:0)>>

// A range is shared out in whole grains among the blocks that are launched. Of a value that all lanes hold the first
// one's is stored; an element that all need is loaded by all.
// CHECK-LABEL: llvm.func @range(
// CHECK-SAME:    crosstile.grid = []
// CHECK-DAG:     nvvm.read.ptx.sreg.ctaid.x
// CHECK-DAG:     nvvm.read.ptx.sreg.nctaid.x
// CHECK:         %[[SHARE:.*]] = arith.divui
// CHECK:         %[[BEGIN:.*]] = arith.minsi
// CHECK:         %[[END:.*]] = arith.minsi
// CHECK:         scf.for %{{.*}} = %[[BEGIN]] to %[[END]]
// CHECK:           %[[ELEMENT:.*]] = llvm.load
// CHECK:           %[[FIRST:.*]] = arith.cmpi eq
// CHECK:           scf.if %[[FIRST]] {
// CHECK-NEXT:        llvm.store %[[ELEMENT]]
mma.kernel @range(%A: memref<?xf32>, %B: memref<?xf32>) target "sm_80" warps(1) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %n = memref.dim %A, %c0 : memref<?xf32>
  mma.parallel %b to %e = %c0 to %n grain 8 {
    scf.for %i = %b to %e step %c1 {
      %x = memref.load %A[%i] : memref<?xf32>
      %f = mma.splat %x : f32 -> !one
      mma.store %f, %B[%i] : !one, memref<?xf32>
    }
  }
}

// -----

!line = !mma.fragment<128xf32, #mma.layout<tile(128) warp(4:32) lane(32:1)>>

// Roles are branches by the thread's number, with registers and barriers of their own; threads of a role count from its
// first one.
// CHECK-LABEL: llvm.func @roles(
// CHECK:         %[[ID:.*]] = nvvm.read.ptx.sreg.tid.x
// CHECK-NEXT:    %[[THREAD:.*]] = arith.index_cast %[[ID]]
// CHECK:         %[[BELOW:.*]] = arith.cmpi slt, %[[THREAD]], %c128
// CHECK:         scf.if %[[BELOW]] {
// CHECK-NEXT:      nvvm.setmaxregister decrease 40
// CHECK-NEXT:      nvvm.barrier id = %{{.*}} number_of_threads = %{{.*}}
// CHECK:         %[[ABOVE:.*]] = arith.cmpi sge, %[[THREAD]], %c128
// CHECK:         scf.if %[[ABOVE]] {
// CHECK-NEXT:      nvvm.setmaxregister
// CHECK-NEXT:      arith.subi %[[THREAD]], %c128
mma.kernel @roles(%n: index, %A: memref<?xf32>) target "sm_90a" warps(8) {
  %c0 = arith.constant 0 : index
  %x = arith.constant 0.0 : f32
  mma.roles {
    role @first warps(4) registers(40) {
      mma.barrier
    }
    role @second warps(4) registers(232) {
      %f = mma.splat %x : f32 -> !line
      mma.store %f, %A[%c0] extent [%n] : !line, memref<?xf32>
    }
  }
}

// -----

!ring = !mma.ring<4 x 32x32xbf16, #mma.swizzle<64>, groups>
!write = !mma.slot<write 32x32xbf16, #mma.swizzle<64>>

// A branch yields where the ring stands behind it. A ceiling of a size is a shift, of another number what upstream has.
// CHECK-LABEL: llvm.func @branch(
// CHECK:         arith.ceildivsi
// CHECK:         %[[STANDS:.*]] = llvm.ptrtoint
// CHECK:         scf.if %{{.*}} -> (index) {
// CHECK:           nvvm.cp.async.shared.global
// CHECK:           nvvm.cp.async.commit.group
// CHECK:           scf.yield %{{.*}} : index
// CHECK:         } else {
// CHECK-NEXT:      nvvm.cp.async.commit.group
// CHECK-NEXT:      scf.yield %{{.*}} : index
mma.kernel @branch(%n: index, %A: memref<32x32xbf16>) target "sm_80" warps(4) {
  %c0 = arith.constant 0 : index
  %c32 = arith.constant 32 : index
  %up = arith.ceildivsi %n, %c32 : index
  %some = arith.cmpi slt, %c0, %up : index
  %ring = mma.ring : !ring
  scf.if %some {
    %slot = mma.acquire %ring : !ring
    mma.copy_async %A[%c0, %c0] to %slot : memref<32x32xbf16> to !write
    mma.commit %slot : !write
  } else {
    mma.commit empty
  }
}
