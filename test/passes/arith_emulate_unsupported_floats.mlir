// RUN: crosstile-opt %s --arith-emulate-unsupported-floats | filecheck %s

// Operands are extended, the result is rounded; flags stay, and what is f32 already.

// CHECK-LABEL: func.func @arithmetic
// CHECK-NEXT:    %[[X:.*]] = arith.extf %x : vector<8xbf16> to vector<8xf32>
// CHECK-NEXT:    %[[Y:.*]] = arith.extf %y : vector<8xbf16> to vector<8xf32>
// CHECK-NEXT:    %[[S:.*]] = arith.addf %[[X]], %[[Y]] fastmath<nnan> : vector<8xf32>
// CHECK-NEXT:    %sum = arith.truncf %[[S]] : vector<8xf32> to vector<8xbf16>
// CHECK-NEXT:    %[[E:.*]] = arith.extf %h : f16 to f32
// CHECK-NEXT:    %[[F:.*]] = math.exp %[[E]] : f32
// CHECK-NEXT:    arith.truncf %[[F]] : f32 to f16
// CHECK-NEXT:    arith.addf %f, %f : f32
func.func @arithmetic(%x: vector<8xbf16>, %y: vector<8xbf16>, %h: f16, %f: f32) -> (vector<8xbf16>, f16, f32) {
  %sum = arith.addf %x, %y fastmath<nnan> : vector<8xbf16>
  %power = math.exp %h : f16
  %twice = arith.addf %f, %f : f32
  func.return %sum, %power, %twice : vector<8xbf16>, f16, f32
}

// A comparison has no float to round; what only moves numbers stays.

// CHECK-LABEL: func.func @moved
// CHECK-NEXT:    %[[X:.*]] = arith.extf %x : bf16 to f32
// CHECK-NEXT:    %[[Y:.*]] = arith.extf %y : bf16 to f32
// CHECK-NEXT:    %less = arith.cmpf olt, %[[X]], %[[Y]] : f32
// CHECK-NEXT:    arith.select %less, %x, %y : bf16
func.func @moved(%x: bf16, %y: bf16) -> bf16 {
  %less = arith.cmpf olt, %x, %y : bf16
  %r = arith.select %less, %x, %y : bf16
  func.return %r : bf16
}
