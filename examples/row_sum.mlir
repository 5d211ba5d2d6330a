// The sum of every row. Its order is the compiler's (fastmath<reassoc> is the default of reductions).
func.func @main(%x: tensor<?x?xf32> {nn.dims = ["M", "N"]}) -> tensor<?xf32> {
  %y = nn.reduce add %x dims [1] : tensor<?x?xf32> -> tensor<?xf32>
  func.return %y : tensor<?xf32>
}
