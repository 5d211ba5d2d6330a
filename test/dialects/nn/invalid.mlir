// RUN: crosstile-opt --split-input-file --verify-diagnostics %s

// Elementwise operations

func.func @elements(%x: tensor<4xi32>) {
  // expected-error @+1 {{expects an operand of f16, bf16, f32 or f64 elements, got tensor<4xi32>}}
  %y = nn.exp %x : tensor<4xi32>
  func.return
}

// -----

func.func @mixed(%x: tensor<4xf32>, %y: tensor<4xf64>) {
  // expected-error @+1 {{expects operands of one element type, got f32 and, in operand 1, f64; nn.cast converts}}
  %z = nn.add %x, %y : tensor<4xf32>, tensor<4xf64>
  func.return
}

// -----

func.func @shapes(%x: tensor<?x4xf32>, %y: tensor<3xf32>) {
  // expected-error @+1 {{shapes of tensor<?x4xf32>, tensor<3xf32> do not broadcast: dimension -1 has sizes 4 and 3, which must be equal or 1}}
  %z = nn.add %x, %y : tensor<?x4xf32>, tensor<3xf32>
  func.return
}

// -----

func.func @result(%x: tensor<?x4xf32>, %y: tensor<7x1xf32>) {
  // A dynamic size next to a static one that is not 1 is that size.
  // expected-error @+1 {{expects result type tensor<7x4xf32>, as the operands give it, got tensor<?x4xf32>}}
  %z = nn.add %x, %y : tensor<?x4xf32>, tensor<7x1xf32> -> tensor<?x4xf32>
  func.return
}

// -----

func.func @generic_result(%x: tensor<4xf32>) {
  // expected-error @+1 {{expects result type tensor<4xf32>, as the operands give it, got tensor<5xf32>}}
  %z = "nn.exp"(%x) : (tensor<4xf32>) -> tensor<5xf32>
  func.return
}

// -----

func.func @approximate(%x: tensor<4xf32>) {
  // expected-error @+1 {{approximate is none or tanh, got 'sigmoid'}}
  %y = nn.gelu %x approximate sigmoid : tensor<4xf32>
  func.return
}

// -----

func.func @operands(%x: tensor<4xf32>) {
  // expected-error @+1 {{'nn.add' takes 2 operands, found 1}}
  %y = nn.add %x : tensor<4xf32>
  func.return
}

// -----

func.func @not_a_tensor(%x: f32) {
  // expected-error @+1 {{expected a ranked tensor type, found f32}}
  %y = nn.exp %x : f32
  func.return
}

// -----

func.func @cast(%x: tensor<4xf32>) {
  %y = nn.cast %x : tensor<4xf32>
  // expected-error @+1 {{expected '->' and the result type, which 'nn.cast' cannot infer}}
  func.return
}

// -----

func.func @cast_element(%x: tensor<4xf32>) {
  // expected-error @+1 {{expects a result of f16, bf16, f32, f64, i1, i8, i16, i32, i64 or index elements, got tensor<4xi7>}}
  %y = nn.cast %x : tensor<4xf32> -> tensor<4xi7>
  func.return
}

// -----

// Contractions

func.func @matmul_rank(%a: tensor<4xf32>) {
  // expected-error @+1 {{expects matrices of rank 2, got tensor<4xf32>}}
  %c = nn.matmul %a, %a accumulate f32 : tensor<4xf32>, tensor<4xf32>
  func.return
}

// -----

func.func @matmul_k(%a: tensor<4x5xf32>, %b: tensor<6x5xf32>) {
  // expected-error @+1 {{the summed dimension (K) has size 5 in one operand and 6 in another}}
  %c = nn.matmul %a, %b accumulate f32 : tensor<4x5xf32>, tensor<6x5xf32>
  func.return
}

// -----

func.func @accumulator(%a: tensor<4x4xf32>) {
  // expected-error @+1 {{expects an accumulator type at least as wide as the operands' f32, got bf16}}
  %c = nn.matmul %a, %a accumulate bf16 : tensor<4x4xf32>, tensor<4x4xf32>
  func.return
}

// -----

func.func @accumulator_type(%a: tensor<4x4xf32>) {
  // expected-error @+1 {{expected the accumulator type f16, bf16, f32, f64, i32 or i64, found i8}}
  %c = nn.matmul %a, %a accumulate i8 : tensor<4x4xf32>, tensor<4x4xf32>
  func.return
}

// -----

