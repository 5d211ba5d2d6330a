// RUN: crosstile-opt %s | filecheck %s
// RUN: crosstile-opt --mlir-print-op-generic %s | crosstile-opt | filecheck %s
// RUN: crosstile-opt %s -o %t && crosstile-opt %t | filecheck %s

// CHECK:      func.func @f(%a: i32) -> i32 {
// CHECK-NEXT:   %b = arith.addi %a, %a : i32
// CHECK-NEXT:   func.return %b : i32
func.func @f(%a: i32) -> i32 {
  %b = arith.addi %a, %a : i32
  func.return %b : i32
}
