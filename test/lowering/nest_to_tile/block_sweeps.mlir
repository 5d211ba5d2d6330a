// RUN: crosstile-opt %s --nest-to-tile | filecheck %s

// Rows that a block holds: one load, the exponentials computed once for their sum and for the quotient, one store.

// CHECK-LABEL: tile.kernel @held
// CHECK:         tile.parallel (%i), (%i_extent) = (%c0) to (%{{.*}}) step (8) {
// CHECK:           %[[X:.*]] = tile.load %{{.*}} : !tile.window<8x256xf32>
// CHECK:           %[[E:.*]] = tile.map (%[[X]] : !tile.tile<8x256xf32>)
// CHECK:             math.exp
// CHECK:           %[[VALID:.*]] = tile.mask %[[E]] extent [_, %{{.*}}] else 0.0
// CHECK-NEXT:      %[[SUM:.*]] = tile.reduce add %[[VALID]] dims [1] : !tile.tile<8x256xf32> -> !tile.tile<8x1xf32>
// CHECK-NEXT:      %[[R:.*]] = tile.map (%[[E]], %[[SUM]] :
// CHECK-NOT:       tile.load
// CHECK-NOT:       math.exp
// CHECK:           tile.store %[[R]]
func.func @main(%x : tensor<?x?xf32>) -> tensor<?x?xf32> {
  %y = nest.kernel @held (%a = %x : tensor<?x?xf32>) -> (tensor<?x?xf32>)
      schedules [j <= 256 : #nest.schedule<loops = [i : 8, j : 256], grid = [i], lane = j, hold = 256>,
                 #nest.schedule<loops = [i : 1, j : 4096], grid = [i], lane = j>] {
    %e = nest.generic [i : parallel, j : parallel] ins(%a (i, j) : tensor<?x?xf32>) -> (i, j) : tensor<?x?xf32> {
    ^bb0(%p : f32):
      %t = math.exp %p : f32
      nest.yield %t : f32
    }
    %s = nest.generic [i : parallel, j : reduction] combiner<add> accumulate f32 fastmath<reassoc>
        ins(%e (i, j) : tensor<?x?xf32>) -> (i) : tensor<?xf32> {
    ^bb0(%p : f32):
      nest.yield %p : f32
    }
    %c = nest.generic [i : parallel, j : parallel]
        ins(%e (i, j), %s (i) : tensor<?x?xf32>, tensor<?xf32>) -> (i, j) : tensor<?x?xf32> {
    ^bb0(%p : f32, %q : f32):
      %t = arith.divf %p, %q : f32
      nest.yield %t : f32
    }
    nest.yield %c : tensor<?x?xf32>
  }
  func.return %y : tensor<?x?xf32>
}

// Longer ones are swept, the exponentials waiting in the result.

// CHECK-LABEL: tile.kernel @held_1
// CHECK:         tile.parallel (%i), (%i_extent) = (%c0) to (%{{.*}}) step (1) {
// CHECK:           tile.for %j, %j_extent = {{.*}} step 4096 iter_args
// CHECK:             tile.store
// CHECK:           tile.for %j_2, %j_extent_2 = {{.*}} step 4096
// CHECK-NOT:       math.exp
