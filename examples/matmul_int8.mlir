// One matrix product of signed bytes with sums in i32, as quantised networks are served; exact:
//   crosstile run examples/matmul_int8.mlir --dim M=1000 --dim N=999 --dim K=1001 --random 0
func.func @main(%a: tensor<?x?xi8> {nn.dims = ["M", "K"]}, %b: tensor<?x?xi8> {nn.dims = ["K", "N"]})
    -> tensor<?x?xi32> {
  %c = nn.matmul %a, %b accumulate i32 : tensor<?x?xi8>, tensor<?x?xi8> -> tensor<?x?xi32>
  func.return %c : tensor<?x?xi32>
}
