// Both forms of the activation: by the error function, and approximated by the hyperbolic tangent.
func.func @main(%x: tensor<?x?xf32> {nn.dims = ["M", "N"]}) -> (tensor<?x?xf32>, tensor<?x?xf32>) {
  %exact = nn.gelu %x : tensor<?x?xf32>
  %approximate = nn.gelu %x approximate tanh : tensor<?x?xf32>
  func.return %exact, %approximate : tensor<?x?xf32>, tensor<?x?xf32>
}
