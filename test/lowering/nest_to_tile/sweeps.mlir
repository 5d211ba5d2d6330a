// RUN: crosstile-opt %s --nest-to-tile | filecheck %s

// The centred row: a sweep that sums 64 chains and folds them, then a sweep that subtracts the mean. Both are in the
// loop over rows, which is parallel in both nests. Each has a loop over full blocks, without masks, and one over the rest.

// CHECK-LABEL: tile.kernel @centre
// CHECK:     %[[BLOCKS:.*]] = arith.divui %[[SIZE:.*]], %c64
// CHECK:     %[[FULL:.*]] = arith.muli %[[BLOCKS]], %c64
// CHECK:         tile.parallel %begin to %end
// CHECK:           tile.for %m, %m_extent = {{.*}} step 1 {
// CHECK:             %[[ZERO:.*]] = tile.splat %{{.*}} : f32 -> !tile.tile<1x64xf32>
// CHECK:             %[[PARTIAL:.*]] = tile.for %n, %n_extent = %c0 to %[[FULL]] step 64 iter_args(%[[ACC:.*]] = %[[ZERO]])
// CHECK:               %[[X:.*]] = tile.load
// CHECK-NEXT:          tile.map (%[[ACC]], %[[X]]
// CHECK:             %[[ALL:.*]] = tile.for %n_1, %n_extent_1 = %[[FULL]] to %[[SIZE]] step 64 iter_args(%{{.*}} = %[[PARTIAL]])
// CHECK:               %[[REST:.*]] = tile.load
// CHECK:               tile.mask %[[REST]] extent [_, %n_extent_1] else 0.0
// CHECK:             %[[SUM:.*]] = tile.reduce add %[[ALL]] dims [1] : !tile.tile<1x64xf32> -> !tile.tile<1x1xf32>
// CHECK:             tile.for %n_2, %n_extent_2 = %c0 to %[[FULL]] step 64 {
// CHECK:               tile.map (%{{.*}}, %[[SUM]] : !tile.tile<1x64xf32>, !tile.tile<1x1xf32>) -> !tile.tile<1x64xf32>
// CHECK:               tile.store
func.func @main(%x : tensor<?x?xf32>) -> tensor<?x?xf32> {
  %y = nest.kernel @centre (%a = %x : tensor<?x?xf32>) -> (tensor<?x?xf32>)
      schedules [#nest.schedule<loops = [m : 1, n : 64], parallel = m, lane = n>] {
    %s = nest.generic [m : parallel, n : reduction] combiner<add> accumulate f32 fastmath<reassoc>
        ins(%a (m, n) : tensor<?x?xf32>) -> (m) : tensor<?xf32> {
    ^bb0(%p : f32):
      nest.yield %p : f32
    }
    %c = nest.generic [m : parallel, n : parallel]
        ins(%a (m, n), %s (m) : tensor<?x?xf32>, tensor<?xf32>) -> (m, n) : tensor<?x?xf32> {
    ^bb0(%p : f32, %q : f32):
      %t = arith.subf %p, %q : f32
      nest.yield %t : f32
    }
    nest.yield %c : tensor<?x?xf32>
  }
  func.return %y : tensor<?x?xf32>
}

// A column sum keeps its order: lanes are the columns, each one chain over the rows, and nothing is folded at the end.

// CHECK-LABEL: tile.kernel @column_sum
// CHECK:         tile.for %n, %n_extent = {{.*}} step 64 {
// CHECK:           tile.for %m, %m_extent = {{.*}} step 1 iter_args
// CHECK-NOT:       tile.reduce
// CHECK:         tile.store
func.func @columns(%x : tensor<?x?xf32>) -> tensor<?xf32> {
  %y = nest.kernel @column_sum (%a = %x : tensor<?x?xf32>) -> (tensor<?xf32>)
      schedules [#nest.schedule<loops = [m : 1, n : 64], parallel = n grain 64, lane = n>] {
    %s = nest.generic [m : reduction, n : parallel] combiner<add> accumulate f32
        ins(%a (m, n) : tensor<?x?xf32>) -> (n) : tensor<?xf32> {
    ^bb0(%p : f32):
      nest.yield %p : f32
    }
    nest.yield %s : tensor<?xf32>
  }
  func.return %y : tensor<?xf32>
}

// An exponential that the sum and the quotient use waits in the memory of the result between their sweeps.

