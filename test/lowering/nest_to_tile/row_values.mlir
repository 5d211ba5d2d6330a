// RUN: crosstile-opt %s --nest-to-tile | filecheck %s

// The mean of a row is divided once, before the sweep that uses it.

// CHECK-LABEL: tile.kernel @centre
// CHECK:         tile.reduce add
// CHECK:         tile.map
// CHECK:           arith.divf
// CHECK:         tile.for %n_1
// CHECK-NOT:       arith.divf
// CHECK:           arith.subf
func.func @mean(%x : tensor<?x64xf32>) -> tensor<?x64xf32> {
  %y = nest.kernel @centre (%a = %x : tensor<?x64xf32>) -> (tensor<?x64xf32>)
      schedules [#nest.schedule<loops = [m : 1, n : 32], parallel = m, lane = n>] {
    %s = nest.generic [m : parallel, n : reduction] combiner<add> accumulate f32 fastmath<reassoc>
        ins(%a (m, n) : tensor<?x64xf32>) -> (m) : tensor<?xf32> {
    ^bb0(%p : f32):
      nest.yield %p : f32
    }
    %mean = nest.generic [m : parallel] ins(%s (m) : tensor<?xf32>) -> (m) : tensor<?xf32> {
    ^bb0(%p : f32):
      %count = arith.constant 64.0 : f32
      %t = arith.divf %p, %count : f32
      nest.yield %t : f32
    }
    %c = nest.generic [m : parallel, n : parallel]
        ins(%a (m, n), %mean (m) : tensor<?x64xf32>, tensor<?xf32>) -> (m, n) : tensor<?x64xf32> {
    ^bb0(%p : f32, %q : f32):
      %t = arith.subf %p, %q : f32
      nest.yield %t : f32
    }
    nest.yield %c : tensor<?x64xf32>
  }
  func.return %y : tensor<?x64xf32>
}

// A division that may use the reciprocal becomes a product with one, computed before the sweep; without leave it stays.

// CHECK-LABEL: tile.kernel @share
// CHECK:         %[[SUM:.*]] = tile.reduce add
// CHECK-NEXT:    %[[RECIPROCAL:.*]] = tile.map (%[[SUM]]
// CHECK:           arith.divf %{{.*}}, %{{.*}} : f32
// CHECK:         tile.for %n_1
// CHECK:           tile.map (%{{.*}}, %[[RECIPROCAL]], %[[SUM]] :
// CHECK:             %[[SCALED:.*]] = arith.mulf
// CHECK-NEXT:        arith.divf %[[SCALED]]
func.func @quotient(%x : tensor<?x64xf32>) -> tensor<?x64xf32> {
  %y = nest.kernel @share (%a = %x : tensor<?x64xf32>) -> (tensor<?x64xf32>)
      schedules [#nest.schedule<loops = [m : 1, n : 32], parallel = m, lane = n>] {
    %s = nest.generic [m : parallel, n : reduction] combiner<add> accumulate f32 fastmath<reassoc>
        ins(%a (m, n) : tensor<?x64xf32>) -> (m) : tensor<?xf32> {
    ^bb0(%p : f32):
      nest.yield %p : f32
    }
    %c = nest.generic [m : parallel, n : parallel]
        ins(%a (m, n), %s (m), %s (m) : tensor<?x64xf32>, tensor<?xf32>, tensor<?xf32>) -> (m, n) : tensor<?x64xf32> {
    ^bb0(%p : f32, %q : f32, %r : f32):
      %t = arith.divf %p, %q fastmath<arcp> : f32
      %u = arith.divf %t, %r : f32
      nest.yield %u : f32
    }
    nest.yield %c : tensor<?x64xf32>
  }
  func.return %y : tensor<?x64xf32>
}
