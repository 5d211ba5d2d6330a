// RUN: crosstile-opt %s | crosstile-opt | filecheck %s
// RUN: crosstile-opt %s --mlir-print-op-generic | crosstile-opt | filecheck %s

// CHECK-LABEL: func.func @past_the_caches
func.func @past_the_caches(%v : vector<16xf32>, %m : memref<?xf32>, %i : index) {
  // CHECK: vector.store %v, %m[%i] {alignment = 64 : i64, nontemporal = true} : memref<?xf32>, vector<16xf32>
  vector.store %v, %m[%i] {alignment = 64 : i64, nontemporal = true} : memref<?xf32>, vector<16xf32>
  // CHECK: vector.store %v, %m[%i] : memref<?xf32>, vector<16xf32>
  vector.store %v, %m[%i] : memref<?xf32>, vector<16xf32>
  func.return
}
