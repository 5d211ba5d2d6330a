// RUN: crosstile-opt %s --split-input-file --verify-diagnostics

func.func @too_many() {
  // expected-error @+1 {{'vector.constant_mask' of vector<8xi1> cannot set 9 lanes of 8}}
  %m = vector.constant_mask [9] : vector<8xi1>
  func.return
}

// -----

func.func @rank() {
  // expected-error @+1 {{takes a size per dimension, found 1}}
  %m = vector.constant_mask [2] : vector<4x4xi1>
  func.return
}

// -----

func.func @element() {
  // expected-error @+1 {{'vector.constant_mask' makes a vector of i1, not vector<4xi8>}}
  %m = vector.constant_mask [2] : vector<4xi8>
  func.return
}

// -----

func.func @alignment(%v : vector<16xf32>, %m : memref<?xf32>, %i : index) {
  // expected-error @+1 {{'vector.store' is aligned to a power of two of bytes, not to 48}}
  vector.store %v, %m[%i] {alignment = 48 : i64} : memref<?xf32>, vector<16xf32>
  func.return
}
