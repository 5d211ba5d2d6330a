// RUN: crosstile-opt %s --control-flow-sink | filecheck %s

// What one branch alone needs is computed there, with what it is computed from, in the same order.
// CHECK-LABEL: func.func @one_branch
// CHECK-NEXT:    [[SIXTEEN:%\S+]] = arith.constant 16 : index
// CHECK-NEXT:    scf.if %whole {
// CHECK-NEXT:      vector.store %v, %y[%i]
// CHECK-NEXT:    } else {
// CHECK-NEXT:      [[LANES:%\S+]] = arith.minsi %rest, [[SIXTEEN]] : index
// CHECK-NEXT:      [[MASK:%\S+]] = vector.create_mask [[LANES]] : vector<16xi1>
// CHECK-NEXT:      vector.maskedstore %y[%i], [[MASK]], %v
// CHECK-NEXT:    }
// CHECK-NEXT:    return [[SIXTEEN]]
func.func @one_branch(%y : memref<?xf32>, %v : vector<16xf32>, %i : index, %rest : index, %whole : i1) -> index {
  %c16 = arith.constant 16 : index
  %n = arith.minsi %rest, %c16 : index
  %mask = vector.create_mask %n : vector<16xi1>
  scf.if %whole {
    vector.store %v, %y[%i] : memref<?xf32>, vector<16xf32>
  } else {
    vector.maskedstore %y[%i], %mask, %v : memref<?xf32>, vector<16xi1>, vector<16xf32>
  }
  func.return %c16 : index
}

// Not into a loop, which would repeat it, but into a branch around one, and on into a branch in that.
// CHECK-LABEL: func.func @branches_in_branches
// CHECK-NEXT:    [[ZERO:%\S+]] = arith.constant 0 : index
// CHECK-NEXT:    scf.if %a {
// CHECK-NEXT:      scf.if %b {
// CHECK-NEXT:        [[DOUBLE:%\S+]] = arith.addi %n, %n : index
// CHECK-NEXT:        scf.for
// CHECK-NEXT:          memref.store [[ZERO]], %y{{\[}}[[DOUBLE]]]
func.func @branches_in_branches(%y : memref<?xindex>, %n : index, %a : i1, %b : i1) -> index {
  %c0 = arith.constant 0 : index
  %double = arith.addi %n, %n : index
  scf.if %a {
    scf.if %b {
      scf.for %i = %c0 to %n step %n {
        memref.store %c0, %y[%double] : memref<?xindex>
      }
    }
  }
  func.return %c0 : index
}

// What both branches need, or what reads memory that may have changed by then, stays.
// CHECK-LABEL: func.func @stays
// CHECK-NEXT:    [[DOUBLE:%\S+]] = arith.addi %n, %n : index
// CHECK-NEXT:    [[READ:%\S+]] = memref.load
// CHECK-NEXT:    scf.if
func.func @stays(%y : memref<?xindex>, %n : index, %a : i1) {
  %double = arith.addi %n, %n : index
  %read = memref.load %y[%n] : memref<?xindex>
  scf.if %a {
    memref.store %double, %y[%n] : memref<?xindex>
  } else {
    memref.store %double, %y[%read] : memref<?xindex>
  }
  func.return
}
