// RUN: crosstile-opt %s | crosstile-opt | filecheck %s
// RUN: crosstile-opt %s --mlir-print-op-generic | crosstile-opt | filecheck %s

// CHECK-LABEL: func.func @prefetch
func.func @prefetch(%m : memref<?x64xf32>, %i : index) {
  // CHECK: memref.prefetch %m[%i, %i], read, locality<3>, data : memref<?x64xf32>
  memref.prefetch %m[%i, %i], read, locality<3>, data : memref<?x64xf32>
  // CHECK: memref.prefetch %m[%i, %i], write, locality<0>, instr : memref<?x64xf32>
  memref.prefetch %m[%i, %i], write, locality<0>, instr : memref<?x64xf32>
  func.return
}
