// RUN: crosstile-opt %s --split-input-file --verify-diagnostics

func.func @rank(%m : memref<?x64xf32>, %i : index) {
  // expected-error @+1 {{'memref.prefetch' of memref<?x64xf32> takes 2 indices, not 1}}
  memref.prefetch %m[%i], read, locality<3>, data : memref<?x64xf32>
  func.return
}

// -----

func.func @locality(%m : memref<?xf32>, %i : index) {
  // expected-error @+1 {{'memref.prefetch' has a locality from 0 to 3, not 4}}
  memref.prefetch %m[%i], read, locality<4>, data : memref<?xf32>
  func.return
}
