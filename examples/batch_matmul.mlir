// The scores of attention before their softmax, scaled: a product for every head of every sequence, in one kernel.
func.func @main(
    %q: tensor<?x4x?x32xf32> {nn.dims = ["B", "_", "M", "_"]},
    %k: tensor<?x4x?x32xf32> {nn.dims = ["B", "_", "N", "_"]}) -> tensor<?x4x?x?xf32> {
  %scale = nn.constant dense<0.17677669> : tensor<f32>
  %scores = nn.batch_matmul %q, %k {transpose_b} accumulate f32 : tensor<?x4x?x32xf32>, tensor<?x4x?x32xf32>
  %y = nn.mul %scores, %scale : tensor<?x4x?x?xf32>, tensor<f32>
  func.return %y : tensor<?x4x?x?xf32>
}
