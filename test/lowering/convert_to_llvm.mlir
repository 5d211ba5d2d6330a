// RUN: crosstile-opt %s --convert-scf-to-cf --convert-to-llvm | filecheck %s

// The whole way down: y += a * x, sixteen at a time, the rest under a mask.

// CHECK-LABEL: llvm.func @axpy(%a: f32, %x: !llvm.ptr, %x_1: i64, %y: !llvm.ptr, %y_1: i64)
// CHECK:         llvm.cond_br %{{.*}}, ^[[BODY:.*]](%{{.*}} : i64), ^[[EXIT:.*]]
// CHECK-NEXT:  ^[[BODY]](%i: i64):
// CHECK:         %mask = llvm.icmp "sgt"
// CHECK:         %u = llvm.intr.masked.load
// CHECK:         %v = llvm.intr.masked.load
// CHECK:         %r = llvm.intr.fma(%s, %u, %v)
// CHECK:         llvm.intr.masked.store %r
// CHECK:         llvm.cond_br %{{.*}}, ^[[BODY]](%{{.*}} : i64), ^[[EXIT]]
// CHECK-NEXT:  ^[[EXIT]]:
// CHECK-NEXT:    llvm.return
func.func @axpy(%a: f32, %x: memref<?xf32>, %y: memref<?xf32>) {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %zero = arith.constant dense<0.0> : vector<16xf32>
  %s = vector.broadcast %a : f32 to vector<16xf32>
  %n = memref.dim %y, %c0 : memref<?xf32>
  scf.for %i = %c0 to %n step %c16 {
    %left = arith.subi %n, %i : index
    %mask = vector.create_mask %left : vector<16xi1>
    %u = vector.maskedload %x[%i], %mask, %zero : memref<?xf32>, vector<16xi1>, vector<16xf32> into vector<16xf32>
    %v = vector.maskedload %y[%i], %mask, %zero : memref<?xf32>, vector<16xi1>, vector<16xf32> into vector<16xf32>
    %r = vector.fma %s, %u, %v : vector<16xf32>
    vector.maskedstore %y[%i], %mask, %r : memref<?xf32>, vector<16xi1>, vector<16xf32>
  }
  func.return
}
