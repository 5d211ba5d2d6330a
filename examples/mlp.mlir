// A perceptron with a gated hidden layer (silu(x w) * (x v), then a projection) and a residual connection.
func.func @main(
    %x: tensor<?x64xf32> {nn.dims = ["N", "_"]}, %w: tensor<64x128xf32>, %v: tensor<64x128xf32>,
    %p: tensor<128x64xf32>) -> tensor<?x64xf32> {
  %linear = nn.matmul %x, %w accumulate f32 : tensor<?x64xf32>, tensor<64x128xf32> -> tensor<?x128xf32>
  %gate = nn.silu %linear : tensor<?x128xf32>
  %up = nn.matmul %x, %v accumulate f32 : tensor<?x64xf32>, tensor<64x128xf32> -> tensor<?x128xf32>
  %hidden = nn.mul %gate, %up : tensor<?x128xf32>, tensor<?x128xf32>
  %down = nn.matmul %hidden, %p accumulate f32 : tensor<?x128xf32>, tensor<128x64xf32> -> tensor<?x64xf32>
  %y = nn.add %x, %down : tensor<?x64xf32>, tensor<?x64xf32>
  func.return %y : tensor<?x64xf32>
}
