// RUN: crosstile-opt %s --convert-to-llvm | filecheck %s

// CHECK-LABEL: llvm.func @load_and_store
// CHECK:         %v = llvm.load %{{.*}} {alignment = 4 : i64} : !llvm.ptr -> vector<16xf32>
// CHECK:         llvm.store %v, %{{.*}} {alignment = 4 : i64} : vector<16xf32>, !llvm.ptr
func.func @load_and_store(%m: memref<?x64xf32>, %i: index, %j: index) {
  %v = vector.load %m[%i, %j] : memref<?x64xf32>, vector<16xf32>
  vector.store %v, %m[%i, %j] : memref<?x64xf32>, vector<16xf32>
  func.return
}

// CHECK-LABEL: llvm.func @past_the_caches
// CHECK:         llvm.store %v, %{{.*}} {alignment = 64 : i64, nontemporal} : vector<16xf32>, !llvm.ptr
func.func @past_the_caches(%m: memref<?xf32>, %i: index, %v: vector<16xf32>) {
  vector.store %v, %m[%i] {alignment = 64 : i64, nontemporal = true} : memref<?xf32>, vector<16xf32>
  func.return
}

// CHECK-LABEL: llvm.func @masked
// CHECK:         %[[LOW:.*]] = llvm.intr.smax(%n, %{{.*}})
// CHECK:         %[[COUNT:.*]] = llvm.intr.smin(%[[LOW]], %{{.*}})
// CHECK-NEXT:    %[[NARROW:.*]] = llvm.trunc %[[COUNT]] : i64 to i32
// CHECK:         dense<[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]>
// CHECK:         llvm.insertelement %[[NARROW]]
// CHECK-NEXT:    %[[SPLAT:.*]] = llvm.shufflevector
// CHECK-NEXT:    %mask = llvm.icmp "sgt" %[[SPLAT]], %{{.*}} : vector<16xi32>
// CHECK:         %v = llvm.intr.masked.load %{{.*}}, %mask, %otherwise {alignment = 4 : i32}
// CHECK:         llvm.intr.masked.store %v, %{{.*}}, %mask {alignment = 4 : i32}
func.func @masked(%m: memref<?xf32>, %i: index, %n: index, %otherwise: vector<16xf32>) {
  %mask = vector.create_mask %n : vector<16xi1>
  %v = vector.maskedload %m[%i], %mask, %otherwise : memref<?xf32>, vector<16xi1>, vector<16xf32> into vector<16xf32>
  vector.maskedstore %m[%i], %mask, %v : memref<?xf32>, vector<16xi1>, vector<16xf32>
  func.return
}

// CHECK-LABEL: llvm.func @multiply
// CHECK:         %[[ONE:.*]] = llvm.insertelement %x
// CHECK-NEXT:    %a = llvm.shufflevector %[[ONE]]
// CHECK-NEXT:    llvm.intr.fma(%a, %b, %c)
func.func @multiply(%x: f32, %b: vector<16xf32>, %c: vector<16xf32>) -> vector<16xf32> {
  %a = vector.broadcast %x : f32 to vector<16xf32>
  %r = vector.fma %a, %b, %c : vector<16xf32>
  func.return %r : vector<16xf32>
}

// CHECK-LABEL: llvm.func @lanes
// CHECK:         %w = llvm.insertelement %x, %v[
// CHECK-NEXT:    %s = llvm.shufflevector %v, %w [0, 7, 2, 5] : vector<4xf32>
// CHECK-NEXT:    llvm.extractelement %s[%i : i64] : vector<4xf32>
func.func @lanes(%v: vector<4xf32>, %x: f32, %i: index) -> f32 {
  %w = vector.insert %x, %v[2] : f32 into vector<4xf32>
  %s = vector.shuffle %v, %w [0, 7, 2, 5] : vector<4xf32>, vector<4xf32>
  %e = vector.extract %s[%i] : f32 from vector<4xf32>
  func.return %e : f32
}

// A reduction that may be reassociated is a tree of halves; one that may not goes lane by lane.

// CHECK-LABEL: llvm.func @tree
// CHECK-NEXT:    %[[LOW:.*]] = llvm.shufflevector %v, %v [0, 1]
// CHECK-NEXT:    %[[HIGH:.*]] = llvm.shufflevector %v, %v [2, 3]
// CHECK-NEXT:    %[[HALF:.*]] = llvm.fadd %[[LOW]], %[[HIGH]] : vector<2xf32>
// CHECK:         %[[TOTAL:.*]] = llvm.fadd %{{.*}}, %{{.*}} : f32
// CHECK-NEXT:    %r = llvm.fadd %[[TOTAL]], %x : f32
func.func @tree(%v: vector<4xf32>, %x: f32) -> f32 {
  %r = vector.reduction <add>, %v, %x fastmath<reassoc> : vector<4xf32> into f32
  func.return %r : f32
}

// CHECK-LABEL: llvm.func @in_order
// CHECK:         %[[FIRST:.*]] = llvm.extractelement %v
// CHECK-NEXT:    %[[SUM:.*]] = llvm.fadd %x, %[[FIRST]] : f32
// CHECK:         %[[SECOND:.*]] = llvm.extractelement %v
// CHECK-NEXT:    llvm.fadd %[[SUM]], %[[SECOND]] : f32
func.func @in_order(%v: vector<2xf32>, %x: f32) -> f32 {
  %r = vector.reduction <add>, %v, %x : vector<2xf32> into f32
  func.return %r : f32
}
