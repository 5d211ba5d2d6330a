// One matrix product of bf16 with sums in f32, as networks are trained and served:
//   crosstile run examples/matmul_bf16.mlir --dim M=1000 --dim N=999 --dim K=1001 --random 0
func.func @main(%a: tensor<?x?xbf16> {nn.dims = ["M", "K"]}, %b: tensor<?x?xbf16> {nn.dims = ["K", "N"]})
    -> tensor<?x?xf32> {
  %c = nn.matmul %a, %b accumulate f32 : tensor<?x?xbf16>, tensor<?x?xbf16> -> tensor<?x?xf32>
  func.return %c : tensor<?x?xf32>
}
