// The softmax of every row: two reductions and what is between them, one kernel.
func.func @main(%x: tensor<?x?xf32> {nn.dims = ["M", "N"]}) -> tensor<?x?xf32> {
  %y = nn.softmax %x dim 1 : tensor<?x?xf32>
  func.return %y : tensor<?x?xf32>
}
