// RUN: crosstile-opt %s --convert-to-llvm | filecheck %s

// Row-major: strides are products of the sizes to the right; a static one is a constant.

// CHECK-LABEL: llvm.func @load(%m: !llvm.ptr, %m_1: i64, %m_2: i64, %i: i64, %j: i64, %k: i64) -> f32
// CHECK-NEXT:    %[[C64:.*]] = llvm.mlir.constant(64) : i64
// CHECK-NEXT:    %[[STRIDE:.*]] = llvm.mul %[[C64]], %m_2
// CHECK-NEXT:    %[[I:.*]] = llvm.mul %i, %[[STRIDE]]
// CHECK:         %[[J:.*]] = llvm.mul %j, %
// CHECK-NEXT:    %[[IJ:.*]] = llvm.add %[[I]], %[[J]]
// CHECK-NEXT:    %[[IJK:.*]] = llvm.add %[[IJ]], %k
// CHECK-NEXT:    %[[P:.*]] = llvm.getelementptr %m[%[[IJK]]] : (!llvm.ptr, i64) -> !llvm.ptr, f32
// CHECK-NEXT:    llvm.load %[[P]] {alignment = 4 : i64} : !llvm.ptr -> f32
func.func @load(%m: memref<?x?x64xf32>, %i: index, %j: index, %k: index) -> f32 {
  %x = memref.load %m[%i, %j, %k] : memref<?x?x64xf32>
  func.return %x : f32
}

// Constant indices fold into one constant offset, and an offset of zero into nothing.

// CHECK-LABEL: llvm.func @constant_indices
// CHECK:         %[[P:.*]] = llvm.getelementptr %m[29] : (!llvm.ptr) -> !llvm.ptr, f32
// CHECK-NEXT:    llvm.store %v, %[[P]]
// CHECK-NEXT:    llvm.store %v, %m {
func.func @constant_indices(%m: memref<4x8xf32>, %v: f32) {
  %c0 = arith.constant 0 : index
  %c3 = arith.constant 3 : index
  %c5 = arith.constant 5 : index
  memref.store %v, %m[%c3, %c5] : memref<4x8xf32>
  memref.store %v, %m[%c0, %c0] : memref<4x8xf32>
  func.return
}

// A dynamic stride is a value of its own; the offset of the type is in the pointer already.

// CHECK-LABEL: llvm.func @strided(%m: !llvm.ptr, %m_1: i64, %m_2: i64, %m_3: i64, %i: i64, %j: i64) -> f64
// CHECK-NEXT:    %[[I:.*]] = llvm.mul %i, %m_3
// CHECK-NEXT:    %[[C2:.*]] = llvm.mlir.constant(2)
// CHECK-NEXT:    %[[J:.*]] = llvm.mul %j, %[[C2]]
// CHECK-NEXT:    llvm.add %[[I]], %[[J]]
func.func @strided(%m: memref<?x?xf64, strided<[?, 2], offset: ?>>, %i: index, %j: index) -> f64 {
  %x = memref.load %m[%i, %j] : memref<?x?xf64, strided<[?, 2], offset: ?>>
  func.return %x : f64
}

// A bool takes a byte in memory.

// CHECK-LABEL: llvm.func @bools
// CHECK:         %[[BYTE:.*]] = llvm.load %{{.*}} -> i8
// CHECK:         llvm.icmp "ne" %[[BYTE]]
// CHECK:         %[[WIDE:.*]] = llvm.zext %x : i1 to i8
// CHECK-NEXT:    llvm.store %[[WIDE]]
func.func @bools(%m: memref<?xi1>, %i: index) {
  %x = memref.load %m[%i] : memref<?xi1>
  memref.store %x, %m[%i] : memref<?xi1>
  func.return
}

// CHECK-LABEL: llvm.func @subview
// CHECK:         %[[ROW:.*]] = llvm.mul %i, %
// CHECK:         %[[OFFSET:.*]] = llvm.add %[[ROW]], %
// CHECK-NEXT:    %[[AT:.*]] = llvm.getelementptr %m[%[[OFFSET]]]
// CHECK-NEXT:    %v = llvm.freeze %[[AT]]
// CHECK:         llvm.return %n
func.func @subview(%m: memref<?x32xf32>, %i: index, %n: index) -> index {
  %v = memref.subview %m[%i, 8] [%n, 16] [2, 1] : memref<?x32xf32> to memref<?x16xf32, strided<[64, 1], offset: ?>>
  %c0 = arith.constant 0 : index
  %d = memref.dim %v, %c0 : memref<?x16xf32, strided<[64, 1], offset: ?>>
  func.return %d : index
}

