// RUN: crosstile-opt %s --plan-buffers | filecheck %s

// Three temporaries, the first and the third never live at once: they share a slot.

// CHECK-LABEL: func.func @chain(%x: memref<?x8xf32>, %y: memref<?x8xf32>, %arena: memref<?xi8>)
// CHECK:         %a = memref.view %arena[%[[FIRST:[0-9]+]]][%n] : memref<?xi8> to memref<?x8xf32>
// CHECK:         %b = memref.view %arena[%[[SECOND:[0-9]+]]][%n] : memref<?xi8> to memref<?x8xf32>
// CHECK:         %c = memref.view %arena[%[[FIRST]]][%n] : memref<?xi8> to memref<?x8xf32>
// CHECK-NOT:     memref.alloc
func.func @chain(%x : memref<?x8xf32>, %y : memref<?x8xf32>) attributes {
    crosstile.inputs = 1 : index, crosstile.result_shapes = [affine_map<()[s0] -> (s0, 8)>]} {
  %c0 = arith.constant 0 : index
  %n = memref.dim %x, %c0 : memref<?x8xf32>
  %a = memref.alloc(%n) : memref<?x8xf32>
  "test.op"(%x, %a) : (memref<?x8xf32>, memref<?x8xf32>) -> ()
  %b = memref.alloc(%n) : memref<?x8xf32>
  "test.op"(%a, %b) : (memref<?x8xf32>, memref<?x8xf32>) -> ()
  %c = memref.alloc(%n) : memref<?x8xf32>
  "test.op"(%b, %c) : (memref<?x8xf32>, memref<?x8xf32>) -> ()
  "test.op"(%c, %y) : (memref<?x8xf32>, memref<?x8xf32>) -> ()
  func.return
}
// CHECK:       func.func @chain.arena(%{{.*}}: memref<?x8xf32>, %{{.*}}: memref<?x8xf32>) -> index

// The host function runs for every stage, so what it stores itself shares memory with no other buffer.

// CHECK-LABEL: func.func @stored_by_host
// CHECK:         memref.view %arena[%{{.*}}][] : memref<?xi8> to memref<index>
// CHECK:         %[[A:.*]] = memref.view %arena[%[[FIRST:.*]]][] : memref<?xi8> to memref<16xf32>
// CHECK:         memref.view %arena[%[[SECOND:.*]]][] : memref<?xi8> to memref<16xf32>
func.func @stored_by_host(%y : memref<16xf32>, %n : index) attributes {
    crosstile.inputs = 0 : index, crosstile.result_shapes = [affine_map<() -> (16)>]} {
  %s = memref.alloc() : memref<index>
  memref.store %n, %s[] : memref<index>
  %a = memref.alloc() : memref<16xf32>
  "test.op"(%s, %a) : (memref<index>, memref<16xf32>) -> ()
  %b = memref.alloc() : memref<16xf32>
  "test.op"(%a, %b, %y) : (memref<16xf32>, memref<16xf32>, memref<16xf32>) -> ()
  func.return
}
// CHECK:       func.func @stored_by_host.arena
// CHECK:         arith.constant 192 : index

// A view keeps its buffer alive; static sizes are known when planning.

// CHECK-LABEL: func.func @view
// CHECK:         %[[FIRST:.*]] = arith.constant 0 : index
// CHECK:         %[[SECOND:.*]] = arith.constant 64 : index
// CHECK:         memref.view %arena[%[[FIRST]]]
// CHECK:         memref.view %arena[%[[SECOND]]]
func.func @view(%y : memref<16xf32>) attributes {
    crosstile.inputs = 0 : index, crosstile.result_shapes = [affine_map<() -> (16)>]} {
  %a = memref.alloc() : memref<16xf32>
  %v = "memref.cast"(%a) : (memref<16xf32>) -> memref<?xf32>
  "test.op"(%a) : (memref<16xf32>) -> ()
  %b = memref.alloc() : memref<16xf32>
  "test.op"(%v, %b, %y) : (memref<?xf32>, memref<16xf32>, memref<16xf32>) -> ()
  func.return
}
// CHECK:       func.func @view.arena
// CHECK:         arith.constant 128 : index
