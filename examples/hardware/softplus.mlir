// log(1 + e^x) of f32 at hardware level, on vectors; expand-math turns both functions into arithmetic.

func.func @softplus(%x: memref<?xf32>, %y: memref<?xf32>) attributes {crosstile.entry} {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %one = arith.constant dense<1.0> : vector<16xf32>
  %n = memref.dim %y, %c0 : memref<?xf32>
  scf.for %i = %c0 to %n step %c16 {
    %v = vector.load %x[%i] : memref<?xf32>, vector<16xf32>
    %e = math.exp %v : vector<16xf32>
    %s = arith.addf %e, %one : vector<16xf32>
    %l = math.log %s : vector<16xf32>
    vector.store %l, %y[%i] : memref<?xf32>, vector<16xf32>
  }
  func.return
}
