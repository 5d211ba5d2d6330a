// A transformer encoder block (Vaswani et al., arXiv 1706.03762, with the norms before the layers: Xiong et al.,
// arXiv 2002.04745): attention of 4 heads of 16 over a sequence of any length, then a perceptron with gelu. Weights are
// of unit variance: what they multiply is scaled by one over the square root of its length.
func.func @main(
    %x: tensor<?x64xf32> {nn.dims = ["S", "_"]},
    %gamma1: tensor<64xf32>, %beta1: tensor<64xf32>,
    %wq: tensor<64x64xf32>, %wk: tensor<64x64xf32>, %wv: tensor<64x64xf32>, %wo: tensor<64x64xf32>,
    %gamma2: tensor<64xf32>, %beta2: tensor<64xf32>,
    %w1: tensor<64x256xf32>, %b1: tensor<256xf32>, %w2: tensor<256x64xf32>, %b2: tensor<64xf32>) -> tensor<?x64xf32> {
  %normal1 = nn.layer_norm %x, %gamma1, %beta1 epsilon 1.0e-05 : tensor<?x64xf32>, tensor<64xf32>, tensor<64xf32>

  %eighth = nn.constant dense<0.125> : tensor<f32>
  %sixteenth = nn.constant dense<0.0625> : tensor<f32>
  %scaled1 = nn.mul %normal1, %eighth : tensor<?x64xf32>, tensor<f32>

  // Queries, keys and values of every head: [S, 64] becomes [1, 4, S, 16].
  %q = nn.matmul %scaled1, %wq accumulate f32 : tensor<?x64xf32>, tensor<64x64xf32> -> tensor<?x64xf32>
  %q3 = nn.reshape %q : tensor<?x64xf32> -> tensor<1x?x4x16xf32>
  %qh = nn.transpose %q3 [0, 2, 1, 3] : tensor<1x?x4x16xf32> -> tensor<1x4x?x16xf32>
  %k = nn.matmul %scaled1, %wk accumulate f32 : tensor<?x64xf32>, tensor<64x64xf32> -> tensor<?x64xf32>
  %k3 = nn.reshape %k : tensor<?x64xf32> -> tensor<1x?x4x16xf32>
  %kh = nn.transpose %k3 [0, 2, 1, 3] : tensor<1x?x4x16xf32> -> tensor<1x4x?x16xf32>
  %v = nn.matmul %scaled1, %wv accumulate f32 : tensor<?x64xf32>, tensor<64x64xf32> -> tensor<?x64xf32>
  %v3 = nn.reshape %v : tensor<?x64xf32> -> tensor<1x?x4x16xf32>
  %vh = nn.transpose %v3 [0, 2, 1, 3] : tensor<1x?x4x16xf32> -> tensor<1x4x?x16xf32>
  %yh = nn.attention %qh, %kh, %vh accumulate f32
      : tensor<1x4x?x16xf32>, tensor<1x4x?x16xf32>, tensor<1x4x?x16xf32>
  %y3 = nn.transpose %yh [0, 2, 1, 3] : tensor<1x4x?x16xf32> -> tensor<1x?x4x16xf32>
  %y = nn.reshape %y3 : tensor<1x?x4x16xf32> -> tensor<?x64xf32>
  %scaled2 = nn.mul %y, %eighth : tensor<?x64xf32>, tensor<f32>
  %o = nn.matmul %scaled2, %wo accumulate f32 : tensor<?x64xf32>, tensor<64x64xf32> -> tensor<?x64xf32>
  %attended = nn.add %x, %o : tensor<?x64xf32>, tensor<?x64xf32>

  %normal2 = nn.layer_norm %attended, %gamma2, %beta2 epsilon 1.0e-05
      : tensor<?x64xf32>, tensor<64xf32>, tensor<64xf32>
  %scaled3 = nn.mul %normal2, %eighth : tensor<?x64xf32>, tensor<f32>
  %linear1 = nn.matmul %scaled3, %w1 accumulate f32 : tensor<?x64xf32>, tensor<64x256xf32> -> tensor<?x256xf32>
  %biased1 = nn.add %linear1, %b1 : tensor<?x256xf32>, tensor<256xf32>
  %hidden = nn.gelu %biased1 : tensor<?x256xf32>
  %scaled4 = nn.mul %hidden, %sixteenth : tensor<?x256xf32>, tensor<f32>
  %linear2 = nn.matmul %scaled4, %w2 accumulate f32 : tensor<?x256xf32>, tensor<256x64xf32> -> tensor<?x64xf32>
  %biased2 = nn.add %linear2, %b2 : tensor<?x64xf32>, tensor<64xf32>
  %z = nn.add %attended, %biased2 : tensor<?x64xf32>, tensor<?x64xf32>
  func.return %z : tensor<?x64xf32>
}
