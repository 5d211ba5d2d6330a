// A two-layer network that reads handwritten digits: 8x8 pixels from 0 to 16 in, the probabilities of ten digits out.
// The batch is dynamic. The weights are arguments; digits.npz and weights.npz hold images and trained weights.
func.func @main(
    %images: tensor<?x64xf32> {nn.dims = ["N", "_"]},
    %w1: tensor<64x96xf32>, %b1: tensor<96xf32>,
    %gamma: tensor<96xf32>, %beta: tensor<96xf32>,
    %w2: tensor<96x10xf32>, %b2: tensor<10xf32>) -> tensor<?x10xf32> {
  %sixteenth = nn.constant dense<0.0625> : tensor<f32>
  %x = nn.mul %images, %sixteenth : tensor<?x64xf32>, tensor<f32>
  %linear1 = nn.matmul %x, %w1 accumulate f32 : tensor<?x64xf32>, tensor<64x96xf32> -> tensor<?x96xf32>
  %biased1 = nn.add %linear1, %b1 : tensor<?x96xf32>, tensor<96xf32>
  %active = nn.gelu %biased1 : tensor<?x96xf32>
  %normal = nn.layer_norm %active, %gamma, %beta epsilon 1.0e-05 : tensor<?x96xf32>, tensor<96xf32>, tensor<96xf32>
  %linear2 = nn.matmul %normal, %w2 accumulate f32 : tensor<?x96xf32>, tensor<96x10xf32> -> tensor<?x10xf32>
  %logits = nn.add %linear2, %b2 : tensor<?x10xf32>, tensor<10xf32>
  %probabilities = nn.softmax %logits dim 1 : tensor<?x10xf32>
  func.return %probabilities : tensor<?x10xf32>
}
