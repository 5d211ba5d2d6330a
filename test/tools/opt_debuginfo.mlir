// RUN: crosstile-opt %s --mlir-print-debuginfo | filecheck %s
// RUN: crosstile-opt %s --mlir-print-debuginfo | crosstile-opt --mlir-print-debuginfo | filecheck %s
// RUN: crosstile-opt %s --canonicalize --mlir-print-debuginfo | filecheck %s --check-prefix=FOLDED

// A location is the place of an operation's first character; what the text says itself is kept.

// CHECK:      func.func @f(%a: i32 loc("{{.*}}opt_debuginfo.mlir":14:14)) -> i32 {
// CHECK-NEXT:   %one = arith.constant 1 : i32 loc("{{.*}}opt_debuginfo.mlir":15:3)
// CHECK-NEXT:   %two = arith.addi %one, %one : i32 loc("model.py":7:9)
// CHECK-NEXT:   func.return %two : i32 loc("{{.*}}opt_debuginfo.mlir":17:3)

// FOLDED:     %two = arith.constant 2 : i32 loc("model.py":7:9)

func.func @f(%a: i32) -> i32 {
  %one = arith.constant 1 : i32
  %two = arith.addi %one, %one : i32 loc("model.py":7:9)
  func.return %two : i32
}
