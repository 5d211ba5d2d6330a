// Attention of 4 heads over 2 heads of keys and values, causal: query i sees the keys up to i + N - M.
func.func @main(
    %q: tensor<?x4x?x32xf32> {nn.dims = ["B", "_", "M", "_"]},
    %k: tensor<?x2x?x32xf32> {nn.dims = ["B", "_", "N", "_"]},
    %v: tensor<?x2x?x32xf32> {nn.dims = ["B", "_", "N", "_"]}) -> tensor<?x4x?x32xf32> {
  %y = nn.attention %q, %k, %v causal accumulate f32
      : tensor<?x4x?x32xf32>, tensor<?x2x?x32xf32>, tensor<?x2x?x32xf32>
  func.return %y : tensor<?x4x?x32xf32>
}
