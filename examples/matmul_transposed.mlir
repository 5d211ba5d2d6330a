// The other three ways to store the operands of a matrix product; no transposed copy is made.
func.func @main(
    %a: tensor<?x?xf32> {nn.dims = ["M", "K"]}, %at: tensor<?x?xf32> {nn.dims = ["K", "M"]},
    %b: tensor<?x?xf32> {nn.dims = ["K", "N"]}, %bt: tensor<?x?xf32> {nn.dims = ["N", "K"]})
    -> (tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?xf32>) {
  %0 = nn.matmul %a, %bt {transpose_b} accumulate f32 : tensor<?x?xf32>, tensor<?x?xf32>
  %1 = nn.matmul %at, %b {transpose_a} accumulate f32 : tensor<?x?xf32>, tensor<?x?xf32>
  %2 = nn.matmul %at, %bt {transpose_a, transpose_b} accumulate f32 : tensor<?x?xf32>, tensor<?x?xf32>
  func.return %0, %1, %2 : tensor<?x?xf32>, tensor<?x?xf32>, tensor<?x?xf32>
}
