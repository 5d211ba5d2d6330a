// RUN: crosstile-opt %s --split-input-file --verify-diagnostics

func.func @wide(%c : vector<32xf32>, %a : vector<64xbf16>) {
  // expected-error @+1 {{adds to vector<32xf32>; expects vectors of 4, 8 or 16 f32}}
  %d = x86vector.avx512.dot %c, %a, %a : vector<64xbf16> -> vector<32xf32>
  func.return
}

// -----

func.func @pairs(%c : vector<16xf32>, %a : vector<16xbf16>) {
  // expected-error @+1 {{multiplies pairs of vector<16xbf16>; expects vector<32xbf16>, two for each of its sums}}
  %d = x86vector.avx512.dot %c, %a, %a : vector<16xbf16> -> vector<16xf32>
  func.return
}
