// RUN: crosstile-opt %s --expand-math | filecheck %s
// RUN: crosstile-opt %s --expand-math=target=x86-64-avx512 | filecheck %s --check-prefix AVX512
// RUN: crosstile-opt %s --expand-math=target=nvidia-sm_80 | filecheck %s --check-prefix NVIDIA

// A function of f32 becomes arithmetic; constants stand once at the start of the function, outside of the loop.

// CHECK-LABEL: func.func @exponentials
// CHECK-NOT:     math.exp
// CHECK-DAG:     arith.constant dense<1.44269502> : vector<16xf32>
// CHECK:         scf.for
// CHECK-NOT:     arith.constant
// CHECK:           arith.cmpf olt, %x
// CHECK-COUNT-2:   math.fma
// CHECK:           arith.bitcast %{{.*}} : vector<16xf32> to vector<16xi32>
// CHECK:           arith.shrui
// CHECK:           arith.mulf
// CHECK:           %y = arith.mulf
// CHECK-NEXT:      vector.store %y
func.func @exponentials(%m: memref<?xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  scf.for %i = %c0 to %n step %c16 {
    %x = vector.load %m[%i] : memref<?xf32>, vector<16xf32>
    %y = math.exp %x : vector<16xf32>
    vector.store %y, %m[%i] : memref<?xf32>, vector<16xf32>
  }
  func.return
}

// So does one of f64, in integers of 64 bits.

// CHECK-LABEL: func.func @double
// CHECK-NOT:     math.exp
// CHECK:         arith.cmpf olt, %x
// CHECK:         arith.bitcast %{{.*}} : f64 to i64
func.func @double(%x: f64) -> f64 {
  %y = math.exp %x : f64
  func.return %y : f64
}

// Functions of other types, and functions without a formula, stay.

// CHECK-LABEL: func.func @others
// CHECK-NEXT:    math.sin %x : f64
// CHECK-NEXT:    math.sin %y : f32
// CHECK-NEXT:    math.exp %t : tensor<4xf32>
func.func @others(%x: f64, %y: f32, %t: tensor<4xf32>) {
  %0 = math.sin %x : f64
  %1 = math.sin %y : f32
  %2 = math.exp %t : tensor<4xf32>
  func.return
}

// The first operation of a function may be the one that goes.

// CHECK-LABEL: func.func @first
// CHECK:         arith.divf
// CHECK:         arith.divf
func.func @first(%x: f32) -> f32 {
  %0 = math.rsqrt %x : f32
  %1 = math.rsqrt %0 : f32
  func.return %1 : f32
}

// Functions that stand side by side take turns, operation by operation, so that a core has independent ones to start.

// CHECK-LABEL: func.func @side_by_side
// CHECK:         arith.cmpf olt, %x
// CHECK-NEXT:    arith.cmpf olt, %y
func.func @side_by_side(%x : vector<16xf32>, %y : vector<16xf32>) -> (vector<16xf32>, vector<16xf32>) {
  %a = math.exp %x : vector<16xf32>
  %b = math.exp %y : vector<16xf32>
  func.return %a, %b : vector<16xf32>, vector<16xf32>
}

// CHECK-LABEL: func.func @dependent
// CHECK:         arith.cmpf olt, %x
// CHECK-NEXT:    arith.select
func.func @dependent(%x : vector<16xf32>) -> vector<16xf32> {
  %a = math.exp %x : vector<16xf32>
  %b = math.exp %a : vector<16xf32>
  func.return %b : vector<16xf32>
}

// With instructions for exponents: no bounds, no rounding by a large number, one product by a power of two.

// AVX512-LABEL: func.func @power
// AVX512:         %[[LEFT:.*]] = llvm.call_intrinsic "llvm.x86.avx512.mask.reduce.ps.512"(%x,
// AVX512-NEXT:    %[[NEAREST:.*]] = arith.subf %x, %[[LEFT]]
// AVX512-COUNT-6: math.fma
// AVX512-NEXT:    %y = llvm.call_intrinsic "llvm.x86.avx512.mask.scalef.ps.512"(%{{.*}}, %[[NEAREST]],
func.func @power(%x : vector<16xf32>) -> vector<16xf32> {
  %y = math.exp2 %x : vector<16xf32>
  func.return %y : vector<16xf32>
}

// AVX512-LABEL: func.func @power_of_doubles
// AVX512:         %[[LEFT:.*]] = llvm.call_intrinsic "llvm.x86.avx512.mask.reduce.pd.512"(%x,
// AVX512-NEXT:    %[[NEAREST:.*]] = arith.subf %x, %[[LEFT]]
// AVX512-COUNT-11: math.fma
// AVX512-NEXT:    %y = llvm.call_intrinsic "llvm.x86.avx512.mask.scalef.pd.512"(%{{.*}}, %[[NEAREST]],
func.func @power_of_doubles(%x : vector<8xf64>) -> vector<8xf64> {
  %y = math.exp2 %x : vector<8xf64>
  func.return %y : vector<8xf64>
}

// What the machine has an instruction for stays where an approximation will do, and on no other machine.

// NVIDIA-LABEL: func.func @approximate
// NVIDIA:         math.exp2 %x fastmath<afn> : f32
// NVIDIA-NOT:     math.exp2
// CHECK-LABEL:  func.func @approximate
// CHECK-NOT:      math.exp2
func.func @approximate(%x: f32) -> (f32, f32) {
  %0 = math.exp2 %x fastmath<afn> : f32
  %1 = math.exp2 %x : f32
  func.return %0, %1 : f32, f32
}

// So is one of a function that another one's instruction makes.

// NVIDIA-LABEL: func.func @approximate_by_another
// NVIDIA-NEXT:    %[[LOG2_E:.*]] = arith.constant 1.442695{{.*}} : f32
// NVIDIA-NEXT:    %[[T:.*]] = arith.mulf %x, %[[LOG2_E]] : f32
// NVIDIA-NEXT:    %[[Y:.*]] = math.exp2 %[[T]] fastmath<afn> : f32
// NVIDIA-NEXT:    func.return %[[Y]] : f32
// CHECK-LABEL:  func.func @approximate_by_another
// CHECK-NOT:      math.exp
func.func @approximate_by_another(%x: f32) -> f32 {
  %0 = math.exp %x fastmath<afn> : f32
  func.return %0 : f32
}
