// A small product with a long k, whose sums may be added up in any order: a GPU splits k among its multiprocessors.
//   crosstile run examples/matmul_long_k.mlir --random 0
func.func @main(%a: tensor<64x8192xbf16>, %b: tensor<8192x64xbf16>) -> tensor<64x64xf32> {
  %c = nn.matmul %a, %b accumulate f32 fastmath<reassoc> : tensor<64x8192xbf16>, tensor<8192x64xbf16> -> tensor<64x64xf32>
  %d = nn.relu %c : tensor<64x64xf32>
  func.return %d : tensor<64x64xf32>
}