func.func @integer_accumulator_of_floats(%a: tensor<4x4xf32>) {
  // expected-error @+1 {{expects an accumulator type at least as wide as the operands' f32, got i32}}
  %c = nn.matmul %a, %a accumulate i32 : tensor<4x4xf32>, tensor<4x4xf32>
  func.return
}

// -----

func.func @float_accumulator_of_integers(%a: tensor<4x4xi8>) {
  // expected-error @+1 {{expects an accumulator type of i32 or i64, as wide as the operands' i8, got f32}}
  %c = nn.matmul %a, %a accumulate f32 : tensor<4x4xi8>, tensor<4x4xi8>
  func.return
}

// -----

func.func @narrow_result(%a: tensor<4x4xi8>) {
  // expected-error @+1 {{expects a result of the accumulator type i32, got i8}}
  %c = nn.matmul %a, %a accumulate i32 : tensor<4x4xi8>, tensor<4x4xi8> -> tensor<4x4xi8>
  func.return
}

// -----

func.func @unsigned_floats(%a: tensor<4x4xf32>) {
  // expected-error @+1 {{unsigned_a and unsigned_b are for integers; the operands are of f32}}
  %c = nn.matmul %a, %a {unsigned_b} accumulate f32 : tensor<4x4xf32>, tensor<4x4xf32>
  func.return
}

// -----

func.func @result_element(%a: tensor<4x4xbf16>) {
  // expected-error @+1 {{expects a result of the operands' element type bf16 or the accumulator type f32, got f64}}
  %c = nn.matmul %a, %a accumulate f32 : tensor<4x4xbf16>, tensor<4x4xbf16> -> tensor<4x4xf64>
  func.return
}

// -----

func.func @batch_rank(%a: tensor<4x4xf32>) {
  // expected-error @+1 {{expects operands of one rank of at least 3, batches before the two dimensions of matrices, got tensor<4x4xf32> and tensor<4x4xf32>}}
  %c = nn.batch_matmul %a, %a accumulate f32 : tensor<4x4xf32>, tensor<4x4xf32>
  func.return
}

// -----

func.func @batch_size(%a: tensor<2x4x4xf32>, %b: tensor<1x4x4xf32>) {
  // expected-error @+1 {{batch dimension 0 has size 2 in one operand and 1 in another}}
  %c = nn.batch_matmul %a, %b accumulate f32 : tensor<2x4x4xf32>, tensor<1x4x4xf32>
  func.return
}

// -----

func.func @conv_layout(%x: tensor<1x4x9x9xf32>, %w: tensor<8x4x3x3xf32>) {
  // expected-error @+1 {{expects the layout nchw or nhwc, got 'chwn'}}
  %c = nn.conv2d %x, %w chwn accumulate f32 : tensor<1x4x9x9xf32>, tensor<8x4x3x3xf32>
  func.return
}

// -----

func.func @conv_channels(%x: tensor<1x4x9x9xf32>, %w: tensor<8x4x3x3xf32>) {
  // expected-error @+1 {{the dimension of channels (of one group) has size 2 in one operand and 4 in another}}
  %c = nn.conv2d %x, %w nchw groups 2 accumulate f32 : tensor<1x4x9x9xf32>, tensor<8x4x3x3xf32>
  func.return
}

// -----

func.func @conv_groups(%x: tensor<1x4x9x9xf32>, %w: tensor<8x4x3x3xf32>) {
  // expected-error @+1 {{the image's channels, 4, cannot be divided into 3 groups}}
  %c = nn.conv2d %x, %w nchw groups 3 accumulate f32 : tensor<1x4x9x9xf32>, tensor<8x4x3x3xf32>
  func.return
}

// -----

func.func @conv_strides(%x: tensor<1x4x9x9xf32>, %w: tensor<8x4x3x3xf32>) {
  // expected-error @+1 {{expects 2 strides of at least 1, got [0, 1]}}
  %c = nn.conv2d %x, %w nchw strides [0, 1] accumulate f32 : tensor<1x4x9x9xf32>, tensor<8x4x3x3xf32>
  func.return
}

// -----

func.func @conv_too_small(%x: tensor<1x4x3x9xf32>, %w: tensor<8x4x3x3xf32>) {
  // expected-error @+1 {{a filter of 3 with dilation 3 does not fit into an image of 3 with padding 1 and 1}}
  %c = nn.conv2d %x, %w nchw padding [1, 1, 1, 1] dilations [3, 1] accumulate f32
      : tensor<1x4x3x9xf32>, tensor<8x4x3x3xf32>
  func.return
}

