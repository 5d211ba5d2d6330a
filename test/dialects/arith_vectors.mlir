// RUN: crosstile-opt %s | crosstile-opt | filecheck %s
// RUN: crosstile-opt %s --mlir-print-op-generic | crosstile-opt | filecheck %s

// What xDSL has for scalars only works elementwise, as upstream.

// CHECK-LABEL: func.func @elementwise
func.func @elementwise(%x: vector<4xf32>, %i: vector<4xi32>, %c: i1, %n: vector<4xindex>) {
  // CHECK: %m = arith.cmpf olt, %x, %x : vector<4xf32>
  %m = arith.cmpf olt, %x, %x : vector<4xf32>
  // CHECK: arith.cmpi slt, %i, %i : vector<4xi32>
  %0 = arith.cmpi slt, %i, %i : vector<4xi32>
  // CHECK: arith.select %m, %x, %x : vector<4xi1>, vector<4xf32>
  %1 = arith.select %m, %x, %x : vector<4xi1>, vector<4xf32>
  // CHECK: arith.select %c, %x, %x : vector<4xf32>
  %2 = arith.select %c, %x, %x : vector<4xf32>
  // CHECK: arith.sitofp %i : vector<4xi32> to vector<4xf32>
  %3 = arith.sitofp %i : vector<4xi32> to vector<4xf32>
  // CHECK: arith.fptoui %x : vector<4xf32> to vector<4xi8>
  %4 = arith.fptoui %x : vector<4xf32> to vector<4xi8>
  // CHECK: arith.trunci %i : vector<4xi32> to vector<4xi1>
  %5 = arith.trunci %i : vector<4xi32> to vector<4xi1>
  // CHECK: arith.extui %m : vector<4xi1> to vector<4xi64>
  %6 = arith.extui %m : vector<4xi1> to vector<4xi64>
  // CHECK: arith.index_cast %n : vector<4xindex> to vector<4xi32>
  %7 = arith.index_cast %n : vector<4xindex> to vector<4xi32>
  // CHECK: arith.index_castui %i : vector<4xi32> to vector<4xindex>
  %8 = arith.index_castui %i : vector<4xi32> to vector<4xindex>
  // CHECK: arith.negf %x fastmath<nnan> : vector<4xf32>
  %9 = arith.negf %x fastmath<nnan> : vector<4xf32>
  func.return
}
