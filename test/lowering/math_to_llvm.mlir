// RUN: crosstile-opt %s --convert-to-llvm | filecheck %s

// CHECK-LABEL: llvm.func @instructions
// CHECK-NEXT:    %[[ROOT:.*]] = llvm.intr.sqrt(%x) {fastmathFlags = #llvm.fastmath<nnan>}
// CHECK-NEXT:    llvm.intr.fma(%x, %x, %[[ROOT]])
// CHECK-NEXT:    llvm.intr.roundeven(%x)
// CHECK:         llvm.call_intrinsic "llvm.ctlz.i32"(%i, %{{.*}})
// CHECK:         %[[SECOND:.*]] = llvm.intr.sqrt(%x)
// CHECK:         llvm.fdiv %{{.*}}, %[[SECOND]]
func.func @instructions(%x: vector<4xf32>, %i: i32) {
  %0 = math.sqrt %x fastmath<nnan> : vector<4xf32>
  %1 = math.fma %x, %x, %0 : vector<4xf32>
  %2 = math.roundeven %x : vector<4xf32>
  %3 = math.ctlz %i : i32
  %4 = math.rsqrt %x : vector<4xf32>
  func.return
}

// Functions of the C library are declared once and called lane by lane.

// CHECK-LABEL: llvm.func @library
// CHECK-NEXT:    %[[FIRST:.*]] = llvm.call @tanh(%x) : (f64) -> f64
// CHECK-NEXT:    llvm.call @tanh(%[[FIRST]])
// CHECK-COUNT-2: llvm.call @powf
// CHECK:       llvm.func @tanh(f64) -> f64
// CHECK-NEXT:  llvm.func @powf(f32, f32) -> f32
func.func @library(%x: f64, %v: vector<2xf32>) {
  %0 = math.tanh %x : f64
  %1 = math.tanh %0 : f64
  %2 = math.powf %v, %v : vector<2xf32>
  func.return
}