// -----

func.func @conv_filter_size(%x: tensor<1x4x9x9xf32>, %w: tensor<8x4x?x3xf32>) {
  // expected-error @+1 {{expects a filter of static size of at least 1, got ?}}
  %c = nn.conv2d %x, %w nchw accumulate f32 : tensor<1x4x9x9xf32>, tensor<8x4x?x3xf32>
  func.return
}

// -----

func.func @unknown_iterator(%a: tensor<4x4xf32>) {
  // expected-error @+1 {{no iterator is called 'l': expected one of m, n, k}}
  %c = nn.contract [m, n, k] %a (m, l), %a (k, n) -> (m, n) accumulate f32 : tensor<4x4xf32>, tensor<4x4xf32>
  func.return
}

// -----

func.func @summed_once(%a: tensor<4x4xf32>) {
  // expected-error @+1 {{iterator 2 is summed, as the result lacks it, but indexes only one operand: nn.reduce sums along a dimension of one tensor}}
  %c = nn.contract [m, n, k] %a (m, k), %a (m, n) -> (m, n) accumulate f32 : tensor<4x4xf32>, tensor<4x4xf32>
  func.return
}

// -----

func.func @contract_size(%a: tensor<4x4xf32>, %b: tensor<5x4xf32>) {
  // expected-error @+1 {{iterator 'k' has size 4 in one operand and 5 in another}}
  %c = nn.contract [m, n, k] %a (m, k), %b (k, n) -> (m, n) accumulate f32 : tensor<4x4xf32>, tensor<5x4xf32>
  func.return
}

// -----

func.func @diagonal(%a: tensor<4x4xf32>) {
  // expected-error @+1 {{expects distinct iterators of one list as indices of the left operand, got (d0, d1) -> (d0, d0)}}
  %c = nn.contract [m, n] %a (m, m), %a (m, n) -> (m, n) accumulate f32 : tensor<4x4xf32>, tensor<4x4xf32>
  func.return
}

// -----

// Rows

func.func @kind(%x: tensor<4xf32>) {
  // expected-error @+1 {{expects a reduction of kind add or max, got 'mean'}}
  %y = nn.reduce mean %x dims [0] : tensor<4xf32>
  func.return
}

// -----

func.func @dims(%x: tensor<4x4xf32>) {
  // expected-error @+1 {{reduced dimension 2 is not a dimension of the operand: legal are 0 to 1}}
  %y = nn.reduce add %x dims [2] : tensor<4x4xf32>
  func.return
}

// -----

func.func @dims_order(%x: tensor<4x4xf32>) {
  // expected-error @+1 {{expects at least one dimension to reduce, in increasing order, got [1, 0]}}
  %y = nn.reduce add %x dims [1, 0] : tensor<4x4xf32>
  func.return
}

// -----

func.func @softmax(%x: tensor<f32>) {
  // expected-error @+1 {{dim 0 is not a dimension of the operand: legal are none, as the rank is 0}}
  %y = nn.softmax %x dim 0 : tensor<f32>
  func.return
}

// -----

func.func @layer_norm(%x: tensor<?x8xf32>, %g: tensor<9xf32>) {
  // expected-error @+1 {{the last dimension has size 8 in one operand and 9 in another}}
  %y = nn.layer_norm %x, %g, %g epsilon 1.0e-5 : tensor<?x8xf32>, tensor<9xf32>, tensor<9xf32>
  func.return
}

// -----

func.func @rms_norm(%x: tensor<?x8xf32>, %g: tensor<1x8xf32>) {
  // expected-error @+1 {{expects gamma of rank 1, got tensor<1x8xf32>}}
  %y = nn.rms_norm %x, %g epsilon 1.0e-5 : tensor<?x8xf32>, tensor<1x8xf32>
  func.return
}

// -----

func.func @epsilon(%x: tensor<?x8xf32>, %g: tensor<8xf32>) {
  // expected-error @+1 {{expects a finite epsilon of at least 0, got -1.0}}
  %y = nn.layer_norm %x, %g, %g epsilon -1.0 : tensor<?x8xf32>, tensor<8xf32>, tensor<8xf32>
  func.return
}

// -----

// Shapes

func.func @permutation(%x: tensor<2x3xf32>) {
  // expected-error @+1 {{expects a permutation of the dimensions [0, 1], got [1, 1]}}
  %y = nn.transpose %x [1, 1] : tensor<2x3xf32>
  func.return
}

