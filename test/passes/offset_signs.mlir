// RUN: crosstile-opt %s --offset-signs=target=x86-64-avx512-vnni | filecheck %s
// RUN: crosstile-opt %s --offset-signs=target=x86-64-amx | filecheck %s --check-prefix=AMX

// Signed by signed: the right factor's signs are flipped where it is packed, what that adds is subtracted after the product.

// CHECK-LABEL: func.func @signed
// CHECK:         %[[S:.*]] = nest.kernel @row_sums (%{{.*}} = %x : tensor<?x?xi8>) -> (tensor<?xi32>) {
// CHECK:           nest.generic [d0 : parallel, d1 : reduction] combiner<add> accumulate i32
// CHECK:             arith.extsi
// CHECK:         nest.kernel @product (%a = %x : tensor<?x?xi8>, %b = %w : tensor<?x?xi8>, %[[C:.*]] = %[[S]] : tensor<?xi32>)
// CHECK:           %[[B:.*]] = nest.generic [k : parallel, n : parallel] ins(%b (k, n)
// CHECK:             arith.xori
// CHECK:           %[[P:.*]] = nest.generic [m : parallel, n : parallel, k : reduction] {{.*}} ins(%a (m, k), %[[B]] (k, n)
// CHECK:             arith.extsi
// CHECK-NEXT:        arith.extui
// CHECK:           nest.generic [m : parallel, n : parallel] ins(%[[P]] (m, n), %[[C]] (m) : {{.*}} -> (m, n)
// CHECK:             arith.muli
// CHECK-NEXT:        arith.subi
// AMX-LABEL:   func.func @signed
// AMX-NOT:       flip_signs
func.func @signed(%x : tensor<?x?xi8>, %w : tensor<?x?xi8>) -> tensor<?x?xi32> {
  %y = nest.kernel @product (%a = %x : tensor<?x?xi8>, %b = %w : tensor<?x?xi8>) -> (tensor<?x?xi32>) {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate i32
        ins(%a (m, k), %b (k, n) : tensor<?x?xi8>, tensor<?x?xi8>) -> (m, n) : tensor<?x?xi32> {
    ^bb0(%p : i8, %q : i8):
      %f = arith.extsi %p : i8 to i32
      %g = arith.extsi %q : i8 to i32
      %h = arith.muli %f, %g : i32
      nest.yield %h : i32
    }
    nest.yield %c : tensor<?x?xi32>
  }
  func.return %y : tensor<?x?xi32>
}

// Unsigned by signed is what the instruction takes.

// CHECK-LABEL: func.func @mixed
// CHECK-NEXT:    nest.kernel @mixed
func.func @mixed(%x : tensor<?x?xi8>, %w : tensor<?x?xi8>) -> tensor<?x?xi32> {
  %y = nest.kernel @mixed (%a = %x : tensor<?x?xi8>, %b = %w : tensor<?x?xi8>) -> (tensor<?x?xi32>) {
    %c = nest.generic [m : parallel, n : parallel, k : reduction] combiner<add> accumulate i32
        ins(%a (m, k), %b (k, n) : tensor<?x?xi8>, tensor<?x?xi8>) -> (m, n) : tensor<?x?xi32> {
    ^bb0(%p : i8, %q : i8):
      %f = arith.extui %p : i8 to i32
      %g = arith.extsi %q : i8 to i32
      %h = arith.muli %f, %g : i32
      nest.yield %h : i32
    }
    nest.yield %c : tensor<?x?xi32>
  }
  func.return %y : tensor<?x?xi32>
}

// A factor is staged for a sum over one iterator. Before others the signs are flipped in a kernel of its own.

// CHECK-LABEL: func.func @two_sums
// CHECK:         %[[U:.*]] = nest.kernel @flip_signs (%{{.*}} = %w : tensor<?x?x?xi8>) -> (tensor<?x?x?xi8>) {
// CHECK:           arith.xori
// CHECK:         nest.kernel @row_sums
// CHECK:         nest.kernel @two_sums ({{.*}} = %[[U]] : tensor<?x?x?xi8>
func.func @two_sums(%x : tensor<?x?x?xi8>, %w : tensor<?x?x?xi8>) -> tensor<?x?xi32> {
  %y = nest.kernel @two_sums (%a = %x : tensor<?x?x?xi8>, %b = %w : tensor<?x?x?xi8>) -> (tensor<?x?xi32>) {
    %c = nest.generic [m : parallel, n : parallel, j : reduction, k : reduction] combiner<add> accumulate i32
        ins(%a (m, j, k), %b (j, k, n) : tensor<?x?x?xi8>, tensor<?x?x?xi8>) -> (m, n) : tensor<?x?xi32> {
    ^bb0(%p : i8, %q : i8):
      %f = arith.extsi %p : i8 to i32
      %g = arith.extsi %q : i8 to i32
      %h = arith.muli %f, %g : i32
      nest.yield %h : i32
    }
    nest.yield %c : tensor<?x?xi32>
  }
  func.return %y : tensor<?x?xi32>
}
