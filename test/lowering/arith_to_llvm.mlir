// RUN: crosstile-opt %s --convert-to-llvm | filecheck %s

// Flags are kept as they are, and none is added.

// CHECK-LABEL: llvm.func @flags
// CHECK-NEXT:    %[[P:.*]] = llvm.fmul %x, %x {fastmathFlags = #llvm.fastmath<nnan,contract>}
// CHECK-NEXT:    llvm.fadd %x, %[[P]] : vector<8xf32>
// CHECK-NEXT:    llvm.add %i, %i overflow<nsw> : i32
// CHECK-NEXT:    llvm.add %i, %i : i32
func.func @flags(%x: vector<8xf32>, %i: i32) {
  %0 = arith.mulf %x, %x fastmath<nnan,contract> : vector<8xf32>
  %1 = arith.addf %x, %0 : vector<8xf32>
  %2 = arith.addi %i, %i overflow<nsw> : i32
  %3 = arith.addi %i, %i : i32
  func.return
}

// CHECK-LABEL: llvm.func @index(%n: i64, %i: i32)
// CHECK-NEXT:    llvm.mlir.constant(dense<[0, 1]> : vector<2xi64>) : vector<2xi64>
// CHECK-NEXT:    llvm.sext %i : i32 to i64
// CHECK-NEXT:    llvm.zext %i : i32 to i64
func.func @index(%n: index, %i: i32) {
  %0 = arith.constant dense<[0, 1]> : vector<2xindex>
  %1 = arith.index_cast %i : i32 to index
  %2 = arith.index_cast %n : index to i64
  %3 = arith.index_castui %i : i32 to index
  func.return
}

// CHECK-LABEL: llvm.func @extremes
// CHECK-NEXT:    llvm.intr.maximum(%x, %y)
// CHECK-NEXT:    llvm.intr.maxnum(%x, %y)
// CHECK-NEXT:    llvm.intr.umin(%i, %j)
func.func @extremes(%x: f32, %y: f32, %i: i32, %j: i32) {
  %0 = arith.maximumf %x, %y : f32
  %1 = arith.maxnumf %x, %y : f32
  %2 = arith.minui %i, %j : i32
  func.return
}

// CHECK-LABEL: llvm.func @round_down
// CHECK-NEXT:    %[[Q:.*]] = llvm.sdiv %a, %b
// CHECK:         %[[LESS:.*]] = llvm.add %[[Q]]
// CHECK-NEXT:    llvm.select %{{.*}}, %[[LESS]], %[[Q]] : i1, i32
func.func @round_down(%a: i32, %b: i32) -> i32 {
  %0 = arith.floordivsi %a, %b : i32
  func.return %0 : i32
}

// CHECK-LABEL: llvm.func @select
// CHECK-NEXT:    llvm.select %c, %x, %y : vector<4xi1>, vector<4xf32>
func.func @select(%c: vector<4xi1>, %x: vector<4xf32>, %y: vector<4xf32>) -> vector<4xf32> {
  %0 = arith.select %c, %x, %y : vector<4xi1>, vector<4xf32>
  func.return %0 : vector<4xf32>
}