// CHECK-LABEL: tile.kernel @normalise
// CHECK:         tile.for %n, %n_extent = {{.*}} step 64 iter_args
// CHECK:           math.exp
// CHECK:           %[[HOME:.*]] = tile.window %r[%begin + %m, %n]
// CHECK:           tile.store %{{.*}}, %[[HOME]]
// CHECK:         tile.reduce add
// CHECK:         tile.for %n_2
// CHECK-NEXT:      %[[SAME:.*]] = tile.window %r[%begin + %m, %n_2]
// CHECK-NEXT:      tile.load %[[SAME]]
// CHECK-NOT:       math.exp
// CHECK:           tile.store %{{.*}}, %[[SAME]]
func.func @exponentials(%x : tensor<?x?xf32>) -> tensor<?x?xf32> {
  %y = nest.kernel @normalise (%a = %x : tensor<?x?xf32>) -> (tensor<?x?xf32>)
      schedules [#nest.schedule<loops = [m : 1, n : 64], parallel = m, lane = n>] {
    %e = nest.generic [m : parallel, n : parallel] ins(%a (m, n) : tensor<?x?xf32>) -> (m, n) : tensor<?x?xf32> {
    ^bb0(%p : f32):
      %t = math.exp %p : f32
      nest.yield %t : f32
    }
    %s = nest.generic [m : parallel, n : reduction] combiner<add> accumulate f32 fastmath<reassoc>
        ins(%e (m, n) : tensor<?x?xf32>) -> (m) : tensor<?xf32> {
    ^bb0(%p : f32):
      nest.yield %p : f32
    }
    %r = nest.generic [m : parallel, n : parallel]
        ins(%e (m, n), %s (m) : tensor<?x?xf32>, tensor<?xf32>) -> (m, n) : tensor<?x?xf32> {
    ^bb0(%p : f32, %q : f32):
      %t = arith.divf %p, %q : f32
      nest.yield %t : f32
    }
    nest.yield %r : tensor<?x?xf32>
  }
  func.return %y : tensor<?x?xf32>
}

// Where a row fits, it waits in scratch instead, and the result is written once.

// CHECK-LABEL: tile.kernel @normalise_in_scratch
// CHECK:         %[[ROW:.*]] = tile.alloc : !tile.buffer<1x4096xf32>
// CHECK:         tile.for %n, %n_extent = {{.*}} step 64 iter_args
// CHECK:           math.exp
// CHECK:           %[[HOME:.*]] = tile.window %[[ROW]] by {{.*}} [%n] : !tile.buffer<1x4096xf32> -> !tile.window<1x64xf32>
// CHECK:           tile.store %{{.*}}, %[[HOME]]
// CHECK:         tile.for %n_2
// CHECK-NEXT:      %[[SAME:.*]] = tile.window %[[ROW]] by {{.*}} [%n_2]
// CHECK-NEXT:      tile.load %[[SAME]]
// CHECK:           %[[RESULT:.*]] = tile.window %r[%begin + %m, %n_2]
// CHECK:           tile.store %{{.*}}, %[[RESULT]]
func.func @in_scratch(%x : tensor<?x?xf32>) -> tensor<?x?xf32> {
  %y = nest.kernel @normalise_in_scratch (%a = %x : tensor<?x?xf32>) -> (tensor<?x?xf32>)
      schedules [N <= 4096 : #nest.schedule<loops = [m : 1, n : 64], parallel = m, lane = n, keep = 4096>,
                 #nest.schedule<loops = [m : 1, n : 64], parallel = m, lane = n>] {
    %e = nest.generic [m : parallel, n : parallel] ins(%a (m, n) : tensor<?x?xf32>) -> (m, n) : tensor<?x?xf32> {
    ^bb0(%p : f32):
      %t = math.exp %p : f32
      nest.yield %t : f32
    }
    %s = nest.generic [m : parallel, n : reduction] combiner<add> accumulate f32 fastmath<reassoc>
        ins(%e (m, n) : tensor<?x?xf32>) -> (m) : tensor<?xf32> {
    ^bb0(%p : f32):
      nest.yield %p : f32
    }
    %r = nest.generic [m : parallel, n : parallel]
        ins(%e (m, n), %s (m) : tensor<?x?xf32>, tensor<?xf32>) -> (m, n) : tensor<?x?xf32> {
    ^bb0(%p : f32, %q : f32):
      %t = arith.divf %p, %q : f32
      nest.yield %t : f32
    }
    nest.yield %r : tensor<?x?xf32>
  }
  func.return %y : tensor<?x?xf32>
}
