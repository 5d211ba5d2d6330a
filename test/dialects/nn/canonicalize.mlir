// RUN: crosstile-opt --canonicalize %s | filecheck %s

// CHECK-LABEL: func.func @transposes
// CHECK-NEXT: %[[T:.*]] = nn.transpose %x [1, 2, 0] : tensor<2x3x4xf32> -> tensor<3x4x2xf32>
// CHECK-NEXT: func.return %[[T]], %x
func.func @transposes(%x: tensor<2x3x4xf32>) -> (tensor<3x4x2xf32>, tensor<2x3x4xf32>) {
  %0 = nn.transpose %x [2, 0, 1] : tensor<2x3x4xf32>
  %1 = nn.transpose %0 [2, 0, 1] : tensor<4x2x3xf32> -> tensor<3x4x2xf32>
  %2 = nn.transpose %1 [2, 0, 1] : tensor<3x4x2xf32> -> tensor<2x3x4xf32>
  func.return %1, %2 : tensor<3x4x2xf32>, tensor<2x3x4xf32>
}

// CHECK-LABEL: func.func @reshapes
// CHECK-NEXT: %[[R:.*]] = nn.reshape %y sizes [%n, %m] : tensor<?x?xf32> -> tensor<?x?xf32>
// CHECK-NEXT: func.return %x, %[[R]]
func.func @reshapes(%x: tensor<?x64xf32>, %y: tensor<?x?xf32>, %n: index, %m: index)
    -> (tensor<?x64xf32>, tensor<?x?xf32>) {
  %0 = nn.reshape %x : tensor<?x64xf32> -> tensor<?x8x8xf32>
  %1 = nn.reshape %0 : tensor<?x8x8xf32> -> tensor<?x64xf32>
  // Two sizes that are not known could be exchanged.
  %2 = nn.reshape %y sizes [%n, %m] : tensor<?x?xf32> -> tensor<?x?xf32>
  func.return %1, %2 : tensor<?x64xf32>, tensor<?x?xf32>
}

// CHECK-LABEL: func.func @casts
// CHECK-NEXT: %[[NARROW:.*]] = nn.cast %x : tensor<?xf32> -> tensor<?xbf16>
// CHECK-NEXT: %[[BACK:.*]] = nn.cast %[[NARROW]] : tensor<?xbf16> -> tensor<?xf32>
// CHECK-NEXT: func.return %x, %[[BACK]]
func.func @casts(%x: tensor<?xf32>) -> (tensor<?xf32>, tensor<?xf32>) {
  %0 = nn.cast %x : tensor<?xf32> -> tensor<?xf64>
  %1 = nn.cast %0 : tensor<?xf64> -> tensor<?xf32>
  // This pair rounds.
  %2 = nn.cast %x : tensor<?xf32> -> tensor<?xbf16>
  %3 = nn.cast %2 : tensor<?xbf16> -> tensor<?xf32>
  func.return %1, %3 : tensor<?xf32>, tensor<?xf32>
}

// CHECK-LABEL: func.func @broadcast
// CHECK-NEXT: func.return %x
func.func @broadcast(%x: tensor<?x1xf32>) -> tensor<?x1xf32> {
  %0 = nn.broadcast %x dims [0, 1] : tensor<?x1xf32> -> tensor<?x1xf32>
  func.return %0 : tensor<?x1xf32>
}
