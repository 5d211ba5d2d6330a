// A linear layer with its activation: bias and gelu become the epilogue of the matrix product's kernel.
func.func @main(
    %x: tensor<?x?xf32> {nn.dims = ["M", "K"]}, %w: tensor<?x?xf32> {nn.dims = ["K", "N"]},
    %b: tensor<?xf32> {nn.dims = ["N"]}) -> tensor<?x?xf32> {
  %linear = nn.matmul %x, %w accumulate f32 : tensor<?x?xf32>, tensor<?x?xf32>
  %biased = nn.add %linear, %b : tensor<?x?xf32>, tensor<?xf32>
  %y = nn.gelu %biased : tensor<?x?xf32>
  func.return %y : tensor<?x?xf32>
}
