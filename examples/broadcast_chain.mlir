// Elementwise operations on a matrix, a row, a column and a scalar, which broadcast as in NumPy: one kernel, one pass.
func.func @main(
    %x: tensor<?x?xf32> {nn.dims = ["M", "N"]}, %row: tensor<?xf32> {nn.dims = ["N"]},
    %column: tensor<?x1xf32> {nn.dims = ["M", "_"]}) -> tensor<?x?xf32> {
  %one = nn.constant dense<1.0> : tensor<f32>
  %shifted = nn.sub %x, %row : tensor<?x?xf32>, tensor<?xf32>
  %scaled = nn.mul %shifted, %column : tensor<?x?xf32>, tensor<?x1xf32>
  %square = nn.mul %scaled, %scaled : tensor<?x?xf32>, tensor<?x?xf32>
  %above = nn.add %square, %one : tensor<?x?xf32>, tensor<f32>
  %ratio = nn.div %scaled, %above : tensor<?x?xf32>, tensor<?x?xf32>
  %squashed = nn.tanh %ratio : tensor<?x?xf32>
  %positive = nn.relu %squashed : tensor<?x?xf32>
  %y = nn.min %positive, %x : tensor<?x?xf32>, tensor<?x?xf32>
  func.return %y : tensor<?x?xf32>
}
