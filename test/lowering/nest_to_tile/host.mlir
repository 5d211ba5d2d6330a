// RUN: crosstile-opt %s --nest-to-tile --split-input-file | filecheck %s

// Guards choose between variants of one stage; the second kernel reads a temporary whose size comes from an input.

// CHECK-LABEL: func.func @main(%x: memref<?x8xf32>, %{{.*}}: memref<?x8xf32>) attributes
// CHECK:         %[[N:.*]] = memref.dim %x
// CHECK:         %[[T:.*]] = memref.alloc(%[[N]]) : memref<?x8xf32>
// CHECK:         %[[FEW:.*]] = arith.cmpi sle, %[[N]]
// CHECK:         scf.if %[[FEW]] {
// CHECK-NEXT:      tile.launch @negate(%x, %[[T]] : {{.*}}) {stage = 0
// CHECK-NEXT:    } else {
// CHECK-NEXT:      tile.launch @negate_1(%x, %[[T]] : {{.*}}) {stage = 0
// CHECK:         tile.launch @square(%[[T]], %{{.*}}) {stage = 1
func.func @main(%x : tensor<?x8xf32>) -> tensor<?x8xf32> {
  %y = nest.kernel @negate (%a = %x : tensor<?x8xf32>) -> (tensor<?x8xf32>)
      schedules [m <= 4 : #nest.schedule<loops = [m : 4, n : 8], lane = n>,
                 #nest.schedule<loops = [m : 1, n : 8], parallel = m, lane = n>] {
    %c = nest.generic [m : parallel, n : parallel] ins(%a (m, n) : tensor<?x8xf32>) -> (m, n) : tensor<?x8xf32> {
    ^bb0(%p : f32):
      %t = arith.negf %p : f32
      nest.yield %t : f32
    }
    nest.yield %c : tensor<?x8xf32>
  }
  %z = nest.kernel @square (%a = %y : tensor<?x8xf32>) -> (tensor<?x8xf32>)
      schedules [#nest.schedule<loops = [m : 1, n : 8], parallel = m, lane = n>] {
    %c = nest.generic [m : parallel, n : parallel] ins(%a (m, n) : tensor<?x8xf32>) -> (m, n) : tensor<?x8xf32> {
    ^bb0(%p : f32):
      %t = arith.mulf %p, %p : f32
      nest.yield %t : f32
    }
    nest.yield %c : tensor<?x8xf32>
  }
  func.return %z : tensor<?x8xf32>
}

// -----

// An argument that is returned is copied.

// CHECK:       func.func @copied(%x: memref<4xf32>, %[[OUT:.*]]: memref<4xf32>)
// CHECK-NEXT:    "memref.copy"(%x, %[[OUT]])
func.func @copied(%x : tensor<4xf32>) -> tensor<4xf32> {
  func.return %x : tensor<4xf32>
}
