// RUN: crosstile-opt %s --decompose --nn-to-nest --fuse --collapse-dimensions --split-input-file | filecheck %s

// Rows of 17 lie one after the other: one loop over all of them.

// CHECK-LABEL: func.func @short_rows
// CHECK:         %[[FLAT:.*]] = tensor.collapse_shape %x {{\[}}[0 : i64, 1 : i64]] : tensor<?x17xf32> into tensor<?xf32>
// CHECK:         %[[Y:.*]] = nest.kernel @exp (%{{.*}} = %[[FLAT]] : tensor<?xf32>) -> (tensor<?xf32>) {
// CHECK:           nest.generic [i : parallel] ins(%{{.*}} (i) : tensor<?xf32>) -> (i) : tensor<?xf32>
// CHECK:         %[[N:.*]] = tensor.dim %x, %{{.*}}
// CHECK:         tensor.expand_shape %[[Y]] {{\[}}[0 : i64, 1 : i64]] output_shape [%[[N]], 17] : tensor<?xf32> into tensor<?x17xf32>
func.func @short_rows(%x: tensor<?x17xf32>) -> tensor<?x17xf32> {
  %y = nn.exp %x : tensor<?x17xf32>
  func.return %y : tensor<?x17xf32>
}

// -----

// What is the same for a whole image keeps the channels apart.

// CHECK-LABEL: func.func @channels
// CHECK:         nest.generic [i : parallel, j : parallel, k : parallel] ins(%{{.*}} (i, j, k), %{{.*}} (j, 0, 0) :
// CHECK-SAME:      tensor<?x3x81xf32>, tensor<3x1x1xf32>
func.func @channels(%x: tensor<?x3x9x9xf32>, %b: tensor<3x1x1xf32>) -> tensor<?x3x9x9xf32> {
  %y = nn.add %x, %b : tensor<?x3x9x9xf32>, tensor<3x1x1xf32>
  func.return %y : tensor<?x3x9x9xf32>
}

// -----

// A transposition of channels and places.

// CHECK-LABEL: func.func @transposed
// CHECK:         nest.generic [i : parallel, j : parallel, l : parallel] ins(%{{.*}} (i, l, j) : tensor<2x?x49xf32>) -> (i, j, l) : tensor<2x49x?xf32>
func.func @transposed(%x: tensor<2x?x7x7xf32>) -> tensor<2x7x7x?xf32> {
  %y = nn.transpose %x [0, 2, 3, 1] : tensor<2x?x7x7xf32> -> tensor<2x7x7x?xf32>
  func.return %y : tensor<2x7x7x?xf32>
}

// -----

// Rows of whole steps need no masks; of two sizes that are only known at run time one could not be told from the other;
// a row that every row is added to ends where the others do; and folds have rows of their own.

// CHECK-LABEL: func.func @whole_steps
// CHECK-NOT:     tensor.collapse_shape
// CHECK-LABEL: func.func @unknown
// CHECK-NOT:     tensor.collapse_shape
// CHECK-LABEL: func.func @shared_row
// CHECK-NOT:     tensor.collapse_shape
// CHECK-LABEL: func.func @folded
// CHECK-NOT:     tensor.collapse_shape
// CHECK:         func.return
func.func @whole_steps(%x: tensor<?x128xf32>) -> tensor<?x128xf32> {
  %y = nn.exp %x : tensor<?x128xf32>
  func.return %y : tensor<?x128xf32>
}
func.func @unknown(%x: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %y = nn.exp %x : tensor<?x?xf32>
  func.return %y : tensor<?x?xf32>
}
func.func @shared_row(%x: tensor<?x17xf32>, %b: tensor<17xf32>) -> tensor<?x17xf32> {
  %y = nn.add %x, %b : tensor<?x17xf32>, tensor<17xf32>
  func.return %y : tensor<?x17xf32>
}
func.func @folded(%x: tensor<?x17xf32>) -> tensor<?x17xf32> {
  %y = nn.softmax %x dim 1 : tensor<?x17xf32>
  func.return %y : tensor<?x17xf32>
}
