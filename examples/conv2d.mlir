// A convolution with its bias and activation, one kernel: the image is read through windows that are zero outside of it.
//   crosstile run examples/conv2d.mlir --dim N=1 --dim H=56 --dim W=56 --random 0
func.func @main(
    %x: tensor<?x64x?x?xf32> {nn.dims = ["N", "_", "H", "W"]}, %w: tensor<64x64x3x3xf32>,
    %b: tensor<64x1x1xf32>) -> tensor<?x64x?x?xf32> {
  %c = nn.conv2d %x, %w nchw padding [1, 1, 1, 1] accumulate f32 : tensor<?x64x?x?xf32>, tensor<64x64x3x3xf32>
  %biased = nn.add %c, %b : tensor<?x64x?x?xf32>, tensor<64x1x1xf32>
  %y = nn.relu %biased : tensor<?x64x?x?xf32>
  func.return %y : tensor<?x64x?x?xf32>
}
