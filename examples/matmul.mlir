// One matrix product of any size:
//   crosstile run examples/matmul.mlir --dim M=1000 --dim N=999 --dim K=1001 --random 0
func.func @main(%a: tensor<?x?xf32> {nn.dims = ["M", "K"]}, %b: tensor<?x?xf32> {nn.dims = ["K", "N"]})
    -> tensor<?x?xf32> {
  %c = nn.matmul %a, %b accumulate f32 : tensor<?x?xf32>, tensor<?x?xf32>
  func.return %c : tensor<?x?xf32>
}
