// RUN: crosstile-opt %s --nn-to-nest --verify-diagnostics

func.func @composite(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @+2 {{nn-to-nest: 'nn.gelu': no rule lowers this operation}}
  // expected-note @+1 {{rules exist for nn.abs, nn.add, nn.broadcast, nn.cast}}
  %y = nn.gelu %x : tensor<4xf32>
  func.return %y : tensor<4xf32>
}
