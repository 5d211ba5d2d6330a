// RUN: crosstile-opt --split-input-file --verify-diagnostics %s
// RUN: not crosstile-opt --split-input-file %s 2>&1 | filecheck %s

func.func @mixed(%a: i32, %b: i64) {
  // expected-error @+1 {{operand is used with type i32}}
  %c = arith.addi %a, %b : i32
  // CHECK: opt_errors.mlir:6:23: error: operand is used with type i32, but has been previously used or defined with type i64
  // CHECK-NEXT: %c = arith.addi %a, %b : i32
  // CHECK-NEXT: {{^                      \^$}}
  func.return
}

// -----

func.func @result() -> i32 {
  // expected-error @below {{'func.return' op Expected arguments to have the same types}}
  func.return
}
