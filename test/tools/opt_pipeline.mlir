// RUN: crosstile-opt %s --pass-pipeline='builtin.module(cse,canonicalize)' | filecheck %s
// RUN: crosstile-opt %s --cse --canonicalize | filecheck %s
// RUN: crosstile-opt %s -cse -canonicalize | filecheck %s
// RUN: crosstile-opt %s --pass-pipeline=cse | filecheck %s --check-prefix=FIRST
// RUN: crosstile opt %s --cse | filecheck %s --check-prefix=FIRST

// FIRST:      %sum = arith.addi %one, %two
// FIRST-NEXT: arith.muli %sum, %sum

// CHECK:      arith.constant 9 : i32
// CHECK-NEXT: arith.muli %a
func.func @f(%a: i32) -> i32 {
  %one = arith.constant 1 : i32
  %two = arith.constant 2 : i32
  %sum = arith.addi %one, %two : i32
  %same = arith.addi %one, %two : i32
  %x = arith.muli %sum, %same : i32
  %y = arith.muli %a, %x : i32
  func.return %y : i32
}
