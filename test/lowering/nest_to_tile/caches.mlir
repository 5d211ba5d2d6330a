// RUN: crosstile-opt %s --nest-to-tile | filecheck %s

// What the last sweep over the rows reads is fetched a row ahead, at least 1024 elements and at most 4096; the scale,
// of which every row reads the same, is not. Of a result of at least 1 MB full blocks are written past the caches.

// CHECK-LABEL: tile.kernel @scaled
// CHECK-DAG:     %[[N:.*]] = tile.dim %a, 1
// CHECK-DAG:     %[[LEAST:.*]] = arith.maxsi %[[N]], %c1024 : index
// CHECK-DAG:     %[[AHEAD:.*]] = arith.minsi %[[LEAST]], %c4096 : index
// CHECK-DAG:     %[[LARGE:.*]] = arith.cmpi sge, %{{.*}}, %c262144 : index
// CHECK:         tile.for %m
// CHECK:           tile.for %n, %n_extent = {{.*}} iter_args
// CHECK-NOT:         memref.prefetch
// CHECK:           tile.reduce add
// CHECK:           tile.for %n_2
// CHECK:             %[[NEXT:.*]] = arith.addi %n_2, %[[AHEAD]] : index
// CHECK-NEXT:        memref.prefetch %a[%{{.*}}, %[[NEXT]]], read, locality<2>, data : memref<?x?xf32>
// CHECK-NEXT:        %[[LINE:.*]] = arith.addi %[[NEXT]], %c16 : index
// CHECK-NEXT:        memref.prefetch %a[%{{.*}}, %[[LINE]]], read, locality<2>, data : memref<?x?xf32>
// CHECK-NOT:         memref.prefetch
// CHECK:             tile.store {{.*}} nontemporal if %[[LARGE]] :
// CHECK:           tile.for %n_3
// CHECK-NOT:         memref.prefetch
// CHECK-NOT:         nontemporal
func.func @main(%x : tensor<?x?xf32>, %w : tensor<?xf32>) -> tensor<?x?xf32> {
  %y = nest.kernel @scaled (%a = %x : tensor<?x?xf32>, %g = %w : tensor<?xf32>) -> (tensor<?x?xf32>)
      schedules [#nest.schedule<loops = [m : 1, n : 32], parallel = m, lane = n, prefetch = 16384, stream = 1048576>] {
    %s = nest.generic [m : parallel, n : reduction] combiner<add> accumulate f32 fastmath<reassoc>
        ins(%a (m, n) : tensor<?x?xf32>) -> (m) : tensor<?xf32> {
    ^bb0(%p : f32):
      nest.yield %p : f32
    }
    %c = nest.generic [m : parallel, n : parallel]
        ins(%a (m, n), %s (m), %g (n) : tensor<?x?xf32>, tensor<?xf32>, tensor<?xf32>) -> (m, n) : tensor<?x?xf32> {
    ^bb0(%p : f32, %q : f32, %r : f32):
      %t = arith.subf %p, %q : f32
      %u = arith.mulf %t, %r : f32
      nest.yield %u : f32
    }
    nest.yield %c : tensor<?x?xf32>
  }
  func.return %y : tensor<?x?xf32>
}