// CHECK-LABEL: llvm.func @drop_a_dimension
// CHECK-NEXT:    %[[OFFSET:.*]] = llvm.mul %i, %m_1
// CHECK-NEXT:    %[[AT:.*]] = llvm.getelementptr %m[%[[OFFSET]]]
// CHECK-NEXT:    %v = llvm.freeze %[[AT]]
// CHECK:         llvm.insertvalue %v, %{{.*}}[0]
// CHECK-NEXT:    llvm.insertvalue %n, %{{.*}}[1]
func.func @drop_a_dimension(%m: memref<4x?xf32>, %i: index, %n: index) -> memref<?xf32, strided<[1], offset: ?>> {
  %v = memref.subview %m[%i, 0] [1, %n] [1, 1] : memref<4x?xf32> to memref<?xf32, strided<[1], offset: ?>>
  func.return %v : memref<?xf32, strided<[1], offset: ?>>
}

// CHECK-LABEL: llvm.func @arena
// CHECK-NEXT:    %v = llvm.getelementptr %arena[%offset] : (!llvm.ptr, i64) -> !llvm.ptr, i8
// CHECK:         llvm.getelementptr %v[%{{.*}}] : (!llvm.ptr, i64) -> !llvm.ptr, f32
func.func @arena(%arena: memref<?xi8>, %offset: index, %n: index, %i: index, %j: index) -> f32 {
  %v = memref.view %arena[%offset][%n] : memref<?xi8> to memref<?x16xf32>
  %x = memref.load %v[%i, %j] : memref<?x16xf32>
  func.return %x : f32
}

// CHECK-LABEL: llvm.func @reshape
// CHECK-NOT:     llvm.mul
// CHECK:         llvm.insertvalue %m,
// CHECK-NEXT:    llvm.insertvalue %m_1,
func.func @reshape(%m: memref<?x4x8xf32>) -> memref<?x32xf32> {
  %v = memref.collapse_shape %m [[0], [1, 2]] : memref<?x4x8xf32> into memref<?x32xf32>
  func.return %v : memref<?x32xf32>
}

// CHECK-LABEL: llvm.func @copy
// CHECK:         llvm.call_intrinsic "llvm.memcpy.p0.p0.i64"(%b, %a, %{{.*}}, %{{.*}})
func.func @copy(%a: memref<?x4xf32>, %b: memref<?x4xf32>) {
  "memref.copy"(%a, %b) : (memref<?x4xf32>, memref<?x4xf32>) -> ()
  func.return
}

// CHECK:       llvm.mlir.global internal constant @table(dense<[[1, 2], [3, 4]]> : tensor<2x2xi32>)
// CHECK-LABEL: llvm.func @constant_table
// CHECK-NEXT:    %t = llvm.mlir.addressof @table : !llvm.ptr
"memref.global"() {sym_name = "table", sym_visibility = "private", type = memref<2x2xi32>, initial_value = dense<[[1, 2], [3, 4]]> : tensor<2x2xi32>, constant} : () -> ()

func.func @constant_table(%i: index, %j: index) -> i32 {
  %t = memref.get_global @table : memref<2x2xi32>
  %x = memref.load %t[%i, %j] : memref<2x2xi32>
  func.return %x : i32
}

// CHECK-LABEL: llvm.func @stack
// CHECK:         %m = llvm.alloca %{{.*}} x f32 {alignment = 64 : i64}
func.func @stack(%v: f32, %i: index) -> f32 {
  %m = memref.alloca() : memref<16xf32>
  memref.store %v, %m[%i] : memref<16xf32>
  %x = memref.load %m[%i] : memref<16xf32>
  func.return %x : f32
}

// A prefetch is LLVM's intrinsic: read, how near, data.

// CHECK-LABEL: llvm.func @prefetch
// CHECK:         %[[P:.*]] = llvm.getelementptr %m[%i]
// CHECK:         %[[READ:.*]] = llvm.mlir.constant(0 : i32)
// CHECK:         %[[NEAR:.*]] = llvm.mlir.constant(2 : i32)
// CHECK:         %[[DATA:.*]] = llvm.mlir.constant(1 : i32)
// CHECK:         llvm.call_intrinsic "llvm.prefetch.p0"(%[[P]], %[[READ]], %[[NEAR]], %[[DATA]])
func.func @prefetch(%m: memref<?xf32>, %i: index) {
  memref.prefetch %m[%i], read, locality<2>, data : memref<?xf32>
  func.return
}
