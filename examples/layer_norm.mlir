// Layer normalisation of rows whose length is only known at run time: mean, variance and scale in one kernel.
func.func @main(
    %x: tensor<?x?xf32> {nn.dims = ["M", "N"]}, %gamma: tensor<?xf32> {nn.dims = ["N"]},
    %beta: tensor<?xf32> {nn.dims = ["N"]}) -> tensor<?x?xf32> {
  %y = nn.layer_norm %x, %gamma, %beta epsilon 1.0e-05 : tensor<?x?xf32>, tensor<?xf32>, tensor<?xf32>
  func.return %y : tensor<?x?xf32>
}