// -----

func.func @reshape_count(%x: tensor<2x3xf32>) {
  // expected-error @+1 {{expects as many elements in tensor<7xf32> as in tensor<2x3xf32>, got 7 and 6}}
  %y = nn.reshape %x : tensor<2x3xf32> -> tensor<7xf32>
  func.return
}

// -----

func.func @reshape_multiple(%x: tensor<2x3xf32>) {
  // expected-error @+1 {{the '?' of tensor<?x4xf32> cannot be inferred: 6 elements are no multiple of 4}}
  %y = nn.reshape %x : tensor<2x3xf32> -> tensor<?x4xf32>
  func.return
}

// -----

func.func @reshape_sizes(%x: tensor<?xf32>, %n: index) {
  // expected-error @+1 {{expects one size operand for each '?' of the result, 2, got 1}}
  %y = nn.reshape %x sizes [%n] : tensor<?xf32> -> tensor<?x?xf32>
  func.return
}

// -----

func.func @broadcast(%x: tensor<3xf32>) {
  // expected-error @+1 {{dimension 0 of the operand has size 3 and cannot become 4: only a static 1 is stretched}}
  %y = nn.broadcast %x dims [0] : tensor<3xf32> -> tensor<4xf32>
  func.return
}

// -----

func.func @broadcast_sizes(%x: tensor<3xf32>) {
  // expected-error @+1 {{expects one size operand for each '?' of the result that the operand does not have, 1, got 0}}
  %y = nn.broadcast %x dims [1] : tensor<3xf32> -> tensor<?x3xf32>
  func.return
}

// -----

func.func @attention_heads(%q: tensor<1x8x4x16xf32>, %k: tensor<1x3x4x16xf32>) {
  // expected-error @+1 {{expects as many key heads as heads or a divisor of that, 8, got 3}}
  %y = nn.attention %q, %k, %k accumulate f32 : tensor<1x8x4x16xf32>, tensor<1x3x4x16xf32>, tensor<1x3x4x16xf32>
  func.return
}

// -----

func.func @attention_keys(%q: tensor<1x8x4x16xf32>, %k: tensor<1x8x4x16xf32>, %v: tensor<1x8x5x16xf32>) {
  // expected-error @+1 {{the number of keys has size 4 in one operand and 5 in another}}
  %y = nn.attention %q, %k, %v accumulate f32 : tensor<1x8x4x16xf32>, tensor<1x8x4x16xf32>, tensor<1x8x5x16xf32>
  func.return
}

// -----

func.func @attention_scale(%q: tensor<1x8x4x?xf32>) {
  // expected-error @+1 {{expects a scale, as one over the root of the dimension of a head is not known: it is '?'}}
  %y = nn.attention %q, %q, %q accumulate f32 : tensor<1x8x4x?xf32>, tensor<1x8x4x?xf32>, tensor<1x8x4x?xf32>
  func.return
}

// -----

func.func @attention_bias(%q: tensor<1x8x4x16xf32>, %b: tensor<2x1x4x4xf32>) {
  // expected-error @+1 {{expects a bias that broadcasts to the scores' tensor<1x8x4x4xf32>, got tensor<2x1x4x4xf32>}}
  %y = nn.attention %q, %q, %q bias %b accumulate f32
      : tensor<1x8x4x16xf32>, tensor<1x8x4x16xf32>, tensor<1x8x4x16xf32>, tensor<2x1x4x4xf32>
  func.return
}

// -----

func.func @causal_rank(%x: tensor<4xf32>) {
  // expected-error @+1 {{expects rows and columns to compare, so a rank of at least 2, got tensor<4xf32>}}
  %y = nn.causal_mask %x : tensor<4xf32>
  func.return
}

// -----

func.func @precision_of_bytes(%x: tensor<4x4xbf16>) {
  // expected-error @+1 {{precision tf32 is for factors of f32 that are summed in f32; these are of bf16, summed in f32}}
  %y = nn.matmul %x, %x accumulate f32 precision tf32 : tensor<4x4xbf16>, tensor<4x4xbf16>
  func.return
}

// -----

func.func @unknown_precision(%x: tensor<4x4xf32>) {
  // expected-error @+1 {{expected precision tf32 or fast_accumulation, found 'bf8'}}
  %y = nn.matmul %x, %x accumulate f32 precision bf8 : tensor<4x4xf32>, tensor<4x4xf32>
  func.return
}
