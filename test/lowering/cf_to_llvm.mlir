// RUN: crosstile-opt %s --convert-to-llvm | filecheck %s

// A memref that is a block argument becomes several.

// CHECK-LABEL: llvm.func @pass
// CHECK-NEXT:    llvm.cond_br %c, ^[[ONE:.*]](%m, %m_1 : !llvm.ptr, i64), ^[[TWO:.*]]
// CHECK-NEXT:  ^[[ONE]](%x: !llvm.ptr, %x_1: i64):
// CHECK:       ^[[TWO]]:
// CHECK-NEXT:    llvm.br ^[[ONE]](%m, %m_1 : !llvm.ptr, i64)
func.func @pass(%m: memref<?xf32>, %c: i1) -> memref<?xf32> {
  cf.cond_br %c, ^one(%m : memref<?xf32>), ^two
^one(%x: memref<?xf32>):
  func.return %x : memref<?xf32>
^two:
  cf.br ^one(%m : memref<?xf32>)
}

// One target for both outcomes: the operands are selected.

// CHECK-LABEL: llvm.func @same_target
// CHECK-NEXT:    %[[CHOSEN:.*]] = llvm.select %c, %x, %y : i1, f32
// CHECK-NEXT:    llvm.br ^{{.*}}(%[[CHOSEN]] : f32)
func.func @same_target(%c: i1, %x: f32, %y: f32) -> f32 {
  cf.cond_br %c, ^exit(%x : f32), ^exit(%y : f32)
^exit(%r: f32):
  func.return %r : f32
}
