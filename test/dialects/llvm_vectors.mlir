// RUN: crosstile-opt %s | crosstile-opt | filecheck %s
// RUN: crosstile-opt %s --mlir-print-op-generic | crosstile-opt | filecheck %s

// Upstream's operations on vectors that xDSL lacks.

// CHECK-LABEL: llvm.func @vectors
llvm.func @vectors(%x: vector<16xf32>, %i: vector<16xi32>, %p: !llvm.ptr, %n: i32) {
  // CHECK: %m = llvm.fcmp "olt" %x, %x : vector<16xf32>
  %m = llvm.fcmp "olt" %x, %x : vector<16xf32>
  // CHECK: llvm.select %m, %x, %x : vector<16xi1>, vector<16xf32>
  %0 = llvm.select %m, %x, %x : vector<16xi1>, vector<16xf32>
  // CHECK: llvm.extractelement %x[%n : i32] : vector<16xf32>
  %1 = llvm.extractelement %x[%n : i32] : vector<16xf32>
  // CHECK: llvm.intr.masked.load %p, %m, %x {alignment = 4 : i32} : (!llvm.ptr, vector<16xi1>, vector<16xf32>) -> vector<16xf32>
  %2 = llvm.intr.masked.load %p, %m, %x {alignment = 4 : i32} : (!llvm.ptr, vector<16xi1>, vector<16xf32>) -> vector<16xf32>
  // CHECK: llvm.intr.masked.store %i, %p, %m {alignment = 4 : i32} : vector<16xi32>, vector<16xi1> into !llvm.ptr
  llvm.intr.masked.store %i, %p, %m {alignment = 4 : i32} : vector<16xi32>, vector<16xi1> into !llvm.ptr
  // CHECK: llvm.mlir.poison : vector<16xf32>
  %3 = llvm.mlir.poison : vector<16xf32>
  // CHECK: llvm.intr.maximum(%x, %x) {fastmathFlags = #llvm.fastmath<nsz>} : (vector<16xf32>, vector<16xf32>) -> vector<16xf32>
  %4 = llvm.intr.maximum(%x, %x) {fastmathFlags = #llvm.fastmath<nsz>} : (vector<16xf32>, vector<16xf32>) -> vector<16xf32>
  // CHECK: llvm.intr.smax(%i, %i) : (vector<16xi32>, vector<16xi32>) -> vector<16xi32>
  %5 = llvm.intr.smax(%i, %i) : (vector<16xi32>, vector<16xi32>) -> vector<16xi32>
  // CHECK: llvm.uitofp %i : vector<16xi32> to vector<16xf32>
  %6 = llvm.uitofp %i : vector<16xi32> to vector<16xf32>
  // CHECK: llvm.intr.roundeven(%x) : (vector<16xf32>) -> vector<16xf32>
  %7 = llvm.intr.roundeven(%x) : (vector<16xf32>) -> vector<16xf32>
  // CHECK: llvm.freeze %p : !llvm.ptr
  %8 = llvm.freeze %p : !llvm.ptr
  llvm.return
}
