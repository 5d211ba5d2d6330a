// RUN: crosstile-opt %s --round-to-bf16=target=x86-64-avx512-bf16 | filecheck %s
// RUN: crosstile-opt %s --round-to-bf16=target=x86-64-avx512 | filecheck %s --check-prefix=WITHOUT

// WITHOUT-NOT: llvm.call_intrinsic

// Registers of which a shuffle makes one are rounded together, others one by one.

// CHECK-LABEL: @weights
// CHECK:         %[[A:.*]] = math.exp2 %x
// CHECK-NEXT:    %[[B:.*]] = math.exp2 %y
// CHECK-NEXT:    %[[P:.*]] = llvm.call_intrinsic "llvm.x86.avx512bf16.cvtne2ps2bf16.512"(%[[B]], %[[A]])
// CHECK-NEXT:    %{{.*}} = vector.shuffle %[[P]], %[[P]] [0, 16, 1, 17, {{.*}} 31] : vector<32xbf16>, vector<32xbf16>
// CHECK-NEXT:    %[[C:.*]] = llvm.call_intrinsic "llvm.x86.avx512bf16.cvtneps2bf16.512"(%[[B]])
// CHECK-NEXT:    func.return %{{.*}}, %[[C]]
func.func @weights(%x : vector<16xf32>, %y : vector<16xf32>) -> (vector<32xbf16>, vector<16xbf16>) {
  %a = math.exp2 %x fastmath<afn> : vector<16xf32>
  %b = math.exp2 %y fastmath<afn> : vector<16xf32>
  %c = arith.truncf %a : vector<16xf32> to vector<16xbf16>
  %d = arith.truncf %b : vector<16xf32> to vector<16xbf16>
  %e = vector.shuffle %c, %d [0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31] : vector<16xbf16>, vector<16xbf16>
  %f = arith.truncf %b : vector<16xf32> to vector<16xbf16>
  func.return %e, %f : vector<32xbf16>, vector<16xbf16>
}

// What something else reads as well is rounded by itself.

// CHECK-LABEL: @shared
// CHECK-COUNT-2: llvm.x86.avx512bf16.cvtneps2bf16.512
// CHECK:         vector.shuffle %{{.*}}, %{{.*}} [0, 16] : vector<16xbf16>, vector<16xbf16>
func.func @shared(%x : vector<16xf32>, %y : vector<16xf32>) -> (vector<2xbf16>, vector<16xbf16>) {
  %a = math.exp2 %x fastmath<afn> : vector<16xf32>
  %b = math.exp2 %y fastmath<afn> : vector<16xf32>
  %c = arith.truncf %a : vector<16xf32> to vector<16xbf16>
  %d = arith.truncf %b : vector<16xf32> to vector<16xbf16>
  %e = vector.shuffle %c, %d [0, 16] : vector<16xbf16>, vector<16xbf16>
  func.return %e, %d : vector<2xbf16>, vector<16xbf16>
}

// Numbers that are to be exact keep the rounding that keeps subnormal ones, and so does what is no whole register.

// CHECK-LABEL: @exact
// CHECK-NOT:     llvm.call_intrinsic
func.func @exact(%x : vector<16xf32>, %y : f32) -> (vector<16xbf16>, vector<16xbf16>, bf16) {
  %a = math.exp2 %x : vector<16xf32>
  %b = arith.truncf %a : vector<16xf32> to vector<16xbf16>
  %c = arith.truncf %x : vector<16xf32> to vector<16xbf16>
  %d = math.exp2 %y fastmath<afn> : f32
  %e = arith.truncf %d : f32 to bf16
  func.return %b, %c, %e : vector<16xbf16>, vector<16xbf16>, bf16
}
