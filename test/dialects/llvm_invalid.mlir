// RUN: crosstile-opt %s --split-input-file --verify-diagnostics

llvm.func @mask(%p: !llvm.ptr, %m: vector<8xi1>, %x: vector<16xf32>) {
  // expected-error @+1 {{takes a mask of type vector<16xi1>, not vector<8xi1>}}
  %0 = llvm.intr.masked.load %p, %m, %x {alignment = 4 : i32} : (!llvm.ptr, vector<8xi1>, vector<16xf32>) -> vector<16xf32>
  llvm.return
}

// -----

llvm.func @select(%c: vector<8xi1>, %x: f32) {
  // expected-error @+1 {{'llvm.select' of f32 takes a condition of type i1 or i1, not vector<8xi1>}}
  %0 = llvm.select %c, %x, %x : vector<8xi1>, f32
  llvm.return
}
