// RUN: crosstile-opt %s --split-input-file | filecheck %s
// RUN: not crosstile-opt %s 2>&1 | filecheck %s --check-prefix=WHOLE

// Names may repeat in different pieces, but not in one module.

// WHOLE: opt_split_input.mlir:18:4: error: re-declaration of alias '#a'
// CHECK:      func.func @f
// CHECK:      // -----
// CHECK-NEXT: builtin.module {
// CHECK-NEXT:   func.func @f
#a = 1
func.func @f() {
  func.return
}

// -----

#a = 2
func.func @f() {
  func.return
}
