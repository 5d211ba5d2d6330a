// RUN: crosstile-opt %s | crosstile-opt | filecheck %s
// RUN: crosstile-opt %s --mlir-print-op-generic | crosstile-opt | filecheck %s

// CHECK-LABEL: func.func @mask
func.func @mask() -> vector<8xi1> {
  // CHECK: vector.constant_mask [3] : vector<8xi1>
  %m = vector.constant_mask [3] : vector<8xi1>
  // CHECK: vector.constant_mask [2, 4] : vector<4x4xi1>
  %n = vector.constant_mask [2, 4] : vector<4x4xi1>
  func.return %m : vector<8xi1>
}
