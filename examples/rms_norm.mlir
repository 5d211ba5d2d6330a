// Root mean square normalisation with a residual: each row is read once for its mean square and once for the result.
func.func @main(
    %x: tensor<?x?xf32> {nn.dims = ["M", "N"]}, %residual: tensor<?x?xf32> {nn.dims = ["M", "N"]},
    %gamma: tensor<?xf32> {nn.dims = ["N"]}) -> tensor<?x?xf32> {
  %sum = nn.add %x, %residual : tensor<?x?xf32>, tensor<?x?xf32>
  %y = nn.rms_norm %sum, %gamma epsilon 1.0e-05 : tensor<?x?xf32>, tensor<?xf32>
  func.return %y : tensor<?x?xf32>
}
