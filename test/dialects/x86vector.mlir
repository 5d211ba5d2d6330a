// RUN: crosstile-opt %s | filecheck %s
// RUN: crosstile-opt %s --convert-to-llvm | filecheck %s --check-prefix LLVM

// CHECK-LABEL: @dot
// CHECK: x86vector.avx512.dot %c, %a, %b : vector<32xbf16> -> vector<16xf32>
// LLVM: llvm.call_intrinsic "llvm.x86.avx512bf16.dpbf16ps.512"(%c, %0, %1)
func.func @dot(%c : vector<16xf32>, %a : vector<32xbf16>, %b : vector<32xbf16>) -> vector<16xf32> {
  %d = x86vector.avx512.dot %c, %a, %b : vector<32xbf16> -> vector<16xf32>
  func.return %d : vector<16xf32>
}

// CHECK-LABEL: @narrow_dot
// LLVM: llvm.call_intrinsic "llvm.x86.avx512bf16.dpbf16ps.256"(%c, %0, %1)
func.func @narrow_dot(%c : vector<8xf32>, %a : vector<16xbf16>, %b : vector<16xbf16>) -> vector<8xf32> {
  %d = x86vector.avx512.dot %c, %a, %b : vector<16xbf16> -> vector<8xf32>
  func.return %d : vector<8xf32>
}

// A bf16 that LLVM's intrinsic returns is the i16 of its bits, as all are on that level.

// LLVM-LABEL: @round
// LLVM:         %0 = llvm.call_intrinsic "llvm.x86.avx512bf16.cvtneps2bf16.512"(%a) : (vector<16xf32>) -> vector<16xbf16>
// LLVM-NEXT:    llvm.bitcast %0 : vector<16xbf16> to vector<16xi16>
func.func @round(%a : vector<16xf32>) -> vector<16xbf16> {
  %b = llvm.call_intrinsic "llvm.x86.avx512bf16.cvtneps2bf16.512"(%a) : (vector<16xf32>) -> vector<16xbf16>
  func.return %b : vector<16xbf16>
}
