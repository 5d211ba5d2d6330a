// y += a * x at hardware level: sixteen lanes at a time, the last ones under a mask.

func.func @axpy(%a: memref<f32>, %x: memref<?xf32>, %y: memref<?xf32>) attributes {crosstile.entry} {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %zero = arith.constant dense<0.0> : vector<16xf32>
  %scale = memref.load %a[] : memref<f32>
  %s = vector.broadcast %scale : f32 to vector<16xf32>
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
