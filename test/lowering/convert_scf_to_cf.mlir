// RUN: crosstile-opt %s --convert-scf-to-cf | filecheck %s

// A loop is guarded against zero trips and tested at its end; iteration arguments become block arguments.

// CHECK-LABEL: func.func @sum
// CHECK:         %[[ENTER:.*]] = arith.cmpi slt, %c0, %n : index
// CHECK-NEXT:    cf.cond_br %[[ENTER]], ^[[BODY:.*]](%c0, %zero : index, f32), ^[[EXIT:.*]](%zero : f32)
// CHECK-NEXT:  ^[[BODY]](%i: index, %acc: f32):
// CHECK-NEXT:    memref.load
// CHECK-NEXT:    %next = arith.addf %acc
// CHECK-NEXT:    %[[I:.*]] = arith.addi %i, %c1 : index
// CHECK-NEXT:    %[[AGAIN:.*]] = arith.cmpi slt, %[[I]], %n : index
// CHECK-NEXT:    cf.cond_br %[[AGAIN]], ^[[BODY]](%[[I]], %next : index, f32), ^[[EXIT]](%next : f32)
// CHECK-NEXT:  ^[[EXIT]](%sum: f32):
// CHECK-NEXT:    func.return %sum
func.func @sum(%x: memref<?xf32>, %n: index) -> f32 {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %sum = scf.for %i = %c0 to %n step %c1 iter_args(%acc = %zero) -> (f32) {
    %v = memref.load %x[%i] : memref<?xf32>
    %next = arith.addf %acc, %v : f32
    scf.yield %next : f32
  }
  func.return %sum : f32
}

// Constant bounds show that there is a trip: no guard.

// CHECK-LABEL: func.func @constant_bounds
// CHECK-NOT:     cf.cond_br
// CHECK:         cf.br ^[[BODY:.*]](%c0 : index)
// CHECK-NEXT:  ^[[BODY]](%i: index):
// CHECK:         cf.cond_br %{{.*}}, ^[[BODY]](%{{.*}} : index), ^[[EXIT:.*]]
func.func @constant_bounds(%x: memref<4xf32>, %v: f32) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  scf.for %i = %c0 to %c4 step %c1 {
    memref.store %v, %x[%i] : memref<4xf32>
  }
  func.return
}

// An if with results joins in a block that receives them; one without an else region jumps over the other.

// CHECK-LABEL: func.func @choose
// CHECK:         cf.cond_br %c, ^[[THEN:.*]], ^[[ELSE:.*]]
// CHECK-NEXT:  ^[[THEN]]:
// CHECK-NEXT:    %s = arith.addf %x, %y
// CHECK-NEXT:    cf.br ^[[JOIN:.*]](%s : f32)
// CHECK-NEXT:  ^[[ELSE]]:
// CHECK-NEXT:    cf.br ^[[JOIN]](%y : f32)
// CHECK-NEXT:  ^[[JOIN]](%r: f32):
// CHECK-NEXT:    cf.cond_br %c, ^[[STORE:.*]], ^[[EXIT:.*]]
// CHECK-NEXT:  ^[[STORE]]:
// CHECK:         cf.br ^[[EXIT]]
func.func @choose(%c: i1, %x: f32, %y: f32, %m: memref<f32>) -> f32 {
  %r = scf.if %c -> (f32) {
    %s = arith.addf %x, %y : f32
    scf.yield %s : f32
  } else {
    scf.yield %y : f32
  }
  scf.if %c {
    memref.store %r, %m[] : memref<f32>
  }
  func.return %r : f32
}

// CHECK-LABEL: func.func @until
// CHECK:         cf.br ^[[BEFORE:.*]](%n : i32)
// CHECK-NEXT:  ^[[BEFORE]](%i: i32):
// CHECK:         cf.cond_br %go, ^[[AFTER:.*]](%i : i32), ^[[EXIT:.*]](%i : i32)
// CHECK-NEXT:  ^[[AFTER]](%j: i32):
// CHECK:         cf.br ^[[BEFORE]](%half : i32)
// CHECK-NEXT:  ^[[EXIT]](%r: i32):
func.func @until(%n: i32) -> i32 {
  %c1 = arith.constant 1 : i32
  %r = scf.while (%i = %n) : (i32) -> i32 {
    %go = arith.cmpi sgt, %i, %c1 : i32
    scf.condition(%go) %i : i32
  } do {
  ^bb0(%j: i32):
    %half = arith.shrsi %j, %c1 : i32
    scf.yield %half : i32
  }
  func.return %r : i32
}

// CHECK-LABEL: func.func @cases
// CHECK:         arith.cmpi eq, %i
// CHECK-NEXT:    cf.cond_br %{{.*}}, ^[[FIRST:.*]], ^[[NEXT:.*]]
// CHECK:         arith.cmpi eq, %i
// CHECK:         %d = arith.constant 30
// CHECK-NEXT:    cf.br ^[[JOIN:.*]](%d : i32)
// CHECK-NEXT:  ^[[JOIN]](%r: i32):
func.func @cases(%i: index) -> i32 {
  %r = scf.index_switch %i -> i32
  case 1 {
    %a = arith.constant 10 : i32
    scf.yield %a : i32
  }
  case 5 {
    %b = arith.constant 20 : i32
    scf.yield %b : i32
  }
  default {
    %d = arith.constant 30 : i32
    scf.yield %d : i32
  }
  func.return %r : i32
}
