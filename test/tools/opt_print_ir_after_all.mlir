// RUN: crosstile-opt %s --canonicalize --convert-scf-to-openmp=collapse=1 --mlir-print-ir-after-all 2>&1 -o %t | filecheck %s
// RUN: filecheck %s --check-prefix=RESULT < %t

// The module after every pass goes to standard error, and the result to the output file.

// CHECK:      // -----// IR Dump After canonicalize //----- //
// CHECK-NEXT: builtin.module {
// CHECK-NOT:    arith.muli
// CHECK:        arith.addi
// CHECK:      // -----// IR Dump After convert-scf-to-openmp{collapse=1} //----- //
// CHECK-NEXT: builtin.module {
// CHECK:        arith.addi

// RESULT-NOT: IR Dump
// RESULT:     builtin.module {
// RESULT-NOT:   arith.muli
func.func @f(%a: i32) -> i32 {
  %unused = arith.muli %a, %a : i32
  %b = arith.addi %a, %a : i32
  func.return %b : i32
}
